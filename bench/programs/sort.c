#include <stdio.h>
#include <stdlib.h>
static unsigned data[200000];
static void quick(unsigned *a, long n)
{
    while (n > 16) {
        unsigned pivot = a[n / 2];
        long i = 0, j = n - 1;
        while (i <= j) {
            while (a[i] < pivot) i++;
            while (a[j] > pivot) j--;
            if (i <= j) {
                unsigned t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        quick(a, j + 1);
        a += i;
        n -= i;
    }
    for (long i = 1; i < n; i++) {
        unsigned v = a[i];
        long j = i;
        for (; j && a[j - 1] > v; j--) a[j] = a[j - 1];
        a[j] = v;
    }
}
int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    unsigned long sum = 0;
    while (rounds--) {
        unsigned x = 12345;
        for (int i = 0; i < 200000; i++) data[i] = x = x * 1103515245 + 12345;
        quick(data, 200000);
        for (int i = 0; i < 200000; i += 1000) sum = sum * 31 + data[i];
    }
    printf("%lu\n", sum);
}
