"""Bit patterns of instruction encodings, written as the manuals draw them.

A pattern is a list of parts, most significant first, 16 or 32 bits in all:

    0110011           fixed bits
    rd:5              a field of 5 bits
    imm[12|10:5]      bits 12 and 10 to 5 of a field that is scattered over several parts; low bits that no part gives are 0
    _:5               bits that do not matter
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.errors import EncodingError
from polyvm.ir import I32

if TYPE_CHECKING:
    from polyvm.ir import Builder, Value


class Field:
    """A field: `pieces` are (lowest bit in the word, bits, lowest bit in the field); `width` counts to its top bit."""

    __slots__ = ("name", "pieces", "width")

    def __init__(self, name: str) -> None:
        self.name = name
        self.pieces: list[tuple[int, int, int]] = []
        self.width = 0

    @property
    def mask(self) -> int:
        """The bits of the word that it takes."""
        return sum(((1 << bits) - 1) << low for low, bits, _ in self.pieces)

    def extract(self, word: int) -> int:
        """Its value in `word`."""
        value = 0
        for low, bits, at in self.pieces:
            value |= (word >> low & (1 << bits) - 1) << at
        return value

    def source(self) -> str:
        """The same as a Python expression over ``w``, without shifts that do nothing."""
        terms: list[str] = []
        for low, bits, at in self.pieces:
            mask = ((1 << bits) - 1) << at
            distance = low - at
            shifted = f"w >> {distance}" if distance > 0 else f"w << {-distance}" if distance else "w"
            terms.append(f"({shifted} & {mask})")
        return "(" + " | ".join(terms) + ")"

    def build(self, b: Builder, word: Value) -> Value:
        """The same by builder, from an i32 to an i32."""
        value = b.const(I32, 0)
        for low, bits, at in self.pieces:
            mask = ((1 << bits) - 1) << at
            distance = low - at
            shifted = word >> distance if distance > 0 else word << -distance
            value = value | (shifted & mask)
        return value

    def _check(self, pattern: str) -> None:
        seen = 0
        for _, bits, at in self.pieces:
            part = ((1 << bits) - 1) << at
            if seen & part:
                raise EncodingError(f"{pattern!r} gives a bit of {self.name} twice")
            seen |= part
        if not seen or (seen >> ((seen & -seen).bit_length() - 1)) + 1 & (seen >> ((seen & -seen).bit_length() - 1)):
            raise EncodingError(f"{pattern!r} leaves a hole in {self.name}")
        self.width = seen.bit_length()


class Pattern:
    """A parsed pattern: `length` in bytes, the fixed bits as `mask` and `value`, and the fields."""

    __slots__ = ("fields", "length", "mask", "text", "value")

    def __init__(self, text: str, length: int, mask: int, value: int, fields: dict[str, Field]) -> None:
        self.text = text
        self.length = length
        self.mask = mask
        self.value = value
        self.fields = fields


class Constraint:
    """A rule for the value of a field: ``!= 0 2`` (none of these) or ``== 1 5`` (one of these); ``& 3 == 1``: for these bits
    of it."""

    __slots__ = ("equal", "field", "of", "values")

    def __init__(self, field: Field, rule: str) -> None:
        self.of = -1
        if rule.startswith("& "):
            _, of, rule = rule.split(" ", 2)
            self.of = int(of, 0)
        operator, values = rule[:2], rule[2:].split()
        if operator not in ("!=", "==") or not values:
            raise EncodingError(f"{rule!r} is not a rule for field {field.name}")
        self.field = field
        self.equal = operator == "=="
        self.values = frozenset(int(value, 0) for value in values)

    def holds(self, word: int) -> bool:
        """True if `word` obeys the rule."""
        return (self.field.extract(word) & self.of in self.values) == self.equal

    def build(self, b: Builder, word: Value) -> Value:
        """The same by builder: an i1 from an i32."""
        field = self.field.build(b, word) & self.of
        found = b.false()
        for value in sorted(self.values):
            found = found | field.eq(value)
        return found if self.equal else found ^ 1


def _size(text: str, part: str) -> int:
    if not text.isdecimal():
        raise EncodingError(f"{text!r} in {part!r} is not a number of bits")
    return int(text)


def _pieces(text: str, pattern: str) -> tuple[str, list[tuple[int, int]]]:
    """The name of a part's field, and (bits, lowest bit in the field) of each piece; the name is empty for fixed bits."""
    if not text.strip("01"):
        return "", [(len(text), 0)]
    if text.endswith("]") and "[" in text:
        name, _, ranges = text[:-1].partition("[")
        pieces: list[tuple[int, int]] = []
        for item in ranges.split("|"):
            high, _, low = item.partition(":")
            top = _size(high, text)
            bottom = _size(low, text) if low else top
            if top < bottom:
                raise EncodingError(f"{text!r} in {pattern!r} is written low to high")
            pieces.append((top - bottom + 1, bottom))
        return name, pieces
    name, colon, size = text.partition(":")
    if not colon or not name:
        raise EncodingError(f"{text!r} in {pattern!r} is neither bits nor a field")
    return name, [(_size(size, text), 0)]


def parse_pattern(text: str) -> Pattern:
    """The pattern that `text` writes; raises EncodingError."""
    parts = [(part, *_pieces(part, text)) for part in text.split()]
    total = sum(bits for _, _, pieces in parts for bits, _ in pieces)
    if total not in (16, 32):
        raise EncodingError(f"{text!r} has {total} bits, not 16 or 32")
    position, mask, value = total, 0, 0
    fields: dict[str, Field] = {}
    for part, name, pieces in parts:
        for bits, at in pieces:
            position -= bits
            if not name:
                mask |= ((1 << bits) - 1) << position
                value |= int(part, 2) << position
            elif name != "_":
                fields.setdefault(name, Field(name)).pieces.append((position, bits, at))
    for field in fields.values():
        field._check(text)  # pyright: ignore[reportPrivateUsage]
    return Pattern(text, total // 8, mask, value, fields)
