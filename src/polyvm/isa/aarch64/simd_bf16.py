"""Arithmetic on BFloat16 as dot products have it (Arm ARM, BFDotAdd without FEAT_EBF16): single precision, rounded to odd after
each step, subnormal numbers are zero, NaNs the default NaN; FPCR does not matter and FPSR does not change. So it is done with
integers, lane by lane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I32, I64, Type
from polyvm.ir.ops import DEFAULT_NAN, FLUSH, INEXACT, INVALID, OVERFLOW, RNE, ROUNDING, RTZ, RUP, SUBNORMAL, UNDERFLOW

if TYPE_CHECKING:
    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64

_SIGN, _INFINITY, _LEAST, _NAN = 1 << 31, 0x7F80_0000, 0x0080_0000, 0x7FC0_0000
_GUARD = 32  # bits below the fraction while numbers are added


def _of(b: A64, type_: Type, bits: int) -> Value:
    return b.const(type_, type_.splat(bits))


def _packed(b: A64, sign: Value, exponent: Value, fraction: Value) -> Value:
    """A number with its leading bit at 23 in `fraction`; what is too large is infinite, what is too small 0 (BFRound)."""
    body = (exponent << 23) + (fraction & 0x7F_FFFF)
    body = b.select(exponent.sge(_of(b, exponent.type, 255)), _of(b, body.type, _INFINITY), body)
    return sign | b.select(exponent.slt(_of(b, exponent.type, 1)), _of(b, body.type, 0), body)


def product(b: A64, n: Value, m: Value) -> Value:
    """BFMulH, of numbers in single precision whose low halves are 0: exact but for its range."""
    sign = (n ^ m) & _SIGN
    sizes = [x & _SIGN - 1 for x in (n, m)]
    exponents = [x >> 23 for x in sizes]
    # Eight bits each.
    raw = (sizes[0] >> 16 & 0x7F | 0x80) * (sizes[1] >> 16 & 0x7F | 0x80)
    above = raw >> 15
    exponent = exponents[0] + exponents[1] - 127 + above
    result = _packed(b, sign, exponent, b.select(above.ne(0), raw << 8, raw << 9))
    zero = [x.ult(_LEAST) for x in sizes]
    endless = [x.eq(_INFINITY) for x in sizes]
    nan = [x.ugt(_INFINITY) for x in sizes]
    result = b.select(endless[0] | endless[1], sign | _INFINITY, b.select(zero[0] | zero[1], sign, result))
    wrong = nan[0] | nan[1] | (zero[0] & endless[1]) | (zero[1] & endless[0])
    return b.select(wrong, _of(b, n.type, _NAN), result)


def total(b: A64, n: Value, m: Value) -> Value:
    """BFAdd."""
    narrow, wide = n.type, I64.vector(n.type.lanes)
    n, m = (b.select((x & _SIGN - 1).ult(_LEAST), x & _SIGN, x) for x in (n, m))
    swap = (n & _SIGN - 1).ult(m & _SIGN - 1)
    large, small = b.select(swap, m, n), b.select(swap, n, m)
    sizes = [x & _SIGN - 1 for x in (large, small)]
    top, bottom = (b.select(x.eq(0), 0, x & 0x7F_FFFF | _LEAST).zext(wide) << _GUARD for x in sizes)
    apart = ((sizes[0] >> 23) - (sizes[1] >> 23)).zext(wide)
    apart = b.select(apart.ugt(63), 63, apart)
    moved = bottom >> apart
    lost = b.select((moved << apart).ne(bottom), _of(b, wide, 1), 0)
    opposite = ((n ^ m) & _SIGN).ne(0)
    result = b.select(opposite, top - moved - lost, top + moved) | lost
    # The leading bit goes to the top.
    leading = result.clz()
    nothing = result.eq(0)
    raised = result << b.select(nothing, 0, leading)
    fraction = raised >> 40 | b.select((raised & (1 << 40) - 1).ne(0), _of(b, wide, 1), 0)
    exponent = (sizes[0] >> 23) - leading.trunc(narrow) + (63 - 23 - _GUARD)
    sign = large & _SIGN
    packed = _packed(b, sign, exponent, fraction.trunc(narrow))
    packed = b.select(nothing, b.select(opposite, 0, sign), packed)
    endless = [x.eq(_INFINITY) for x in sizes]
    packed = b.select(endless[0], sign | _INFINITY, packed)
    wrong = sizes[0].ugt(_INFINITY) | sizes[1].ugt(_INFINITY) | (endless[0] & endless[1] & opposite)
    return b.select(wrong, _of(b, narrow, _NAN), packed)


def dot_added(b: A64, addend: Value, n: Value, m: Value) -> Value:
    """BFDotAdd: the products of the lower and of the upper halves of each lane of 32 bits, added to `addend`."""
    lower, upper = product(b, n << 16, m << 16), product(b, n & 0xFFFF_0000, m & 0xFFFF_0000)
    return total(b, addend, total(b, lower, upper))


def _spread(b: A64, x: Value, type_: Type) -> Value:
    return b.splat(x, type_.lanes) if type_.lanes > 1 else x


def _noted(b: A64, lanes: Value, flags: int) -> Value:
    """Flags that are raised if one of the lanes holds."""
    found = lanes if lanes.type.lanes == 1 else lanes.bitcast(Type("int", lanes.type.lanes)).ne(0)
    return b.select(found, b.const(I32, flags), 0)


def converted(b: A64, n: Value) -> Value:
    """FPConvertBF: bits of single precision rounded to BFloat16, in the lower half of each lane."""
    mode = b.fp_rm()
    rounding, size, sign = mode & ROUNDING, n & _SIGN - 1, n & _SIGN
    tiny, nan, endless = size.ult(_LEAST) & size.ne(0), size.ugt(_INFINITY), size.eq(_INFINITY)
    flushed = tiny & _spread(b, (mode & FLUSH).ne(0), tiny.type)
    quiet = (n & 0x40_0000).ne(0)
    # Up goes what is nearer to the next number, or what is rounded to the side of its sign.
    nearest, to_zero, up = (_spread(b, rounding.eq(kind), tiny.type) for kind in (RNE, RTZ, RUP))
    outward = b.select(up ^ sign.ne(0), _of(b, n.type, 0xFFFF), 0)
    added = b.select(nearest, (n >> 16 & 1) + 0x7FFF, b.select(to_zero, 0, outward))
    rounded = size + added & 0xFFFF_0000
    inexact = (n & 0xFFFF).ne(0) & ~(nan | flushed)
    flags = _noted(b, inexact, INEXACT) | _noted(b, inexact & tiny, UNDERFLOW) | _noted(b, flushed, SUBNORMAL)
    flags = flags | _noted(b, rounded.eq(_INFINITY) & ~endless & ~nan, OVERFLOW) | _noted(b, nan & ~quiet, INVALID)
    b.fp_raise(flags)
    kept = b.select(_spread(b, (mode & DEFAULT_NAN).ne(0), tiny.type), _of(b, n.type, _NAN), n | 0x40_0000)
    return b.select(nan, kept, sign | b.select(flushed, 0, rounded)) >> 16
