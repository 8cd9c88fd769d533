"""`--dump`: what each stage of the engine makes of the code at one address of a program file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.debug.listing import machine_isa
from polyvm.debug.objectfile import ObjectFile
from polyvm.engine import dump as engine_dump
from polyvm.errors import UsageError

if TYPE_CHECKING:
    from polyvm.debug.objectfile import Section

_UNSIZED = 64  # bytes shown where no symbol says how long the function is
_MOST = 4096


def dump(path: str, kinds: list[str], address: int | None) -> str:
    """The views `kinds` of the function at `address` of the file (default: its entry point), one after the other."""
    with open(path, "rb") as opened:
        file = ObjectFile(opened.read())
    isa = machine_isa(file.machine, file.machine_name)
    begin = file.entry if address is None else address
    parts: list[str] = []
    for kind in kinds:
        if len(kinds) > 1:
            parts.append(f"# {kind}\n")
        if kind.startswith("region"):
            section = _section(file, begin)
            parts.append(engine_dump(kind, isa, file.content(section), section.address, begin) + "\n")
        else:
            parts.append(engine_dump(kind, isa, _code(file, begin), begin) + "\n")
    return "".join(parts)


def _section(file: ObjectFile, begin: int) -> Section:
    for section in file.sections:
        if section.code and section.address <= begin < section.address + section.size:
            return section
    raise UsageError(f"there is no code at {begin:#x}")


def _code(file: ObjectFile, begin: int) -> bytes:
    section = _section(file, begin)
    name = file.symbols.at(begin)
    extent = file.symbols.extent(name) if name is not None else None
    size = min(extent[1] - begin, _MOST) if extent is not None else _UNSIZED
    offset = begin - section.address
    return file.content(section)[offset : offset + size]
