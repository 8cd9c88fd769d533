"""Guest memory: arenas, page attributes, host mappings."""

from __future__ import annotations

from polyvm.mem.arena import Arena, Mapping, page_ceil
from polyvm.mem.attributes import (
    CODE,
    EXEC,
    FAST_R,
    FAST_W,
    GUARD,
    PAGE_BITS,
    PAGE_MASK,
    PAGE_SIZE,
    READ,
    SIZE_BITS,
    WATCH_R,
    WATCH_W,
    WRITE,
)

__all__ = [
    "CODE", "EXEC", "FAST_R", "FAST_W", "GUARD", "PAGE_BITS", "PAGE_MASK", "PAGE_SIZE", "READ", "SIZE_BITS", "WATCH_R",
    "WATCH_W", "WRITE", "Arena", "Mapping", "page_ceil",
]  # fmt: skip
