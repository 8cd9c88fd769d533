"""Data processing, register (Arm ARM, C4.1.95)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I8, I16, I32, I64, I128, Type
from polyvm.isa.aarch64.a64_immediate import SIZES, rd, rn
from polyvm.isa.aarch64.flags import NAMES as CONDITIONS
from polyvm.isa.aarch64.flags import Bits, Choice, Difference, Raw, Sum
from polyvm.isa.aarch64.operands import XD, XSP, Cond, Small, X, insn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.insn import Alias

    Named = tuple[str, Callable[[int], int]]
    Compute = Callable[[A64, Value, Value], Value]


def rm(word: int) -> int:
    """Field Rm."""
    return word >> 16 & 31


# One and two sources.


def _two(sf: str, r: str, opcode: str, name: str, type_: Type, compute: Compute, asm: str = "", ext: str = "A64") -> None:
    @insn(f"{sf} 0 0 11010110 rm:5 {opcode} rn:5 rd:5", ext=ext, name=f"{name}_{r}",
          asm=asm or f"{name} {{rd:{r}}}, {{rn:{r}}}, {{rm:{r}}}")  # fmt: skip
    def two_sources(b: A64, rd: XD, rn: X, rm: X) -> None:
        b.set_r(rd, compute(b, b.r(rn, type_), b.r(rm, type_)))


def _udiv(b: A64, x: Value, y: Value) -> Value:
    zero = y.eq(0)
    return b.select(zero, 0, x.udiv(b.select(zero, 1, y)))


def _sdiv(b: A64, x: Value, y: Value) -> Value:
    zero, minus = y.eq(0), y.eq(-1)
    quotient = x.sdiv(b.select(zero | minus, 1, y))
    return b.select(minus, -x, b.select(zero, 0, quotient))


def _amount(y: Value) -> Value:
    return y & y.type.bits - 1


def _one(sf: str, r: str, opcode: str, name: str, type_: Type, compute: Callable[[Value], Value]) -> None:
    @insn(f"{sf} 1 0 11010110 00000 {opcode} rn:5 rd:5", ext="A64", name=f"{name}_{r}", asm=f"{name} {{rd:{r}}}, {{rn:{r}}}")
    def one_source(b: A64, rd: XD, rn: X) -> None:
        b.set_r(rd, compute(b.r(rn, type_)))


def _rev16(x: Value) -> Value:
    low = 0x00FF_00FF_00FF_00FF & x.type.mask
    return (x >> 8 & low) | (x & low) << 8


for _sf, _r, _type in SIZES:
    _two(_sf, _r, "000010", "udiv", _type, _udiv)
    _two(_sf, _r, "000011", "sdiv", _type, _sdiv)
    _two(_sf, _r, "001000", "lsl", _type, lambda b, x, y: x << _amount(y))
    _two(_sf, _r, "001001", "lsr", _type, lambda b, x, y: x >> _amount(y))
    _two(_sf, _r, "001010", "asr", _type, lambda b, x, y: x.asr(_amount(y)))
    _two(_sf, _r, "001011", "ror", _type, lambda b, x, y: x.rotr(_amount(y)))
    _one(_sf, _r, "000000", "rbit", _type, lambda x: x.bitreverse())
    _one(_sf, _r, "000001", "rev16", _type, _rev16)
    _one(_sf, _r, "000100", "clz", _type, lambda x: x.clz())
    _one(_sf, _r, "000101", "cls", _type, lambda x: (x ^ x.asr(1)).clz() - 1)
_one("0", "w", "000010", "rev", I32, lambda x: x.bswap())
_one("1", "x", "000010", "rev32", I64, lambda x: x.bswap().rotr(32))
_one("1", "x", "000011", "rev", I64, lambda x: x.bswap())


# CRC32 by Barrett reduction in bit-reversed polynomials: each row the polynomial and its reciprocal, with x**32.

_POLYNOMIALS = (("", 0x1_DB71_0641, 0x1_F701_1641), ("c", 0x1_05EC_76F1, 0x0_DEA7_13F1))


def _crc(size: str, suffix: str, type_: Type, c: str, polynomial: int, reciprocal: int) -> None:
    def reduced(b: A64, x: Value) -> Value:
        """32 bits, taken further by as many steps."""
        quotient = x.clmul(reciprocal) & 0xFFFF_FFFF
        return quotient.clmul(polynomial) >> 32

    r = "x" if type_ is I64 else "w"

    @insn(f"{int(type_ is I64)} 0 0 11010110 rm:5 010 {int(c == 'c')} {size} rn:5 rd:5", ext="CRC32", name=f"crc32{c}{suffix}",
          asm=f"crc32{c}{suffix} {{rd:w}}, {{rn:w}}, {{rm:{r}}}")  # fmt: skip
    def crc32(b: A64, rd: XD, rn: X, rm: X) -> None:
        crc, data = b.r(rn, I32).zext(I64), b.r(rm, type_).zext(I64)
        if type_ is I64:
            first = reduced(b, (crc ^ data) & 0xFFFF_FFFF)
            b.set_x(rd, reduced(b, first ^ data >> 32))
        else:
            mixed = crc ^ data
            rest = 32 - type_.bits
            b.set_x(rd, reduced(b, mixed << rest & 0xFFFF_FFFF) ^ (crc >> type_.bits if rest else b.const(I64, 0)))


for _c, _polynomial, _reciprocal in _POLYNOMIALS:
    for _size, _suffix, _type in (("00", "b", I8), ("01", "h", I16), ("10", "w", I32), ("11", "x", I64)):
        _crc(_size, _suffix, _type, _c, _polynomial, _reciprocal)


# Logical, with a shifted register. The forms without a shift are instructions of their own.

_SHIFTS: tuple[tuple[str, str, Callable[[Value, Value], Value]], ...] = (
    ("00", "lsl", lambda x, n: x << n),
    ("01", "lsr", lambda x, n: x >> n),
    ("10", "asr", lambda x, n: x.asr(n)),
    ("11", "ror", lambda x, n: x.rotr(n)),
)
_LOGICAL: tuple[tuple[str, str, str, Callable[[Value, Value], Value]], ...] = (
    ("00", "0", "and", lambda x, y: x & y),
    ("00", "1", "bic", lambda x, y: x & ~y),
    ("01", "0", "orr", lambda x, y: x | y),
    ("01", "1", "orn", lambda x, y: x | ~y),
    ("10", "0", "eor", lambda x, y: x ^ y),
    ("10", "1", "eon", lambda x, y: x ^ ~y),
    ("11", "0", "ands", lambda x, y: x & y),
    ("11", "1", "bics", lambda x, y: x & ~y),
)
_LOGICAL_ALIASES = {"ands": [("tst {rn}, {rm}", rd)], "orn": [("mvn {rd}, {rm}", rn)]}


def _named(text: str, r: str) -> str:
    for operand in ("rd", "rn", "rm", "ra"):
        text = text.replace(f"{{{operand}}}", f"{{{operand}:{r}}}")
    return text


def _is_31(field: Callable[[int], int]) -> Callable[[int], bool]:
    return lambda word: field(word) == 31


def _shifted(sf: str, r: str, type_: Type, head: str, negated: str, name: str,
             finish: Callable[[A64, Value, Value, Value], None], shifts: int, named: Sequence[Named] = ()) -> None:  # fmt: skip
    """All forms of an instruction with a shifted register. `named`: what it is called where a field is 31."""
    amount = "amount:6" if sf == "1" else "0 amount:5"
    asm = _named(f"{name} {{rd}}, {{rn}}, {{rm}}", r)
    aliases = [(_named(text, r), _is_31(field)) for text, field in named]

    @insn(f"{sf} {head} 00 {negated} rm:5 000000 rn:5 rd:5", ext="A64", name=f"{name}_{r}", asm=asm, aliases=aliases)
    def plain(b: A64, rd: XD, rn: X, rm: X) -> None:
        finish(b, rd, b.r(rn, type_), b.r(rm, type_))

    for bits, shift, compute in _SHIFTS[:shifts]:
        _with_shift(f"{sf} {head} {bits} {negated} rm:5 {amount} rn:5 rd:5", name, r, type_, shift, compute, finish,
                    [(f"{text}, {shift} {{amount}}", wanted) for text, wanted in aliases])  # fmt: skip


def _with_shift(pattern: str, name: str, r: str, type_: Type, shift: str, compute: Callable[[Value, Value], Value],
                finish: Callable[[A64, Value, Value, Value], None],
                aliases: list[Alias]) -> None:  # fmt: skip
    where = {"amount": "!= 0"} if shift == "lsl" else None

    @insn(pattern, ext="A64", name=f"{name}_{r}_{shift}", asm=_named(f"{name} {{rd}}, {{rn}}, {{rm}}, {shift} {{amount}}", r),
          where=where, aliases=aliases)  # fmt: skip
    def by_shift(b: A64, rd: XD, rn: X, rm: X, amount: Small) -> None:
        finish(b, rd, b.r(rn, type_), compute(b.r(rm, type_), amount.zext(type_)))


def _logical(sf: str, r: str, type_: Type, opc: str, negated: str, name: str, compute: Callable[[Value, Value], Value]) -> None:
    def finish(b: A64, rd: Value, x: Value, y: Value) -> None:
        result = compute(x, y)
        if opc == "11":
            b.set_flags_logic(result)
        b.set_r(rd, result)

    _shifted(sf, r, type_, f"{opc} 01010", negated, name, finish, 4, _LOGICAL_ALIASES.get(name, []))


def _move(sf: str, r: str, type_: Type) -> None:
    @insn(f"{sf} 01 01010 00 0 rm:5 000000 11111 rd:5", ext="A64", name=f"mov_{r}", asm=f"mov {{rd:{r}}}, {{rm:{r}}}",
          overrides=f"orr_{r}")  # fmt: skip
    def mov(b: A64, rd: XD, rm: X) -> None:
        b.set_r(rd, b.r(rm, type_))


# Add and subtract, with a shifted or an extended register, and with carry.


def _finish(subtracts: bool, sets: bool) -> Callable[[A64, Value, Value, Value], None]:
    def finish(b: A64, rd: Value, x: Value, y: Value) -> None:
        if sets:
            (b.set_flags_sub if subtracts else b.set_flags_add)(x, y)
        b.set_r(rd, x - y if subtracts else x + y)

    return finish


_ADD_SUB: tuple[tuple[str, str, Sequence[Named]], ...] = (
    ("00", "add", []),
    ("01", "adds", [("cmn {rn}, {rm}", rd)]),
    ("10", "sub", [("neg {rd}, {rm}", rn)]),
    ("11", "subs", [("cmp {rn}, {rm}", rd), ("negs {rd}, {rm}", rn)]),
)
_EXTENSIONS: tuple[tuple[str, Type, bool], ...] = (
    ("uxtb", I8, False), ("uxth", I16, False), ("uxtw", I32, False), ("uxtx", I64, False),
    ("sxtb", I8, True), ("sxth", I16, True), ("sxtw", I32, True), ("sxtx", I64, True),
)  # fmt: skip


def _add_sub(sf: str, r: str, type_: Type) -> None:
    for op, name, named in _ADD_SUB:
        finish = _finish(op[0] == "1", op[1] == "1")
        _shifted(sf, r, type_, f"{op} 01011", "0", name, finish, 3, named)
        for number, (extension, narrow, signed) in enumerate(_EXTENSIONS):
            _extended(sf, r, type_, op, name, number, extension, narrow, signed)
        _with_carry(sf, r, type_, op, {"add": "adc", "adds": "adcs", "sub": "sbc", "subs": "sbcs"}[name])


def _both(first: Callable[[int], bool], second: Callable[[int], bool]) -> Callable[[int], bool]:
    return lambda word: first(word) and second(word)


def _extended(
    sf: str, r: str, type_: Type, op: str, name: str, number: int, extension: str, narrow: Type, signed: bool
) -> None:
    sets = op[1] == "1"
    finish = _finish(op[0] == "1", sets)
    m = "x" if number & 3 == 3 and sf == "1" else "w"
    # Beside the stack pointer, what changes nothing is written as a shift.
    whole = number == (3 if sf == "1" else 2)
    operands = [f"{{rd:{r}}}", f"{{rn:{r}}}", f"{{rm:{m}}}"]
    compare = {"adds": "cmn", "subs": "cmp"}.get(name)

    def texts(end: str) -> list[str]:
        found = [f"{name} {', '.join(operands)}{end}"]
        return [*found, f"{compare} {', '.join(operands[1:])}{end}"] if compare else [*found, ""]

    def near_sp(w: int) -> bool:
        return whole and (rn(w) == 31 or (not sets and rd(w) == 31))

    def plain(w: int) -> bool:
        return not w >> 10 & 7

    ends: list[Alias] = [
        ("", lambda w: near_sp(w) and plain(w)),
        (", lsl {amount}", near_sp),
        (f", {extension}", plain),
        (f", {extension} {{amount}}", lambda w: True),
    ]
    aliases: list[Alias] = []
    for end, right in ends:
        text, short = texts(end)
        if short:
            aliases.append((short, _both(_is_31(rd), right)))
        aliases.append((text, right))

    @insn(f"{sf} {op} 01011 00 1 rm:5 {number:03b} amount:3 rn:5 rd:5", ext="A64", name=f"{name}_{r}_{extension}",
          asm=texts("")[0], aliases=aliases, where={"amount": "!= 5 6 7"}, kinds={} if sets else {"rd": "XSPD"})  # fmt: skip
    def extended(b: A64, rd: XD, rn: XSP, rm: X, amount: Small) -> None:
        value = b.x(rm) if narrow is I64 or (narrow is I32 and type_ is I32) else b.r(rm, narrow)
        if value.type is I64:
            value = value.trunc(type_)
        else:
            value = value.sext(type_) if signed else value.zext(type_)
        finish(b, rd, b.r(rn, type_), value << amount.zext(type_))


def _with_carry(sf: str, r: str, type_: Type, op: str, name: str) -> None:
    alias = {"sbc": "ngc", "sbcs": "ngcs"}.get(name)

    @insn(f"{sf} {op} 11010000 rm:5 000000 rn:5 rd:5", ext="A64", name=f"{name}_{r}",
          asm=f"{name} {{rd:{r}}}, {{rn:{r}}}, {{rm:{r}}}",
          aliases=[(f"{alias} {{rd:{r}}}, {{rm:{r}}}", lambda w: rn(w) == 31)] if alias else [])  # fmt: skip
    def with_carry(b: A64, rd: XD, rn: X, rm: X) -> None:
        x, y, carry = b.r(rn, type_), b.r(rm, type_), b.flags().carry()
        if op[0] == "1":
            y = ~y
        partial = x + y
        result = partial + carry.zext(type_)
        if op[1] == "1":
            out = partial.ult(x) | result.ult(partial)
            flags = Bits(result.slt(0), result.eq(0), out, ((x ^ result) & (y ^ result)).slt(0))
            b.set_nzcv(flags.nzcv(), flags)
        b.set_r(rd, result)


for _sf, _r, _type in SIZES:
    for _opc, _negated, _name, _compute in _LOGICAL:
        _logical(_sf, _r, _type, _opc, _negated, _name, _compute)
    _move(_sf, _r, _type)
    _add_sub(_sf, _r, _type)


# Flags from a register.


@insn("1 0 1 11010000 amount:6 00001 rn:5 0 mask:4", ext="FlagM", asm="rmif {rn}, {amount}, {mask}")
def rmif(b: A64, rn: X, amount: Small, mask: Small) -> None:
    chosen = mask.zext(I64) << 28
    new = b.x(rn).rotr(amount.zext(I64)) << 28
    b.set_nzcv((b.flags().nzcv() & ~chosen) | (new & chosen))


def _set_flags(bits: str, type_: Type) -> None:
    @insn(f"0 0 1 11010000 000000 {bits} 0010 rn:5 0 1101", ext="FlagM", asm=f"setf{type_.bits} {{rn:w}}")
    def setf(b: A64, rn: X) -> None:
        x = b.x(rn)
        top = x.bit(type_.bits - 1)
        flags = Bits(top, x.trunc(type_).eq(0), b.flags().carry(), top ^ x.bit(type_.bits))
        b.set_nzcv(flags.nzcv(), flags)


_set_flags("0", I8)
_set_flags("1", I16)


# Conditional compare: the flags of a comparison, or given ones.


def _conditional_compare(sf: str, r: str, type_: Type, op: str, name: str) -> None:
    subtracts = op == "1"

    def compare(b: A64, x: Value, y: Value, cond: Value, nzcv: Value) -> None:
        raw = nzcv.zext(I64) << 28
        holds = b.condition(cond)
        wide = 0 if type_ is I64 else 2
        b.set("cc_x", b.select(holds, x.zext(I64), raw))
        b.set("cc_y", y.zext(I64))
        b.set("cc_k", b.select(holds, b.const(I64, int(subtracts) + wide), 4))
        b.source = Choice(holds, Difference(x, y) if subtracts else Sum(x, y), Raw(raw))

    @insn(f"{sf} {op} 1 11010010 rm:5 cond:4 0 0 rn:5 0 nzcv:4", ext="A64", name=f"{name}_{r}",
          asm=f"{name} {{rn:{r}}}, {{rm:{r}}}, {{nzcv:hex}}, {{cond}}")  # fmt: skip
    def by_register(b: A64, rn: X, rm: X, cond: Cond, nzcv: Small) -> None:
        compare(b, b.r(rn, type_), b.r(rm, type_), cond, nzcv)

    @insn(f"{sf} {op} 1 11010010 imm:5 cond:4 1 0 rn:5 0 nzcv:4", ext="A64", name=f"{name}_{r}_imm",
          asm=f"{name} {{rn:{r}}}, {{imm:hex}}, {{nzcv:hex}}, {{cond}}")  # fmt: skip
    def by_immediate(b: A64, rn: X, imm: Small, cond: Cond, nzcv: Small) -> None:
        compare(b, b.r(rn, type_), imm.zext(type_), cond, nzcv)


# Conditional select: a handler for each condition.

_SELECTS: tuple[tuple[str, str, str, str, str, Callable[[Value], Value]], ...] = (
    ("0", "0", "csel", "", "", lambda y: y),
    ("0", "1", "csinc", "cset", "cinc", lambda y: y + 1),
    ("1", "0", "csinv", "csetm", "cinv", lambda y: ~y),
    ("1", "1", "csneg", "", "cneg", lambda y: -y),
)


def _select(sf: str, r: str, type_: Type, number: int, op: str, low: str, name: str, of_zero: str, of_same: str,
            change: Callable[[Value], Value]) -> None:  # fmt: skip
    aliases: list[Alias] = []
    if number < 14 and of_zero:
        aliases.append((f"{of_zero} {{rd:{r}}}, {CONDITIONS[number ^ 1]}", lambda w: rn(w) == rm(w) == 31))
    if number < 14 and of_same:
        aliases.append((f"{of_same} {{rd:{r}}}, {{rn:{r}}}, {CONDITIONS[number ^ 1]}",
                        lambda w: rn(w) == rm(w) and (rn(w) != 31 or name == "csneg")))  # fmt: skip

    @insn(f"{sf} {op} 0 11010100 rm:5 {number:04b} 0 {low} rn:5 rd:5", ext="A64", name=f"{name}_{r}_{CONDITIONS[number]}",
          asm=f"{name} {{rd:{r}}}, {{rn:{r}}}, {{rm:{r}}}, {CONDITIONS[number]}", aliases=aliases)  # fmt: skip
    def select(b: A64, rd: XD, rn: X, rm: X) -> None:
        b.set_r(rd, b.select(b.condition(number), b.r(rn, type_), change(b.r(rm, type_))))


for _sf, _r, _type in SIZES:
    _conditional_compare(_sf, _r, _type, "0", "ccmn")
    _conditional_compare(_sf, _r, _type, "1", "ccmp")
    for _op, _low, _name, _of_zero, _of_same, _change in _SELECTS:
        for _number in range(16):
            _select(_sf, _r, _type, _number, _op, _low, _name, _of_zero, _of_same, _change)


# Three sources.


def _multiply(sf: str, r: str, type_: Type) -> None:
    for o0, name, short in (("0", "madd", "mul"), ("1", "msub", "mneg")):
        _multiply_add(f"{sf} 00 11011 000 rm:5 {o0} ra:5 rn:5 rd:5", name, short, r, type_)

    @insn(f"{sf} 00 11011 000 rm:5 0 11111 rn:5 rd:5", ext="A64", name=f"mul_{r}", asm=f"mul {{rd:{r}}}, {{rn:{r}}}, {{rm:{r}}}",
          overrides=f"madd_{r}")  # fmt: skip
    def mul(b: A64, rd: XD, rn: X, rm: X) -> None:
        b.set_r(rd, b.r(rn, type_) * b.r(rm, type_))


def _multiply_add(pattern: str, name: str, short: str, r: str, type_: Type) -> None:
    @insn(pattern, ext="A64", name=f"{name}_{r}", asm=_named(f"{name} {{rd}}, {{rn}}, {{rm}}, {{ra}}", r),
          aliases=[(_named(f"{short} {{rd}}, {{rn}}, {{rm}}", r), lambda w: w >> 10 & 31 == 31)])  # fmt: skip
    def multiply_add(b: A64, rd: XD, rn: X, rm: X, ra: X) -> None:
        product = b.r(rn, type_) * b.r(rm, type_)
        b.set_r(rd, b.r(ra, type_) - product if name == "msub" else b.r(ra, type_) + product)


def _multiply_long(op: str, o0: str, name: str, short: str) -> None:
    @insn(f"1 00 11011 {op} rm:5 {o0} ra:5 rn:5 rd:5", ext="A64", name=name, asm=f"{name} {{rd}}, {{rn:w}}, {{rm:w}}, {{ra}}",
          aliases=[(f"{short} {{rd}}, {{rn:w}}, {{rm:w}}", lambda w: w >> 10 & 31 == 31)])  # fmt: skip
    def multiply_long(b: A64, rd: XD, rn: X, rm: X, ra: X) -> None:
        x, y = b.r(rn, I32), b.r(rm, I32)
        product = x.sext(I64) * y.sext(I64) if name[0] == "s" else x.zext(I64) * y.zext(I64)
        b.set_x(rd, b.x(ra) - product if o0 == "1" else b.x(ra) + product)


def _multiply_high(op: str, name: str) -> None:
    @insn(f"1 00 11011 {op} rm:5 0 _:5 rn:5 rd:5", ext="A64", asm=f"{name} {{rd}}, {{rn}}, {{rm}}")
    def multiply_high(b: A64, rd: XD, rn: X, rm: X) -> None:
        x, y = b.x(rn), b.x(rm)
        product = x.sext(I128) * y.sext(I128) if name[0] == "s" else x.zext(I128) * y.zext(I128)
        b.set_x(rd, (product >> 64).trunc(I64))


for _sf, _r, _type in SIZES:
    _multiply(_sf, _r, _type)
_multiply_long("001", "0", "smaddl", "smull")
_multiply_long("001", "1", "smsubl", "smnegl")
_multiply_long("101", "0", "umaddl", "umull")
_multiply_long("101", "1", "umsubl", "umnegl")
_multiply_high("010", "smulh")
_multiply_high("110", "umulh")
