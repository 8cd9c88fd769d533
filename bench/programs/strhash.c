#include <stdio.h>
#include <stdlib.h>
static char words[4096][16];
static unsigned counts[8192];
int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    for (int i = 0; i < 4096; i++) snprintf(words[i], 16, "word%dx%d", i, i * 7);
    unsigned long total = 0;
    while (rounds--)
        for (int i = 0; i < 4096; i++) {
            unsigned h = 2166136261u;
            for (const char *p = words[i]; *p; p++) h = (h ^ (unsigned char)*p) * 16777619u;
            total += ++counts[h & 8191] + h;
        }
    printf("%lu\n", total);
}
