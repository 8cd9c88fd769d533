"""Zbc: carry-less multiplication (RISC-V unprivileged specification, 28.4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.isa.riscv64.operands import XD, X, insn

if TYPE_CHECKING:
    from polyvm.isa.riscv64.builder import Rv


@insn("0000101 rs2:5 rs1:5 001 rd:5 0110011", ext="Zbc", asm="clmul {rd}, {rs1}, {rs2}")
def clmul(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1).clmul(b.x(rs2)))


@insn("0000101 rs2:5 rs1:5 011 rd:5 0110011", ext="Zbc", asm="clmulh {rd}, {rs1}, {rs2}")
def clmulh(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1).clmulh(b.x(rs2)))


@insn("0000101 rs2:5 rs1:5 010 rd:5 0110011", ext="Zbc", asm="clmulr {rd}, {rs1}, {rs2}")
def clmulr(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    x, y = b.x(rs1), b.x(rs2)
    b.set_x(rd, (x.clmulh(y) << 1) | (x.clmul(y) >> 63))
