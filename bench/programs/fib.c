#include <stdio.h>
#include <stdlib.h>
static long __attribute__((noinline)) fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    long sum = 0;
    while (rounds--) sum += fib(27);
    printf("%ld\n", sum);
}
