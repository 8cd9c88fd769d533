"""IEEE 754-2019 binary arithmetic on bit patterns, in plain integers: obvious, not fast.

An operation decodes its operands to sign, integer and exponent, computes exactly, and rounds once in `round_pack`. Each
answers ``(bits, flags)``, with rounding modes and flags as in `polyvm.ir.ops`. What the standard leaves open, `Rules` say.
Section numbers are the standard's.

>>> add(F32, 0x3F800000, 0x33800000, RNE)  # 1 + 2**-24
(1065353216, 1)
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

from polyvm.ir.ops import (
    ALT_HALF,
    DEFAULT_NAN,
    DIVZERO,
    FLUSH,
    FLUSH_HALF,
    INEXACT,
    INVALID,
    OVERFLOW,
    RDN,
    RMM,
    RNE,
    RTZ,
    RUP,
    SUBNORMAL,
    UNDERFLOW,
)

Result = tuple[int, int]


class Rules(NamedTuple):
    """What the standard leaves open. `propagate`: a result that is NaN comes from an operand (the first signaling one, else the
    first quiet one, made quiet), else it is the canonical NaN. `before`: tininess is detected before rounding (7.5). `flush`, and
    `flush_half` for half precision: subnormal operands and results become zero, as SUBNORMAL (single and double) and UNDERFLOW
    say. `alternative`: half precision has numbers where there would be infinities and NaNs, in conversions."""

    propagate: bool = False
    before: bool = False
    flush: bool = False
    flush_half: bool = False
    alternative: bool = False

    def flushes(self, f: Format) -> bool:
        """True if subnormal numbers of `f` become zero."""
        return self.flush_half if f.bits == 16 else self.flush


CANONICAL = Rules()


def rules_of(environment: int) -> Rules:
    """The rules of operations that propagate NaNs, in an environment whose mode (`fp_rm`) is given."""
    on = [environment & bit != 0 for bit in (FLUSH, FLUSH_HALF, ALT_HALF)]
    return Rules(not environment & DEFAULT_NAN, True, *on)


class Format:
    """A binary interchange format (3.4): `bits` in all, `mantissa` of them for the fraction."""

    __slots__ = ("bias", "bits", "emin", "exponents", "inf", "mantissa", "name", "nan", "sign")

    def __init__(self, name: str, bits: int, mantissa: int) -> None:
        self.name = name
        self.bits = bits
        self.mantissa = mantissa
        self.exponents = (1 << (bits - 1 - mantissa)) - 1  # the biased exponent of infinities and NaNs
        self.bias = self.exponents >> 1
        self.emin = 1 - self.bias
        self.sign = 1 << (bits - 1)
        self.inf = self.exponents << mantissa
        self.nan = self.inf | 1 << (mantissa - 1)

    def __repr__(self) -> str:
        return self.name

    def is_nan(self, a: int) -> bool:
        """True for a quiet or signaling NaN."""
        return a & ~self.sign > self.inf

    def is_signaling(self, a: int) -> bool:
        """True for a signaling NaN: the first fraction bit is clear (6.2.1)."""
        return self.is_nan(a) and not a >> (self.mantissa - 1) & 1

    def is_inf(self, a: int) -> bool:
        """True for an infinity."""
        return a & ~self.sign == self.inf

    def is_zero(self, a: int) -> bool:
        """True for a zero."""
        return a & ~self.sign == 0

    def negative(self, a: int) -> int:
        """The sign bit."""
        return a >> (self.bits - 1)

    def zero(self, sign: int) -> int:
        """A zero."""
        return sign << (self.bits - 1)

    def infinity(self, sign: int) -> int:
        """An infinity."""
        return self.zero(sign) | self.inf

    def decode(self, a: int) -> tuple[int, int, int]:
        """A finite number as ``(sign, m, e)``: (-1)**sign * m * 2**e."""
        exponent = a >> self.mantissa & self.exponents
        fraction = a & (1 << self.mantissa) - 1
        if exponent:
            fraction |= 1 << self.mantissa
        return self.negative(a), fraction, max(exponent, 1) - self.bias - self.mantissa


F16 = Format("f16", 16, 10)
BF16 = Format("bf16", 16, 7)
F32 = Format("f32", 32, 23)
F64 = Format("f64", 64, 52)
F128 = Format("f128", 128, 112)
FORMATS = {f.bits: f for f in (F16, F32, F64, F128)}


def round_to(sign: int, m: int, e: int, quantum: int, rm: int) -> tuple[int, bool]:
    """The magnitude m * 2**e as a multiple of 2**quantum (4.3), and whether that differs from it."""
    shift = quantum - e
    if shift <= 0:
        return m << -shift, False
    kept, lost, half = m >> shift, m & (1 << shift) - 1, 1 << (shift - 1)
    if rm == RNE:
        up = lost > half or (lost == half and kept & 1 == 1)
    elif rm == RMM:
        up = lost >= half
    elif rm == RDN:
        up = lost > 0 and sign == 1
    elif rm == RUP:
        up = lost > 0 and sign == 0
    elif rm == RTZ:
        up = False
    else:
        raise ValueError(f"no such rounding mode: {rm}")
    return kept + up, lost != 0


def round_pack(f: Format, sign: int, m: int, e: int, rm: int, rules: Rules = CANONICAL) -> Result:
    """(-1)**sign * m * 2**e in format `f`."""
    if m == 0:
        return f.zero(sign), 0
    top = m.bit_length() - 1 + e
    if top < f.emin and rules.flushes(f):
        return f.zero(sign), UNDERFLOW
    quantum = max(top, f.emin) - f.mantissa
    kept, inexact = round_to(sign, m, e, quantum, rm)
    # The first bit of a normal number adds one to the exponent below it; so does a carry out of the fraction.
    biased = quantum + f.mantissa + f.bias - 1
    packed = (biased << f.mantissa) + kept
    if packed >= f.inf:
        to_inf = rm in (RNE, RMM) or rm == (RDN if sign else RUP)
        return f.zero(sign) | (f.inf if to_inf else f.inf - 1), OVERFLOW | INEXACT
    flags = INEXACT if inexact else 0
    if inexact and top < f.emin:
        unbounded, _ = round_to(sign, m, e, top - f.mantissa, rm)
        if rules.before or top < f.emin - 1 or unbounded < 2 << f.mantissa:
            flags |= UNDERFLOW
    return f.zero(sign) | packed, flags


def _invalid(f: Format) -> Result:
    return f.nan, INVALID


def _quiet(f: Format, a: int) -> int:
    return a | 1 << (f.mantissa - 1)


def _nan(f: Format, *args: int, rules: Rules) -> Result | None:
    """The result where an operand is a NaN (6.2)."""
    if not any(f.is_nan(a) for a in args):
        return None
    signaling = [a for a in args if f.is_signaling(a)]
    chosen = (signaling or [a for a in args if f.is_nan(a)])[0] if rules.propagate else f.nan
    return _quiet(f, chosen), INVALID if signaling else 0


def flushed(f: Format, a: int, rules: Rules) -> Result:
    """An operand, and what is raised as it is read."""
    if a & ~f.sign and not a >> f.mantissa & f.exponents and rules.flushes(f):
        return a & f.sign, 0 if f.bits == 16 else SUBNORMAL
    return a, 0


def _sum(f: Format, x: tuple[int, int, int], y: tuple[int, int, int], rm: int, rules: Rules) -> Result:
    """The sum of two decoded numbers; an exact zero from operands that differ in sign is -0 only under RDN (6.3)."""
    e = min(x[2], y[2])
    total = sum((-m if sign else m) << (exponent - e) for sign, m, exponent in (x, y))
    if total == 0:
        return f.zero(x[0] if x[0] == y[0] else int(rm == RDN)), 0
    return round_pack(f, int(total < 0), abs(total), e, rm, rules)


def add(f: Format, a: int, b: int, rm: int, rules: Rules = CANONICAL) -> Result:
    """a + b."""
    if (nan := _nan(f, a, b, rules=rules)) is not None:
        return nan
    if f.is_inf(a):
        return _invalid(f) if f.is_inf(b) and a != b else (a, 0)
    if f.is_inf(b):
        return b, 0
    return _sum(f, f.decode(a), f.decode(b), rm, rules)


def sub(f: Format, a: int, b: int, rm: int, rules: Rules = CANONICAL) -> Result:
    """a - b."""
    if (nan := _nan(f, a, b, rules=rules)) is not None:
        return nan
    return add(f, a, b ^ f.sign, rm, rules)


def mul(f: Format, a: int, b: int, rm: int, rules: Rules = CANONICAL) -> Result:
    """a * b."""
    if (nan := _nan(f, a, b, rules=rules)) is not None:
        return nan
    sign = f.negative(a) ^ f.negative(b)
    if f.is_inf(a) or f.is_inf(b):
        return _invalid(f) if f.is_zero(a) or f.is_zero(b) else (f.infinity(sign), 0)
    (_, ma, ea), (_, mb, eb) = f.decode(a), f.decode(b)
    return round_pack(f, sign, ma * mb, ea + eb, rm, rules)


def div(f: Format, a: int, b: int, rm: int, rules: Rules = CANONICAL) -> Result:
    """a / b."""
    if (nan := _nan(f, a, b, rules=rules)) is not None:
        return nan
    sign = f.negative(a) ^ f.negative(b)
    if f.is_inf(a):
        return _invalid(f) if f.is_inf(b) else (f.infinity(sign), 0)
    if f.is_inf(b):
        return f.zero(sign), 0
    if f.is_zero(b):
        return _invalid(f) if f.is_zero(a) else (f.infinity(sign), DIVZERO)
    (_, ma, ea), (_, mb, eb) = f.decode(a), f.decode(b)
    # Two bits more than any rounding looks at, then one that says whether anything is left.
    shift = max(0, f.mantissa + 3 + mb.bit_length() - ma.bit_length())
    quotient, rest = divmod(ma << shift, mb)
    return round_pack(f, sign, quotient << 1 | (rest != 0), ea - eb - shift - 1, rm, rules)


def sqrt(f: Format, a: int, rm: int, rules: Rules = CANONICAL) -> Result:
    """The square root; that of -0 is -0 (5.4.1)."""
    if (nan := _nan(f, a, rules=rules)) is not None:
        return nan
    if f.is_zero(a):
        return a, 0
    if f.negative(a):
        return _invalid(f)
    if f.is_inf(a):
        return a, 0
    _, m, e = f.decode(a)
    shift = 2 * (f.mantissa + 3)
    shift += (e - shift) & 1
    m <<= shift
    root = isqrt(m)
    return round_pack(f, 0, root << 1 | (root * root != m), (e - shift) // 2 - 1, rm, rules)


def fma(f: Format, a: int, b: int, c: int, rm: int, rules: Rules = CANONICAL) -> Result:
    """a * b + c, rounded once; inf * 0 is invalid whatever c is (7.2 c leaves that open for a quiet NaN). Where NaNs propagate, c
    comes before a and b, and that NaN from inf * 0 before a quiet one."""
    if not f.is_signaling(c) and ((f.is_inf(a) and f.is_zero(b)) or (f.is_zero(a) and f.is_inf(b))):
        return _invalid(f)
    if (nan := _nan(f, c, a, b, rules=rules)) is not None:
        return nan
    sign = f.negative(a) ^ f.negative(b)
    if f.is_inf(a) or f.is_inf(b):
        return _invalid(f) if c == f.infinity(1 - sign) else (f.infinity(sign), 0)
    if f.is_inf(c):
        return c, 0
    (_, ma, ea), (_, mb, eb) = f.decode(a), f.decode(b)
    return _sum(f, (sign, ma * mb, ea + eb), f.decode(c), rm, rules)


def minimum(f: Format, a: int, b: int, rm: int, rules: Rules = CANONICAL) -> Result:
    """The smaller one, with -0 below +0; NaN if either is (9.6)."""
    if (nan := _nan(f, a, b, rules=rules)) is not None:
        return nan
    return min(a, b, key=lambda x: (_ordered(f, x), -f.negative(x))), 0


def maximum(f: Format, a: int, b: int, rm: int, rules: Rules = CANONICAL) -> Result:
    """The larger one (9.6)."""
    if (nan := _nan(f, a, b, rules=rules)) is not None:
        return nan
    return max(a, b, key=lambda x: (_ordered(f, x), -f.negative(x))), 0


def rint(f: Format, a: int, rm: int, exact: bool, rules: Rules = CANONICAL) -> Result:
    """`a` as an integral number (5.9); raises inexact only if `exact`."""
    if (nan := _nan(f, a, rules=rules)) is not None:
        return nan
    if f.is_inf(a):
        return a, 0
    sign, m, e = f.decode(a)
    whole, inexact = round_to(sign, m, e, max(e, 0), rm)
    return round_pack(f, sign, whole, max(e, 0), rm)[0], INEXACT if inexact and exact else 0


def _ordered(f: Format, a: int) -> int:
    """An integer that orders as the numbers do; both zeros give 0."""
    return -(a ^ f.sign) if f.negative(a) else a


def _unordered(f: Format, a: int, b: int, signaling: bool) -> Result | None:
    if not (f.is_nan(a) or f.is_nan(b)):
        return None
    return 0, INVALID if signaling or f.is_signaling(a) or f.is_signaling(b) else 0


def eq(f: Format, a: int, b: int, signaling: bool) -> Result:
    """a = b (5.11); `signaling`: a quiet NaN is invalid, too."""
    return _unordered(f, a, b, signaling) or (int(_ordered(f, a) == _ordered(f, b)), 0)


def lt(f: Format, a: int, b: int, signaling: bool) -> Result:
    """a < b."""
    return _unordered(f, a, b, signaling) or (int(_ordered(f, a) < _ordered(f, b)), 0)


def le(f: Format, a: int, b: int, signaling: bool) -> Result:
    """a <= b."""
    return _unordered(f, a, b, signaling) or (int(_ordered(f, a) <= _ordered(f, b)), 0)


def f2f(source: Format, target: Format, a: int, rm: int, rules: Rules = CANONICAL) -> Result:
    """`a` in another format (5.4.2)."""
    half_target, half_source = (rules.alternative and f.bits == 16 for f in (target, source))
    sign = source.negative(a)
    if half_source and a & source.inf == source.inf:
        return round_pack(target, sign, a & (1 << source.mantissa) - 1 | 1 << source.mantissa, 16 - source.mantissa, rm)
    if source.is_nan(a):
        if half_target:
            return target.zero(sign), INVALID
        payload = a & (1 << source.mantissa) - 1
        shift = target.mantissa - source.mantissa
        payload = payload << shift if shift > 0 else payload >> -shift
        nan = _quiet(target, target.infinity(sign) | payload) if rules.propagate else target.nan
        return nan, INVALID if source.is_signaling(a) else 0
    if source.is_inf(a):
        return (target.sign - 1 | target.zero(sign), INVALID) if half_target else (target.infinity(sign), 0)
    decoded = source.decode(a)
    if half_target:
        return _alternative(target, *decoded, rm)
    return round_pack(target, *decoded, rm, rules)


def _alternative(f: Format, sign: int, m: int, e: int, rm: int) -> Result:
    """A number in half precision without infinities: what is too large is invalid and becomes the largest."""
    if m == 0:
        return f.zero(sign), 0
    top = m.bit_length() - 1 + e
    quantum = max(top, f.emin) - f.mantissa
    kept, inexact = round_to(sign, m, e, quantum, rm)
    packed = (quantum + f.mantissa + f.bias - 1 << f.mantissa) + kept
    if packed >= f.sign:
        return f.zero(sign) | f.sign - 1, INVALID
    flags = (INEXACT | UNDERFLOW if top < f.emin else INEXACT) if inexact else 0
    return f.zero(sign) | packed, flags


def _to_int(f: Format, a: int, rm: int, low: int, high: int) -> Result:
    """`a` rounded to an integer from `low` to `high` (5.8); saturated and invalid outside, 0 and invalid for a NaN."""
    if f.is_nan(a):
        return 0, INVALID
    if f.is_inf(a):
        return low if f.negative(a) else high, INVALID
    sign, m, e = f.decode(a)
    whole, inexact = round_to(sign, m, e, 0, rm)
    value = -whole if sign else whole
    if not low <= value <= high:
        return low if sign else high, INVALID
    return value, INEXACT if inexact else 0


def f2si(f: Format, bits: int, a: int, rm: int) -> Result:
    """`a` as a signed integer of `bits` bits, in two's complement."""
    value, flags = _to_int(f, a, rm, -1 << (bits - 1), (1 << (bits - 1)) - 1)
    return value & (1 << bits) - 1, flags


def f2ui(f: Format, bits: int, a: int, rm: int) -> Result:
    """`a` as an unsigned integer of `bits` bits."""
    return _to_int(f, a, rm, 0, (1 << bits) - 1)


def si2f(f: Format, bits: int, a: int, rm: int, rules: Rules = CANONICAL) -> Result:
    """The signed integer `a` of `bits` bits, in two's complement, as a number."""
    sign = a >> (bits - 1)
    return round_pack(f, sign, (1 << bits) - a if sign else a, 0, rm, rules)


def ui2f(f: Format, bits: int, a: int, rm: int, rules: Rules = CANONICAL) -> Result:
    """The unsigned integer `a` as a number; `bits` is its width."""
    del bits
    return round_pack(f, 0, a, 0, rm, rules)
