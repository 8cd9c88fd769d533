"""Advanced SIMD: dot products and products of matrices of bytes (Arm ARM, FEAT_DotProd, FEAT_I8MM), and rounding doubling
products that accumulate (FEAT_RDM)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I32
from polyvm.isa.aarch64.operands import VD, Small, V, insn
from polyvm.isa.aarch64.simd import B16, HS, S4, SH, SS, B, element, even, note, odd, read, write
from polyvm.isa.aarch64.simd_ops import double_high_accumulated

if TYPE_CHECKING:
    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.aarch64.simd import Arrangement


def _high_accumulated(name: str, opcode: str, a: Arrangement, *, subtract: bool) -> None:
    head = "01 1 11110" if a.scalar else f"0 {a.q} 1 01110"

    @insn(f"{head} {a.size} 0 vm:5 1 {opcode} 1 vn:5 vd:5", ext="RDM", name=f"{name}_{a}",
          asm=f"{name} {a.register('vd')}, {a.register('vn')}, {a.register('vm')}")  # fmt: skip
    def same(b: A64, vd: VD, vn: V, vm: V) -> None:
        d, n, m = (read(b, register, a.type) for register in (vd, vn, vm))
        result, difference = double_high_accumulated(b, d, n, m, subtract=subtract)
        note(b, difference, a.keep)
        write(b, vd, result, a.keep)


for _a in (*HS, SH, SS):
    _high_accumulated("sqrdmlah", "0000", _a, subtract=False)
    _high_accumulated("sqrdmlsh", "0001", _a, subtract=True)


def _extended(x: Value, signed: bool) -> Value:
    type_ = I32.vector(x.type.lanes)
    return x.sext(type_) if signed else x.zext(type_)


def dot(b: A64, n: Value, m: Value, signs: tuple[bool, bool]) -> Value:
    """The sums of products of neighbours, as lanes of 32 bits, half as many; `signs` says which of both is signed."""
    first = _extended(even(b, n), signs[0]) * _extended(even(b, m), signs[1])
    second = _extended(odd(b, n), signs[0]) * _extended(odd(b, m), signs[1])
    return first + second


def _dot4(b: A64, n: Value, m: Value, signs: tuple[bool, bool]) -> Value:
    pairs = dot(b, n, m, signs)
    return even(b, pairs) + odd(b, pairs)


def _dots(name: str, u: str, opcode: str, signs: tuple[bool, bool], ext: str) -> None:
    for a in B:
        _dot(name, f"0 {a.q} {u} 01110 10 0 vm:5 1 {opcode} 1 vn:5 vd:5", a, signs, ext)


def _dot(name: str, bits: str, a: Arrangement, signs: tuple[bool, bool], ext: str) -> None:
    step = "4s" if a.q == "1" else "2s"

    @insn(bits, ext=ext, name=f"{name}_{a}", asm=f"{name} {{vd}}.{step}, {{vn}}.{a}, {{vm}}.{a}")
    def product(b: A64, vd: VD, vn: V, vm: V) -> None:
        found = _dot4(b, read(b, vn, B16.type), read(b, vm, B16.type), signs)
        write(b, vd, read(b, vd, S4.type) + found, a.keep)


def _by_elements(name: str, u: str, size: str, opcode: str, signs: tuple[bool, bool], ext: str) -> None:
    for a in B:
        bits = f"0 {a.q} {u} 01111 {size} place[0] vm:5 {opcode} place[1] 0 vn:5 vd:5"
        _dot_element(name, bits, a, signs, ext)


def _dot_element(name: str, bits: str, a: Arrangement, signs: tuple[bool, bool], ext: str) -> None:
    step = "4s" if a.q == "1" else "2s"

    @insn(bits, ext=ext, name=f"{name}_{a}_element", asm=f"{name} {{vd}}.{step}, {{vn}}.{a}, {{vm}}.4b[{{place:index}}]")
    def product(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
        m = element(b, vm, place, S4.type).bitcast(B16.type)
        write(b, vd, read(b, vd, S4.type) + _dot4(b, read(b, vn, B16.type), m, signs), a.keep)


_dots("sdot", "0", "0010", (True, True), "DotProd")
_dots("udot", "1", "0010", (False, False), "DotProd")
_dots("usdot", "0", "0011", (False, True), "I8MM")
_by_elements("sdot", "0", "10", "1110", (True, True), "DotProd")
_by_elements("udot", "1", "10", "1110", (False, False), "DotProd")
_by_elements("usdot", "0", "10", "1111", (False, True), "I8MM")
_by_elements("sudot", "0", "00", "1111", (True, False), "I8MM")


def _matrix(name: str, u: str, opcode: str, signs: tuple[bool, bool]) -> None:
    @insn(f"0 1 {u} 01110 10 0 vm:5 1 {opcode} 1 vn:5 vd:5", ext="I8MM", name=name,
          asm=f"{name} {{vd}}.4s, {{vn}}.16b, {{vm}}.16b")  # fmt: skip
    def product(b: A64, vd: VD, vn: V, vm: V) -> None:
        n, m = read(b, vn, B16.type), read(b, vm, B16.type)
        # Each row of n, of 8, with each of m: rows 0 with 0 and 0 with 1, then 1 with 0 and 1 with 1.
        rows: list[Value] = []
        for i in (0, 8):
            row = b.shuffle(n, n, [i + j % 8 for j in range(16)])
            fours = _dot4(b, row, m, signs)
            rows.append(even(b, fours) + odd(b, fours))
        write(b, vd, read(b, vd, S4.type) + b.shuffle(rows[0], rows[1], range(4)))


_matrix("smmla", "0", "0100", (True, True))
_matrix("ummla", "1", "0100", (False, False))
_matrix("usmmla", "0", "0101", (False, True))
