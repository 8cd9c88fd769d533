/* What aarch64 tells a program about its processor: AT_HWCAP, AT_HWCAP2, and the identification registers S3_0_C0_Cm_op2. */
#include <stdio.h>
#include <sys/auxv.h>

#define READ(crm, op2)                                                          \
    {                                                                           \
        unsigned long value;                                                    \
        __asm__ volatile("mrs %0, s3_0_c0_c" #crm "_" #op2 : "=r"(value));       \
        printf("%d %d %lx\n", crm, op2, value);                                  \
    }
#define ROW(crm) READ(crm, 0) READ(crm, 1) READ(crm, 2) READ(crm, 3) READ(crm, 4) READ(crm, 5) READ(crm, 6) READ(crm, 7)

int main(void)
{
    printf("%lx %lx\n", getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
    READ(0, 0) READ(0, 5) READ(0, 6)
    ROW(4) ROW(5) ROW(6) ROW(7)
    fflush(stdout); /* qemu does not have the rest, AArch32's */
    ROW(2) ROW(3)
    return 0;
}
