"""Zicsr (RISC-V unprivileged specification, chapter 7), Zicntr (chapter 8) and the floating-point CSRs (21.2).

User mode sees fflags, frm and fcsr, and the read-only cycle, time and instret; anything else is an illegal instruction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I32, I64, Value
from polyvm.isa.riscv64.operands import XD, Csr, Small, X, insn

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.isa.riscv64.builder import Rv

    Update = Callable[[Value, Value], Value]

FFLAGS, FRM, FCSR, CYCLE, TIME, INSTRET = 1, 2, 3, 0xC00, 0xC01, 0xC02


def _read(b: Rv, csr: Value) -> Value:
    value = b.local(b.const(I64, 0))
    with b.if_(csr.eq(FFLAGS)):
        value.set(b.fp_flags().zext(I64))
    with b.if_(csr.eq(FRM)):
        value.set(b.fp_rm().zext(I64))
    with b.if_(csr.eq(FCSR)):
        value.set((b.fp_rm() << 5 | b.fp_flags()).zext(I64))
    with b.if_(csr.eq(TIME)):
        value.set(b.ticks())
    with b.if_(csr.eq(CYCLE) | csr.eq(INSTRET)):
        value.set(b.instret())
    return value.get()


def _write(b: Rv, csr: Value, value: Value) -> None:
    low = value.trunc(I32)
    with b.if_(csr.eq(FFLAGS) | csr.eq(FCSR)):
        b.fp_set_flags(low & 31)
    with b.if_(csr.eq(FRM)):
        b.fp_set_rm(low & 7)
    with b.if_(csr.eq(FCSR)):
        b.fp_set_rm((low >> 5) & 7)


def _check(b: Rv, csr: Value, writes: Value) -> None:
    floating = csr.uge(FFLAGS) & csr.ule(FCSR)
    counter = csr.uge(CYCLE) & csr.ule(INSTRET)
    with b.if_((floating | (counter & ~writes)) ^ 1):
        b.illegal()


def _access(b: Rv, rd: Value, csr: Value, writes: Value, update: Update, source: Value) -> None:
    _check(b, csr, writes)
    old = _read(b, csr)
    with b.if_(writes):
        _write(b, csr, update(old, source))
    b.set_x(rd, old)


def _both(funct3: str, name: str, update: Update, *, always: bool) -> None:
    """The register and the immediate form; set and clear do not write for x0 or 0."""

    @insn(f"csr:12 rs1:5 0{funct3} rd:5 1110011", ext="Zicsr", asm=f"{name} {{rd}}, {{csr}}, {{rs1}}")
    def by_register(b: Rv, rd: XD, rs1: X, csr: Csr) -> None:
        _access(b, rd, csr, b.true() if always else rs1.ne(0), update, b.x(rs1))

    @insn(f"csr:12 uimm:5 1{funct3} rd:5 1110011", ext="Zicsr", asm=f"{name}i {{rd}}, {{csr}}, {{uimm}}")
    def by_immediate(b: Rv, rd: XD, uimm: Small, csr: Csr) -> None:
        _access(b, rd, csr, b.true() if always else uimm.ne(0), update, uimm.zext(I64))


_both("01", "csrrw", lambda old, source: source, always=True)
_both("10", "csrrs", lambda old, source: old | source, always=False)
_both("11", "csrrc", lambda old, source: old & ~source, always=False)
