"""What people call the guest's code: the file that is mapped there, and the symbol of its table."""

from __future__ import annotations

import os
from bisect import bisect_right
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
    """A place in guest code: the file's name (what is no file is in brackets), the function (sub_ADDRESS
    where it has no name, "" where nothing says that there is one), how far
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
        self._starts: dict[str, list[int]] = {}

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
            start = self._start(mapped.path, address) if address is not None else None
            if start is None or address is None:
                return Place(module, "", offset if address is None else address)
            return Place(module, f"sub_{start:x}", address - start)
        function, _, distance = name.partition("+0x")
        return Place(module, function, int(distance, 16) if distance else 0)

    def code_offsets(self, path: str) -> list[int]:
        """Offsets in a file where functions begin."""
        file = self._file(path)
        if file is None:
            return []
        code = [section for section in file.sections if section.code and section.in_file]
        found = {*file.symbols.addresses(), *file.function_starts(), file.entry}
        return sorted(
            section.offset + address - section.address for address in found for section in code
            if section.address <= address < section.address + section.size
        )  # fmt: skip

    def main_offset(self, path: str) -> int:
        """The offset of main in a program's file, or of its entry point where the file does not name it."""
        file = self._file(path)
        if file is None:
            return 0
        main = file.symbols.extent("main")
        address = main[0] if main is not None else file.entry
        return next((section.offset + address - section.address for section in file.sections
                     if section.code and section.address <= address < section.address + section.size), 0)  # fmt: skip

    def label(self, mapped: Mapped | None, pc: int) -> str:
        """The same as a text."""
        return str(self.place(mapped, pc))

    def _start(self, path: str, address: int) -> int | None:
        """Where the function without a name begins that `address` is in."""
        if path not in self._starts:
            file = self._file(path)
            self._starts[path] = file.function_starts() if file is not None else []
        index = bisect_right(self._starts[path], address) - 1
        return self._starts[path][index] if index >= 0 else None

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
