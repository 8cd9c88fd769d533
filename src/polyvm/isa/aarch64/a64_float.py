"""Scalar floating point (Arm ARM, C4.1.96): data processing, comparisons, conversions between formats, FPCR and FPSR.

Conversions to and from integers are in `a64_convert.py`. NaNs, flags and the modes of FPCR are the business of the operations
(`ir/ops.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I64, Type
from polyvm.ir.ops import RDN, RMM, RNE, RTZ, RUP
from polyvm.isa.aarch64.flags import NAMES as CONDITIONS
from polyvm.isa.aarch64.floats import ALL, BY_BITS, D, Format, H, fpcr, fpsr, number_or, set_fpcr, set_fpsr
from polyvm.isa.aarch64.operands import VD, XD, Small, V, X, insn

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64


# Two sources.


def _binary(fmt: Format, opcode: str, name: str, build: Callable[[A64, Value, Value, Value], Value]) -> None:
    @insn(f"0 0 0 11110 {fmt.code} 1 rm:5 {opcode} 10 rn:5 rd:5", ext=fmt.ext, name=f"{name}_{fmt}",
          asm=f"{name} {{rd:{fmt}}}, {{rn:{fmt}}}, {{rm:{fmt}}}")  # fmt: skip
    def binary(b: A64, rd: VD, rn: V, rm: V) -> None:
        mode = b.fp_mode()
        b.set_f(rd, build(b, b.f(rn, fmt.type), b.f(rm, fmt.type), mode))


def _operation(op: str) -> Callable[[A64, Value, Value, Value], Value]:
    return lambda b, x, y, mode: b.fp(op, x, y, rm=mode)


def _negated_product(b: A64, x: Value, y: Value, mode: Value) -> Value:
    integer = x.type.with_kind("int")
    return (b.fp("fmul", x, y, rm=mode).bitcast(integer) ^ 1 << x.type.bits - 1).bitcast(x.type)


def _number(op: str) -> Callable[[A64, Value, Value, Value], Value]:
    """A number is preferred to a quiet NaN."""
    return lambda b, x, y, mode: b.fp(op, *number_or(b, op, x, y), rm=mode)


_BINARY: list[tuple[str, str, Callable[[A64, Value, Value, Value], Value]]] = [
    ("0000", "fmul", _operation("fmul")),
    ("0001", "fdiv", _operation("fdiv")),
    ("0010", "fadd", _operation("fadd")),
    ("0011", "fsub", _operation("fsub")),
    ("0100", "fmax", _operation("fmax")),
    ("0101", "fmin", _operation("fmin")),
    ("0110", "fmaxnm", _number("fmax")),
    ("0111", "fminnm", _number("fmin")),
    ("1000", "fnmul", _negated_product),
]


# One source.


def _unary(fmt: Format, opcode: str, name: str, build: Callable[[A64, Value, Value], Value], ext: str = "") -> None:
    @insn(f"0 0 0 11110 {fmt.code} 1 {opcode} 10000 rn:5 rd:5", ext=ext or fmt.ext, name=f"{name}_{fmt}",
          asm=f"{name} {{rd:{fmt}}}, {{rn:{fmt}}}")  # fmt: skip
    def unary(b: A64, rd: VD, rn: V) -> None:
        mode = b.fp_mode()
        b.set_f(rd, build(b, b.f(rn, fmt.type), mode))


def _bitwise(fmt: Format, opcode: str, name: str, build: Callable[[Value, int], Value]) -> None:
    """No arithmetic: not even a signaling NaN raises anything."""

    @insn(f"0 0 0 11110 {fmt.code} 1 {opcode} 10000 rn:5 rd:5", ext=fmt.ext, name=f"{name}_{fmt}",
          asm=f"{name} {{rd:{fmt}}}, {{rn:{fmt}}}")  # fmt: skip
    def bitwise(b: A64, rd: VD, rn: V) -> None:
        b.set_v(rd, build(b.v(rn, fmt.integer), fmt.sign))


def _integral(mode: int | None, *, exact: bool = False) -> Callable[[A64, Value, Value], Value]:
    return lambda b, x, env: b.frint(x, env if mode is None else mode, exact=exact)


def integral_in(bits: int, *, truncates: bool) -> Callable[[A64, Value, Value], Value]:
    """FEAT_FRINTTS: what does not fit an integer of so many bits becomes the least one."""

    def build(b: A64, x: Value, env: Value) -> Value:
        mode = b.const(env.type, RTZ) if truncates else env
        integer = x.type.with_kind("int")
        result = Type("int", bits, x.type.lanes)
        b.fconvert("f2si", x, result, mode)  # raises what has to be raised
        rounded = b.frint(x, mode, exact=False).bitcast(integer)
        fmt = BY_BITS[x.type.bits]
        limit = (bits - 1 + fmt.bias) << fmt.mantissa
        size = rounded & (fmt.sign - 1)
        least = b.const(integer, integer.splat(fmt.sign | limit))
        return b.select(size.ult(limit), rounded, least).bitcast(x.type)

    return build


_ROUNDINGS = (("001000", "frintn", RNE), ("001001", "frintp", RUP), ("001010", "frintm", RDN), ("001011", "frintz", RTZ),
              ("001100", "frinta", RMM))  # fmt: skip


def _between(to: Format, source: Format) -> None:
    @insn(f"0 0 0 11110 {source.code} 1 0001{to.code} 10000 rn:5 rd:5", ext="FP", name=f"fcvt_{to}_{source}",
          asm=f"fcvt {{rd:{to}}}, {{rn:{source}}}")  # fmt: skip
    def fcvt(b: A64, rd: VD, rn: V) -> None:
        mode = b.fp_mode()
        b.set_f(rd, b.fconvert("f2f", b.f(rn, source.type), to.type, mode))


def _move(fmt: Format) -> None:
    @insn(f"0 0 0 11110 {fmt.code} 1 000000 10000 rn:5 rd:5", ext=fmt.ext, name=f"fmov_{fmt}",
          asm=f"fmov {{rd:{fmt}}}, {{rn:{fmt}}}")  # fmt: skip
    def fmov(b: A64, rd: VD, rn: V) -> None:
        b.set_v(rd, b.v(rn, fmt.integer))

    @insn(f"0 0 0 11110 {fmt.code} 1 imm:8 100 00000 rd:5", ext=fmt.ext, name=f"fmov_{fmt}_imm",
          asm=f"fmov {{rd:{fmt}}}, {{imm}}", kinds={"imm": f"Float{fmt.bits}"})  # fmt: skip
    def immediate(b: A64, rd: VD, imm: X) -> None:
        b.set_v(rd, imm << 32 if fmt is D else imm.trunc(fmt.integer))


# Three sources.


def _fused(fmt: Format, o1: str, o0: str, name: str, *, negate_product: bool, negate_addend: bool) -> None:
    @insn(f"0 0 0 11111 {fmt.code} {o1} rm:5 {o0} ra:5 rn:5 rd:5", ext=fmt.ext, name=f"{name}_{fmt}",
          asm=f"{name} {{rd:{fmt}}}, {{rn:{fmt}}}, {{rm:{fmt}}}, {{ra:{fmt}}}")  # fmt: skip
    def fused(b: A64, rd: VD, rn: V, rm: V, ra: V) -> None:
        mode = b.fp_mode()
        x, addend = b.v(rn, fmt.integer), b.v(ra, fmt.integer)
        if negate_product:
            x = x ^ fmt.sign
        if negate_addend:
            addend = addend ^ fmt.sign
        b.set_f(rd, b.fp("fma", x.bitcast(fmt.type), b.f(rm, fmt.type), addend.bitcast(fmt.type), rm=mode))


# Comparisons.


def _compare(b: A64, x: Value, y: Value, *, signaling: bool) -> None:
    """The comparison that raises flags; what it finds is worked out where something asks."""
    b.fp_mode()
    b.fcompare("flt", x, y, signaling=signaling)
    b.set_flags_compare(x, y)


def _comparisons(fmt: Format, opcode: str, name: str, *, signaling: bool) -> None:
    @insn(f"0 0 0 11110 {fmt.code} 1 rm:5 00 1000 rn:5 {opcode} 000", ext=fmt.ext, name=f"{name}_{fmt}",
          asm=f"{name} {{rn:{fmt}}}, {{rm:{fmt}}}")  # fmt: skip
    def compare(b: A64, rn: V, rm: V) -> None:
        _compare(b, b.f(rn, fmt.type), b.f(rm, fmt.type), signaling=signaling)

    with_zero = f"{opcode[0]}1"

    @insn(f"0 0 0 11110 {fmt.code} 1 00000 00 1000 rn:5 {with_zero} 000", ext=fmt.ext, name=f"{name}_{fmt}_zero",
          asm=f"{name} {{rn:{fmt}}}, #0.0")  # fmt: skip
    def compare_zero(b: A64, rn: V) -> None:
        _compare(b, b.f(rn, fmt.type), b.const(fmt.type, 0), signaling=signaling)


def _conditional_comparison(fmt: Format, op: str, name: str, number: int, *, signaling: bool) -> None:
    @insn(f"0 0 0 11110 {fmt.code} 1 rm:5 {number:04b} 01 rn:5 {op} nzcv:4", ext=fmt.ext,
          name=f"{name}_{fmt}_{CONDITIONS[number]}",
          asm=f"{name} {{rn:{fmt}}}, {{rm:{fmt}}}, {{nzcv:hex}}, {CONDITIONS[number]}")  # fmt: skip
    def compare(b: A64, rn: V, rm: V, nzcv: Small) -> None:
        x, y = b.f(rn, fmt.type), b.f(rm, fmt.type)
        condition = b.condition(number)
        b.fp_mode()
        result = b.local(nzcv.zext(I64) << 28)
        with b.if_(condition):
            less = b.fcompare("flt", x, y, signaling=signaling)
            equal, ordered = b.fcompare("feq", x, y, signaling=False), b.fcompare("fle", x, y, signaling=signaling)
            ordered = ordered | b.fcompare("flt", y, x, signaling=signaling)
            bits = b.select(less, b.const(I64, 8), b.select(equal, b.const(I64, 6), b.select(ordered, b.const(I64, 2), 3)))
            result.set(bits << 28)
        b.set_nzcv(result.get())


def _selection(fmt: Format, number: int) -> None:
    @insn(f"0 0 0 11110 {fmt.code} 1 rm:5 {number:04b} 11 rn:5 rd:5", ext=fmt.ext, name=f"fcsel_{fmt}_{CONDITIONS[number]}",
          asm=f"fcsel {{rd:{fmt}}}, {{rn:{fmt}}}, {{rm:{fmt}}}, {CONDITIONS[number]}")  # fmt: skip
    def fcsel(b: A64, rd: VD, rn: V, rm: V) -> None:
        x, y = b.v(rn, fmt.integer), b.v(rm, fmt.integer)
        b.set_v(rd, b.select(b.condition(number), x, y))


for _fmt in ALL:
    for _opcode, _name, _build in _BINARY:
        _binary(_fmt, _opcode, _name, _build)
    _unary(_fmt, "000011", "fsqrt", lambda b, x, mode: b.fp("fsqrt", x, rm=mode))
    _bitwise(_fmt, "000001", "fabs", lambda x, sign: x & sign - 1)
    _bitwise(_fmt, "000010", "fneg", lambda x, sign: x ^ sign)
    for _opcode, _name, _mode in _ROUNDINGS:
        _unary(_fmt, _opcode, _name, _integral(_mode))
    _unary(_fmt, "001110", "frintx", _integral(None, exact=True))
    _unary(_fmt, "001111", "frinti", _integral(None))
    if _fmt is not H:
        for _opcode, _name, _bits in (("010000", "frint32z", 32), ("010001", "frint32x", 32), ("010010", "frint64z", 64),
                                      ("010011", "frint64x", 64)):  # fmt: skip
            _unary(_fmt, _opcode, _name, integral_in(_bits, truncates=_name[-1] == "z"), "FRINTTS")
    for _source in ALL:
        if _source is not _fmt:
            _between(_fmt, _source)
    _move(_fmt)
    _fused(_fmt, "0", "0", "fmadd", negate_product=False, negate_addend=False)
    _fused(_fmt, "0", "1", "fmsub", negate_product=True, negate_addend=False)
    _fused(_fmt, "1", "0", "fnmadd", negate_product=True, negate_addend=True)
    _fused(_fmt, "1", "1", "fnmsub", negate_product=False, negate_addend=True)
    _comparisons(_fmt, "00", "fcmp", signaling=False)
    _comparisons(_fmt, "10", "fcmpe", signaling=True)
    for _number_ in range(16):
        _conditional_comparison(_fmt, "0", "fccmp", _number_, signaling=False)
        _conditional_comparison(_fmt, "1", "fccmpe", _number_, signaling=True)
        _selection(_fmt, _number_)


# The system registers.


@insn("1101010100 1 1 1 011 0100 0100 000 rt:5", ext="FP", name="mrs_fpcr", asm="mrs {rt}, fpcr")
def mrs_fpcr(b: A64, rt: XD) -> None:
    b.set_x(rt, fpcr(b))


@insn("1101010100 0 1 1 011 0100 0100 000 rt:5", ext="FP", name="msr_fpcr", asm="msr fpcr, {rt}")
def msr_fpcr(b: A64, rt: X) -> None:
    set_fpcr(b, b.x(rt))


@insn("1101010100 1 1 1 011 0100 0100 001 rt:5", ext="FP", name="mrs_fpsr", asm="mrs {rt}, fpsr")
def mrs_fpsr(b: A64, rt: XD) -> None:
    b.set_x(rt, fpsr(b))


@insn("1101010100 0 1 1 011 0100 0100 001 rt:5", ext="FP", name="msr_fpsr", asm="msr fpsr, {rt}")
def msr_fpsr(b: A64, rt: X) -> None:
    set_fpsr(b, b.x(rt))
