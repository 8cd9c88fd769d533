"""Advanced SIMD: shifts by immediates (Arm ARM, C4.1.96), with the scalar forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.isa.aarch64.a64_simd_different import called, put_narrow, source, wider
from polyvm.isa.aarch64.operands import VD, Small, V, insn
from polyvm.isa.aarch64.simd import BHS, BHSD, SB, SCALARS, SD, SH, SS, narrowed, note, read, splat, widened, write
from polyvm.isa.aarch64.simd_ops import clipped, rounded_right, saturating_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.aarch64.simd import Arrangement, Saturated

    # of the destination, the source, and the amount in each lane's type or as an i8
    ByAmount = Callable[[A64, Value, Value, Value], Value]
    Saturating = Callable[[A64, Value, Value], Saturated]

_SIZES = {8: "0001 amount:3", 16: "001 amount:4", 32: "01 amount:5", 64: "1 amount:6"}


def pattern(a: Arrangement, u: str, opcode: str) -> str:
    """The encoding of a shift by immediate, vector or scalar."""
    head = f"01 {u} 111110" if a.scalar else f"0 {a.q} {u} 011110"
    return f"{head} {_SIZES[a.bits]} {opcode} 1 vn:5 vd:5"


def _to_right(bits: int) -> dict[str, str]:
    return {"amount": f"Shr{bits}"}


def _shift(name: str, u: str, opcode: str, arrangements: Iterable[Arrangement], op: ByAmount, *, right: bool) -> None:
    for a in arrangements:
        _shifts(name, pattern(a, u, opcode), a, op, right)


def _shifts(name: str, bits: str, a: Arrangement, op: ByAmount, right: bool) -> None:
    @insn(bits, ext="AdvSIMD", name=f"{name}_{a}_imm", asm=f"{name} {a.register('vd')}, {a.register('vn')}, {{amount}}",
          kinds=_to_right(a.bits) if right else {})  # fmt: skip
    def shift(b: A64, vd: VD, vn: V, amount: Small) -> None:
        write(b, vd, op(b, read(b, vd, a.type), read(b, vn, a.type), amount), a.keep)


def _right(*, signed: bool, rounding: bool = False, add: bool = False) -> ByAmount:
    def op(b: A64, d: Value, n: Value, amount: Value) -> Value:
        result = rounded_right(b, n, amount, signed=signed, rounding=rounding)
        return d + result if add else result

    return op


def _insert_left(b: A64, d: Value, n: Value, amount: Value) -> Value:
    by = splat(b, amount, n.type)
    return n << by | d & ~(b.coerce(-1, n.type) << by)


def _insert_right(b: A64, d: Value, n: Value, amount: Value) -> Value:
    ones = rounded_right(b, b.coerce(-1, n.type), amount, signed=False, rounding=False)
    return rounded_right(b, n, amount, signed=False, rounding=False) | d & ~ones


_DS = (*BHSD, SD)

_shift("sshr", "0", "00000", _DS, _right(signed=True), right=True)
_shift("ushr", "1", "00000", _DS, _right(signed=False), right=True)
_shift("ssra", "0", "00010", _DS, _right(signed=True, add=True), right=True)
_shift("usra", "1", "00010", _DS, _right(signed=False, add=True), right=True)
_shift("srshr", "0", "00100", _DS, _right(signed=True, rounding=True), right=True)
_shift("urshr", "1", "00100", _DS, _right(signed=False, rounding=True), right=True)
_shift("srsra", "0", "00110", _DS, _right(signed=True, rounding=True, add=True), right=True)
_shift("ursra", "1", "00110", _DS, _right(signed=False, rounding=True, add=True), right=True)
_shift("sri", "1", "01000", _DS, _insert_right, right=True)
_shift("shl", "0", "01010", _DS, lambda b, d, n, amount: n << splat(b, amount, n.type), right=False)
_shift("sli", "1", "01010", _DS, _insert_left, right=False)


def _saturating(name: str, u: str, opcode: str, op: Saturating) -> None:
    for a in (*BHSD, *SCALARS):
        _saturates(name, pattern(a, u, opcode), a, op)


def _saturates(name: str, bits: str, a: Arrangement, op: Saturating) -> None:
    @insn(bits, ext="AdvSIMD", name=f"{name}_{a}_imm", asm=f"{name} {a.register('vd')}, {a.register('vn')}, {{amount}}")
    def shift(b: A64, vd: VD, vn: V, amount: Small) -> None:
        result, difference = op(b, read(b, vn, a.type), splat(b, amount, a.type))
        note(b, difference, a.keep)
        write(b, vd, result, a.keep)


def _left_to_unsigned(b: A64, n: Value, by: Value) -> Saturated:
    """SQSHLU: a signed number as an unsigned one; a negative one gives 0."""
    result, difference = saturating_left(b, n, by, None, signed=False)
    negative = n.slt(0)
    return b.select(negative, 0, result), b.select(negative, n, difference)


_saturating("sqshl", "0", "01110", lambda b, n, by: saturating_left(b, n, by, None, signed=True))
_saturating("uqshl", "1", "01110", lambda b, n, by: saturating_left(b, n, by, None, signed=False))
_saturating("sqshlu", "1", "01100", _left_to_unsigned)


# To half the bits, and to twice the bits.


def _narrowing(name: str, u: str, opcode: str, *, signed: bool, rounding: bool, to_signed: bool | None) -> None:
    """`to_signed` is None where nothing saturates."""
    for a in (BHS if to_signed is None else (*BHS, SB, SH, SS)):
        _narrow(name, pattern(a, u, opcode), a, signed, rounding, to_signed)


def _narrow(name: str, bits: str, a: Arrangement, signed: bool, rounding: bool, to_signed: bool | None) -> None:
    w = wider(a)

    @insn(bits, ext="AdvSIMD", name=f"{called(name, a)}_{a}_imm",
          asm=f"{called(name, a)} {a.register('vd')}, {w.register('vn')}, {{amount}}", kinds=_to_right(a.bits))  # fmt: skip
    def narrow(b: A64, vd: VD, vn: V, amount: Small) -> None:
        n = read(b, vn, w.type)
        if not rounding:
            # Less than all bits of a lane of the source.
            by = splat(b, amount, w.type)
            moved = n.asr(by) if signed else n >> by
        else:
            moved = rounded_right(b, n, amount, signed=signed, rounding=True)
        if to_signed is None:
            result = narrowed(moved)
        else:
            result, difference = clipped(b, moved, signed=signed, to_signed=to_signed)
            note(b, difference, w.keep)
        put_narrow(b, vd, result, a)


_narrowing("shrn", "0", "10000", signed=False, rounding=False, to_signed=None)
_narrowing("rshrn", "0", "10001", signed=False, rounding=True, to_signed=None)
_narrowing("sqshrn", "0", "10010", signed=True, rounding=False, to_signed=True)
_narrowing("sqrshrn", "0", "10011", signed=True, rounding=True, to_signed=True)
_narrowing("uqshrn", "1", "10010", signed=False, rounding=False, to_signed=False)
_narrowing("uqrshrn", "1", "10011", signed=False, rounding=True, to_signed=False)
_narrowing("sqshrun", "1", "10000", signed=True, rounding=False, to_signed=False)
_narrowing("sqrshrun", "1", "10001", signed=True, rounding=True, to_signed=False)


def _no_amount(a: Arrangement) -> Callable[[int], bool]:
    return lambda word: word >> 16 & (a.bits - 1) == 0


def _long(name: str, u: str, a: Arrangement, *, signed: bool) -> None:
    w = wider(a)
    plain = called(f"{name[0]}xtl", a)

    @insn(pattern(a, u, "10100"), ext="AdvSIMD", name=f"{called(name, a)}_{a}_imm",
          asm=f"{called(name, a)} {{vd}}.{w}, {{vn}}.{a}, {{amount}}",
          aliases=[(f"{plain} {{vd}}.{w}, {{vn}}.{a}", _no_amount(a))])  # fmt: skip
    def long(b: A64, vd: VD, vn: V, amount: Small) -> None:
        write(b, vd, widened(source(b, vn, a), signed) << splat(b, amount, w.type))


for _a in BHS:
    _long("sshll", "0", _a, signed=True)
    _long("ushll", "1", _a, signed=False)
