"""Branches, and what leaves to the operating system (Arm ARM, C4.1.93)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I32, I64, Type
from polyvm.isa.aarch64.flags import NAMES as CONDITIONS
from polyvm.isa.aarch64.operands import SImm, Small, X, insn
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from polyvm.isa.aarch64.builder import A64

LINK = 30


def _conditional(number: int) -> None:
    @insn(f"01010100 imm[20:2] 0 {number:04b}", ext="A64", asm=f"b.{CONDITIONS[number]} {{imm:pc}}")
    def b_cond(b: A64, imm: SImm) -> None:
        b.branch(b.condition(number), b.pc() + imm)


for _number in range(14):
    _conditional(_number)


@insn("01010100 imm[20:2] 0 1110", ext="A64", asm="b.al {imm:pc}")
def b_al(b: A64, imm: SImm) -> None:
    b.jump(b.pc() + imm)


@insn("01010100 imm[20:2] 0 1111", ext="A64", asm="b.nv {imm:pc}")
def b_nv(b: A64, imm: SImm) -> None:
    b.jump(b.pc() + imm)


@insn("000101 imm[27:2]", ext="A64", asm="b {imm:pc}")
def b_(b: A64, imm: SImm) -> None:
    b.jump(b.pc() + imm)


@insn("100101 imm[27:2]", ext="A64", asm="bl {imm:pc}")
def bl(b: A64, imm: SImm) -> None:
    b.set_x(LINK, b.next_pc())
    b.jump(b.pc() + imm)


@insn("1101011 0000 11111 000000 rn:5 00000", ext="A64", asm="br {rn}")
def br(b: A64, rn: X) -> None:
    b.indirect(b.x(rn))


@insn("1101011 0001 11111 000000 rn:5 00000", ext="A64", asm="blr {rn}")
def blr(b: A64, rn: X) -> None:
    target = b.x(rn)
    b.set_x(LINK, b.next_pc())
    b.indirect(target, "call")


@insn("1101011 0010 11111 000000 rn:5 00000", ext="A64", asm="ret {rn}", aliases=[("ret", lambda w: w >> 5 & 31 == LINK)])
def ret(b: A64, rn: X) -> None:
    b.indirect(b.x(rn), "ret")


def _compare(sf: str, r: str, type_: Type) -> None:
    @insn(f"{sf} 011010 0 imm[20:2] rt:5", ext="A64", name=f"cbz_{r}", asm=f"cbz {{rt:{r}}}, {{imm:pc}}")
    def cbz(b: A64, rt: X, imm: SImm) -> None:
        b.branch(b.r(rt, type_).eq(0), b.pc() + imm)

    @insn(f"{sf} 011010 1 imm[20:2] rt:5", ext="A64", name=f"cbnz_{r}", asm=f"cbnz {{rt:{r}}}, {{imm:pc}}")
    def cbnz(b: A64, rt: X, imm: SImm) -> None:
        b.branch(b.r(rt, type_).ne(0), b.pc() + imm)


@insn("bit[5] 011011 0 bit[4:0] imm[15:2] rt:5", ext="A64", name="tbz", asm="tbz {rt}, {bit}, {imm:pc}",
      aliases=[("tbz {rt:w}, {bit}, {imm:pc}", lambda w: not w >> 31)])  # fmt: skip
def tbz(b: A64, rt: X, bit: Small, imm: SImm) -> None:
    b.branch((b.x(rt) >> bit.zext(I64) & 1).eq(0), b.pc() + imm)


@insn("bit[5] 011011 1 bit[4:0] imm[15:2] rt:5", ext="A64", name="tbnz", asm="tbnz {rt}, {bit}, {imm:pc}",
      aliases=[("tbnz {rt:w}, {bit}, {imm:pc}", lambda w: not w >> 31)])  # fmt: skip
def tbnz(b: A64, rt: X, bit: Small, imm: SImm) -> None:
    b.branch((b.x(rt) >> bit.zext(I64) & 1).ne(0), b.pc() + imm)


_compare("0", "w", I32)
_compare("1", "x", I64)


# Exceptions. Others than these are illegal at this level.


@insn("11010100 000 imm:16 000 01", ext="A64", asm="svc {imm:hex}")
def svc(b: A64) -> None:
    b.exit(exits.SYSCALL)


@insn("11010100 001 imm:16 000 00", ext="A64", asm="brk {imm:hex}")
def brk(b: A64) -> None:
    b.exit(exits.BREAKPOINT)


@insn("00000000 00000000 imm:16", ext="A64", asm="udf #{imm}")
def udf(b: A64) -> None:
    b.illegal()


@insn("11010100 010 imm:16 000 00", ext="A64", asm="hlt {imm:hex}")
def hlt(b: A64) -> None:
    b.illegal()
