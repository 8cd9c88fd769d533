"""RV64I: the base integer instructions (RISC-V unprivileged specification, chapters 2 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I8, I16, I32, I64
from polyvm.isa.riscv64.operands import XD, SImm, UImm, X, insn
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from polyvm.isa.riscv64.builder import Rv

# Register-immediate (2.4.1).


@insn("imm[11:0] rs1:5 000 rd:5 0010011", ext="I", asm="addi {rd}, {rs1}, {imm}")
def addi(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_x(rd, b.x(rs1) + imm)


@insn("imm[11:0] rs1:5 010 rd:5 0010011", ext="I", asm="slti {rd}, {rs1}, {imm}")
def slti(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_x(rd, b.x(rs1).slt(imm).zext(I64))


@insn("imm[11:0] rs1:5 011 rd:5 0010011", ext="I", asm="sltiu {rd}, {rs1}, {imm}")
def sltiu(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_x(rd, b.x(rs1).ult(imm).zext(I64))


@insn("imm[11:0] rs1:5 100 rd:5 0010011", ext="I", asm="xori {rd}, {rs1}, {imm}")
def xori(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_x(rd, b.x(rs1) ^ imm)


@insn("imm[11:0] rs1:5 110 rd:5 0010011", ext="I", asm="ori {rd}, {rs1}, {imm}")
def ori(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_x(rd, b.x(rs1) | imm)


@insn("imm[11:0] rs1:5 111 rd:5 0010011", ext="I", asm="andi {rd}, {rs1}, {imm}")
def andi(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_x(rd, b.x(rs1) & imm)


@insn("000000 imm[5:0] rs1:5 001 rd:5 0010011", ext="I", asm="slli {rd}, {rs1}, {imm:hex}")
def slli(b: Rv, rd: XD, rs1: X, imm: UImm) -> None:
    b.set_x(rd, b.x(rs1) << imm)


@insn("000000 imm[5:0] rs1:5 101 rd:5 0010011", ext="I", asm="srli {rd}, {rs1}, {imm:hex}")
def srli(b: Rv, rd: XD, rs1: X, imm: UImm) -> None:
    b.set_x(rd, b.x(rs1) >> imm)


@insn("010000 imm[5:0] rs1:5 101 rd:5 0010011", ext="I", asm="srai {rd}, {rs1}, {imm:hex}")
def srai(b: Rv, rd: XD, rs1: X, imm: UImm) -> None:
    b.set_x(rd, b.x(rs1).asr(imm))


@insn("imm[31:12] rd:5 0110111", ext="I", asm="lui {rd}, {imm:upper}")
def lui(b: Rv, rd: XD, imm: SImm) -> None:
    b.set_x(rd, imm)


@insn("imm[31:12] rd:5 0010111", ext="I", asm="auipc {rd}, {imm:upper}")
def auipc(b: Rv, rd: XD, imm: SImm) -> None:
    b.set_x(rd, b.pc() + imm)


# Register-register (2.4.2).


@insn("0000000 rs2:5 rs1:5 000 rd:5 0110011", ext="I", asm="add {rd}, {rs1}, {rs2}")
def add(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1) + b.x(rs2))


@insn("0100000 rs2:5 rs1:5 000 rd:5 0110011", ext="I", asm="sub {rd}, {rs1}, {rs2}")
def sub(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1) - b.x(rs2))


@insn("0000000 rs2:5 rs1:5 001 rd:5 0110011", ext="I", asm="sll {rd}, {rs1}, {rs2}")
def sll(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1) << (b.x(rs2) & 63))


@insn("0000000 rs2:5 rs1:5 010 rd:5 0110011", ext="I", asm="slt {rd}, {rs1}, {rs2}")
def slt(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1).slt(b.x(rs2)).zext(I64))


@insn("0000000 rs2:5 rs1:5 011 rd:5 0110011", ext="I", asm="sltu {rd}, {rs1}, {rs2}")
def sltu(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1).ult(b.x(rs2)).zext(I64))


@insn("0000000 rs2:5 rs1:5 100 rd:5 0110011", ext="I", asm="xor {rd}, {rs1}, {rs2}")
def xor(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1) ^ b.x(rs2))


@insn("0000000 rs2:5 rs1:5 101 rd:5 0110011", ext="I", asm="srl {rd}, {rs1}, {rs2}")
def srl(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1) >> (b.x(rs2) & 63))


@insn("0100000 rs2:5 rs1:5 101 rd:5 0110011", ext="I", asm="sra {rd}, {rs1}, {rs2}")
def sra(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1).asr(b.x(rs2) & 63))


@insn("0000000 rs2:5 rs1:5 110 rd:5 0110011", ext="I", asm="or {rd}, {rs1}, {rs2}")
def or_(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1) | b.x(rs2))


@insn("0000000 rs2:5 rs1:5 111 rd:5 0110011", ext="I", asm="and {rd}, {rs1}, {rs2}")
def and_(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1) & b.x(rs2))


# 32-bit operations (4.2).


@insn("imm[11:0] rs1:5 000 rd:5 0011011", ext="I", asm="addiw {rd}, {rs1}, {imm}")
def addiw(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_w(rd, b.w(rs1) + imm.trunc(I32))


@insn("0000000 imm[4:0] rs1:5 001 rd:5 0011011", ext="I", asm="slliw {rd}, {rs1}, {imm:hex}")
def slliw(b: Rv, rd: XD, rs1: X, imm: UImm) -> None:
    b.set_w(rd, b.w(rs1) << imm.trunc(I32))


@insn("0000000 imm[4:0] rs1:5 101 rd:5 0011011", ext="I", asm="srliw {rd}, {rs1}, {imm:hex}")
def srliw(b: Rv, rd: XD, rs1: X, imm: UImm) -> None:
    b.set_w(rd, b.w(rs1) >> imm.trunc(I32))


@insn("0100000 imm[4:0] rs1:5 101 rd:5 0011011", ext="I", asm="sraiw {rd}, {rs1}, {imm:hex}")
def sraiw(b: Rv, rd: XD, rs1: X, imm: UImm) -> None:
    b.set_w(rd, b.w(rs1).asr(imm.trunc(I32)))


@insn("0000000 rs2:5 rs1:5 000 rd:5 0111011", ext="I", asm="addw {rd}, {rs1}, {rs2}")
def addw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_w(rd, b.w(rs1) + b.w(rs2))


@insn("0100000 rs2:5 rs1:5 000 rd:5 0111011", ext="I", asm="subw {rd}, {rs1}, {rs2}")
def subw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_w(rd, b.w(rs1) - b.w(rs2))


@insn("0000000 rs2:5 rs1:5 001 rd:5 0111011", ext="I", asm="sllw {rd}, {rs1}, {rs2}")
def sllw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_w(rd, b.w(rs1) << (b.w(rs2) & 31))


@insn("0000000 rs2:5 rs1:5 101 rd:5 0111011", ext="I", asm="srlw {rd}, {rs1}, {rs2}")
def srlw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_w(rd, b.w(rs1) >> (b.w(rs2) & 31))


@insn("0100000 rs2:5 rs1:5 101 rd:5 0111011", ext="I", asm="sraw {rd}, {rs1}, {rs2}")
def sraw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_w(rd, b.w(rs1).asr(b.w(rs2) & 31))


# Control transfer (2.5).

_LINKS = (1, 5)  # ra and t0 hold return addresses (table 3)


@insn("imm[20|10:1|11|19:12] rd:5 1101111", ext="I", asm="jal {rd}, {imm:pc}")
def jal(b: Rv, rd: XD, imm: SImm) -> None:
    b.set_x(rd, b.next_pc())
    b.jump(b.pc() + imm)


@insn("imm[11:0] rs1:5 000 rd:5 1100111", ext="I", asm="jalr {rd}, {imm}({rs1})")
def jalr(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    target = (b.x(rs1) + imm) & ~1
    b.set_x(rd, b.next_pc())
    b.indirect(target, hint=_jalr_hint(rd, rs1))


def _jalr_hint(rd: XD, rs1: X) -> str:
    if rd.is_const and rs1.is_const:
        if rd.bits in _LINKS:
            return "call"
        if rs1.bits in _LINKS:
            return "ret"
    return "none"


@insn("imm[12|10:5] rs2:5 rs1:5 000 imm[4:1|11] 1100011", ext="I", asm="beq {rs1}, {rs2}, {imm:pc}")
def beq(b: Rv, rs1: X, rs2: X, imm: SImm) -> None:
    b.branch(b.x(rs1).eq(b.x(rs2)), b.pc() + imm)


@insn("imm[12|10:5] rs2:5 rs1:5 001 imm[4:1|11] 1100011", ext="I", asm="bne {rs1}, {rs2}, {imm:pc}")
def bne(b: Rv, rs1: X, rs2: X, imm: SImm) -> None:
    b.branch(b.x(rs1).ne(b.x(rs2)), b.pc() + imm)


@insn("imm[12|10:5] rs2:5 rs1:5 100 imm[4:1|11] 1100011", ext="I", asm="blt {rs1}, {rs2}, {imm:pc}")
def blt(b: Rv, rs1: X, rs2: X, imm: SImm) -> None:
    b.branch(b.x(rs1).slt(b.x(rs2)), b.pc() + imm)


@insn("imm[12|10:5] rs2:5 rs1:5 101 imm[4:1|11] 1100011", ext="I", asm="bge {rs1}, {rs2}, {imm:pc}")
def bge(b: Rv, rs1: X, rs2: X, imm: SImm) -> None:
    b.branch(b.x(rs1).sge(b.x(rs2)), b.pc() + imm)


@insn("imm[12|10:5] rs2:5 rs1:5 110 imm[4:1|11] 1100011", ext="I", asm="bltu {rs1}, {rs2}, {imm:pc}")
def bltu(b: Rv, rs1: X, rs2: X, imm: SImm) -> None:
    b.branch(b.x(rs1).ult(b.x(rs2)), b.pc() + imm)


@insn("imm[12|10:5] rs2:5 rs1:5 111 imm[4:1|11] 1100011", ext="I", asm="bgeu {rs1}, {rs2}, {imm:pc}")
def bgeu(b: Rv, rs1: X, rs2: X, imm: SImm) -> None:
    b.branch(b.x(rs1).uge(b.x(rs2)), b.pc() + imm)


# Loads and stores (2.6, 4.3).


@insn("imm[11:0] rs1:5 000 rd:5 0000011", ext="I", asm="lb {rd}, {imm}({rs1})")
def lb(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_x(rd, b.load(b.x(rs1) + imm, I8).sext(I64))


@insn("imm[11:0] rs1:5 001 rd:5 0000011", ext="I", asm="lh {rd}, {imm}({rs1})")
def lh(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_x(rd, b.load(b.x(rs1) + imm, I16).sext(I64))


@insn("imm[11:0] rs1:5 010 rd:5 0000011", ext="I", asm="lw {rd}, {imm}({rs1})")
def lw(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_x(rd, b.load(b.x(rs1) + imm, I32).sext(I64))


@insn("imm[11:0] rs1:5 011 rd:5 0000011", ext="I", asm="ld {rd}, {imm}({rs1})")
def ld(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_x(rd, b.load(b.x(rs1) + imm, I64))


@insn("imm[11:0] rs1:5 100 rd:5 0000011", ext="I", asm="lbu {rd}, {imm}({rs1})")
def lbu(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_x(rd, b.load(b.x(rs1) + imm, I8).zext(I64))


@insn("imm[11:0] rs1:5 101 rd:5 0000011", ext="I", asm="lhu {rd}, {imm}({rs1})")
def lhu(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_x(rd, b.load(b.x(rs1) + imm, I16).zext(I64))


@insn("imm[11:0] rs1:5 110 rd:5 0000011", ext="I", asm="lwu {rd}, {imm}({rs1})")
def lwu(b: Rv, rd: XD, rs1: X, imm: SImm) -> None:
    b.set_x(rd, b.load(b.x(rs1) + imm, I32).zext(I64))


@insn("imm[11:5] rs2:5 rs1:5 000 imm[4:0] 0100011", ext="I", asm="sb {rs2}, {imm}({rs1})")
def sb(b: Rv, rs1: X, rs2: X, imm: SImm) -> None:
    b.store(b.x(rs1) + imm, b.x(rs2).trunc(I8))


@insn("imm[11:5] rs2:5 rs1:5 001 imm[4:0] 0100011", ext="I", asm="sh {rs2}, {imm}({rs1})")
def sh(b: Rv, rs1: X, rs2: X, imm: SImm) -> None:
    b.store(b.x(rs1) + imm, b.x(rs2).trunc(I16))


@insn("imm[11:5] rs2:5 rs1:5 010 imm[4:0] 0100011", ext="I", asm="sw {rs2}, {imm}({rs1})")
def sw(b: Rv, rs1: X, rs2: X, imm: SImm) -> None:
    b.store(b.x(rs1) + imm, b.x(rs2).trunc(I32))


@insn("imm[11:5] rs2:5 rs1:5 011 imm[4:0] 0100011", ext="I", asm="sd {rs2}, {imm}({rs1})")
def sd(b: Rv, rs1: X, rs2: X, imm: SImm) -> None:
    b.store(b.x(rs1) + imm, b.x(rs2))


# Memory ordering (2.7) and environment (2.8). The host's full fence serves every combination of predecessors and
# successors.


@insn("_:4 pred:4 succ:4 _:5 000 _:5 0001111", ext="I", asm="fence {pred:fence}, {succ:fence}")
def fence(b: Rv) -> None:
    b.fence()


@insn("1000 0011 0011 00000 000 00000 0001111", ext="I", asm="fence.tso", overrides="fence")
def fence_tso(b: Rv) -> None:
    b.fence()


@insn("000000000000 00000 000 00000 1110011", ext="I", asm="ecall")
def ecall(b: Rv) -> None:
    b.exit(exits.SYSCALL)


@insn("000000000001 00000 000 00000 1110011", ext="I", asm="ebreak")
def ebreak(b: Rv) -> None:
    b.exit(exits.BREAKPOINT)


