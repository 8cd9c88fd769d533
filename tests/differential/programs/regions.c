/* What regions do in ways of their own: words put together from bytes, tables near other things, jumps to many places, calls and
   returns from many, and accesses beside what they are made from that are refused. Prints sums. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))
typedef unsigned long u64;
typedef unsigned int u32;
typedef unsigned char u8;

static sigjmp_buf back;
static void caught(int number) { siglongjmp(back, number); }

/* Bytes are stored and loaded as words; between them another pointer stores to the same place, or beside it. */
NOINLINE static u64 bytes(volatile u8 *to, volatile u8 *other, const u8 *from)
{
    u64 sum = 0;
    to[0] = from[0], to[1] = from[1], to[2] = from[2], to[3] = from[3];
    sum = *(volatile u32 *)to;
    to[4] = from[4], to[5] = from[5], to[6] = from[6], to[7] = from[7];
    sum = sum * 31 + *(volatile u64 *)to;
    to[0] = 1, to[1] = 2, to[2] = 3, to[3] = 4;
    other[1] = from[9];
    sum = sum * 31 + *(volatile u32 *)to;
    *(volatile unsigned short *)to = 0x8081, *(volatile unsigned short *)(to + 2) = from[3];
    sum = sum * 31 + *(volatile int *)to;
    *(volatile u32 *)(to + 2) = 0xdeadbeef;
    sum = sum * 31 + *(volatile u32 *)to;
    to[0] = from[1];
    return sum * 31 + *(volatile unsigned short *)(to + 1) + *(volatile signed char *)to;
}

/* Elements of a table that are found by a byte, forward and back. */
NOINLINE static u64 table(const u32 *middle, const u8 *indices, long n)
{
    u64 sum = 0;
    for (long i = 0; i < n; i++) {
        sum = sum * 33 + middle[indices[i]];
        sum ^= middle[-(long)(indices[i] & 63)];
        sum += *(const unsigned short *)((const char *)middle + (indices[i] >> 1 << 1) + 6);
    }
    return sum;
}

NOINLINE static u64 machine(const u8 *code, u64 rounds)
{
    static void *const labels[] = {&&zero, &&one, &&two, &&three, &&four, &&five, &&six, &&seven, &&eight, &&nine, &&ten, &&end};
    u64 a = 1, b = 2;
    const u8 *at = code;
#define NEXT goto *labels[*at++]
    NEXT;
zero: a += b; NEXT;
one: b ^= a << 3; NEXT;
two: a = a * 7 + 1; NEXT;
three: b -= a >> 5; NEXT;
four: a ^= b; NEXT;
five: b = b << 7 | b >> 57; NEXT;
six: a += at - code; NEXT;
seven: if (a & 1) at += 1; NEXT;
eight: b += *at & 3; NEXT;
nine: a ^= a >> 11; NEXT;
ten: b *= 5; NEXT;
end: if (--rounds) { at = code; NEXT; }
    return a ^ b;
}

NOINLINE static u64 leaf(u64 x, u64 y) { return x * 3 ^ y >> 1; }
NOINLINE static u64 tree(u64 n, u64 x) { return n < 2 ? leaf(n, x) : tree(n - 1, x + 1) + leaf(tree(n - 2, x), n); }

/* The first refused access of a walk: where it was, and what had been done. */
NOINLINE static long walk(volatile u32 *base, const u8 *steps, long n)
{
    static volatile long done;
    done = 0;
    if (sigsetjmp(back, 1)) return done;
    for (long i = 0; i < n; i++) base += 251, base[steps[i] & 15] = i, done += base[steps[i] & 7] + 1;
    return -1;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 1;
    static u8 area[64], indices[256], code[300];
    static u32 values[1024];
    u64 sum = 0;
    struct sigaction action = {.sa_handler = caught};
    sigaction(SIGSEGV, &action, 0);
    for (int i = 0; i < 1024; i++) values[i] = i * 2654435761u;
    for (int i = 0; i < 256; i++) indices[i] = i * 167 + 13;
    for (int i = 0; i < 299; i++) code[i] = (i * 7 + i / 11) % 11;
    code[297] = code[298] = code[299] = 11;
    while (rounds--) {
        for (int i = 0; i < 40; i++) sum = sum * 31 + bytes(area + i % 9 * 4 % 32, area + (i % 5 + i % 3), indices + i);
        sum = sum * 31 + table(values + 128, indices, 256);
        sum = sum * 31 + machine(code, 40);
        sum = sum * 31 + tree(13, sum & 1023);
        volatile u32 *heap = malloc(1 << 20);
        memset((void *)heap, 0, 1 << 20);
        sum = sum * 31 + (walk(heap, indices, 200) < 0);
        sum = sum * 31 + (walk((volatile u32 *)-(1l << (20 + rounds % 40)), indices, 20) == 0);
        free((void *)heap);
    }
    printf("%lx\n", sum);
}
