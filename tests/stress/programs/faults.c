/* Faults in hot loops: a handler checks all registers, gives the page back and returns. Args: seed, rounds, threads. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>
#include "arch.h"

#define PAGE 4096
#define PAGES 12

/* name(A0 = from, A1 = to, A2 = step, A3 = a table that may always be written). T0 counts from 1, the other registers follow it.
 * The table's entries are added to, so whatever is done twice or not at all shows. */
#define DECLARED(name)                                    \
    extern char name##_begin[], name##_at[], name##_end[]; \
    long name(char *from, char *to, long step, long *table);
#define GLOBAL(name) ".globl " #name ", " #name "_begin, " #name "_at, " #name "_end\n"
#ifdef __riscv
#define LOOP(name, access)                                                                                               \
    DECLARED(name)                                                                                                       \
    ASM(GLOBAL(name) #name ": li t0, 0\n li t1, 7\n li t3, 12\n" #name "_begin:\n"                                      \
        "1: addi t0, t0, 1\n add t1, t1, t0\n xor t2, t0, t1\n fcvt.d.l ft0, t0\n"                                       \
        " andi t5, t0, 63\n slli t5, t5, 3\n add t5, t5, a3\n ld t6, 0(t5)\n add t6, t6, t2\n sd t6, 0(t5)\n"            \
        " slli a4, t0, 4\n" #name "_at: " access "\n"                                                                    \
        " addi t3, t1, 5\n ld t6, 512(a3)\n addi t6, t6, 1\n sd t6, 512(a3)\n"                                           \
        " add a0, a0, a2\n bne a0, a1, 1b\n" #name "_end: mv a0, t0\n ret");
#define BACK (-1000)
LOOP(store8, "sd t2, 0(a0)")
LOOP(store4, "sw t2, 0(a0)")
LOOP(store2, "sh t2, 0(a0)")
LOOP(store1, "sb t2, 0(a0)")
LOOP(storef, "fsd ft0, 0(a0)")
LOOP(load8, "ld t4, 0(a0)")
LOOP(load4, "lw t4, 0(a0)")
LOOP(load2, "lhu t4, 0(a0)")
LOOP(load1, "lb t4, 0(a0)")
LOOP(loadf, "fld ft1, 0(a0)")
LOOP(amo8, "amoadd.d t4, t2, (a0)")
LOOP(amo4, "amoxor.w t4, t2, (a0)")
LOOP(back8, "sd t2, -1000(a0)")
#else
#define LOOP(name, access)                                                                                               \
    DECLARED(name)                                                                                                       \
    ASM(GLOBAL(name) #name ": mov x9, 0\n mov x10, 7\n mov x12, 12\n movi v1.2d, 0\n movi v2.2d, 0\n movi v3.2d, 0\n"     \
        #name "_begin:\n 1: add x9, x9, 1\n add x10, x10, x9\n eor x11, x9, x10\n scvtf d0, x9\n"                       \
        " and x14, x9, 63\n lsl x14, x14, 3\n add x14, x14, x3\n ldr x15, [x14]\n add x15, x15, x11\n str x15, [x14]\n"  \
        " lsl x4, x9, 4\n" #name "_at: " access "\n"                                                                     \
        " add x12, x10, 5\n ldr x15, [x3, 512]\n add x15, x15, 1\n str x15, [x3, 512]\n"                                 \
        " add x0, x0, x2\n cmp x0, x1\n b.ne 1b\n" #name "_end: mov x0, x9\n ret");
#define BACK (-200)
LOOP(store8, "str x11, [x0]")
LOOP(store4, "str w11, [x0]")
LOOP(store2, "strh w11, [x0]")
LOOP(store1, "strb w11, [x0]")
LOOP(storef, "str d0, [x0]")
LOOP(load8, "ldr x13, [x0]")
LOOP(load4, "ldr w13, [x0]")
LOOP(load2, "ldrh w13, [x0]")
LOOP(load1, "ldrsb x13, [x0]")
LOOP(loadf, "ldr d4, [x0]")
LOOP(amo8, "ldadd x11, x13, [x0]")
LOOP(amo4, "ldeor w11, w13, [x0]")
LOOP(back8, "str x11, [x0, -200]")
LOOP(store16, "stp x11, x9, [x0]")
LOOP(load16, "ldp x13, x16, [x0]")
LOOP(store64, "st4 {v0.2d-v3.2d}, [x0]")
LOOP(load48, "ld1 {v4.16b-v6.16b}, [x0]")
#endif

static const struct kind {
    const char *name;
    long (*run)(char *, char *, long, long *);
    char *begin, *at, *end;
    int size, offset, write, aligned;
} kinds[] = {
#define KIND(name, size, offset, write, aligned) {#name, name, name##_begin, name##_at, name##_end, size, offset, write, aligned}
    KIND(store8, 8, 0, 1, 0), KIND(store4, 4, 0, 1, 0), KIND(store2, 2, 0, 1, 0), KIND(store1, 1, 0, 1, 0), KIND(storef, 8, 0, 1, 0),
    KIND(load8, 8, 0, 0, 0),  KIND(load4, 4, 0, 0, 0),  KIND(load2, 2, 0, 0, 0),  KIND(load1, 1, 0, 0, 0),  KIND(loadf, 8, 0, 0, 0),
    KIND(amo8, 8, 0, 1, 1),   KIND(amo4, 4, 0, 1, 1),   KIND(back8, 8, BACK, 1, 0),
#ifdef __aarch64__
    KIND(store16, 16, 0, 1, 0), KIND(load16, 16, 0, 0, 0), KIND(store64, 64, 0, 1, 0), KIND(load48, 48, 0, 0, 0),
#endif
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* Counts in step; where a signal comes in between, the pc tells how far each register is. */
extern char step_begin[], step_end[];
long step_loop(long n);
#ifdef __riscv
ASM(".globl step_loop, step_begin, step_end\n"
    "step_loop: li t0, 0\n li t1, 0\n li t2, 0\n li t3, 1\n fcvt.d.l fa1, t3\n fmv.d.x fa0, x0\n"
    "step_begin: addi t0, t0, 1\n addi t1, t1, 1\n addi t2, t2, 1\n fadd.d fa0, fa0, fa1\n bne t0, a0, step_begin\n"
    "step_end: fcvt.l.d a0, fa0\n ret");
#else
ASM(".globl step_loop, step_begin, step_end\n"
    "step_loop: mov x9, 0\n mov x10, 0\n mov x11, 0\n fmov d17, 1.0\n fmov d16, xzr\n"
    "step_begin: add x9, x9, 1\n add x10, x10, 1\n add x11, x11, 1\n fadd d16, d16, d17\n cmp x9, x0\n b.ne step_begin\n"
    "step_end: fcvtzs x0, d16\n ret");
#endif

struct self {
    unsigned seed;
    int rounds;
    char *area;
    int open[PAGES]; /* what each page may be used for now: 0, PROT_READ, PROT_READ | PROT_WRITE */
    const struct kind *kind;
    char *from, *to;
    long step, *table;
    int last[2];
    unsigned long faults, sum;
    sigjmp_buf back;
    char *expected;
    int jumps;
};
static __thread struct self *me;
static volatile int ticks;

static unsigned next(void) { return (me->seed = me->seed * 1664525u + 1013904223u) >> 8; }

static void fail(const char *what, unsigned long have, unsigned long want)
{
    char text[200];
    int n = snprintf(text, sizeof text, "WRONG %s %s: %#lx, not %#lx (fault %lu)\n", me->kind ? me->kind->name : "", what, have, want, me->faults);
    write(1, text, n);
    _exit(1);
}
static void same(const char *what, unsigned long have, unsigned long want)
{
    if (have != want)
        fail(what, have, want);
}

static void protect(int page, int prot)
{
    if (mprotect(me->area + page * PAGE, PAGE, prot))
        fail("mprotect", page, prot);
    me->open[page] = prot;
}

static void fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    unsigned long *x = X(uc);
    if (me->jumps) {
        me->jumps = 0;
        siglongjmp(me->back, 1);
    }
    const struct kind *k = me->kind;
    if (me->expected) { /* one access, by `probe` */
        same("address", (unsigned long)info->si_addr, (unsigned long)me->expected);
        me->expected = NULL;
        me->faults++;
        PC(uc) = x[LINK]; /* returns */
        x[A0] = 77;
        return;
    }
    same("signal", number, SIGSEGV);
    if (!k)
        fail("a fault out of place at", PC(uc), (unsigned long)info->si_addr);
    same("pc", PC(uc), (unsigned long)k->at);
    char *address = (char *)x[A0] + k->offset;
    int first = (address - me->area) / PAGE, last = (address + k->size - 1 - me->area) / PAGE;
    int need = k->write ? PROT_READ | PROT_WRITE : PROT_READ;
    int page = (me->open[first] & need) == need ? last : first;
    if ((me->open[page] & need) == need)
        fail("a fault at an open page", (unsigned long)info->si_addr, page);
    char *where = page == first ? address : me->area + page * PAGE;
    same("address", (unsigned long)info->si_addr, (unsigned long)where);
    unsigned long n = x[T0], t1 = 7 + n * (n + 1) / 2;
    same("a0", x[A0], (unsigned long)me->from + (n - 1) * me->step);
    same("a1", x[A1], (unsigned long)me->to);
    same("a2", x[A2], me->step);
    same("a3", x[A3], (unsigned long)me->table);
    same("a4", x[A4], n << 4);
    same("t1", x[T1], t1);
    same("t2", x[T2], n ^ t1);
    same("t3", x[T3], n == 1 ? 12 : t1 - n + 5);
    same("t5", x[T5], (unsigned long)me->table + (n & 63) * 8);
    double d = n;
    unsigned long bits;
    memcpy(&bits, &d, 8);
    same("ft0", double_register(uc, FT0), bits);
    same("the count before", me->table[64], n - 1);
    me->faults++;
    /* two pages stay open: an access may need both */
    int old = me->last[0];
    if (old >= 0 && old != first && old != page)
        protect(old, next() & 1 ? PROT_NONE : k->write ? PROT_READ : PROT_NONE);
    me->last[0] = me->last[1];
    me->last[1] = page;
    protect(page, need);
}

static void tick(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    unsigned long *x = X(uc);
    (void)info, (void)number;
    ticks++;
    if (!me)
        return;
    if (PC(uc) > (unsigned long)step_begin && PC(uc) < (unsigned long)step_end) {
        long at = PC(uc) - (unsigned long)step_begin;
        double d;
        unsigned long bits = double_register(uc, FA0);
        memcpy(&d, &bits, 8);
        unsigned long n = x[T0] - 1;
        same("step t1", x[T1], n + (at >= 8));
        same("step t2", x[T2], n + (at >= 12));
        same("step fa0", (unsigned long)d, n + (at >= 16));
    }
    for (const struct kind *k = kinds; k < kinds + KINDS; k++) /* t1 is behind t0 for one instruction */
        if (PC(uc) >= (unsigned long)k->begin + 8 && PC(uc) < (unsigned long)k->end) {
            unsigned long n = x[T0];
            same("tick t1", x[T1], 7 + n * (n + 1) / 2);
            same("tick a3", x[A3], (unsigned long)me->table);
        }
}

/* One access at an address; 77 if it faulted. */
#ifdef __riscv
#define PROBE(name, access, other)           \
    long name(char *address, long value);    \
    ASM(".globl " #name "\n" #name ": " access "\n li a0, 1\n ret");
#else
#define PROBE(name, other, access)           \
    long name(char *address, long value);    \
    ASM(".globl " #name "\n" #name ": " access "\n mov x0, 1\n ret");
#endif
PROBE(p_lb, "lb a2, 0(a0)", "ldrsb x2, [x0]")
PROBE(p_lh, "lh a2, 0(a0)", "ldrsh x2, [x0]")
PROBE(p_lw, "lw a2, 0(a0)", "ldrsw x2, [x0]")
PROBE(p_ld, "ld a2, 0(a0)", "ldr x2, [x0]")
PROBE(p_flw, "flw ft3, 0(a0)", "ldr s3, [x0]")
PROBE(p_fld, "fld ft3, 0(a0)", "ldr d3, [x0]")
PROBE(p_sb, "sb a1, 0(a0)", "strb w1, [x0]")
PROBE(p_sh, "sh a1, 0(a0)", "strh w1, [x0]")
PROBE(p_sw, "sw a1, 0(a0)", "str w1, [x0]")
PROBE(p_sd, "sd a1, 0(a0)", "str x1, [x0]")
PROBE(p_fsw, "fmv.d.x ft3, a1\n fsw ft3, 0(a0)", "fmov d3, x1\n str s3, [x0]")
PROBE(p_fsd, "fmv.d.x ft3, a1\n fsd ft3, 0(a0)", "fmov d3, x1\n str d3, [x0]")
static const struct probe {
    const char *name;
    long (*run)(char *, long);
    int size, write;
} probes[] = {{"lb", p_lb, 1, 0}, {"lh", p_lh, 2, 0}, {"lw", p_lw, 4, 0}, {"ld", p_ld, 8, 0}, {"flw", p_flw, 4, 0}, {"fld", p_fld, 8, 0},
              {"sb", p_sb, 1, 1}, {"sh", p_sh, 2, 1}, {"sw", p_sw, 4, 1}, {"sd", p_sd, 8, 1}, {"fsw", p_fsw, 4, 1}, {"fsd", p_fsd, 8, 1}};

/* Every access around the border of two pages, one or both of them closed. */
static void borders(void)
{
    static const int prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
    char *border = me->area + 5 * PAGE, before[16], after[16];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            for (unsigned p = 0; p < sizeof probes / sizeof *probes; p++)
                for (int offset = -9; offset < 2; offset++) {
                    const struct probe *probe = &probes[p];
                    int need = probe->write ? PROT_READ | PROT_WRITE : PROT_READ;
                    protect(4, PROT_READ | PROT_WRITE), protect(5, PROT_READ | PROT_WRITE);
                    memcpy(before, border - 8, 16);
                    protect(4, prots[i]), protect(5, prots[j]);
                    char *at = border + offset;
                    int left = offset < 0, right = offset + probe->size > 0;
                    int bad = left && (prots[i] & need) != need ? 1 : right && (prots[j] & need) != need ? 2 : 0;
                    me->expected = !bad ? NULL : bad == 1 ? at : offset < 0 ? border : at;
                    long got = probe->run(at, 0x0123456789abcdef + offset);
                    same(probe->name, got, bad ? 77 : 1);
                    same("a fault that did not come", (unsigned long)me->expected, 0);
                    protect(4, PROT_READ | PROT_WRITE), protect(5, PROT_READ | PROT_WRITE);
                    memcpy(after, border - 8, 16);
                    if (bad && memcmp(before, after, 16))
                        fail("a store was done in part", offset, probe->size);
                    for (int b = 0; b < 16; b++)
                        me->sum = me->sum * 31 + (unsigned char)after[b];
                }
}

/* Bytes up to the last of a page that nothing follows. */
static void scan(void)
{
    for (int page = 0; page < PAGES; page++)
        protect(page, PROT_READ | PROT_WRITE);
    memset(me->area, 'x', PAGES * PAGE);
    int page = 1 + next() % (PAGES - 2);
    protect(page, PROT_NONE);
    char *end = me->area + page * PAGE, *volatile at = end - 1 - next() % 200;
    me->jumps = 1;
    long n = 0;
    char *begin = at;
    if (!sigsetjmp(me->back, 1)) {
        while (*(volatile char *)at)
            at++;
        fail("went through a closed page", (unsigned long)at, 0);
    }
    same("the end of a scan", (unsigned long)at, (unsigned long)end);
    end[-1] = 0;
    n = strlen(begin) + (memchr(begin, 0, 4000) != NULL) + strnlen(begin, 1 << 20);
    same("strlen", n, 2 * (end - 1 - begin) + 1);
    me->sum = me->sum * 31 + n;
}

static void loops(void)
{
    const struct kind *k = &kinds[next() % KINDS];
    int steps[] = {8, 8, 8, 4, 16, 24, 1, 12, 64, 520, 4096, 5000, -8, -16, -520, -4096};
    long step = steps[next() % 16], shift = next() % 4 ? 0 : next() % 8;
    if (k->aligned)
        shift = 0, step &= -8, step = step ? step : 8;
    for (int page = 0; page < PAGES; page++)
        protect(page, PROT_READ | PROT_WRITE);
    for (int i = 0; i < PAGES * PAGE / 8; i++)
        ((long *)me->area)[i] = i * 7;
    for (int page = 0; page < PAGES; page++)
        protect(page, k->write && next() & 1 ? PROT_READ : PROT_NONE);
    me->last[0] = me->last[1] = -1;
    char *low = me->area + PAGE + next() % 64 * 8 + shift, *high = me->area + (PAGES - 1) * PAGE - 64;
    long n = (high - low) / labs(step);
    if (n > 2500)
        n = 2500;
    me->from = step > 0 ? low : low + n * -step;
    me->to = me->from + n * step;
    me->step = step;
    memset(me->table, 0, 65 * 8);
    me->kind = k;
    long got = k->run(me->from, me->to, step, me->table);
    me->kind = NULL;
    same("rounds", got, n);
    same("the count", me->table[64], n);
    long table[64] = {0};
    for (unsigned long i = 1, t1 = 7; i <= (unsigned long)n; i++)
        t1 += i, table[i & 63] += i ^ t1;
    if (memcmp(table, me->table, sizeof table))
        fail("table", 0, 0);
    for (int page = 0; page < PAGES; page++)
        protect(page, PROT_READ);
    for (int i = 0; i < PAGES * PAGE / 8; i++)
        me->sum = me->sum * 31 + ((long *)me->area)[i];
}

/* Down a stack until its guard page. */
static int __attribute__((noinline)) deeper(int n)
{
    volatile char space[200];
    space[0] = n;
    return n > 1 << 20 ? 0 : deeper(n + 1) + space[0];
}
static void overflow(void)
{
    me->jumps = 1;
    if (!sigsetjmp(me->back, 1)) {
        deeper(0);
        fail("no end of the stack", 0, 0);
    }
}

static void *work(void *arg)
{
    me = arg;
    stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
    sigaltstack(&stack, NULL);
    me->area = mmap(NULL, (PAGES + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    me->area += PAGE;
    me->table = calloc(80, 8);
    for (int i = 0; i < me->rounds; i++) {
        loops();
        if (i % 8 == 0)
            scan();
        if (i % 8 == 3)
            borders();
        if (i % 8 == 5)
            overflow();
        if (i % 4 == 1)
            same("step loop", step_loop(20000), 20000);
    }
    munmap(me->area - PAGE, (PAGES + 2) * PAGE);
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned seed = argc > 1 ? atoi(argv[1]) : 1;
    int rounds = argc > 2 ? atoi(argv[2]) : 30, threads = argc > 3 ? atoi(argv[3]) : 2;
    struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    action.sa_sigaction = tick;
    action.sa_flags |= SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 3000}, {0, 3000}};
    setitimer(ITIMER_REAL, &often, NULL);
    struct self *selves = calloc(threads, sizeof *selves);
    pthread_t *ids = calloc(threads, sizeof *ids);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 1 << 18);
    for (int i = 0; i < threads; i++) {
        selves[i].seed = seed * 31 + i;
        selves[i].rounds = rounds;
        pthread_create(&ids[i], &attributes, work, &selves[i]);
    }
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    memset(&often, 0, sizeof often);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < threads; i++)
        printf("thread %d: %lu faults, sum %lx\n", i, selves[i].faults, selves[i].sum);
    return 0;
}
