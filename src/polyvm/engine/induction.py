"""Which accesses of a loop move by known steps: registers as linear expressions over their values at the loop's header.

From there one look at the attribute table, before the loop, can stand for the checks of many iterations (`loops.py`). An
expression is a sum of atoms with factors and a constant, which may be a range where paths meet. An atom is a register, or what
is left of a sum of registers that an instruction has cut to 32 bits and extended again; the constant is then kept outside, which
is right as long as nothing wraps around: the code before the loop makes sure of that (`Wrap`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from polyvm.engine.handlers import FAST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyvm.engine.blocks import Block
    from polyvm.ir.value import Value

Key = tuple[str, int]
Terms = tuple[tuple["Atom", int], ...]
MOST_SPAN = 2048  # bytes that one check before a block covers: a page border or none
_NEAR = 4096  # bytes: larger constants and steps are not followed
_MOST_GROUPS = 6
_LOW = (1 << 32) - 1


class Atom(NamedTuple):
    """A register (`kind` "r"), or registers' sum extended from 32 bits, signed ("s") or not ("z"). `back`: the constant that
    was taken out of it may be negative."""

    kind: str
    parts: tuple[tuple[Key, int], ...]
    back: bool = False


class Linear(NamedTuple):
    """The sum of `terms`, each an atom and its factor, and a constant from `low` to `high`."""

    terms: Terms
    low: int
    high: int


class Wrap(NamedTuple):
    """A condition: the 32-bit sum of `parts` stays away from where it would wrap around. `kind` "s" or "z" says where that is;
    `whole`: the one register of `parts` also has to be what extending its low half gives."""

    kind: str
    parts: tuple[tuple[Key, int], ...]
    back: bool
    whole: bool


class Step(NamedTuple):
    """How far an expression moves from one iteration to the next: from `low` to `high` bytes; or, where `register` is given,
    `factor` times that register's value."""

    low: int
    high: int
    register: Key | None = None
    factor: int = 0
    half: bool = False  # only the register's low 32 bits, signed


class Span:
    """Accesses whose addresses differ by constants: `low` to `high` bytes from the sum of `terms`."""

    __slots__ = ("high", "low", "members", "terms", "wanted")

    def __init__(self, terms: Terms, low: int, high: int) -> None:
        self.terms = terms
        self.low, self.high = low, high
        self.wanted = 0
        self.members: set[int] = set()

    def take(self, v: Value, low: int, high: int, most: int) -> bool:
        """Make access `v`, at `low` to `high`, one of them, unless they would be more than `most` bytes."""
        low, high = min(self.low, low), max(self.high, high)
        if high - low > most:
            return False
        self.low, self.high = low, high
        self.wanted |= FAST["r" if v.op == "load" else "w"]
        self.members.add(id(v))
        return True


class Group(Span):
    """Accesses of a loop: they all move by `step`, under the conditions `wraps`; `weight` is how often they are executed."""

    __slots__ = ("step", "weight", "wraps")

    def __init__(self, terms: Terms, step: Step, wraps: set[Wrap], low: int, high: int) -> None:
        super().__init__(terms, low, high)
        self.step = step
        self.wraps = wraps
        self.weight = 0


def _atom(key: Key) -> Atom:
    return Atom("r", ((key, 1),))


def _register(key: Key) -> Linear:
    return Linear(((_atom(key), 1),), 0, 0)


def _constant(value: int) -> Linear:
    return Linear((), value, value)


def _sum(a: Linear, b: Linear, sign: int = 1) -> Linear:
    factors = dict(a.terms)
    for atom, factor in b.terms:
        factors[atom] = factors.get(atom, 0) + sign * factor
    terms = tuple(sorted((atom, factor) for atom, factor in factors.items() if factor))
    low, high = (b.low, b.high) if sign > 0 else (-b.high, -b.low)
    return Linear(terms, a.low + low, a.high + high)


def _times(a: Linear, factor: int) -> Linear:
    low, high = sorted((a.low * factor, a.high * factor))
    return Linear(tuple((atom, n * factor) for atom, n in a.terms), low, high)


def _halved(a: Linear) -> Linear:
    """The same modulo 2**32: extensions do not matter."""
    factors: dict[Key, int] = {}
    for atom, factor in a.terms:
        for key, n in atom.parts:
            factors[key] = factors.get(key, 0) + factor * n
    return Linear(tuple(sorted((_atom(key), n) for key, n in factors.items() if n)), a.low, a.high)


def _extended(kind: str, a: Linear) -> Linear | None:
    """`a`, taken modulo 2**32, extended to 64 bits."""
    if not a.terms:
        if a.low != a.high:
            return None
        value = a.low & _LOW
        return _constant(value - (1 << 32) if kind == "s" and value >> 31 else value)
    if max(abs(a.low), abs(a.high)) > _NEAR:
        return None
    parts = tuple((atom.parts[0][0], factor) for atom, factor in a.terms)
    return Linear(((Atom(kind, parts, a.low < 0), 1),), a.low, a.high)


class _State:
    """Registers on the way through one block."""

    def __init__(self, registers: dict[Key, Linear | None]) -> None:
        self.registers = registers
        self._values: dict[int, Linear | None] = {}

    def look(self, v: Value) -> Linear | None:
        """The expression for a value; None if there is none."""
        if v.op == "const":
            return _constant(v.type.signed(v.bits)) if v.type.bits in (32, 64) else None
        return self._values.get(id(v))

    def note(self, v: Value) -> None:
        """Work out one operation."""
        self._values[id(v)] = self._derive(v)

    def _derive(self, v: Value) -> Linear | None:
        op = v.op
        if op == "get":
            key = register_key(v)
            if key is None or v.type.bits != 64 or v.type.kind != "int":
                return None
            return self.registers[key] if key in self.registers else _register(key)
        if v.type.bits not in (32, 64) or op not in ("add", "sub", "shl", "lshr", "ashr", "trunc", "sext", "zext", "and"):
            return None
        first = self.look(v.args[0])
        if first is None:
            return None
        if op in ("trunc", "sext", "zext"):
            if op == "trunc":
                return _halved(first) if v.type.bits == 32 else None
            return _extended(op[0], first) if v.args[0].type.bits == 32 and v.type.bits == 64 else None
        second = self.look(v.args[1])
        if second is None:
            return None
        if op in ("add", "sub"):
            return _sum(first, second, 1 if op == "add" else -1)
        if second.terms or second.low != second.high:
            return None
        return self._by_constant(op, first, second.low, v.type.bits)

    @staticmethod
    def _by_constant(op: str, first: Linear, n: int, bits: int) -> Linear | None:
        if op == "shl":
            return _times(first, 1 << n) if 0 <= n < bits else None
        if bits != 64:
            return None
        if op == "and":
            return _extended("z", _halved(first)) if n == _LOW else None
        # The low half at the top, shifted down again.
        numbers = (first.low, first.high, *(factor for _, factor in first.terms))
        if not 0 < n <= 32 or any(number % (1 << 32) for number in numbers):
            return None
        half = Linear(tuple((atom, factor >> 32) for atom, factor in first.terms), first.low >> 32, first.high >> 32)
        wide = _extended("z" if op == "lshr" else "s", _halved(half))
        return None if wide is None else _times(wide, 1 << (32 - n))


def register_key(v: Value) -> Key | None:
    """The register of a get or set; None if which one it is depends on a value."""
    indexed = len(v.args) == (1 if v.op == "get" else 2)
    if not indexed:
        return v.attrs["slot"], 0
    return (v.attrs["slot"], v.args[0].bits) if v.args[0].op == "const" else None


def _through(block: Block, state: _State, accesses: list[tuple[Value, Linear, int]]) -> None:
    """Follow `block`; accesses with known expressions go to the list, with their sizes."""
    for step in block.steps:
        if step.body is None:
            return
        for v in step.body.ops:
            if v.op == "set":
                key = register_key(v)
                if key is not None:
                    state.registers[key] = state.look(v.args[-1])
            elif v.op in ("if", "loop"):
                for inner in step.flat:
                    key = register_key(inner) if inner.op == "set" else None
                    if key is not None:
                        state.registers[key] = None
            elif v.op in ("load", "store") and v.attrs["order"] == "none":
                where = state.look(v.args[0])
                if where is not None:
                    accesses.append((v, where, (v.type if v.op == "load" else v.args[1].type).total_bits // 8))
            else:
                state.note(v)


def _join(states: Iterable[dict[Key, Linear | None]]) -> dict[Key, Linear | None]:
    """What is known where paths meet."""
    states = list(states)
    joined: dict[Key, Linear | None] = {}
    for key in {key for state in states for key in state}:
        found = [state.get(key, _register(key)) for state in states]
        known = [a for a in found if a is not None]
        if len(known) < len(found) or any(a.terms != known[0].terms for a in known):
            joined[key] = None
        else:
            joined[key] = Linear(known[0].terms, min(a.low for a in known), max(a.high for a in known))
    return joined


class _Steps:
    """How registers and expressions move, from the registers' values at the end of an iteration."""

    def __init__(self, after: dict[Key, Linear | None]) -> None:
        self._after = after
        self._known: dict[Key, tuple[Step, Wrap | None] | None] = {}

    def register(self, key: Key) -> tuple[Step, Wrap | None] | None:
        """The step of a register, and what it depends on; None if it has none."""
        if key not in self._known:
            self._known[key] = self._find(key)
        return self._known[key]

    def _invariant(self, key: Key) -> bool:
        return self._after.get(key, _register(key)) == _register(key)

    def _find(self, key: Key) -> tuple[Step, Wrap | None] | None:
        after = self._after.get(key, _register(key))
        if after is None:
            return None
        wrap = None
        parts = {atom.parts[0][0]: factor for atom, factor in after.terms if atom.kind == "r"}
        if len(after.terms) == 1 and after.terms[0][0].kind != "r" and after.terms[0][1] == 1:
            atom = after.terms[0][0]
            parts = dict(atom.parts)
            wrap = Wrap(atom.kind, ((key, 1),), atom.back, whole=True)
        elif len(parts) < len(after.terms):
            return None
        if parts.pop(key, 0) != 1:
            return None
        if not parts:
            return Step(after.low, after.high), wrap
        (other, factor), *more = parts.items()
        if more or factor != 1 or after.low or after.high or not self._invariant(other):
            return None
        return Step(0, 0, other, 1, half=wrap is not None), wrap

    def expression(self, terms: Terms) -> tuple[Step, set[Wrap]] | None:
        """The step of a sum, and what it depends on."""
        low = high = 0
        moved = 0
        register, factor_of, half = None, 0, False
        wraps: set[Wrap] = set()
        for atom, factor in terms:
            if atom.kind != "r":
                wraps.add(Wrap(atom.kind, atom.parts, atom.back, whole=False))
            for key, n in atom.parts:
                found = self.register(key)
                if found is None:
                    return None
                step, wrap = found
                if wrap is not None:
                    wraps.add(wrap)
                if step.register is not None:
                    if register is not None or factor * n <= 0:
                        return None
                    register, factor_of, half = step.register, factor * n, step.half
                elif step.low or step.high:
                    sides = sorted((step.low * factor * n, step.high * factor * n))
                    low, high = low + sides[0], high + sides[1]
                else:
                    continue
                moved += 1
        if moved > 1 and (wraps or register is not None):
            return None
        if low < 0 < high or max(-low, high) > _NEAR:
            return None
        return Step(low, high, register, factor_of, half), wraps


def spans_of(block: Block, covered: set[int]) -> list[Span]:
    """The spans of a block: one check, before it, stands for all accesses of each. Those in `covered` are left out."""
    accesses: list[tuple[Value, Linear, int]] = []
    _through(block, _State({}), accesses)
    spans: dict[tuple[Terms, int], Span] = {}
    for v, where, size in accesses:
        if id(v) in covered or any(atom.kind != "r" for atom, _ in where.terms):
            continue
        low, high = where.low, where.high + size
        # Far apart, the same registers make more than one span.
        for number in range(_MOST_GROUPS):
            span = spans.setdefault((where.terms, number), Span(where.terms, low, high))
            if span.take(v, low, high, MOST_SPAN):
                break
    return [span for span in spans.values() if span.members]


def groups_of(order: list[Block], inside: dict[int, list[int]], header: int) -> list[Group]:
    """The groups of accesses in a loop. `order`: its blocks, each after all that lead to it, the header first; `inside`: for
    each the addresses of those in the loop that follow it."""
    states: dict[int, list[dict[Key, Linear | None]]] = {header: [{}]}
    ends: list[dict[Key, Linear | None]] = []
    accesses: list[tuple[Value, Linear, int, int]] = []
    for block in order:
        arrived = states.get(block.spec.pc)
        if not arrived:
            continue
        state = _State(_join(arrived) if len(arrived) > 1 else dict(arrived[0]))
        seen: list[tuple[Value, Linear, int]] = []
        _through(block, state, seen)
        accesses += [(v, where, size, block.spec.entries) for v, where, size in seen]
        for pc in inside[block.spec.pc]:
            if pc == header:
                ends.append(state.registers)
            else:
                states.setdefault(pc, []).append(dict(state.registers))
    steps = _Steps(_join(ends))
    groups: dict[Terms, Group] = {}
    for v, where, size, entries in accesses:
        group = groups.get(where.terms)
        if group is None:
            moves = steps.expression(where.terms)
            if moves is None:
                continue
            group = groups[where.terms] = Group(where.terms, *moves, where.low, where.high + size)
        if group.take(v, where.low, where.high + size, _NEAR):
            group.weight += entries
    return sorted((g for g in groups.values() if g.members), key=lambda group: -group.weight)[:_MOST_GROUPS]
