#include <math.h>
#include <stdio.h>
#include <stdlib.h>
static double p[5][3] = {{0, 0, 0}, {4.84, -1.16, -.10}, {8.34, 4.12, -.40}, {12.89, -15.11, -.22}, {15.37, -25.9, .17}};
static double v[5][3] = {{0, 0, 0}, {.6, 2.8, -.02}, {-1.01, 1.8, .008}, {1.08, .86, -.01}, {.97, .59, -.03}};
static const double m[5] = {39.47, .037, .011, .0017, .002};
int main(int argc, char **argv)
{
    int steps = (argc > 1 ? atoi(argv[1]) : 1) * 10000;
    while (steps--) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double d[3], r = 0;
                for (int k = 0; k < 3; k++) d[k] = p[i][k] - p[j][k], r += d[k] * d[k];
                double f = .001 / (r * sqrt(r));
                for (int k = 0; k < 3; k++) v[i][k] -= d[k] * m[j] * f, v[j][k] += d[k] * m[i] * f;
            }
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 3; k++) p[i][k] += .001 * v[i][k];
    }
    printf("%.9f\n", p[1][0]);
}
