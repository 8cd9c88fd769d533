"""The functions of a relocatable object as pieces of machine code that may be copied anywhere, with what is to be filled in."""

from __future__ import annotations

import struct
from typing import NamedTuple

from polyvm.codegen.objects import read_sections
from polyvm.errors import EngineError

_SYMTAB, _RELA = 2, 4
_ALLOC, _EXECINSTR = 2, 4
_FUNCTION = 2
# Relocation types of the AMD64 supplement: bytes that are filled in, and whether with a distance from there.
_TYPES = {1: (8, False), 2: (4, True), 4: (4, True), 10: (4, False), 11: (4, False), 14: (1, False)}


class Hole(NamedTuple):
    """`size` bytes at `at`: the value of `symbol` plus `addend`, less the address of the place itself if `relative`. A symbol of
    None is the object's constants, `addend` the place in them."""

    at: int
    size: int
    relative: bool
    symbol: str | None
    addend: int


class Pieces(NamedTuple):
    """Each function's code and holes; `unusable` says of functions that cannot be copied why. `constants` are aligned to 64."""

    functions: dict[str, tuple[bytes, list[Hole]]]
    unusable: dict[str, str]
    constants: bytes


def pieces(data: bytes) -> Pieces:
    """All functions of an object; raises EngineError."""
    try:
        return _pieces(data)
    except (struct.error, IndexError, ValueError) as error:
        raise EngineError(f"a compiled object is damaged: {error}") from None


def _pieces(data: bytes) -> Pieces:
    sections = read_sections(data)
    contents = {i: data[s[4] : s[4] + s[5]] for i, s in enumerate(sections)}
    symbols: list[tuple[str, int, int, int, int]] = []  # name, type, section, value, size
    for section in sections:
        if section[1] == _SYMTAB:
            strings = sections[section[6]][4]
            for name, info, _, index, value, size in struct.iter_unpack("<IBBHQQ", data[section[4] : section[4] + section[5]]):
                text = data[strings + name : data.index(0, strings + name)].decode()
                symbols.append((text, info & 15, index, value, size))
    relocated = {section[7] for section in sections if section[1] == _RELA}
    constants = bytearray()
    offsets: dict[int, int] = {}
    for i, section in enumerate(sections):
        if section[1] == 1 and section[2] & _ALLOC and not section[2] & _EXECINSTR and i not in relocated:
            align = max(1, section[8])
            constants += bytes(-len(constants) % align)
            offsets[i] = len(constants)
            constants += contents[i]
    found: dict[str, tuple[bytes, list[Hole]]] = {}
    unusable: dict[str, str] = {}
    for code_index, section in enumerate(sections):
        if not section[2] & _EXECINSTR:
            continue
        holes = _holes(sections, contents, code_index)
        for name, kind, index, value, size in symbols:
            if kind != _FUNCTION or index != code_index:
                continue
            own: list[Hole] = []
            for at, type_, number, addend in holes:
                if not value <= at < value + size:
                    continue
                text, _, target, place, _ = symbols[number]
                if type_ not in _TYPES:
                    unusable[name] = f"relocation type {type_}"
                elif target == 0:
                    own.append(Hole(at - value, *_TYPES[type_], text, addend))
                elif target in offsets:
                    own.append(Hole(at - value, *_TYPES[type_], None, offsets[target] + place + addend))
                else:
                    unusable[name] = f"refers to {text or 'another section'}"
            if name not in unusable:
                found[name] = contents[code_index][value : value + size], own
    return Pieces(found, unusable, bytes(constants))


def _holes(
    sections: list[tuple[int, ...]], contents: dict[int, bytes], target: int
) -> list[tuple[int, int, int, int]]:  # fmt: skip
    """Offset, type, symbol and addend of the relocations of a section."""
    return [
        (offset, info & 0xFFFFFFFF, info >> 32, addend)
        for i, section in enumerate(sections)
        if section[1] == _RELA and section[7] == target
        for offset, info, addend in struct.iter_unpack("<QQq", contents[i])
    ]
