"""Strategies for floating-point bit patterns, with what tends to go wrong emphasised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from polyvm.ir.softfloat import Format


def specials(f: Format) -> list[int]:
    """Zeros, the ends of the subnormal and normal numbers, one, powers near the integers' limits, infinities, NaNs."""
    least_normal = 1 << f.mantissa
    one = f.bias << f.mantissa
    positive = [0, 1, 2, least_normal - 1, least_normal, least_normal + 1, one - 1, one, one + 1, f.inf - 1, f.inf,
                f.nan, f.inf | 1, f.nan | 5, f.sign - 1]  # fmt: skip
    for power in (-1, 1, 7, 8, 15, 16, 31, 32, 62, 63, 64):
        if power < f.bias:
            middle = (f.bias + power) << f.mantissa
            positive += [middle - 1, middle, middle + 1, middle | 1 << (f.mantissa - 1)]
    return positive + [p | f.sign for p in positive]


def floats(f: Format) -> st.SearchStrategy[int]:
    """Bit patterns of `f`: special ones, ones with short or nearly full fractions (so that sums and products are ties
    and carries), subnormal ones, any."""
    fractions = st.one_of(
        st.integers(0, (1 << f.mantissa) - 1),
        st.integers(0, f.mantissa - 1).map(lambda i: 1 << i),
        st.integers(0, 3),
        st.integers(0, 3).map(lambda i: (1 << f.mantissa) - 1 - i),
        st.integers(0, 15).map(lambda i: i << (f.mantissa - 4)),
    )
    exponents = st.one_of(
        st.integers(0, f.exponents - 1),
        st.integers(f.bias - f.mantissa - 3, f.bias + f.mantissa + 3).map(lambda e: min(max(e, 0), f.exponents - 1)),
        st.integers(0, 3),
        st.integers(f.exponents - 4, f.exponents - 1),
    )
    shaped = st.tuples(st.integers(0, 1), exponents, fractions).map(lambda t: t[0] << (f.bits - 1) | t[1] << f.mantissa | t[2])
    return st.one_of(shaped, shaped, st.sampled_from(specials(f)), st.integers(0, (1 << f.bits) - 1))


def integers(bits: int) -> st.SearchStrategy[int]:
    """Unsigned integers of `bits` bits: the ends, around powers of two, long runs of ones, any."""
    mask = (1 << bits) - 1
    near = st.tuples(st.integers(0, bits), st.integers(-2, 2)).map(lambda t: ((1 << t[0]) + t[1]) & mask)
    runs = st.tuples(st.integers(0, bits), st.integers(0, bits)).map(lambda t: (1 << t[0]) - (1 << t[1]) & mask)
    ends = st.sampled_from([0, 1, mask, mask >> 1, (mask >> 1) + 1])
    return st.one_of(ends, near, runs, st.integers(0, mask))
