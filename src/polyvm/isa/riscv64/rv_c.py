"""C: compressed instructions (RISC-V unprivileged specification, chapter 27), as encodings of base instructions.

Three-bit register fields count from x8. Reserved encodings have a `where`; hints (27.6) are what their base instruction is with
x0 as its destination. Compressed floating-point loads and stores are in `rv_zcd`.
"""

from __future__ import annotations

from polyvm.isa.riscv64.operands import expand
from polyvm.isa.riscv64.rv_i import (
    add,
    addi,
    addiw,
    addw,
    and_,
    andi,
    beq,
    bne,
    ebreak,
    jal,
    jalr,
    ld,
    lui,
    lw,
    or_,
    sd,
    slli,
    srai,
    srli,
    sub,
    subw,
    sw,
    xor,
)

# Quadrant 0.
expand("000 uimm[5:4|9:6|2|3] rd:3 00", addi, ext="C", asm="c.addi4spn {rd}, {rs1}, {imm}",
       where={"uimm": "!= 0"}, rd="rd+8", rs1=2, imm="UImm uimm")  # fmt: skip
expand("010 uimm[5:3] rs1:3 uimm[2|6] rd:3 00", lw, ext="C", asm="c.lw {rd}, {imm}({rs1})",
       rd="rd+8", rs1="rs1+8", imm="UImm uimm")  # fmt: skip
expand("011 uimm[5:3] rs1:3 uimm[7:6] rd:3 00", ld, ext="C", asm="c.ld {rd}, {imm}({rs1})",
       rd="rd+8", rs1="rs1+8", imm="UImm uimm")  # fmt: skip
expand("110 uimm[5:3] rs1:3 uimm[2|6] rs2:3 00", sw, ext="C", asm="c.sw {rs2}, {imm}({rs1})",
       rs1="rs1+8", rs2="rs2+8", imm="UImm uimm")  # fmt: skip
expand("111 uimm[5:3] rs1:3 uimm[7:6] rs2:3 00", sd, ext="C", asm="c.sd {rs2}, {imm}({rs1})",
       rs1="rs1+8", rs2="rs2+8", imm="UImm uimm")  # fmt: skip

# Quadrant 1.
expand("000 imm[5] 00000 imm[4:0] 01", addi, ext="C", asm="c.nop", overrides="c.addi", where={"imm": "== 0"},
       rd=0, rs1=0, imm="imm")  # fmt: skip
expand("000 imm[5] rd:5 imm[4:0] 01", addi, ext="C", asm="c.addi {rd}, {imm}", rd="rd", rs1="rd", imm="imm")
expand("001 imm[5] rd:5 imm[4:0] 01", addiw, ext="C", asm="c.addiw {rd}, {imm}", where={"rd": "!= 0"},
       rd="rd", rs1="rd", imm="imm")  # fmt: skip
expand("010 imm[5] rd:5 imm[4:0] 01", addi, ext="C", asm="c.li {rd}, {imm}", rd="rd", rs1=0, imm="imm")
expand("011 imm[9] 00010 imm[4|6|8:7|5] 01", addi, ext="C", asm="c.addi16sp {rd}, {imm}", where={"imm": "!= 0"},
       rd=2, rs1=2, imm="imm")  # fmt: skip
expand("011 imm[17] rd:5 imm[16:12] 01", lui, ext="C", asm="c.lui {rd}, {imm:upper}",
       where={"imm": "!= 0", "rd": "!= 2"}, rd="rd", imm="imm")  # fmt: skip
expand("100 uimm[5] 00 rd:3 uimm[4:0] 01", srli, ext="C", asm="c.srli {rd}, {imm:hex}",
       rd="rd+8", rs1="rd+8", imm="uimm")  # fmt: skip
expand("100 uimm[5] 01 rd:3 uimm[4:0] 01", srai, ext="C", asm="c.srai {rd}, {imm:hex}",
       rd="rd+8", rs1="rd+8", imm="uimm")  # fmt: skip
expand("100 imm[5] 10 rd:3 imm[4:0] 01", andi, ext="C", asm="c.andi {rd}, {imm}",
       rd="rd+8", rs1="rd+8", imm="imm")  # fmt: skip
for _bits, _base in (
    ("0 11 rd:3 00", sub), ("0 11 rd:3 01", xor), ("0 11 rd:3 10", or_), ("0 11 rd:3 11", and_),
    ("1 11 rd:3 00", subw), ("1 11 rd:3 01", addw),
):  # fmt: skip
    expand(f"100 {_bits} rs2:3 01", _base, ext="C", asm=f"c.{_base.name} {{rd}}, {{rs2}}",
           rd="rd+8", rs1="rd+8", rs2="rs2+8")  # fmt: skip
expand("101 imm[11|4|9:8|10|6|7|3:1|5] 01", jal, ext="C", asm="c.j {imm:pc}", rd=0, imm="imm")
expand("110 imm[8|4:3] rs1:3 imm[7:6|2:1|5] 01", beq, ext="C", asm="c.beqz {rs1}, {imm:pc}",
       rs1="rs1+8", rs2=0, imm="imm")  # fmt: skip
expand("111 imm[8|4:3] rs1:3 imm[7:6|2:1|5] 01", bne, ext="C", asm="c.bnez {rs1}, {imm:pc}",
       rs1="rs1+8", rs2=0, imm="imm")  # fmt: skip

# Quadrant 2.
expand("000 uimm[5] rd:5 uimm[4:0] 10", slli, ext="C", asm="c.slli {rd}, {imm:hex}", rd="rd", rs1="rd", imm="uimm")
expand("010 uimm[5] rd:5 uimm[4:2|7:6] 10", lw, ext="C", asm="c.lwsp {rd}, {imm}({rs1})", where={"rd": "!= 0"},
       rd="rd", rs1=2, imm="UImm uimm")  # fmt: skip
expand("011 uimm[5] rd:5 uimm[4:3|8:6] 10", ld, ext="C", asm="c.ldsp {rd}, {imm}({rs1})", where={"rd": "!= 0"},
       rd="rd", rs1=2, imm="UImm uimm")  # fmt: skip
expand("1000 rs1:5 00000 10", jalr, ext="C", asm="c.jr {rs1}", where={"rs1": "!= 0"}, rd=0, rs1="rs1", imm=0)
expand("1000 rd:5 rs2:5 10", add, ext="C", asm="c.mv {rd}, {rs2}", where={"rs2": "!= 0"}, rd="rd", rs1=0, rs2="rs2")
expand("1001 00000 00000 10", ebreak, ext="C", asm="c.ebreak")
expand("1001 rs1:5 00000 10", jalr, ext="C", asm="c.jalr {rs1}", where={"rs1": "!= 0"}, rd=1, rs1="rs1", imm=0)
expand("1001 rd:5 rs2:5 10", add, ext="C", asm="c.add {rd}, {rs2}", where={"rs2": "!= 0"},
       rd="rd", rs1="rd", rs2="rs2")  # fmt: skip
expand("110 uimm[5:2|7:6] rs2:5 10", sw, ext="C", asm="c.swsp {rs2}, {imm}({rs1})",
       rs1=2, rs2="rs2", imm="UImm uimm")  # fmt: skip
expand("111 uimm[5:3|8:6] rs2:5 10", sd, ext="C", asm="c.sdsp {rs2}, {imm}({rs1})",
       rs1=2, rs2="rs2", imm="UImm uimm")  # fmt: skip
