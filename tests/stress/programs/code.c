/* Code that changes: by its own thread, by another one, in loops that run, on pages with data. Args: seed, rounds, threads. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
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
#define MANY 8
typedef long (*function)(long n, long *data);

struct self {
    unsigned seed;
    int rounds, number;
    unsigned char *own, *closed;
    unsigned long sum, faults;
};
static unsigned char *shared; /* a page of code of all threads, one part each */
static __thread struct self *me;
static volatile int ticks;
static pthread_barrier_t started; /* from here on nobody else maps anything, so what is unmapped for a moment stays free */
static struct { _Atomic int turn; function code; long n, got; } mail[MANY]; /* to the thread that runs what others write */

static unsigned next(void) { return (me->seed = me->seed * 1664525u + 1013904223u) >> 8; }
static void fail(const char *what, long have, long want)
{
    char text[160];
    write(1, text, snprintf(text, sizeof text, "WRONG %s: %ld, not %ld\n", what, have, want));
    _exit(1);
}
static void same(const char *what, long have, long want)
{
    if (have != want)
        fail(what, have, want);
}

/* n rounds that add `step`: the result is n * step. */
static int counting(uint32_t *to, int step)
{
    uint32_t code[] = {CLEAR_A2, add_number(A2, A2, step), add_number(A0, A0, -1), back_unless_zero(A0, 8), add_number(A0, A2, 0), RETURN};
    memcpy(to, code, sizeof code);
    return sizeof code;
}
/* n rounds that add to *data, which lies on the same page. */
static int storing(uint32_t *to, int step)
{
    uint32_t code[] = {LOAD_A2_A1, add_number(A2, A2, step), STORE_A2_A1, add_number(A0, A0, -1), back_unless_zero(A0, 16),
                       add_number(A0, A2, 0), RETURN};
    memcpy(to, code, sizeof code);
    return sizeof code;
}
/* A loop that writes the other one of two instructions at data[0], data[1] in each round, and executes it. */
static int changing(uint32_t *to)
{
    uint32_t code[] = {CLEAR_A2, HERE_A3, LOAD_T0_A1, LOAD_T1_A1_8, STORE_T0_A3_24, CHANGED, STORE_T1_A1, add_number(A2, A2, 0) /* written */,
                       STORE_T0_A1_8, add_number(A0, A0, -1), back_unless_zero(A0, 32), add_number(A0, A2, 0), RETURN};
    memcpy(to, code, sizeof code);
    return sizeof code;
}

static void fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    unsigned long pc = PC(uc);
    if (!me->closed || (unsigned long)info->si_addr - (unsigned long)me->closed >= PAGE)
        fail("a fault out of place", (long)info->si_addr, pc);
    if (pc - (unsigned long)me->closed < PAGE)
        same("pc of code without permission", pc, (long)info->si_addr);
    me->faults++;
    mprotect(me->closed, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    me->closed = NULL;
    (void)number;
}
static void tick(int number) { (void)number, ticks++; }

static void *runner(void *arg)
{
    int number = (int)(long)arg;
    for (;;) {
        while (atomic_load(&mail[number].turn) == 0)
            sched_yield();
        if (atomic_load(&mail[number].turn) == 2)
            return NULL;
        CODE_CHANGED;
        mail[number].got = mail[number].code(mail[number].n, NULL);
        atomic_store(&mail[number].turn, 0);
    }
}

static void one(void)
{
    int kind = next() % 7, step = (int)(next() % 2000) - 1000;
    long n = 1 + next() % 300, want = n * step, got;
    uint32_t *part = (uint32_t *)(shared + me->number * 256), *own = (uint32_t *)(me->own + next() % 3 * 256);
    long *data = (long *)(me->own + 2048 + next() % 8 * 8);
    switch (kind) {
    case 0: /* on a page of its own, writable all the time */
        counting(own, step);
        CODE_CHANGED;
        got = ((function)own)(n, NULL);
        break;
    case 1: /* first writable, then executable */
        mprotect(me->own, PAGE, PROT_READ | PROT_WRITE);
        counting(own, step);
        mprotect(me->own, PAGE, PROT_READ | PROT_EXEC);
        __builtin___clear_cache((char *)own, (char *)own + 64);
        got = ((function)own)(n, NULL);
        mprotect(me->own, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
        break;
    case 2: /* beside code of other threads */
        counting(part, step);
        CODE_CHANGED;
        got = ((function)part)(n, NULL);
        break;
    case 3: /* for another thread */
        counting(part, step);
        mail[me->number].code = (function)part;
        mail[me->number].n = n;
        atomic_store(&mail[me->number].turn, 1);
        while (atomic_load(&mail[me->number].turn))
            sched_yield();
        got = mail[me->number].got;
        break;
    case 4: /* data beside the code */
        n = 1 + n % 50, want = n * step;
        *data = 0;
        storing(own, step);
        CODE_CHANGED;
        got = ((function)own)(n, data);
        break;
    case 5: { /* code that changes itself */
        n = 2 * (1 + n % 20), want = n / 2 * (step + 3);
        int32_t pair[4] = {add_number(A2, A2, step), 0, add_number(A2, A2, 3), 0};
        changing(own);
        CODE_CHANGED;
        got = ((function)own)(n, (long *)pair);
        break;
    }
    default: /* not executable, or not writable: the handler gives it back */
        counting(own, step);
        CODE_CHANGED;
        me->closed = me->own;
        mprotect(me->own, PAGE, next() & 1 ? PROT_NONE : PROT_READ);
        if (next() & 1)
            own[1] = add_number(A2, A2, step);
        CODE_CHANGED;
        got = ((function)own)(n, NULL);
        break;
    }
    same("result", got, want);
    me->sum = me->sum * 31 + got;
}

static void *work(void *arg)
{
    me = arg;
    me->own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_barrier_wait(&started);
    for (int i = 0; i < me->rounds; i++) {
        one();
        if (i % 16 == 7) { /* the same place, another page */
            munmap(me->own, PAGE);
            if (mmap(me->own, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != me->own)
                fail("mmap", 0, 1);
        }
    }
    atomic_store(&mail[me->number].turn, 2);
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned seed = argc > 1 ? atoi(argv[1]) : 1;
    int rounds = argc > 2 ? atoi(argv[2]) : 200, threads = argc > 3 ? atoi(argv[3]) : 2;
    struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    action.sa_flags = SA_RESTART;
    action.sa_handler = tick;
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 2000}, {0, 2000}};
    setitimer(ITIMER_REAL, &often, NULL);
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_barrier_init(&started, NULL, threads);
    static struct self selves[MANY];
    static pthread_t ids[MANY], runners[MANY];
    for (int i = 0; i < threads; i++) {
        selves[i] = (struct self){.seed = seed * 31 + i, .rounds = rounds, .number = i};
        pthread_create(&runners[i], NULL, runner, (void *)(long)i);
        pthread_create(&ids[i], NULL, work, &selves[i]);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        pthread_join(runners[i], NULL);
        printf("thread %d: %lu faults, sum %lx\n", i, selves[i].faults, selves[i].sum);
    }
    return 0;
}
