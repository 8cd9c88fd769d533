"""Zicbom, Zicboz, Zicbop: cache-block management, zeroing and prefetch (RISC-V unprivileged specification, chapter 19), and
Zihintpause (chapter 10).

A block has 64 bytes. Host caches are coherent, so that management only has to fault where the block cannot be accessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I64
from polyvm.isa.riscv64.operands import X, expand, insn
from polyvm.isa.riscv64.rv_i import addi

if TYPE_CHECKING:
    from polyvm.isa.riscv64.builder import Rv

BLOCK = 64


@insn("000000000000 rs1:5 010 00000 0001111", ext="Zicbom", asm="cbo.inval ({rs1})")
def cbo_inval(b: Rv, rs1: X) -> None:
    b.probe(b.x(rs1), 1, "r")


@insn("000000000001 rs1:5 010 00000 0001111", ext="Zicbom", asm="cbo.clean ({rs1})")
def cbo_clean(b: Rv, rs1: X) -> None:
    b.probe(b.x(rs1), 1, "r")


@insn("000000000010 rs1:5 010 00000 0001111", ext="Zicbom", asm="cbo.flush ({rs1})")
def cbo_flush(b: Rv, rs1: X) -> None:
    b.probe(b.x(rs1), 1, "r")


@insn("000000000100 rs1:5 010 00000 0001111", ext="Zicboz", asm="cbo.zero ({rs1})")
def cbo_zero(b: Rv, rs1: X) -> None:
    address = b.x(rs1) & -BLOCK
    b.probe(address, BLOCK, "w")
    for offset in range(0, BLOCK, 8):
        b.store(address + offset, b.const(I64, 0))


def _hint(pattern: str, ext: str, asm: str, overrides: str) -> None:
    """An encoding that does nothing."""
    expand(pattern, addi, ext=ext, asm=asm, overrides=overrides, rd=0, rs1=0, imm=0)


_hint("off[11:5] 00000 base:5 110 00000 0010011", "Zicbop", "prefetch.i {off:signed12}({base:x})", "ori")
_hint("off[11:5] 00001 base:5 110 00000 0010011", "Zicbop", "prefetch.r {off:signed12}({base:x})", "ori")
_hint("off[11:5] 00011 base:5 110 00000 0010011", "Zicbop", "prefetch.w {off:signed12}({base:x})", "ori")
_hint("0000 0001 0000 00000 000 00000 0001111", "Zihintpause", "pause", "fence")
