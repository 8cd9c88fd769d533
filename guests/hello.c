#include "start.h"

int main(void)
{
    print("Hello from " ARCHITECTURE "\n");
    return 0;
}
