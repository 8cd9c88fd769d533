"""Instructions for SM3 and SM4 (Arm ARM, C4.1.96; GB/T 32905-2016, GB/T 32907-2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.isa.aarch64.a64_crypto import majority, parity, put_words, three64, words
from polyvm.isa.aarch64.operands import VD, Small, V, insn
from polyvm.isa.aarch64.simd import B16, S4, extend, read, table_of, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64


@insn("110011100 10 vm:5 0 va:5 vn:5 vd:5", ext="SM3", asm="sm3ss1 {vd}.4s, {vn}.4s, {vm}.4s, {va}.4s")
def sm3ss1(b: A64, vd: VD, vn: V, vm: V, va: V) -> None:
    total = words(b, vn)[3].rotl(12) + words(b, vm)[3] + words(b, va)[3]
    write(b, vd, b.with_lane(b.const(S4.type, 0), 3, total.rotl(7)))


def _first(name: str, opcode: str, op: Callable[[Value, Value, Value], Value]) -> None:
    @insn(f"11001110010 vm:5 10 place:2 {opcode} vn:5 vd:5", ext="SM3", name=name,
          asm=f"{name} {{vd}}.4s, {{vn}}.4s, {{vm}}.s[{{place:index}}]")  # fmt: skip
    def sm3tt1(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
        d, w = words(b, vd), b.lane(read(b, vm, S4.type), place)
        total = op(d[3], d[1], d[2]) + d[0] + (words(b, vn)[3] ^ d[3].rotl(12)) + w
        put_words(b, vd, [d[1], d[2].rotl(9), d[3], total])


def _second(name: str, opcode: str, op: Callable[[Value, Value, Value], Value]) -> None:
    @insn(f"11001110010 vm:5 10 place:2 {opcode} vn:5 vd:5", ext="SM3", name=name,
          asm=f"{name} {{vd}}.4s, {{vn}}.4s, {{vm}}.s[{{place:index}}]")  # fmt: skip
    def sm3tt2(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
        d, w = words(b, vd), b.lane(read(b, vm, S4.type), place)
        total = op(d[3], d[2], d[1]) + d[0] + words(b, vn)[3] + w
        put_words(b, vd, [d[1], d[2].rotl(19), d[3], total ^ total.rotl(9) ^ total.rotl(17)])


def _choose(x: Value, y: Value, z: Value) -> Value:
    return (x & y) | (~x & z)


_first("sm3tt1a", "00", parity)
_first("sm3tt1b", "01", majority)
_second("sm3tt2a", "10", parity)
_second("sm3tt2b", "11", _choose)


def _p1(x: Value) -> Value:
    return x ^ x.rotl(15) ^ x.rotl(23)


@insn(three64("1", "00"), ext="SM3", asm="sm3partw1 {vd}.4s, {vn}.4s, {vm}.4s")
def sm3partw1(b: A64, vd: VD, vn: V, vm: V) -> None:
    m, zero = read(b, vm, S4.type), b.const(S4.type, 0)
    x = read(b, vd, S4.type) ^ read(b, vn, S4.type)
    most = _p1(x ^ b.shuffle(m, zero, [1, 2, 3, 4]).rotl(15))
    # The last one takes the first result.
    last = b.lane(x, 3) ^ b.lane(most, 0).rotl(15)
    write(b, vd, b.with_lane(most, 3, _p1(last)))


@insn(three64("1", "01"), ext="SM3", asm="sm3partw2 {vd}.4s, {vn}.4s, {vm}.4s")
def sm3partw2(b: A64, vd: VD, vn: V, vm: V) -> None:
    t = read(b, vn, S4.type) ^ read(b, vm, S4.type).rotl(7)
    result = read(b, vd, S4.type) ^ t
    write(b, vd, b.with_lane(result, 3, b.lane(result, 3) ^ _p1(b.lane(t, 0).rotl(15))))


def _times(a: int, b: int) -> int:
    """The product in GF(2**8) modulo x**8 + x**7 + x**6 + x**5 + x**4 + x**2 + 1."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = a << 1 ^ (0x1F5 if a & 0x80 else 0)
        b >>= 1
    return product


def _inverse(a: int) -> int:
    """The power 254."""
    inverse, power = 1, a
    for _ in range(7):
        power = _times(power, power)
        inverse = _times(inverse, power)
    return inverse


def _affine(a: int) -> int:
    rows = [0xA7, 0x4F, 0x9E, 0x3D, 0x7A, 0xF4, 0xE9, 0xD3]
    return sum((bin(row & a).count("1") & 1) << i for i, row in enumerate(rows)) ^ 0xD3


# SM4's substitution: two affine transformations around an inversion.
SBOX = bytes(_affine(_inverse(_affine(a))) for a in range(256))


def _rounds(b: A64, state: list[Value], keys: list[Value], spread: Callable[[Value], Value]) -> list[Value]:
    for key in keys:
        mixed = extend(b, state[3] ^ state[2] ^ state[1] ^ key).bitcast(B16.type)
        x = b.lane(table_of(b, SBOX, mixed).bitcast(S4.type), 0)
        state = [*state[1:], state[0] ^ spread(x)]
    return state


@insn("11001110110000001000 01 vn:5 vd:5", ext="SM4", asm="sm4e {vd}.4s, {vn}.4s")
def sm4e(b: A64, vd: VD, vn: V) -> None:
    def spread(x: Value) -> Value:
        return x ^ x.rotl(2) ^ x.rotl(10) ^ x.rotl(18) ^ x.rotl(24)

    put_words(b, vd, _rounds(b, words(b, vd), words(b, vn), spread))


@insn(three64("1", "10"), ext="SM4", asm="sm4ekey {vd}.4s, {vn}.4s, {vm}.4s")
def sm4ekey(b: A64, vd: VD, vn: V, vm: V) -> None:
    def spread(x: Value) -> Value:
        return x ^ x.rotl(13) ^ x.rotl(23)

    put_words(b, vd, _rounds(b, words(b, vn), words(b, vm), spread))
