"""Advanced SIMD: copies of elements and general registers, and modified immediates (Arm ARM, C4.1.96)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I32, I64, Type
from polyvm.isa.aarch64.operands import VD, XD, Small, UImm, V, X, insn
from polyvm.isa.aarch64.simd import B16, BHSD, D2, SCALARS, B, H, S, element, lanes_of, read, splat, write

if TYPE_CHECKING:
    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.aarch64.simd import Arrangement, Binary


def _imm5(bits: int, name: str) -> str:
    """The field that says what an element's size and number are."""
    return {8: f"{name}:4 1", 16: f"{name}:3 10", 32: f"{name}:2 100", 64: f"{name}:1 1000"}[bits]


def _none5(bits: int) -> str:
    """The same without a number."""
    return {8: "_:4 1", 16: "_:3 10", 32: "_:2 100", 64: "_:1 1000"}[bits]


def _letter(bits: int) -> str:
    return {8: "b", 16: "h", 32: "s", 64: "d"}[bits]


def _dup(a: Arrangement) -> None:
    e = _letter(a.bits)

    @insn(f"0 {a.q} 0 01110000 {_imm5(a.bits, 'place')} 0 0000 1 vn:5 vd:5", ext="AdvSIMD", name=f"dup_element_{a}",
          asm=f"dup {{vd}}.{a}, {{vn}}.{e}[{{place:index}}]")  # fmt: skip
    def dup_element(b: A64, vd: VD, vn: V, place: Small) -> None:
        write(b, vd, element(b, vn, place, a.type), a.keep)

    r = "x" if a.bits == 64 else "w"

    @insn(f"0 {a.q} 0 01110000 {_none5(a.bits)} 0 0001 1 rn:5 vd:5", ext="AdvSIMD", name=f"dup_{a}",
          asm=f"dup {{vd}}.{a}, {{rn:{r}}}")  # fmt: skip
    def dup(b: A64, vd: VD, rn: X) -> None:
        write(b, vd, splat(b, b.x(rn), a.type), a.keep)


for _a in BHSD:
    _dup(_a)


def _dup_scalar(a: Arrangement) -> None:
    @insn(f"01 0 11110000 {_imm5(a.bits, 'place')} 0 0000 1 vn:5 vd:5", ext="AdvSIMD", name=f"dup_{a}",
          asm=f"mov {{vd:{a}}}, {{vn}}.{a}[{{place:index}}]")  # fmt: skip
    def dup_scalar(b: A64, vd: VD, vn: V, place: Small) -> None:
        write(b, vd, b.lane(read(b, vn, a.type), place))

    r = "x" if a.bits == 64 else "w"

    @insn(f"0 1 0 01110000 {_imm5(a.bits, 'place')} 0 0011 1 rn:5 vd:5", ext="AdvSIMD", name=f"ins_{a}_{r}",
          asm=f"mov {{vd}}.{a}[{{place:index}}], {{rn:{r}}}")  # fmt: skip
    def ins(b: A64, vd: VD, rn: X, place: Small) -> None:
        write(b, vd, b.with_lane(read(b, vd, a.type), place, b.x(rn).trunc(a.type.element)))

    low = {8: "", 16: " _:1", 32: " _:2", 64: " _:3"}[a.bits]
    width = {8: 4, 16: 3, 32: 2, 64: 1}[a.bits]

    @insn(f"0 1 1 01110000 {_imm5(a.bits, 'place')} 0 source:{width}{low} 1 vn:5 vd:5", ext="AdvSIMD",
          name=f"ins_{a}_element", asm=f"mov {{vd}}.{a}[{{place:index}}], {{vn}}.{a}[{{source:index}}]")  # fmt: skip
    def ins_element(b: A64, vd: VD, vn: V, place: Small, source: Small) -> None:
        found = b.lane(read(b, vn, a.type), source)
        write(b, vd, b.with_lane(read(b, vd, a.type), place, found))


for _a in SCALARS:
    _dup_scalar(_a)


def _to_general(name: str, q: str, opcode: str, bits: int, to: Type, *, signed: bool) -> None:
    e, r = _letter(bits), "x" if q == "1" else "w"

    @insn(f"0 {q} 0 01110000 {_imm5(bits, 'place')} 0 {opcode} 1 vn:5 rd:5", ext="AdvSIMD", name=f"{name}_{r}_{e}",
          asm=f"{name} {{rd:{r}}}, {{vn}}.{e}[{{place:index}}]")  # fmt: skip
    def move(b: A64, rd: XD, vn: V, place: Small) -> None:
        found = b.lane(read(b, vn, lanes_of(bits)), place)
        b.set_r(rd, found.sext(to) if signed else found.zext(to))


for _bits in (8, 16, 32):
    if _bits < 32:
        _to_general("smov", "0", "0101", _bits, I32, signed=True)
        _to_general("umov", "0", "0111", _bits, I32, signed=False)
    _to_general("smov", "1", "0101", _bits, I64, signed=True)
_to_general("mov", "0", "0111", 32, I32, signed=False)
_to_general("mov", "1", "0111", 64, I64, signed=False)


# Modified immediates (C4.1.96): 8 bits abcdefgh, shifted, or each as a byte, or as a floating-point number.


def _immediate(name: str, a: Arrangement, op: str, cmode: str, after: str, op_of: Binary | None, *, distance: int,
               ones: bool = False) -> None:  # fmt: skip
    """`distance` bits to the left, with ones instead of zeros below if `ones`; `op_of` is of the register before and this."""

    @insn(f"0 {a.q} {op} 0111100000 imm[7:5] {cmode} 0 1 imm[4:0] vd:5", ext="AdvSIMD", name=f"{name}_{a}_{cmode}",
          asm=f"{name} {{vd}}.{a}, {{imm}}{after}")  # fmt: skip
    def modified(b: A64, vd: VD, imm: UImm) -> None:
        value = imm << distance if distance else imm
        vector = splat(b, value | (1 << distance) - 1 if ones else value, a.type)
        write(b, vd, vector if op_of is None else op_of(b, read(b, vd, a.type), vector), a.keep)


def _not(b: A64, d: Value, imm: Value) -> Value:
    return ~imm


def _orr(b: A64, d: Value, imm: Value) -> Value:
    return d | imm


def _bic(b: A64, d: Value, imm: Value) -> Value:
    return d & ~imm


for _a in (*H, *S):
    for _shift in range(0, _a.bits, 8):
        _cmode = (f"0{_shift // 8:02b}" if _a.bits == 32 else f"10{_shift // 8}") + "{}"
        _after = f", lsl #{_shift}" if _shift else ""
        _immediate("movi", _a, "0", _cmode.format(0), _after, None, distance=_shift)
        _immediate("orr", _a, "0", _cmode.format(1), _after, _orr, distance=_shift)
        _immediate("mvni", _a, "1", _cmode.format(0), _after, _not, distance=_shift)
        _immediate("bic", _a, "1", _cmode.format(1), _after, _bic, distance=_shift)
for _a in S:
    for _i in (0, 1):
        _after = f", msl #{8 + 8 * _i}"
        _immediate("movi", _a, "0", f"110{_i}", _after, None, distance=8 + 8 * _i, ones=True)
        _immediate("mvni", _a, "1", f"110{_i}", _after, _not, distance=8 + 8 * _i, ones=True)
for _a in B:
    _immediate("movi", _a, "0", "1110", "", None, distance=0)


def _bytes(b: A64, imm: Value) -> Value:
    """Each of 8 bits as a byte of 16, twice."""
    bits = b.const(B16.type, sum((1 << i % 8) << 8 * i for i in range(16)))
    return (splat(b, imm, B16.type) & bits).ne(0).sext(B16.type)


@insn("0 0 1 0111100000 imm[7:5] 1110 0 1 imm[4:0] vd:5", ext="AdvSIMD", name="movi_d", asm="movi {vd:d}, {imm:bytes8}")
def movi_d(b: A64, vd: VD, imm: UImm) -> None:
    write(b, vd, _bytes(b, imm), 64)


@insn("0 1 1 0111100000 imm[7:5] 1110 0 1 imm[4:0] vd:5", ext="AdvSIMD", name="movi_2d", asm="movi {vd}.2d, {imm:bytes8}")
def movi_2d(b: A64, vd: VD, imm: UImm) -> None:
    write(b, vd, _bytes(b, imm))


def float_bits(imm: Value, bits: int) -> Value:
    """VFPExpandImm (J1.3.3) as an i64: the sign, an exponent from 3 bits, a fraction of 4."""
    exponent, fraction = {16: (5, 10), 32: (8, 23), 64: (11, 52)}[bits]
    sign, upper, rest = imm >> 7, imm >> 6 & 1, imm & 63
    # not(b), b repeated, then cd and the fraction
    repeated = (-upper & ((1 << (exponent - 3)) - 1)) << (fraction + 2)
    return sign << (bits - 1) | (upper ^ 1) << (bits - 2) | repeated | rest << (fraction - 4)


def _float(a: Arrangement, op: str, o2: str, ext: str) -> None:
    @insn(f"0 {a.q} {op} 0111100000 imm[7:5] 1111 {o2} 1 imm[4:0] vd:5", ext=ext, name=f"fmov_imm_{a}",
          asm=f"fmov {{vd}}.{a}, {{imm:float8}}")  # fmt: skip
    def fmov(b: A64, vd: VD, imm: UImm) -> None:
        write(b, vd, splat(b, float_bits(imm, a.bits), a.type), a.keep)


for _a in S:
    _float(_a, "0", "0", "AdvSIMD")
_float(D2, "1", "0", "AdvSIMD")
for _a in H:
    _float(_a, "0", "1", "FP16")

