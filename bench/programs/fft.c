/* A fast Fourier transform, there and back. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
enum { BITS = 12, N = 1 << BITS };
static double re[N], im[N], c[N / 2], s[N / 2];
static void transform(int sign)
{
    for (unsigned i = 0, j = 0; i < N; i++) {
        if (i < j) {
            double t = re[i]; re[i] = re[j], re[j] = t;
            t = im[i], im[i] = im[j], im[j] = t;
        }
        unsigned bit = N >> 1;
        while (j & bit) j ^= bit, bit >>= 1;
        j |= bit;
    }
    for (int half = 1; half < N; half *= 2)
        for (int at = 0; at < N; at += 2 * half)
            for (int k = 0; k < half; k++) {
                double wr = c[k * (N / 2 / half)], wi = sign * s[k * (N / 2 / half)];
                int p = at + k, q = p + half;
                double tr = re[q] * wr - im[q] * wi, ti = re[q] * wi + im[q] * wr;
                re[q] = re[p] - tr, im[q] = im[p] - ti;
                re[p] += tr, im[p] += ti;
            }
}
int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 1;
    for (int k = 0; k < N / 2; k++) c[k] = cos(k * (6.283185307179586 / N)), s[k] = sin(k * (6.283185307179586 / N));
    for (int i = 0; i < N; i++) re[i] = i % 17 - 8;
    while (rounds--) {
        transform(1), transform(-1);
        for (int i = 0; i < N; i++) re[i] /= N, im[i] /= N;
    }
    double sum = 0;
    for (int i = 0; i < N; i++) sum += re[i] * (i & 31);
    printf("%.3f\n", sum);
}
