"""ELF files as a loader sees them (System V ABI, chapter 5; elf(5))."""

from __future__ import annotations

import os
import struct

from polyvm.errors import NotElf, TruncatedElf, WrongArchitecture

MACHINES = {243: "riscv64", 183: "aarch64", 62: "x86_64", 3: "i386", 40: "arm", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390"}
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_INTERP, PT_PHDR, PT_GNU_STACK = 1, 3, 6, 0x6474E551
PF_X, PF_W, PF_R = 1, 2, 4
_MOST_HEADERS = 4096
_LONGEST_INTERPRETER = 4096


class Segment:
    """One program header."""

    __slots__ = ("address", "file_size", "flags", "memory_size", "offset", "type")

    def __init__(self, type_: int, flags: int, offset: int, address: int, file_size: int, memory_size: int) -> None:
        self.type = type_
        self.flags = flags
        self.offset = offset
        self.address = address
        self.file_size = file_size
        self.memory_size = memory_size


class ElfFile:
    """The headers of an executable: where it wants to be, what it needs.

    Its `architecture` must be one of `architectures`, else WrongArchitecture is raised; NotElf and TruncatedElf for other
    defects. `path` is used in messages. The file's descriptor `fd` stays the caller's.
    """

    def __init__(self, fd: int, path: str, architectures: tuple[str, ...]) -> None:
        wanted = " or ".join(architectures)
        self.path = path
        self.size = os.fstat(fd).st_size
        head = os.pread(fd, _HEADER.size, 0)
        if len(head) < 4 or head[:4] != b"\x7fELF":
            raise NotElf(f"{path} is not an ELF file; polyvm runs Linux programs built for {wanted}")
        if len(head) < _HEADER.size:
            raise TruncatedElf(f"{path} ends within its ELF header, after {len(head)} bytes")
        ident, kind, machine, _, entry, table, _, _, _, entry_size, count, _, _, _ = _HEADER.unpack(head)
        name = MACHINES.get(machine, f"machine {machine}")
        if ident[4] != 2 or ident[5] != 1 or name not in architectures:
            width = {1: "32-bit ", 2: ""}.get(ident[4], "odd ")
            raise WrongArchitecture(f"{path} is a {width}program for {name}, not for {wanted}")
        self.architecture = name
        if kind not in (ET_EXEC, ET_DYN):
            raise NotElf(f"{path} is an ELF file but no program: its type is {kind}, not executable or shared object")
        if count == 0 or count > _MOST_HEADERS or entry_size != _PROGRAM.size:
            raise NotElf(f"{path} has no usable program headers")
        raw = os.pread(fd, _PROGRAM.size * count, table) if table < 1 << 63 else b""
        if len(raw) < _PROGRAM.size * count:
            raise TruncatedElf(f"{path} ends within its program headers")
        self.type = kind
        self.entry: int = entry
        self.header_offset: int = table
        self.header_count: int = count
        self.segments: list[Segment] = []
        self.interpreter: str | None = None
        self.executable_stack = False
        for i in range(count):
            type_, flags, offset, address, _, file_size, memory_size, _ = _PROGRAM.unpack_from(raw, i * _PROGRAM.size)
            segment = Segment(type_, flags, offset, address, file_size, memory_size)
            if type_ == PT_LOAD:
                self._check(segment)
            elif type_ == PT_INTERP:
                self.interpreter = self._interpreter(fd, segment)
            elif type_ == PT_GNU_STACK:
                self.executable_stack = bool(flags & PF_X)
            self.segments.append(segment)
        self.loads = [s for s in self.segments if s.type == PT_LOAD and s.memory_size]
        if not self.loads:
            raise NotElf(f"{path} has nothing to load")

    def _check(self, segment: Segment) -> None:
        if segment.file_size and segment.offset + segment.file_size > self.size:
            raise TruncatedElf(
                f"{self.path} is truncated: a segment ends at byte {segment.offset + segment.file_size} "
                f"of a file of {self.size}"
            )
        bad = segment.file_size > segment.memory_size or segment.address + segment.memory_size >= 1 << 63
        if bad or (segment.address ^ segment.offset) & 0xFFF:
            raise NotElf(f"{self.path} has a segment that cannot be mapped, at {segment.address:#x}")

    def _interpreter(self, fd: int, segment: Segment) -> str:
        if not 1 < segment.file_size <= _LONGEST_INTERPRETER:
            raise NotElf(f"{self.path} names no usable interpreter")
        raw = os.pread(fd, segment.file_size, segment.offset) if segment.offset < 1 << 63 else b""
        if len(raw) < segment.file_size:
            raise TruncatedElf(f"{self.path} ends within the name of its interpreter")
        return os.fsdecode(raw.split(b"\0")[0])

    @property
    def low(self) -> int:
        """The lowest address that is loaded, a multiple of the page size."""
        return min(s.address for s in self.loads) & ~0xFFF

    @property
    def high(self) -> int:
        """The end of the highest segment."""
        return max(s.address + s.memory_size for s in self.loads)
