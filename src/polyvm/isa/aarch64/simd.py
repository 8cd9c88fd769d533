"""What the bodies of Advanced SIMD instructions share: arrangements, registers as vectors, saturation.

A body reads whole registers, whatever the arrangement, computes on 128 bits, and keeps the bits that the arrangement has: the
host has no shorter vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I8, I128, Type

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64

    Unary = Callable[[A64, Value], Value]
    Binary = Callable[[A64, Value, Value], Value]
    Ternary = Callable[[A64, Value, Value, Value], Value]
    # a result, and what is not 0 where it was saturated
    Saturated = tuple[Value, Value]
    SaturatingUnary = Callable[[A64, Value], Saturated]
    SaturatingBinary = Callable[[A64, Value, Value], Saturated]


class Arrangement:
    """Lanes of a register (C1.2.5, "8B" …), or one lane, a scalar: `bits` of each, `keep` bits in all, the encoding's fields `q`
    and `size`, the name with and without a dot."""

    __slots__ = ("bits", "keep", "q", "size", "text")

    def __init__(self, text: str, bits: int, keep: int) -> None:
        self.text = text
        self.bits = bits
        self.keep = keep
        self.q = "1" if keep == 128 else "0"
        self.size = f"{bits.bit_length() - 4:02b}" if bits < 128 else ""

    @property
    def type(self) -> Type:
        """A whole register as lanes of this size."""
        return Type("int", self.bits, 128 // self.bits)

    @property
    def kept(self) -> Type:
        """The lanes that count."""
        return Type("int", self.bits, self.keep // self.bits)

    @property
    def lanes(self) -> int:
        """How many lanes count."""
        return self.keep // self.bits

    @property
    def wide(self) -> Type:
        """128 bits of lanes twice the size."""
        return Type("int", 2 * self.bits, 64 // self.bits)

    @property
    def scalar(self) -> bool:
        """True for one lane."""
        return self.keep == self.bits

    def __repr__(self) -> str:
        return self.text

    def register(self, name: str) -> str:
        """The text of a register operand in an assembly template."""
        return f"{{{name}:{self.text}}}" if self.scalar else f"{{{name}}}.{self.text}"


B8, B16 = Arrangement("8b", 8, 64), Arrangement("16b", 8, 128)
H4, H8 = Arrangement("4h", 16, 64), Arrangement("8h", 16, 128)
S2, S4 = Arrangement("2s", 32, 64), Arrangement("4s", 32, 128)
D2 = Arrangement("2d", 64, 128)
SB, SH, SS, SD = Arrangement("b", 8, 8), Arrangement("h", 16, 16), Arrangement("s", 32, 32), Arrangement("d", 64, 64)
B, H, S, D = (B8, B16), (H4, H8), (S2, S4), (D2,)
BHS, BHSD, HS = (*B, *H, *S), (*B, *H, *S, *D), (*H, *S)
SCALARS = (SB, SH, SS, SD)
WIDER = {8: (H8, SH), 16: (S4, SS), 32: (D2, SD)}  # by the bits of an element: the vector and the scalar of twice the size


def lanes_of(bits: int) -> Type:
    """A whole register as lanes of `bits` bits."""
    return Type("int", bits, 128 // bits)


def read(b: A64, register: Value, type_: Type) -> Value:
    """A register as a vector of 128 bits."""
    return b.get("v", register).bitcast(type_)


def kept(b: A64, value: Value, keep: int) -> Value:
    """The low `keep` bits of a vector of 128 bits, as an i128."""
    if keep == 128:
        return value.bitcast(I128)
    lanes = value.bitcast(lanes_of(keep))
    count = lanes.type.lanes
    return b.shuffle(lanes, b.const(lanes.type, 0), [0, *range(count, 2 * count - 1)]).bitcast(I128)


def write(b: A64, register: Value, value: Value, keep: int = 128) -> None:
    """Write the low `keep` bits of a vector to a register; the rest becomes 0. A shorter vector is extended."""
    total = value.type.total_bits
    if total < 128:
        value, keep = extend(b, value), min(keep, total)
        if keep == total:
            b.set("v", value.bitcast(I128), register)
            return
    b.set("v", kept(b, value, keep), register)


def extend(b: A64, value: Value) -> Value:
    """A vector or scalar as the low part of a vector of 128 bits that is 0 elsewhere."""
    if value.type.lanes == 1:
        type_ = Type(value.type.kind, value.type.bits, 128 // value.type.bits)
        return b.with_lane(b.const(type_, 0), 0, value)
    while value.type.total_bits < 128:
        value = b.shuffle(value, b.const(value.type, 0), range(2 * value.type.lanes))
    return value


def note(b: A64, difference: Value, keep: int = 128) -> None:
    """FPSR.QC becomes set if the low `keep` bits of a vector are not 0."""
    b.set("qc", b.get("qc") | kept(b, difference, keep))


def low(b: A64, value: Value) -> Value:
    """The lower half of a vector."""
    return b.shuffle(value, value, range(value.type.lanes // 2))


def high(b: A64, value: Value) -> Value:
    """The upper half of a vector."""
    return b.shuffle(value, value, range(value.type.lanes // 2, value.type.lanes))


def half(b: A64, value: Value, upper: bool) -> Value:
    """The half that a long instruction takes; the names of those for the upper one end in 2."""
    return high(b, value) if upper else low(b, value)


def join(b: A64, lower: Value, upper: Value) -> Value:
    """Two vectors as one of twice the length."""
    return b.shuffle(lower, upper, range(2 * lower.type.lanes))


def even(b: A64, n: Value, m: Value | None = None) -> Value:
    """The even lanes of one vector or of two, one after the other."""
    count = n.type.lanes if m is None else 2 * n.type.lanes
    return b.shuffle(n, n if m is None else m, range(0, count, 2))


def odd(b: A64, n: Value, m: Value | None = None) -> Value:
    """The odd lanes."""
    count = n.type.lanes if m is None else 2 * n.type.lanes
    return b.shuffle(n, n if m is None else m, range(1, count, 2))


def widened(value: Value, signed: bool) -> Value:
    """Each lane with twice the bits."""
    type_ = Type("int", 2 * value.type.bits, value.type.lanes)
    return value.sext(type_) if signed else value.zext(type_)


def narrowed(value: Value) -> Value:
    """The low half of each lane."""
    return value.trunc(Type("int", value.type.bits // 2, value.type.lanes))


def mask(b: A64, condition: Value, type_: Type) -> Value:
    """All ones in the lanes where a comparison holds, else 0."""
    return condition.sext(type_)


def splat(b: A64, x: Value, type_: Type) -> Value:
    """`x`, an integer, extended without sign or cut to the lanes of `type_`, in all of them."""
    element = type_.element
    x = x.trunc(element) if x.type.bits > element.bits else x.zext(element)
    return b.splat(x, type_.lanes)


def element(b: A64, register: Value, index: Value, type_: Type) -> Value:
    """One element of a register in all lanes."""
    return b.splat(b.lane(read(b, register, type_), index), type_.lanes)


def reduce(b: A64, value: Value, lanes: int, op: Binary) -> Value:
    """`op` over the first `lanes` lanes, pairs of halves first, as a scalar."""
    while lanes > 1:
        lanes //= 2
        order = [*range(lanes, 2 * lanes), *range(2 * lanes, value.type.lanes), *range(lanes)]
        value = op(b, value, b.shuffle(value, value, order))
    return b.lane(value, 0)


def table_of(b: A64, data: bytes, index: Value) -> Value:
    """The entries of a table of 256 bytes that the bytes of `index` (v16i8) name."""
    found = None
    for row in range(16):
        part = b.const(I8.vector(16), int.from_bytes(data[16 * row : 16 * row + 16], "little"))
        entry = b.tbl(part, index - 16 * row)
        found = entry if found is None else found | entry
    assert found is not None
    return found
