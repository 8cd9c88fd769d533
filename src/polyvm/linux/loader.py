"""Loading a program: its segments, its interpreter, the initial stack (as Linux' fs/binfmt_elf.c lays it out)."""

from __future__ import annotations

import os
import struct

from polyvm.boot.elf import ET_DYN, PF_R, PF_W, PF_X, PT_PHDR, ElfFile
from polyvm.errors import ElfError, MissingInterpreter
from polyvm.mem import EXEC, PAGE_MASK, READ, WRITE, Arena, page_ceil

_AT = {
    "PHDR": 3, "PHENT": 4, "PHNUM": 5, "PAGESZ": 6, "BASE": 7, "FLAGS": 8, "ENTRY": 9, "UID": 11, "EUID": 12, "GID": 13,
    "EGID": 14, "PLATFORM": 15, "HWCAP": 16, "CLKTCK": 17, "SECURE": 23, "RANDOM": 25, "HWCAP2": 26, "EXECFN": 31,
    "MINSIGSTKSZ": 51,
}  # fmt: skip
STACK_GUARD = 1 << 20
ARGUMENTS_MOST = 128 * 1024 * 1024 // 4  # as Linux: a quarter of the largest stack


class Image:
    """What loading made: where to start, and what /proc shows."""

    __slots__ = ("auxv", "brk", "entry", "program", "stack_low", "stack_pointer", "trampoline")

    def __init__(self) -> None:
        self.entry = 0
        self.stack_pointer = 0
        self.stack_low = 0
        self.brk = 0
        self.auxv = b""
        self.program = ""
        self.trampoline = 0


def _protection(flags: int) -> int:
    # Writable and executable imply readable, as the page tables of all guests have it.
    return (READ if flags & (PF_R | PF_W | PF_X) else 0) | (WRITE if flags & PF_W else 0) | (EXEC if flags & PF_X else 0)


def _map_segments(arena: Arena, elf: ElfFile, fd: int, bias: int, path: str) -> None:
    for segment in elf.loads:
        prot = _protection(segment.flags)
        start = (segment.address + bias) & ~PAGE_MASK
        in_file = segment.address + bias + segment.file_size
        end = page_ceil(segment.address + bias + segment.memory_size)
        file_end = page_ceil(in_file) if segment.file_size else start
        if file_end > start:
            offset = segment.offset & ~PAGE_MASK
            arena.map(start, file_end - start, prot, fd=fd, offset=offset, path=path)
            if segment.memory_size > segment.file_size and in_file < file_end and prot & WRITE:
                arena.poke(in_file, bytes(file_end - in_file))
        if end > file_end:
            arena.map(file_end, end - file_end, prot)


def _place(arena: Arena, elf: ElfFile, path: str, wanted: int) -> int:
    """The distance between where `elf` is linked and where it goes."""
    size = page_ceil(elf.high) - elf.low
    if elf.type == ET_DYN:
        where = wanted if arena.inside(wanted, size) and arena.free(wanted, size) else arena.find_free(size)
        if where is None:
            raise ElfError(f"{path} needs {size} bytes of address space, more than there is")
        return where - elf.low
    if elf.low < arena.low or not arena.inside(elf.low, size) or not arena.free(elf.low, size):
        raise ElfError(f"{path} wants to be at {elf.low:#x}, where a guest cannot have it")
    return 0


class Program:
    """A program to load. `fd` is its open file, `path` its name for the guest."""

    def __init__(self, fd: int, path: str, architectures: tuple[str, ...]) -> None:
        self.fd = fd
        self.path = path
        self.elf = ElfFile(fd, path, architectures)


def load(
    arena: Arena, program: Program, interpreter: Program | None, argv: list[bytes], environment: list[bytes],
    *, stack_size: int, hardware: dict[str, int], platform: str, trampoline: bytes,
) -> Image:  # fmt: skip
    """Map `program` into an empty arena and build its stack."""
    elf = program.elf
    image = Image()
    image.program = program.path
    if elf.interpreter is not None and interpreter is None:
        raise MissingInterpreter(f"{program.path} needs {elf.interpreter}", elf.architecture)
    stack_top = arena.size - STACK_GUARD
    image.stack_low = stack_top - page_ceil(stack_size)
    arena.top = image.stack_low - STACK_GUARD
    # A position-independent program goes to two thirds of the address space, as ELF_ET_DYN_BASE says.
    bias = _place(arena, elf, program.path, (arena.size // 3 * 2) & ~PAGE_MASK)
    _map_segments(arena, elf, program.fd, bias, program.path)
    image.entry = elf.entry + bias
    base = 0
    if interpreter is not None:
        base = _place(arena, interpreter.elf, interpreter.path, -1)
        _map_segments(arena, interpreter.elf, interpreter.fd, base, interpreter.path)
        image.entry = interpreter.elf.entry + base
    image.brk = page_ceil(elf.high + bias)
    stack_prot = READ | WRITE | (EXEC if elf.executable_stack else 0)
    arena.map(image.stack_low, stack_top - image.stack_low, stack_prot, path="[stack]")
    image.trampoline = arena.map(None, 4096, READ | EXEC, path="[vdso]")
    arena.poke(image.trampoline, trampoline)
    headers = next((s.address for s in elf.segments if s.type == PT_PHDR), 0)
    if not headers:
        headers = next((s.address + elf.header_offset - s.offset for s in elf.loads
                        if s.offset <= elf.header_offset < s.offset + s.file_size), 0)  # fmt: skip
    values = {
        **hardware, "PAGESZ": 4096, "CLKTCK": 100, "PHDR": headers + bias, "PHENT": 56,
        "PHNUM": elf.header_count, "BASE": base, "FLAGS": 0, "ENTRY": elf.entry + bias, "UID": os.getuid(),
        "EUID": os.geteuid(), "GID": os.getgid(), "EGID": os.getegid(), "SECURE": 0,
    }  # fmt: skip
    name = program.path.encode(errors="surrogateescape")
    _build_stack(arena, image, stack_top, name, argv, environment, values, platform.encode())
    return image


def _build_stack(
    arena: Arena, image: Image, top: int, name: bytes, argv: list[bytes], environment: list[bytes], values: dict[str, int],
    platform: bytes,
) -> None:  # fmt: skip
    at = top - 8
    strings = bytearray(8)

    def push(data: bytes) -> int:
        nonlocal at
        at -= len(data)
        strings[:0] = data
        return at

    total = sum(len(word) + 9 for word in (*argv, *environment))
    if total > min(ARGUMENTS_MOST, (top - image.stack_low) // 4 * 3):
        raise OSError(7, "Argument list too long")
    values["EXECFN"] = push(name + b"\0")
    # Joined first: prepending word by word would take quadratic time.
    block = b"".join(word + b"\0" for word in (*argv, *environment))
    place = push(block)
    pointers: list[int] = []
    for word in (*argv, *environment):
        pointers.append(place)
        place += len(word) + 1
    if platform:
        values["PLATFORM"] = push(platform + b"\0")
    values["RANDOM"] = push(os.urandom(16))
    push(bytes(at % 16))
    image.auxv = b"".join(struct.pack("<QQ", _AT[key], value) for key, value in values.items()) + bytes(16)
    count = len(argv)
    vector = struct.pack(
        f"<{len(pointers) + 3}Q", count, *pointers[:count], 0, *pointers[count:], 0
    ) + image.auxv  # fmt: skip
    push(bytes((at - len(vector)) % 16))
    image.stack_pointer = push(vector)
    arena.poke(at, bytes(strings))
