"""Sections and symbols of an ELF file (System V ABI, chapters 4 and 5), for listings.

Loading a program looks at its segments and is `polyvm.boot`'s; this reads what only tools read. Everything comes from a file
that nobody has vouched for: every offset is checked, and a damaged table is an error that says which.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass

from polyvm.errors import ElfError, NotElf, TruncatedElf

MACHINES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 43: "sparc64", 62: "x86-64", 183: "aarch64",
    243: "riscv", 258: "loongarch",
}  # fmt: skip

_SHT_SYMTAB, _SHT_NOBITS, _SHT_DYNSYM = 2, 8, 11
_SHF_ALLOC, _SHF_EXECINSTR = 2, 4
_STT_NOTYPE, _STT_OBJECT, _STT_FUNC = 0, 1, 2
_PT_LOAD, _PF_X = 1, 1
_SHN_ABS = 0xFFF1
_MOST_SYMBOLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Section:
    """`size` bytes at `address` of the guest and at `offset` of the file."""

    name: str
    address: int
    offset: int
    size: int
    code: bool
    in_file: bool


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name for `address`; `size` may be 0 where the file does not say."""

    address: int
    name: str
    size: int


class Symbols:
    """Names by address.

    >>> names = Symbols([Symbol(0x100, "main", 0x20), Symbol(0x120, "end", 0)])
    >>> names.at(0x100), names.describe(0x104), names.describe(0x40)
    ('main', 'main+0x4', None)
    """

    def __init__(self, symbols: list[Symbol]) -> None:
        best: dict[int, Symbol] = {}
        self._names: dict[str, Symbol] = {}
        for symbol in symbols:
            self._names.setdefault(symbol.name, symbol)
            known = best.get(symbol.address)
            if known is None or (symbol.size > 0, symbol.name) > (known.size > 0, known.name):
                best[symbol.address] = symbol
        self._symbols = [best[address] for address in sorted(best)]
        self._addresses = [symbol.address for symbol in self._symbols]

    def __len__(self) -> int:
        return len(self._symbols)

    def addresses(self) -> list[int]:
        """Those that have a name, in order."""
        return self._addresses

    def at(self, address: int) -> str | None:
        """The name of exactly `address`."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0 or self._addresses[index] != address:
            return None
        return self._symbols[index].name

    def describe(self, address: int) -> str | None:
        """``name`` or ``name+0x10``, from the closest symbol below."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0:
            return None
        symbol = self._symbols[index]
        distance = address - symbol.address
        if symbol.size and distance >= symbol.size:
            return None
        return f"{symbol.name}+{distance:#x}" if distance else symbol.name

    def extent(self, name: str) -> tuple[int, int] | None:
        """Where the symbol called `name` begins and ends; one without a size ends where the next begins."""
        symbol = self._names.get(name)
        if symbol is None:
            return None
        if symbol.size:
            return symbol.address, symbol.address + symbol.size
        index = bisect_right(self._addresses, symbol.address)
        return symbol.address, self._addresses[index] if index < len(self._addresses) else 1 << 64


class ObjectFile:
    """A little-endian 64-bit ELF file: `machine`, `entry`, `sections`, `symbols`."""

    def __init__(self, data: bytes) -> None:
        if data[:4] != b"\x7fELF":
            raise NotElf("not an ELF file (its first bytes are not 7f 45 4c 46)")
        if len(data) < 64:
            raise TruncatedElf(f"the file ends within its ELF header, after {len(data)} bytes")
        if data[4] != 2 or data[5] != 1:
            bits = {1: "32-bit", 2: "64-bit"}.get(data[4], "unknown-size")
            order = {1: "little", 2: "big"}.get(data[5], "unknown")
            raise ElfError(f"a {bits} {order}-endian ELF file; only 64-bit little-endian files can be listed")
        self._data = data
        head = struct.unpack_from("<HHIQQQIHHHHHH", data, 16)
        self.type: int = head[0]
        self.machine: int = head[1]
        self.entry: int = head[3]
        self._raw = self._table("section header table", head[5], head[10], head[11], "<IIQQQQIIQQ")
        self.sections = self._sections(head[12])
        if not any(s.code for s in self.sections):
            self.sections += self._segments(head[4], head[8], head[9])
        self.symbols = Symbols(self._symbols())
        rows = self._table("program header table", head[4], head[8], head[9], "<IIQQQQQQ")
        self._loads = [row for row in rows if row[0] == _PT_LOAD]

    def function_starts(self) -> list[int]:
        """Where functions begin, in order: what the table for unwinding says (.eh_frame_hdr; Linux Standard Base Core, 10.6.2),
        which stripped files have too. Empty where it is missing, damaged or of another form."""
        section = next((section for section in self.sections if section.name == ".eh_frame_hdr" and section.in_file), None)
        data = self.content(section) if section is not None else b""
        if section is None or len(data) < 12 or data[0] != 1 or data[2:4] != b"\x03\x3b":
            return []
        count = min(struct.unpack_from("<I", data, 8)[0], (len(data) - 12) // 8)
        return sorted(section.address + struct.unpack_from("<i", data, 12 + 8 * i)[0] for i in range(count))

    def address_at(self, offset: int) -> int | None:
        """Where the byte at `offset` of the file is linked to be, if it is loaded."""
        for row in self._loads:
            if row[2] <= offset < row[2] + row[5]:
                return row[3] + offset - row[2]
        return None

    @property
    def machine_name(self) -> str:
        """The architecture, as people call it."""
        return MACHINES.get(self.machine, f"machine {self.machine}")

    def content(self, section: Section) -> bytes:
        """The bytes of `section`; raises TruncatedElf if the file ends before them."""
        if not section.in_file:
            return b""
        if section.offset + section.size > len(self._data):
            raise TruncatedElf(
                f"section {section.name} should end at byte {section.offset + section.size:#x}, "
                f"but the file has {len(self._data):#x} bytes"
            )
        return self._data[section.offset : section.offset + section.size]

    def _table(self, what: str, offset: int, entry: int, count: int, form: str) -> list[tuple[int, ...]]:
        if not offset or not count:
            return []
        size = struct.calcsize(form)
        if entry < size:
            raise ElfError(f"the {what} has entries of {entry} bytes, fewer than the {size} of the format")
        if offset + entry * count > len(self._data):
            raise TruncatedElf(
                f"the {what} should end at byte {offset + entry * count:#x}, but the file has {len(self._data):#x} bytes"
            )
        return [struct.unpack_from(form, self._data, offset + i * entry) for i in range(count)]

    def _string(self, strings: tuple[int, ...], at: int) -> str:
        start = strings[4] + at
        stop = min(strings[4] + strings[5], len(self._data))
        if at >= strings[5] or start >= stop:
            return ""
        end = self._data.find(b"\0", start, stop)
        return self._data[start : stop if end < 0 else end].decode("utf-8", "replace")

    def _sections(self, names: int) -> list[Section]:
        strings = self._raw[names] if names < len(self._raw) else (0,) * 10
        return [
            Section(
                self._string(strings, row[0]), row[3], row[4], row[5],
                row[2] & (_SHF_ALLOC | _SHF_EXECINSTR) == _SHF_ALLOC | _SHF_EXECINSTR, row[1] != _SHT_NOBITS,
            )
            for row in self._raw
        ]  # fmt: skip

    def _segments(self, offset: int, entry: int, count: int) -> list[Section]:
        """Executable segments, for a file without section headers."""
        rows = self._table("program header table", offset, entry, count, "<IIQQQQQQ")
        return [
            Section(f"segment {index}", row[3], row[2], row[5], True, True)
            for index, row in enumerate(rows)
            if row[0] == _PT_LOAD and row[1] & _PF_X
        ]

    def _symbols(self) -> list[Symbol]:
        found: list[Symbol] = []
        tables = [row for row in self._raw if row[1] == _SHT_SYMTAB] or [
            row for row in self._raw if row[1] == _SHT_DYNSYM
        ]
        for row in tables:
            strings = self._raw[row[6]] if row[6] < len(self._raw) else (0,) * 10
            count = min(row[5] // 24, _MOST_SYMBOLS, max(0, len(self._data) - row[4]) // 24)
            for index in range(count):
                name, info, _, section, value, size = struct.unpack_from("<IBBHQQ", self._data, row[4] + index * 24)
                if section == 0 or section >= _SHN_ABS or info & 15 not in (_STT_NOTYPE, _STT_OBJECT, _STT_FUNC):
                    continue
                text = self._string(strings, name)
                # Mapping symbols mark data and ISA changes within code, they name nothing (RISC-V psABI, 8.4.2).
                if text and not text.startswith(("$", ".L")):
                    found.append(Symbol(value, text, size))
        return found
