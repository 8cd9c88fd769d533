"""Scalar conversions between floating point and integers or fixed point, and moves between the register files (Arm ARM, C4.1.96).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import F64, I32, I64, I128
from polyvm.ir.ops import RDN, RMM, RNE, RTZ, RUP
from polyvm.isa.aarch64.floats import ALL, D, Format, H
from polyvm.isa.aarch64.operands import VD, XD, Small, V, X, insn

if TYPE_CHECKING:
    from polyvm.ir import Type, Value
    from polyvm.isa.aarch64.builder import A64

INTEGERS = (("0", "w", I32), ("1", "x", I64))
_TO = (("00", "n", RNE), ("01", "p", RUP), ("10", "m", RDN), ("11", "z", RTZ))


def _to_integer(fmt: Format, sf: str, r: str, type_: Type, fields: str, name: str, op: str, mode: int) -> None:
    @insn(f"{sf} 0 0 11110 {fmt.code} 1 {fields} 000000 rn:5 rd:5", ext=fmt.ext, name=f"{name}_{r}_{fmt}",
          asm=f"{name} {{rd:{r}}}, {{rn:{fmt}}}")  # fmt: skip
    def convert(b: A64, rd: XD, rn: V) -> None:
        b.fp_mode()
        b.set_r(rd, b.fconvert(op, b.f(rn, fmt.type), type_, mode))


def _from_integer(fmt: Format, sf: str, r: str, type_: Type, opcode: str, name: str, op: str) -> None:
    @insn(f"{sf} 0 0 11110 {fmt.code} 1 00 {opcode} 000000 rn:5 rd:5", ext=fmt.ext, name=f"{name}_{fmt}_{r}",
          asm=f"{name} {{rd:{fmt}}}, {{rn:{r}}}")  # fmt: skip
    def convert(b: A64, rd: VD, rn: X) -> None:
        mode = b.fp_mode()
        b.set_f(rd, b.fconvert(op, b.r(rn, type_), fmt.type, mode))


# Fixed point: the field says 64 less the bits of the fraction.


def to_fixed(b: A64, x: Value, op: str, type_: Type, fraction: Value) -> Value:
    """`x` times 2**fraction (i64, 1 to 64) as an integer, truncated."""
    mode = b.fp_mode()
    if x.type is not F64:
        x = b.fconvert("f2f", x, F64, mode, inner=True)
    # What is beyond all integers is so without being made larger, which might overflow.
    size = x.bitcast(I64) & (D.sign - 1)
    factor = b.select(size.ult(64 + D.bias << D.mantissa), fraction, 0) + D.bias << D.mantissa
    return b.fconvert(op, b.fp("fmul", x, factor.bitcast(F64), rm=mode), type_, RTZ)


def from_fixed(b: A64, x: Value, op: str, fmt: Format, fraction: Value) -> Value:
    """The integer `x` divided by 2**fraction (i64, 1 to 64), rounded once."""
    mode = b.fp_mode()
    if fmt is H:
        return b.fconvert("f2f", _divided(b, _exact(b, x, op), D, fraction), H.type, mode, inner=True)
    return _divided(b, b.fconvert(op, x, fmt.type, mode), fmt, fraction)


def _divided(b: A64, y: Value, fmt: Format, fraction: Value) -> Value:
    """Exact: integers and what they are divided by keep results normal."""
    bits = y.bitcast(fmt.integer)
    shifted = bits - (fraction.trunc(fmt.integer) << fmt.mantissa)
    return b.select(bits.eq(0), bits, shifted).bitcast(fmt.type)


def _exact(b: A64, x: Value, op: str) -> Value:
    """An integer as a double; bits that it has no room for become one sticky bit, as half precision can tell no more."""
    wide = x if x.type is I64 else x.sext(I64) if op == "si2f" else x.zext(I64)
    big = wide.slt(0)
    if op == "ui2f":
        wide = b.select(big, (wide >> 1) | (wide & 1), wide)
    low = wide & 0x7FF
    kept = (wide & ~0x7FF) | b.select(low.ne(0), b.const(I64, 1 << 11), 0)
    size = b.select(wide.slt(0), -wide, wide)
    y = b.fconvert("si2f", b.select(size.ult(1 << 52), wide, kept), F64, RNE)
    if op == "ui2f":
        bits = y.bitcast(I64)
        y = b.select(big, bits + (1 << D.mantissa), bits).bitcast(F64)
    return y


def _fixed(fmt: Format, sf: str, r: str, type_: Type, opcode: str, letter: str) -> None:
    scale, where = ("1 scale:5", 32) if sf == "0" else ("scale:6", 64)
    shown = f"{{scale:fraction{where}}}"

    @insn(f"{sf} 0 0 11110 {fmt.code} 0 11 00{opcode} {scale} rn:5 rd:5", ext=fmt.ext, name=f"fcvtz{letter}_{r}_{fmt}_fixed",
          asm=f"fcvtz{letter} {{rd:{r}}}, {{rn:{fmt}}}, {shown}")  # fmt: skip
    def to_integer(b: A64, rd: XD, rn: V, scale: Small) -> None:
        fraction = b.const(I64, where) - scale.zext(I64)
        b.set_r(rd, to_fixed(b, b.f(rn, fmt.type), f"f2{letter}i", type_, fraction))

    @insn(f"{sf} 0 0 11110 {fmt.code} 0 00 01{opcode} {scale} rn:5 rd:5", ext=fmt.ext, name=f"{letter}cvtf_{fmt}_{r}_fixed",
          asm=f"{letter}cvtf {{rd:{fmt}}}, {{rn:{r}}}, {shown}")  # fmt: skip
    def from_integer(b: A64, rd: VD, rn: X, scale: Small) -> None:
        fraction = b.const(I64, where) - scale.zext(I64)
        b.set_f(rd, from_fixed(b, b.r(rn, type_), f"{letter}i2f", fmt, fraction))


# Moves.


def _moves(fmt: Format, sf: str, r: str, type_: Type) -> None:
    @insn(f"{sf} 0 0 11110 {fmt.code} 1 00 110 000000 rn:5 rd:5", ext=fmt.ext, name=f"fmov_{r}_{fmt}",
          asm=f"fmov {{rd:{r}}}, {{rn:{fmt}}}")  # fmt: skip
    def from_float(b: A64, rd: XD, rn: V) -> None:
        b.set_r(rd, b.v(rn, fmt.integer))

    @insn(f"{sf} 0 0 11110 {fmt.code} 1 00 111 000000 rn:5 rd:5", ext=fmt.ext, name=f"fmov_{fmt}_{r}",
          asm=f"fmov {{rd:{fmt}}}, {{rn:{r}}}")  # fmt: skip
    def to_float(b: A64, rd: VD, rn: X) -> None:
        b.set_v(rd, b.r(rn, fmt.integer))


for _fmt in ALL:
    for _sf, _r, _type in INTEGERS:
        for _rmode, _letter, _mode in _TO:
            _to_integer(_fmt, _sf, _r, _type, f"{_rmode} 000", f"fcvt{_letter}s", "f2si", _mode)
            _to_integer(_fmt, _sf, _r, _type, f"{_rmode} 001", f"fcvt{_letter}u", "f2ui", _mode)
        _to_integer(_fmt, _sf, _r, _type, "00 100", "fcvtas", "f2si", RMM)
        _to_integer(_fmt, _sf, _r, _type, "00 101", "fcvtau", "f2ui", RMM)
        _from_integer(_fmt, _sf, _r, _type, "010", "scvtf", "si2f")
        _from_integer(_fmt, _sf, _r, _type, "011", "ucvtf", "ui2f")
        _fixed(_fmt, _sf, _r, _type, "0", "s")
        _fixed(_fmt, _sf, _r, _type, "1", "u")
        if _fmt is H or _fmt.bits == _type.bits:
            _moves(_fmt, _sf, _r, _type)


@insn("1 0 0 11110 10 1 01 110 000000 rn:5 rd:5", ext="FP", name="fmov_x_high", asm="fmov {rd:x}, {rn}.d[1]")
def fmov_from_high(b: A64, rd: XD, rn: V) -> None:
    b.set_x(rd, b.get("v", rn).bitcast(I64.vector(2)).lane(1))


@insn("1 0 0 11110 10 1 01 111 000000 rn:5 rd:5", ext="FP", name="fmov_high_x", asm="fmov {rd}.d[1], {rn:x}")
def fmov_to_high(b: A64, rd: VD, rn: X) -> None:
    b.set("v", b.get("v", rd).bitcast(I64.vector(2)).with_lane(1, b.x(rn)).bitcast(I128), rd)


@insn("0 0 0 11110 01 1 11 110 000000 rn:5 rd:5", ext="JSCVT", asm="fjcvtzs {rd:w}, {rn:d}")
def fjcvtzs(b: A64, rd: XD, rn: V) -> None:
    """The low 32 bits of the truncated number (FPToFixedJS); Z if it is that number."""
    b.fp_mode()
    x = b.f(rn, F64)
    b.fconvert("f2si", x, I32, RTZ)  # raises what has to be raised
    bits = b.v(rn, I64)
    shift = (bits >> D.mantissa & 0x7FF) - (D.bias + D.mantissa)
    whole = (bits & (1 << D.mantissa) - 1) | 1 << D.mantissa
    left = b.select(shift.ult(32), whole << (shift & 31), 0)
    right = b.select((-shift).ult(53), whole >> (-shift & 63), 0)
    size = b.select(shift.slt(0), right, left).trunc(I32)
    result = b.select(bits.slt(0), -size, size)
    b.set_r(rd, result)
    exact = b.fconvert("si2f", result, F64, RNE).bitcast(I64).eq(bits)
    b.set_nzcv(exact.zext(I64) << 30)
