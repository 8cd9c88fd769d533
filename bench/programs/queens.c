/* Queens on a board: recursion and backtracking. */
#include <stdio.h>
#include <stdlib.h>
enum { N = 9 };
static int place[N];
static long steps;
static int fits(int row, int column)
{
    for (int r = 0; r < row; r++)
        if (place[r] == column || abs(place[r] - column) == row - r) return 0;
    return 1;
}
static long __attribute__((noinline)) solve(int row)
{
    long found = 0;
    if (row == N) return 1;
    for (int column = 0; column < N; column++) {
        steps++;
        if (fits(row, column)) {
            place[row] = column;
            found += solve(row + 1);
        }
    }
    return found;
}
int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 1, found = 0;
    while (rounds--) found += solve(0);
    printf("%ld %ld\n", found, steps);
}
