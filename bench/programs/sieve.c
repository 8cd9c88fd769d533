#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static unsigned char composite[1 << 20];
int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    unsigned long count = 0;
    while (rounds--) {
        memset(composite, 0, sizeof composite);
        for (unsigned i = 2; i < sizeof composite; i++) {
            if (composite[i])
                continue;
            count++;
            for (unsigned j = 2 * i; j < sizeof composite; j += i)
                composite[j] = 1;
        }
    }
    printf("%lu\n", count);
}
