/* At the end of a file that is shorter than its mapping: which instruction of several is told to have met it. */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile uintptr_t start;
static char *map;

static void bus(int number, siginfo_t *info, void *context)
{
    ucontext_t *at = context;
#if defined __riscv
    uintptr_t pc = at->uc_mcontext.__gregs[0], p = at->uc_mcontext.__gregs[10];
#else
    uintptr_t pc = at->uc_mcontext.pc, p = at->uc_mcontext.regs[10];
#endif
    printf("%d: +%ld, address %ld, pointer %ld\n", number, (long)(pc - start), (long)((char *)info->si_addr - map), (long)((char *)p - map));
    siglongjmp(back, 1);
}

#if defined __riscv
#define CASE(text) \
    if (!sigsetjmp(back, 1)) { \
        register char *p __asm__("a0") = map + 4096 - 8; \
        __asm__ volatile(".option push\n.option norvc\nlla t0, 1f\nsd t0, 0(%1)\nli t1, 7\nli t2, 9\n1: " text "\n.option pop" \
                         : "+r"(p) : "r"(&start) : "t0", "t1", "t2", "t3", "memory"); \
        printf("passed\n"); \
    }
#else
#define CASE(text) \
    if (!sigsetjmp(back, 1)) { \
        register char *p __asm__("x10") = map + 4096 - 8; \
        __asm__ volatile("adr x11, 1f\nstr x11, [%1]\nmov x12, 7\nmov x13, 9\n1: " text \
                         : "+r"(p) : "r"(&start) : "x11", "x12", "x13", "x14", "memory"); \
        printf("passed\n"); \
    }
#endif

int main(void)
{
    FILE *file = tmpfile();
    ftruncate(fileno(file), 4096);
    map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    struct sigaction action = {.sa_sigaction = bus, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
#if defined __riscv
    CASE("sd t1, 0(%0)\nsd t2, 8(%0)")
    CASE("sd t1, 8(%0)\nsd t2, 0(%0)")
    CASE("addi %0, %0, 8\nsd t1, 0(%0)")
    CASE("addi %0, %0, 8\naddi t1, t1, 1\nld t3, 0(%0)")
    CASE("ld t3, 0(%0)\nld t1, 8(%0)")
    CASE("ld t3, 0(%0)\naddi %0, %0, 16\nsw t1, 4(%0)")
    CASE("add t1, t1, t2\nsd t1, 0(%0)\nsd t2, 8(%0)\nsd t1, 16(%0)")
#else
    CASE("str x12, [%0]\nstr x13, [%0, 8]")
    CASE("str x12, [%0, 8]\nstr x13, [%0]")
    CASE("add %0, %0, 8\nstr x12, [%0]")
    CASE("add %0, %0, 8\nadd x12, x12, 1\nldr x14, [%0]")
    CASE("ldr x14, [%0]\nldr x12, [%0, 8]")
    CASE("ldr x14, [%0]\nadd %0, %0, 16\nstr w12, [%0, 4]")
    CASE("add x12, x12, x13\nstr x12, [%0]\nstr x13, [%0, 8]\nstr x12, [%0, 16]")
#endif
    return 0;
}
