"""Zbb: basic bit manipulation (RISC-V unprivileged specification, 28.4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I8, I16, I32, I64
from polyvm.isa.riscv64.operands import XD, UImm, X, insn

if TYPE_CHECKING:
    from polyvm.isa.riscv64.builder import Rv

_BYTES = 0x0101_0101_0101_0101


@insn("0100000 rs2:5 rs1:5 111 rd:5 0110011", ext="Zbb", asm="andn {rd}, {rs1}, {rs2}")
def andn(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1) & ~b.x(rs2))


@insn("0100000 rs2:5 rs1:5 110 rd:5 0110011", ext="Zbb", asm="orn {rd}, {rs1}, {rs2}")
def orn(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1) | ~b.x(rs2))


@insn("0100000 rs2:5 rs1:5 100 rd:5 0110011", ext="Zbb", asm="xnor {rd}, {rs1}, {rs2}")
def xnor(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, ~(b.x(rs1) ^ b.x(rs2)))


@insn("0110000 00000 rs1:5 001 rd:5 0010011", ext="Zbb", asm="clz {rd}, {rs1}")
def clz(b: Rv, rd: XD, rs1: X) -> None:
    b.set_x(rd, b.x(rs1).clz())


@insn("0110000 00001 rs1:5 001 rd:5 0010011", ext="Zbb", asm="ctz {rd}, {rs1}")
def ctz(b: Rv, rd: XD, rs1: X) -> None:
    b.set_x(rd, b.x(rs1).ctz())


@insn("0110000 00010 rs1:5 001 rd:5 0010011", ext="Zbb", asm="cpop {rd}, {rs1}")
def cpop(b: Rv, rd: XD, rs1: X) -> None:
    b.set_x(rd, b.x(rs1).popcount())


@insn("0110000 00000 rs1:5 001 rd:5 0011011", ext="Zbb", asm="clzw {rd}, {rs1}")
def clzw(b: Rv, rd: XD, rs1: X) -> None:
    b.set_w(rd, b.w(rs1).clz())


@insn("0110000 00001 rs1:5 001 rd:5 0011011", ext="Zbb", asm="ctzw {rd}, {rs1}")
def ctzw(b: Rv, rd: XD, rs1: X) -> None:
    b.set_w(rd, b.w(rs1).ctz())


@insn("0110000 00010 rs1:5 001 rd:5 0011011", ext="Zbb", asm="cpopw {rd}, {rs1}")
def cpopw(b: Rv, rd: XD, rs1: X) -> None:
    b.set_w(rd, b.w(rs1).popcount())


@insn("0000101 rs2:5 rs1:5 110 rd:5 0110011", ext="Zbb", asm="max {rd}, {rs1}, {rs2}")
def max_(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1).smax(b.x(rs2)))


@insn("0000101 rs2:5 rs1:5 111 rd:5 0110011", ext="Zbb", asm="maxu {rd}, {rs1}, {rs2}")
def maxu(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1).umax(b.x(rs2)))


@insn("0000101 rs2:5 rs1:5 100 rd:5 0110011", ext="Zbb", asm="min {rd}, {rs1}, {rs2}")
def min_(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1).smin(b.x(rs2)))


@insn("0000101 rs2:5 rs1:5 101 rd:5 0110011", ext="Zbb", asm="minu {rd}, {rs1}, {rs2}")
def minu(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1).umin(b.x(rs2)))


@insn("0110000 00100 rs1:5 001 rd:5 0010011", ext="Zbb", asm="sext.b {rd}, {rs1}")
def sext_b(b: Rv, rd: XD, rs1: X) -> None:
    b.set_x(rd, b.x(rs1).trunc(I8).sext(I64))


@insn("0110000 00101 rs1:5 001 rd:5 0010011", ext="Zbb", asm="sext.h {rd}, {rs1}")
def sext_h(b: Rv, rd: XD, rs1: X) -> None:
    b.set_x(rd, b.x(rs1).trunc(I16).sext(I64))


@insn("0000100 00000 rs1:5 100 rd:5 0111011", ext="Zbb", asm="zext.h {rd}, {rs1}")
def zext_h(b: Rv, rd: XD, rs1: X) -> None:
    b.set_x(rd, b.x(rs1).trunc(I16).zext(I64))


@insn("0110000 rs2:5 rs1:5 001 rd:5 0110011", ext="Zbb", asm="rol {rd}, {rs1}, {rs2}")
def rol(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1).rotl(b.x(rs2)))


@insn("0110000 rs2:5 rs1:5 001 rd:5 0111011", ext="Zbb", asm="rolw {rd}, {rs1}, {rs2}")
def rolw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_w(rd, b.w(rs1).rotl(b.w(rs2)))


@insn("0110000 rs2:5 rs1:5 101 rd:5 0110011", ext="Zbb", asm="ror {rd}, {rs1}, {rs2}")
def ror(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1).rotr(b.x(rs2)))


@insn("0110000 rs2:5 rs1:5 101 rd:5 0111011", ext="Zbb", asm="rorw {rd}, {rs1}, {rs2}")
def rorw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_w(rd, b.w(rs1).rotr(b.w(rs2)))


@insn("011000 imm[5:0] rs1:5 101 rd:5 0010011", ext="Zbb", asm="rori {rd}, {rs1}, {imm:hex}")
def rori(b: Rv, rd: XD, rs1: X, imm: UImm) -> None:
    b.set_x(rd, b.x(rs1).rotr(imm))


@insn("0110000 imm[4:0] rs1:5 101 rd:5 0011011", ext="Zbb", asm="roriw {rd}, {rs1}, {imm:hex}")
def roriw(b: Rv, rd: XD, rs1: X, imm: UImm) -> None:
    b.set_w(rd, b.w(rs1).rotr(imm.trunc(I32)))


@insn("0010100 00111 rs1:5 101 rd:5 0010011", ext="Zbb", asm="orc.b {rd}, {rs1}")
def orc_b(b: Rv, rd: XD, rs1: X) -> None:
    x = b.x(rs1)
    # The top bit of a byte of the sum is set if the byte has a bit below it; no carry leaves the byte.
    low = (x & (_BYTES * 0x7F)) + _BYTES * 0x7F
    b.set_x(rd, (((low | x) >> 7) & _BYTES) * 0xFF)


@insn("0110101 11000 rs1:5 101 rd:5 0010011", ext="Zbb", asm="rev8 {rd}, {rs1}")
def rev8(b: Rv, rd: XD, rs1: X) -> None:
    b.set_x(rd, b.x(rs1).bswap())
