"""Zbs: single-bit instructions (RISC-V unprivileged specification, 28.4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I64, Value
from polyvm.isa.riscv64.operands import XD, UImm, X, insn

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.isa.riscv64.builder import Rv


def _both(funct: str, name: str, funct3: str, operation: Callable[[Rv, Value, Value], Value]) -> None:
    """The register and the immediate form; `operation` gets the operand and the bit's number."""

    @insn(f"{funct}0 rs2:5 rs1:5 {funct3} rd:5 0110011", ext="Zbs", asm=f"{name} {{rd}}, {{rs1}}, {{rs2}}")
    def by_register(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
        b.set_x(rd, operation(b, b.x(rs1), b.x(rs2) & 63))

    @insn(f"{funct} imm[5:0] rs1:5 {funct3} rd:5 0010011", ext="Zbs", asm=f"{name}i {{rd}}, {{rs1}}, {{imm:hex}}")
    def by_immediate(b: Rv, rd: XD, rs1: X, imm: UImm) -> None:
        b.set_x(rd, operation(b, b.x(rs1), imm))


def _bit(b: Rv, number: Value) -> Value:
    return b.const(I64, 1) << number


_both("010010", "bclr", "001", lambda b, x, n: x & ~_bit(b, n))
_both("010010", "bext", "101", lambda b, x, n: (x >> n) & 1)
_both("011010", "binv", "001", lambda b, x, n: x ^ _bit(b, n))
_both("001010", "bset", "001", lambda b, x, n: x | _bit(b, n))
