/* Following pointers through memory in a random order. */
#include <stdio.h>
#include <stdlib.h>
#define N 65536
static struct node { struct node *next; long value; } nodes[N];
int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 1, sum = 0;
    static int order[N];
    unsigned seed = 1;
    for (int i = 0; i < N; i++) order[i] = i;
    for (int i = N - 1; i > 0; i--) {
        seed = seed * 1103515245u + 12345u;
        int j = (seed >> 8) % (unsigned)(i + 1), t = order[i];
        order[i] = order[j], order[j] = t;
    }
    for (int i = 0; i < N; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % N]];
        nodes[order[i]].value = i;
    }
    struct node *at = nodes;
    for (long i = 0; i < rounds * N; i++) sum += at->value ^ i, at = at->next;
    printf("%ld\n", sum);
}
