/* A hash table of allocated nodes: pointers, malloc and free. */
#include <stdio.h>
#include <stdlib.h>
enum { BUCKETS = 1 << 12 };
static struct node { struct node *next; unsigned key; long value; } *table[BUCKETS];
static unsigned place(unsigned key) { return (key * 2654435761u) >> 20; }
static struct node *find(unsigned key)
{
    struct node *n = table[place(key)];
    while (n && n->key != key) n = n->next;
    return n;
}
int main(int argc, char **argv)
{
    long rounds = (argc > 1 ? atol(argv[1]) : 1) * 10000, live = 0, sum = 0;
    unsigned seed = 1;
    while (rounds--) {
        seed = seed * 1664525u + 1013904223u;
        unsigned key = (seed >> 10) % 16000;
        struct node *n = find(key);
        if (!n) {
            n = malloc(sizeof *n);
            *n = (struct node){table[place(key)], key, 0};
            table[place(key)] = n;
            live++;
        } else if (n->value > 3) {
            struct node **link = &table[place(key)];
            while (*link != n) link = &(*link)->next;
            *link = n->next;
            free(n);
            live--;
            continue;
        }
        sum += ++n->value;
    }
    printf("%ld %ld\n", live, sum);
}
