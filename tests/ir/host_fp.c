/* The host's own IEEE 754 arithmetic: each function computes under rounding mode `rm` (0 RNE, 1 RTZ, 2 RDN, 3 RUP) and
   ors the flags it raised into `*flags`, numbered as in polyvm.ir.ops. Build with -O1 -frounding-math -ftrapping-math. */
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

static const int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};

static void begin(int rm) { fesetround(modes[rm]); feclearexcept(FE_ALL_EXCEPT); }

static int end(void)
{
    int raised = fetestexcept(FE_ALL_EXCEPT);
    fesetround(FE_TONEAREST);
    return (raised & FE_INEXACT ? 1 : 0) | (raised & FE_UNDERFLOW ? 2 : 0) | (raised & FE_OVERFLOW ? 4 : 0) |
           (raised & FE_DIVBYZERO ? 8 : 0) | (raised & FE_INVALID ? 16 : 0);
}

#define TAKE(type, name, bits) volatile type name; { type taken; memcpy(&taken, &bits, sizeof taken); name = taken; }
#define GIVE(type, result) { type given = result; uint64_t out = 0; memcpy(&out, &given, sizeof given); return out; }

#define FORMAT(type, suffix, n)                                                                                  \
    uint64_t arithmetic_##n(int op, int rm, uint64_t pa, uint64_t pb, uint64_t pc, int *flags)                    \
    {                                                                                                            \
        TAKE(type, a, pa) TAKE(type, b, pb) TAKE(type, c, pc)                                                     \
        volatile type r = 0;                                                                                      \
        begin(rm);                                                                                                \
        switch (op) {                                                                                            \
        case 0: r = a + b; break;                                                                                 \
        case 1: r = a - b; break;                                                                                 \
        case 2: r = a * b; break;                                                                                 \
        case 3: r = a / b; break;                                                                                 \
        case 4: r = sqrt##suffix(a); break;                                                                       \
        case 5: r = fma##suffix(a, b, c); break;                                                                  \
        case 6: r = rint##suffix(a); break;                                                                       \
        case 7: r = nearbyint##suffix(a); break;                                                                  \
        }                                                                                                        \
        *flags = end();                                                                                           \
        GIVE(type, r)                                                                                             \
    }                                                                                                            \
    int compare_##n(int op, uint64_t pa, uint64_t pb, int *flags)                                                 \
    {                                                                                                            \
        TAKE(type, a, pa) TAKE(type, b, pb)                                                                       \
        volatile int r = 0;                                                                                       \
        begin(0);                                                                                                 \
        switch (op) {                                                                                            \
        case 0: r = a == b; break;                                                                                \
        case 1: r = a < b; break;                                                                                 \
        case 2: r = a <= b; break;                                                                                \
        case 3: r = isless(a, b); break;                                                                          \
        case 4: r = islessequal(a, b); break;                                                                     \
        }                                                                                                        \
        *flags = end();                                                                                           \
        return r;                                                                                                 \
    }                                                                                                            \
    uint64_t to_int_##n(int bits, int rm, uint64_t pa, int *flags)                                                \
    {                                                                                                            \
        TAKE(type, a, pa)                                                                                         \
        volatile int64_t r;                                                                                       \
        volatile type whole;                                                                                      \
        begin(rm);                                                                                                \
        whole = rint##suffix(a);                                                                                  \
        r = bits == 32 ? (int64_t)(int32_t)whole : (int64_t)whole;                                                \
        *flags = end();                                                                                           \
        return (uint64_t)r;                                                                                       \
    }                                                                                                            \
    uint64_t from_int_##n(int is_signed, int rm, uint64_t a, int *flags)                                          \
    {                                                                                                            \
        volatile uint64_t in = a;                                                                                 \
        volatile type r;                                                                                          \
        begin(rm);                                                                                                \
        if (is_signed)                                                                                            \
            r = (type)(int64_t)in;                                                                                \
        else                                                                                                     \
            r = (type)in;                                                                                         \
        *flags = end();                                                                                           \
        GIVE(type, r)                                                                                             \
    }

FORMAT(float, f, 32)
FORMAT(double, , 64)

uint64_t widen(int rm, uint64_t pa, int *flags)
{
    TAKE(float, a, pa)
    volatile double r;
    begin(rm);
    r = a;
    *flags = end();
    GIVE(double, r)
}

uint64_t narrow(int rm, uint64_t pa, int *flags)
{
    TAKE(double, a, pa)
    volatile float r;
    begin(rm);
    r = (float)a;
    *flags = end();
    GIVE(float, r)
}
