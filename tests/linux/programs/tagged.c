/* Pointers with a tag: aarch64 ignores the top byte of addresses, riscv64 does not. */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sigjmp_buf back;

static void fault(int number) { siglongjmp(back, number); }

__attribute__((noinline)) static uint64_t sum(volatile uint64_t *p, int n)
{
    uint64_t s = 0;
    for (int i = 0; i < n; i++)
        p[i] = s += p[i] + i;
    return s;
}

int main(void)
{
    static uint64_t data[64];
    uint64_t *tagged = (uint64_t *)((uintptr_t)data | 0xA5ULL << 56);
    signal(SIGSEGV, fault);
    if (!sigsetjmp(back, 1)) {
        uint64_t total = 0;
        for (int round = 0; round < 8; round++)
            total ^= sum(round & 1 ? tagged : data, 64);
        __atomic_fetch_add(tagged, 5, __ATOMIC_SEQ_CST);
        memcpy(tagged + 8, tagged + 1, 40);
        printf("%llx %llx %llx\n", (unsigned long long)total, (unsigned long long)data[0], (unsigned long long)data[9]);
    } else
        printf("a tag is part of the address\n");
    if (!sigsetjmp(back, 1))
        printf("%d\n", *(volatile char *)(0x5AULL << 56));
    else
        printf("a tag does not make NULL an address\n");
    return 0;
}
