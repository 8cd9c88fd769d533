"""Advanced SIMD: two registers, integers, and across lanes (Arm ARM, C4.1.96), with the scalar forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.isa.aarch64.a64_simd_different import called, put_narrow, source, wider
from polyvm.isa.aarch64.operands import VD, V, insn
from polyvm.isa.aarch64.simd import (
    BHS,
    BHSD,
    S4,
    SB,
    SCALARS,
    SD,
    SH,
    SS,
    B,
    H,
    S,
    even,
    lanes_of,
    mask,
    narrowed,
    note,
    odd,
    read,
    reduce,
    widened,
    write,
)
from polyvm.isa.aarch64.simd_estimate import estimates, root_estimates
from polyvm.isa.aarch64.simd_ops import clipped, pair_sums, top

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.aarch64.simd import Arrangement, Binary, SaturatingBinary, SaturatingUnary, Unary


def pattern(a: Arrangement, u: str, opcode: str, size: str = "") -> str:
    """The encoding of two-register miscellaneous, vector or scalar."""
    if a.scalar:
        return f"01 {u} 11110 {size or a.size} 10000 {opcode} 10 vn:5 vd:5"
    return f"0 {a.q} {u} 01110 {size or a.size} 10000 {opcode} 10 vn:5 vd:5"


def two(
    name: str, u: str, opcode: str, arrangements: Iterable[Arrangement], op: Unary, *, size: str = "", zero: str = ""
) -> None:
    """`op` of each lane; `zero` is what the template says after the registers."""
    for a in arrangements:
        _two(name, pattern(a, u, opcode, size), a, op, zero)


def _two(name: str, bits: str, a: Arrangement, op: Unary, zero: str) -> None:
    @insn(bits, ext="AdvSIMD", name=f"{name}_{'zero_' if zero else ''}{a}",
          asm=f"{name} {a.register('vd')}, {a.register('vn')}{zero}")  # fmt: skip
    def misc(b: A64, vd: VD, vn: V) -> None:
        write(b, vd, op(b, read(b, vn, a.type)), a.keep)


def _saturating(name: str, u: str, opcode: str, op: SaturatingUnary) -> None:
    for a in (*BHSD, *SCALARS):
        _saturates(name, pattern(a, u, opcode), a, op)


def _saturates(name: str, bits: str, a: Arrangement, op: SaturatingUnary) -> None:
    @insn(bits, ext="AdvSIMD", name=f"{name}_{a}", asm=f"{name} {a.register('vd')}, {a.register('vn')}")
    def misc(b: A64, vd: VD, vn: V) -> None:
        result, difference = op(b, read(b, vn, a.type))
        note(b, difference, a.keep)
        write(b, vd, result, a.keep)


def _accumulating(name: str, u: str, opcode: str, op: SaturatingBinary) -> None:
    for a in (*BHSD, *SCALARS):
        _accumulates(name, pattern(a, u, opcode), a, op)


def _accumulates(name: str, bits: str, a: Arrangement, op: SaturatingBinary) -> None:
    @insn(bits, ext="AdvSIMD", name=f"{name}_{a}", asm=f"{name} {a.register('vd')}, {a.register('vn')}")
    def misc(b: A64, vd: VD, vn: V) -> None:
        result, difference = op(b, read(b, vd, a.type), read(b, vn, a.type))
        note(b, difference, a.keep)
        write(b, vd, result, a.keep)


def _reversed(b: A64, n: Value, per: int) -> Value:
    """The lanes in reverse order, within each group of `per`."""
    return b.shuffle(n, n, [i ^ (per - 1) for i in range(n.type.lanes)])


def _sign_bits(b: A64, n: Value) -> Value:
    """How many bits after the top one equal it."""
    return (n ^ n.asr(n.type.bits - 1)).clz() - 1


two("rev64", "0", "00000", BHS, lambda b, n: _reversed(b, n, 64 // n.type.bits))
two("rev32", "1", "00000", (*B, *H), lambda b, n: _reversed(b, n, 32 // n.type.bits))
two("rev16", "0", "00001", B, lambda b, n: _reversed(b, n, 2))
two("cls", "0", "00100", BHS, _sign_bits)
two("clz", "1", "00100", BHS, lambda b, n: n.clz())
two("cnt", "0", "00101", B, lambda b, n: n.popcount())
two("mvn", "1", "00101", B, lambda b, n: ~n)
two("rbit", "1", "00101", B, lambda b, n: n.bitreverse(), size="01")
two("cmgt", "0", "01000", (*BHSD, SD), lambda b, n: mask(b, n.sgt(0), n.type), zero=", #0")
two("cmge", "1", "01000", (*BHSD, SD), lambda b, n: mask(b, n.sge(0), n.type), zero=", #0")
two("cmeq", "0", "01001", (*BHSD, SD), lambda b, n: mask(b, n.eq(0), n.type), zero=", #0")
two("cmle", "1", "01001", (*BHSD, SD), lambda b, n: mask(b, n.sle(0), n.type), zero=", #0")
two("cmlt", "0", "01010", (*BHSD, SD), lambda b, n: n.asr(n.type.bits - 1), zero=", #0")
two("abs", "0", "01011", (*BHSD, SD), lambda b, n: n.abs())
two("neg", "1", "01011", (*BHSD, SD), lambda b, n: -n)


def _saturating_abs(b: A64, n: Value) -> tuple[Value, Value]:
    least = mask(b, n.eq(-top(n.type)), n.type)
    return n.abs() + least, least


def _saturating_neg(b: A64, n: Value) -> tuple[Value, Value]:
    least = mask(b, n.eq(-top(n.type)), n.type)
    return least - n, least


def _add_unsigned(b: A64, d: Value, n: Value) -> tuple[Value, Value]:
    """SUQADD: a signed d plus an unsigned n. With the top bit turned over both are unsigned."""
    result = (d ^ top(d.type)).uadd_sat(n) ^ top(d.type)
    return result, result ^ (d + n)


def _add_signed(b: A64, d: Value, n: Value) -> tuple[Value, Value]:
    """USQADD: an unsigned d plus a signed n, which adds or subtracts its size."""
    result = b.select(n.slt(0), d.usub_sat(-n), d.uadd_sat(n))
    return result, result ^ (d + n)


_saturating("sqabs", "0", "00111", _saturating_abs)
_saturating("sqneg", "1", "00111", _saturating_neg)
_accumulating("suqadd", "0", "00011", _add_unsigned)
_accumulating("usqadd", "1", "00011", _add_signed)


# Sums of neighbours.


def _pair_sums(name: str, u: str, opcode: str, *, signed: bool, accumulate: bool) -> None:
    for a in BHS:
        _adds_pairs(name, pattern(a, u, opcode), a, signed, accumulate)


def _adds_pairs(name: str, bits: str, a: Arrangement, signed: bool, accumulate: bool) -> None:
    step = f"{a.lanes // 2}{'hsd'[(8, 16, 32).index(a.bits)]}"

    @insn(bits, ext="AdvSIMD", name=f"{name}_{a}", asm=f"{name} {{vd}}.{step}, {{vn}}.{a}")
    def misc(b: A64, vd: VD, vn: V) -> None:
        total = pair_sums(b, read(b, vn, a.type), signed=signed)
        write(b, vd, read(b, vd, total.type) + total if accumulate else total, a.keep)


_pair_sums("saddlp", "0", "00010", signed=True, accumulate=False)
_pair_sums("uaddlp", "1", "00010", signed=False, accumulate=False)
_pair_sums("sadalp", "0", "00110", signed=True, accumulate=True)
_pair_sums("uadalp", "1", "00110", signed=False, accumulate=True)


# To half the bits and to twice the bits.


def _narrowing(name: str, bits: str, a: Arrangement, op: SaturatingUnary | None) -> None:
    w = wider(a)

    @insn(bits, ext="AdvSIMD", name=f"{called(name, a)}_{a}",
          asm=f"{called(name, a)} {a.register('vd')}, {w.register('vn')}")  # fmt: skip
    def narrow(b: A64, vd: VD, vn: V) -> None:
        n = read(b, vn, w.type)
        if op is None:
            result = narrowed(n)
        else:
            result, difference = op(b, n)
            note(b, difference, w.keep)
        put_narrow(b, vd, result, a)


for _a in (*BHS, SB, SH, SS):
    if not _a.scalar:
        _narrowing("xtn", pattern(_a, "0", "10010"), _a, None)
    _narrowing("sqxtn", pattern(_a, "0", "10100"), _a, lambda b, n: clipped(b, n, signed=True, to_signed=True))
    _narrowing("uqxtn", pattern(_a, "1", "10100"), _a, lambda b, n: clipped(b, n, signed=False, to_signed=False))
    _narrowing("sqxtun", pattern(_a, "1", "10010"), _a, lambda b, n: clipped(b, n, signed=True, to_signed=False))


def _shift_long(a: Arrangement) -> None:
    w = wider(a)

    @insn(pattern(a, "1", "10011"), ext="AdvSIMD", name=f"{called('shll', a)}_{a}",
          asm=f"{called('shll', a)} {{vd}}.{w}, {{vn}}.{a}, #{a.bits}")  # fmt: skip
    def shll(b: A64, vd: VD, vn: V) -> None:
        write(b, vd, widened(source(b, vn, a), False) << a.bits)


for _a in BHS:
    _shift_long(_a)


# Estimates of numbers below 1.


def _unsigned_estimate(b: A64, n: Value) -> Value:
    return b.select(n.slt(0), estimates(b, n >> 23) << 23 | 1 << 31, -1)


def _unsigned_root_estimate(b: A64, n: Value) -> Value:
    return b.select((n >> 30).ne(0), root_estimates(b, n >> 23) << 23 | 1 << 31, -1)


two("urecpe", "0", "11100", S, _unsigned_estimate, size="10")
two("ursqrte", "1", "11100", S, _unsigned_root_estimate, size="10")


# Across lanes.


def _across(name: str, u: str, opcode: str, op: Binary) -> None:
    for a in (*B, *H, S4):
        _reduces(name, f"0 {a.q} {u} 01110 {a.size} 11000 {opcode} 10 vn:5 vd:5", a, op)


def _reduces(name: str, bits: str, a: Arrangement, op: Binary) -> None:
    @insn(bits, ext="AdvSIMD", name=f"{name}_{a}", asm=f"{name} {{vd:{a.text[-1]}}}, {{vn}}.{a}")
    def across(b: A64, vd: VD, vn: V) -> None:
        write(b, vd, reduce(b, read(b, vn, a.type), a.lanes, op))


_across("addv", "0", "11011", lambda b, n, m: n + m)
_across("smaxv", "0", "01010", lambda b, n, m: n.smax(m))
_across("umaxv", "1", "01010", lambda b, n, m: n.umax(m))
_across("sminv", "0", "11010", lambda b, n, m: n.smin(m))
_across("uminv", "1", "11010", lambda b, n, m: n.umin(m))


def _long_sum(name: str, u: str, a: Arrangement, signed: bool) -> None:
    @insn(f"0 {a.q} {u} 01110 {a.size} 11000 00011 10 vn:5 vd:5", ext="AdvSIMD", name=f"{name}_{a}",
          asm=f"{name} {{vd:{wider(a).text[-1]}}}, {{vn}}.{a}")  # fmt: skip
    def across(b: A64, vd: VD, vn: V) -> None:
        sums = pair_sums(b, read(b, vn, a.type), signed=signed)
        write(b, vd, reduce(b, sums, a.lanes // 2, lambda b, n, m: n + m))


for _a in (*B, *H, S4):
    _long_sum("saddlv", "0", _a, True)
    _long_sum("uaddlv", "1", _a, False)


@insn("01 0 11110 11 11000 11011 10 vn:5 vd:5", ext="AdvSIMD", name="addp_d_scalar", asm="addp {vd:d}, {vn}.2d")
def addp(b: A64, vd: VD, vn: V) -> None:
    n = read(b, vn, lanes_of(64))
    write(b, vd, even(b, n) + odd(b, n))
