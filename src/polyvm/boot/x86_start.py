"""What a kernel for x86-64 finds in memory and registers when it starts.

`start_linux64` follows Linux, Documentation/arch/x86/boot.rst ("64-bit boot protocol") and zero-page.rst; `start_pvh` follows
Xen, docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h.

    500     global descriptor table
    6000    hvm_start_info, its map of memory at 6100, its module at 6080
    7000    boot_params ("zero page")
    8ff0    stack, downwards
    9000    page tables: PML4, PDPT, four page directories: the first 4 GiB, as they are, in pages of 2 MiB
    f000    setup_data: a seed for the random number generator
    20000   command line
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from polyvm.boot.kernel import PVH, Kernel
from polyvm.errors import KernelError
from polyvm.vcpu.x86_64 import Table, X86Regs, X86Special

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polyvm.mem.guest import GuestMemory

RAM, RESERVED = 1, 2
"""Types of ranges of memory (ACPI 6.5, section 15, "Address Range Types"; the same in e820 and PVH)."""

_GDT, _START_INFO, _MODULE, _MAP, _PARAMS, _STACK, _PAGES, _SEED, _CMDLINE = (
    0x500, 0x6000, 0x6080, 0x6100, 0x7000, 0x8FF0, 0x9000, 0xF000, 0x20000,
)  # fmt: skip
_MAGIC = 0x336EC578
_SETUP_RNG_SEED = 9
_CMDLINE_ROOM = 0x10000
_GDT_LINUX = (0, 0x00CF9B000000FFFF, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00008B0000000067, 0)
_GDT_PVH = (0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00008B0000000067)


def start(
    memory: GuestMemory, kernel: Kernel, memory_map: Sequence[tuple[int, int, int]], cmdline: str, initrd: bytes, seed: bytes,
    rsdp: int = 0,
) -> tuple[X86Regs, X86Special]:  # fmt: skip
    """Put `kernel` with all that it is given into `memory`; the registers to start it with.

    `rsdp` is where ACPI's tables begin, if there are any. `memory_map` has (address, size, type). Raises KernelError where
    something does not fit.
    """
    low_end = max(address + size for address, size, kind in memory_map if kind == RAM and address < 1 << 32)
    line, longest = cmdline.encode(), min(kernel.cmdline_max, _CMDLINE_ROOM - 1)
    if len(line) > longest:
        raise KernelError(f"the command line has {len(line)} bytes; {kernel.name} takes {longest}")
    for piece in kernel.pieces:
        if not any(kind == RAM and a <= piece.address and piece.address + piece.size <= a + s for a, s, kind in memory_map):
            raise KernelError(
                f"{kernel.name} does not fit into memory: it needs {piece.size >> 10:,} KiB at {piece.address:#x}, and there "
                f"are {low_end >> 20} MiB; give more with --memory"
            )
        memory.write(piece.address, piece.data)
    if kernel.end > low_end:
        needed, there = kernel.end >> 20, low_end >> 20
        raise KernelError(f"{kernel.name} needs memory up to {needed} MiB, and there are {there}: give more with --memory")
    where = _place_initrd(memory, kernel, low_end, initrd)
    memory.write(_CMDLINE, line + b"\0")
    if kernel.protocol == PVH:
        return _pvh(memory, kernel, memory_map, where, len(initrd), rsdp)
    return _linux64(memory, kernel, memory_map, where, len(initrd), len(line), seed, rsdp)


def _place_initrd(memory: GuestMemory, kernel: Kernel, low_end: int, initrd: bytes) -> int:
    if not initrd:
        return 0
    top = min(low_end, kernel.initrd_max + 1)
    where = top - len(initrd) & ~0xFFF
    if where < kernel.end:
        raise KernelError(
            f"the initrd of {len(initrd) >> 10:,} KiB does not fit between the kernel's end at {kernel.end >> 20} MiB and "
            f"{top >> 20} MiB; give more with --memory"
        )
    memory.write(where, initrd)
    return where


def _pvh(
    memory: GuestMemory, kernel: Kernel, memory_map: Sequence[tuple[int, int, int]], initrd: int, initrd_size: int, rsdp: int
) -> tuple[X86Regs, X86Special]:
    for i, (address, size, kind) in enumerate(memory_map):
        memory.write(_MAP + 24 * i, struct.pack("<QQII", address, size, kind, 0))
    if initrd_size:
        memory.write(_MODULE, struct.pack("<QQQQ", initrd, initrd_size, 0, 0))
    modules = (1, _MODULE) if initrd_size else (0, 0)
    memory.write(_START_INFO, struct.pack("<IIIIQQQQII", _MAGIC, 1, 0, *modules, _CMDLINE, rsdp, _MAP, len(memory_map), 0))
    memory.write(_GDT, struct.pack(f"<{len(_GDT_PVH)}Q", *_GDT_PVH))
    special = X86Special()
    special.protected_mode()
    special.gdt = Table(_GDT, 8 * len(_GDT_PVH) - 1)
    special.idt = Table(0, 0)
    return X86Regs(rbx=_START_INFO, rip=kernel.entry), special


def _linux64(
    memory: GuestMemory, kernel: Kernel, memory_map: Sequence[tuple[int, int, int]], initrd: int, initrd_size: int, line: int,
    seed: bytes, rsdp: int,
) -> tuple[X86Regs, X86Special]:
    params = bytearray(4096)
    if kernel.setup:
        params[0x1F1 : 0x1F1 + len(kernel.setup)] = kernel.setup
    else:  # an ELF file has no header of its own: what it would say of itself
        struct.pack_into("<H", params, 0x1FE, 0xAA55)
        params[0x202:0x208] = b"HdrS" + struct.pack("<H", 0x20C)
        struct.pack_into("<I", params, 0x230, 0x1000000)
    struct.pack_into("<Q", params, 0x70, rsdp)
    params[0x210] = 0xFF  # a loader without a number of its own
    struct.pack_into("<II", params, 0x218, initrd, initrd_size)
    struct.pack_into("<I", params, 0x228, _CMDLINE)
    struct.pack_into("<I", params, 0x238, max(line, int.from_bytes(params[0x238:0x23C], "little")))
    params[0x1E8] = len(memory_map)
    for i, (address, size, kind) in enumerate(memory_map):
        struct.pack_into("<QQI", params, 0x2D0 + 20 * i, address, size, kind)
    if seed:
        memory.write(_SEED, struct.pack("<QII", 0, _SETUP_RNG_SEED, len(seed)) + seed)
        struct.pack_into("<Q", params, 0x250, _SEED)
    memory.write(_PARAMS, bytes(params))
    memory.write(_PAGES, struct.pack("<Q", _PAGES + 0x1003))
    memory.write(_PAGES + 0x1000, struct.pack("<4Q", *(_PAGES + 0x2000 + 0x1000 * i | 3 for i in range(4))))
    memory.write(_PAGES + 0x2000, struct.pack("<2048Q", *(i << 21 | 0x83 for i in range(2048))))
    memory.write(_GDT, struct.pack(f"<{len(_GDT_LINUX)}Q", *_GDT_LINUX))
    special = X86Special()
    special.long_mode(_PAGES)
    special.gdt = Table(_GDT, 8 * len(_GDT_LINUX) - 1)
    special.idt = Table(0, 0)
    return X86Regs(rip=kernel.entry, rsi=_PARAMS, rsp=_STACK, rbp=_STACK), special
