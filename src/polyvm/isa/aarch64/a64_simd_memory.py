"""Advanced SIMD: loads and stores of structures, several or one, with and without post-index (Arm ARM, C4.1.95).

A structure is an element for each register. All is loaded before a register is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import Type
from polyvm.isa.aarch64.operands import XSP, Small, V, X, expand, insn
from polyvm.isa.aarch64.simd import BHSD, SCALARS, Arrangement, even, extend, join, odd, read, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.insn import Insn

    # accesses registers from this one on, at an address; with the number of an element or without
    Access = Callable[[A64, Value, Value], None]
    AccessOne = Callable[[A64, Value, Value, Value], None]

_D1 = Arrangement("1d", 64, 64)


def following(first: Value, i: int) -> Value:
    """The register `i` after the first of a list, which goes on with v0 after v31."""
    return (first + i) & 31 if i else first


def _split(b: A64, rows: list[Value], count: int) -> list[Value]:
    """The registers from what lies in memory: element after element of one structure after the other. `rows` are of 128 bits;
    the registers have as many bits as memory has for them."""
    if count == 3:
        if len(rows) == 2:
            return [b.shuffle(rows[0], rows[1], range(i, 3 * rows[0].type.lanes // 2, 3)) for i in range(3)]
        lower, upper = join(b, rows[0], rows[1]), join(b, rows[2], rows[2])
        return [b.shuffle(lower, upper, range(i, 3 * rows[0].type.lanes, 3)) for i in range(3)]
    evens, odds = _unzip(b, rows)
    if count == 2:
        return [evens[0], odds[0]]
    first, second = _unzip(b, evens), _unzip(b, odds)
    return [first[0][0], second[0][0], first[1][0], second[1][0]]


def _unzip(b: A64, rows: list[Value]) -> tuple[list[Value], list[Value]]:
    """The even and the odd lanes, of one vector or of pairs of them."""
    if len(rows) == 1:
        return [even(b, rows[0])], [odd(b, rows[0])]
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    return [even(b, n, m) for n, m in pairs], [odd(b, n, m) for n, m in pairs]


def _zip(b: A64, n: Value, m: Value) -> Value:
    """The lanes of two vectors in turn."""
    lanes = n.type.lanes
    return b.shuffle(n, m, [i + j for i in range(lanes) for j in (0, lanes)])


def _merge(b: A64, registers: list[Value]) -> Value:
    """What `_split` takes apart, as one vector."""
    if len(registers) == 2:
        return _zip(b, registers[0], registers[1])
    if len(registers) == 4:
        return _zip(b, _zip(b, registers[0], registers[2]), _zip(b, registers[1], registers[3]))
    lanes = registers[0].type.lanes
    lower, upper = join(b, registers[0], registers[1]), join(b, registers[2], registers[2])
    return b.shuffle(lower, upper, [i + j for i in range(lanes) for j in (0, lanes, 2 * lanes)])


def _load(a: Arrangement, registers: int, count: int) -> Access:
    """`count` elements in a structure, or one: then registers are loaded as they are."""

    def load(b: A64, vt: Value, address: Value) -> None:
        size = registers * a.keep // 8
        if count == 1:
            type_ = Type("int", a.bits, a.lanes)
            values = [b.load(address + i * (a.keep // 8), type_) for i in range(registers)]
        else:
            rows = [b.load(address + at, a.type) for at in range(0, size & ~15, 16)]
            if size & 8:
                rows.append(extend(b, b.load(address + (size - 8), Type("int", a.bits, a.lanes))))
            values = _split(b, rows, count)
        for i, value in enumerate(values):
            write(b, following(vt, i), value)

    return load


def _store(a: Arrangement, registers: int, count: int) -> Access:
    def store(b: A64, vt: Value, address: Value) -> None:
        values = [read(b, following(vt, i), a.type) for i in range(registers)]
        if a.keep == 64:
            values = [b.shuffle(value, value, range(a.lanes)) for value in values]
        if count == 1:
            for i, value in enumerate(values):
                b.store(address + i * (a.keep // 8), value)
            return
        merged = _merge(b, values)
        lanes = a.type.lanes
        for start in range(0, merged.type.lanes, lanes):
            end = min(start + lanes, merged.type.lanes)
            b.store(address + start * (a.bits // 8), b.shuffle(merged, merged, range(start, end)))

    return store


class Where:
    """What an encoding has around base and index: the fields `q`, `single` ("1" for one structure), the load bit, R, and the
    last fields."""

    __slots__ = ("load", "q", "r", "rest", "single")

    def __init__(self, q: str, single: str, load: str, r: str, rest: str) -> None:
        self.q = q
        self.single = single
        self.load = load
        self.r = r
        self.rest = rest

    def pattern(self, post: str, rm: str) -> str:
        """The encoding."""
        return f"0 {self.q} 00110{self.single}{post} {self.load} {self.r} {rm} {self.rest} rn:5 vt:5"

    def patterns(self) -> tuple[str, str, str]:
        """Without post-index, by the size, by a register."""
        return self.pattern("0", "00000"), self.pattern("1", "11111"), self.pattern("1", "rm:5")


def _texts(name: str, size: int) -> tuple[str, str, str]:
    """The templates of the same."""
    return f"{name}, [{{rn}}]", f"{name}, [{{rn}}], #{size}", f"{name}, [{{rn}}], {{rm}}"


def _labels(name: str) -> tuple[str, str, str]:
    label = name.replace(" {vt:list", "_").replace("[{place:index}]", "_one").replace("}", "")
    return label, f"{label}_post", f"{label}_post_register"


def _forms(name: str, where: Where, access: Access, size: int) -> tuple[Insn, Insn, Insn]:
    """The instruction alone, and with the base register written after it: by `size` bytes, by a register."""
    kinds = {"vt": "VD"} if where.load == "1" else {}
    patterns, texts, labels = where.patterns(), _texts(name, size), _labels(name)

    @insn(patterns[0], ext="AdvSIMD", name=labels[0], asm=texts[0], kinds=kinds)
    def alone(b: A64, vt: V, rn: XSP) -> None:
        access(b, vt, b.x(rn))

    @insn(patterns[1], ext="AdvSIMD", name=labels[1], asm=texts[1], kinds=kinds)
    def by_size(b: A64, vt: V, rn: XSP) -> None:
        address = b.x(rn)
        access(b, vt, address)
        b.set_x(rn, address + size)

    @insn(patterns[2], ext="AdvSIMD", name=labels[2], asm=texts[2], where={"rm": "!= 31"}, kinds=kinds)
    def by_register(b: A64, vt: V, rn: XSP, rm: X) -> None:
        address, step = b.x(rn), b.x(rm)
        access(b, vt, address)
        b.set_x(rn, address + step)

    return alone, by_size, by_register


def _forms_one(name: str, where: Where, access: AccessOne, size: int) -> None:
    """The same for one structure, whose elements have a number in their registers."""
    kinds = {"vt": "VD"} if where.load == "1" else {}
    patterns, texts, labels = where.patterns(), _texts(name, size), _labels(name)

    @insn(patterns[0], ext="AdvSIMD", name=labels[0], asm=texts[0], kinds=kinds)
    def alone(b: A64, vt: V, rn: XSP, place: Small) -> None:
        access(b, vt, b.x(rn), place)

    @insn(patterns[1], ext="AdvSIMD", name=labels[1], asm=texts[1], kinds=kinds)
    def by_size(b: A64, vt: V, rn: XSP, place: Small) -> None:
        address = b.x(rn)
        access(b, vt, address, place)
        b.set_x(rn, address + size)

    @insn(patterns[2], ext="AdvSIMD", name=labels[2], asm=texts[2], where={"rm": "!= 31"}, kinds=kinds)
    def by_register(b: A64, vt: V, rn: XSP, place: Small, rm: X) -> None:
        address, step = b.x(rn), b.x(rm)
        access(b, vt, address, place)
        b.set_x(rn, address + step)


def _again(name: str, where: Where, made: tuple[Insn, Insn, Insn], size: int) -> None:
    """The same instructions by another name."""
    patterns, texts, labels = where.patterns(), _texts(name, size), _labels(name)
    for base, pattern, text, label in zip(made[:2], patterns, texts, labels, strict=False):
        expand(pattern, base, ext="AdvSIMD", name=label, asm=text, vt="vt", rn="rn")
    expand(patterns[2], made[2], ext="AdvSIMD", name=labels[2], asm=texts[2], where={"rm": "!= 31"}, vt="vt", rn="rn", rm="rm")


# Several structures: opcode, registers, elements in a structure.
_MULTIPLE = (
    ("0000", 4, 4), ("0010", 4, 1), ("0100", 3, 3), ("0110", 3, 1), ("0111", 1, 1), ("1000", 2, 2), ("1010", 2, 1),
)  # fmt: skip


def _multiple(mnemonic: str, load_bit: str) -> None:
    make = _load if mnemonic == "ld" else _store
    for opcode, registers, count in _MULTIPLE:
        made: dict[str, tuple[Insn, Insn, Insn]] = {}
        for a in (*BHSD, _D1):
            if count > 1 and a is _D1:
                continue
            name, size = f"{mnemonic}{count} {{vt:list{registers}_{a}}}", registers * a.keep // 8
            where = Where(a.q, "0", load_bit, "0", f"{opcode} {a.size}")
            if count == 1 and a.q in made:
                # How a register is divided does not matter.
                _again(name, where, made[a.q], size)
            else:
                made[a.q] = _forms(name, where, make(a, registers, count), size)


_multiple("ld", "1")
_multiple("st", "0")


# One structure, to or from the elements with one number.


def _load_one(a: Arrangement, count: int) -> AccessOne:
    def load(b: A64, vt: Value, address: Value, place: Value) -> None:
        found = [b.load(address + i * (a.bits // 8), a.type.element) for i in range(count)]
        for i, value in enumerate(found):
            register = following(vt, i)
            write(b, register, b.with_lane(read(b, register, a.type), place, value))

    return load


def _store_one(a: Arrangement, count: int) -> AccessOne:
    def store(b: A64, vt: Value, address: Value, place: Value) -> None:
        for i in range(count):
            b.store(address + i * (a.bits // 8), b.lane(read(b, following(vt, i), a.type), place))

    return store


def _load_all(a: Arrangement, count: int) -> Access:
    """LD1R …: one structure, each element to all lanes of its register."""

    def load(b: A64, vt: Value, address: Value) -> None:
        found = [b.load(address + i * (a.bits // 8), a.type.element) for i in range(count)]
        for i, value in enumerate(found):
            write(b, following(vt, i), b.splat(value, a.type.lanes), a.keep)

    return load


# The bits of an element: q, and opcode<2:1>, opcode<0>, S, size.
_PLACES = {
    8: ("place[3]", "00", "place[2:0]"),
    16: ("place[2]", "01", "place[1:0] 0"),
    32: ("place[1]", "10", "place[0] 00"),
    64: ("place:1", "10", "0 01"),
}


def _single(a: Arrangement, count: int) -> None:
    q, opcode, rest = _PLACES[a.bits]
    r, last = str((count - 1) % 2), str((count - 1) // 2)
    size = count * a.bits // 8
    for mnemonic, load_bit, access in (("ld", "1", _load_one(a, count)), ("st", "0", _store_one(a, count))):
        where = Where(q, "1", load_bit, r, f"{opcode}{last} {rest}")
        _forms_one(f"{mnemonic}{count} {{vt:list{count}_{a}}}[{{place:index}}]", where, access, size)


def _replicate(a: Arrangement, count: int) -> None:
    r, last = str((count - 1) % 2), str((count - 1) // 2)
    where = Where(a.q, "1", "1", r, f"11{last} 0 {a.size}")
    _forms(f"ld{count}r {{vt:list{count}_{a}}}", where, _load_all(a, count), count * a.bits // 8)


for _count in range(1, 5):
    for _a in SCALARS:
        _single(_a, _count)
    for _a in (*BHSD, _D1):
        _replicate(_a, _count)
