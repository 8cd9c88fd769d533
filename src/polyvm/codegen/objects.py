"""Relocatable ELF objects into executable memory, in two steps.

`link` makes an image of an object: what will lie in memory, as if at address 0, with all that does not depend on the address
resolved. Images are what is cached and what the compiler's process answers, so a start has only to copy one and to add its
address to the words of its tables. `LoadedObject` does that. Memory is written first and made executable after (W^X).

A linker of its own because a start must not wait for LLVM's library to load. It handles what LLVM emits for
position-independent x86-64 code in the small model (System V ABI, AMD64 supplement, table 4.10) and nothing else; generated
code calls nothing outside its own object.

    image   magic, sizes of the code, of the data and of the writable data, each of which begins on the next page; where in the
            writable data `more` begins; where the fault table is (0: nowhere); the number of runs, of symbols, and the size of
            the names; the number of near references
            the runs: offset and number of 8-byte words that the image's address is added to
            the symbols: offsets; then their names, each between two line feeds
            the near references: offsets of the 4-byte distances that lead from the code to the writable data
            the code, the data, the writable data

For the code space (`space.py`) an image is made `closely`: the data are part of the code, and the writable data may lie at
another distance, for which the near references are changed.

The fault table says for which accesses the host may refuse memory: the distance of the image from the start of the code space,
then pairs of offsets in the image, of an access and of where to go on instead; a zero ends it.
"""

from __future__ import annotations

import mmap
import struct

from polyvm.errors import EngineError
from polyvm.mem.host import host_mmap, host_mprotect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.codegen.space import CodeSpace

_SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS, _SHT_X86_64_UNWIND = 2, 4, 8, 0x70000001
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 1, 2, 4
_R_X86_64_64, _R_X86_64_PC32, _R_X86_64_PLT32, _R_X86_64_PC64 = 1, 2, 4, 24
_GOTPCREL = (9, 41, 42)  # GOTPCREL, GOTPCRELX, REX_GOTPCRELX
_PAGE, LINE = 4096, 64
_MAGIC = b"PVIMAGE3"
_HEAD = struct.Struct("<8s9I")
_CLOSED = b".data.rel.ro"  # writable only until the addresses in it are right
MAPS = ".llvm_stackmaps"  # a section that is not loaded
FAULTS = ".polyvm.faults"  # a section of pairs of 32-bit distances from where they stand, which becomes the fault table
_MOST = 1 << 31  # bytes of an image: what a distance in code can span

_Section = tuple[int, ...]  # name, type, flags, address, offset, size, link, info, alignment, entry size


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def read_sections(data: bytes) -> list[_Section]:
    """The section headers of an object file."""
    shoff = struct.unpack_from("<Q", data, 40)[0]
    shentsize, shnum = struct.unpack_from("<HH", data, 58)
    return [struct.unpack_from("<IIQQQQIIQQ", data, shoff + i * shentsize) for i in range(shnum)]


def _named(data: bytes, sections: list[_Section], name: str) -> int:
    """The index of a section; 0 if there is none of that name."""
    strings = sections[struct.unpack_from("<H", data, 62)[0]][4]
    return next((i for i, s in enumerate(sections) if i and data.startswith(name.encode() + b"\0", strings + s[0])), 0)


def find_section(data: bytes, name: str) -> tuple[int, int]:
    """Where in an object file a section is, and its size; (0, 0) if there is none of that name."""
    sections = read_sections(data)
    index = _named(data, sections, name)
    return (sections[index][4], sections[index][5]) if index else (0, 0)


Patch = tuple[int, bytes, tuple[int, ...]]  # where, what, and which bytes of it begin a near reference


def link(
    data: bytes | list[bytes], more: bytes = b"", patches: Callable[[int, int], list[Patch]] | None = None, *,
    closely: bool = False,
) -> bytes:  # fmt: skip
    """The image of an object, or of several that refer to each other's names; raises EngineError. Its writable data ends with a
    word that is zero and with `more`; `patches` gets the offsets of the function "region" and of that word, and says what is to
    be written where in the code. `closely`: it is for the code space."""
    try:
        return _Linker([data] if isinstance(data, bytes) else data, more, patches, closely=closely).image()
    except (struct.error, IndexError, ValueError) as error:
        raise EngineError(f"a compiled object is damaged: {error}") from None


class _Object:
    """One of the objects that are linked: its sections, and where they will be in memory."""

    def __init__(self, data: bytes) -> None:
        if data[:4] != b"\x7fELF" or struct.unpack_from("<H", data, 18)[0] != 62:
            raise EngineError("a compiled object is not an x86-64 ELF object")
        self.data = data
        self.sections = read_sections(data)
        self.offsets: dict[int, int] = {}
        self.faults, self.maps = _named(data, self.sections, FAULTS), _named(data, self.sections, MAPS)
        self.symbols: list[tuple[str, int | None]] = []  # names, and places; None: another object's

    def content(self, section: _Section) -> bytes:
        """The bytes of a section."""
        found = self.data[section[4] : section[4] + section[5]]
        if len(found) < section[5]:
            raise EngineError("a compiled object is damaged: a section lies behind its end")
        return found

    def arrange(self, cursor: int, kind: int) -> int:
        """Place the sections of one kind (flags) from `cursor` on; where they end."""
        names = self.sections[struct.unpack_from("<H", self.data, 62)[0]][4]
        for index, section in enumerate(self.sections):
            # Nothing unwinds through generated code.
            if not section[2] & _SHF_ALLOC or section[1] == _SHT_X86_64_UNWIND or index == self.maps:
                continue
            flags = section[2] & (_SHF_EXECINSTR | _SHF_WRITE)
            if self.data.startswith(_CLOSED, names + section[0]):
                flags = 0
            if flags == kind:
                align = max(4 if index == self.faults else 1, section[8])
                cursor = -(-cursor // align) * align
                self.offsets[index] = cursor
                cursor += section[5] + (8 if index == self.faults else 0)
        return cursor

    def relocations(self) -> list[_Section]:
        """The sections of relocations for what is in memory."""
        return [section for section in self.sections if section[1] == _SHT_RELA and section[7] in self.offsets]

    def read_symbols(self, defined: dict[str, int]) -> None:
        """Read the symbols; those that others may use go into `defined`."""
        for section in self.sections:
            if section[1] != _SHT_SYMTAB:
                continue
            strings = self.sections[section[6]][4]
            for name, info, _, index, value, _ in struct.iter_unpack("<IBBHQQ", self.content(section)):
                place = self.offsets[index] + value if index in self.offsets else None
                text = self.data[strings + name : self.data.index(0, strings + name)].decode()
                self.symbols.append((text if index == 0 else "", place))
                if text and info & 15 != 3 and place is not None:
                    defined[text] = place


class _Linker:
    def __init__(
        self, data: list[bytes], more: bytes, patches: Callable[[int, int], list[Patch]] | None, *, closely: bool
    ) -> None:  # fmt: skip
        self.objects = [_Object(one) for one in data]
        self.code = self._arrange(0, _SHF_EXECINSTR)
        self.code_pages = -(-self.code // LINE) * LINE if closely else _pages(self.code)
        end = self._arrange(self.code_pages, 0)
        # After the data, the addresses that code loads.
        start = -(-end // 8) * 8
        self.got: dict[tuple[int, int], int] = {}
        for number, one in enumerate(self.objects):
            for section in one.relocations():
                for _, info, _ in struct.iter_unpack("<QQq", one.content(section)):
                    if info & 0xFFFFFFFF in _GOTPCREL:
                        self.got.setdefault((number, info >> 32), start + 8 * len(self.got))
        self.data_end = start + 8 * len(self.got) if self.got else end
        if closely:
            self.code = self.code_pages = self.data_end
        self.writable = _pages(self.data_end)
        end = self._arrange(self.writable, _SHF_WRITE)
        self.more = -(-end // 8) * 8
        self.end = self.more + 8 + len(more) if more else end
        if self.end > _MOST:
            raise EngineError(f"a compiled object takes {self.end} bytes")
        self.memory = bytearray(self.end)
        self.names: dict[str, int] = {}
        for one in self.objects:
            for index, offset in one.offsets.items():
                section = one.sections[index]
                if section[1] != _SHT_NOBITS:
                    self.memory[offset : offset + section[5]] = one.content(section)
            one.read_symbols(self.names)
        for one in self.objects:
            if missing := [name for name, _ in one.symbols if name and name not in self.names]:
                raise EngineError(f"generated code needs {missing[0]}, which this host has to provide")
        self.words: list[int] = []  # offsets of addresses
        self.near: list[int] = []
        self.closely = closely
        for (number, symbol), offset in self.got.items():
            self._address(offset, self._value(self.objects[number], symbol))
        for number, one in enumerate(self.objects):
            for section in one.relocations():
                self._relocate(number, one, section)
        self.faults = next((one.offsets[one.faults] for one in self.objects if one.faults), 0)
        if self.faults:
            self._fault_table()
        if more:
            self.memory[self.more + 8 :] = more
        for place, code, near in patches(self.names["region"], self.more) if patches is not None else ():
            self.memory[place : place + len(code)] = code
            self.near += [place + at for at in near]

    def _arrange(self, cursor: int, kind: int) -> int:
        for one in self.objects:
            cursor = one.arrange(cursor, kind)
        return cursor

    def _fault_table(self) -> None:
        found = [one for one in self.objects if one.faults]
        if len(found) > 1:
            raise EngineError("several objects have accesses that the host may refuse")
        at, count = self.faults, found[0].sections[found[0].faults][5] // 4
        distances = struct.unpack_from(f"<{count}i", self.memory, at)
        struct.pack_into(f"<{count + 2}I", self.memory, at, 0, *(at + 4 * i + d for i, d in enumerate(distances)), 0)

    def _value(self, one: _Object, symbol: int) -> int:
        name, value = one.symbols[symbol]
        if name:
            value = self.names[name]
        if value is None:
            raise EngineError("a compiled object refers to something that is not loaded")
        return value

    def _address(self, place: int, value: int) -> None:
        """The 8 bytes at `place` are an address in the image."""
        if not 0 <= value <= self.end:
            raise EngineError("a compiled object refers to something outside of it")
        if self.closely and value >= self.writable:
            raise EngineError("a compiled object has the address of writable data")
        struct.pack_into("<Q", self.memory, place, value)
        self.words.append(place)

    def _relocate(self, number: int, one: _Object, section: _Section) -> None:
        memory, target = self.memory, one.offsets[section[7]]
        for offset, info, addend in struct.iter_unpack("<QQq", one.content(section)):
            kind, symbol = info & 0xFFFFFFFF, info >> 32
            place = target + offset
            if kind == _R_X86_64_64:
                self._address(place, self._value(one, symbol) + addend)
            elif kind in (_R_X86_64_PC32, _R_X86_64_PLT32):
                value = self._value(one, symbol)
                struct.pack_into("<i", memory, place, value + addend - place)
                if value >= self.writable > place:
                    self.near.append(place)
                elif self.closely and value < self.writable <= place:
                    raise EngineError("a compiled object's writable data refer to its code")
            elif kind == _R_X86_64_PC64 and not self.closely:
                struct.pack_into("<q", memory, place, self._value(one, symbol) + addend - place)
            elif kind in _GOTPCREL:
                struct.pack_into("<i", memory, place, self.got[number, symbol] + addend - place)
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
            _MAGIC, self.code, self.data_end - self.code_pages, self.end - self.writable, self.more - self.writable,
            self.faults, len(runs) // 2, len(self.names), len(names), len(self.near) if self.closely else 0,
        )  # fmt: skip
        tables = struct.pack(f"<{len(runs) + len(self.names)}I", *runs, *self.names.values())
        near = struct.pack(f"<{len(self.near)}I", *self.near) if self.closely else b""
        parts = self.memory[: self.code], self.memory[self.code_pages : self.data_end], self.memory[self.writable :]
        return b"".join((head, tables, names, near, *parts))


def _added(words: bytes | bytearray, base: int, count: int) -> bytes:
    """Words of 8 bytes, each plus `base`, in one addition: each sum is below 2**64, so nothing is carried."""
    if len(words) != 8 * count:
        raise EngineError("a compiled object is damaged: a table lies behind its end")
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")
    return (int.from_bytes(words, "little") + base * ones).to_bytes(8 * count, "little")


class LoadedObject:
    """An object, or the image of one, in memory; `start` and `end` bound the code. `writable`: the address of the word in the
    writable data. `space`: where an image that was made closely goes; raises EngineError, OSError."""

    __slots__ = ("_moved", "_names", "_offsets", "_symbols", "_writable", "end", "size", "start", "writable")

    def __init__(self, data: bytes, space: CodeSpace | None = None) -> None:
        if not data.startswith(_MAGIC):
            data = link(data, closely=space is not None)
        self._symbols: dict[str, int] | None = None
        try:
            self._load(data, space)
        except (struct.error, OverflowError) as error:
            raise EngineError(f"a compiled object is damaged: {error}") from None

    def _load(self, data: bytes, space: CodeSpace | None) -> None:
        _, code, rest, writable, more, faults, run_count, name_count, names_size, near_count = _HEAD.unpack_from(data)
        at = _HEAD.size
        runs = struct.unpack_from(f"<{2 * run_count}I", data, at)
        at += 8 * run_count
        self._offsets: tuple[int, ...] = struct.unpack_from(f"<{name_count}I", data, at)
        at += 4 * name_count
        self._names = data[at : at + names_size]
        at += names_size
        near = struct.unpack_from(f"<{near_count}I", data, at)
        at += 4 * near_count
        if len(data) != at + code + rest + writable:
            raise EngineError("a compiled object is damaged: its sizes do not fit")
        code_pages = code if space is not None else _pages(code)
        closed = _pages(code_pages + rest)
        if more > writable or faults > closed or (rest and space is not None):
            raise EngineError("a compiled object is damaged: a table lies behind its end")
        self._writable = closed
        if space is not None:
            self._place(space, data[at : at + code], data[at + code :], runs, near, faults)
        else:
            self._map(data[at : at + code], data[at + code : at + code + rest], data[at + code + rest :], runs)
        self.writable = self.start + closed + self._moved + more

    def _place(
        self, space: CodeSpace, code: bytes, writable: bytes, runs: tuple[int, ...], near: tuple[int, ...], faults: int
    ) -> None:  # fmt: skip
        """In the code space."""
        from ctypes import memmove

        self.start, data = space.take(len(code), len(writable))
        self.end = self.start + len(code)
        self.size = len(code) + len(writable)
        self._moved = moved = data - self.start - self._writable
        memory = bytearray(code)
        for offset, count in zip(runs[::2], runs[1::2], strict=True):
            memory[offset : offset + 8 * count] = _added(memory[offset : offset + 8 * count], self.start, count)
        for offset in near:
            struct.pack_into("<i", memory, offset, struct.unpack_from("<i", memory, offset)[0] + moved)
        if faults:
            struct.pack_into("<I", memory, faults, self.start - space.start)
        memmove(data, writable, len(writable))
        space.put(self.start, bytes(memory))
        if faults:
            space.expect_faults(self.start, len(code), self.start + faults)

    def _map(self, code: bytes, rest: bytes, writable: bytes, runs: tuple[int, ...]) -> None:
        """In pages of its own."""
        from ctypes import memmove, string_at

        code_pages, closed = _pages(len(code)), self._writable
        self._moved = 0
        self.size = size = max(_pages(closed + len(writable)), _PAGE)
        base = host_mmap(0, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        memmove(base, code, len(code))
        memmove(base + code_pages, rest, len(rest))
        memmove(base + closed, writable, len(writable))
        for offset, count in zip(runs[::2], runs[1::2], strict=True):
            if offset + 8 * count > size:
                raise EngineError("a compiled object is damaged: a table lies behind its end")
            memmove(base + offset, _added(string_at(base + offset, 8 * count), base, count), 8 * count)
        self.start, self.end = base, base + code_pages
        if code_pages:
            host_mprotect(base, code_pages, mmap.PROT_READ | mmap.PROT_EXEC)
        if closed > code_pages:
            host_mprotect(base + code_pages, closed - code_pages, mmap.PROT_READ)

    def defines(self, name: str) -> bool:
        """True if it has an address."""
        return f"\n{name}\n".encode() in self._names

    def address(self, name: str) -> int:
        """The address of one defined name, quicker than by `symbols`."""
        at = self._names.find(f"\n{name}\n".encode())
        if at < 0:
            raise EngineError(f"a compiled object has no {name}")
        return self._at(self._offsets[self._names[:at].count(b"\n")])

    def _at(self, offset: int) -> int:
        """The address of what is there in the image."""
        return self.start + offset + (self._moved if offset >= self._writable else 0)

    @property
    def symbols(self) -> dict[str, int]:
        """Each defined name's address."""
        if self._symbols is None:
            self._symbols = dict(zip(self._names.decode().split(), map(self._at, self._offsets), strict=True))
        return self._symbols
