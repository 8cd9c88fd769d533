/* Threads, locks, atomics, thread-local storage, robust mutexes, cancellation. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ready = PTHREAD_COND_INITIALIZER;
static atomic_long total;
static long plain;
static int turn;
static __thread int mine;
static pthread_barrier_t barrier;

static void *work(void *arg)
{
    mine = (int)(long)arg;
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 20000; i++) {
        atomic_fetch_add(&total, 1);
        if (i % 20 == 0) {
            pthread_mutex_lock(&lock);
            plain++;
            pthread_mutex_unlock(&lock);
        }
    }
    return (void *)(long)(mine * mine);
}

static void *player(void *arg)
{
    int me = (int)(long)arg;
    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&lock);
        while (turn != me)
            pthread_cond_wait(&ready, &lock);
        turn = !me;
        pthread_cond_signal(&ready);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static pthread_mutex_t robust;

static void *dies(void *arg)
{
    pthread_mutex_lock(&robust);
    return arg;
}

static void *sleeps(void *arg)
{
    for (;;)
        pause();
    return arg;
}

int main(void)
{
    pthread_t threads[4];
    pthread_barrier_init(&barrier, NULL, 4);
    for (long i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, work, (void *)i);
    long squares = 0;
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        squares += (long)result;
    }
    printf("%ld %ld %ld\n", atomic_load(&total), plain, squares);

    for (long i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, player, (void *)i);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("turn %d\n", turn);

    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attributes);
    pthread_create(&threads[0], NULL, dies, NULL);
    pthread_join(threads[0], NULL);
    int error = pthread_mutex_lock(&robust);
    printf("robust: %s\n", error == EOWNERDEAD ? "EOWNERDEAD" : "?");
    pthread_mutex_consistent(&robust);
    pthread_mutex_unlock(&robust);

    pthread_create(&threads[0], NULL, sleeps, NULL);
    pthread_cancel(threads[0]);
    void *result;
    pthread_join(threads[0], &result);
    printf("cancelled: %d\n", result == PTHREAD_CANCELED);

    /* fork in a process with threads; exec from it */
    pthread_create(&threads[0], NULL, sleeps, NULL);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        printf("child\n");
        fflush(stdout);
        _exit(mine + 5);
    }
    int status;
    waitpid(child, &status, 0);
    printf("status %d\n", WEXITSTATUS(status));
    return 0; /* ends the sleeping thread, too */
}
