"""Data processing, immediate (Arm ARM, C4.1.92)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I32, I64, Type
from polyvm.isa.aarch64.operands import (
    XD,
    XSP,
    XSPD,
    Left64,
    Mask,
    Right64,
    SImm,
    Small,
    Turn,
    UImm,
    X,
    expand,
    insn,
)

if TYPE_CHECKING:
    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.insn import Alias

# sf, letter of the register names, type
SIZES: tuple[tuple[str, str, Type], ...] = (("0", "w", I32), ("1", "x", I64))


def rd(word: int) -> int:
    """Field Rd."""
    return word & 31


def rn(word: int) -> int:
    """Field Rn."""
    return word >> 5 & 31


# PC-relative addresses.


@insn("0 imm[1:0] 10000 imm[20:2] rd:5", ext="A64", asm="adr {rd}, {imm:pc}")
def adr(b: A64, rd: XD, imm: SImm) -> None:
    b.set_x(rd, b.pc() + imm)


@insn("1 imm[1:0] 10000 imm[20:2] rd:5", ext="A64", asm="adrp {rd}, {imm:page}")
def adrp(b: A64, rd: XD, imm: SImm) -> None:
    b.set_x(rd, (b.pc() & -4096) + (imm << 12))


# Add and subtract. The immediate may be shifted by 12.


def _add_sub(sf: str, r: str, type_: Type) -> None:
    @insn(
        f"{sf} 0 0 100010 0 imm:12 rn:5 rd:5", ext="A64", name=f"add_{r}_imm", asm=f"add {{rd:{r}}}, {{rn:{r}}}, {{imm}}",
        aliases=[(f"mov {{rd:{r}}}, {{rn:{r}}}", lambda w: not w >> 10 & 0xFFF and 31 in (rd(w), rn(w)))],
    )  # fmt: skip
    def add(b: A64, rd: XSPD, rn: XSP, imm: UImm) -> None:
        b.set_r(rd, b.r(rn, type_) + imm.trunc(type_))

    @insn(f"{sf} 1 0 100010 0 imm:12 rn:5 rd:5", ext="A64", name=f"sub_{r}_imm", asm=f"sub {{rd:{r}}}, {{rn:{r}}}, {{imm}}")
    def sub(b: A64, rd: XSPD, rn: XSP, imm: UImm) -> None:
        b.set_r(rd, b.r(rn, type_) - imm.trunc(type_))

    @insn(
        f"{sf} 0 1 100010 0 imm:12 rn:5 rd:5", ext="A64", name=f"adds_{r}_imm", asm=f"adds {{rd:{r}}}, {{rn:{r}}}, {{imm}}",
        aliases=[(f"cmn {{rn:{r}}}, {{imm}}", lambda w: rd(w) == 31)],
    )  # fmt: skip
    def adds(b: A64, rd: XD, rn: XSP, imm: UImm) -> None:
        x, y = b.r(rn, type_), imm.trunc(type_)
        b.set_flags_add(x, y)
        b.set_r(rd, x + y)

    @insn(
        f"{sf} 1 1 100010 0 imm:12 rn:5 rd:5", ext="A64", name=f"subs_{r}_imm", asm=f"subs {{rd:{r}}}, {{rn:{r}}}, {{imm}}",
        aliases=[(f"cmp {{rn:{r}}}, {{imm}}", lambda w: rd(w) == 31)],
    )  # fmt: skip
    def subs(b: A64, rd: XD, rn: XSP, imm: UImm) -> None:
        x, y = b.r(rn, type_), imm.trunc(type_)
        b.set_flags_sub(x, y)
        b.set_r(rd, x - y)

    for bits, base, compare in (("00", add, ""), ("10", sub, ""), ("01", adds, "cmn"), ("11", subs, "cmp")):
        name = base.name.split("_")[0]
        expand(
            f"{sf} {bits} 100010 1 imm[23:12] rn:5 rd:5", base, ext="A64", name=f"{base.name}12",
            asm=f"{name} {{rd:{r}}}, {{rn:{r}}}, {{imm:lsl12}}", rd="rd", rn="rn", imm="imm",
            aliases=[(f"{compare} {{rn:{r}}}, {{imm:lsl12}}", lambda w: rd(w) == 31)] if compare else [],
        )  # fmt: skip


# Logical, with a repeated pattern of ones. In 64 bits a pattern is 64 bits long, ones that are turned, or two times 32.

_UNREPEATED = "& 63 != 31 47 55 59 61 62 63"


def _movable(word: int) -> bool:
    """MoveWidePreferred (J1.1.3): mov's other forms have this value, or its opposite."""
    sf, imms, immr = word >> 31, word >> 10 & 63, word >> 16 & 63
    width = 64 if sf else 32
    if (word >> 22 & 1) != sf or (not sf and imms > 31):
        return False
    ones, full = (1 << imms + 1) - 1, (1 << width) - 1
    turned = immr % width
    value = (ones >> turned | ones << width - turned) & full
    return any(v & ~(0xFFFF << at) & full == 0 for v in (value, ~value & full) for at in range(0, width, 16))


def _logical(opc: str, name: str, sf: str, r: str, type_: Type) -> None:
    sets = name == "ands"
    kinds = {} if sets else {"rd": "XSPD"}
    form = f"{{ms:mask{type_.bits}}}"
    asm = f"{name} {{rd:{r}}}, {{rn:{r}}}, {form}"
    aliases: list[Alias] = []
    if sets:
        aliases.append((f"tst {{rn:{r}}}, {form}", lambda w: rd(w) == 31))
    elif name == "orr":
        aliases.append((f"mov {{rd:{r}}}, {form}", lambda w: rn(w) == 31 and (rd(w) == 31 or not _movable(w))))

    def result(b: A64, rd: Value, rn: Value, mask: Value) -> None:
        x = b.r(rn, type_)
        value = x & mask if name in ("and", "ands") else x | mask if name == "orr" else x ^ mask
        if sets:
            b.set_flags_logic(value)
        b.set_r(rd, value)

    @insn(f"{sf} {opc} 100100 0 ms[11:0] rn:5 rd:5", ext="A64", name=f"{name}_{r}_imm", asm=asm, aliases=aliases,
          where={"ms": _UNREPEATED}, bind={"mask": "ms"}, kinds=kinds)  # fmt: skip
    def repeated(b: A64, rd: XD, rn: X, mask: Mask) -> None:
        result(b, rd, rn, mask.trunc(I32) if type_ is I32 else mask & 0xFFFF_FFFF | mask << 32)

    if type_ is I64:

        @insn(f"{sf} {opc} 100100 1 ms[11:0] rn:5 rd:5", ext="A64", name=f"{name}_{r}_ones", asm=asm.replace("mask", "ones"),
              aliases=[(text.replace("mask", "ones"), wanted) for text, wanted in aliases],
              where={"ms": "& 63 != 63"}, bind={"s": "ms", "turn": "ms"}, kinds=kinds)  # fmt: skip
        def turned(b: A64, rd: XD, rn: X, s: Left64, turn: Turn) -> None:
            result(b, rd, rn, (b.const(I64, -1) >> s.zext(I64)).rotr(turn.zext(I64)))


# Move wide.


def _move_wide(sf: str, r: str, type_: Type) -> None:
    for opc, name in (("10", "movz"), ("00", "movn")):
        for hw in range(2 if sf == "0" else 4):
            _move(f"{sf} {opc} 100101 {hw:02b}", name, r, type_, hw)
    for hw in range(2 if sf == "0" else 4):
        _move_keep(f"{sf} 11 100101 {hw:02b}", r, type_, hw)


def _shown(hw: int) -> str:
    return f", lsl #{16 * hw}" if hw else ""


def _move(bits: str, name: str, r: str, type_: Type, hw: int) -> None:
    inverts = name == "movn"

    def alias(w: int) -> bool:
        imm = w >> 5 & 0xFFFF
        return not (imm == 0 and hw) and not (inverts and type_ is I32 and imm == 0xFFFF)

    @insn(f"{bits} imm:16 rd:5", ext="A64", name=f"{name}_{r}_{16 * hw}", asm=f"{name} {{rd:{r}}}, {{imm}}{_shown(hw)}",
          aliases=[(f"mov {{rd:{r}}}, {{imm:{name}{type_.bits}_{hw}}}", alias)])  # fmt: skip
    def move(b: A64, rd: XD, imm: UImm) -> None:
        value = (imm << 16 * hw).trunc(type_)
        b.set_r(rd, ~value if inverts else value)


def _move_keep(bits: str, r: str, type_: Type, hw: int) -> None:
    @insn(f"{bits} imm:16 rd:5", ext="A64", name=f"movk_{r}_{16 * hw}", asm=f"movk {{rd:{r}}}, {{imm}}{_shown(hw)}",
          bind={"rn": "rd"})  # fmt: skip
    def movk(b: A64, rd: XD, rn: X, imm: UImm) -> None:
        b.set_r(rd, b.r(rn, type_) & ~(0xFFFF << 16 * hw) | (imm << 16 * hw).trunc(type_))


# Bitfield: a shift to the left, to drop what is above, then one to the right.


def _shift_bits(word: int) -> tuple[int, int]:
    return word >> 16 & 63, word >> 10 & 63


def _bitfield(sf: str, r: str, type_: Type, left: str, right: str) -> None:
    bits = type_.bits
    fields = "rs[11:6] rs[5:0]" if sf == "1" else "0 rs[9:5] 0 rs[4:0]"
    bind = {"left": "rs", "right": "rs"}
    kinds = {"left": left, "right": right}
    top = bits - 1

    def moved(b: A64, x: Value, left: Value, right: Value, *, signed: bool) -> Value:
        shifted = x << left.zext(type_)
        return shifted.asr(right.zext(type_)) if signed else shifted >> right.zext(type_)

    def extends(w: int) -> bool:
        return _shift_bits(w)[0] == 0

    @insn(f"{sf} 00 100110 {sf} {fields} rn:5 rd:5", ext="A64", name=f"sbfm_{r}", bind=bind, kinds=kinds,
          asm=f"sbfx {{rd:{r}}}, {{rn:{r}}}, {{rs:extract{bits}}}",
          aliases=[
              (f"asr {{rd:{r}}}, {{rn:{r}}}, {{rs:immr{bits}}}", lambda w: _shift_bits(w)[1] == top),
              (f"sxtb {{rd:{r}}}, {{rn:w}}", lambda w: _shift_bits(w) == (0, 7)),
              (f"sxth {{rd:{r}}}, {{rn:w}}", lambda w: _shift_bits(w) == (0, 15)),
              (f"sxtw {{rd:{r}}}, {{rn:w}}", lambda w: _shift_bits(w) == (0, 31)),
              (f"sbfiz {{rd:{r}}}, {{rn:{r}}}, {{rs:insert{bits}}}", lambda w: _shift_bits(w)[1] < _shift_bits(w)[0]),
          ])  # fmt: skip
    def sbfm(b: A64, rd: XD, rn: X, left: Left64, right: Right64) -> None:
        b.set_r(rd, moved(b, b.r(rn, type_), left, right, signed=True))

    @insn(f"{sf} 10 100110 {sf} {fields} rn:5 rd:5", ext="A64", name=f"ubfm_{r}", bind=bind, kinds=kinds,
          asm=f"ubfx {{rd:{r}}}, {{rn:{r}}}, {{rs:extract{bits}}}",
          aliases=[
              (f"lsr {{rd:{r}}}, {{rn:{r}}}, {{rs:immr{bits}}}", lambda w: _shift_bits(w)[1] == top),
              (f"lsl {{rd:{r}}}, {{rn:{r}}}, {{rs:lsl{bits}}}", lambda w: _shift_bits(w)[1] + 1 == _shift_bits(w)[0]),
              (f"ubfiz {{rd:{r}}}, {{rn:{r}}}, {{rs:insert{bits}}}", lambda w: _shift_bits(w)[1] < _shift_bits(w)[0]),
              *([(f"uxtb {{rd:{r}}}, {{rn:w}}", lambda w: _shift_bits(w) == (0, 7)),
                 (f"uxth {{rd:{r}}}, {{rn:w}}", lambda w: _shift_bits(w) == (0, 15))] if r == "w" else []),
          ])  # fmt: skip
    def ubfm(b: A64, rd: XD, rn: X, left: Left64, right: Right64) -> None:
        b.set_r(rd, moved(b, b.r(rn, type_), left, right, signed=False))

    @insn(f"{sf} 01 100110 {sf} {fields} rn:5 rd:5", ext="A64", name=f"bfm_{r}", bind=bind | {"old": "rd"}, kinds=kinds,
          asm=f"bfxil {{rd:{r}}}, {{rn:{r}}}, {{rs:extract{bits}}}",
          aliases=[
              (f"bfc {{rd:{r}}}, {{rs:insert{bits}}}", lambda w: rn(w) == 31 and _shift_bits(w)[1] < _shift_bits(w)[0]),
              (f"bfi {{rd:{r}}}, {{rn:{r}}}, {{rs:insert{bits}}}", lambda w: _shift_bits(w)[1] < _shift_bits(w)[0]),
          ])  # fmt: skip
    def bfm(b: A64, rd: XD, old: X, rn: X, left: Left64, right: Right64) -> None:
        taken = moved(b, b.const(type_, -1), left, right, signed=False)
        b.set_r(rd, b.r(old, type_) & ~taken | moved(b, b.r(rn, type_), left, right, signed=False))


# Extract.


def _extract(sf: str, r: str, type_: Type) -> None:
    lsb = "lsb:6" if sf == "1" else "0 lsb:5"

    @insn(f"{sf} 00 100111 {sf} 0 rm:5 {lsb} rn:5 rd:5", ext="A64", name=f"extr_{r}",
          asm=f"extr {{rd:{r}}}, {{rn:{r}}}, {{rm:{r}}}, {{lsb}}",
          aliases=[(f"ror {{rd:{r}}}, {{rn:{r}}}, {{lsb}}", lambda w: rn(w) == w >> 16 & 31)])  # fmt: skip
    def extr(b: A64, rd: XD, rn: X, rm: X, lsb: Small) -> None:
        n = lsb.zext(type_)
        above = (b.r(rn, type_) << 1) << (b.const(type_, type_.bits - 1) - n)
        b.set_r(rd, b.r(rm, type_) >> n | above)


for _sf, _r, _type in SIZES:
    _add_sub(_sf, _r, _type)
    for _opc, _name in (("00", "and"), ("01", "orr"), ("10", "eor"), ("11", "ands")):
        _logical(_opc, _name, _sf, _r, _type)
    _move_wide(_sf, _r, _type)
    _bitfield(_sf, _r, _type, f"Left{_type.bits}", f"Right{_type.bits}")
    _extract(_sf, _r, _type)
