"""Zba: address generation (RISC-V unprivileged specification, 28.4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I64
from polyvm.isa.riscv64.operands import XD, UImm, X, insn

if TYPE_CHECKING:
    from polyvm.isa.riscv64.builder import Rv


@insn("0000100 rs2:5 rs1:5 000 rd:5 0111011", ext="Zba", asm="add.uw {rd}, {rs1}, {rs2}")
def add_uw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs2) + b.w(rs1).zext(I64))


@insn("000010 imm[5:0] rs1:5 001 rd:5 0011011", ext="Zba", asm="slli.uw {rd}, {rs1}, {imm:hex}")
def slli_uw(b: Rv, rd: XD, rs1: X, imm: UImm) -> None:
    b.set_x(rd, b.w(rs1).zext(I64) << imm)


def _shift_add(shift: int, funct3: str) -> None:
    @insn(f"0010000 rs2:5 rs1:5 {funct3} rd:5 0110011", ext="Zba", asm=f"sh{shift}add {{rd}}, {{rs1}}, {{rs2}}")
    def sh_add(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
        b.set_x(rd, b.x(rs2) + (b.x(rs1) << shift))

    @insn(f"0010000 rs2:5 rs1:5 {funct3} rd:5 0111011", ext="Zba", asm=f"sh{shift}add.uw {{rd}}, {{rs1}}, {{rs2}}")
    def sh_add_uw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
        b.set_x(rd, b.x(rs2) + (b.w(rs1).zext(I64) << shift))


for _shift, _funct3 in ((1, "010"), (2, "100"), (3, "110")):
    _shift_add(_shift, _funct3)
