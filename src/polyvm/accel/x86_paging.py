"""A walk through an x86-64 guest's page tables (Intel SDM, volume 3, chapter 4), for accelerators that leave it to us."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.errors import MemoryFault
from polyvm.vcpu.x86_64 import CR0_PG, CR4_PAE, EFER_LMA

if TYPE_CHECKING:
    from polyvm.mem.guest import GuestMemory
    from polyvm.vcpu.x86_64 import X86Special

_CR4_PSE, _CR4_LA57 = 1 << 4, 1 << 12
_PLACE = 0x000F_FFFF_FFFF_F000


def walk(memory: GuestMemory, special: X86Special, address: int) -> int | None:
    """The guest physical address of a linear one; None where no page is present. Rights are not looked at."""
    if not special.cr0 & CR0_PG:
        return address & 0xFFFF_FFFF
    try:
        if special.efer & EFER_LMA:
            return _wide(memory, special.cr3 & _PLACE, address, 5 if special.cr4 & _CR4_LA57 else 4)
        address &= 0xFFFF_FFFF
        if special.cr4 & CR4_PAE:
            entry = memory.read_u64((special.cr3 & 0xFFFF_FFE0) + (address >> 30) * 8)
            return _wide(memory, entry & _PLACE, address, 2) if entry & 1 else None
        return _narrow(memory, special, address)
    except MemoryFault:
        return None


def _wide(memory: GuestMemory, table: int, address: int, levels: int) -> int | None:
    """Tables of 512 entries of 64 bits."""
    for level in range(levels - 1, -1, -1):
        shift = 12 + 9 * level
        entry = memory.read_u64(table + (address >> shift & 511) * 8)
        if not entry & 1:
            return None
        if level == 0 or (level < 3 and entry >> 7 & 1):
            mask = (1 << shift) - 1
            return entry & _PLACE & ~mask | address & mask
        table = entry & _PLACE
    return None


def _narrow(memory: GuestMemory, special: X86Special, address: int) -> int | None:
    """Tables of 1024 entries of 32 bits."""
    entry = memory.read_u32((special.cr3 & 0xFFFF_F000) + (address >> 22) * 4)
    if not entry & 1:
        return None
    if special.cr4 & _CR4_PSE and entry >> 7 & 1:
        return (entry >> 13 & 0xFF) << 32 | entry & 0xFFC0_0000 | address & 0x3F_FFFF
    entry = memory.read_u32((entry & 0xFFFF_F000) + (address >> 12 & 1023) * 4)
    return entry & 0xFFFF_F000 | address & 0xFFF if entry & 1 else None
