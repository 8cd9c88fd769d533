/* A compressor: matches by hash, then bits of variable length; and back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
enum { SIZE = 1 << 16, HASH = 1 << 13 };
static unsigned char text[SIZE + 8], packed[2 * SIZE], back[SIZE + 300];
static int heads[HASH], before[SIZE];
static unsigned long bits;
static int count;
static unsigned char *out;
static const unsigned char *in;
static void put(unsigned value, int n)
{
    bits |= (unsigned long)value << count, count += n;
    while (count >= 8) *out++ = bits, bits >>= 8, count -= 8;
}
static unsigned get(int n)
{
    while (count < n) bits |= (unsigned long)*in++ << count, count += 8;
    unsigned value = bits & ((1u << n) - 1);
    bits >>= n, count -= n;
    return value;
}
static void gamma_put(unsigned v)
{
    int n = 31 - __builtin_clz(v);
    put(1u << n, n + 1), put(v & ((1u << n) - 1), n);
}
static unsigned gamma_get(void)
{
    int n = 0;
    while (!get(1)) n++;
    return 1u << n | get(n);
}
static long compress(void)
{
    out = packed, bits = count = 0;
    memset(heads, -1, sizeof heads);
    for (int i = 0; i < SIZE;) {
        int best = 0, where = 0, length;
        unsigned h = ((text[i] | text[i + 1] << 8 | text[i + 2] << 16) * 2654435761u) >> 19;
        for (int j = heads[h], tries = 12; j >= 0 && tries--; j = before[j]) {
            for (length = 0; length < 200 && i + length < SIZE && text[j + length] == text[i + length]; length++) {}
            if (length > best) best = length, where = i - j;
        }
        length = best > 3 ? best : 1;
        if (best > 3) put(1, 1), gamma_put(best), gamma_put(where);
        else put(0, 1), put(text[i], 8);
        for (; length--; i++) {
            h = ((text[i] | text[i + 1] << 8 | text[i + 2] << 16) * 2654435761u) >> 19;
            before[i] = heads[h], heads[h] = i;
        }
    }
    put(0, 16);
    return out - packed;
}
static void expand(void)
{
    in = packed, bits = count = 0;
    for (int i = 0; i < SIZE;)
        if (get(1)) {
            int length = gamma_get(), where = gamma_get();
            for (; length--; i++) back[i] = back[i - where];
        } else
            back[i++] = get(8);
}
int main(int argc, char **argv)
{
    static const char *const words[] = {"the ", "quick ", "brown ", "fox ", "jumps", "over\n", "a ", "lazy ", "dog. ", "0123", "return ", ";\n"};
    long rounds = argc > 1 ? atol(argv[1]) : 1, total = 0;
    while (rounds--) {
        unsigned seed = rounds % 4;
        for (int i = 0; i < SIZE;) {
            seed = seed * 1103515245u + 12345u;
            const char *word = words[(seed >> 16) % 12];
            for (; *word && i < SIZE; word++) text[i++] = *word;
        }
        total += compress();
        expand();
        if (memcmp(text, back, SIZE)) return 1;
    }
    printf("%ld\n", total);
}
