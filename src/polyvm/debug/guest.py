"""What people call the guest's code: the file that is mapped there, and the symbol of its table."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from polyvm.debug.objectfile import ObjectFile
from polyvm.errors import PolyvmError

if TYPE_CHECKING:

    class Mapped(Protocol):
        """A part of guest memory: `offset` is where it begins in the file at `path`."""

        @property
        def start(self) -> int: ...

        @property
        def end(self) -> int: ...

        @property
        def offset(self) -> int: ...

        @property
        def path(self) -> str: ...


class Place(NamedTuple):
    """A place in guest code: the file's name (what is no file is in brackets), the function ("" where no symbol says it), how far
    into it, or into the file."""

    module: str
    function: str
    distance: int

    def __str__(self) -> str:
        distance = f"+{self.distance:#x}" if self.distance or not self.function else ""
        return f"{self.module}:{self.function}{distance}" if self.function else f"{self.module}{distance}"


class GuestNames:
    """Names for the code of one guest; its paths are looked for below each of `roots`, then as they are."""

    def __init__(self, roots: list[str]) -> None:
        self._roots = roots
        self._files: dict[str, ObjectFile | None] = {}

    def place(self, mapped: Mapped | None, pc: int) -> Place:
        """The place of address `pc`, which lies in `mapped`."""
        if mapped is None:
            return Place("[unmapped]", "", pc)
        if not mapped.path.startswith("/"):
            return Place(mapped.path or "[anonymous]", "", pc)
        module = os.path.basename(mapped.path)
        offset = mapped.offset + pc - mapped.start
        file = self._file(mapped.path)
        address = file.address_at(offset) if file is not None else None
        name = file.symbols.describe(address) if file is not None and address is not None else None
        if name is None:
            return Place(module, "", offset if address is None else address)
        function, _, distance = name.partition("+0x")
        return Place(module, function, int(distance, 16) if distance else 0)

    def label(self, mapped: Mapped | None, pc: int) -> str:
        """The same as a text."""
        return str(self.place(mapped, pc))

    def _file(self, path: str) -> ObjectFile | None:
        if path not in self._files:
            self._files[path] = self._open(path)
        return self._files[path]

    def _open(self, path: str) -> ObjectFile | None:
        for candidate in [root + path for root in self._roots] + [path]:
            try:
                with open(candidate, "rb") as file:
                    return ObjectFile(file.read())
            except (OSError, PolyvmError):
                continue
        return None
