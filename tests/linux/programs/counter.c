/* The counter that programs read goes on at the rate that they are told (riscv64 does not tell), and no read is before an earlier
   one. */
#include <stdint.h>
#include <stdio.h>
#include <time.h>

static uint64_t counter(void)
{
    uint64_t x;
#ifdef __aarch64__
    __asm__ volatile("isb\n mrs %0, cntvct_el0" : "=r"(x));
#else
    __asm__ volatile("rdtime %0" : "=r"(x));
#endif
    return x;
}

int main(void)
{
    uint64_t rate = 1000000000, first, last;
    int back = 0;
    struct timespec from, to, pause = {0, 50000000};
#ifdef __aarch64__
    __asm__("mrs %0, cntfrq_el0" : "=r"(rate));
#endif
    clock_gettime(CLOCK_MONOTONIC, &from);
    first = counter();
    nanosleep(&pause, 0);
    last = counter();
    clock_gettime(CLOCK_MONOTONIC, &to);
    double outside = (to.tv_sec - from.tv_sec) + (to.tv_nsec - from.tv_nsec) * 1e-9, inside = (double)(last - first) / rate;
    for (int i = 0; i < 100000; i++, first = last)
        back += (last = counter()) < first;
#ifdef __aarch64__
    printf("%llu %d %d\n", (unsigned long long)rate, inside >= 0.05, inside <= outside);
#endif
    printf("%d\n", back);
    return 0;
}
