"""The environment's mode (`ir/ops.py`) in the rounding-mode table: what of it an instruction has to ask for.

Byte m of the table is 0 if arithmetic with mode operand m may go ahead. The last one, of the environment's own mode, has a bit
for each thing that may be in the way, of which most matter to few instructions.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.ir.value import Region, Value

FLUSH_HALF, FLUSH, ALT_HALF, ROUNDING, SUBNORMAL = 1 << 19, 1 << 24, 1 << 26, 7, 32  # as in `ir/ops.py`
# The host cannot round so; subnormal numbers become zero, of half precision; alternative half precision.
ROUNDS, FLUSHES, FLUSHES_HALF, ALTERNATIVE = 1, 2, 4, 8
MARKS = ((FLUSH, FLUSHES), (FLUSH_HALF, FLUSHES_HALF), (ALT_HALF, ALTERNATIVE))
TABLE = 0x0001_0101_0101_0101  # with no mode but the environment's
HOST_FLUSHES = 0x8040  # bits of the host's control register (MXCSR): DAZ, FTZ
_FLOATING = frozenset("fadd fsub fmul fdiv fsqrt fma fmin fmax frint feq flt fle f2f f2si f2ui".split())


def rounding_table(mode: int) -> int:
    """The table in an environment with this mode."""
    marks = sum(mark for bit, mark in MARKS if mode & bit)
    if mode & ROUNDING >= 4:
        return TABLE | (marks | ROUNDS) << 56
    return TABLE ^ 1 << 8 * (mode & 3) | marks << 56


def marks_of(body: Region) -> int:
    """What matters to the operations of a body."""
    found = ROUNDS
    for v in body.ops:
        if v.op == "if":
            found |= marks_of(v.attrs["then"]) | marks_of(v.attrs["else"])
        elif v.op == "loop":
            found |= marks_of(v.attrs["body"])
        elif v.op in _FLOATING and v.attrs.get("rules") and not v.attrs.get("silent"):
            found |= _marks(v)
    return found


def _marks(v: Value) -> int:
    bits = {v.args[0].type.bits, v.type.bits} if v.op == "f2f" else {v.args[0].type.bits}
    found = FLUSHES if bits & {32, 64} and v.args[0].type.bits > 16 else 0
    if 16 in bits:
        # A conversion between formats does not flush half precision.
        found |= FLUSHES_HALF if v.op != "f2f" or v.attrs.get("inner") else ALTERNATIVE
    return found
