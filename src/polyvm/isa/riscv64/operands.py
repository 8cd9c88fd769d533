"""Operand kinds of RISC-V instructions, and the set that collects the instructions.

Instruction files import `insn`, `expand` and the kinds: each kind is a `Value` in a body, and its name says to the
decoder how the operand is found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from polyvm.ir import I8, I64, Builder, Value
from polyvm.isa.insn import InstructionSet, Kind, register_kind
from polyvm.isa.riscv64.state import F_NAMES, X_NAMES, X_SINK

if TYPE_CHECKING:
    from polyvm.isa.insn import Show

X: TypeAlias = Value  # integer register that is read
XD: TypeAlias = Value  # integer register that is written: x0 is the sink
F: TypeAlias = Value  # floating-point register that is read
FD: TypeAlias = Value  # floating-point register that is written
SImm: TypeAlias = Value  # immediate (i64), sign-extended from the top bit of its field
UImm: TypeAlias = Value  # immediate (i64), zero-extended
Csr: TypeAlias = Value  # number of a control and status register (i64)
Small: TypeAlias = Value  # unsigned immediate of at most 8 bits (i8), for where the slot's immediate is taken
Rm: TypeAlias = Value  # rounding-mode field (i8)


def _sink(b: Builder, field: Value) -> Value:
    return b.select(field.eq(0), X_SINK, field).trunc(I8)


def _decimal(value: int, pc: int) -> str:
    return str(value)


def _csr(value: int, pc: int) -> str:
    from polyvm.isa.riscv64.csr_names import CSR_NAMES

    return CSR_NAMES.get(value, f"{value:#x}")


_ROUNDING = ("rne", "rtz", "rdn", "rup", "rmm", "unknown", "unknown", "dyn")


def _rounding(value: int, pc: int) -> str:
    return "" if value == 7 else f", {_ROUNDING[value]}"


KINDS = {
    kind.name: kind
    for kind in (
        register_kind("X", X_NAMES),
        register_kind("XD", [*X_NAMES, "zero"], _sink),
        register_kind("F", F_NAMES),
        register_kind("FD", F_NAMES),
        Kind("SImm", I64, "imm", _decimal, signed=True),
        Kind("UImm", I64, "imm", _decimal),
        Kind("Csr", I64, "imm", _csr),
        Kind("Small", I8, "reg", _decimal),
        Kind("Rm", I8, "reg", _rounding),
    )
}


def _fence(value: int, pc: int) -> str:
    return "".join(letter for letter, bit in zip("iorw", (8, 4, 2, 1), strict=True) if value & bit) or "unknown"


# The constants of fli (25.1); entries 1 and 31 depend on the format.
FLI_VALUES = (
    -1.0, 0.0, 2.0**-16, 2.0**-15, 2.0**-8, 2.0**-7, 0.0625, 0.125, 0.25, 0.3125, 0.375, 0.4375, 0.5, 0.625, 0.75, 0.875,
    1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 8.0, 16.0, 128.0, 256.0, 2.0**15, 2.0**16, float("inf"), 0.0,
)  # fmt: skip


def _fli(value: int, pc: int) -> str:
    return {1: "min", 31: "nan"}.get(value, str(FLI_VALUES[value]))


FORMATS: dict[str, Show] = {
    # the target of a branch
    "pc": lambda value, pc: f"{(pc + value) & I64.mask:#x}",
    "hex": lambda value, pc: f"{value:#x}",
    # the upper 20 bits, as lui and auipc take them
    "upper": lambda value, pc: f"{value >> 12 & 0xFFFFF:#x}",
    # the ordering suffix of an atomic instruction, from its aq and rl bits
    "order": lambda value, pc: ("", ".rl", ".aq", ".aqrl")[value],
    "fence": _fence,
    "rm": _rounding,
    # a rounding mode that cannot matter: assemblers write it as 0
    "exact": lambda value, pc: "" if value == 0 else _rounding(value, pc),
    "fli": _fli,
    # fields that are no operands
    "x": lambda value, pc: X_NAMES[value],
    "signed12": lambda value, pc: str((value ^ 0x800) - 0x800),
    "odd": lambda value, pc: str(value + 1),
}

SET = InstructionSet("riscv64", KINDS, FORMATS)
insn = SET.insn
expand = SET.expand
