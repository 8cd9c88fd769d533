"""Zacas: atomic compare-and-swap (RISC-V unprivileged specification, chapter 15), and its byte and halfword forms in Zabha."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I64, I128, Type, Value
from polyvm.isa.riscv64.operands import XD, X, insn
from polyvm.isa.riscv64.rv_a import WIDTHS
from polyvm.isa.riscv64.state import X_SINK
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from polyvm.isa.riscv64.builder import Rv


def _compare_and_swap(funct3: str, suffix: str, type_: Type, ext: str) -> None:
    @insn(
        f"00101 aqrl:2 rs2:5 rs1:5 {funct3} rd:5 0101111",
        ext=ext, asm=f"amocas.{suffix}{{aqrl:order}} {{rd}}, {{rs2}}, ({{rs1}})",
    )  # fmt: skip
    def amocas(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
        address, new = b.x(rs1), b.x(rs2).trunc(type_)
        b.require_aligned(address, type_, exits.WRITE)
        # rd is read, too; the decoder turned x0 into the sink, which may hold anything.
        expected = b.select(rd.eq(X_SINK), 0, b.x(rd)).trunc(type_)
        b.set_x(rd, b.cmpxchg(address, expected, new, "seqcst").sext(I64))


for _funct3, _suffix, _type, _ext in WIDTHS:
    _compare_and_swap(_funct3, _suffix, _type, "Zacas" if _ext == "A" else _ext)


def _pair(b: Rv, first: Value) -> Value:
    """Registers `first` and `first` + 1 as one number; a pair that starts at x0 is zero."""
    low, high = b.x(first), b.x(b.select(first.eq(0), first, first + 1))
    return low.zext(I128) | (high.zext(I128) << 64)


@insn(
    "00101 aqrl:2 rs2[4:1] 0 rs1:5 100 rd[4:1] 0 0101111",
    ext="Zacas", asm="amocas.q{aqrl:order} {rd}, {rs2}, ({rs1})",
)  # fmt: skip
def amocas_q(b: Rv, rd: X, rs1: X, rs2: X) -> None:
    address = b.x(rs1)
    b.require_aligned(address, I128, exits.WRITE)
    old = b.cmpxchg(address, _pair(b, rd), _pair(b, rs2), "seqcst")
    b.set_x(b.select(rd.eq(0), X_SINK, rd), old.trunc(I64))
    b.set_x(b.select(rd.eq(0), X_SINK, rd + 1), (old >> 64).trunc(I64))
