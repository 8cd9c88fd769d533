"""Relocatable ELF objects into executable memory, in two steps.

`link` makes an image of an object: what will lie in memory, as if at address 0, with all that does not depend on the address
resolved. Images are what is cached and what the compiler's process answers, so a start has only to copy one and to add its
address to the words of its tables. `LoadedObject` does that. Memory is written first and made executable after (W^X).

A linker of its own because a start must not wait for LLVM's library to load. It handles what LLVM emits for
position-independent x86-64 code in the small model (System V ABI, AMD64 supplement, table 4.10) and nothing else; generated
code calls nothing outside its own object.

    image   magic, sizes of the code and of the data, which begins on the next page; the number of runs, of symbols, and the
            size of the names
            the runs: offset and number of 8-byte words that the image's address is added to
            the symbols: offsets; then their names, each between two line feeds
            the code, the data
"""

from __future__ import annotations

import mmap
import struct

from polyvm.errors import EngineError
from polyvm.mem.host import MAP_FIXED, host_mmap, host_mprotect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.codegen.space import CodeSpace

_SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS, _SHT_X86_64_UNWIND = 2, 4, 8, 0x70000001
_SHF_ALLOC, _SHF_EXECINSTR = 2, 4
_R_X86_64_64, _R_X86_64_PC32, _R_X86_64_PLT32, _R_X86_64_PC64 = 1, 2, 4, 24
_GOTPCREL = (9, 41, 42)  # GOTPCREL, GOTPCRELX, REX_GOTPCRELX
_PAGE = 4096
_MAGIC = b"PVIMAGE1"
_HEAD = struct.Struct("<8s5I")
_MOST = 1 << 31  # bytes of an image: what a distance in code can span

_Section = tuple[int, ...]  # name, type, flags, address, offset, size, link, info, alignment, entry size


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def link(data: bytes) -> bytes:
    """The image of an object; raises EngineError."""
    try:
        return _Linker(data).image()
    except (struct.error, IndexError, ValueError) as error:
        raise EngineError(f"a compiled object is damaged: {error}") from None


class _Linker:
    def __init__(self, data: bytes) -> None:
        if data[:4] != b"\x7fELF" or struct.unpack_from("<H", data, 18)[0] != 62:
            raise EngineError("a compiled object is not an x86-64 ELF object")
        self.data = data
        shoff = struct.unpack_from("<Q", data, 40)[0]
        shentsize, shnum = struct.unpack_from("<HH", data, 58)
        self.sections = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + i * shentsize) for i in range(shnum)]
        self.offsets: dict[int, int] = {}  # of sections, in memory
        self.code = self._arrange(0, executable=True)
        self.code_pages = _pages(self.code)
        end = self._arrange(self.code_pages, executable=False)
        relocations = [section for section in self.sections if section[1] == _SHT_RELA and section[7] in self.offsets]
        # After the data, the addresses that code loads.
        start = -(-end // 8) * 8
        self.got: dict[int, int] = {}
        for section in relocations:
            for _, info, _ in struct.iter_unpack("<QQq", self._content(section)):
                if info & 0xFFFFFFFF in _GOTPCREL:
                    self.got.setdefault(info >> 32, start + 8 * len(self.got))
        self.end = start + 8 * len(self.got) if self.got else end
        if self.end > _MOST:
            raise EngineError(f"a compiled object takes {self.end} bytes")
        self.memory = bytearray(self.end)
        for index, offset in self.offsets.items():
            section = self.sections[index]
            if section[1] != _SHT_NOBITS:
                self.memory[offset : offset + section[5]] = self._content(section)
        self.names: dict[str, int] = {}
        self.values = self._symbols()
        self.words: list[int] = []  # offsets of addresses
        for symbol, offset in self.got.items():
            self._address(offset, self._value(symbol))
        for section in relocations:
            self._relocate(section)

    def _content(self, section: _Section) -> bytes:
        found = self.data[section[4] : section[4] + section[5]]
        if len(found) < section[5]:
            raise EngineError("a compiled object is damaged: a section lies behind its end")
        return found

    def _arrange(self, cursor: int, *, executable: bool) -> int:
        """Place the sections that are code, or the others, from `cursor` on; where they end."""
        for index, section in enumerate(self.sections):
            flags = section[2]
            # Nothing unwinds through generated code.
            if section[1] != _SHT_X86_64_UNWIND and flags & _SHF_ALLOC and bool(flags & _SHF_EXECINSTR) == executable:
                align = max(1, section[8])
                cursor = -(-cursor // align) * align
                self.offsets[index] = cursor
                cursor += section[5]
        return cursor

    def _symbols(self) -> list[int | None]:
        values: list[int | None] = []
        for section in self.sections:
            if section[1] != _SHT_SYMTAB:
                continue
            strings = self.sections[section[6]][4]
            for name, info, _, index, value, _ in struct.iter_unpack("<IBBHQQ", self._content(section)):
                place = self.offsets[index] + value if index in self.offsets else None
                values.append(place)
                text = self.data[strings + name : self.data.index(0, strings + name)].decode()
                if text and index == 0:
                    raise EngineError(f"generated code needs {text}, which this host has to provide")
                if text and info & 15 != 3 and place is not None:
                    self.names[text] = place
        return values

    def _value(self, symbol: int) -> int:
        value = self.values[symbol]
        if value is None:
            raise EngineError("a compiled object refers to something that is not loaded")
        return value

    def _address(self, place: int, value: int) -> None:
        """The 8 bytes at `place` are an address in the image."""
        if not 0 <= value <= self.end:
            raise EngineError("a compiled object refers to something outside of it")
        struct.pack_into("<Q", self.memory, place, value)
        self.words.append(place)

    def _relocate(self, section: _Section) -> None:
        memory, target = self.memory, self.offsets[section[7]]
        for offset, info, addend in struct.iter_unpack("<QQq", self._content(section)):
            kind, symbol = info & 0xFFFFFFFF, info >> 32
            place = target + offset
            if kind == _R_X86_64_64:
                self._address(place, self._value(symbol) + addend)
            elif kind in (_R_X86_64_PC32, _R_X86_64_PLT32):
                struct.pack_into("<i", memory, place, self._value(symbol) + addend - place)
            elif kind == _R_X86_64_PC64:
                struct.pack_into("<q", memory, place, self._value(symbol) + addend - place)
            elif kind in _GOTPCREL:
                struct.pack_into("<i", memory, place, self.got[symbol] + addend - place)
            else:
                raise EngineError(f"a compiled object has relocation type {kind}, which the linker does not know")

    def image(self) -> bytes:
        runs: list[int] = []
        for word in sorted(self.words):
            if runs and runs[-2] + 8 * runs[-1] == word:
                runs[-1] += 1
            else:
                runs += [word, 1]
        names = "".join(f"\n{name}" for name in self.names).encode() + b"\n"
        head = _HEAD.pack(
            _MAGIC, self.code, self.end - self.code_pages, len(runs) // 2, len(self.names), len(names)
        )  # fmt: skip
        tables = struct.pack(f"<{len(runs) + len(self.names)}I", *runs, *self.names.values())
        return b"".join((head, tables, names, self.memory[: self.code], self.memory[self.code_pages :]))


class LoadedObject:
    """An object, or the image of one, in memory; `start` and `end` bound the code."""

    __slots__ = ("_names", "_offsets", "_symbols", "end", "size", "start")

    _names: bytes
    _offsets: tuple[int, ...]

    def __init__(self, data: bytes, space: CodeSpace | None = None) -> None:
        if not data.startswith(_MAGIC):
            data = link(data)
        self._symbols: dict[str, int] | None = None
        try:
            self._load(data, space)
        except (struct.error, OverflowError) as error:
            raise EngineError(f"a compiled object is damaged: {error}") from None

    def _load(self, data: bytes, space: CodeSpace | None) -> None:
        _, code, rest, run_count, name_count, names_size = _HEAD.unpack_from(data)
        at = _HEAD.size
        runs = struct.unpack_from(f"<{2 * run_count}I", data, at)
        at += 8 * run_count
        self._offsets = struct.unpack_from(f"<{name_count}I", data, at)
        at += 4 * name_count
        self._names = data[at : at + names_size]
        at += names_size
        if len(data) != at + code + rest:
            raise EngineError("a compiled object is damaged: its sizes do not fit")
        code_pages = _pages(code)
        self.size = size = max(_pages(code_pages + rest), _PAGE)
        fixed = space.take(size) if space is not None else 0
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (MAP_FIXED if fixed else 0)
        base = host_mmap(fixed, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        from ctypes import memmove, string_at

        memmove(base, data[at : at + code], code)
        memmove(base + code_pages, data[at + code :], rest)
        for offset, count in zip(runs[::2], runs[1::2], strict=True):
            if offset + 8 * count > size:
                raise EngineError("a compiled object is damaged: a table lies behind its end")
            # All words of a table in one addition: offset and address together are below 2**64, so nothing is carried.
            ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")
            words = int.from_bytes(string_at(base + offset, 8 * count), "little") + base * ones
            memmove(base + offset, words.to_bytes(8 * count, "little"), 8 * count)
        self.start, self.end = base, base + code_pages
        if code_pages:
            host_mprotect(base, code_pages, mmap.PROT_READ | mmap.PROT_EXEC)
        if size > code_pages:
            host_mprotect(base + code_pages, size - code_pages, mmap.PROT_READ)

    def address(self, name: str) -> int:
        """The address of one defined name, quicker than by `symbols`."""
        at = self._names.find(f"\n{name}\n".encode())
        if at < 0:
            raise EngineError(f"a compiled object has no {name}")
        index = self._names[:at].count(b"\n")
        return self.start + self._offsets[index]

    @property
    def symbols(self) -> dict[str, int]:
        """Each defined name's address."""
        if self._symbols is None:
            self._symbols = dict(zip(self._names.decode().split(), map(self.start.__add__, self._offsets), strict=True))
        return self._symbols
