"""Integer operations on constants: the one definition that the builder folds with and the evaluator runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.errors import EvaluationError
from polyvm.ir.aes import STEPS
from polyvm.ir.types import Type

if TYPE_CHECKING:
    from collections.abc import Callable


def _nonzero(b: int) -> int:
    if b == 0:
        raise EvaluationError("division by zero is undefined in the IR; guard it with select")
    return b


def _sdiv(t: Type, a: int, b: int) -> int:
    x, y = t.signed(a), _nonzero(t.signed(b))
    q = abs(x) // abs(y)
    q = -q if (x < 0) != (y < 0) else q
    if q >> (t.bits - 1) not in (0, -1):
        raise EvaluationError("signed division overflows, which is undefined in the IR")
    return q


def _srem(t: Type, a: int, b: int) -> int:
    return t.signed(a) - t.signed(b) * _sdiv(t, a, b)


def _amount(t: Type, b: int) -> int:
    if b >= t.bits:
        raise EvaluationError(f"shift of {t} by {b} is undefined in the IR; mask the amount")
    return b


def _clmul(a: int, b: int) -> int:
    r = 0
    while b:
        low = b & -b
        r ^= a * low
        b ^= low
    return r


def _bswap(t: Type, a: int) -> int:
    return int.from_bytes(a.to_bytes(t.bits // 8, "little"), "big")


def _clamp(t: Type, signed: bool, value: int) -> int:
    low, high = (-1 << (t.bits - 1), t.mask >> 1) if signed else (0, t.mask)
    return min(max(value, low), high)


def _rotl(t: Type, a: int, n: int) -> int:
    n %= t.bits
    return (a << n) | (a >> (t.bits - n))


BINARY: dict[str, Callable[[Type, int, int], int]] = {
    "add": lambda t, a, b: a + b,
    "sub": lambda t, a, b: a - b,
    "mul": lambda t, a, b: a * b,
    "udiv": lambda t, a, b: a // _nonzero(b),
    "sdiv": _sdiv,
    "urem": lambda t, a, b: a % _nonzero(b),
    "srem": _srem,
    "and": lambda t, a, b: a & b,
    "or": lambda t, a, b: a | b,
    "xor": lambda t, a, b: a ^ b,
    "shl": lambda t, a, b: a << _amount(t, b),
    "lshr": lambda t, a, b: a >> _amount(t, b),
    "ashr": lambda t, a, b: t.signed(a) >> _amount(t, b),
    "rotl": _rotl,
    "rotr": lambda t, a, b: _rotl(t, a, -b),
    "clmul": lambda t, a, b: _clmul(a, b),
    "clmulh": lambda t, a, b: _clmul(a, b) >> t.bits,
    "uadd_sat": lambda t, a, b: _clamp(t, False, a + b),
    "sadd_sat": lambda t, a, b: _clamp(t, True, t.signed(a) + t.signed(b)),
    "usub_sat": lambda t, a, b: _clamp(t, False, a - b),
    "ssub_sat": lambda t, a, b: _clamp(t, True, t.signed(a) - t.signed(b)),
}

UNARY: dict[str, Callable[[Type, int], int]] = {
    "clz": lambda t, a: t.bits - a.bit_length(),
    "ctz": lambda t, a: (a & -a).bit_length() - 1 if a else t.bits,
    "popcount": lambda t, a: a.bit_count(),
    "bswap": _bswap,
    "bitreverse": lambda t, a: int(format(a, f"0{t.bits}b")[::-1], 2),
}

COMPARE: dict[str, Callable[[Type, int, int], bool]] = {
    "eq": lambda t, a, b: a == b,
    "ne": lambda t, a, b: a != b,
    "ult": lambda t, a, b: a < b,
    "ule": lambda t, a, b: a <= b,
    "slt": lambda t, a, b: t.signed(a) < t.signed(b),
    "sle": lambda t, a, b: t.signed(a) <= t.signed(b),
}


LANEWISE = frozenset({*BINARY, *UNARY, *COMPARE, "zext", "sext", "trunc", "select"})


def tbl(table: int, indices: int) -> int:
    """The bytes of a 16-byte `table` that the bytes of `indices` name, 0 where one is beyond it."""
    entries, wanted = table.to_bytes(16, "little"), indices.to_bytes(16, "little")
    return int.from_bytes(bytes(entries[i] if i < 16 else 0 for i in wanted), "little")


def fold(op: str, type_: Type, arg_types: list[Type], args: list[int]) -> int | None:
    """The bits of operation `op` on constants, or None if `op` is not an integer operation; vectors go lane by lane.

    `type_` is the result's type, `arg_types` the arguments'. Raises EvaluationError where the IR leaves the result undefined.
    """
    first = arg_types[0]
    if type_.lanes == 1 and first.lanes == 1:
        return fold_lane(op, type_, first, args)
    if op == "tbl":
        return tbl(*args)
    if op in STEPS:
        return STEPS[op](*args)
    if op == "bitcast" or (op == "select" and first.lanes == 1):
        return fold_lane(op, Type("int", type_.total_bits), Type("int", first.total_bits), args)
    if op not in LANEWISE:
        return None
    columns = [t.split(bits) for t, bits in zip(arg_types, args, strict=True)]
    lanes = [fold_lane(op, type_.element, first.element, [*row]) for row in zip(*columns, strict=True)]
    return type_.join(lane for lane in lanes if lane is not None)


def fold_lane(op: str, type_: Type, arg_type: Type, args: list[int]) -> int | None:
    """The bits of scalar operation `op` on constants, or None if `op` is not an integer operation.

    `type_` is the result's type, `arg_type` the first argument's. Raises EvaluationError where the IR leaves the
    result undefined.
    """
    if (binary := BINARY.get(op)) is not None:
        return binary(arg_type, args[0], args[1]) & type_.mask
    if (compare := COMPARE.get(op)) is not None:
        return int(compare(arg_type, args[0], args[1]))
    if (unary := UNARY.get(op)) is not None:
        return unary(arg_type, args[0]) & type_.mask
    if op == "select":
        return args[1] if args[0] else args[2]
    if op in ("zext", "trunc", "bitcast"):
        return args[0] & type_.mask
    if op == "sext":
        return arg_type.signed(args[0]) & type_.mask
    return None
