#include <stdio.h>
#include <stdlib.h>
#define N 128
static int a[N][N], b[N][N], c[N][N];
int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    unsigned sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) a[i][j] = i * 3 + j, b[i][j] = i ^ j;
    while (rounds--) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                int s = rounds;
                for (int k = 0; k < N; k++) s += a[i][k] * b[k][j];
                c[i][j] = s;
            }
        sum = sum * 17 + c[rounds % N][5];
    }
    printf("%u\n", sum);
}
