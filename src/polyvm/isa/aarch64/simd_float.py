"""What the bodies of Advanced SIMD instructions on floating point share: registers as vectors of numbers, steps of iterations.

Lanes that an arrangement does not have must raise nothing, so vectors here are as short as the arrangement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import F32, Type
from polyvm.ir.ops import FLUSH, FLUSH_HALF
from polyvm.isa.aarch64.floats import BY_BITS, number_or
from polyvm.isa.aarch64.simd import D2, SD, SH, SS, Arrangement, H, S, read, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64

    # of two vectors, and the rounding mode
    Binary = Callable[[A64, Value, Value, Value], Value]
    Unary = Callable[[A64, Value, Value], Value]

FLOATS = (*H, *S, D2)
SCALARS = (SH, SS, SD)


def extension(a: Arrangement) -> str:
    """What brings instructions on this format."""
    return "FP16" if a.bits == 16 else "AdvSIMD"


def integers(b: A64, register: Value, a: Arrangement) -> Value:
    """The lanes of an arrangement, or the scalar, as integers."""
    whole = read(b, register, a.type)
    return whole if a.keep == 128 else b.shuffle(whole, whole, range(a.lanes))


def numbers(b: A64, register: Value, a: Arrangement) -> Value:
    """The same as numbers."""
    return as_numbers(integers(b, register, a))


def as_numbers(value: Value) -> Value:
    """The same bits as numbers."""
    return value.bitcast(value.type.with_kind("float"))


def as_integers(value: Value) -> Value:
    """The same bits as integers."""
    return value.bitcast(value.type.with_kind("int"))


def put(b: A64, register: Value, value: Value) -> None:
    """Write a vector or a scalar of numbers; the rest of the register becomes 0."""
    write(b, register, as_integers(value))


def of_all(b: A64, type_: Type, bits: int) -> Value:
    """A vector of numbers with these bits in each lane."""
    return b.const(type_, type_.splat(bits))


def sign(type_: Type) -> int:
    """The sign bit of a lane."""
    return 1 << (type_.bits - 1)


def negated(value: Value) -> Value:
    """With the other sign, NaNs too."""
    return as_numbers(as_integers(value) ^ sign(value.type))


def magnitude(value: Value) -> Value:
    """Without sign, as integers."""
    return as_integers(value) & (sign(value.type) - 1)


def infinity(type_: Type) -> int:
    """The bits of plus infinity."""
    fmt = BY_BITS[type_.bits]
    return fmt.nan & ~(1 << (fmt.mantissa - 1))


def arithmetic(op: str) -> Binary:
    """An operation of the IR."""
    return lambda b, n, m, mode: b.fp(op, n, m, rm=mode)


def number(op: str) -> Binary:
    """fmin or fmax, where a number is preferred to a quiet NaN."""
    return lambda b, n, m, mode: b.fp(op, *number_or(b, op, n, m), rm=mode)


def _zero(b: A64, value: Value) -> Value:
    """i1: a zero, or what FPCR says to take for one."""
    size, fmt = magnitude(value), BY_BITS[value.type.bits]
    flushed = (b.fp_rm() & (FLUSH_HALF if fmt.bits == 16 else FLUSH)).ne(0)
    least = b.select(flushed, b.const(size.type.element, 1 << fmt.mantissa), 1)
    lanes = size.type.lanes
    return size.ult(b.splat(least, lanes) if lanes > 1 else least)


def without_invalid(b: A64, n: Value, m: Value) -> tuple[Value, Value, Value]:
    """i1: one is infinite, the other 0; and both numbers, the infinite one then 0. The other one stays: that it is subnormal is
    noted where it is used."""
    endless = infinity(n.type)
    first, second = magnitude(n).eq(endless) & _zero(b, m), magnitude(m).eq(endless) & _zero(b, n)
    zero = b.const(n.type, 0)
    return first | second, b.select(first, zero, n), b.select(second, zero, m)


def extended_product(b: A64, n: Value, m: Value, mode: Value) -> Value:
    """FMULX: infinity times 0 is 2, with the sign of the product."""
    odd, x, y = without_invalid(b, n, m)
    fmt = BY_BITS[n.type.bits]
    two = (as_integers(n) ^ as_integers(m)) & fmt.sign | (fmt.bias + 1) << fmt.mantissa
    return b.select(odd, as_numbers(two), b.fp("fmul", x, y, rm=mode))


def reciprocal_step(b: A64, n: Value, m: Value, mode: Value) -> Value:
    """FRECPS: 2 - n m, rounded once; infinity times 0 counts as 0."""
    _, x, y = without_invalid(b, n, m)
    fmt = BY_BITS[n.type.bits]
    two = of_all(b, n.type, (fmt.bias + 1) << fmt.mantissa)
    return b.fp("fma", negated(x), y, two, rm=mode)


def root_step(b: A64, n: Value, m: Value, mode: Value) -> Value:
    """FRSQRTS: (3 - n m) / 2, rounded once; infinity times 0 counts as 0.

    It is 1.5 - n m / 2, where the larger one is halved; if that is too small to be halved exactly, the product only matters for
    not being 0.
    """
    _, x, y = without_invalid(b, n, m)
    fmt = BY_BITS[n.type.bits]
    p, q = as_integers(negated(x)), as_integers(y)
    first = (q & (fmt.sign - 1)).ult(p & (fmt.sign - 1))
    p, q = b.select(first, _halved(b, p), p), b.select(first, q, _halved(b, q))
    three_halves = of_all(b, n.type, fmt.bias << fmt.mantissa | 1 << (fmt.mantissa - 1))
    return b.fp("fma", as_numbers(p), as_numbers(q), three_halves, rm=mode)


def _halved(b: A64, bits: Value) -> Value:
    fmt = BY_BITS[bits.type.bits]
    size = bits & (fmt.sign - 1)
    inside = size.ult(infinity(bits.type)) & size.uge(2 << fmt.mantissa)
    return b.select(inside, bits - (1 << fmt.mantissa), bits)


def wide_halves(b: A64, bits: Value) -> Value:
    """Numbers of half precision, as integers, in single precision: exact, and signaling NaNs stay so."""
    type_ = F32.vector(bits.type.lanes) if bits.type.lanes > 1 else F32
    size = bits & 0x7FFF
    is_nan = size.ugt(0x7C00)
    plain = b.fconvert("f2f", as_numbers(b.select(is_nan, 0, bits)), type_, b.fp_mode(), inner=True)
    integer = type_.with_kind("int")
    full = bits.zext(integer)
    nan = (full & 0x8000) << 16 | 0x7F80_0000 | (full & 0x3FF) << 13
    return as_numbers(b.select(is_nan, nan, as_integers(plain)))
