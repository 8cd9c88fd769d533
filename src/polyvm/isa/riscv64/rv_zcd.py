"""Zcd: compressed loads and stores of doubles (RISC-V unprivileged specification, 27.3)."""

from __future__ import annotations

from polyvm.isa.riscv64.operands import expand
from polyvm.isa.riscv64.rv_f import fld, fsd

expand("001 uimm[5:3] rs1:3 uimm[7:6] rd:3 00", fld, ext="C", asm="c.fld {rd}, {imm}({rs1})",
       rd="rd+8", rs1="rs1+8", imm="UImm uimm")  # fmt: skip
expand("101 uimm[5:3] rs1:3 uimm[7:6] rs2:3 00", fsd, ext="C", asm="c.fsd {rs2}, {imm}({rs1})",
       rs1="rs1+8", rs2="rs2+8", imm="UImm uimm")  # fmt: skip
expand("001 uimm[5] rd:5 uimm[4:3|8:6] 10", fld, ext="C", asm="c.fldsp {rd}, {imm}({rs1})",
       rd="rd", rs1=2, imm="UImm uimm")  # fmt: skip
expand("101 uimm[5:3|8:6] rs2:5 10", fsd, ext="C", asm="c.fsdsp {rs2}, {imm}({rs1})",
       rs1=2, rs2="rs2", imm="UImm uimm")  # fmt: skip
