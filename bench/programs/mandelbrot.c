#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    long total = 0;
    while (rounds--)
        for (int y = 0; y < 64; y++)
            for (int x = 0; x < 96; x++) {
                double cr = -2 + x / 32.0, ci = -1 + y / 32.0, a = 0, b = 0;
                int n = 0;
                while (n < 200 && a * a + b * b < 4) {
                    double t = a * a - b * b + cr;
                    b = 2 * a * b + ci;
                    a = t;
                    n++;
                }
                total += n;
            }
    printf("%ld\n", total);
}
