"""Registers by name: for debuggers, tools, and whoever saves and restores the state of a processor."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class State(Protocol):
        """What registers are read from and written to: `engine.Core` has it."""

        @property
        def pc(self) -> int: ...

        @pc.setter
        def pc(self, value: int) -> None: ...

        @property
        def fp_flags(self) -> int: ...

        @fp_flags.setter
        def fp_flags(self, flags: int) -> None: ...

        @property
        def fp_rm(self) -> int: ...

        @fp_rm.setter
        def fp_rm(self, mode: int) -> None: ...

        def get(self, file: str, index: int = 0) -> int: ...

        def set(self, file: str, index: int, value: int) -> None: ...


class RegisterTable:
    """The registers of one guest.

    `names`: each name with its file in the state, number and width in bits; the usual names come first, in the manual's order. A
    register that is narrower than the one it lies in is written with zeros above. A file that the state does not have is computed
    by `get` and `set`. `floating` is the file with floating-point numbers, `integers` how many there are in ``x``.
    """

    names: Mapping[str, tuple[str, int, int]]
    floating: str
    integers = 32
    constant: frozenset[tuple[str, int]] = frozenset()  # those that writes have no effect on

    def read(self, state: State, name: str) -> int:
        """The register called `name`, unsigned; KeyError if there is none."""
        file, index, bits = self.names[name]
        return self.get(state, file, index) & (1 << bits) - 1

    def write(self, state: State, name: str, value: int) -> None:
        """Write the register called `name`; KeyError if there is none."""
        file, index, bits = self.names[name]
        if (file, index) not in self.constant:
            self.set(state, file, index, value & (1 << bits) - 1)

    def get(self, state: State, file: str, index: int) -> int:
        """One register, whole."""
        return state.pc if file == "pc" else state.get(file, index)

    def set(self, state: State, file: str, index: int, value: int) -> None:
        """Write one register, whole."""
        if file == "pc":
            state.pc = value
        else:
            state.set(file, index, value)

    def single(self, raw: int) -> int:
        """The single-precision number in a floating-point register, as its 32 bits."""
        return raw & 0xFFFF_FFFF

    def from_single(self, bits: int) -> int:
        """What a floating-point register holds for a single-precision number."""
        return bits
