"""Decoding by a tree that is grown from the encodings, for Python and for native code.

A node is a `Switch` on bits that all of its encodings fix, a `Test` of what tells one of the last few from the others, an
`Encoding`, or None where no instruction is encoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyvm.errors import EncodingError
from polyvm.ir import I32
from polyvm.isa.insn import Decoded, Encoding

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.ir import Builder, Value

    Leaf = Callable[[Encoding], None]
    Extract = Callable[[int], dict[str, int]]

_MOST_ENUMERATED = 16


class Switch:
    """Bits ``word >> shift & mask`` choose one of `cases`."""

    __slots__ = ("cases", "mask", "shift")

    def __init__(self, shift: int, mask: int, cases: dict[int, Switch | Test | Encoding | None]) -> None:
        self.shift = shift
        self.mask = mask
        self.cases = cases


class Test:
    """`encoding` if the bits in `mask` are as it says and its constraints hold, otherwise `other`."""

    __slots__ = ("encoding", "mask", "other")

    def __init__(self, encoding: Encoding, mask: int, other: Test | Encoding | None) -> None:
        self.encoding = encoding
        self.mask = mask
        self.other = other


def _overlap(a: Encoding, b: Encoding) -> bool:
    """True if some word is both, precedence aside."""
    mask = a.mask | b.mask
    if (a.value ^ b.value) & a.mask & b.mask:
        return False
    known = a.value | b.value
    free = 0
    for constraint in (*a.constraints, *b.constraints):
        free |= constraint.field.mask & ~mask
    if free.bit_count() > _MOST_ENUMERATED:
        return True
    chosen = free
    while True:
        # Every subset of `free`, from all to none.
        if a.matches(known | chosen) and b.matches(known | chosen):
            return True
        if not chosen:
            return False
        chosen = (chosen - 1) & free


def _runs(mask: int) -> list[tuple[int, int]]:
    """The runs of ones in `mask`: (lowest bit, length)."""
    runs: list[tuple[int, int]] = []
    while mask:
        low = (mask & -mask).bit_length() - 1
        length = ((mask >> low) ^ ((mask >> low) + 1)).bit_length() - 1
        runs.append((low, length))
        mask &= ~(((1 << length) - 1) << low)
    return runs


def grow(encodings: list[Encoding], tested: int = 0) -> Switch | Test | Encoding | None:
    """The tree for `encodings`, of which the bits in `tested` have been looked at; raises EncodingError for
    encodings that overlap without saying which goes first."""
    common = -1
    for encoding in encodings:
        common &= encoding.mask
    common &= ~tested
    if len(encodings) > 1 and common:
        best: dict[int, list[Encoding]] = {}
        shift = mask = 0
        for low, length in _runs(common):
            groups: dict[int, list[Encoding]] = {}
            for encoding in encodings:
                groups.setdefault(encoding.value >> low & (1 << length) - 1, []).append(encoding)
            if len(groups) > len(best):
                best, shift, mask = groups, low, (1 << length) - 1
        if len(best) > 1:
            done = tested | mask << shift
            return Switch(shift, mask, {value: grow(group, done) for value, group in sorted(best.items())})
    node: Test | Encoding | None = None
    for encoding in reversed(_by_precedence(encodings)):
        rest = encoding.mask & ~tested
        if rest or encoding.constraints:
            node = Test(encoding, rest, node)
        elif node is None:
            node = encoding
        else:
            raise EncodingError(f"{encoding.name} leaves no words to {node!r}")
    return node


def _by_precedence(encodings: list[Encoding]) -> list[Encoding]:
    for i, a in enumerate(encodings):
        for b in encodings[i + 1 :]:
            if a.name in b.overrides or b.name in a.overrides:
                continue
            if _overlap(a, b):
                raise EncodingError(f"{a.name} ({a.pattern.text}) and {b.name} ({b.pattern.text}) overlap")
    left, ordered = list(encodings), list[Encoding]()
    while left:
        free = [e for e in left if not any(e.name in other.overrides for other in left)]
        if not free:
            raise EncodingError(f"{', '.join(e.name for e in left)} override each other in a circle")
        ordered += free
        left = [e for e in left if e not in free]
    return ordered


class Decoder:
    """Decodes in Python."""

    def __init__(self, encodings: list[Encoding]) -> None:
        self.tree = grow(encodings)
        self._extract: dict[Encoding, Extract] = {}

    def find(self, word: int) -> Encoding | None:
        """The encoding that `word` is."""
        node = self.tree
        while isinstance(node, Switch):
            node = node.cases.get(word >> node.shift & node.mask)
        while isinstance(node, Test):
            node = node.encoding if node.encoding.matches(word) else node.other
        return node

    def decode(self, word: int) -> Decoded | None:
        """`word` taken apart, or None. Of a short instruction the bits above do not matter."""
        encoding = self.find(word)
        if encoding is None:
            return None
        extract = self._extract.get(encoding)
        if extract is None:
            extract = self._extract[encoding] = compile_extract(encoding)
        return Decoded(encoding, extract(word))


def compile_extract(encoding: Encoding) -> Extract:
    """A function from an instruction word to its operands, from generated source."""
    items: list[str] = []
    scope: dict[str, Any] = {}
    for operand in encoding.insn.operands:
        binding = encoding.bindings[operand.name]
        kind = binding.kind
        if binding.field is None:
            items.append(f"{operand.name!r}: {kind.convert(binding.bias & I32.mask, 32)}")
            continue
        raw = binding.field.source() + (f" + {binding.bias}" if binding.bias else "")
        scope[f"kind_{kind.name}"] = kind.memo
        items.append(f"{operand.name!r}: {kind.source(raw, binding.width)}")
    made: Extract = eval(f"lambda w: {{{', '.join(items)}}}", scope)
    return made


def emit_tree(
    b: Builder, node: Switch | Test | Encoding | None, word: Value, leaf: Leaf, illegal: Callable[[], None]
) -> None:
    """The tree as native code: `leaf` builds what happens for an encoding, `illegal` what happens for a word that is none.
    The bits of `word` (i32) above a short instruction do not matter."""
    if node is None:
        illegal()
    elif isinstance(node, Encoding):
        leaf(node)
    elif isinstance(node, Switch):
        value = (word >> node.shift) & node.mask
        _emit_cases(b, list(node.cases.items()), value, word, leaf, illegal)
    else:
        encoding = node.encoding
        match = (word & node.mask).eq(b.const(I32, encoding.value & node.mask))
        for constraint in encoding.constraints:
            match = match & constraint.build(b, word)
        with b.if_(match):
            leaf(encoding)
        with b.else_():
            emit_tree(b, node.other, word, leaf, illegal)


def _emit_cases(
    b: Builder, cases: list[tuple[int, Switch | Test | Encoding | None]], value: Value, word: Value, leaf: Leaf,
    illegal: Callable[[], None],
) -> None:  # fmt: skip
    """A chain of tests of one value, which LLVM makes a switch of."""
    if not cases:
        illegal()
        return
    key, node = cases[0]
    with b.if_(value.eq(key)):
        emit_tree(b, node, word, leaf, illegal)
    with b.else_():
        _emit_cases(b, cases[1:], value, word, leaf, illegal)
