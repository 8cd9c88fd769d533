/* Arithmetic in loops on numbers near the smallest normal one and others, in the modes of FPCR that flush or do not: sums of all
   results and of FPSR, which is cleared now and then. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define N 64
static uint64_t seed = 88172645463325252u;
static double d[N];
static float f[N];

static uint64_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static uint64_t mix(uint64_t h, uint64_t x) { return (h ^ x) * 0x9E3779B97F4A7C15u + (h >> 29); }
static uint64_t bits(double x) { uint64_t u; memcpy(&u, &x, 8); return u; }
static uint32_t bits32(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
static uint64_t fpsr(void) { uint64_t x; __asm__ volatile("mrs %0, fpsr" : "=r"(x)); return x; }

/* Numbers of `size` bits with `fraction` bits of fraction: small ones, ones whose products are small, a few special ones. */
static uint64_t number(int size, int fraction, int tame)
{
    uint64_t r = next(), top = (1ull << (size - 1 - fraction)) - 1, sign = (r & 1) << (size - 1);
    uint64_t low = r >> 20 & ((1ull << fraction) - 1), exponent;
    switch (r >> 1 & 7) {
    case 0: exponent = tame ? 1 : 0; break;
    case 1: exponent = 1 + (r >> 5 & 3); low = r & 16 ? low : r & 32 ? 0 : (1ull << fraction) - 1; break;
    case 2: exponent = top / 4 + (r >> 5 & 3); break;
    case 3: exponent = top / 2 + (r >> 5 & 3) - 1; low = r & 16 ? 0 : low; break;
    case 4: if (!tame && !(r >> 5 & 7)) return sign | top << fraction | (r & 512 ? low : 0); exponent = top / 4 * 3; break;
    case 5: if (!(r >> 5 & 3)) return sign; exponent = top / 2; break;
    default: exponent = top / 4 + (r >> 5) % (top / 2); break;
    }
    return sign | exponent << fraction | low;
}

__attribute__((noinline)) static uint64_t doubles(uint64_t h, int every)
{
    double s = 0;
    for (int i = 0; i < N; i++) {
        double a = d[i], b = d[(i * 7 + 3) % N], c = d[(i * 5 + 1) % N];
        double m = a * b, q = a / b, p = a + b, t = a - c, u = __builtin_fma(a, b, c);
        h = mix(mix(mix(mix(mix(h, bits(m)), bits(q)), bits(p)), bits(t)), bits(u));
        h = mix(h, (a < b) | (a == c) << 1 | (m <= c) << 2);
        float n = (float)a, o = (float)m;
        h = mix(mix(h, bits32(n)), bits32(o));
        h = mix(h, (uint64_t)(int64_t)(a * 0.5)), h = mix(h, bits(__builtin_rint(b)));
        s += m * 0.25 + t;
        h = mix(h, bits(s)), h = mix(h, bits(a > b ? a : b)), h = mix(h, bits(__builtin_fmin(a, c)));
        double root;
        __asm__("fsqrt %d0, %d1" : "=w"(root) : "w"(a));
        h = mix(h, bits(root));
        if (i % every == 0) {
            h = mix(h, fpsr());
            __asm__ volatile("msr fpsr, xzr");
        }
    }
    return mix(h, fpsr());
}

__attribute__((noinline)) static uint64_t singles(uint64_t h, int every)
{
    float s = 0;
    for (int i = 0; i < N; i++) {
        float a = f[i], b = f[(i * 7 + 3) % N], c = f[(i * 5 + 1) % N];
        float m = a * b, q = a / b, p = a + b, t = a - c, u = __builtin_fmaf(a, b, c);
        h = mix(mix(mix(mix(mix(h, bits32(m)), bits32(q)), bits32(p)), bits32(t)), bits32(u));
        h = mix(h, (a < b) | (a == c) << 1 | (m <= c) << 2), h = mix(h, bits((double)a)), h = mix(h, (uint32_t)(int32_t)(b * 2));
        s += m * 0.25f + t;
        h = mix(h, bits32(s));
        if (i % every == 0) {
            h = mix(h, fpsr());
            __asm__ volatile("msr fpsr, xzr");
        }
    }
    return mix(h, fpsr());
}

__attribute__((noinline)) static uint64_t vectors(uint64_t h, int every)
{
    for (int i = 0; i + 4 <= N; i += 4) {
        uint64_t r[8];
        __asm__ volatile("ldr q0, [%1]\n ldr q1, [%2]\n fmul v2.4s, v0.4s, v1.4s\n fadd v3.4s, v2.4s, v0.4s\n"
                         "fmla v3.4s, v0.4s, v2.4s\n fmax v4.4s, v0.4s, v1.4s\n fdiv v5.2s, v1.2s, v0.2s\n"
                         "stp q2, q3, [%0]\n stp q4, q5, [%0, #32]" : : "r"(r), "r"(f + i), "r"(f + N - 4 - i)
                         : "v0", "v1", "v2", "v3", "v4", "v5", "memory");
        for (int j = 0; j < 8; j++)
            h = mix(h, r[j]);
        if (i % (4 * every) == 0) {
            h = mix(h, fpsr());
            __asm__ volatile("msr fpsr, xzr");
        }
    }
    return mix(h, fpsr());
}

int main(int count, char **words)
{
    int rounds = 40;
    if (count > 1)
        sscanf(words[1], "%d", &rounds);
    if (count > 2)
        seed += words[2][0] * 0x9E3779B97F4A7C15u;
    for (unsigned mode = 0; mode < 16; mode++) {
        uint64_t fpcr = (uint64_t)(mode >> 2) << 22 | (mode & 1) << 25 | (uint64_t)(~mode >> 1 & 1) << 24, h = mode;
        for (int round = 0; round < rounds; round++) {
            for (int i = 0; i < N; i++) {
                uint64_t u = number(64, 52, round & 1);
                uint32_t v = number(32, 23, round & 1);
                memcpy(d + i, &u, 8), memcpy(f + i, &v, 4);
            }
            int every = 1 + round * 7 % 40;
            __asm__ volatile("msr fpsr, xzr\n msr fpcr, %0" : : "r"(fpcr));
            h = vectors(singles(doubles(h, every), every), every);
            __asm__ volatile("msr fpcr, xzr");
            if (round % 8 == 7)
                printf("%x %d %016llx\n", mode, round, (unsigned long long)h);
        }
    }
}
