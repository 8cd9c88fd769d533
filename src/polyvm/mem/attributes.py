"""Page attributes: one byte for each 4 KiB page of guest memory.

Native code looks only at the two FAST bits on its fast path. They are derived: FAST_R is READ and not WATCH_R; FAST_W is
WRITE and neither CODE nor WATCH_W. Whoever changes one of the others keeps them right.
"""

from __future__ import annotations

PAGE_BITS = 12
PAGE_SIZE = 1 << PAGE_BITS
PAGE_MASK = PAGE_SIZE - 1
SIZE_BITS = 38  # what a process can count on: kernels with three levels of page tables give no more
GUARD = 1 << 16  # bytes before and after an arena that nothing can access: a checked address may be off by less than that

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


def host_protection(attribute: int) -> int:
    """What the host lets native code do with a page of a guarded arena (mprotect(2)'s PROT_READ 1, PROT_WRITE 2): what the
    guest may, but no writing where code was decoded; what can be executed can be read."""
    if attribute & (WRITE | CODE) == WRITE:
        return 3
    return 1 if attribute & (READ | WRITE | EXEC) else 0


HOST_TABLE = bytes(host_protection(value) for value in range(256))
OPEN_TABLE = bytes(host_protection(value & ~CODE) for value in range(256))  # where code does not matter
