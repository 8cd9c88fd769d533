#include <stdio.h>
#include <stdlib.h>
static unsigned table[256];
static unsigned char data[1 << 18];
int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    for (unsigned i = 0; i < 256; i++) {
        unsigned c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xEDB88320u ^ c >> 1 : c >> 1;
        table[i] = c;
    }
    for (unsigned i = 0; i < sizeof data; i++) data[i] = i * 7 + (i >> 8);
    unsigned crc = ~0u;
    while (rounds--)
        for (unsigned i = 0; i < sizeof data; i++) crc = table[(crc ^ data[i]) & 255] ^ crc >> 8;
    printf("%u\n", ~crc);
}
