"""Page tables for 64-bit guests: the first 4 GiB mapped to themselves in pages of 2 MiB."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyvm.mem.guest import GuestMemory

TABLES = 0x70000  # PML4, PDPT, four page directories
PRESENT, WRITABLE, USER, LARGE = 1, 2, 4, 0x80


def identity(memory: GuestMemory, *, user: bool = True) -> int:
    """Write the tables and return what CR3 is to be."""
    rights = PRESENT | WRITABLE | (USER if user else 0)
    memory.write(TABLES, bytes(0x2000))
    memory.write_u64(TABLES, TABLES + 0x1000 | rights)
    for directory in range(4):
        memory.write_u64(TABLES + 0x1000 + 8 * directory, TABLES + 0x2000 + 0x1000 * directory | rights)
    memory.write(TABLES + 0x2000, struct.pack("<2048Q", *(page << 21 | rights | LARGE for page in range(2048))))
    return TABLES
