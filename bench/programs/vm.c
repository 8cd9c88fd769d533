/* A bytecode interpreter's loop: indirect jumps that depend on data. */
#include <stdio.h>
#include <stdlib.h>
enum { PUSH, ADD, SUB, MUL, DUP, SWAP, LOAD, STORE, JNZ, AND, SHR, XOR, HALT };
static long run(const int *code, long n)
{
    long stack[64], vars[8] = {n, 1, 2, 3, 0, 0, 0, 0}, *sp = stack;
    const int *pc = code;
    static void *const labels[] = {&&push, &&add, &&sub, &&mul, &&dup, &&swap, &&load, &&store, &&jnz, &&and_, &&shr, &&xor_, &&halt};
#define NEXT goto *labels[*pc++]
    NEXT;
push: *sp++ = *pc++; NEXT;
add: sp--; sp[-1] += sp[0]; NEXT;
sub: sp--; sp[-1] -= sp[0]; NEXT;
mul: sp--; sp[-1] *= sp[0]; NEXT;
dup: sp[0] = sp[-1]; sp++; NEXT;
swap: { long t = sp[-1]; sp[-1] = sp[-2]; sp[-2] = t; } NEXT;
load: *sp++ = vars[*pc++]; NEXT;
store: vars[*pc++] = *--sp; NEXT;
jnz: { int at = *pc++; if (*--sp) pc = code + at; } NEXT;
and_: sp--; sp[-1] &= sp[0]; NEXT;
shr: sp--; sp[-1] = (unsigned long)sp[-1] >> sp[0]; NEXT;
xor_: sp--; sp[-1] ^= sp[0]; NEXT;
halt: return vars[1];
}
int main(int argc, char **argv)
{
    /* v1 = (v1 * 31 + v0) ^ (v1 >> 7); v0 = v0 - 1; until v0 is 0 */
    static const int code[] = {LOAD, 1, DUP, PUSH, 31, MUL, LOAD, 0, ADD, SWAP, PUSH, 7, SHR, XOR, STORE, 1,
                               LOAD, 0, PUSH, 1, SUB, DUP, STORE, 0, JNZ, 0, HALT};
    long rounds = argc > 1 ? atol(argv[1]) : 1, sum = 0;
    while (rounds--) sum += run(code, 100000);
    printf("%ld\n", sum);
}
