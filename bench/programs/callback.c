/* Calls through pointers: the C library's qsort and bsearch. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int compare(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return (x > y) - (x < y);
}
int main(int argc, char **argv)
{
    enum { N = 20000 };
    static unsigned source[N], work[N];
    long rounds = argc > 1 ? atol(argv[1]) : 1, found = 0;
    unsigned seed = 7;
    for (int i = 0; i < N; i++) source[i] = seed = seed * 1664525u + 1013904223u;
    while (rounds--) {
        memcpy(work, source, sizeof source);
        qsort(work, N, sizeof *work, compare);
        for (int i = 0; i < N; i += 3) found += bsearch(&source[i], work, N, sizeof *work, compare) != NULL;
    }
    printf("%ld\n", found);
}
