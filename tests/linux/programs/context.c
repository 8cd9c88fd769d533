/* What a signal handler finds and leaves: registers, floating-point state, the frames below it. */
#define _GNU_SOURCE
#include <fenv.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

static volatile sig_atomic_t alarms;
static volatile double spoilt = 1.5;

static void on(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {0};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    sigaction(number, &action, NULL);
}

/* Uses all floating-point registers and changes the rounding mode. */
__attribute__((noinline)) static void spoil(int number, siginfo_t *info, void *context)
{
    double a[24];
    for (int i = 0; i < 24; i++)
        a[i] = spoilt * i;
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < 24; i++)
            a[i] = a[i] * 1.25 + a[(i + 7) % 24];
    spoilt = a[3] / (a[5] + 1) + 0.1;
    fesetround(FE_TOWARDZERO);
    feraiseexcept(FE_DIVBYZERO);
    alarms++;
}

__attribute__((noinline)) static uint64_t compute(long rounds)
{
    double a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8;
    float v[16];
    for (int i = 0; i < 16; i++)
        v[i] = 1.0f / (i + 1);
    uint64_t x = 88172645463325252ULL;
    for (long i = 0; i < rounds; i++) {
        a = a * 0.999 + b; b = b * 0.998 + c / (1 + a * a); c = c * 0.5 + d; d = d * 0.25 + e / 3; e = e * 0.125 + f;
        f = f * 0.75 - g; g = g * 0.5 + h / 7; h = h * 0.875 - a / 11;
        for (int k = 0; k < 16; k++)
            v[k] = v[k] * 0.75f + 0.01f * k;
        x ^= x << 13; x ^= x >> 7; x ^= x << 17;
    }
    double sum = a + b + c + d + e + f + g + h;
    for (int k = 0; k < 16; k++)
        sum += v[k];
    uint64_t bits;
    memcpy(&bits, &sum, 8);
    return bits ^ x;
}

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *seen)
{
    extern int main(void);
    if ((char *)_Unwind_GetIP(context) >= (char *)main && (char *)_Unwind_GetIP(context) < (char *)main + 4096)
        *(int *)seen = 1;
    return _URC_NO_REASON;
}

static volatile int reached;

static void look(int number, siginfo_t *info, void *context)
{
    int seen = 0;
    _Unwind_Backtrace(step, &seen);
    reached = seen;
}

static void edit(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    double value = 42.5;
#if defined __riscv
    uc->uc_mcontext.__gregs[10] = 1234; /* a0 */
    memcpy(&uc->uc_mcontext.__fpregs.__d.__f[10], &value, 8);
    uc->uc_mcontext.__gregs[0] += 4;
#else
    uc->uc_mcontext.regs[0] = 1234;
    uc->uc_mcontext.pc += 4;
    uc->uc_mcontext.pstate ^= 1UL << 30; /* Z */
    char *at = (char *)uc->uc_mcontext.__reserved;
    for (;;) {
        uint32_t magic = ((uint32_t *)at)[0], size = ((uint32_t *)at)[1];
        if (magic == 0x46508001) {
            printf("fpsimd_context of %u bytes, fpcr %#x\n", size, ((uint32_t *)at)[3]);
            memcpy(at + 16, &value, 8);
        }
        if (!magic)
            break;
        at += size;
    }
#endif
}

int main(void)
{
    fesetround(FE_UPWARD);
    uint64_t expected = compute(3000000);
    on(SIGALRM, spoil, SA_RESTART);
    struct itimerval often = {{0, 700}, {0, 700}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    int same = 1;
    for (int i = 0; i < 3 || alarms < 20; i++)
        same &= compute(3000000) == expected;
    setitimer(ITIMER_REAL, &never, NULL);
    printf("the same: %d, alarms %d\n", same, alarms > 0);
    printf("rounding: %d, division by zero: %d\n", fegetround() == FE_UPWARD, fetestexcept(FE_DIVBYZERO) != 0);
    fesetround(FE_TONEAREST);

    on(SIGUSR1, look, 0);
    raise(SIGUSR1);
    printf("main is below the handler: %d\n", reached);

    on(SIGTRAP, edit, 0);
#if defined __riscv
    register long result __asm__("a0") = 0;
    register double number __asm__("fa0") = 0;
    __asm__ volatile(".4byte 0x00100073" : "+r"(result), "+f"(number)); /* ebreak */
    printf("edited: %ld %g\n", result, number);
#else
    register long result __asm__("x0") = 0;
    register double number __asm__("d0") = 0;
    long equal;
    __asm__ volatile("cmp %2, #1\n\tbrk #0\n\tcset %2, eq" : "+r"(result), "+w"(number), "=&r"(equal) : "2"(1L) : "cc");
    printf("edited: %ld %g, Z became %ld\n", result, number, equal);
#endif
    return 0;
}
