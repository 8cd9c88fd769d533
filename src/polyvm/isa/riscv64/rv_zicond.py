"""Zicond: conditional zero (RISC-V unprivileged specification, chapter 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.isa.riscv64.operands import XD, X, insn

if TYPE_CHECKING:
    from polyvm.isa.riscv64.builder import Rv


@insn("0000111 rs2:5 rs1:5 101 rd:5 0110011", ext="Zicond", asm="czero.eqz {rd}, {rs1}, {rs2}")
def czero_eqz(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.select(b.x(rs2).eq(0), 0, b.x(rs1)))


@insn("0000111 rs2:5 rs1:5 111 rd:5 0110011", ext="Zicond", asm="czero.nez {rd}, {rs1}, {rs2}")
def czero_nez(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.select(b.x(rs2).ne(0), 0, b.x(rs1)))
