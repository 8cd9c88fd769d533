"""Advanced SIMD: three registers of the same arrangement, integers (Arm ARM, C4.1.96), and the scalar forms.

Of a scalar the whole register is computed on, as a vector, and the element kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.isa.aarch64.operands import VD, V, insn
from polyvm.isa.aarch64.simd import (
    B16,
    BHS,
    BHSD,
    HS,
    SCALARS,
    SD,
    SH,
    SS,
    B,
    even,
    mask,
    note,
    odd,
    read,
    write,
)
from polyvm.isa.aarch64.simd_ops import (
    carryless_bytes,
    double_high,
    halved_difference,
    halved_sum,
    saturating_add,
    saturating_shift,
    saturating_subtract,
    shift,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.aarch64.simd import Arrangement, Binary, SaturatingBinary, Ternary


def pattern(a: Arrangement, u: str, opcode: str) -> str:
    """The encoding of three same, vector or scalar."""
    if a.scalar:
        return f"01 {u} 11110 {a.size} 1 vm:5 {opcode} 1 vn:5 vd:5"
    return f"0 {a.q} {u} 01110 {a.size} 1 vm:5 {opcode} 1 vn:5 vd:5"


def text(name: str, a: Arrangement, alias: str = "") -> str:
    """The assembly template of three registers."""
    return f"{name} {a.register('vd')}, {a.register('vn')}, {a.register('vm')}"


def three(name: str, u: str, opcode: str, arrangements: Iterable[Arrangement], op: Binary) -> None:
    """`op` of each lane of two registers."""
    for a in arrangements:
        _three(name, pattern(a, u, opcode), a, op)


def _three(name: str, bits: str, a: Arrangement, op: Binary) -> None:
    @insn(bits, ext="AdvSIMD", name=f"{name}_{a}", asm=text(name, a))
    def same(b: A64, vd: VD, vn: V, vm: V) -> None:
        write(b, vd, op(b, read(b, vn, a.type), read(b, vm, a.type)), a.keep)


def accumulating(name: str, u: str, opcode: str, arrangements: Iterable[Arrangement], op: Ternary) -> None:
    """`op` of the destination and two registers."""
    for a in arrangements:
        _accumulating(name, pattern(a, u, opcode), a, op)


def _accumulating(name: str, bits: str, a: Arrangement, op: Ternary) -> None:
    @insn(bits, ext="AdvSIMD", name=f"{name}_{a}", asm=text(name, a))
    def same(b: A64, vd: VD, vn: V, vm: V) -> None:
        write(b, vd, op(b, read(b, vd, a.type), read(b, vn, a.type), read(b, vm, a.type)), a.keep)


def saturating(name: str, u: str, opcode: str, arrangements: Iterable[Arrangement], op: SaturatingBinary) -> None:
    """The same, with what tells if it saturated."""
    for a in arrangements:
        _saturating(name, pattern(a, u, opcode), a, op)


def _saturating(name: str, bits: str, a: Arrangement, op: SaturatingBinary) -> None:
    @insn(bits, ext="AdvSIMD", name=f"{name}_{a}", asm=text(name, a))
    def same(b: A64, vd: VD, vn: V, vm: V) -> None:
        result, difference = op(b, read(b, vn, a.type), read(b, vm, a.type))
        note(b, difference, a.keep)
        write(b, vd, result, a.keep)


_VS = (*BHSD, *SCALARS)
_VD = (*BHSD, SD)

three("add", "0", "10000", _VD, lambda b, n, m: n + m)
three("sub", "1", "10000", _VD, lambda b, n, m: n - m)
three("shadd", "0", "00000", BHS, lambda b, n, m: halved_sum(n, m, signed=True))
three("uhadd", "1", "00000", BHS, lambda b, n, m: halved_sum(n, m, signed=False))
three("srhadd", "0", "00010", BHS, lambda b, n, m: halved_sum(n, m, signed=True, rounding=True))
three("urhadd", "1", "00010", BHS, lambda b, n, m: halved_sum(n, m, signed=False, rounding=True))
three("shsub", "0", "00100", BHS, lambda b, n, m: halved_difference(n, m, signed=True))
three("uhsub", "1", "00100", BHS, lambda b, n, m: halved_difference(n, m, signed=False))
saturating("sqadd", "0", "00001", _VS, lambda b, n, m: saturating_add(n, m, signed=True))
saturating("uqadd", "1", "00001", _VS, lambda b, n, m: saturating_add(n, m, signed=False))
saturating("sqsub", "0", "00101", _VS, lambda b, n, m: saturating_subtract(n, m, signed=True))
saturating("uqsub", "1", "00101", _VS, lambda b, n, m: saturating_subtract(n, m, signed=False))
three("cmgt", "0", "00110", _VD, lambda b, n, m: mask(b, n.sgt(m), n.type))
three("cmhi", "1", "00110", _VD, lambda b, n, m: mask(b, n.ugt(m), n.type))
three("cmge", "0", "00111", _VD, lambda b, n, m: mask(b, n.sge(m), n.type))
three("cmhs", "1", "00111", _VD, lambda b, n, m: mask(b, n.uge(m), n.type))
three("cmtst", "0", "10001", _VD, lambda b, n, m: mask(b, (n & m).ne(0), n.type))
three("cmeq", "1", "10001", _VD, lambda b, n, m: mask(b, n.eq(m), n.type))
three("sshl", "0", "01000", _VD, lambda b, n, m: shift(b, n, m, signed=True))
three("ushl", "1", "01000", _VD, lambda b, n, m: shift(b, n, m, signed=False))
three("srshl", "0", "01010", _VD, lambda b, n, m: shift(b, n, m, signed=True, rounding=True))
three("urshl", "1", "01010", _VD, lambda b, n, m: shift(b, n, m, signed=False, rounding=True))
saturating("sqshl", "0", "01001", _VS, lambda b, n, m: saturating_shift(b, n, m, signed=True))
saturating("uqshl", "1", "01001", _VS, lambda b, n, m: saturating_shift(b, n, m, signed=False))
saturating("sqrshl", "0", "01011", _VS, lambda b, n, m: saturating_shift(b, n, m, signed=True, rounding=True))
saturating("uqrshl", "1", "01011", _VS, lambda b, n, m: saturating_shift(b, n, m, signed=False, rounding=True))
three("smax", "0", "01100", BHS, lambda b, n, m: n.smax(m))
three("umax", "1", "01100", BHS, lambda b, n, m: n.umax(m))
three("smin", "0", "01101", BHS, lambda b, n, m: n.smin(m))
three("umin", "1", "01101", BHS, lambda b, n, m: n.umin(m))
three("sabd", "0", "01110", BHS, lambda b, n, m: n.smax(m) - n.smin(m))
three("uabd", "1", "01110", BHS, lambda b, n, m: n.umax(m) - n.umin(m))
accumulating("saba", "0", "01111", BHS, lambda b, d, n, m: d + (n.smax(m) - n.smin(m)))
accumulating("uaba", "1", "01111", BHS, lambda b, d, n, m: d + (n.umax(m) - n.umin(m)))
three("mul", "0", "10011", BHS, lambda b, n, m: n * m)
accumulating("mla", "0", "10010", BHS, lambda b, d, n, m: d + n * m)
accumulating("mls", "1", "10010", BHS, lambda b, d, n, m: d - n * m)
three("pmul", "1", "10011", B, lambda b, n, m: carryless_bytes(b, n, m))
saturating("sqdmulh", "0", "10110", (*HS, SH, SS), lambda b, n, m: double_high(b, n, m))
saturating("sqrdmulh", "1", "10110", (*HS, SH, SS), lambda b, n, m: double_high(b, n, m, rounding=True))


# Pairs of neighbours: those of the first register, then those of the second.


def _pairs(name: str, u: str, opcode: str, arrangements: Iterable[Arrangement], op: Binary) -> None:
    for a in arrangements:
        _pairwise(name, pattern(a, u, opcode), a, op)


def _pairwise(name: str, bits: str, a: Arrangement, op: Binary) -> None:
    @insn(bits, ext="AdvSIMD", name=f"{name}_{a}", asm=text(name, a))
    def pairwise(b: A64, vd: VD, vn: V, vm: V) -> None:
        n, m = read(b, vn, a.type), read(b, vm, a.type)
        if a.keep == 64:
            # The lower halves of both, as one register.
            both = b.shuffle(n, m, [*range(a.lanes), *range(a.type.lanes, a.type.lanes + a.lanes)])
            n, m = both, both
        write(b, vd, op(b, even(b, n, m), odd(b, n, m)), a.keep)


_pairs("addp", "0", "10111", BHSD, lambda b, n, m: n + m)
_pairs("smaxp", "0", "10100", BHS, lambda b, n, m: n.smax(m))
_pairs("umaxp", "1", "10100", BHS, lambda b, n, m: n.umax(m))
_pairs("sminp", "0", "10101", BHS, lambda b, n, m: n.smin(m))
_pairs("uminp", "1", "10101", BHS, lambda b, n, m: n.umin(m))


# Bitwise: the arrangement does not matter.


def _bitwise(name: str, u: str, size: str, op: Ternary, **more: str) -> None:
    for a in B:
        _bits(name, f"0 {a.q} {u} 01110 {size} 1 vm:5 00011 1 vn:5 vd:5", a, op)


def _bits(name: str, bits: str, a: Arrangement, op: Ternary) -> None:
    aliases = [(f"mov {a.register('vd')}, {a.register('vn')}", _same_sources)] if name == "orr" else []

    @insn(bits, ext="AdvSIMD", name=f"{name}_{a}", asm=text(name, a), aliases=aliases)
    def bitwise(b: A64, vd: VD, vn: V, vm: V) -> None:
        write(b, vd, op(b, read(b, vd, B16.type), read(b, vn, B16.type), read(b, vm, B16.type)), a.keep)


def _same_sources(word: int) -> bool:
    return word >> 16 & 31 == word >> 5 & 31


_bitwise("and", "0", "00", lambda b, d, n, m: n & m)
_bitwise("bic", "0", "01", lambda b, d, n, m: n & ~m)
_bitwise("orr", "0", "10", lambda b, d, n, m: n | m)
_bitwise("orn", "0", "11", lambda b, d, n, m: n | ~m)
_bitwise("eor", "1", "00", lambda b, d, n, m: n ^ m)
_bitwise("bsl", "1", "01", lambda b, d, n, m: m ^ ((m ^ n) & d))
_bitwise("bit", "1", "10", lambda b, d, n, m: d ^ ((d ^ n) & m))
_bitwise("bif", "1", "11", lambda b, d, n, m: d ^ ((d ^ n) & ~m))
