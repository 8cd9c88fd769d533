"""Zimop, Zcmop: may-be-operations, which write zero, or nothing, until an extension says more (RISC-V unprivileged
specification, chapter 11)."""

from __future__ import annotations

from polyvm.isa.riscv64.operands import expand
from polyvm.isa.riscv64.rv_i import addi

expand(
    "1 n[4] 00 n[3:2] 0111 n[1:0] rs:5 100 rd:5 1110011", addi,
    ext="Zimop", asm="mop.r.{n} {rd}, {rs:x}", rd="rd", rs1=0, imm=0,
)  # fmt: skip
expand(
    "1 n[2] 00 n[1:0] 1 rt:5 rs:5 100 rd:5 1110011", addi,
    ext="Zimop", asm="mop.rr.{n} {rd}, {rs:x}, {rt:x}", rd="rd", rs1=0, imm=0,
)  # fmt: skip
expand("01100 n[3:1] 1 00000 01", addi, ext="Zcmop", asm="c.mop.{n:odd}", rd=0, rs1=0, imm=0)
