"""Zfa: additional floating-point instructions (RISC-V unprivileged specification, chapter 25)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from polyvm.ir import I32, I64, Value
from polyvm.ir.ops import INEXACT, INVALID
from polyvm.isa.riscv64.formats import ALL, D, Format
from polyvm.isa.riscv64.operands import FD, FLI_VALUES, XD, F, Rm, Small, insn
from polyvm.isa.riscv64.rv_f import OP_FP, extreme, is_nan

if TYPE_CHECKING:
    from polyvm.isa.riscv64.builder import Rv

_CODES = {16: ("<e", "<H"), 32: ("<f", "<I"), 64: ("<d", "<Q")}


def _constant(index: int, fmt: Format) -> int:
    """Entry `index` of the table of constants (25.1) as bits."""
    if index == 1:
        return 1 << fmt.mantissa  # the smallest positive normal number
    if index == 31:
        return fmt.nan
    as_float, as_int = _CODES[fmt.bits]
    try:
        packed = struct.pack(as_float, FLI_VALUES[index])
    except OverflowError:  # 2**16 in half precision
        return fmt.infinity
    return int(struct.unpack(as_int, packed)[0])


def _load_immediate(fmt: Format) -> None:
    @insn(f"11110 {fmt.code} 00001 imm:5 000 rd:5 {OP_FP}", ext="Zfa", asm=f"fli.{fmt.suffix} {{rd}}, {{imm:fli}}")
    def fli(b: Rv, rd: FD, imm: Small) -> None:
        value = b.const(fmt.integer, _constant(0, fmt))
        for index in range(1, 32):
            value = b.select(imm.eq(index), _constant(index, fmt), value)
        b.set_f_bits(rd, value, fmt)


def _minimum(fmt: Format, funct3: str, name: str) -> None:
    @insn(
        f"00101 {fmt.code} rs2:5 rs1:5 {funct3} rd:5 {OP_FP}",
        ext="Zfa", asm=f"{name}.{fmt.suffix} {{rd}}, {{rs1}}, {{rs2}}",
    )  # fmt: skip
    def fminm(b: Rv, rd: FD, rs1: F, rs2: F) -> None:
        x, y = b.f_bits(rs1, fmt), b.f_bits(rs2, fmt)
        result = extreme(b, x, y, fmt, largest=name == "fmaxm")
        b.set_f_bits(rd, b.select(is_nan(x, fmt) | is_nan(y, fmt), fmt.nan, result), fmt)


def _round(fmt: Format, code: str, name: str) -> None:
    @insn(f"01000 {fmt.code} {code} rs1:5 rm:3 rd:5 {OP_FP}", ext="Zfa", asm=f"{name}.{fmt.suffix} {{rd}}, {{rs1}}{{rm}}")
    def fround(b: Rv, rd: FD, rs1: F, rm: Rm) -> None:
        mode = b.round_mode(rm)
        b.set_f(rd, b.frint(b.f(rs1, fmt), mode, exact=name == "froundnx"), fmt)


def _quiet_comparison(fmt: Format, funct3: str, name: str) -> None:
    @insn(
        f"10100 {fmt.code} rs2:5 rs1:5 {funct3} rd:5 {OP_FP}",
        ext="Zfa", asm=f"{name}q.{fmt.suffix} {{rd}}, {{rs1}}, {{rs2}}",
    )  # fmt: skip
    def compare(b: Rv, rd: XD, rs1: F, rs2: F) -> None:
        b.set_x(rd, b.flag(b.fcompare(name, b.f(rs1, fmt), b.f(rs2, fmt), signaling=False)))


for _fmt in ALL:
    _load_immediate(_fmt)
    _minimum(_fmt, "010", "fminm")
    _minimum(_fmt, "011", "fmaxm")
    _round(_fmt, "00100", "fround")
    _round(_fmt, "00101", "froundnx")
    _quiet_comparison(_fmt, "100", "fle")
    _quiet_comparison(_fmt, "101", "flt")


@insn(f"11000 01 01000 rs1:5 001 rd:5 {OP_FP}", ext="Zfa", asm="fcvtmod.w.d {rd}, {rs1}, rtz")
def fcvtmod_w_d(b: Rv, rd: XD, rs1: F) -> None:
    bits = b.f_bits(rs1, D)
    exponent = (bits >> D.mantissa) & 0x7FF
    fraction = bits & ((1 << D.mantissa) - 1)
    significand = b.select(exponent.eq(0), fraction, fraction | (1 << D.mantissa))
    # The number is significand * 2**(exponent - 1075); a shift by 64 or more leaves nothing in the low word.
    right, left = 1075 - exponent, exponent - 1075
    below, wide = exponent.ult(1075), left.ult(64)
    right = b.select(right.ult(64), right, 63)
    kept = significand >> b.select(below, right, 0)
    whole = b.select(below, kept, b.select(wide, significand << b.select(~below & wide, left, 0), 0))
    whole = b.select(exponent.eq(0x7FF), 0, whole)
    negative = bits.slt(0)
    limit = b.select(negative, b.const(I64, 1 << 31), (1 << 31) - 1)
    outside = exponent.ugt(1023 + 31) | whole.ugt(limit)
    inexact = below & (kept << right).ne(significand)
    b.fp_raise(b.select(outside, b.const(I32, INVALID), _flag(b, inexact)))
    b.set_w(rd, b.select(negative, -whole, whole).trunc(I32))


def _flag(b: Rv, inexact: Value) -> Value:
    return b.select(inexact, b.const(I32, INEXACT), 0)
