"""The closed set of IR operations.

Each row: name, kinds of the arguments, rule for the result, and what the operation touches. An instruction of a
guest is always a combination of these; adding one never adds an operation.

Argument kinds   ``i`` integer, ``f`` float, ``a`` any type, ``c`` i1, ``p`` i64 guest or host address, ``m`` i8 rounding
                 mode; a capital letter means "the same type as the first argument"; ``*`` any number of anything
Result rules     ``same`` as the first argument, ``bool`` an i1 for each lane, ``type`` given by the ``type`` attribute,
                 ``none`` no result
Touches          ``-`` pure, ``s`` guest state, ``m`` guest memory, ``e`` floating-point environment, ``h`` host memory,
                 ``c`` control
"""

from __future__ import annotations


class OpSpec:
    """One row of the table."""

    __slots__ = ("args", "attrs", "name", "result", "touches")

    def __init__(self, name: str, args: str, result: str, touches: str, attrs: str) -> None:
        self.name = name
        self.args = args
        self.result = result
        self.touches = touches
        self.attrs = tuple(attrs.split(",")) if attrs else ()


_ROWS = """
# constants and inputs
const       -    type  -  value            the bits of a value (floats, too, by their bits)
operand     -    type  -  name             an operand of the instruction, in a stage where it is not known
param       -    type  -  index            a parameter of a native function
# integer arithmetic, modulo 2**bits
add         iI   same  -  -
sub         iI   same  -  -
mul         iI   same  -  -
udiv        iI   same  -  -                undefined for a zero divisor
sdiv        iI   same  -  -                truncates; undefined for a zero divisor and for overflow
urem        iI   same  -  -                undefined for a zero divisor
srem        iI   same  -  -                sign of the dividend; undefined as sdiv
and         iI   same  -  -
or          iI   same  -  -
xor         iI   same  -  -
shl         iI   same  -  -                undefined for an amount >= bits, as are the next two
lshr        iI   same  -  -
ashr        iI   same  -  -
rotl        iI   same  -  -                the amount counts modulo bits
rotr        iI   same  -  -
clz         i    same  -  -                bits for zero
ctz         i    same  -  -                bits for zero
popcount    i    same  -  -
bswap       i    same  -  -
bitreverse  i    same  -  -
clmul       iI   same  -  -                carry-less product, low half
clmulh      iI   same  -  -                carry-less product, high half
uadd_sat    iI   same  -  -                saturates, as the next three
sadd_sat    iI   same  -  -
usub_sat    iI   same  -  -
ssub_sat    iI   same  -  -
# comparisons
eq          iI   bool  -  -
ne          iI   bool  -  -
ult         iI   bool  -  -
ule         iI   bool  -  -
slt         iI   bool  -  -
sle         iI   bool  -  -
# conversions and choice
zext        i    type  -  -
sext        i    type  -  -
trunc       i    type  -  -
bitcast     a    type  -  -                the same bits as another type of the same total width
select      caA  arg1  -  -                an i1 for the whole, or one for each lane
# vectors: what is above goes lane by lane; lane 0 is the lowest
splat       a    type  -  -
lane        ai   type  -  -                undefined for an index beyond the lanes, as the next
with_lane   aai  same  -  -
shuffle     aA   type  -  lanes            lane numbers count through both arguments
tbl         iI   same  -  -                v16i8: the first argument's lanes that the second's name; 0 for 16 and more
aes_sub     i    same  -  -                v16i8: SubBytes and ShiftRows of FIPS 197
aes_isub    i    same  -  -                their inverses
aes_mix     i    same  -  -                MixColumns
aes_imix    i    same  -  -                its inverse
# floating point: IEEE 754-2019; flags accrue in the environment. rules, none: a NaN result is the canonical quiet NaN, tiny
# results are detected after rounding; propagate: NaNs come from operands, the first signaling one, else the first quiet one (fma:
# of c, a, b), tiny results are detected before rounding, and the environment's mode counts (DEFAULT_NAN …)
fadd        fFm  same  e  rules            m: 0 RNE, 1 RTZ, 2 RDN, 3 RUP, 4 RMM, 7 the environment's mode
fsub        fFm  same  e  rules
fmul        fFm  same  e  rules
fdiv        fFm  same  e  rules
fsqrt       fm   same  e  rules
fma         fFFm same  e  rules            a * b + c, rounded once; invalid for inf * 0 + quiet NaN
fmin        fFm  same  e  rules            the smaller one, -0 below +0; NaN if either is; exact, as the next
fmax        fFm  same  e  rules
frint       fm   same  e  exact,rules      to an integral value; exact: raises inexact
feq         fF   bool  e  signaling,silent,rules  false if unordered; signaling: a quiet NaN is invalid; silent: no flag is
flt         fF   bool  e  signaling,silent,rules  … raised: it has been before
fle         fF   bool  e  signaling,silent,rules
f2f         fm   type  e  inner,rules      inner: half precision is flushed like others, and has infinities and NaNs
f2si        fm   type  e  rules            saturates, invalid outside the range; NaN gives 0
f2ui        fm   type  e  rules
si2f        im   type  e  rules
ui2f        im   type  e  rules
fp_flags    -    type  e  -                accrued flags, i32: INEXACT …
fp_setflags i    none  e  -
fp_raise    i    none  e  -
fp_rm       -    type  e  -                the environment's mode as it was written, i32: rounding mode, DEFAULT_NAN …
fp_setrm    i    none  e  -
rounding    m    type  e  -                makes a checked mode the one of this instruction's arithmetic; answers it
# guest state
get         *    type  s  slot             argument, if any: the index into the register file
set         *    none  s  slot             arguments: index (if dynamic or not 0), value
pc          -    type  s  -                address of this instruction
next_pc     -    type  s  -                address of the next one in memory
instret     -    type  s  -                instructions completed before this one
ticks       -    type  h  -                nanoseconds of a clock that only goes forward
# guest memory
load        p    type  m  order            order: none, acq, rel, acqrel, seqcst
store       pa   none  m  order
amo         pa   arg1  m  rmw,order        rmw: xchg add and or xor max min umax umin; answers the old value
cmpxchg     paA  arg1  m  order            address, expected, new; answers the old value
fence       -    none  m  order
probe       p    none  m  size,access      faults as an access of that kind would; touches nothing
# control inside a body
if          c    none  c  then,else
loop        -    none  c  body
break_if    c    none  c  -                leaves the innermost loop
local       a    type  c  name             a mutable variable; the argument is its first value
local_get   *    type  c  -
local_set   *    none  c  -
# where the guest goes next
jump        p    none  c  -                to an address known from the instruction alone
branch      cp   none  c  -                the same if the condition holds, else to next_pc
indirect    p    none  c  hint             to a computed address; hint: none, call, ret
exit        *    none  c  code             leaves to the runtime; pc stays that of this instruction
# native functions only
hload       p    type  h  offset
hstore      pa   none  h  offset
hamo        pa   arg1  h  rmw,offset
host_fp     p    none  h  save,load        saves the host's FP control word at one offset, loads it from another
entry_sp    -    type  h  -                the host's stack pointer when this function was entered
save_bp     p    none  h  offset           writes the host register that calls preserve to the record, at that offset
address_of  -    type  -  name             of a function or table of the same module
call        *    type  h  callee
tailcall    *    none  c  callee           callee may be a name; empty: the first argument is the address
ret         *    none  c  -
"""


def _parse() -> dict[str, OpSpec]:
    table: dict[str, OpSpec] = {}
    for line in _ROWS.splitlines():
        if not line or line.startswith("#"):
            continue
        name, args, result, touches, attrs = line.split()[:5]
        table[name] = OpSpec(name, "" if args == "-" else args, result, touches, "" if attrs == "-" else attrs)
    return table


OPS: dict[str, OpSpec] = _parse()

# Rounding-mode operands of the floating-point operations.
RNE, RTZ, RDN, RUP, RMM, ENV = 0, 1, 2, 3, 4, 7

# Accrued-exception bits; the last: a subnormal operand was taken for zero.
INEXACT, UNDERFLOW, OVERFLOW, DIVZERO, INVALID, SUBNORMAL = 1, 2, 4, 8, 16, 32

# Bits of the environment's mode, beside the rounding mode in bits 2 to 0: NaN results are the canonical NaN; subnormal single and
# double precision operands and results become zero; so do those of half precision; in conversions, half precision has no
# infinities and NaNs.
FLUSH_HALF, FLUSH, DEFAULT_NAN, ALT_HALF = 1 << 19, 1 << 24, 1 << 25, 1 << 26
ROUNDING = 7
