/* A program whose code has become hot finds no children but its own. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t ended;

static void count(int number) { ended++; }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static unsigned work(unsigned a) {
    for (unsigned i = 0; i < 20000000; i++) a = (a ^ i) * 2654435761u;
    return a;
}

int main(void) {
    signal(SIGCHLD, count);
    double start = now();
    volatile unsigned sum = 1;
    while (now() < start + 0.8) sum = work(sum);
    int status = 0;
    pid_t found = wait(&status);
    printf("%d %s\n", (int)found, strerror(errno));
    pid_t child = fork();
    if (child == 0) _exit(sum ? 7 : 8);
    found = wait(&status);
    printf("%d %d\n", found == child, WEXITSTATUS(status));
    found = waitpid(-1, &status, WNOHANG);
    printf("%d %s, %d\n", (int)found, strerror(errno), (int)ended);
    return 0;
}
