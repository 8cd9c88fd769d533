"""BFloat16: conversion, dot products, products of matrices, products that accumulate (Arm ARM, FEAT_BF16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I16, I32
from polyvm.isa.aarch64.a64_simd_different import put_narrow
from polyvm.isa.aarch64.operands import VD, Small, V, insn
from polyvm.isa.aarch64.simd import H4, H8, S4, H, S, element, read, write
from polyvm.isa.aarch64.simd_bf16 import converted, dot_added
from polyvm.isa.aarch64.simd_float import as_numbers, integers, numbers, put

if TYPE_CHECKING:
    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.aarch64.simd import Arrangement


@insn("0 0 0 11110 01 1 000110 10000 vn:5 vd:5", ext="BF16", asm="bfcvt {vd:h}, {vn:s}")
def bfcvt(b: A64, vd: VD, vn: V) -> None:
    b.set_v(vd, converted(b, b.v(vn, I32)))


def _narrower(a: Arrangement) -> None:
    name = "bfcvtn2" if a.q == "1" else "bfcvtn"

    @insn(f"0 {a.q} 0 01110 10 10000 10110 10 vn:5 vd:5", ext="BF16", name=name, asm=f"{name} {{vd}}.{a}, {{vn}}.4s")
    def bfcvtn(b: A64, vd: VD, vn: V) -> None:
        put_narrow(b, vd, converted(b, read(b, vn, S4.type)).trunc(I16.vector(4)), a)


for _a in H:
    _narrower(_a)


def _dot(a: Arrangement, step: Arrangement) -> None:
    @insn(f"0 {a.q} 1 01110 01 0 vm:5 1 1111 1 vn:5 vd:5", ext="BF16", name=f"bfdot_{a}",
          asm=f"bfdot {{vd}}.{a}, {{vn}}.{step}, {{vm}}.{step}")  # fmt: skip
    def bfdot(b: A64, vd: VD, vn: V, vm: V) -> None:
        write(b, vd, dot_added(b, *(integers(b, v, a) for v in (vd, vn, vm))))

    @insn(f"0 {a.q} 0 01111 01 place[0] vm:5 1111 place[1] 0 vn:5 vd:5", ext="BF16", name=f"bfdot_{a}_element",
          asm=f"bfdot {{vd}}.{a}, {{vn}}.{step}, {{vm}}.2h[{{place:index}}]")  # fmt: skip
    def bfdot_element(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
        m = b.splat(b.lane(read(b, vm, S4.type), place), a.lanes)
        write(b, vd, dot_added(b, integers(b, vd, a), integers(b, vn, a), m))


for _a, _step in zip(S, (H4, H8), strict=True):
    _dot(_a, _step)


@insn("0 1 1 01110 01 0 vm:5 1 1101 1 vn:5 vd:5", ext="BF16", asm="bfmmla {vd}.4s, {vn}.8h, {vm}.8h")
def bfmmla(b: A64, vd: VD, vn: V, vm: V) -> None:
    n, m, result = (read(b, v, S4.type) for v in (vn, vm, vd))
    # Row i of n and row j of m make element 2 i + j, two pairs of numbers after the other.
    for pair in (0, 1):
        rows, columns = [pair, pair, 2 + pair, 2 + pair], [pair, 2 + pair] * 2
        result = dot_added(b, result, b.shuffle(n, n, rows), b.shuffle(m, m, columns))
    write(b, vd, result)


def _selected(x: Value, top: bool) -> Value:
    """Halves of lanes as numbers of single precision."""
    return as_numbers(x & 0xFFFF_0000 if top else x << 16)


def _long(q: str, name: str) -> None:
    top = q == "1"

    @insn(f"0 {q} 1 01110 11 0 vm:5 1 1111 1 vn:5 vd:5", ext="BF16", name=name, asm=f"{name} {{vd}}.4s, {{vn}}.8h, {{vm}}.8h")
    def bfmlal(b: A64, vd: VD, vn: V, vm: V) -> None:
        mode = b.fp_mode()
        n, m = (_selected(read(b, v, S4.type), top) for v in (vn, vm))
        put(b, vd, b.fp("fma", n, m, numbers(b, vd, S4), rm=mode))

    @insn(f"0 {q} 0 01111 11 place[1:0] vm:4 1111 place[2] 0 vn:5 vd:5", ext="BF16", name=f"{name}_element",
          asm=f"{name} {{vd}}.4s, {{vn}}.8h, {{vm}}.h[{{place:index}}]")  # fmt: skip
    def bfmlal_element(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
        mode = b.fp_mode()
        m = _selected(element(b, vm, place, H8.type).bitcast(S4.type), top)
        put(b, vd, b.fp("fma", _selected(read(b, vn, S4.type), top), m, numbers(b, vd, S4), rm=mode))


_long("0", "bfmlalb")
_long("1", "bfmlalt")
