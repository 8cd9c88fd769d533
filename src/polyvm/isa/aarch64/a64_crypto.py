"""Cryptographic instructions but for SM3 and SM4 (Arm ARM, C4.1.96): AES, SHA1, SHA256, SHA512, SHA3.

The functions of the hashes are those of FIPS 180-4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I128
from polyvm.isa.aarch64.operands import VD, Small, V, insn
from polyvm.isa.aarch64.simd import B16, D2, S4, extend, read, splat, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64


# AES: a half of a round each.


def _aes(name: str, opcode: str, op: str, *, key: bool) -> None:
    @insn(f"01001110 00 10100 {opcode} 10 vn:5 vd:5", ext="AES", name=name, asm=f"{name} {{vd}}.16b, {{vn}}.16b")
    def aes(b: A64, vd: VD, vn: V) -> None:
        state = read(b, vn, B16.type)
        if key:
            state = state ^ read(b, vd, B16.type)
        write(b, vd, b.unary(op, state))


_aes("aese", "00100", "aes_sub", key=True)
_aes("aesd", "00101", "aes_isub", key=True)
_aes("aesmc", "00110", "aes_mix", key=False)
_aes("aesimc", "00111", "aes_imix", key=False)


# SHA1 and SHA256.


def choose(x: Value, y: Value, z: Value) -> Value:
    """y where a bit of x is set, else z."""
    return ((y ^ z) & x) ^ z


def majority(x: Value, y: Value, z: Value) -> Value:
    """What two of three have."""
    return (x & y) | ((x | y) & z)


def parity(x: Value, y: Value, z: Value) -> Value:
    """Exclusive or."""
    return x ^ y ^ z


def words(b: A64, register: Value) -> list[Value]:
    """A register as four i32."""
    return lanes(b, read(b, register, S4.type))


def lanes(b: A64, vector: Value) -> list[Value]:
    """The lanes of a vector."""
    return [b.lane(vector, i) for i in range(vector.type.lanes)]


def put_words(b: A64, register: Value, values: list[Value]) -> None:
    """The other way round; of i64, too."""
    vector = extend(b, values[0])
    for i, value in enumerate(values[1:], 1):
        vector = b.with_lane(vector, i, value)
    write(b, register, vector)


def _three(opcode: str) -> str:
    return f"01011110 00 0 vm:5 0 {opcode} 00 vn:5 vd:5"


def _two(opcode: str) -> str:
    return f"01011110 00 10100 {opcode} 10 vn:5 vd:5"


def _sha1(name: str, opcode: str, op: Callable[[Value, Value, Value], Value]) -> None:
    @insn(_three(opcode), ext="SHA1", name=name, asm=f"{name} {{vd:q}}, {{vn:s}}, {{vm}}.4s")
    def sha1(b: A64, vd: VD, vn: V, vm: V) -> None:
        x, y, w = words(b, vd), b.lane(read(b, vn, S4.type), 0), words(b, vm)
        for i in range(4):
            y = y + x[0].rotl(5) + op(x[1], x[2], x[3]) + w[i]
            y, x = x[3], [y, x[0], x[1].rotl(30), x[2]]
        put_words(b, vd, x)


_sha1("sha1c", "000", choose)
_sha1("sha1p", "001", parity)
_sha1("sha1m", "010", majority)


@insn(_three("011"), ext="SHA1", asm="sha1su0 {vd}.4s, {vn}.4s, {vm}.4s")
def sha1su0(b: A64, vd: VD, vn: V, vm: V) -> None:
    d, n = read(b, vd, D2.type), read(b, vn, D2.type)
    write(b, vd, b.shuffle(d, n, [1, 2]) ^ d ^ read(b, vm, D2.type))


@insn(_two("00000"), ext="SHA1", asm="sha1h {vd:s}, {vn:s}")
def sha1h(b: A64, vd: VD, vn: V) -> None:
    write(b, vd, b.lane(read(b, vn, S4.type), 0).rotl(30))


@insn(_two("00001"), ext="SHA1", asm="sha1su1 {vd}.4s, {vn}.4s")
def sha1su1(b: A64, vd: VD, vn: V) -> None:
    n, zero = read(b, vn, S4.type), b.const(S4.type, 0)
    t = (read(b, vd, S4.type) ^ b.shuffle(n, zero, [1, 2, 3, 4])).rotl(1)
    write(b, vd, t ^ b.shuffle(zero, t, [0, 1, 2, 4]).rotl(1))


def _sha256_rounds(x: list[Value], y: list[Value], w: list[Value]) -> tuple[list[Value], list[Value]]:
    """Four rounds (SHA256hash, J1.3.2)."""
    for i in range(4):
        sigma1 = y[0].rotr(6) ^ y[0].rotr(11) ^ y[0].rotr(25)
        t = y[3] + sigma1 + choose(y[0], y[1], y[2]) + w[i]
        sigma0 = x[0].rotr(2) ^ x[0].rotr(13) ^ x[0].rotr(22)
        last = t + sigma0 + majority(x[0], x[1], x[2])
        x, y = [last, *x[:3]], [t + x[3], *y[:3]]
    return x, y


@insn(_three("100"), ext="SHA2", asm="sha256h {vd:q}, {vn:q}, {vm}.4s")
def sha256h(b: A64, vd: VD, vn: V, vm: V) -> None:
    put_words(b, vd, _sha256_rounds(words(b, vd), words(b, vn), words(b, vm))[0])


@insn(_three("101"), ext="SHA2", asm="sha256h2 {vd:q}, {vn:q}, {vm}.4s")
def sha256h2(b: A64, vd: VD, vn: V, vm: V) -> None:
    put_words(b, vd, _sha256_rounds(words(b, vn), words(b, vd), words(b, vm))[1])


@insn(_two("00010"), ext="SHA2", asm="sha256su0 {vd}.4s, {vn}.4s")
def sha256su0(b: A64, vd: VD, vn: V) -> None:
    d = read(b, vd, S4.type)
    t = b.shuffle(d, read(b, vn, S4.type), [1, 2, 3, 4])
    write(b, vd, d + (t.rotr(7) ^ t.rotr(18) ^ t >> 3))


@insn(_three("110"), ext="SHA2", asm="sha256su1 {vd}.4s, {vn}.4s, {vm}.4s")
def sha256su1(b: A64, vd: VD, vn: V, vm: V) -> None:
    n, m = read(b, vn, S4.type), read(b, vm, S4.type)
    base = read(b, vd, S4.type) + b.shuffle(n, m, [1, 2, 3, 4])
    zero = b.const(S4.type, 0)
    first = base + _sigma(b.shuffle(m, zero, [2, 3, 4, 4]))
    second = base + _sigma(b.shuffle(zero, first, [0, 0, 4, 5]))
    write(b, vd, b.shuffle(first, second, [0, 1, 6, 7]))


def _sigma(t: Value) -> Value:
    return t.rotr(17) ^ t.rotr(19) ^ t >> 10


# SHA512.


def three64(o: str, opcode: str) -> str:
    """The encoding of three registers, SHA512 and others."""
    return f"11001110011 vm:5 1 {o} 00 {opcode} vn:5 vd:5"


def _pair(b: A64, register: Value) -> list[Value]:
    return lanes(b, read(b, register, D2.type))


def _rotations(x: Value, *by: int) -> Value:
    first, second, third = (x.rotr(distance) for distance in by)
    return first ^ second ^ third


@insn(three64("0", "00"), ext="SHA512", asm="sha512h {vd:q}, {vn:q}, {vm}.2d")
def sha512h(b: A64, vd: VD, vn: V, vm: V) -> None:
    w, x, y = _pair(b, vd), _pair(b, vn), _pair(b, vm)
    upper = choose(y[1], x[0], x[1]) + _rotations(y[1], 14, 18, 41) + w[1]
    t = upper + y[0]
    put_words(b, vd, [choose(t, y[1], x[0]) + _rotations(t, 14, 18, 41) + w[0], upper])


@insn(three64("0", "01"), ext="SHA512", asm="sha512h2 {vd:q}, {vn:q}, {vm}.2d")
def sha512h2(b: A64, vd: VD, vn: V, vm: V) -> None:
    w, x, y = _pair(b, vd), _pair(b, vn), _pair(b, vm)
    upper = majority(x[0], y[1], y[0]) + _rotations(y[0], 28, 34, 39) + w[1]
    put_words(b, vd, [majority(upper, y[0], y[1]) + _rotations(upper, 28, 34, 39) + w[0], upper])


@insn("11001110110000001000 00 vn:5 vd:5", ext="SHA512", asm="sha512su0 {vd}.2d, {vn}.2d")
def sha512su0(b: A64, vd: VD, vn: V) -> None:
    d = read(b, vd, D2.type)
    t = b.shuffle(d, read(b, vn, D2.type), [1, 2])
    write(b, vd, d + (t.rotr(1) ^ t.rotr(8) ^ t >> 7))


@insn(three64("0", "10"), ext="SHA512", asm="sha512su1 {vd}.2d, {vn}.2d, {vm}.2d")
def sha512su1(b: A64, vd: VD, vn: V, vm: V) -> None:
    n = read(b, vn, D2.type)
    write(b, vd, read(b, vd, D2.type) + (n.rotr(19) ^ n.rotr(61) ^ n >> 6) + read(b, vm, D2.type))


# SHA3.


@insn("110011100 00 vm:5 0 va:5 vn:5 vd:5", ext="SHA3", asm="eor3 {vd}.16b, {vn}.16b, {vm}.16b, {va}.16b")
def eor3(b: A64, vd: VD, vn: V, vm: V, va: V) -> None:
    b.set("v", b.get("v", vn) ^ b.get("v", vm) ^ b.get("v", va), vd)


@insn("110011100 01 vm:5 0 va:5 vn:5 vd:5", ext="SHA3", asm="bcax {vd}.16b, {vn}.16b, {vm}.16b, {va}.16b")
def bcax(b: A64, vd: VD, vn: V, vm: V, va: V) -> None:
    b.set("v", b.get("v", vn) ^ (b.get("v", vm) & (b.get("v", va) ^ b.const(I128, -1))), vd)


@insn(three64("0", "11"), ext="SHA3", asm="rax1 {vd}.2d, {vn}.2d, {vm}.2d")
def rax1(b: A64, vd: VD, vn: V, vm: V) -> None:
    write(b, vd, read(b, vn, D2.type) ^ read(b, vm, D2.type).rotl(1))


@insn("11001110100 vm:5 by:6 vn:5 vd:5", ext="SHA3", asm="xar {vd}.2d, {vn}.2d, {vm}.2d, {by}")
def xar(b: A64, vd: VD, vn: V, vm: V, by: Small) -> None:
    write(b, vd, (read(b, vn, D2.type) ^ read(b, vm, D2.type)).rotr(splat(b, by, D2.type)))
