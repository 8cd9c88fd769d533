"""`--dump`: what each stage of the engine makes of the code at one address of a program file."""

from __future__ import annotations

from polyvm.debug.listing import machine_isa
from polyvm.debug.objectfile import ObjectFile
from polyvm.engine import dump as engine_dump
from polyvm.errors import UsageError

_UNSIZED = 64  # bytes shown where no symbol says how long the function is
_MOST = 4096


def dump(path: str, kinds: list[str], address: int | None) -> str:
    """The views `kinds` of the function at `address` of the file (default: its entry point), one after the other."""
    with open(path, "rb") as opened:
        file = ObjectFile(opened.read())
    isa = machine_isa(file.machine, file.machine_name)
    begin = file.entry if address is None else address
    code = _code(file, begin)
    parts: list[str] = []
    for kind in kinds:
        if len(kinds) > 1:
            parts.append(f"# {kind}\n")
        parts.append(engine_dump(kind, isa, code, begin) + "\n")
    return "".join(parts)


def _code(file: ObjectFile, begin: int) -> bytes:
    for section in file.sections:
        if section.code and section.address <= begin < section.address + section.size:
            name = file.symbols.at(begin)
            extent = file.symbols.extent(name) if name is not None else None
            size = min(extent[1] - begin, _MOST) if extent is not None else _UNSIZED
            offset = begin - section.address
            return file.content(section)[offset : offset + size]
    raise UsageError(f"there is no code at {begin:#x}")
