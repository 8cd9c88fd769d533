"""Arithmetic of Advanced SIMD on lanes: halving, saturation, shifts by signed amounts, products (Arm ARM, C7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import Type
from polyvm.isa.aarch64.simd import high, low, narrowed, splat, widened

if TYPE_CHECKING:
    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.aarch64.simd import Saturated


def shifted(x: Value, amount: Value | int, *, signed: bool) -> Value:
    """`x` shifted right, by less than its lanes' bits."""
    return x.asr(amount) if signed else x >> amount


def top(type_: Type) -> int:
    """The most negative number of a lane."""
    return 1 << (type_.bits - 1)


def halved_sum(n: Value, m: Value, *, signed: bool, rounding: bool = False) -> Value:
    """(n + m) / 2, rounded down or (`rounding`) half up: no bit of the sum is lost."""
    difference = shifted(n ^ m, 1, signed=signed)
    return (n | m) - difference if rounding else (n & m) + difference


def halved_difference(n: Value, m: Value, *, signed: bool) -> Value:
    """(n - m) / 2, rounded down."""
    # n - m = (n ^ m) - 2 (~n & m)
    return shifted(n ^ m, 1, signed=signed) - (~n & m)


def saturating_add(n: Value, m: Value, *, signed: bool) -> Saturated:
    """n + m."""
    result = n.sadd_sat(m) if signed else n.uadd_sat(m)
    return result, result ^ (n + m)


def saturating_subtract(n: Value, m: Value, *, signed: bool) -> Saturated:
    """n - m."""
    result = n.ssub_sat(m) if signed else n.usub_sat(m)
    return result, result ^ (n - m)


def _amounts(m: Value) -> tuple[Value, Value, Value]:
    """Of shifts by register: the signed amount, which is the low byte of each lane; how far that is to the left and to the
    right, modulo the bits of a lane."""
    bits = m.type.bits
    amount = (m << (bits - 8)).asr(bits - 8) if bits > 8 else m
    return amount, amount & (bits - 1), -amount


def _shifted_right(b: A64, n: Value, far: Value, *, signed: bool, rounding: bool) -> Value:
    """n shifted right by `far`, 1 to 128 in each lane."""
    bits = n.type.bits
    nearly = (far - 1).umin(bits - 1)
    before = shifted(n, nearly, signed=signed)
    result = shifted(before, 1, signed=signed)
    if rounding:
        result = result + (before & 1)
    if signed:
        return result
    # What is left of an unsigned number is its top bit, for a shift by all bits and rounding.
    return b.select(far.ugt(bits), 0, result)


def shift(b: A64, n: Value, m: Value, *, signed: bool, rounding: bool = False) -> Value:
    """SSHL, USHL, SRSHL, URSHL: to the right where the amount is negative."""
    bits = n.type.bits
    amount, left_by, far = _amounts(m)
    left = b.select(amount.ult(bits), n << left_by, 0)
    if rounding:
        right = _shifted_right(b, n, far, signed=signed, rounding=True)
    elif signed:
        right = n.asr(far.umin(bits - 1))
    else:
        right = b.select(far.ult(bits), n >> (far & (bits - 1)), 0)
    return b.select(amount.slt(0), right, left)


def limit(b: A64, n: Value) -> Value:
    """The number that a signed `n` saturates to: the largest, or the smallest where n is negative."""
    bits = n.type.bits
    return n.asr(bits - 1) ^ (top(n.type) - 1)


def saturating_left(b: A64, n: Value, far: Value, fits: Value | None, *, signed: bool) -> Saturated:
    """n shifted left by `far`, less than the bits of a lane, where `fits` holds; elsewhere only 0 does not saturate."""
    moved = n << far
    good = shifted(moved, far, signed=signed).eq(n)
    if fits is not None:
        good = good & fits | n.eq(0)
        moved = b.select(fits, moved, 0)
    most = limit(b, n) if signed else b.coerce(-1, n.type)
    result = b.select(good, moved, most)
    return result, b.select(good, b.coerce(0, n.type), -1)


def saturating_shift(b: A64, n: Value, m: Value, *, signed: bool, rounding: bool = False) -> Saturated:
    """SQSHL, UQSHL, SQRSHL, UQRSHL by register."""
    bits = n.type.bits
    amount, left_by, far = _amounts(m)
    left, saturated = saturating_left(b, n, left_by, amount.ult(bits), signed=signed)
    right = _shifted_right(b, n, far, signed=signed, rounding=rounding)
    negative = amount.slt(0)
    return b.select(negative, right, left), b.select(negative, b.coerce(0, n.type), saturated)


def rounded_right(b: A64, n: Value, amount: Value, *, signed: bool, rounding: bool) -> Value:
    """n shifted right by `amount` (i8, 1 to the bits of a lane, the same for all)."""
    before = shifted(n, splat(b, amount - 1, n.type), signed=signed)
    result = shifted(before, 1, signed=signed)
    return result + (before & 1) if rounding else result


def halves(b: A64, n: Value, m: Value, *, signed: bool) -> tuple[Value, Value]:
    """The products of the lower lanes and of the upper ones, with twice the bits."""
    lower = widened(low(b, n), signed) * widened(low(b, m), signed)
    upper = widened(high(b, n), signed) * widened(high(b, m), signed)
    return lower, upper


def double_high(b: A64, n: Value, m: Value, *, rounding: bool = False) -> Saturated:
    """SQDMULH, SQRDMULH: the upper half of 2 n m; only the square of the smallest number saturates."""
    bits = n.type.bits
    product = widened(n, True) * widened(m, True)
    product = (product.asr(bits - 2) + 1).asr(1) if rounding else product.asr(bits - 1)
    result = narrowed(product)
    least = n.eq(-top(n.type)) & m.eq(-top(n.type))
    flag = least.sext(n.type)
    # The result is the smallest number there, the one below it the largest.
    return result + flag, flag


def double_high_accumulated(b: A64, d: Value, n: Value, m: Value, *, subtract: bool) -> Saturated:
    """SQRDMLAH, SQRDMLSH: (2**bits d ± 2 n m + 2**(bits-1)) >> bits, saturated."""
    bits = n.type.bits
    # Halving both sides loses nothing, and twice the bits are enough.
    product = widened(n, True) * widened(m, True)
    base = (widened(d, True) << (bits - 1)) + (1 << (bits - 2))
    total = (base - product if subtract else base + product).asr(bits - 1)
    inside = total.smax(-top(n.type)).smin(top(n.type) - 1)
    return narrowed(inside), inside.ne(total).sext(n.type)


def doubled_product(b: A64, n: Value, m: Value) -> Saturated:
    """SQDMULL: 2 n m with twice the bits; only the square of the smallest number saturates."""
    product = widened(n, True) * widened(m, True)
    twice = product + product
    flag = twice.eq(-top(twice.type)).sext(twice.type)
    return twice + flag, flag


def clipped(b: A64, n: Value, *, signed: bool, to_signed: bool) -> Saturated:
    """SQXTN, UQXTN, SQXTUN: each lane as the nearest number of half the bits. What tells of saturation has n's type."""
    bits = n.type.bits // 2
    largest = (1 << (bits - 1)) - 1 if to_signed else (1 << bits) - 1
    if not signed:
        inside = n.umin(largest)
    else:
        inside = n.smax(-(1 << (bits - 1)) if to_signed else 0).smin(largest)
    return narrowed(inside), inside ^ n


def carryless_bytes(b: A64, n: Value, m: Value) -> Value:
    """The carry-less product of lanes, of which m has 8 bits at most."""
    total = b.coerce(0, n.type)
    for bit in range(8):
        total = total ^ ((n << bit) & (m << (n.type.bits - 1 - bit)).asr(n.type.bits - 1))
    return total


def pair_sums(b: A64, n: Value, *, signed: bool) -> Value:
    """The sums of neighbours, with twice the bits."""
    bits = n.type.bits
    wide = n.bitcast(Type("int", 2 * bits, n.type.lanes // 2))
    if signed:
        return (wide << bits).asr(bits) + wide.asr(bits)
    return (wide & ((1 << bits) - 1)) + (wide >> bits)


