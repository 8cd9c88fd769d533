"""Rounding said a second time, in fractions: what `polyvm.ir.softfloat` is compared with where no host can do it."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from polyvm.ir.ops import INEXACT, OVERFLOW, RDN, RMM, RNE, RTZ, RUP, UNDERFLOW

if TYPE_CHECKING:
    from polyvm.ir.softfloat import Format


def number(f: Format, a: int) -> Fraction:
    """The finite number that `a` stands for (IEEE 754-2019, 3.4)."""
    exponent, fraction = a >> f.mantissa & f.exponents, Fraction(a % (1 << f.mantissa), 1 << f.mantissa)
    size = (1 + fraction) * two_to(exponent - f.bias) if exponent else fraction * two_to(1 - f.bias)
    return -size if a & f.sign else size


def two_to(n: int) -> Fraction:
    """2**n."""
    return Fraction(1 << n) if n >= 0 else Fraction(1, 1 << -n)


def binade(x: Fraction) -> int:
    """The n with 2**n <= |x| < 2**(n + 1)."""
    n = x.numerator.bit_length() - x.denominator.bit_length()
    return n if abs(x) >= two_to(n) else n - 1


def choose(x: Fraction, step: Fraction, rm: int) -> Fraction:
    """The multiple of `step` that rounding takes for `x`."""
    below = x // step * step
    if below == x:
        return x
    above = below + step
    if rm in (RNE, RMM):
        if x - below != above - x:
            return below if x - below < above - x else above
        if rm == RMM:
            return max(below, above, key=abs)
        return below if below / step % 2 == 0 else above
    return {RTZ: min(below, above, key=abs), RDN: below, RUP: above}[rm]


def rounded(f: Format, x: Fraction, rm: int) -> tuple[Fraction | None, int]:
    """`x`, not zero, rounded to `f` (None: to infinity), and the flags (7.4, 7.5, 7.6)."""
    n = binade(x)
    free = choose(x, two_to(n - f.mantissa), rm)
    result = choose(x, two_to(max(n, f.emin) - f.mantissa), rm)
    largest = number(f, f.inf - 1)
    if abs(free) > largest:
        to_inf = rm in (RNE, RMM) or rm == (RUP if x > 0 else RDN)
        return None if to_inf else (largest if x > 0 else -largest), OVERFLOW | INEXACT
    flags = 0 if result == x else INEXACT
    if flags and abs(free) < two_to(f.emin):
        flags |= UNDERFLOW
    return result, flags
