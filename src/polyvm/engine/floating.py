"""Floating point in regions: NaNs become the canonical NaN, and flags are read, only where somebody could tell.

To arithmetic and comparisons one quiet NaN is like another, so a result stays as the host made it (*raw*) until its bits are
seen: stored, moved to an integer register, or written back. Whether a held register is raw is mostly known when the code is
written. Where ways meet that disagree, a word of the region (`%raw`) says it with a bit for each register; the notes of rare
exits have that word, and the routine that fills in the CPU record makes the NaNs canonical there.

That is for operations whose results are the canonical NaN; it does not hold for those that pass their operands' NaNs on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.codegen.llvm_fp import canonical_nan, power_of_two
from polyvm.engine.entrance import OutsideEmitter
from polyvm.engine.induction import register_key
from polyvm.engine.modes import ROUNDS, marks_of
from polyvm.ir.ops import ENV
from polyvm.ir.types import F64

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.engine.blocks import Block, Step
    from polyvm.ir.types import Type
    from polyvm.ir.value import Value

Key = tuple[str, int]
EXACT, RAW, EITHER = range(3)  # a register's bits are as they are; a NaN in it stands for the canonical one; `%raw` tells
_LAZY = frozenset({"fadd", "fsub", "fmul", "fdiv", "fsqrt", "frint", "f2f"})
_BLIND = _LAZY | {"fma", "feq", "flt", "fle", "f2si", "f2ui"}  # to these one quiet NaN is like another
_COMPARISONS = frozenset({"feq", "flt", "fle"})
_RAISING = _BLIND | {"fmin", "fmax", "si2f", "ui2f", "fp_setflags", "fp_raise", "fp_setrm"}  # may change the flags
_SOUND = frozenset({"fadd", "fsub", "fmul", "fdiv", "fma", "fsqrt", "fmin", "fmax", "si2f", "ui2f"})
_SIGN, _INFINITY = 1 << 63, power_of_two(F64, 1023) + (1 << 52)


def _bare(v: Value) -> Value:
    """Where the bits of a number come from, but for its sign."""
    while v.op in ("bitcast", "trunc", "zext") or (
        v.op in ("xor", "and") and v.args[1].op == "const" and v.args[1].bits in _sign_masks(v.type)
    ):
        v = v.args[0]
    return v


def _sign_masks(type_: Type) -> tuple[int, int]:
    sign = 1 << type_.bits - 1
    return type_.splat(sign), type_.splat(sign - 1)


def _users(v: Value, step: Step) -> list[Value]:
    return [user for user in step.flat if any(a is v for a in user.args)]


def _blind(v: Value, step: Step) -> bool:
    """True if nothing in the instruction sees which NaN the 64 bits `v` are."""
    for user in _users(v, step):
        if user.op == "bitcast" and user.type is F64:
            if not all(u.op in _BLIND for u in _users(user, step)):
                return False
        elif user.op == "xor" and user.args[1].op == "const" and user.args[1].bits == _SIGN:
            if not _blind(user, step):
                return False
        elif user.op == "and" and user.args[1].op == "const" and user.args[1].bits == _SIGN - 1:
            if not all(u.op == "ult" and u.args[0].op == "const" and u.args[0].bits == _INFINITY for u in _users(user, step)):
                return False
        else:
            return False
    return True


def _stays_raw(v: Value, step: Step, floating: tuple[str, ...]) -> bool:
    """True for a result that goes to registers and nowhere else."""
    if v.op not in _LAZY or v.type is not F64 or step.body is None or not any(op is v for op in step.body.ops):
        return False
    users = _users(v, step)
    if not users or any(u.op != "bitcast" for u in users):
        return False
    sets = [s for u in users for s in _users(u, step)]
    return all(s.op == "set" and s.attrs["slot"] in floating and any(op is s for op in step.body.ops) for s in sets)


def follow_raw(
    blocks: dict[int, Block], entries: list[int], keys: list[Key], floating: tuple[str, ...]
) -> dict[int, dict[Key, int]]:
    """What is known of each register where a block is entered, by the blocks' addresses."""
    after: dict[int, dict[Key, int]] = {}
    for pc, block in blocks.items():
        changes = after[pc] = {}
        for step in block.steps:
            for v in step.flat if step.body is not None else ():
                key = register_key(v) if v.op == "set" else None
                if key is not None and key[0] in floating:
                    value = v.args[-1]
                    changes[key] = RAW if value.op == "bitcast" and _stays_raw(value.args[0], step, floating) else EXACT
    at = {pc: dict.fromkeys(keys, EXACT) for pc in entries if pc in blocks}
    waiting = list(at)
    while waiting:
        pc = waiting.pop()
        out = at[pc] | after[pc]
        for target in blocks[pc].targets:
            known = at.get(target)
            merged = out if known is None else {key: state if out[key] == state else EITHER for key, state in known.items()}
            if merged != known:
                at[target] = dict(merged)
                waiting.append(target)
    return at


class FloatEmitter(OutsideEmitter):
    """The floating-point side of a region's emitter. `raw_keys` are the registers that it holds as doubles."""

    floating: tuple[str, ...] = ()
    _block: Block
    _step: Step

    def start_floating(self) -> None:
        """Before anything is emitted."""
        self.modes: set[int] = set()
        self.marks = ROUNDS  # what must not be in the way in the environment's mode
        self.raw_keys: dict[Key, int] = {}  # and each one's bit in `%raw`
        self._raw_at: dict[int, dict[Key, int]] = {}
        self._raw_now: dict[Key, int] = {}
        self._varies = False
        self._raw_values: set[int] = set()
        self._names: dict[int, str] = {}  # of local variables whose value is known
        self._sound: dict[Key, tuple[int, int]] = {}  # examined in this block: bits of a lane, of all
        self._flags: str = ""  # the flags as they were read, if nothing but comparisons has raised any since
        self._compared: list[str] = []  # those: conditions of which one holds if they raised a flag
        self._flag_words: dict[str, str] = {}  # names of values that are flags: those that were read

    # -- what the region's emitter has --------------------------------------------------------------------------

    @property
    def _nested(self) -> bool:
        raise NotImplementedError

    def value_of(self, key: Key) -> str:
        """A register as it is here."""
        raise NotImplementedError

    def replace(self, key: Key, name: str) -> None:
        """A register has another name from here on, for what is the same to the guest."""
        raise NotImplementedError

    # -- raw registers ------------------------------------------------------------------------------------------

    def follow(self, blocks: dict[int, Block], entries: list[int], keys: list[Key]) -> None:
        """Find out what is raw where."""
        self.raw_keys = {key: 1 << i for i, key in enumerate(keys)}
        self._raw_at = follow_raw(blocks, entries, keys, self.floating)
        self._varies = any(EITHER in states.values() for states in self._raw_at.values())
        self.allocas.append("  %raw = alloca i64")

    def enter_raw(self, pc: int) -> None:
        """At the start of a block."""
        self._raw_now = dict(self._raw_at.get(pc, {}))
        self._sound.clear()

    def forget_floating(self) -> None:
        """What was known of values is over; flags are what they will be."""
        for known in (self._raw_values, self._names, self._flag_words, self._compared):
            known.clear()
        self._flags = ""

    def wrote(self, key: Key, value: Value) -> None:
        """A register was set."""
        if key in self._raw_now:
            self._raw_now[key] = RAW if id(value) in self._raw_values else EXACT

    def raw_word(self) -> str:
        """Which registers are raw, here."""
        fixed = sum(bit for key, bit in self.raw_keys.items() if self._raw_now[key] == RAW)
        loose = sum(bit for key, bit in self.raw_keys.items() if self._raw_now[key] == EITHER)
        if not loose:
            return str(fixed)
        word = self.temp(f"and i64 {self.temp('load i64, ptr %raw')}, {loose}")
        return self.temp(f"or i64 {word}, {fixed}") if fixed else word

    def pass_raw_on(self) -> None:
        """Before a jump to another block."""
        if self._varies:
            self.line(f"store i64 {self.raw_word()}, ptr %raw")

    def settled(self, key: Key) -> str:
        """A register with its bits as the guest may see them."""
        name, state = self.value_of(key), self._raw_now.get(key, EXACT)
        if state == EXACT:
            return name
        if self._nested:
            return self._settle_either(key, name) if state == EITHER else self._canonical(F64, name)
        partner = self._next_seen(key) if state == RAW else None
        self.settle([key] if partner is None else [key, partner])
        return self.value_of(key)

    def settle(self, keys: list[Key]) -> None:
        """Make registers exact."""
        raw = [key for key in keys if self._raw_now.get(key) == RAW]
        for key in keys:
            if self._raw_now.get(key) == EITHER:
                self.replace(key, self._settle_either(key, self.value_of(key)))
                self._raw_now[key] = EXACT
        for i in range(0, len(raw), 2):
            self._settle_raw(raw[i : i + 2])

    def _settle_raw(self, keys: list[Key]) -> None:
        """One test for two registers."""
        names = [self.value_of(key) for key in keys]
        slots = [self.alloca(F64) for _ in keys]
        rare, end = self.label(), self.label()
        for slot, name in zip(slots, names, strict=True):
            self.line(f"store double {name}, ptr {slot}")
        self.branch_to(self.unordered(F64, names[0], names[-1]), rare, end, unlikely=True)
        self.place(rare)
        nan = self.constant(F64, canonical_nan(F64))
        for slot, name in zip(slots, names, strict=True):
            right = self.temp(f"select i1 {self.unordered(F64, name)}, double {nan}, double {name}") if len(names) > 1 else nan
            self.line(f"store double {right}, ptr {slot}")
        self.jump_to(end)
        self.place(end)
        for key, slot in zip(keys, slots, strict=True):
            self.replace(key, self.temp(f"load double, ptr {slot}"))
            self._raw_now[key] = EXACT

    def _settle_either(self, key: Key, name: str) -> str:
        """By integers: if it is not raw it may be a signaling NaN, which a comparison would take note of."""
        bits = self.temp(f"bitcast double {name} to i64")
        nan = self.temp(f"icmp ugt i64 {self.temp(f'and i64 {bits}, {_SIGN - 1}')}, {_INFINITY}")
        word = self.temp(f"and i64 {self.temp('load i64, ptr %raw')}, {self.raw_keys[key]}")
        both = self.temp(f"and i1 {nan}, {self.temp(f'icmp ne i64 {word}, 0')}")
        return self.temp(f"select i1 {both}, double {self.constant(F64, canonical_nan(F64))}, double {name}")

    def _next_seen(self, than: Key) -> Key | None:
        """Another raw register whose bits are seen later in this block."""
        gone = {than}
        for step in self._block.steps[self._step.index + 1 :]:
            for v in step.flat if step.body is not None else ():
                key = register_key(v) if v.op in ("get", "set") else None
                if key is None or key in gone or self._raw_now.get(key) != RAW:
                    continue
                if v.op == "set":
                    gone.add(key)
                elif not _blind(v, step):
                    return key
        return None

    def register_name(self, v: Value, key: Key) -> str:
        """What `get` gives: exact bits, if anything in the instruction sees them."""
        if self._raw_now.get(key, EXACT) == EXACT or _blind(v, self._step):
            return self.value_of(key)
        return self.settled(key)

    def rounded(self, v: Value, value: str, and_then: Callable[[], None] | None = None) -> None:
        if self.raw_keys and and_then is None and not self._nested and _stays_raw(v, self._step, self.floating):
            self._raw_values.add(id(v))
            self.set(v, value)
            return
        super().rounded(v, value, and_then)

    # -- subnormal operands, where those become zero -----------------------------------------------------------------

    def examined(self, v: Value) -> bool:
        """A result of arithmetic is not subnormal, and a register is looked at once in a block: what is noted stays so."""
        source = _bare(v)
        if source.op == "const" or (source.op in _SOUND and source.attrs.get("rules") and source.type.bits == v.type.bits):
            return True
        key = register_key(source) if source.op == "get" else None
        if key is None or self._nested:
            return False
        bits, total = self._sound.get(key, (0, 0))
        if bits == v.type.bits and total >= v.type.total_bits:
            return True
        self._sound[key] = v.type.bits, v.type.total_bits
        return False

    def _examine_set(self, v: Value) -> None:
        key, source = register_key(v), _bare(v.args[-1])
        if key is None:
            self._sound.clear()
        elif not self._nested and source.op in _SOUND and source.attrs.get("rules"):
            self._sound[key] = source.type.bits, source.type.total_bits
        else:
            self._sound.pop(key, None)

    # -- local variables, most of which are straight-line here -------------------------------------------------------

    def op_local(self, v: Value) -> None:
        super().op_local(v)
        if not self._nested:
            self._names[id(v)] = self.ref(v.args[0])

    def op_local_set(self, v: Value) -> None:
        super().op_local_set(v)
        if self._nested:
            self._names.pop(id(v.args[0]), None)
        else:
            self._names[id(v.args[0])] = self.ref(v.args[1])

    def op_local_get(self, v: Value) -> None:
        name = self._names.get(id(v.args[0])) if not self._nested else None
        if name is None:
            super().op_local_get(v)
        else:
            self.set(v, name)

    # -- flags --------------------------------------------------------------------------------------------------

    def operation(self, v: Value) -> None:
        """Also follows flags that were read, and what may raise others."""
        compares = v.op in _COMPARISONS and v.args[0].type.lanes == 1
        if self.flushing or (v.op in _RAISING and not compares and v.op != "fp_setflags"):
            self._flags = ""
        super().operation(v)
        if v.op == "set" and self.flushing:
            self._examine_set(v)
        if v.op == "bitcast" and id(v.args[0]) in self._raw_values:
            self._raw_values.add(id(v))
        if v.args and (v.op in ("zext", "trunc") or (v.op == "and" and v.args[1].op == "const" and v.args[1].bits & 31 == 31)):
            source = self._flag_words.get(self.ref(v.args[0]))
            if source is not None:
                self._flag_words[self.ref(v)] = source

    def op_fp_flags(self, v: Value) -> None:
        if not self._is_used(v):
            self.set(v, "0")
        elif self._flags and not self._compared and not self._nested:
            self.set(v, self._flags)
        else:
            super().op_fp_flags(v)
            self._compared.clear()
            self._flags = "" if self._nested else self.ref(v)
            self._flag_words[self.ref(v)] = self.ref(v)

    def _is_used(self, v: Value) -> bool:
        """False if the value goes nowhere but into local variables that are not read."""
        for user in _users(v, self._step):
            if user.op not in ("local_set", "zext", "trunc", "and"):
                return True
            if user.op == "local_set":
                if any(u.op == "local_get" and self._is_used(u) for u in _users(user.args[0], self._step)):
                    return True
            elif self._is_used(user):
                return True
        return False

    def op_fp_setflags(self, v: Value) -> None:
        """What was read before some comparisons, and is written back after them, changes nothing unless they met a NaN."""
        if self._nested or not self._flags or self._flag_words.get(self.ref(v.args[0])) != self._flags:
            self._flags = ""
            super().op_fp_setflags(v)
            return
        if self._compared:
            met = self._compared[0]
            for other in self._compared[1:]:
                met = self.temp(f"or i1 {met}, {other}")
            work, end = self.label(), self.label()
            self.branch_to(met, work, end, unlikely=True)
            self.place(work)
            super().op_fp_setflags(v)
            self.jump_to(end)
            self.place(end)
            self._compared.clear()

    def _fcompare(self, v: Value) -> None:
        if self._flags and (self._nested or v.args[0].type.bits == 16 or v.args[0].type.lanes > 1):
            self._flags = ""
        super()._fcompare(v)
        if self._flags:
            self._compared.append(self.unordered(v.args[0].type, self.ref(v.args[0]), self.ref(v.args[1])))

    op_feq = _fcompare
    op_flt = _fcompare
    op_fle = _fcompare

    # -- rounding modes -----------------------------------------------------------------------------------------

    def _mode(self, v: Value) -> int:
        mode = v.args[-1]
        if mode.op == "rounding":
            return ENV
        if v.op in ("f2si", "f2ui", "frint"):
            return super()._mode(v)
        self.modes.add(mode.bits)
        return ENV

    def _to_float(self, v: Value) -> None:
        if v.args[0].type.bits > 32 or v.type.bits < 64:
            self._mode(v)
        super()._to_float(v)

    op_si2f = _to_float
    op_ui2f = _to_float

    def op_f2f(self, v: Value) -> None:
        if v.type.bits < v.args[0].type.bits:
            self._mode(v)
        super().op_f2f(v)

    def op_rounding(self, v: Value) -> None:
        if v.args[0].bits == ENV:
            self.marks |= marks_of(v.builder.body)
        self.modes.add(v.args[0].bits)
        self.set(v, "7")

