#include "start.h"

int main(void)
{
    print("Hello from riscv64\n");
    return 0;
}
