/* Threads whose memory others close, move and cut; signals for threads; children. Args: seed, rounds, then
 * "exec" (children may become other programs) and "precise" (a file's end is a fault like any other); or "child", N. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include "arch.h"

#define PAGE 4096
#define POLLERS 2

struct self {
    unsigned seed;
    char *low, *high; /* faults belong here */
    int jumps, cut;
    sigjmp_buf back;
    volatile int polling, parked;
    volatile long first, second; /* equal wherever a poller is parked */
    volatile long signals, values;
};
static __thread struct self *me;
static volatile char *poll_page;
static atomic_int closed, finished, stop, signalled;
static struct self pollers[POLLERS];
static int rounds, execs, precise;
static const char *program;

static unsigned next(void) { return (me->seed = me->seed * 1664525u + 1013904223u) >> 8; }
static void fail(const char *what, long have, long want)
{
    char text[160];
    write(1, text, snprintf(text, sizeof text, "WRONG %s: %#lx, not %#lx\n", what, have, want));
    _exit(1);
}
static void same(const char *what, long have, long want)
{
    if (have != want)
        fail(what, have, want);
}

/* Stores through a file's mapping; `table` counts what is done. */
extern char cut_at[];
long cut_loop(char *from, char *to, long *table);
#ifdef __riscv
ASM(".globl cut_loop, cut_at\n"
    "cut_loop: li t0, 0\n li t1, 0\n"
    "1: addi t0, t0, 1\n add t1, t1, t0\n andi t2, t0, 31\n slli t2, t2, 3\n add t2, t2, a2\n"
    " ld t3, 0(t2)\n add t3, t3, t0\n sd t3, 0(t2)\n"
    "cut_at: sd t1, 0(a0)\n addi a0, a0, 8\n bne a0, a1, 1b\n mv a0, t1\n ret");
#else
ASM(".globl cut_loop, cut_at\n"
    "cut_loop: mov x9, 0\n mov x10, 0\n"
    "1: add x9, x9, 1\n add x10, x10, x9\n and x11, x9, 31\n lsl x11, x11, 3\n add x11, x11, x2\n"
    " ldr x12, [x11]\n add x12, x12, x9\n str x12, [x11]\n"
    "cut_at: str x10, [x0]\n add x0, x0, 8\n cmp x0, x1\n b.ne 1b\n mov x0, x10\n ret");
#endif
static char *cut_from;
static long *cut_table;

static void fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    unsigned long *x = X(uc);
    char *address = info->si_addr;
    if (me->polling && address == poll_page) {
        same("signal", number, SIGSEGV);
        me->parked = 1;
        while (atomic_load(&closed))
            sched_yield();
        me->parked = 0;
        return;
    }
    if (address < me->low || address >= me->high)
        fail("a fault out of place", (long)address, PC(uc));
    if (me->cut >= 0) { /* the loop over a file that was cut: make it longer again and go on */
        same("signal", number, SIGBUS);
        if (precise) {
            same("pc", PC(uc), (long)cut_at);
            same("a0", x[A0], (long)address);
            long n = (address - cut_from) / 8 + 1;
            same("t0", x[T0], n);
            same("t1", x[T1], n * (n + 1) / 2);
            same("t2", x[T2], (long)(cut_table + (n & 31)));
            same("t3", x[T3], cut_table[n & 31]);
        }
        if (ftruncate(me->cut, (address - cut_from) / PAGE * PAGE + PAGE))
            fail("ftruncate", errno, 0);
        me->signals++;
        return;
    }
    if (!me->jumps)
        fail("a fault too many", (long)address, PC(uc));
    siglongjmp(me->back, 1);
}

static void note(int number, siginfo_t *info, void *context)
{
    me->signals++;
    me->values += info->si_value.sival_int;
    (void)number, (void)context;
}

static void *poller(void *arg)
{
    me = arg;
    me->cut = -1;
    int writes = me == &pollers[1];
    me->polling = 1;
    while (!atomic_load(&stop)) {
        for (int i = 0; i < 50; i++) {
            me->first++;
            me->second++;
            if (writes)
                poll_page[0] = 1;
            else
                (void)poll_page[0];
        }
    }
    me->polling = 0;
    return NULL;
}

/* Stops all pollers at their page, again and again. */
static void *controller(void *arg)
{
    for (int i = 0; i < rounds; i++) {
        atomic_store(&closed, 1);
        if (mprotect((void *)poll_page, PAGE, PROT_NONE))
            fail("mprotect", errno, 0);
        for (int p = 0; p < POLLERS; p++) {
            while (!pollers[p].parked)
                sched_yield();
            long first = pollers[p].first;
            same("a parked thread", pollers[p].second, first);
            sched_yield();
            same("a parked thread that goes on", pollers[p].first, first);
        }
        if (mprotect((void *)poll_page, PAGE, PROT_READ | PROT_WRITE))
            fail("mprotect", errno, 0);
        atomic_store(&closed, 0);
        for (int p = 0; p < POLLERS; p++)
            while (pollers[p].parked)
                sched_yield();
    }
    atomic_fetch_add(&finished, 1);
    return arg;
}

/* Maps, moves, protects and unmaps. */
static void *mapper(void *arg)
{
    struct self self = {.seed = (long)arg, .cut = -1};
    me = &self;
    enum { SLOTS = 12, MOST = 8 };
    char *at[SLOTS] = {0};
    int pages[SLOTS];
    long tags[SLOTS];
    for (int i = 0; i < rounds * 6; i++) {
        int s = next() % SLOTS;
        if (!at[s]) {
            pages[s] = 1 + next() % MOST;
            at[s] = mmap(NULL, pages[s] * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            tags[s] = next();
            for (long *p = (long *)at[s]; p < (long *)(at[s] + pages[s] * PAGE); p++) {
                same("new memory", *p, 0);
                *p = (char *)p - at[s] + tags[s];
            }
            continue;
        }
        long sum = 0, want = 0, words = pages[s] * PAGE / 8;
        if (next() & 1)
            mprotect(at[s], pages[s] * PAGE, PROT_READ);
        for (int j = 0; j < words; j++)
            sum += ((long *)at[s])[j], want += j * 8 + tags[s];
        same("sum", sum, want);
        mprotect(at[s], pages[s] * PAGE, PROT_READ | PROT_WRITE);
        char *old = at[s];
        int size = pages[s] * PAGE, kind = next() % 4;
        if (kind == 0) {
            at[s] = mremap(old, size, size + PAGE, MREMAP_MAYMOVE);
            pages[s]++;
            for (int j = 0; j < 512; j++)
                ((long *)(at[s] + size))[j] = size + j * 8 + tags[s];
            if (pages[s] <= MOST)
                continue;
            size += PAGE, old = at[s];
        } else if (kind == 1) {
            madvise(old, PAGE, MADV_DONTNEED);
            for (int j = 0; j < 512; j++)
                same("after MADV_DONTNEED", ((long *)old)[j], 0), ((long *)old)[j] = j * 8 + tags[s];
            continue;
        } else if (kind == 2) {
            if (mmap(old, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != old)
                fail("mmap", 0, 0);
            same("memory that was mapped anew", *(long *)(old + size - 8), 0);
        }
        munmap(old, size);
        at[s] = NULL;
        self.low = old, self.high = old + size, self.jumps = 1;
        /* Another thread may map the same place meanwhile; this one's file maps are not there. */
        if (!sigsetjmp(self.back, 1))
            (void)*(volatile char *)(old + next() % size);
        self.jumps = 0;
    }
    atomic_fetch_add(&finished, 1);
    return NULL;
}

/* A file that is cut under its mapping: by this thread, then by another one. */
static volatile int cutting;
static int cut_file;
static void *cutter(void *arg)
{
    unsigned seed = (long)arg;
    while (cutting) {
        seed = seed * 1664525u + 1013904223u;
        ftruncate(cut_file, (1 + (seed >> 20) % 4) * PAGE);
        sched_yield();
    }
    return NULL;
}
static void *files(void *arg)
{
    struct self self = {.seed = (long)arg, .cut = -1};
    me = &self;
    cut_table = calloc(32, 8);
    cut_file = memfd_create("cut", 0);
    cut_from = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, cut_file, 0);
    self.low = cut_from, self.high = cut_from + 4 * PAGE;
    for (int i = 0; i < rounds; i++) {
        int keep = next() % 4;
        ftruncate(cut_file, keep * PAGE);
        memset(cut_table, 0, 32 * 8);
        self.signals = 0;
        self.cut = cut_file;
        long got = cut_loop(cut_from, cut_from + 4 * PAGE, cut_table), n = 4 * PAGE / 8, t1 = 0, table[32] = {0};
        self.cut = -1;
        same("cuts", self.signals, 4 - keep);
        if (!precise)
            continue;
        same("cut loop", got, n * (n + 1) / 2);
        for (long j = 1; j <= n; j++) {
            table[j & 31] += j, t1 += j;
            same("stored in a file", ((long *)cut_from)[j - 1], t1);
        }
        for (int j = 0; j < 32; j++)
            same("cut table", cut_table[j], table[j]);
    }
    pthread_t id;
    cutting = 1;
    pthread_create(&id, NULL, cutter, (void *)(long)next());
    for (int i = 0; i < rounds * 2; i++) {
        self.jumps = 1;
        if (!sigsetjmp(self.back, 1)) {
            long sum = 0;
            for (int j = 0; j < 4 * PAGE / 8; j++)
                sum += ((volatile long *)cut_from)[j];
            for (volatile char *p = cut_from + 4 * PAGE - 1; p >= cut_from; p -= 64)
                *p = (char)sum;
        }
        self.jumps = 0;
    }
    cutting = 0;
    pthread_join(id, NULL);
    munmap(cut_from, 4 * PAGE);
    close(cut_file);
    atomic_fetch_add(&finished, 1);
    return NULL;
}

/* Takes queued signals in a loop that goes on counting. */
static long work(long n)
{
    long a = 1;
    double d = 1;
    for (long i = 0; i < n; i++)
        a = a * 31 + (a >> 7) + i, d = d * 0.5 + (double)(a & 255);
    return a ^ (long)d;
}
static void *listener(void *arg)
{
    static struct self self = {.cut = -1};
    me = &self;
    long want = work(5000);
    atomic_store(&signalled, 1);
    while (self.signals < rounds * 4)
        same("work between signals", work(5000), want);
    same("values of signals", self.values, (rounds * 4L - 1) * (rounds * 4L) / 2);
    atomic_fetch_add(&finished, 1);
    return arg;
}
static void *sender(void *arg)
{
    while (!atomic_load(&signalled))
        sched_yield();
    for (int i = 0; i < rounds * 4; i++)
        while (pthread_sigqueue(*(pthread_t *)arg, SIGRTMIN + 1, (union sigval){.sival_int = i}))
            sched_yield();
    return NULL;
}

static void children(void)
{
    extern char **environ;
    for (int i = 0; i < rounds / 4 + 1; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        char *words[] = {(char *)program, "child", text, NULL};
        pid_t id;
        if (execs && i % 3 == 2) {
            if (posix_spawn(&id, program, NULL, NULL, words, environ))
                fail("posix_spawn", errno, 0);
        } else {
            id = fork();
            if (!id) {
                if (!execs || i % 3 == 0)
                    _exit(work(20000 + i) & 127);
                execv(program, words);
                _exit(200);
            }
        }
        int status;
        same("waitpid", waitpid(id, &status, 0), id);
        same("a child's status", status, (work(20000 + i) & 127) << 8);
    }
}

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "child"))
        return work(20000 + atoi(argv[2])) & 127;
    program = argv[0];
    unsigned seed = argc > 1 ? atoi(argv[1]) : 1;
    rounds = argc > 2 ? atoi(argv[2]) : 40;
    for (int i = 3; i < argc; i++)
        execs |= !strcmp(argv[i], "exec"), precise |= !strcmp(argv[i], "precise");
    static struct self self = {.cut = -1};
    me = &self;
    struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    action.sa_sigaction = note;
    action.sa_flags |= SA_RESTART;
    sigaction(SIGRTMIN + 1, &action, NULL);
    poll_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t ids[POLLERS + 5];
    int n = 0;
    for (int i = 0; i < POLLERS; i++)
        pthread_create(&ids[n++], NULL, poller, &pollers[i]);
    pthread_create(&ids[n++], NULL, controller, NULL);
    pthread_create(&ids[n++], NULL, mapper, (void *)(long)(seed * 3));
    pthread_create(&ids[n++], NULL, files, (void *)(long)(seed * 5));
    pthread_t *ears = &ids[n++];
    pthread_create(ears, NULL, listener, NULL);
    pthread_create(&ids[n++], NULL, sender, ears);
    children();
    while (atomic_load(&finished) < 4)
        usleep(1000);
    atomic_store(&stop, 1);
    for (int i = 0; i < n; i++)
        pthread_join(ids[i], NULL);
    printf("%d rounds\n", rounds);
    return 0;
}
