"""FRECPE and FRSQRTE: estimates of reciprocals as numbers (Arm ARM, FPRecipEstimate and FPRSqrtEstimate), lane by lane.

What is not an estimate is the result of a division that is chosen to have the same result and to raise the same flags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I32, Type
from polyvm.ir.ops import FLUSH, FLUSH_HALF, UNDERFLOW
from polyvm.isa.aarch64.floats import BY_BITS
from polyvm.isa.aarch64.simd_estimate import estimates, root_estimates
from polyvm.isa.aarch64.simd_float import as_integers, as_numbers, infinity

if TYPE_CHECKING:
    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64


def _flushing(b: A64, bits: int) -> Value:
    """i1: subnormal numbers count as 0."""
    return (b.fp_rm() & (FLUSH_HALF if bits == 16 else FLUSH)).ne(0)


def _spread(b: A64, x: Value, type_: Type) -> Value:
    """A scalar in all lanes of `type_`."""
    return b.splat(x, type_.lanes) if type_.lanes > 1 else x


def _looked_up(b: A64, index: Value, *, roots: bool) -> Value:
    """The estimates for a vector of any length, or a scalar."""
    type_ = index.type
    whole = index if type_.lanes > 1 else b.splat(index, 128 // type_.bits)
    while whole.type.total_bits < 128:
        whole = b.shuffle(whole, whole, [*range(whole.type.lanes)] * 2)
    found = root_estimates(b, whole) if roots else estimates(b, whole)
    return b.shuffle(found, found, range(type_.lanes))


def reciprocal_estimate(b: A64, x: Value, mode: Value) -> Value:
    """FRECPE."""
    fmt = BY_BITS[x.type.bits]
    bits = as_integers(x)
    type_ = bits.type
    size, sign = bits & (fmt.sign - 1), bits & fmt.sign
    flushing = _flushing(b, fmt.bits)
    least = _spread(b, b.select(flushing, b.const(type_.element, 1 << fmt.mantissa), 1), type_)
    endless = infinity(type_)
    is_nan, is_zero = size.ugt(endless), size.ult(least)
    # The reciprocal would be too large.
    tiny = size.ult(1 << (fmt.mantissa - 2)) & ~is_zero
    one = b.const(type_, type_.splat(fmt.bias << fmt.mantissa))
    largest, smallest = endless - 1, 1 << fmt.mantissa
    dividend = b.select(is_nan, bits, b.select(tiny, sign | largest, one))
    divisor = b.select(is_zero, bits, b.select(tiny, b.const(type_, type_.splat(smallest)), one))
    special = as_integers(b.fp("fdiv", as_numbers(dividend), as_numbers(divisor), rm=mode))

    fraction, exponent = size & ((1 << fmt.mantissa) - 1), size >> fmt.mantissa
    # A subnormal number that is large enough has one of the top two bits of the fraction set.
    subnormal = exponent.eq(0)
    upper = (fraction >> (fmt.mantissa - 1)).ne(0)
    shift = b.select(subnormal, b.select(upper, b.coerce(1, type_), 2), 0)
    exponent = b.select(subnormal, b.select(upper, b.coerce(0, type_), -1), exponent)
    scaled = ((fraction << shift) >> (fmt.mantissa - 8) & 0xFF) | 0x100
    estimate = _looked_up(b, scaled, roots=False) << (fmt.mantissa - 8)
    result_exponent = b.coerce(2 * fmt.bias - 1, type_) - exponent
    ones = 1 << fmt.mantissa
    low = b.select(result_exponent.eq(0), (estimate | ones) >> 1, (estimate | ones) >> 2)
    normal = result_exponent.sgt(0)
    result = sign | b.select(normal, result_exponent << fmt.mantissa | estimate, low)
    # Too small a result is 0 where those are flushed.
    huge = size.uge((2 * fmt.bias - 1) << fmt.mantissa) & size.ult(endless) & _spread(b, flushing, type_.compared)
    b.fp_raise(b.select(_any(b, huge), b.const(I32, UNDERFLOW), 0))
    result = b.select(size.eq(endless) | huge, sign, result)
    return as_numbers(b.select(is_nan | is_zero | tiny, special, result))


def _any(b: A64, lanes: Value) -> Value:
    """i1: one of the lanes holds."""
    type_ = lanes.type
    return lanes if type_.lanes == 1 else lanes.bitcast(Type("int", type_.lanes)).ne(0)


def root_estimate(b: A64, x: Value, mode: Value) -> Value:
    """FRSQRTE."""
    fmt = BY_BITS[x.type.bits]
    bits = as_integers(x)
    type_ = bits.type
    size, sign = bits & (fmt.sign - 1), bits & fmt.sign
    least = _spread(b, b.select(_flushing(b, fmt.bits), b.const(type_.element, 1 << fmt.mantissa), 1), type_)
    endless = infinity(type_)
    is_nan, is_zero = size.ugt(endless), size.ult(least)
    negative = sign.ne(0) & ~is_zero & ~is_nan
    one, zero = b.const(type_, type_.splat(fmt.bias << fmt.mantissa)), b.const(type_, 0)
    dividend = b.select(is_nan, bits, b.select(negative, zero, one))
    divisor = b.select(is_zero, bits, b.select(negative, zero, one))
    special = as_integers(b.fp("fdiv", as_numbers(dividend), as_numbers(divisor), rm=mode))

    # Subnormal numbers are shifted until the leading bit is where normal ones have it.
    exponent = size >> fmt.mantissa
    leading = size.clz() - (fmt.bits - 1 - fmt.mantissa)
    subnormal = exponent.eq(0) & ~is_zero
    fraction = size << b.select(subnormal, leading, 0) & ((1 << fmt.mantissa) - 1)
    exponent = b.select(subnormal, b.coerce(1, type_) - leading, exponent)
    even = (exponent & 1).eq(0)
    scaled = fraction >> (fmt.mantissa - 8)
    scaled = b.select(even, scaled | 0x100, scaled >> 1 | 0x80)
    estimate = _looked_up(b, scaled, roots=True) << (fmt.mantissa - 8)
    result = (b.coerce(3 * fmt.bias - 1, type_) - exponent).asr(1) << fmt.mantissa | estimate
    result = b.select(size.eq(endless), 0, result)
    return as_numbers(b.select(is_nan | is_zero | negative, special, result))
