"""Advanced SIMD: two registers, floating point, and conversions, fixed point too (Arm ARM, C4.1.96), with the scalar forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import F32, F64, I64, Type
from polyvm.ir.ops import FLUSH, RDN, RMM, RNE, RTZ, RUP
from polyvm.isa.aarch64.a64_convert import to_fixed
from polyvm.isa.aarch64.a64_float import integral_in
from polyvm.isa.aarch64.a64_simd_different import put_narrow
from polyvm.isa.aarch64.floats import BY_BITS
from polyvm.isa.aarch64.operands import VD, Small, V, insn
from polyvm.isa.aarch64.simd import D2, S2, S4, SD, SS, H, S, half, mask, read, write
from polyvm.isa.aarch64.simd_estimate_float import reciprocal_estimate, root_estimate
from polyvm.isa.aarch64.simd_float import (
    FLOATS,
    SCALARS,
    as_integers,
    as_numbers,
    extension,
    infinity,
    integers,
    numbers,
    put,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.aarch64.simd import Arrangement
    from polyvm.isa.aarch64.simd_float import Unary


def pattern(a: Arrangement, u: str, o: str, opcode: str) -> str:
    """The encoding of two-register miscellaneous; half precision has its own."""
    head = f"01 {u} 11110" if a.scalar else f"0 {a.q} {u} 01110"
    if a.bits == 16:
        return f"{head} {o} 111100 {opcode} 10 vn:5 vd:5"
    return f"{head} {o} {a.size[1]} 10000 {opcode} 10 vn:5 vd:5"


_BOTH = (*FLOATS, *SCALARS)


def _two(name: str, u: str, o: str, opcode: str, op: Unary, arrangements: Iterable[Arrangement] = FLOATS, *, ext: str = "",
         after: str = "") -> None:  # fmt: skip
    for a in arrangements:
        _misc(name, pattern(a, u, o, opcode), a, op, ext or extension(a), after)


def _misc(name: str, bits: str, a: Arrangement, op: Unary, ext: str, after: str) -> None:
    @insn(bits, ext=ext, name=f"{name}_{a}_vector{'_zero' if after else ''}",
          asm=f"{name} {a.register('vd')}, {a.register('vn')}{after}")  # fmt: skip
    def misc(b: A64, vd: VD, vn: V) -> None:
        mode = b.fp_mode()
        put(b, vd, op(b, numbers(b, vn, a), mode))


def _bitwise(name: str, u: str, op: Callable[[Value], Value]) -> None:
    for a in FLOATS:
        _bits(name, pattern(a, u, "1", "01111"), a, op)


def _bits(name: str, bits: str, a: Arrangement, op: Callable[[Value], Value]) -> None:
    @insn(bits, ext=extension(a), name=f"{name}_{a}_vector", asm=f"{name} {a.register('vd')}, {a.register('vn')}")
    def misc(b: A64, vd: VD, vn: V) -> None:
        write(b, vd, op(read(b, vn, a.type)), a.keep)


_bitwise("fabs", "0", lambda n: n & ((1 << (n.type.bits - 1)) - 1))
_bitwise("fneg", "1", lambda n: n ^ 1 << (n.type.bits - 1))


# Comparisons with 0.


def _comparison(op: str, *, signaling: bool, swap: bool) -> Unary:
    def compare(b: A64, n: Value, mode: Value) -> Value:
        zero = b.const(n.type, 0)
        x, y = (zero, n) if swap else (n, zero)
        return mask(b, b.fcompare(op, x, y, signaling=signaling), n.type.with_kind("int"))

    return compare


_ZERO = ", #0.0"
_two("fcmgt", "0", "1", "01100", _comparison("flt", signaling=True, swap=True), _BOTH, after=_ZERO)
_two("fcmeq", "0", "1", "01101", _comparison("feq", signaling=False, swap=False), _BOTH, after=_ZERO)
_two("fcmlt", "0", "1", "01110", _comparison("flt", signaling=True, swap=False), _BOTH, after=_ZERO)
_two("fcmge", "1", "1", "01100", _comparison("fle", signaling=True, swap=True), _BOTH, after=_ZERO)
_two("fcmle", "1", "1", "01101", _comparison("fle", signaling=True, swap=False), _BOTH, after=_ZERO)


# To integral values, roots, estimates.


def _integral(mode: int | None, *, exact: bool = False) -> Unary:
    return lambda b, n, env: b.frint(n, env if mode is None else mode, exact=exact)


_two("frintn", "0", "0", "11000", _integral(RNE))
_two("frintm", "0", "0", "11001", _integral(RDN))
_two("frintp", "0", "1", "11000", _integral(RUP))
_two("frintz", "0", "1", "11001", _integral(RTZ))
_two("frinta", "1", "0", "11000", _integral(RMM))
_two("frintx", "1", "0", "11001", _integral(None, exact=True))
_two("frinti", "1", "1", "11001", _integral(None))
for _opcode, _count in (("11110", 32), ("11111", 64)):
    _two(f"frint{_count}z", "0", "0", _opcode, integral_in(_count, truncates=True), (*S, D2), ext="FRINTTS")
    _two(f"frint{_count}x", "1", "0", _opcode, integral_in(_count, truncates=False), (*S, D2), ext="FRINTTS")
_two("fsqrt", "1", "1", "11111", lambda b, n, mode: b.fp("fsqrt", n, rm=mode))
_two("frecpe", "0", "1", "11101", reciprocal_estimate, _BOTH)
_two("frsqrte", "1", "1", "11101", root_estimate, _BOTH)


def _reciprocal_exponent(b: A64, n: Value, mode: Value) -> Value:
    """FRECPX: the exponent turned over; what makes a number that is divided by it near to 1."""
    fmt = BY_BITS[n.type.bits]
    bits = as_integers(n)
    size, endless = bits & (fmt.sign - 1), infinity(n.type)
    is_nan = size.ugt(endless)
    zero = b.const(n.type, 0)
    small = size.ult(1 << fmt.mantissa)
    quiet = as_integers(b.fp("fadd", b.select(is_nan | small, n, zero), zero, rm=mode))
    exponent = b.select(small, b.coerce(endless - (1 << fmt.mantissa), bits.type), ~bits & endless)
    return as_numbers(b.select(is_nan, quiet, bits & fmt.sign | exponent))


_two("frecpx", "0", "1", "11111", _reciprocal_exponent, SCALARS)


# To integers and from them.


def _to_integer(op: str, mode: int) -> Unary:
    return lambda b, n, env: b.fconvert(op, n, n.type.with_kind("int"), mode)


for _u, _letter, _op in (("0", "s", "f2si"), ("1", "u", "f2ui")):
    _two(f"fcvtn{_letter}", _u, "0", "11010", _to_integer(_op, RNE), _BOTH)
    _two(f"fcvtm{_letter}", _u, "0", "11011", _to_integer(_op, RDN), _BOTH)
    _two(f"fcvta{_letter}", _u, "0", "11100", _to_integer(_op, RMM), _BOTH)
    _two(f"fcvtp{_letter}", _u, "1", "11010", _to_integer(_op, RUP), _BOTH)
    _two(f"fcvtz{_letter}", _u, "1", "11011", _to_integer(_op, RTZ), _BOTH)


def _from_integer(name: str, u: str, op: str, a: Arrangement) -> None:
    @insn(pattern(a, u, "0", "11101"), ext=extension(a), name=f"{name}_{a}_vector",
          asm=f"{name} {a.register('vd')}, {a.register('vn')}")  # fmt: skip
    def convert(b: A64, vd: VD, vn: V) -> None:
        mode = b.fp_mode()
        n = integers(b, vn, a)
        put(b, vd, b.fconvert(op, n, n.type.with_kind("float"), mode))


# Fixed point.


_SIZES = {16: "001 scale:4", 32: "01 scale:5", 64: "1 scale:6"}


def _fixed_pattern(a: Arrangement, u: str, opcode: str) -> str:
    head = f"01 {u} 111110" if a.scalar else f"0 {a.q} {u} 011110"
    return f"{head} {_SIZES[a.bits]} {opcode} 1 vn:5 vd:5"


def _lanes(b: A64, x: Value, type_: Type) -> Value:
    """A scalar in all lanes of `type_`, or itself."""
    return b.splat(x, type_.lanes) if type_.lanes > 1 else x


def _to_fixed(letter: str, u: str, a: Arrangement) -> None:
    name = f"fcvtz{letter}"

    @insn(_fixed_pattern(a, u, "11111"), ext=extension(a), name=f"{name}_{a}_fixed_vector",
          asm=f"{name} {a.register('vd')}, {a.register('vn')}, {{scale}}", kinds={"scale": f"Shr{a.bits}"})  # fmt: skip
    def convert(b: A64, vd: VD, vn: V, scale: Small) -> None:
        n = numbers(b, vn, a)
        fraction = scale.zext(I64)
        if n.type.lanes == 1:
            put(b, vd, to_fixed(b, n, f"f2{letter}i", n.type.with_kind("int"), fraction))
            return
        found = [to_fixed(b, b.lane(n, i), f"f2{letter}i", n.type.with_kind("int").element, fraction)
                 for i in range(n.type.lanes)]  # fmt: skip
        result = b.const(n.type.with_kind("int"), 0)
        for i, lane in enumerate(found):
            result = b.with_lane(result, i, lane)
        write(b, vd, result)


def _from_fixed(letter: str, u: str, a: Arrangement) -> None:
    name = f"{letter}cvtf"

    @insn(_fixed_pattern(a, u, "11100"), ext=extension(a), name=f"{name}_{a}_fixed_vector",
          asm=f"{name} {a.register('vd')}, {a.register('vn')}, {{scale}}", kinds={"scale": f"Shr{a.bits}"})  # fmt: skip
    def convert(b: A64, vd: VD, vn: V, scale: Small) -> None:
        mode = b.fp_mode()
        n = integers(b, vn, a)
        # Of halves in single precision, which has all of their bits and is rounded once then.
        wide = F32 if a.bits == 16 else as_numbers(n).type.element
        to = wide.vector(n.type.lanes) if n.type.lanes > 1 else wide
        fmt = BY_BITS[wide.bits]
        bits = as_integers(b.fconvert(f"{letter}i2f", n, to, mode))
        less = _lanes(b, scale.zext(fmt.integer) << fmt.mantissa, bits.type)
        result = as_numbers(b.select(bits.eq(0), bits, bits - less))
        if a.bits == 16:
            result = b.fconvert("f2f", result, n.type.with_kind("float"), mode, inner=True)
        put(b, vd, result)


for _a in _BOTH:
    for _u, _letter in (("0", "s"), ("1", "u")):
        _from_integer(f"{_letter}cvtf", _u, f"{_letter}i2f", _a)
        _to_fixed(_letter, _u, _a)
        _from_fixed(_letter, _u, _a)


# Between formats.


def _narrower(sz: str, a: Arrangement, source: Arrangement) -> None:
    name = "fcvtn2" if a.q == "1" else "fcvtn"

    @insn(f"0 {a.q} 0 01110 0 {sz} 10000 10110 10 vn:5 vd:5", ext="AdvSIMD", name=f"{name}_{a}",
          asm=f"{name} {{vd}}.{a}, {{vn}}.{source}")  # fmt: skip
    def fcvtn(b: A64, vd: VD, vn: V) -> None:
        mode = b.fp_mode()
        n = as_numbers(read(b, vn, source.type))
        to = Type("float", a.bits, n.type.lanes)
        put_narrow(b, vd, as_integers(b.fconvert("f2f", n, to, mode)), a)


def _wider(sz: str, a: Arrangement, result: Arrangement) -> None:
    name = "fcvtl2" if a.q == "1" else "fcvtl"

    @insn(f"0 {a.q} 0 01110 0 {sz} 10000 10111 10 vn:5 vd:5", ext="AdvSIMD", name=f"{name}_{a}",
          asm=f"{name} {{vd}}.{result}, {{vn}}.{a}")  # fmt: skip
    def fcvtl(b: A64, vd: VD, vn: V) -> None:
        mode = b.fp_mode()
        n = as_numbers(half(b, read(b, vn, a.type), a.q == "1"))
        put(b, vd, b.fconvert("f2f", n, result.type.with_kind("float"), mode))


for _a in H:
    _narrower("0", _a, S4)
    _wider("0", _a, S4)
for _a in S:
    _narrower("1", _a, D2)
    _wider("1", _a, D2)


def rounded_to_odd(b: A64, n: Value, mode: Value) -> Value:
    """FCVTXN: doubles in single precision; if inexact, of the two neighbours the one with an odd fraction."""
    to = F32.vector(n.type.lanes) if n.type.lanes > 1 else F32
    near = b.fconvert("f2f", n, to, mode)
    back = as_integers(b.fconvert("f2f", near, n.type, mode))
    bits, least = as_integers(near), (1 << 63) - 1
    size = as_integers(n) & least
    is_nan = size.ugt(infinity(F64))
    away = (back & least).ugt(size)
    flushing = _lanes(b, (b.fp_rm() & FLUSH).ne(0), bits.type)
    flushed = (bits & 0x7FFF_FFFF).eq(0) & flushing
    inexact = (back & least).ne(size) & ~(is_nan | flushed)
    truncated = b.select(away & ~is_nan, bits - 1, bits)
    return b.select(inexact, truncated | 1, truncated)


def _to_odd(a: Arrangement) -> None:
    name = "fcvtxn2" if a.q == "1" and not a.scalar else "fcvtxn"
    head = "01 1 11110" if a.scalar else f"0 {a.q} 1 01110"
    source = SD if a.scalar else D2

    @insn(f"{head} 01 10000 10110 10 vn:5 vd:5", ext="AdvSIMD", name=f"{name}_{a}",
          asm=f"{name} {a.register('vd')}, {source.register('vn')}")  # fmt: skip
    def fcvtxn(b: A64, vd: VD, vn: V) -> None:
        mode = b.fp_mode()
        result = rounded_to_odd(b, numbers(b, vn, source), mode)
        if a.scalar:
            write(b, vd, result)
        else:
            put_narrow(b, vd, result, a)


for _a in (S2, S4, SS):
    _to_odd(_a)

