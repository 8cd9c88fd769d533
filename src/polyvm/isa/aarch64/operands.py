"""Operand kinds of A64 instructions, and the set that collects the instructions.

Instruction files import `insn`, `expand` and the kinds: each kind is a `Value` in a body, and its name says to the
decoder how the operand is found.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeAlias

from polyvm.ir import I8, I32, I64, Builder, Value
from polyvm.isa.aarch64.flags import NAMES as CONDITIONS
from polyvm.isa.aarch64.state import V_NAMES, X_SINK, X_ZERO
from polyvm.isa.insn import InstructionSet, Kind, register_kind

if TYPE_CHECKING:
    from polyvm.isa.insn import Show

Float16: TypeAlias = Value  # fmov's immediate: the bits of a number (i64)
Float32: TypeAlias = Value
Float64: TypeAlias = Value  # their upper half
X: TypeAlias = Value  # general register that is read: 31 is zero
XD: TypeAlias = Value  # general register that is written: 31 is the sink
XSP: TypeAlias = Value  # general register that is read: 31 is the stack pointer
XSPD: TypeAlias = Value  # the same, written
V: TypeAlias = Value  # SIMD and floating-point register that is read
VD: TypeAlias = Value  # the same, written
SImm: TypeAlias = Value  # immediate (i64), sign-extended from the top bit of its field
UImm: TypeAlias = Value  # immediate (i64), zero-extended
Small: TypeAlias = Value  # unsigned immediate of at most 8 bits (i8); it leaves room for six more operands of a byte
Cond: TypeAlias = Value  # condition (i8)
Left32: TypeAlias = Value  # of the bitfield instructions' immr:imms: how far to shift left first (i8)
Left64: TypeAlias = Value
Right32: TypeAlias = Value  # and how far to shift right then
Right64: TypeAlias = Value
Turn: TypeAlias = Value  # their immr (i8)
Shr8: TypeAlias = Value  # of SIMD shifts right of elements of 8 bits: how far, 1 to 8 (i8)
Shr16: TypeAlias = Value
Shr32: TypeAlias = Value
Shr64: TypeAlias = Value
Mask: TypeAlias = Value  # of the logical instructions' immr:imms with N = 0: 32 bits of the repeated pattern (i64, sign-extended)


def _zero(b: Builder, field: Value) -> Value:
    return b.select(field.eq(31), X_ZERO, field).trunc(I8)


def _sink(b: Builder, field: Value) -> Value:
    return b.select(field.eq(31), X_SINK, field).trunc(I8)


def _left(bits: int) -> Kind:
    def transform(b: Builder, field: Value) -> Value:
        return (b.const(I32, bits - 1) - (field & bits - 1)).trunc(I8)

    return Kind(f"Left{bits}", I8, "reg", _decimal, transform=transform)


def _right(bits: int) -> Kind:
    def transform(b: Builder, field: Value) -> Value:
        immr, imms = field >> bits.bit_length() - 1, field & bits - 1
        return (immr - imms - 1 & bits - 1).trunc(I8)

    return Kind(f"Right{bits}", I8, "reg", _decimal, transform=transform)


def _mask(b: Builder, field: Value) -> Value:
    """DecodeBitMasks (J1.1.3) for N = 0: a pattern of `size` bits, R to the right of S + 1 ones, repeated."""
    immr, imms = field >> 6 & 63, field & 63
    length = b.const(I32, 31) - (~imms & 63).clz()
    size = b.const(I32, 1) << length
    s, r = imms & size - 1, immr & size - 1
    ones = (b.const(I32, 2) << s) - 1
    turned = (ones >> r | ones << (size - r & 31)) & b.const(I32, -1) >> (b.const(I32, 32) - size & 31)
    for double in range(4):
        distance = size << double
        turned = b.select(distance.ult(32), turned | turned << (distance & 31), turned)
    return turned.sext(I64)


def _float(bits: int, high: int, step: int) -> Kind:
    """VFPExpandImm: a sign, an exponent of which all but three bits depend on one, four bits of the fraction."""

    def transform(b: Builder, field: Value) -> Value:
        exponent = b.select((field >> 6 & 1).ne(0), b.const(I32, high), 1 << 30 if bits > 16 else 1 << 14)
        sign = (field >> 7 & 1) << (31 if bits > 16 else 15)
        return (sign | exponent | (field & 63) << step).sext(I64)

    def show(value: int, pc: int) -> str:
        raw = (value << 32 if bits == 64 else value) & (1 << bits) - 1
        number: float = struct.unpack({64: "<d", 32: "<f", 16: "<e"}[bits], raw.to_bytes(bits // 8, "little"))[0]
        return f"#{number:.18e}"

    return Kind(f"Float{bits}", I64, "imm", show, signed=True, transform=transform)


def _shift_right(bits: int) -> Kind:
    return Kind(f"Shr{bits}", I8, "reg", _decimal, transform=lambda b, field: (b.const(I32, bits) - field).trunc(I8))


def _decimal(value: int, pc: int) -> str:
    return f"#{value}"


def _hex(value: int, pc: int) -> str:
    return f"#{value:#x}"


def _target(value: int, pc: int) -> str:
    return f"{pc + value & I64.mask:#x}"


def _offset(value: int, pc: int) -> str:
    return f", #{value}" if value else ""


def _float8(value: int, pc: int) -> str:
    number = (16 + (value & 15)) / 16 * 2.0 ** ((value >> 4 & 7 ^ 4) - 3)
    return f"#{-number if value & 128 else number:.18e}"


def _prefetch(value: int, pc: int) -> str:
    kind, level, policy = value >> 3, value >> 1 & 3, value & 1
    if kind == 3 or level == 3:
        return f"#{value:#04x}"
    return f"{('pld', 'pli', 'pst')[kind]}l{level + 1}{('keep', 'strm')[policy]}"


HINTS = dict(enumerate("nop yield wfe wfi sev sevl".split())) | {7: "xpaclri", 8: "pacia1716"} | {
    22: "clearbhb", 10: "pacib1716", 12: "autia1716", 14: "autib1716", 16: "esb", 17: "psb csync", 18: "tsb csync", 20: "csdb",
    24: "paciaz", 25: "paciasp", 26: "pacibz", 27: "pacibsp", 28: "autiaz", 29: "autiasp", 30: "autibz", 31: "autibsp",
    32: "bti", 34: "bti c", 36: "bti j", 38: "bti jc",
}  # fmt: skip
BARRIERS = ("", "oshld", "oshst", "osh", "", "nshld", "nshst", "nsh", "", "ishld", "ishst", "ish", "", "ld", "st", "sy")
W_READ = [*(f"w{i}" for i in range(31)), "wsp", "wzr", "wzr"]
X_READ = [*(f"x{i}" for i in range(31)), "sp", "xzr", "xzr"]

KINDS = {
    kind.name: kind
    for kind in (
        register_kind("X", X_READ, _zero),
        register_kind("XD", X_READ, _sink),
        register_kind("XSP", X_READ),
        register_kind("XSPD", X_READ),
        register_kind("V", V_NAMES),
        register_kind("VD", V_NAMES),
        Kind("SImm", I64, "imm", _decimal, signed=True),
        Kind("UImm", I64, "imm", _hex),
        Kind("Small", I8, "reg", _decimal),
        Kind("Cond", I8, "reg", lambda value, pc: CONDITIONS[value]),
        Kind("Mask", I64, "imm", _hex, signed=True, transform=_mask),
        _float(64, 0x3FC0_0000, 16), _float(32, 0x3E00_0000, 19), _float(16, 0x3000, 6),
        Kind("Turn", I8, "reg", _decimal, transform=lambda b, field: (field >> 6 & 63).trunc(I8)),
        _left(32), _left(64), _right(32), _right(64),
        *(_shift_right(bits) for bits in (8, 16, 32, 64)),
    )
}  # fmt: skip



FORMATS: dict[str, Show] = {
    # names of general registers, of operands …
    "w": lambda value, pc: W_READ[value],
    "x": lambda value, pc: X_READ[value],
    # … and of fields
    "wf": lambda value, pc: f"w{value}" if value < 31 else "wzr",
    "xf": lambda value, pc: f"x{value}" if value < 31 else "xzr",
    # the target of a branch, of adrp
    "pc": _target,
    "page": lambda value, pc: f"{(pc & ~0xFFF) + (value << 12) & I64.mask:#x}",
    "hex": _hex,
    "dec": _decimal,
    # the bits of a fraction
    "fraction32": lambda value, pc: f"#{32 - value}",
    "fraction64": lambda value, pc: f"#{64 - value}",
    # an immediate that was shifted
    "lsl12": lambda value, pc: f"#{value >> 12:#x}, lsl #12",
    # a condition and its opposite
    "cond": lambda value, pc: CONDITIONS[value],
    "inverse": lambda value, pc: CONDITIONS[value ^ 1],
    # an offset in brackets: nothing for 0
    "offset": _offset,
    # fields that are no operands
    "spf": lambda value, pc: X_READ[value],
    "offset9": lambda value, pc: _offset((value ^ 0x100) - 0x100, pc),
    "pc21": lambda value, pc: _target((value ^ 1 << 20) - (1 << 20), pc),
    "prfop": _prefetch,
    # the number of an element
    "index": lambda value, pc: str(value),
    # an immediate of 8 bits as a floating-point number
    "float8": _float8,
    # how far complex numbers are turned
    "turn90": lambda value, pc: f"#{90 * value}",
    "turn180": lambda value, pc: f"#{90 + 180 * value}",
    # each of 8 bits as a byte
    "bytes8": lambda value, pc: f"#{sum(255 << 8 * i for i in range(8) if value >> i & 1):#x}",
    "hint": lambda value, pc: HINTS.get(value, f"hint #{value:#x}"),
    "barrier": lambda value, pc: BARRIERS[value] or f"#{value:#04x}",
    # the orders of atomic instructions, from their A and R bits, or L and o0
    "order": lambda value, pc: ("", "l", "a", "al")[value],
    "acquire": lambda value, pc: "a" if value else "",
    "release": lambda value, pc: "l" if value else "",
}


def _scalar_format(letter: str) -> Show:
    return lambda value, pc: f"{letter}{value}"


# names of SIMD and floating-point registers of one width
FORMATS.update({letter: _scalar_format(letter) for letter in "bhsdq"})


def _list_format(count: int, step: str) -> Show:
    def show(value: int, pc: int) -> str:
        last = value + count - 1
        if count > 2 and last < 32:
            return f"{{v{value}.{step}-v{last}.{step}}}"
        return "{" + ", ".join(f"v{(value + i) % 32}.{step}" for i in range(count)) + "}"

    return show


# lists of registers
FORMATS.update({
    f"list{count}_{step}": _list_format(count, step)
    for count in range(1, 5)
    for step in ("8b", "16b", "4h", "8h", "2s", "4s", "1d", "2d", "b", "h", "s", "d")
})

def _repeated(value: int, bits: int) -> str:
    low = KINDS["Mask"].convert(value, 12) & 0xFFFF_FFFF
    return f"#{low | low << 32 if bits == 64 else low:#x}"


def _ones(value: int, pc: int) -> str:
    ones, turn = (2 << (value & 63)) - 1, value >> 6
    return f"#{(ones >> turn | ones << (64 - turn)) & I64.mask:#x}"


def _bitfield_formats(bits: int) -> dict[str, Show]:
    """Of immr:imms: what sbfx, sbfiz and shifts have."""

    def insert(value: int, pc: int) -> str:
        return f"#{-(value // bits) % bits}, #{value % bits + 1}"

    def extract(value: int, pc: int) -> str:
        return f"#{value // bits}, #{value % bits - value // bits + 1}"

    return {
        f"insert{bits}": insert,
        f"extract{bits}": extract,
        f"immr{bits}": lambda value, pc: f"#{value // bits}",
        f"lsl{bits}": lambda value, pc: f"#{bits - 1 - value % bits}",
        f"mask{bits}": lambda value, pc: _repeated(value, bits),
        f"ones{bits}": _ones,
    }


def _wide_formats(bits: int) -> dict[str, Show]:
    """What a move of 16 bits moves, in full."""
    found: dict[str, Show] = {}
    for hw in range(bits // 16):

        def movz(value: int, pc: int, hw: int = hw) -> str:
            return f"#{value << 16 * hw:#x}"

        def movn(value: int, pc: int, hw: int = hw) -> str:
            full = ~(value << 16 * hw) & (1 << bits) - 1
            return f"#{full:#x}"

        found |= {f"movz{bits}_{hw}": movz, f"movn{bits}_{hw}": movn}
    return found


for _bits in (32, 64):
    FORMATS.update(_bitfield_formats(_bits) | _wide_formats(_bits))

SET = InstructionSet("aarch64", KINDS, FORMATS)
insn = SET.insn
expand = SET.expand
