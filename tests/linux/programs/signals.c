/* Handlers, masks, alternate stacks, faults, restarts, timers. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t seen, last;
static volatile void *where;
static volatile int code;
static sigjmp_buf back;
static double survivor = 1.25;

static void count(int number, siginfo_t *info, void *context)
{
    seen++;
    last = number;
    code = info->si_code;
    survivor = survivor * 3.0 + number;
    (void)context;
}

static void fault(int number, siginfo_t *info, void *context)
{
    last = number;
    code = info->si_code;
    where = info->si_addr;
    (void)context;
    siglongjmp(back, 1);
}

static void skip(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    last = number;
#if defined __riscv
    uc->uc_mcontext.__gregs[0] += 2; /* the compressed ebreak */
#else
    uc->uc_mcontext.pc += 4;
#endif
    (void)info;
}

static void on(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {0};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    sigaction(number, &action, NULL);
}

static void try_fault(const char *name, volatile char *address, int write)
{
    last = 0;
    if (!sigsetjmp(back, 1)) {
        if (write)
            *address = 1;
        else
            (void)*address;
    }
    printf("%s: signal %d code %d at %d\n", name, (int)last, code, where == address);
}

int main(void)
{
    on(SIGUSR1, count, 0);
    on(SIGALRM, count, 0);
    raise(SIGUSR1);
    printf("raise: %d, signal %d, code %d, %.2f\n", (int)seen, (int)last, code, survivor);

    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    raise(SIGUSR1);
    raise(SIGUSR1);
    sigpending(&pending);
    printf("blocked: %d, pending %d\n", (int)seen, sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("unblocked: %d\n", (int)seen);

    /* real-time signals queue */
    on(SIGRTMIN + 2, count, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < 3; i++)
        sigqueue(getpid(), SIGRTMIN + 2, (union sigval){.sival_int = i});
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("queued: %d\n", (int)seen);

    on(SIGSEGV, fault, 0);
    on(SIGBUS, fault, 0);
    char *page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    try_fault("write to read-only", page + 16, 1);
    try_fault("read of nothing", page + 4096, 0);
    try_fault("read of NULL", NULL, 0);
    FILE *file = tmpfile();
    ftruncate(fileno(file), 4096);
    char *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    ftruncate(fileno(file), 0);
    try_fault("beyond the file", mapped, 0);

    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    on(SIGSEGV, fault, SA_ONSTACK);
    try_fault("on the alternate stack", NULL, 1);
    on(SIGTRAP, skip, 0);
#if defined __riscv
    __asm__ volatile("c.ebreak");
#else
    __asm__ volatile("brk #1");
#endif
    printf("breakpoint: %d\n", (int)last);
    on(SIGILL, fault, 0);
    if (!sigsetjmp(back, 1))
        __asm__ volatile(".4byte 0");
    printf("illegal: %d code %d\n", (int)last, code > 0); /* qemu says ILL_ILLOPN, the kernel ILL_ILLOPC */

    /* a system call is interrupted, or made again */
    int ends[2];
    pipe(ends);
    struct itimerval soon = {.it_value = {0, 200000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    char byte;
    long got = read(ends[0], &byte, 1);
    printf("read: %ld %s\n", got, errno == EINTR ? "EINTR" : "?");
    on(SIGALRM, count, SA_RESTART);
    setitimer(ITIMER_REAL, &soon, NULL);
    if (!fork()) {
        usleep(60000);
        write(ends[1], "x", 1);
        _exit(7);
    }
    got = read(ends[0], &byte, 1);
    printf("read: %ld %c\n", got, byte);
    int status;
    wait(&status);
    printf("child: %d\n", WEXITSTATUS(status));
    setitimer(ITIMER_REAL, &soon, NULL);
    struct timespec second = {1, 0};
    got = nanosleep(&second, &second);
    printf("nanosleep: %ld %d\n", got, errno == EINTR);

    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_BLOCK, &set, &old);
    setitimer(ITIMER_REAL, &soon, NULL);
    int before = seen;
    got = sigsuspend(&old);
    printf("sigsuspend: %ld %d\n", got, seen - before);
    setitimer(ITIMER_REAL, &soon, NULL);
    struct pollfd none;
    got = ppoll(&none, 0, NULL, &old);
    printf("ppoll: %ld %d\n", got, seen - before);
    setitimer(ITIMER_REAL, &soon, NULL);
    siginfo_t info;
    printf("sigwaitinfo: %d\n", sigwaitinfo(&set, &info));
    int fd = signalfd(-1, &set, 0);
    struct signalfd_siginfo record;
    setitimer(ITIMER_REAL, &soon, NULL);
    got = read(fd, &record, sizeof record);
    printf("signalfd: %ld %d\n", got, record.ssi_signo);
    sigprocmask(SIG_SETMASK, &old, NULL);

    /* endings */
    for (int number = 1; number < 4; number++) {
        fflush(stdout);
        pid_t child = fork();
        if (!child) {
            signal(SIGSEGV, SIG_DFL);
            if (number == 1)
                *(volatile int *)8 = 1;
            if (number == 2)
                abort();
            kill(getpid(), SIGTERM);
            pause();
        }
        waitpid(child, &status, 0);
        printf("ended by %d\n", WTERMSIG(status));
    }
    fflush(stdout);
    raise(SIGKILL);
}
