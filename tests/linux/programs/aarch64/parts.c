/* aarch64's instructions with several accesses, around the borders of a page: what a fault in the middle leaves behind. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define PAGE 4096

/* x0 to x5, v0 to v3 before or after */
struct state {
    uint64_t x[6], none[2];
    __uint128_t v[4];
};
void run(struct state *state, void *instruction);
__asm__(".text\n.arch armv8.2-a\n.globl run\n"
        "run: stp x29, x30, [sp, -32]!\n stp x19, x20, [sp, 16]\n mov x19, x0\n mov x20, x1\n"
        " ldp q0, q1, [x19, 64]\n ldp q2, q3, [x19, 96]\n ldp x2, x3, [x19, 16]\n ldp x4, x5, [x19, 32]\n ldp x0, x1, [x19]\n"
        " blr x20\n"
        " stp q0, q1, [x19, 64]\n stp q2, q3, [x19, 96]\n stp x2, x3, [x19, 16]\n stp x4, x5, [x19, 32]\n stp x0, x1, [x19]\n"
        " ldp x19, x20, [sp, 16]\n ldp x29, x30, [sp], 32\n ret\n");

#define ALL(ONE) \
    ONE("stp x1, x2, [x0]") ONE("stp x1, x2, [x0], 16") ONE("stp x1, x2, [x0, -16]!") ONE("stp w1, w2, [x0], 8") \
    ONE("stp q0, q1, [x0], 32") ONE("stp q0, q1, [x0, -32]!") ONE("stp d0, d1, [x0]") ONE("stnp x1, x2, [x0, 16]") \
    ONE("ldp x1, x2, [x0]") ONE("ldp x1, x2, [x0], 16") ONE("ldp x1, x2, [x0, -16]!") ONE("ldp w1, w2, [x0], 8") \
    ONE("ldpsw x1, x2, [x0]") ONE("ldp q0, q1, [x0, 32]!") ONE("ldp s0, s1, [x0]") ONE("ldnp q0, q1, [x0]") \
    ONE("ldr x1, [x0], 8") ONE("ldr x1, [x0, 8]!") ONE("str x1, [x0], 8") ONE("str q0, [x0, -16]!") ONE("ldr q0, [x0], 16") \
    ONE("ld1 {v0.16b}, [x0], 16") ONE("ld1 {v0.16b-v1.16b}, [x0]") ONE("ld1 {v0.8b-v2.8b}, [x0], 24") \
    ONE("ld1 {v0.4s-v3.4s}, [x0], x5") ONE("ld2 {v0.4s, v1.4s}, [x0], 32") ONE("ld2 {v0.8b, v1.8b}, [x0]") \
    ONE("ld3 {v0.8h-v2.8h}, [x0]") ONE("ld3 {v0.4h-v2.4h}, [x0], 24") ONE("ld4 {v0.2d-v3.2d}, [x0], 64") \
    ONE("ld4 {v0.16b-v3.16b}, [x0], x5") ONE("st1 {v0.16b}, [x0], 16") ONE("st1 {v0.2d-v1.2d}, [x0]") \
    ONE("st1 {v0.4s-v2.4s}, [x0], x5") ONE("st1 {v0.16b-v3.16b}, [x0], 64") ONE("st2 {v0.4s, v1.4s}, [x0], 32") \
    ONE("st3 {v0.8h-v2.8h}, [x0]") ONE("st3 {v0.8b-v2.8b}, [x0], 24") ONE("st4 {v0.2d-v3.2d}, [x0], 64") \
    ONE("st4 {v0.4h-v3.4h}, [x0]") ONE("ld1 {v0.s}[1], [x0], 4") ONE("ld2 {v0.h, v1.h}[3], [x0]") \
    ONE("ld3 {v0.s-v2.s}[2], [x0], x5") ONE("ld4 {v0.d-v3.d}[1], [x0], 32") ONE("st2 {v0.d, v1.d}[0], [x0], 16") \
    ONE("st3 {v0.h-v2.h}[2], [x0]") ONE("st4 {v0.s-v3.s}[3], [x0], x5") ONE("ld1r {v0.4s}, [x0], 4") \
    ONE("ld2r {v0.8h, v1.8h}, [x0]") ONE("ld3r {v0.16b-v2.16b}, [x0], x5") ONE("ld4r {v0.2d-v3.2d}, [x0], 32") ONE("dc zva, x0")

#define ONE(text) text "\n ret\n"
__asm__(".globl instructions\ninstructions:\n" ALL(ONE));
#undef ONE
extern uint32_t instructions[][2];
static const char *const names[] = {
#define ONE(text) text,
    ALL(ONE)
};

static char *area;
static uint64_t expected_pc;
static int faults;

static void fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    if (uc->uc_mcontext.pc != expected_pc)
        printf("pc %#lx, ", (long)(uc->uc_mcontext.pc - expected_pc));
    printf("signal %d, code %d at %ld", number, info->si_code, (long)((char *)info->si_addr - area));
    uc->uc_mcontext.pc += 4;
    faults++;
}

int main(void)
{
    static const int distances[] = {1, 3, 4, 8, 12, 16, 20, 24, 32, 40, 48, 56, 63};
    static const int prots[] = {PROT_NONE, PROT_READ};
    struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    area = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static char before[PAGE];
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        for (int border = PAGE; border <= 2 * PAGE; border += PAGE)
            for (int p = 0; p < 2; p++)
                for (unsigned d = 0; d < sizeof distances / sizeof *distances; d++) {
                    char *page = area + PAGE;
                    for (int at = 0; at < PAGE; at++)
                        page[at] = before[at] = at * 7 + (at >> 8);
                    mprotect(area, PAGE, prots[p]);
                    mprotect(area + 2 * PAGE, PAGE, prots[p]);
                    struct state state, old;
                    for (unsigned at = 0; at < sizeof state; at++)
                        ((unsigned char *)&state)[at] = at * 11 + 1;
                    state.x[0] = (uint64_t)(area + border - distances[d]);
                    state.x[5] = 24;
                    old = state;
                    expected_pc = (uint64_t)instructions[i];
                    faults = 0;
                    printf("%s, %d%+d, %d: ", names[i], border, -distances[d], prots[p]);
                    run(&state, instructions[i]);
                    int stored = 0;
                    for (int at = 0; at < PAGE; at++)
                        stored += page[at] != before[at];
                    if (faults) /* how much is stored before a fault, the architecture does not say */
                        printf("; %s\n", memcmp(&state, &old, sizeof state) ? "registers changed" : "");
                    else
                        printf("base %+ld, %d stored, x1 %lx\n", (long)(state.x[0] - old.x[0]), stored, state.x[1]);
                }
    return 0;
}
