/* What `polyvm demo` runs: a few small computations whose results are easy to check. */
#include "start.h"

static unsigned char composite[200000];
static unsigned int table[256];

static unsigned long primes(void)
{
    unsigned long count = 0;
    for (unsigned long i = 2; i < sizeof composite; i++) {
        if (composite[i])
            continue;
        count++;
        for (unsigned long j = i * i; j < sizeof composite; j += i)
            composite[j] = 1;
    }
    return count;
}

static unsigned long fibonacci(unsigned n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

static unsigned int crc32(void)
{
    for (unsigned i = 0; i < 256; i++) {
        unsigned c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0xEDB88320U ^ c >> 1 : c >> 1;
        table[i] = c;
    }
    unsigned int crc = ~0U;
    for (unsigned long round = 0; round < 20; round++)
        for (unsigned long i = 0; i < sizeof composite; i++)
            crc = table[(crc ^ composite[i]) & 255] ^ crc >> 8;
    return ~crc;
}

static void mandelbrot(void)
{
    for (int row = 0; row < 21; row++) {
        char line[66];
        for (int column = 0; column < 64; column++) {
            double cr = -2.1 + column * 0.045, ci = -1.2 + row * 0.12, r = 0, i = 0;
            int n = 0;
            while (n < 1000 && r * r + i * i < 4.0) {
                double t = r * r - i * i + cr;
                i = 2 * r * i + ci;
                r = t;
                n++;
            }
            line[column] = n == 1000 ? '#' : n > 12 ? '+' : n > 5 ? '.' : ' ';
        }
        line[64] = '\n';
        line[65] = 0;
        print(line);
    }
}

int main(void)
{
    mandelbrot();
    print("primes below 200000:  ");
    print_number(primes());
    print("\nfibonacci(27):        ");
    print_number(fibonacci(27));
    print("\ncrc32 of the sieve:   ");
    print_number(crc32());
    print("\n");
    return 0;
}
