"""A: atomic instructions (RISC-V unprivileged specification, chapter 14), Zabha: the same on bytes and halfwords (chapter
16), and Zawrs: waiting on a reservation (14.5).

A reservation is the address and the value that was loaded; the store-conditional compares and exchanges. Read-modify-writes are
sequentially consistent, which satisfies every combination of the aq and rl bits. Misaligned addresses fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I8, I16, I32, I64, Type
from polyvm.isa.riscv64.operands import XD, X, expand, insn
from polyvm.isa.riscv64.rv_i import addi
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from polyvm.isa.riscv64.builder import Rv

# funct3, suffix, type, extension of the read-modify-writes
WIDTHS: tuple[tuple[str, str, Type, str], ...] = (
    ("000", "b", I8, "Zabha"),
    ("001", "h", I16, "Zabha"),
    ("010", "w", I32, "A"),
    ("011", "d", I64, "A"),
)
_NO_RESERVATION = -1

# funct5, name, operation of the IR
_ROWS = (
    ("00001", "swap", "xchg"),
    ("00000", "add", "add"),
    ("00100", "xor", "xor"),
    ("01100", "and", "and"),
    ("01000", "or", "or"),
    ("10000", "min", "min"),
    ("10100", "max", "max"),
    ("11000", "minu", "umin"),
    ("11100", "maxu", "umax"),
)


def _load_reserved(funct3: str, suffix: str, type_: Type) -> None:
    @insn(f"00010 aqrl:2 00000 rs1:5 {funct3} rd:5 0101111", ext="A", asm=f"lr.{suffix}{{aqrl:order}} {{rd}}, ({{rs1}})")
    def lr(b: Rv, rd: XD, rs1: X) -> None:
        address = b.x(rs1)
        b.require_aligned(address, type_, exits.READ)
        value = b.load(address, type_, "seqcst").sext(I64)
        b.set("res_addr", address)
        b.set("res_value", value, 0)
        b.set_x(rd, value)


def _store_conditional(funct3: str, suffix: str, type_: Type) -> None:
    @insn(
        f"00011 aqrl:2 rs2:5 rs1:5 {funct3} rd:5 0101111",
        ext="A", asm=f"sc.{suffix}{{aqrl:order}} {{rd}}, {{rs2}}, ({{rs1}})",
    )  # fmt: skip
    def sc(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
        address, new = b.x(rs1), b.x(rs2).trunc(type_)
        b.require_aligned(address, type_, exits.WRITE)
        b.probe(address, type_.bits // 8, "w")
        failed = b.local(b.const(I64, 1))
        with b.if_(b.get("res_addr").eq(address)):
            expected = b.get("res_value", 0).trunc(type_)
            old = b.cmpxchg(address, expected, new, "seqcst")
            failed.set(b.flag(old.ne(expected)))
        b.set("res_addr", _NO_RESERVATION)
        b.set_x(rd, failed.get())


def _read_modify_write(funct5: str, name: str, rmw: str, funct3: str, suffix: str, type_: Type, ext: str) -> None:
    @insn(
        f"{funct5} aqrl:2 rs2:5 rs1:5 {funct3} rd:5 0101111",
        ext=ext, asm=f"amo{name}.{suffix}{{aqrl:order}} {{rd}}, {{rs2}}, ({{rs1}})",
    )  # fmt: skip
    def amo(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
        address, value = b.x(rs1), b.x(rs2).trunc(type_)
        b.require_aligned(address, type_, exits.WRITE)
        b.set_x(rd, b.amo(rmw, address, value, "seqcst").sext(I64))


for _funct3, _suffix, _type, _ext in WIDTHS:
    if _ext == "A":
        _load_reserved(_funct3, _suffix, _type)
        _store_conditional(_funct3, _suffix, _type)
    for _funct5, _name, _rmw in _ROWS:
        _read_modify_write(_funct5, _name, _rmw, _funct3, _suffix, _type, _ext)

# Both may end at once: a guest thread is a host thread, which the host's scheduler takes turns with.
expand("000000001101 00000 000 00000 1110011", addi, ext="Zawrs", asm="wrs.nto", rd=0, rs1=0, imm=0)
expand("000000011101 00000 000 00000 1110011", addi, ext="Zawrs", asm="wrs.sto", rd=0, rs1=0, imm=0)
