"""Register maps: one table for each accelerator and architecture, checked when it is made.

A table has a row for each register of the contract's record: its name, and where the accelerator has it. A register that is
missing,
doubled or unknown is an EncodingError at import, so there is no set of registers that is read but not written.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import fields
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from polyvm.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")
P = TypeVar("P")


def checked(kind: type[Any], rows: Iterable[tuple[str, P]], *, without: tuple[str, ...] = ()) -> dict[str, P]:
    """The rows as name → place in the order of `kind`'s fields; `without` are fields that are got another way."""
    table: dict[str, P] = {}
    places: dict[object, str] = {}
    wanted = [entry.name for entry in fields(kind) if entry.name not in without]
    for name, place in rows:
        if name not in wanted:
            raise EncodingError(f"{kind.__name__} has no register {name}")
        if name in table:
            raise EncodingError(f"{kind.__name__}: {name} is there twice")
        if place in places:
            raise EncodingError(f"{kind.__name__}: {name} and {places[place]} are at the same place {place!r}")
        table[name] = place
        places[place] = name
    missing = [name for name in wanted if name not in table]
    if missing:
        raise EncodingError(f"{kind.__name__}: {', '.join(missing)} missing")
    return {name: table[name] for name in wanted}


class StructMap(Generic[T]):
    """Registers that lie in a C structure, one unsigned integer each: rows are (name, field)."""

    __slots__ = ("_form", "_kind", "_names", "_order", "_places", "size")

    def __init__(self, kind: type[T], structure: type[ctypes.Structure], rows: Iterable[tuple[str, str]]) -> None:
        table = checked(kind, rows)
        by_offset = sorted(table.items(), key=lambda row: getattr(structure, row[1]).offset)
        form, at = "<", 0
        for _, field in by_offset:
            member = getattr(structure, field)
            form += "x" * (member.offset - at) + {1: "B", 2: "H", 4: "I", 8: "Q"}[member.size]
            at = member.offset + member.size
        self._form = struct.Struct(form)
        stored = [name for name, _ in by_offset]
        self._names = itemgetter(*[stored.index(name) for name in table])
        self._order = stored
        self._places = list(table) == stored
        self._kind = kind
        self.size = ctypes.sizeof(structure)

    def get(self, buffer: Any, offset: int = 0) -> T:
        """The registers that lie at `offset` of a buffer."""
        values = self._form.unpack_from(buffer, offset)
        return self._kind(*(values if self._places else self._names(values)))

    def set(self, buffer: Any, offset: int, registers: T) -> None:
        """Write them there; values are taken modulo 2**64."""
        mask = 0xFFFF_FFFF_FFFF_FFFF
        self._form.pack_into(buffer, offset, *[getattr(registers, name) & mask for name in self._order])
