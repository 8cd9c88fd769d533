/* What the programs have to know of their architecture: the registers of a signal's context, a few instructions. */
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#ifdef __riscv

enum { LINK = 1, T0 = 5, T1, T2, A0 = 10, A1, A2, A3, A4, T3 = 28, T4, T5, T6 };
#define X(uc) ((unsigned long *)(uc)->uc_mcontext.__gregs)
#define PC(uc) (uc)->uc_mcontext.__gregs[0]
enum { FT0 = 0, FA0 = 10 };
static inline unsigned long double_register(ucontext_t *uc, int n) { return uc->uc_mcontext.__fpregs.__d.__f[n]; }

#define ASM(text) __asm__(".text\n.option push\n.option norvc\n" text "\n.option pop\n")
#define CODE_CHANGED __asm__ volatile("fence.i" ::: "memory")
static inline uint32_t add_number(int rd, int rs, int value) { return 0x13 | rd << 7 | rs << 15 | (uint32_t)value << 20; }
static inline uint32_t back_unless_zero(int rs, int distance)
{
    uint32_t to = -distance;
    return 0x1063 | rs << 15 | (to >> 12 & 1) << 31 | (to >> 5 & 63) << 25 | (to >> 1 & 15) << 8 | (to >> 11 & 1) << 7;
}
enum {
    CLEAR_A2 = 0x00000613, LOAD_A2_A1 = 0x0005B603, STORE_A2_A1 = 0x00C5B023, HERE_A3 = 0x00000697, LOAD_T0_A1 = 0x0005A283,
    LOAD_T1_A1_8 = 0x0085A303, STORE_T0_A3_24 = 0x0056AC23, CHANGED = 0x0000100F, STORE_T1_A1 = 0x0065A023, STORE_T0_A1_8 = 0x0055A423,
    RETURN = 0x00008067,
};

#else

enum { A0 = 0, A1, A2, A3, A4, T0 = 9, T1, T2, T3, T4, T5, T6, LINK = 30 };
#define X(uc) ((unsigned long *)(uc)->uc_mcontext.regs)
#define PC(uc) (uc)->uc_mcontext.pc
enum { FT0 = 0, FA0 = 16 };
static inline unsigned long double_register(ucontext_t *uc, int n)
{
    struct _aarch64_ctx *at = (struct _aarch64_ctx *)uc->uc_mcontext.__reserved;
    while (at->magic != FPSIMD_MAGIC) {
        if (!at->magic)
            abort();
        at = (struct _aarch64_ctx *)((char *)at + at->size);
    }
    return (unsigned long)((struct fpsimd_context *)at)->vregs[n];
}

#define ASM(text) __asm__(".text\n.arch_extension lse\n" text "\n")
#define CODE_CHANGED __asm__ volatile("dsb ish\n isb" ::: "memory")
static inline uint32_t add_number(int rd, int rs, int value)
{
    return (value < 0 ? 0xD1000000 : 0x91000000) | (uint32_t)abs(value) << 10 | rs << 5 | rd;
}
static inline uint32_t back_unless_zero(int rs, int distance) { return 0xB5000000 | (-distance / 4 & 0x7FFFF) << 5 | rs; }
#define CLEAR_A2 0xD2800002u
#define LOAD_A2_A1 0xF9400022u
#define STORE_A2_A1 0xF9000022u
#define HERE_A3 0x10000003u
#define LOAD_T0_A1 0xB9400029u
#define LOAD_T1_A1_8 0xB940082Au
#define STORE_T0_A3_24 0xB9001869u
#define CHANGED 0xD5033FDFu /* isb */
#define STORE_T1_A1 0xB900002Au
#define STORE_T0_A1_8 0xB9000829u
#define RETURN 0xD65F03C0u

#endif
