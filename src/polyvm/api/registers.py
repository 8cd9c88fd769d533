"""Registers of a bare `Cpu` by name and by number."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Protocol

from polyvm.errors import UnsupportedError, UsageError

_MASK = (1 << 64) - 1


class RegisterState(Protocol):
    """The guest state that registers are read from and written to: `engine.Core` has it."""

    @property
    def pc(self) -> int: ...

    @pc.setter
    def pc(self, value: int) -> None: ...

    @property
    def fcsr(self) -> int: ...

    @fcsr.setter
    def fcsr(self, value: int) -> None: ...

    def get(self, file: str, index: int = 0) -> int: ...

    def set(self, file: str, index: int, value: int) -> None: ...


def register_names(guest: str) -> Mapping[str, tuple[str, int]]:
    """Each name of a register, mapped to its file and index. Names of the ABI come first, in architectural order."""
    if guest != "riscv64":
        raise UnsupportedError(f"there is no guest {guest!r}; this version has riscv64")
    from polyvm.isa.riscv64.state import F_NAMES, X_NAMES

    names: dict[str, tuple[str, int]] = {name: ("x", i) for i, name in enumerate(X_NAMES)}
    names |= {name: ("f", i) for i, name in enumerate(F_NAMES)}
    names |= {"pc": ("pc", 0), "fcsr": ("fcsr", 0)}
    names |= {f"x{i}": ("x", i) for i in range(32)}
    names |= {f"f{i}": ("f", i) for i in range(32)}
    names["fp"] = ("x", 8)
    return names


class RegisterFile:
    """The registers of one file by number, as unsigned 64-bit integers: ``cpu.x[10]``, ``cpu.f[0]`` (raw bits)."""

    __slots__ = ("_name", "_state")

    def __init__(self, state: RegisterState, name: str) -> None:
        self._state = state
        self._name = name

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> int:
        return self._state.get(self._name, self._checked(index))

    def __setitem__(self, index: int, value: int) -> None:
        index = self._checked(index)
        if self._name == "x" and index == 0:
            return
        self._state.set(self._name, index, value & _MASK)

    def __iter__(self) -> Iterator[int]:
        return (self[i] for i in range(32))

    def __repr__(self) -> str:
        return f"<{self._name}0…{self._name}31>"

    def _checked(self, index: int) -> int:
        if not 0 <= index < 32:
            raise IndexError(f"there is no register {self._name}{index}")
        return index


class FloatView:
    """The same floating-point registers as Python floats: ``cpu.d[10]`` (double), ``cpu.s[10]`` (single).

    A single that is not NaN-boxed reads as NaN, as the instructions see it (RISC-V unprivileged specification, 21.2).
    """

    __slots__ = ("_double", "_file")

    def __init__(self, file: RegisterFile, double: bool) -> None:
        self._file = file
        self._double = double

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> float:
        raw = self._file[index]
        if self._double:
            return _unpack("<d", raw.to_bytes(8, "little"))
        if raw >> 32 != 0xFFFF_FFFF:
            return float("nan")
        return _unpack("<f", (raw & 0xFFFF_FFFF).to_bytes(4, "little"))

    def __setitem__(self, index: int, value: float) -> None:
        if self._double:
            self._file[index] = int.from_bytes(struct.pack("<d", value), "little")
        else:
            self._file[index] = int.from_bytes(struct.pack("<f", value), "little") | 0xFFFF_FFFF << 32

    def __iter__(self) -> Iterator[float]:
        return (self[i] for i in range(32))


def _unpack(form: str, data: bytes) -> float:
    value: float = struct.unpack(form, data)[0]
    return value


class Registers(MutableMapping[str, int]):
    """All registers by name, as unsigned integers: ``cpu.regs["a0"]``, ``["x10"]``, ``["fa0"]``, ``["pc"]``.

    Iteration goes over the ABI names, once per register, so ``dict(cpu.regs)`` is a snapshot.
    """

    __slots__ = ("_names", "_state")

    def __init__(self, state: RegisterState, guest: str) -> None:
        self._state = state
        self._names = register_names(guest)

    def __getitem__(self, name: str) -> int:
        file, index = self._find(name)
        if file == "pc":
            return self._state.pc
        if file == "fcsr":
            return self._state.fcsr
        return self._state.get(file, index)

    def __setitem__(self, name: str, value: int) -> None:
        file, index = self._find(name)
        value &= _MASK
        if file == "pc":
            self._state.pc = value
        elif file == "fcsr":
            self._state.fcsr = value & 0xFF
        elif (file, index) != ("x", 0):
            self._state.set(file, index, value)

    def __delitem__(self, name: str) -> None:
        raise UsageError("a register cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        seen: set[tuple[str, int]] = set()
        for name, place in self._names.items():
            if place not in seen:
                seen.add(place)
                yield name

    def __len__(self) -> int:
        return len(set(self._names.values()))

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name}: {value:#x}" for name, value in self.items()) + "}"

    def _find(self, name: str) -> tuple[str, int]:
        try:
            return self._names[name]
        except KeyError:
            raise KeyError(f"there is no register {name!r}") from None
