"""Registers of a bare `Cpu` by name and by number."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING

from polyvm.errors import UsageError
from polyvm.isa import get as get_isa

if TYPE_CHECKING:
    from polyvm.isa.registers import RegisterTable, State

_MASK = (1 << 64) - 1


def register_names(guest: str) -> Mapping[str, tuple[str, int, int]]:
    """Each name of a register, mapped to its file, index and width in bits. The usual names come first."""
    return get_isa(guest).registers.names


class RegisterFile:
    """The registers of one file by number, as unsigned integers: ``cpu.x[10]``, ``cpu.f[0]`` (raw bits)."""

    __slots__ = ("_constant", "_count", "_mask", "_name", "_state")

    def __init__(self, state: State, table: RegisterTable, name: str) -> None:
        self._state = state
        self._name = name
        self._constant = {index for file, index in table.constant if file == name}
        self._count = table.integers if name == "x" else 32
        self._mask = (1 << max(bits for file, _, bits in table.names.values() if file == name)) - 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> int:
        return self._state.get(self._name, self._checked(index))

    def __setitem__(self, index: int, value: int) -> None:
        index = self._checked(index)
        if index not in self._constant:
            self._state.set(self._name, index, value & self._mask)

    def __iter__(self) -> Iterator[int]:
        return (self[i] for i in range(self._count))

    def __repr__(self) -> str:
        return f"<{self._name}0…{self._name}{self._count - 1}>"

    def _checked(self, index: int) -> int:
        if not 0 <= index < self._count:
            raise IndexError(f"there is no register {self._name}{index}")
        return index


class FloatView:
    """The same floating-point registers as Python floats: ``cpu.d[10]`` (double), ``cpu.s[10]`` (single).

    riscv64: a single that is not NaN-boxed reads as NaN, as the instructions see it (RISC-V unprivileged specification, 21.2).
    aarch64: what is above the number is not looked at, and cleared by writing.
    """

    __slots__ = ("_double", "_file", "_table")

    def __init__(self, file: RegisterFile, table: RegisterTable, double: bool) -> None:
        self._file = file
        self._table = table
        self._double = double

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> float:
        raw = self._file[index]
        if self._double:
            return _unpack("<d", (raw & _MASK).to_bytes(8, "little"))
        return _unpack("<f", self._table.single(raw).to_bytes(4, "little"))

    def __setitem__(self, index: int, value: float) -> None:
        if self._double:
            self._file[index] = int.from_bytes(struct.pack("<d", value), "little")
        else:
            self._file[index] = self._table.from_single(int.from_bytes(struct.pack("<f", value), "little"))

    def __iter__(self) -> Iterator[float]:
        return (self[i] for i in range(32))


def _unpack(form: str, data: bytes) -> float:
    value: float = struct.unpack(form, data)[0]
    return value


class Registers(MutableMapping[str, int]):
    """All registers by name, as unsigned integers: ``cpu.regs["a0"]``, ``["x10"]``, ``["fa0"]``, ``["pc"]``; of aarch64
    ``["x0"]``, ``["w0"]``, ``["sp"]``, ``["v0"]``, ``["d0"]``, ``["nzcv"]``.

    Iteration goes over the usual names, once per register, so ``dict(cpu.regs)`` is a snapshot.
    """

    __slots__ = ("_names", "_state", "_table")

    def __init__(self, state: State, guest: str) -> None:
        self._state = state
        self._table = get_isa(guest).registers
        self._names = self._table.names

    def __getitem__(self, name: str) -> int:
        return self._table.read(self._state, self._checked(name))

    def __setitem__(self, name: str, value: int) -> None:
        self._table.write(self._state, self._checked(name), value)

    def __delitem__(self, name: str) -> None:
        raise UsageError("a register cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        seen: set[tuple[str, int]] = set()
        for name, (file, index, _) in self._names.items():
            if (file, index) not in seen:
                seen.add((file, index))
                yield name

    def __len__(self) -> int:
        return len({place[:2] for place in self._names.values()})

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name}: {value:#x}" for name, value in self.items()) + "}"

    def _checked(self, name: str) -> str:
        if name not in self._names:
            raise KeyError(f"there is no register {name!r}")
        return name
