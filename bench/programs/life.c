/* Conway's game on a torus of bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
enum { N = 256 };
static unsigned char now[N][N], then[N][N];
int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 1, alive = 0;
    unsigned seed = 42;
    for (int y = 0; y < N; y++)
        for (int x = 0; x < N; x++) seed = seed * 1103515245u + 12345u, now[y][x] = seed >> 16 & 1;
    while (rounds--) {
        for (int y = 0; y < N; y++) {
            const unsigned char *up = now[(y + N - 1) % N], *row = now[y], *down = now[(y + 1) % N];
            for (int x = 0; x < N; x++) {
                int l = (x + N - 1) % N, r = (x + 1) % N;
                int n = up[l] + up[x] + up[r] + row[l] + row[r] + down[l] + down[x] + down[r];
                then[y][x] = n == 3 || (n == 2 && row[x]);
            }
        }
        memcpy(now, then, sizeof now);
    }
    for (int y = 0; y < N; y++)
        for (int x = 0; x < N; x++) alive += now[y][x] * (x + y);
    printf("%ld\n", alive);
}
