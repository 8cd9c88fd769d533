/* The spectral norm of an infinite matrix: divisions. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
enum { N = 200 };
static double a(int i, int j) { return 1.0 / ((i + j) * (i + j + 1) / 2 + i + 1); }
static void times(const double *v, double *out, int transposed)
{
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int j = 0; j < N; j++) sum += (transposed ? a(j, i) : a(i, j)) * v[j];
        out[i] = sum;
    }
}
int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 1;
    static double u[N], v[N], w[N];
    double vbv = 0, vv = 0;
    for (int i = 0; i < N; i++) u[i] = 1;
    while (rounds--) {
        times(u, w, 0), times(w, v, 1), times(v, w, 0), times(w, u, 1);
        vbv = vv = 0;
        for (int i = 0; i < N; i++) vbv += u[i] * v[i], vv += v[i] * v[i];
        for (int i = 0; i < N; i++) u[i] /= sqrt(vv);
    }
    printf("%.9f\n", sqrt(vbv / vv));
}
