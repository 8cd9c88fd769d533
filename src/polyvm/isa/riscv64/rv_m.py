"""M: multiplication and division (RISC-V unprivileged specification, chapter 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I64, I128, Value
from polyvm.isa.riscv64.operands import XD, X, insn

if TYPE_CHECKING:
    from polyvm.isa.riscv64.builder import Rv


def _high(x: Value, y: Value) -> Value:
    return ((x * y) >> 64).trunc(I64)


# Division by zero and overflow do not trap (table 11): the quotient is all ones or the dividend, the remainder the dividend
# or 0. The IR leaves both undefined, so the divisor becomes 1 first.


def _overflows(x: Value, y: Value) -> Value:
    return x.eq(1 << (x.type.bits - 1)) & y.eq(-1)


def _div(b: Rv, x: Value, y: Value) -> Value:
    safe = b.select(y.eq(0) | _overflows(x, y), 1, y)
    return b.select(y.eq(0), -1, x.sdiv(safe))


def _divu(b: Rv, x: Value, y: Value) -> Value:
    return b.select(y.eq(0), -1, x.udiv(b.select(y.eq(0), 1, y)))


def _rem(b: Rv, x: Value, y: Value) -> Value:
    safe = b.select(y.eq(0) | _overflows(x, y), 1, y)
    return b.select(y.eq(0), x, x.srem(safe))


def _remu(b: Rv, x: Value, y: Value) -> Value:
    return b.select(y.eq(0), x, x.urem(b.select(y.eq(0), 1, y)))


@insn("0000001 rs2:5 rs1:5 000 rd:5 0110011", ext="M", asm="mul {rd}, {rs1}, {rs2}")
def mul(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, b.x(rs1) * b.x(rs2))


@insn("0000001 rs2:5 rs1:5 001 rd:5 0110011", ext="M", asm="mulh {rd}, {rs1}, {rs2}")
def mulh(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, _high(b.x(rs1).sext(I128), b.x(rs2).sext(I128)))


@insn("0000001 rs2:5 rs1:5 010 rd:5 0110011", ext="M", asm="mulhsu {rd}, {rs1}, {rs2}")
def mulhsu(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, _high(b.x(rs1).sext(I128), b.x(rs2).zext(I128)))


@insn("0000001 rs2:5 rs1:5 011 rd:5 0110011", ext="M", asm="mulhu {rd}, {rs1}, {rs2}")
def mulhu(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, _high(b.x(rs1).zext(I128), b.x(rs2).zext(I128)))


@insn("0000001 rs2:5 rs1:5 100 rd:5 0110011", ext="M", asm="div {rd}, {rs1}, {rs2}")
def div(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, _div(b, b.x(rs1), b.x(rs2)))


@insn("0000001 rs2:5 rs1:5 101 rd:5 0110011", ext="M", asm="divu {rd}, {rs1}, {rs2}")
def divu(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, _divu(b, b.x(rs1), b.x(rs2)))


@insn("0000001 rs2:5 rs1:5 110 rd:5 0110011", ext="M", asm="rem {rd}, {rs1}, {rs2}")
def rem(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, _rem(b, b.x(rs1), b.x(rs2)))


@insn("0000001 rs2:5 rs1:5 111 rd:5 0110011", ext="M", asm="remu {rd}, {rs1}, {rs2}")
def remu(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_x(rd, _remu(b, b.x(rs1), b.x(rs2)))


@insn("0000001 rs2:5 rs1:5 000 rd:5 0111011", ext="M", asm="mulw {rd}, {rs1}, {rs2}")
def mulw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_w(rd, b.w(rs1) * b.w(rs2))


@insn("0000001 rs2:5 rs1:5 100 rd:5 0111011", ext="M", asm="divw {rd}, {rs1}, {rs2}")
def divw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_w(rd, _div(b, b.w(rs1), b.w(rs2)))


@insn("0000001 rs2:5 rs1:5 101 rd:5 0111011", ext="M", asm="divuw {rd}, {rs1}, {rs2}")
def divuw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_w(rd, _divu(b, b.w(rs1), b.w(rs2)))


@insn("0000001 rs2:5 rs1:5 110 rd:5 0111011", ext="M", asm="remw {rd}, {rs1}, {rs2}")
def remw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_w(rd, _rem(b, b.w(rs1), b.w(rs2)))


@insn("0000001 rs2:5 rs1:5 111 rd:5 0111011", ext="M", asm="remuw {rd}, {rs1}, {rs2}")
def remuw(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
    b.set_w(rd, _remu(b, b.w(rs1), b.w(rs2)))
