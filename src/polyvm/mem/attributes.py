"""Page attributes: one byte for each 4 KiB page of guest memory.

Native code looks only at the two FAST bits on its fast path. They are derived: FAST_R is READ and not WATCH_R; FAST_W is
WRITE and neither CODE nor WATCH_W. Whoever changes one of the others keeps them right.
"""

from __future__ import annotations

PAGE_BITS = 12
PAGE_SIZE = 1 << PAGE_BITS
PAGE_MASK = PAGE_SIZE - 1
SIZE_BITS = 38  # user addresses of a riscv64 process under Sv39, which is what most hardware has

READ = 1
WRITE = 2
EXEC = 4
CODE = 8  # the page holds instructions that were decoded
WATCH_R = 0x10
WATCH_W = 0x20
FAST_R = 0x40
FAST_W = 0x80


def with_fast_bits(attribute: int) -> int:
    """`attribute` with FAST_R and FAST_W as the other bits demand."""
    attribute &= ~(FAST_R | FAST_W)
    if attribute & (READ | WATCH_R) == READ:
        attribute |= FAST_R
    if attribute & (WRITE | CODE | WATCH_W) == WRITE:
        attribute |= FAST_W
    return attribute


# with_fast_bits for every byte, as bytes.translate wants it.
FAST_TABLE = bytes(with_fast_bits(value) for value in range(256))
