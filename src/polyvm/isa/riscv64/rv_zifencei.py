"""Zifencei: the instruction-fetch fence (RISC-V unprivileged specification, chapter 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.isa.riscv64.operands import insn
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from polyvm.isa.riscv64.builder import Rv


@insn("_:12 _:5 001 _:5 0001111", ext="Zifencei", asm="fence.i")
def fence_i(b: Rv) -> None:
    b.exit(exits.FENCE_I)
