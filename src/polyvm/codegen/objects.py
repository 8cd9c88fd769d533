"""Relocatable ELF objects into executable memory.

A loader of its own because a warm start must not wait for LLVM's library to load. It handles what LLVM emits for
position-independent x86-64 code in the small model (System V ABI, AMD64 supplement, table 4.10) and nothing else; generated
code calls nothing outside its own object. Memory is written first and made executable after (W^X).
"""

from __future__ import annotations

import mmap
import struct

from polyvm.errors import EngineError
from polyvm.mem.host import MAP_FIXED, host_mmap, host_mprotect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.codegen.space import CodeSpace

_SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS = 2, 4, 8
_SHF_ALLOC, _SHF_EXECINSTR = 2, 4
_R_X86_64_64, _R_X86_64_PC32, _R_X86_64_PLT32, _R_X86_64_PC64 = 1, 2, 4, 24
_GOTPCREL = (9, 41, 42)  # GOTPCREL, GOTPCRELX, REX_GOTPCRELX
_PAGE = 4096


class LoadedObject:
    """Code in memory: `symbols` maps each defined name to its address, `start` and `end` bound the code."""

    __slots__ = ("_space", "end", "size", "start", "symbols")

    def __init__(self, data: bytes, space: CodeSpace | None = None) -> None:
        self._space = space
        self.symbols: dict[str, int] = {}
        self.start = self.end = self.size = 0
        try:
            self._load(data)
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise EngineError(f"a compiled object is damaged: {error}") from None

    def _load(self, data: bytes) -> None:
        if data[:4] != b"\x7fELF" or struct.unpack_from("<H", data, 18)[0] != 62:
            raise EngineError("a compiled object is not an x86-64 ELF object")
        shoff = struct.unpack_from("<Q", data, 40)[0]
        shentsize, shnum = struct.unpack_from("<HH", data, 58)
        sections = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + i * shentsize) for i in range(shnum)]
        # Code first, then data on pages of its own, so that only code becomes executable.
        offsets: dict[int, int] = {}
        cursor = 0
        bounds = [0, 0]
        for group, executable in enumerate((True, False)):
            for index, section in enumerate(sections):
                flags = section[2]
                if flags & _SHF_ALLOC and bool(flags & _SHF_EXECINSTR) == executable:
                    align = max(1, section[8])
                    cursor = -(-cursor // align) * align
                    offsets[index] = cursor
                    cursor += section[5]
            cursor = -(-cursor // _PAGE) * _PAGE
            bounds[group] = cursor
        got: dict[int, int] = {}
        relocations = [s for s in sections if s[1] == _SHT_RELA and s[7] in offsets]
        for section in relocations:
            for _, info, _ in struct.iter_unpack("<QQq", data[section[4] : section[4] + section[5]]):
                if info & 0xFFFFFFFF in _GOTPCREL:
                    got.setdefault(info >> 32, cursor + 8 * len(got))
        cursor += -(-8 * len(got) // _PAGE) * _PAGE
        self.size = max(cursor, _PAGE)
        fixed = self._space.take(self.size) if self._space is not None else 0
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (MAP_FIXED if fixed else 0)
        base = host_mmap(fixed, self.size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        image = bytearray(self.size)
        for index, offset in offsets.items():
            section = sections[index]
            if section[1] != _SHT_NOBITS:
                image[offset : offset + section[5]] = data[section[4] : section[4] + section[5]]
        values = self._symbol_values(data, sections, offsets, base)
        for symbol, offset in got.items():
            struct.pack_into("<Q", image, offset, values[symbol])
        for section in relocations:
            self._relocate(data, section, image, base, offsets[section[7]], values, got)
        from ctypes import memmove

        memmove(base, bytes(image), self.size)
        self.start, self.end = base, base + bounds[0]
        if bounds[0]:
            host_mprotect(base, bounds[0], mmap.PROT_READ | mmap.PROT_EXEC)
        if self.size > bounds[0]:
            host_mprotect(base + bounds[0], self.size - bounds[0], mmap.PROT_READ)

    def _symbol_values(
        self, data: bytes, sections: list[tuple[int, ...]], offsets: dict[int, int], base: int
    ) -> list[int]:
        values: list[int] = []
        for section in sections:
            if section[1] != _SHT_SYMTAB:
                continue
            strings = sections[section[6]][4]
            for name, info, _, index, value, _ in struct.iter_unpack(
                "<IBBHQQ", data[section[4] : section[4] + section[5]]
            ):
                address = base + offsets[index] + value if index in offsets else 0
                values.append(address)
                text = data[strings + name : data.index(0, strings + name)].decode()
                if text and index == 0:
                    raise EngineError(f"generated code needs {text}, which this host has to provide")
                if text and info & 15 != 3:
                    self.symbols[text] = address
        return values

    @staticmethod
    def _relocate(
        data: bytes, section: tuple[int, ...], image: bytearray, base: int, target: int, values: list[int],
        got: dict[int, int],
    ) -> None:  # fmt: skip
        for offset, info, addend in struct.iter_unpack("<QQq", data[section[4] : section[4] + section[5]]):
            kind, symbol = info & 0xFFFFFFFF, info >> 32
            place = target + offset
            if kind == _R_X86_64_64:
                struct.pack_into("<Q", image, place, (values[symbol] + addend) & (1 << 64) - 1)
            elif kind in (_R_X86_64_PC32, _R_X86_64_PLT32):
                struct.pack_into("<i", image, place, values[symbol] + addend - (base + place))
            elif kind == _R_X86_64_PC64:
                struct.pack_into("<q", image, place, values[symbol] + addend - (base + place))
            elif kind in _GOTPCREL:
                struct.pack_into("<i", image, place, got[symbol] + addend - place)
            else:
                raise EngineError(f"a compiled object has relocation type {kind}, which the loader does not know")
