"""Kernel images for x86-64: ELF files (PVH, or 64-bit entry) and bzImages, as what goes where in guest memory.

A bzImage is unpacked here where Python's library can do it: that takes a second where a guest that is emulated takes minutes.

Sources: Linux, Documentation/arch/x86/boot.rst (the boot protocol, "64-bit boot protocol"); Xen, docs/misc/pvh.pandoc and
xen/include/public/elfnote.h (XEN_ELFNOTE_PHYS32_ENTRY); System V ABI, chapter 5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from polyvm.boot.payload import unpack, unpack_lz4
from polyvm.errors import KernelError

PVH, LINUX64 = "pvh", "linux64"
"""How a kernel is entered: 32-bit protected mode with hvm_start_info, or 64-bit mode with boot_params."""

_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")
_PHYS32_ENTRY = 18
_SETUP = 0x1F1  # the setup header begins here in the file
_MIN_PROTOCOL = 0x20C  # 2.12 has xloadflags
_XLF_KERNEL_64 = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """`data` at the guest physical address `address`, followed by zeroes up to `size` bytes."""

    address: int
    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that can be placed. `entry` is a guest physical address, `end` the first one after what the kernel needs at first;
    `setup` is a bzImage's setup header, from offset 1f1h on, empty for others."""

    protocol: str
    entry: int
    pieces: tuple[Piece, ...]
    end: int
    setup: bytes = b""
    initrd_max: int = 0x37FF_FFFF
    cmdline_max: int = 2047
    name: str = field(default="")


def load_kernel(path: str) -> Kernel:
    """The kernel in the file `path`. Raises KernelError with what is wrong, and OSError."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:4] == b"\x7fELF":
        return _elf(path, data)
    if data[0x202:0x206] == b"HdrS":
        return _bzimage(path, data)
    kind = "an arm64 or riscv64 Image" if data[0x38:0x3C] in (b"ARM\x64", b"RSC\x05") else "neither an ELF file nor a bzImage"
    if data[:2] == b"\x1f\x8b":
        kind = "compressed with gzip: unpack it first"
    raise KernelError(f"{path} cannot be booted: it is {kind}; an x86-64 machine needs a vmlinux (ELF) or a bzImage (vmlinuz)")


def _elf(path: str, data: bytes, prefer: str = PVH) -> Kernel:
    if len(data) < _ELF_HEADER.size:
        raise KernelError(f"{path} ends within its ELF header")
    ident, _, machine, _, entry, table, _, _, _, entry_size, count, _, _, _ = _ELF_HEADER.unpack_from(data)
    if ident[4] != 2 or ident[5] != 1 or machine != 62:
        raise KernelError(f"{path} is an ELF file, but not for x86-64 (class {ident[4]}, machine {machine})")
    if entry_size != _PROGRAM.size or table + count * entry_size > len(data):
        raise KernelError(f"{path} has no usable program headers")
    pieces: list[Piece] = []
    pvh: int | None = None
    physical: int | None = None
    for i in range(count):
        kind, _, offset, virtual, address, size, memory, _ = _PROGRAM.unpack_from(data, table + i * entry_size)
        if kind not in (1, 4):
            continue
        if offset + size > len(data):
            raise KernelError(f"{path} is truncated: a segment ends at byte {offset + size} of a file of {len(data)}")
        if kind == 4:
            pvh = _pvh_entry(data[offset : offset + size]) if pvh is None else pvh
        elif memory:
            if size > memory or address + memory >= 1 << 32:
                raise KernelError(f"{path} has a segment that does not lie in the first 4 GiB, at {address:#x}")
            pieces.append(Piece(address, data[offset : offset + size], memory))
            if virtual <= entry < virtual + memory:
                physical = entry - virtual + address
            elif address <= entry < address + memory and physical is None:
                physical = entry  # Linux gives its entry point's physical address
    if not pieces:
        raise KernelError(f"{path} has nothing to load")
    end = max(p.address + p.size for p in pieces)
    if pvh is not None and (prefer == PVH or physical is None):
        return Kernel(PVH, pvh, tuple(pieces), end, name=path)
    if physical is None:
        raise KernelError(f"{path} has no entry point inside of what it loads, and no PVH note")
    return Kernel(LINUX64, physical, tuple(pieces), end, name=path)


def _pvh_entry(notes: bytes) -> int | None:
    at = 0
    while at + _NOTE.size <= len(notes):
        name_size, size, kind = _NOTE.unpack_from(notes, at)
        name = at + _NOTE.size
        begin = name + (name_size + 3 & ~3)
        if kind == _PHYS32_ENTRY and notes[name : name + name_size] == b"Xen\0" and 4 <= size <= len(notes) - begin:
            return int.from_bytes(notes[begin : begin + 4], "little")
        at = begin + (size + 3 & ~3)
    return None


def _bzimage(path: str, data: bytes) -> Kernel:
    version = int.from_bytes(data[0x206:0x208], "little")
    if version < _MIN_PROTOCOL:
        raise KernelError(f"{path} has boot protocol {version >> 8}.{version & 255:02}; needed is 2.12 (Linux 3.8) or later")
    header_end = 0x202 + data[0x201]
    setup = data[_SETUP:header_end]
    if header_end > len(data) or len(setup) < 0x264 - _SETUP:
        raise KernelError(f"{path} ends within its setup header")

    def word(offset: int, size: int) -> int:
        return int.from_bytes(data[offset : offset + size], "little")

    if not word(0x236, 2) & _XLF_KERNEL_64:
        raise KernelError(f"{path} is a 32-bit kernel: it has no 64-bit entry point")
    body = ((data[_SETUP] or 4) + 1) * 512
    if body >= len(data):
        raise KernelError(f"{path} is truncated: the kernel should follow at byte {body} of a file of {len(data)}")
    initrd_max, cmdline_max = word(0x22C, 4) or 0x37FF_FFFF, word(0x238, 4) or 255
    payload = body + word(0x248, 4)
    packed = data[payload : payload + word(0x24C, 4)]
    unpacked = unpack(packed) or unpack_lz4(packed)
    if unpacked[:4] == b"\x7fELF":
        found = _elf(f"{path}, unpacked,", unpacked, LINUX64)
        if found.protocol == LINUX64:
            end = max(found.end, found.pieces[0].address + word(0x260, 4))
            return Kernel(LINUX64, found.entry, found.pieces, end, setup, initrd_max, cmdline_max, path)
    address, needed = word(0x258, 8), max(word(0x260, 4), len(data) - body)
    if not 0x100000 <= address < 1 << 32:
        raise KernelError(f"{path} wants to be loaded at {address:#x}, where it cannot be")
    piece = Piece(address, data[body:], len(data) - body)
    return Kernel(LINUX64, address + 0x200, (piece,), address + needed, setup, initrd_max, cmdline_max, path)
