/* Solving linear equations: rows of a matrix that does not fit into the first cache. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
enum { N = 192 };
static double a[N][N + 1], x[N];
int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 1;
    double sum = 0;
    for (long r = 0; r < rounds; r++) {
        unsigned seed = 1 + r;
        for (int i = 0; i < N; i++)
            for (int j = 0; j <= N; j++) seed = seed * 1664525u + 1013904223u, a[i][j] = (seed >> 8) % 2000 / 1000.0 - 1;
        for (int k = 0; k < N; k++) {
            int best = k;
            for (int i = k + 1; i < N; i++)
                if (fabs(a[i][k]) > fabs(a[best][k])) best = i;
            for (int j = k; j <= N && best != k; j++) {
                double t = a[k][j];
                a[k][j] = a[best][j], a[best][j] = t;
            }
            for (int i = k + 1; i < N; i++) {
                double f = a[i][k] / a[k][k];
                for (int j = k + 1; j <= N; j++) a[i][j] -= f * a[k][j];
            }
        }
        for (int i = N - 1; i >= 0; i--) {
            double t = a[i][N];
            for (int j = i + 1; j < N; j++) t -= a[i][j] * x[j];
            x[i] = t / a[i][i];
        }
        sum += x[r % N];
    }
    printf("%.6f\n", sum);
}
