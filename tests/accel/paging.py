"""Page tables for 64-bit guests: the first gigabyte mapped to itself in pages of 2 MiB."""

from __future__ import annotations

from polyvm.mem.guest import GuestMemory

TABLES = 0x70000  # PML4, PDPT, PD
PRESENT, WRITABLE, USER, LARGE = 1, 2, 4, 0x80


def identity(memory: GuestMemory, *, user: bool = True) -> int:
    """Write the tables and return what CR3 is to be."""
    rights = PRESENT | WRITABLE | (USER if user else 0)
    memory.write_u64(TABLES, TABLES + 0x1000 | rights)
    memory.write_u64(TABLES + 0x1000, TABLES + 0x2000 | rights)
    for page in range(512):
        memory.write_u64(TABLES + 0x2000 + 8 * page, page << 21 | rights | LARGE)
    return TABLES
