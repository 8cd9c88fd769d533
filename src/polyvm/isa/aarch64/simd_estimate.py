"""Estimates of reciprocals and of reciprocal square roots: 8 bits of them (Arm ARM, J1.3.3, RecipEstimate and
RecipSqrtEstimate)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I8
from polyvm.isa.aarch64.simd import table_of

if TYPE_CHECKING:
    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64


def reciprocal(a: int) -> int:
    """RecipEstimate for 256 ≤ a < 512: 256 to 511."""
    return ((1 << 19) // (2 * a + 1) + 1) // 2


def reciprocal_root(a: int) -> int:
    """RecipSqrtEstimate for 128 ≤ a < 512: 256 to 511."""
    a = 2 * a + 1 if a < 256 else ((a >> 1 << 1) + 1) * 2
    found = 512
    while a * (found + 1) * (found + 1) < 1 << 28:
        found += 1
    return (found + 1) // 2


# Without the leading one. Of the roots every second one is enough from 256 on.
_RECIPROCALS = bytes(reciprocal(a) - 256 for a in range(256, 512))
_ROOTS = bytes(reciprocal_root(a) - 256 for a in (*range(128, 256), *range(256, 512, 2)))


def _look_up(b: A64, data: bytes, index: Value) -> Value:
    """The entry for each lane of `index`, which is less than 256."""
    return table_of(b, data, index.bitcast(I8.vector(16))).bitcast(index.type) & 0xFF


def estimates(b: A64, a: Value) -> Value:
    """Of lanes of 128 bits in all, whose numbers have 9 bits, the top one set: the estimate but for its leading one."""
    return _look_up(b, _RECIPROCALS, a & 0xFF)


def root_estimates(b: A64, a: Value) -> Value:
    """The same for reciprocal square roots; one of the top two bits is set."""
    return _look_up(b, _ROOTS, b.select(a.ult(256), a - 128 & 0xFF, (a - 256 >> 1) + 128 & 0xFF))
