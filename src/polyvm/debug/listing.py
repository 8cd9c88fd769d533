"""Code as assembly text, in the layout of ``objdump -d``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from polyvm.debug.objectfile import ObjectFile, Section, Symbols
from polyvm.errors import WrongArchitecture
from polyvm.isa import get as get_isa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MACHINES = {243: "riscv64", 183: "aarch64"}
_ADDRESS = re.compile(r"\b0x([0-9a-f]+)$")


def machine_isa(machine: int, name: str) -> str:
    """The guest for an ELF machine number; raises WrongArchitecture."""
    if machine not in _MACHINES:
        raise WrongArchitecture(f"a program for {name}; this version disassembles {' and '.join(_MACHINES.values())}")
    return _MACHINES[machine]


def lines(
    data: bytes, address: int, isa_name: str, symbols: Symbols | None = None, begin: int = 0, end: int = 1 << 64
) -> Iterator[str]:
    """One line per instruction of `data`, which lies at `address`; only those from `begin` up to `end`."""
    isa = get_isa(isa_name)
    disassemble: Callable[[int, int], str] = isa.disassemble
    names = symbols if symbols is not None else Symbols([])
    width = max(8, len(f"{address + len(data):x}"))
    at = 0
    first = True
    while at < len(data):
        pc = address + at
        half = int.from_bytes(data[at : at + 2], "little")
        length = isa.length(half) if at + 2 <= len(data) else 1
        if at + length > len(data):
            length = min(isa.unit, len(data) - at)  # cut off: shown as data
        if begin <= pc < end:
            name = names.at(pc)
            if name is not None:
                if not first:
                    yield ""
                yield f"{pc:016x} <{name}>:"
            first = False
            yield f"{pc:{width}x}:\t{_text(data[at : at + length], pc, disassemble, names)}"
        at += length


def _text(code: bytes, pc: int, disassemble: Callable[[int, int], str], names: Symbols) -> str:
    word = int.from_bytes(code, "little")
    raw = f"{word:0{2 * len(code)}x}"
    if len(code) not in (2, 4):
        return f"{raw:<12}\t.byte\t" + ", ".join(f"{byte:#04x}" for byte in code)
    text = disassemble(word, pc)
    mnemonic, _, operands = text.partition(" ")
    target = _ADDRESS.search(operands)
    label = names.describe(int(target[1], 16)) if target is not None else None
    return f"{raw:<12}\t{mnemonic}" + (f"\t{operands.strip()}" if operands else "") + (f" <{label}>" if label else "")


def sections(file: ObjectFile, wanted: list[str]) -> list[Section]:
    """The sections with code, or those called `wanted`."""
    if not wanted:
        return [section for section in file.sections if section.code and section.size]
    return [section for section in file.sections if section.name in wanted]


def listing(file: ObjectFile, wanted: list[str], begin: int = 0, end: int = 1 << 64) -> Iterator[str]:
    """The lines of all code in `file`; raises ElfError."""
    isa_name = machine_isa(file.machine, file.machine_name)
    for section in sections(file, wanted):
        if section.address + section.size <= begin or section.address >= end:
            continue
        yield ""
        yield f"Disassembly of section {section.name}:"
        yield ""
        yield from lines(file.content(section), section.address, isa_name, file.symbols, begin, end)
