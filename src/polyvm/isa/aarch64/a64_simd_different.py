"""Advanced SIMD: three registers of different arrangements (Arm ARM, C4.1.96): long, wide and narrowing instructions, and the
scalar forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I64, I128
from polyvm.isa.aarch64.operands import VD, V, insn
from polyvm.isa.aarch64.simd import (
    BHS,
    D2,
    HS,
    SH,
    SS,
    WIDER,
    Arrangement,
    B,
    half,
    lanes_of,
    note,
    read,
    splat,
    widened,
    write,
)
from polyvm.isa.aarch64.simd_ops import carryless_bytes, doubled_product, saturating_add, saturating_subtract

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.aarch64.simd import Binary, SaturatingBinary, Ternary

_MORE = {"1": "2", "0": ""}


def _pattern(a: Arrangement, u: str, opcode: str) -> str:
    if a.scalar:
        return f"01 {u} 11110 {a.size} 1 vm:5 {opcode} 00 vn:5 vd:5"
    return f"0 {a.q} {u} 01110 {a.size} 1 vm:5 {opcode} 00 vn:5 vd:5"


def called(name: str, a: Arrangement) -> str:
    """The mnemonic for an arrangement: with a 2 for the upper half of a register."""
    return name if a.scalar else name + _MORE[a.q]


def wider(a: Arrangement) -> Arrangement:
    """The arrangement with twice the bits for each element."""
    return WIDER[a.bits][a.scalar]


def source(b: A64, register: Value, a: Arrangement) -> Value:
    """The half of a register that a long instruction reads; of a scalar the lower one."""
    return half(b, read(b, register, a.type), a.q == "1" and not a.scalar)


def long(name: str, u: str, opcode: str, arrangements: Iterable[Arrangement], op: Ternary) -> None:
    """`op` of the destination and two shorter vectors, which it extends itself."""
    for a in arrangements:
        _long(name, _pattern(a, u, opcode), a, op)


def _long(name: str, bits: str, a: Arrangement, op: Ternary) -> None:
    w = wider(a)

    @insn(bits, ext="AdvSIMD", name=f"{called(name, a)}_{w}_{a}",
          asm=f"{called(name, a)} {w.register('vd')}, {a.register('vn')}, {a.register('vm')}")  # fmt: skip
    def different(b: A64, vd: VD, vn: V, vm: V) -> None:
        write(b, vd, op(b, read(b, vd, w.type), source(b, vn, a), source(b, vm, a)))


def _wide(name: str, u: str, opcode: str, op: Binary, *, signed: bool) -> None:
    for a in BHS:
        _widening(name, _pattern(a, u, opcode), a, op, signed)


def _widening(name: str, bits: str, a: Arrangement, op: Binary, signed: bool) -> None:
    w = wider(a)

    @insn(bits, ext="AdvSIMD", name=f"{called(name, a)}_{w}_{a}",
          asm=f"{called(name, a)} {w.register('vd')}, {w.register('vn')}, {a.register('vm')}")  # fmt: skip
    def different(b: A64, vd: VD, vn: V, vm: V) -> None:
        write(b, vd, op(b, read(b, vn, w.type), widened(source(b, vm, a), signed)))


def put_narrow(b: A64, vd: Value, result: Value, a: Arrangement) -> None:
    """Write a vector of 64 bits: to the lower half of a register, of which the upper becomes 0, or to the upper half."""
    if a.q == "1" and not a.scalar:
        bits = result.bitcast(I64)
        write(b, vd, b.with_lane(read(b, vd, lanes_of(64)), 1, bits))
    else:
        write(b, vd, result, a.keep)


def _narrowing(name: str, u: str, opcode: str, op: Binary) -> None:
    for a in BHS:
        _narrow(name, _pattern(a, u, opcode), a, op)


def _narrow(name: str, bits: str, a: Arrangement, op: Binary) -> None:
    w = wider(a)

    @insn(bits, ext="AdvSIMD", name=f"{called(name, a)}_{a}_{w}",
          asm=f"{called(name, a)} {a.register('vd')}, {w.register('vn')}, {w.register('vm')}")  # fmt: skip
    def different(b: A64, vd: VD, vn: V, vm: V) -> None:
        total = op(b, read(b, vn, w.type), read(b, vm, w.type)) >> a.bits
        put_narrow(b, vd, total.trunc(a.type.element.vector(64 // a.bits)), a)


def _signed_or_not(letter: str, u: str, signed: bool) -> None:
    def difference(n: Value, m: Value) -> Value:
        return widened(n.smax(m) - n.smin(m) if signed else n.umax(m) - n.umin(m), False)

    def product(n: Value, m: Value) -> Value:
        return widened(n, signed) * widened(m, signed)

    long(f"{letter}addl", u, "0000", BHS, lambda b, d, n, m: widened(n, signed) + widened(m, signed))
    long(f"{letter}subl", u, "0010", BHS, lambda b, d, n, m: widened(n, signed) - widened(m, signed))
    _wide(f"{letter}addw", u, "0001", lambda b, n, m: n + m, signed=signed)
    _wide(f"{letter}subw", u, "0011", lambda b, n, m: n - m, signed=signed)
    long(f"{letter}abal", u, "0101", BHS, lambda b, d, n, m: d + difference(n, m))
    long(f"{letter}abdl", u, "0111", BHS, lambda b, d, n, m: difference(n, m))
    long(f"{letter}mlal", u, "1000", BHS, lambda b, d, n, m: d + product(n, m))
    long(f"{letter}mlsl", u, "1010", BHS, lambda b, d, n, m: d - product(n, m))
    long(f"{letter}mull", u, "1100", BHS, lambda b, d, n, m: product(n, m))


_signed_or_not("s", "0", True)
_signed_or_not("u", "1", False)

_narrowing("addhn", "0", "0100", lambda b, n, m: n + m)
_narrowing("raddhn", "1", "0100", lambda b, n, m: n + m + (1 << (n.type.bits // 2 - 1)))
_narrowing("subhn", "0", "0110", lambda b, n, m: n - m)
_narrowing("rsubhn", "1", "0110", lambda b, n, m: n - m + (1 << (n.type.bits // 2 - 1)))

long("pmull", "0", "1110", B, lambda b, d, n, m: carryless_bytes(b, widened(n, False), widened(m, False)))


# Doubling, with saturation: of the product, and of the sum.


def accumulated(b: A64, vd: Value, w: Arrangement, product: Value, difference: Value, op: SaturatingBinary | None) -> None:
    """Write a doubled product, or what `op` makes of the destination and it."""
    if op is not None:
        product, more = op(b, read(b, vd, w.type), product)
        difference = difference | more
    note(b, difference, w.keep)
    write(b, vd, product, w.keep)


DOUBLING: tuple[tuple[str, SaturatingBinary | None], ...] = (
    ("sqdmlal", lambda b, n, m: saturating_add(n, m, signed=True)),
    ("sqdmlsl", lambda b, n, m: saturating_subtract(n, m, signed=True)),
    ("sqdmull", None),
)


def _doubling(name: str, bits: str, a: Arrangement, op: SaturatingBinary | None) -> None:
    w = wider(a)

    @insn(bits, ext="AdvSIMD", name=f"{called(name, a)}_{w}_{a}",
          asm=f"{called(name, a)} {w.register('vd')}, {a.register('vn')}, {a.register('vm')}")  # fmt: skip
    def different(b: A64, vd: VD, vn: V, vm: V) -> None:
        product, difference = doubled_product(b, source(b, vn, a), source(b, vm, a))
        accumulated(b, vd, w, product, difference, op)


for (_name, _op), _opcode in zip(DOUBLING, ("1001", "1011", "1101"), strict=True):
    for _a in (*HS, SH, SS):
        _doubling(_name, _pattern(_a, "0", _opcode), _a, _op)


def _polynomial(name: str, q: str, lane: int) -> None:
    step = "12"[lane] + "d"

    @insn(f"0 {q} 0 01110 11 1 vm:5 1110 00 vn:5 vd:5", ext="PMULL", name=f"{name}_1q",
          asm=f"{name} {{vd}}.1q, {{vn}}.{step}, {{vm}}.{step}")  # fmt: skip
    def pmull(b: A64, vd: VD, vn: V, vm: V) -> None:
        n, m = b.lane(read(b, vn, D2.type), lane), b.lane(read(b, vm, D2.type), lane)
        b.set("v", b.with_lane(splat(b, n.clmul(m), D2.type), 1, n.clmulh(m)).bitcast(I128), vd)


_polynomial("pmull", "0", 0)
_polynomial("pmull2", "1", 1)
