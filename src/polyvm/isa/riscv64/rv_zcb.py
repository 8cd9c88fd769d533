"""Zcb: more compressed instructions (RISC-V unprivileged specification, 28.7)."""

from __future__ import annotations

from polyvm.isa.riscv64.operands import expand
from polyvm.isa.riscv64.rv_i import andi, lbu, lh, lhu, sb, sh, xori
from polyvm.isa.riscv64.rv_m import mul
from polyvm.isa.riscv64.rv_zba import add_uw
from polyvm.isa.riscv64.rv_zbb import sext_b, sext_h, zext_h

expand("100000 rs1:3 uimm[0|1] rd:3 00", lbu, ext="Zcb", asm="c.lbu {rd}, {imm}({rs1})",
       rd="rd+8", rs1="rs1+8", imm="UImm uimm")  # fmt: skip
expand("100001 rs1:3 0 uimm[1] rd:3 00", lhu, ext="Zcb", asm="c.lhu {rd}, {imm}({rs1})",
       rd="rd+8", rs1="rs1+8", imm="UImm uimm")  # fmt: skip
expand("100001 rs1:3 1 uimm[1] rd:3 00", lh, ext="Zcb", asm="c.lh {rd}, {imm}({rs1})",
       rd="rd+8", rs1="rs1+8", imm="UImm uimm")  # fmt: skip
expand("100010 rs1:3 uimm[0|1] rs2:3 00", sb, ext="Zcb", asm="c.sb {rs2}, {imm}({rs1})",
       rs1="rs1+8", rs2="rs2+8", imm="UImm uimm")  # fmt: skip
expand("100011 rs1:3 0 uimm[1] rs2:3 00", sh, ext="Zcb", asm="c.sh {rs2}, {imm}({rs1})",
       rs1="rs1+8", rs2="rs2+8", imm="UImm uimm")  # fmt: skip
expand("100111 rd:3 10 rs2:3 01", mul, ext="Zcb", asm="c.mul {rd}, {rs2}", rd="rd+8", rs1="rd+8", rs2="rs2+8")
expand("100111 rd:3 11 000 01", andi, ext="Zcb", asm="c.zext.b {rd}", rd="rd+8", rs1="rd+8", imm=255)
expand("100111 rd:3 11 001 01", sext_b, ext="Zcb", asm="c.sext.b {rd}", rd="rd+8", rs1="rd+8")
expand("100111 rd:3 11 010 01", zext_h, ext="Zcb", asm="c.zext.h {rd}", rd="rd+8", rs1="rd+8")
expand("100111 rd:3 11 011 01", sext_h, ext="Zcb", asm="c.sext.h {rd}", rd="rd+8", rs1="rd+8")
expand("100111 rd:3 11 100 01", add_uw, ext="Zcb", asm="c.zext.w {rd}", rd="rd+8", rs1="rd+8", rs2=0)
expand("100111 rd:3 11 101 01", xori, ext="Zcb", asm="c.not {rd}", rd="rd+8", rs1="rd+8", imm=-1)
