"""Advanced SIMD: a vector and an element, integers (Arm ARM, C4.1.96), with the scalar forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.isa.aarch64.a64_simd_different import DOUBLING, accumulated, called, source, wider
from polyvm.isa.aarch64.operands import VD, Small, V, insn
from polyvm.isa.aarch64.simd import HS, SH, SS, element, low, note, read, widened, write
from polyvm.isa.aarch64.simd_ops import double_high, double_high_accumulated, doubled_product

if TYPE_CHECKING:
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.aarch64.simd import Arrangement, SaturatingBinary, Ternary


def pattern(a: Arrangement, u: str, opcode: str, size: str = "") -> str:
    """The encoding: the number of an element and its register share bits."""
    head = f"01 {u} 11111" if a.scalar else f"0 {a.q} {u} 01111"
    element_of = {
        16: f"place[1:0] vm:4 {opcode} place[2]", 32: f"place[0] vm:5 {opcode} place[1]", 64: f"0 vm:5 {opcode} place:1"
    }[a.bits]  # fmt: skip
    return f"{head} {size or a.size} {element_of} 0 vn:5 vd:5"


def template(name: str, a: Arrangement, result: Arrangement | None = None) -> str:
    """The assembly template."""
    d = (result or a).register("vd")
    return f"{name} {d}, {a.register('vn')}, {{vm}}.{'hsd'[(16, 32, 64).index(a.bits)]}[{{place:index}}]"


def _same(name: str, u: str, opcode: str, op: Ternary) -> None:
    for a in HS:
        _by_element(name, pattern(a, u, opcode), a, op)


def _by_element(name: str, bits: str, a: Arrangement, op: Ternary) -> None:
    @insn(bits, ext="AdvSIMD", name=f"{name}_{a}_element", asm=template(name, a))
    def indexed(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
        write(b, vd, op(b, read(b, vd, a.type), read(b, vn, a.type), element(b, vm, place, a.type)), a.keep)


_same("mul", "0", "1000", lambda b, d, n, m: n * m)
_same("mla", "1", "0000", lambda b, d, n, m: d + n * m)
_same("mls", "1", "0100", lambda b, d, n, m: d - n * m)


def _long(name: str, u: str, opcode: str, op: Ternary, *, signed: bool) -> None:
    for a in HS:
        _long_by_element(name, pattern(a, u, opcode), a, op, signed)


def _long_by_element(name: str, bits: str, a: Arrangement, op: Ternary, signed: bool) -> None:
    w = wider(a)

    @insn(bits, ext="AdvSIMD", name=f"{called(name, a)}_{a}_element", asm=template(called(name, a), a, w))
    def indexed(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
        m = low(b, element(b, vm, place, a.type))
        write(b, vd, op(b, read(b, vd, w.type), widened(source(b, vn, a), signed), widened(m, signed)))


for _u, _letter in (("0", "s"), ("1", "u")):
    _long(f"{_letter}mull", _u, "1010", lambda b, d, n, m: n * m, signed=_u == "0")
    _long(f"{_letter}mlal", _u, "0010", lambda b, d, n, m: d + n * m, signed=_u == "0")
    _long(f"{_letter}mlsl", _u, "0110", lambda b, d, n, m: d - n * m, signed=_u == "0")


def _doubling(name: str, bits: str, a: Arrangement, op: SaturatingBinary | None) -> None:
    w = wider(a)

    @insn(bits, ext="AdvSIMD", name=f"{called(name, a)}_{a}_element", asm=template(called(name, a), a, w))
    def indexed(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
        product, difference = doubled_product(b, source(b, vn, a), low(b, element(b, vm, place, a.type)))
        accumulated(b, vd, w, product, difference, op)


def _high(name: str, bits: str, a: Arrangement, *, rounding: bool) -> None:
    @insn(bits, ext="AdvSIMD", name=f"{name}_{a}_element", asm=template(name, a))
    def indexed(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
        result, difference = double_high(b, read(b, vn, a.type), element(b, vm, place, a.type), rounding=rounding)
        note(b, difference, a.keep)
        write(b, vd, result, a.keep)


def _high_accumulated(name: str, bits: str, a: Arrangement, *, subtract: bool) -> None:
    @insn(bits, ext="RDM", name=f"{name}_{a}_element", asm=template(name, a))
    def indexed(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
        d, n, m = read(b, vd, a.type), read(b, vn, a.type), element(b, vm, place, a.type)
        result, difference = double_high_accumulated(b, d, n, m, subtract=subtract)
        note(b, difference, a.keep)
        write(b, vd, result, a.keep)


for _a in (*HS, SH, SS):
    for (_name, _op), _opcode in zip(DOUBLING, ("0011", "0111", "1011"), strict=True):
        _doubling(_name, pattern(_a, "0", _opcode), _a, _op)
    _high("sqdmulh", pattern(_a, "0", "1100"), _a, rounding=False)
    _high("sqrdmulh", pattern(_a, "0", "1101"), _a, rounding=True)
    _high_accumulated("sqrdmlah", pattern(_a, "1", "1101"), _a, subtract=False)
    _high_accumulated("sqrdmlsh", pattern(_a, "1", "1111"), _a, subtract=True)
