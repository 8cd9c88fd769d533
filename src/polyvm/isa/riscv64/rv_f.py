"""F, D and Zfh: floating point in three formats (RISC-V unprivileged specification, chapters 20 to 22).

The instructions are the same for each format but for its `fmt` field; the loop at the end makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I32, I64, Type, Value
from polyvm.ir.ops import INVALID
from polyvm.isa.riscv64.formats import ALL, D, Format, H, S
from polyvm.isa.riscv64.operands import FD, XD, F, Rm, SImm, X, insn

if TYPE_CHECKING:
    from polyvm.isa.insn import Insn
    from polyvm.isa.riscv64.builder import Rv

OP_FP = "1010011"


def is_nan(bits: Value, fmt: Format) -> Value:
    """i1: a NaN."""
    return (bits & (fmt.sign - 1)).ugt(fmt.infinity)


def is_signaling(bits: Value, fmt: Format) -> Value:
    """i1: a signaling NaN."""
    return is_nan(bits, fmt) & (bits & fmt.quiet).eq(0)


def ordered_key(bits: Value, fmt: Format) -> Value:
    """An integer that orders, signed, as the numbers do, with -0 below +0."""
    return bits ^ (bits.asr(fmt.bits - 1) & (fmt.sign - 1))


def extreme(b: Rv, x: Value, y: Value, fmt: Format, *, largest: bool) -> Value:
    """The smaller or larger of two numbers that are not NaN; signaling NaNs raise invalid."""
    b.fp_raise(b.select(is_signaling(x, fmt) | is_signaling(y, fmt), b.const(I32, INVALID), 0))
    less = ordered_key(x, fmt).slt(ordered_key(y, fmt))
    return b.select(less, y, x) if largest else b.select(less, x, y)


# Loads and stores (20.5).


def _load(fmt: Format, width: str, name: str) -> Insn:
    @insn(f"imm[11:0] rs1:5 {width} rd:5 0000111", ext=fmt.ext, asm=f"{name} {{rd}}, {{imm}}({{rs1}})")
    def load(b: Rv, rd: FD, rs1: X, imm: SImm) -> None:
        b.set_f_bits(rd, b.load(b.x(rs1) + imm, fmt.integer), fmt)

    return load


def _store(fmt: Format, width: str, name: str) -> Insn:
    @insn(f"imm[11:5] rs2:5 rs1:5 {width} imm[4:0] 0100111", ext=fmt.ext, asm=f"{name} {{rs2}}, {{imm}}({{rs1}})")
    def store(b: Rv, rs1: X, rs2: F, imm: SImm) -> None:
        b.store(b.x(rs1) + imm, b.get("f", rs2).trunc(fmt.integer))

    return store


flw, fld, flh = _load(S, "010", "flw"), _load(D, "011", "fld"), _load(H, "001", "flh")
fsw, fsd, fsh = _store(S, "010", "fsw"), _store(D, "011", "fsd"), _store(H, "001", "fsh")


# Arithmetic (20.6).


def _binary(fmt: Format, funct5: str, name: str, op: str) -> None:
    @insn(
        f"{funct5} {fmt.code} rs2:5 rs1:5 rm:3 rd:5 {OP_FP}",
        ext=fmt.ext, asm=f"{name}.{fmt.suffix} {{rd}}, {{rs1}}, {{rs2}}{{rm}}",
    )  # fmt: skip
    def binary(b: Rv, rd: FD, rs1: F, rs2: F, rm: Rm) -> None:
        mode = b.round_mode(rm)
        b.set_f(rd, b.fp(op, b.f(rs1, fmt), b.f(rs2, fmt), rm=mode), fmt)


def _square_root(fmt: Format) -> None:
    @insn(
        f"01011 {fmt.code} 00000 rs1:5 rm:3 rd:5 {OP_FP}",
        ext=fmt.ext, asm=f"fsqrt.{fmt.suffix} {{rd}}, {{rs1}}{{rm}}",
    )  # fmt: skip
    def fsqrt(b: Rv, rd: FD, rs1: F, rm: Rm) -> None:
        mode = b.round_mode(rm)
        b.set_f(rd, b.fp("fsqrt", b.f(rs1, fmt), rm=mode), fmt)


def _fused(fmt: Format, opcode: str, name: str, *, negate_product: bool, negate_addend: bool) -> None:
    @insn(
        f"rs3:5 {fmt.code} rs2:5 rs1:5 rm:3 rd:5 {opcode}",
        ext=fmt.ext, asm=f"{name}.{fmt.suffix} {{rd}}, {{rs1}}, {{rs2}}, {{rs3}}{{rm}}",
    )  # fmt: skip
    def fused(b: Rv, rd: FD, rs1: F, rs2: F, rs3: F, rm: Rm) -> None:
        mode = b.round_mode(rm)
        x, z = b.f_bits(rs1, fmt), b.f_bits(rs3, fmt)
        if negate_product:
            x = x ^ fmt.sign
        if negate_addend:
            z = z ^ fmt.sign
        b.set_f(rd, b.fp("fma", x.bitcast(fmt.type), b.f(rs2, fmt), z.bitcast(fmt.type), rm=mode), fmt)


def _sign_injection(fmt: Format, funct3: str, name: str) -> None:
    @insn(
        f"00100 {fmt.code} rs2:5 rs1:5 {funct3} rd:5 {OP_FP}",
        ext=fmt.ext, asm=f"{name}.{fmt.suffix} {{rd}}, {{rs1}}, {{rs2}}",
    )  # fmt: skip
    def fsgnj(b: Rv, rd: FD, rs1: F, rs2: F) -> None:
        x, y = b.f_bits(rs1, fmt), b.f_bits(rs2, fmt)
        if name == "fsgnjn":
            y = ~y
        elif name == "fsgnjx":
            y = x ^ y
        b.set_f_bits(rd, (x & (fmt.sign - 1)) | (y & fmt.sign), fmt)


def _minimum(fmt: Format, funct3: str, name: str) -> None:
    @insn(
        f"00101 {fmt.code} rs2:5 rs1:5 {funct3} rd:5 {OP_FP}",
        ext=fmt.ext, asm=f"{name}.{fmt.suffix} {{rd}}, {{rs1}}, {{rs2}}",
    )  # fmt: skip
    def fmin(b: Rv, rd: FD, rs1: F, rs2: F) -> None:
        x, y = b.f_bits(rs1, fmt), b.f_bits(rs2, fmt)
        result = extreme(b, x, y, fmt, largest=name == "fmax")
        one = b.select(is_nan(y, fmt), fmt.nan, y)
        result = b.select(is_nan(x, fmt), one, b.select(is_nan(y, fmt), x, result))
        b.set_f_bits(rd, result, fmt)


# Comparison and classification (20.8, 20.9).


def _comparison(fmt: Format, funct3: str, name: str, *, signaling: bool) -> None:
    @insn(
        f"10100 {fmt.code} rs2:5 rs1:5 {funct3} rd:5 {OP_FP}",
        ext=fmt.ext, asm=f"{name}.{fmt.suffix} {{rd}}, {{rs1}}, {{rs2}}",
    )  # fmt: skip
    def compare(b: Rv, rd: XD, rs1: F, rs2: F) -> None:
        b.set_x(rd, b.flag(b.fcompare(name, b.f(rs1, fmt), b.f(rs2, fmt), signaling=signaling)))


def _classify(fmt: Format) -> None:
    @insn(f"11100 {fmt.code} 00000 rs1:5 001 rd:5 {OP_FP}", ext=fmt.ext, asm=f"fclass.{fmt.suffix} {{rd}}, {{rs1}}")
    def fclass(b: Rv, rd: XD, rs1: F) -> None:
        bits = b.f_bits(rs1, fmt)
        size, negative = bits & (fmt.sign - 1), bits.slt(0)

        def sided(minus: int, plus: int) -> Value:
            return b.select(negative, b.const(I64, 1 << minus), 1 << plus)

        result = sided(1, 6)
        result = b.select(size.ult(1 << fmt.mantissa), sided(2, 5), result)
        result = b.select(size.eq(0), sided(3, 4), result)
        result = b.select(size.eq(fmt.infinity), sided(0, 7), result)
        nan = b.select((bits & fmt.quiet).eq(0), b.const(I64, 1 << 8), 1 << 9)
        b.set_x(rd, b.select(is_nan(bits, fmt), nan, result))


# Conversions and moves (20.7, 21.5, 22.4).


def _to_integer(fmt: Format, code: str, suffix: str, type_: Type, op: str) -> None:
    @insn(
        f"11000 {fmt.code} {code} rs1:5 rm:3 rd:5 {OP_FP}",
        ext=fmt.ext, asm=f"fcvt.{suffix}.{fmt.suffix} {{rd}}, {{rs1}}{{rm}}",
    )  # fmt: skip
    def fcvt(b: Rv, rd: XD, rs1: F, rm: Rm) -> None:
        mode = b.round_mode(rm)
        x = b.f_bits(rs1, fmt)
        result = b.fconvert(op, x.bitcast(fmt.type), type_, mode)
        # A NaN converts as plus infinity does (table 44); to the IR it is 0.
        largest = type_.mask if op == "f2ui" else type_.mask >> 1
        b.set_x(rd, b.select(is_nan(x, fmt), largest, result).sext(I64))


def _from_integer(fmt: Format, code: str, suffix: str, type_: Type, op: str) -> None:
    shown = ":exact" if type_.bits <= fmt.mantissa else ""

    @insn(
        f"11010 {fmt.code} {code} rs1:5 rm:3 rd:5 {OP_FP}",
        ext=fmt.ext, asm=f"fcvt.{fmt.suffix}.{suffix} {{rd}}, {{rs1}}{{rm{shown}}}",
    )  # fmt: skip
    def fcvt(b: Rv, rd: FD, rs1: X, rm: Rm) -> None:
        mode = b.round_mode(rm)
        x = b.x(rs1)
        b.set_f(rd, b.fconvert(op, x if type_ is I64 else x.trunc(type_), fmt.type, mode), fmt)


def _between(to: Format, source: Format, code: str) -> None:
    shown = ":exact" if to.mantissa > source.mantissa else ""

    @insn(
        f"01000 {to.code} {code} rs1:5 rm:3 rd:5 {OP_FP}",
        ext="Zfh" if H in (to, source) else "D",
        asm=f"fcvt.{to.suffix}.{source.suffix} {{rd}}, {{rs1}}{{rm{shown}}}",
    )
    def fcvt(b: Rv, rd: FD, rs1: F, rm: Rm) -> None:
        mode = b.round_mode(rm)
        b.set_f(rd, b.fconvert("f2f", b.f(rs1, source), to.type, mode), to)


def _moves(fmt: Format, suffix: str) -> None:
    @insn(f"11100 {fmt.code} 00000 rs1:5 000 rd:5 {OP_FP}", ext=fmt.ext, asm=f"fmv.x.{suffix} {{rd}}, {{rs1}}")
    def fmv_to_x(b: Rv, rd: XD, rs1: F) -> None:
        raw = b.get("f", rs1)
        b.set_x(rd, raw if fmt.bits == 64 else raw.trunc(fmt.integer).sext(I64))

    @insn(f"11110 {fmt.code} 00000 rs1:5 000 rd:5 {OP_FP}", ext=fmt.ext, asm=f"fmv.{suffix}.x {{rd}}, {{rs1}}")
    def fmv_from_x(b: Rv, rd: FD, rs1: X) -> None:
        x = b.x(rs1)
        b.set_f_bits(rd, x if fmt.bits == 64 else x.trunc(fmt.integer), fmt)


_INTEGERS = (
    ("00000", "w", I32, "f2si", "si2f"),
    ("00001", "wu", I32, "f2ui", "ui2f"),
    ("00010", "l", I64, "f2si", "si2f"),
    ("00011", "lu", I64, "f2ui", "ui2f"),
)
_SOURCE_CODE = {S: "00000", D: "00001", H: "00010"}

for _fmt in ALL:
    for _funct5, _name in (("00000", "fadd"), ("00001", "fsub"), ("00010", "fmul"), ("00011", "fdiv")):
        _binary(_fmt, _funct5, _name, _name)
    _square_root(_fmt)
    _fused(_fmt, "1000011", "fmadd", negate_product=False, negate_addend=False)
    _fused(_fmt, "1000111", "fmsub", negate_product=False, negate_addend=True)
    _fused(_fmt, "1001011", "fnmsub", negate_product=True, negate_addend=False)
    _fused(_fmt, "1001111", "fnmadd", negate_product=True, negate_addend=True)
    for _funct3, _name in (("000", "fsgnj"), ("001", "fsgnjn"), ("010", "fsgnjx")):
        _sign_injection(_fmt, _funct3, _name)
    _minimum(_fmt, "000", "fmin")
    _minimum(_fmt, "001", "fmax")
    _comparison(_fmt, "010", "feq", signaling=False)
    _comparison(_fmt, "001", "flt", signaling=True)
    _comparison(_fmt, "000", "fle", signaling=True)
    _classify(_fmt)
    for _code, _suffix, _type, _to, _from in _INTEGERS:
        _to_integer(_fmt, _code, _suffix, _type, _to)
        _from_integer(_fmt, _code, _suffix, _type, _from)
    _moves(_fmt, {"s": "w"}.get(_fmt.suffix, _fmt.suffix))
    for _source in ALL:
        if _source is not _fmt:
            _between(_fmt, _source, _SOURCE_CODE[_source])
