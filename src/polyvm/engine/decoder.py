"""The native decoder: guest bytes to a block of slots.

`decode(cpu, pc, max)` answers the address of a new block that starts at `pc` and has at most `max` instructions, or 0 with the
exit record set where nothing can be fetched at `pc`. A block ends after an instruction that does not go on to the next one, at
the end of a page, or at `max`; in the last two cases a slot follows that goes on at the block's end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.engine.fusion import FusionFollower
from polyvm.engine.handlers import operand_places
from polyvm.engine.layout import (
    BLOCK_AFTER,
    BLOCK_COUNT,
    BLOCK_END,
    BLOCK_FALL,
    BLOCK_FIRST,
    BLOCK_GO,
    BLOCK_HEADER,
    BLOCK_HEAT,
    BLOCK_N,
    BLOCK_NEAR,
    BLOCK_NEXT,
    BLOCK_PC,
    BLOCK_PLAIN,
    BLOCK_SEEN,
    BLOCK_SIZE,
    BLOCK_TAKEN,
    PSEUDO,
    SLOT_IMM,
    SLOT_OFF,
    SLOT_REG,
    SLOT_SIZE,
)
from polyvm.ir import I8, I32, I64, Local, Value, int_type
from polyvm.mem import CODE, EXEC, FAST_W, PAGE_BITS, SIZE_BITS
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from polyvm.engine.runtime import Runtime
    from polyvm.isa import Encoding, Insn, Isa

    Shape = str | tuple["Shape | int", ...]

PAGE = 1 << PAGE_BITS


class Form:
    """One handler: an instruction, perhaps with one operand fixed."""

    __slots__ = ("fixed", "index", "insn", "name", "terminates")

    def __init__(self, name: str, index: int, insn: Insn, terminates: bool, fixed: dict[str, int]) -> None:
        self.name = name
        self.index = index
        self.insn = insn
        self.terminates = terminates
        self.fixed = fixed


def _shape(encoding: Encoding, several: bool) -> Shape:
    """What tells how the operands of an encoding are taken apart; `several`: its handler depends on them."""
    places = operand_places(encoding.insn)
    parts: list[Shape] = [encoding.insn.name if several else ""]
    for name, binding in sorted(encoding.bindings.items(), key=lambda item: places[item[0]]):
        pieces = () if binding.field is None else tuple(binding.field.pieces)
        parts.append((places[name], binding.kind.name, binding.bias, binding.width, pieces))
    return tuple(parts)


class DecoderBuilder:
    """Writes `decode` for one instruction set. `forms` lists the handlers of each instruction, most special first;
    `illegal` is the number of the handler for words that are none."""

    def __init__(self, runtime: Runtime, isa: Isa, forms: dict[str, list[Form]], illegal: int) -> None:
        self.runtime = runtime
        self.isa = isa
        self.forms = forms
        self.illegal = illegal

    def build(self) -> None:
        """Add the function to the runtime's module."""
        self.runtime.function("decode", 3, self.decode)

    def _pseudo(self, slot: Local, handler: str, off: Value, kind: int = 0) -> None:
        b = self.runtime.b
        at = slot.get()
        b.hstore(at, b.emit("address_of", I64, (), name=handler))
        b.hstore(at, b.const(I32, PSEUDO | kind << 8), SLOT_REG)
        b.hstore(at, off, SLOT_OFF)
        slot.set(at + SLOT_SIZE)

    def _executable(self, address: Value, attr: Value) -> Value:
        """i1: code may be fetched at `address`."""
        b = self.runtime.b
        inside = address.ult(1 << SIZE_BITS)
        flags = b.hload(attr + b.select(inside, address >> PAGE_BITS, 0), I8)
        return inside & (flags & EXEC).ne(0)

    def _mark(self, cpu: Value, address: Value, attr: Value) -> None:
        """From here on a store to this page takes the slow path."""
        r, b = self.runtime, self.runtime.b
        place = attr + (address >> PAGE_BITS)
        with b.if_((b.hload(place, I8) & CODE).eq(0)):
            with b.if_(r.needs_guard(cpu, b.hload(place, I8))):
                r.ask_to_mark(cpu, address)
                b.ret(b.const(I64, 0))
            b.hamo("or", place, b.const(I8, CODE))
            b.hamo("and", place, b.const(I8, ~FAST_W))

    def _fetch_fault(self, cpu: Value, address: Value) -> None:
        r, b = self.runtime, self.runtime.b
        for name, value in (("code", exits.FAULT), ("arg1", exits.EXECUTE), ("arg2", self.isa.unit)):
            r.put(cpu, name, value)
        r.put(cpu, "arg0", address)
        b.ret(b.const(I64, 0))

    def decode(self, cpu: Value, pc: Value, most: Value) -> None:
        """The body of the function."""
        r, b = self.runtime, self.runtime.b
        attr, mem = r.get(cpu, "attr"), r.get(cpu, "mem")
        unit = self.isa.unit
        with b.if_((self._executable(pc, attr) ^ 1) | (pc & (unit - 1)).ne(0)):
            self._fetch_fault(cpu, pc)
        with b.if_(r.get(cpu, "arena").ugt(r.get(cpu, "arena_end"))):
            b.call("flush", I64, cpu)
        block = r.get(cpu, "arena")
        for offset in (BLOCK_COUNT, BLOCK_TAKEN, BLOCK_FALL, BLOCK_NEXT, BLOCK_FIRST, BLOCK_SEEN, BLOCK_HEAT, BLOCK_PLAIN):
            b.hstore(block, b.const(I64, 0), offset)
        b.hstore(block, b.emit("address_of", I64, (), name="enter_block"), BLOCK_GO)
        unlinked = b.emit("address_of", I64, (), name="unlinked_block")
        b.hstore(block, unlinked, BLOCK_NEAR)
        b.hstore(block, unlinked, BLOCK_AFTER)
        b.hstore(block, pc, BLOCK_PC)
        slot = b.local(block + BLOCK_HEADER)
        here = b.local(pc)
        n = b.local(b.const(I64, 0))
        ended = b.local(b.const(I64, 0))
        self._fusion = FusionFollower(b)
        self._mark(cpu, pc, attr)
        with b.if_(r.get(cpu, "coverage").ne(0)):
            self._pseudo(slot, "p_cover", b.const(I8, 0))
        self._hooks(cpu, pc, slot, b.const(I8, 0), "block_hooks", "block_hook_count", 2)
        with b.loop():
            at = here.get()
            off = ((at - pc) >> 1).trunc(I8)
            b.break_if(n.get().uge(most))
            b.break_if(n.get().ne(0) & (at & (PAGE - 1)).eq(0))
            first = b.hload(mem + at, int_type(8 * unit)).zext(I32)
            word, length = b.local(first), b.const(I64, unit)
            longer = self.isa.emit_longer(b, first)
            if longer is not None:
                with b.if_(longer):
                    second = at + unit
                    with b.if_((second & (PAGE - 1)).eq(0)):
                        with b.if_(self._executable(second, attr)):
                            self._mark(cpu, second, attr)
                        with b.else_():
                            with b.if_(n.get().eq(0)):
                                self._fetch_fault(cpu, second)
                            ended.set(2)
                    b.break_if(ended.get().ne(0))
                    word.set(first | (b.hload(mem + second, int_type(8 * unit)).zext(I32) << 8 * unit))
                length = b.select(longer, b.const(I64, 2 * unit), unit)
            self._hooks(cpu, at, slot, off, "insn_hooks", "insn_hook_count", 1)
            self._instruction(word.get(), slot, off)
            here.set(at + length)
            n.set(n.get() + 1)
            form = self._form.get()
            last = b.hload(b.emit("address_of", I64, (), name="form_terminates") + form, I8)
            ended.set(last.zext(I64))
            b.break_if(last.ne(0))
        with b.if_(ended.get().ne(1)):
            self._pseudo(slot, "p_fall", ((here.get() - pc) >> 1).trunc(I8))
        b.hstore(block, here.get(), BLOCK_END)
        b.hstore(block, n.get().trunc(I32), BLOCK_N)
        after = (slot.get() + 63) & -64
        b.hstore(block, (after - block).trunc(I32), BLOCK_SIZE)
        r.put(cpu, "arena", after)
        r.count(cpu, "blocks")
        r.put(cpu, "decoded", r.get(cpu, "decoded") + n.get())
        b.ret(block)

    def _take_apart(self, word: Value, shape: Value, packed: Local, shapes: list[tuple[int, Encoding]]) -> None:
        """The operands of `word`, for each of the shapes."""
        if not shapes:
            return
        b = self.runtime.b
        number, encoding = shapes[0]
        with b.if_(shape.eq(number)):
            operands = encoding.build_operands(b, word)
            places = operand_places(encoding.insn)
            bits = b.const(I64, 0)
            for name, value in operands.items():
                offset, width = places[name]
                small = value if value.type is I64 else value.zext(I64)
                bits = bits | ((small & ((1 << width) - 1)) << ((offset - SLOT_IMM) * 8))
            packed.set(bits)
            for form in self.forms[encoding.insn.name][:-1]:
                match = b.true()
                for name, wanted in form.fixed.items():
                    match = match & operands[name].eq(wanted)
                with b.if_(match):
                    self._form.set(form.index)
        with b.else_():
            self._take_apart(word, shape, packed, shapes[1:])

    def _hooks(
        self, cpu: Value, at: Value, slot: Local, off: Value, table: str, count: str, kind: int
    ) -> None:
        """A slot that leaves, where `at` is in one of the ranges of a table of (first, last) pairs."""
        r, b = self.runtime, self.runtime.b
        left = b.local(r.get(cpu, count))
        entry = b.local(r.get(cpu, table))
        with b.loop():
            b.break_if(left.get().eq(0))
            inside = b.hload(entry.get(), I64).ule(at) & at.ule(b.hload(entry.get(), I64, 8))
            with b.if_(inside):
                self._pseudo(slot, "p_hook", off, kind)
                self._fusion.restart()
                left.set(1)
            left.set(left.get() - 1)
            entry.set(entry.get() + 16)

    def _instruction(self, word: Value, slot: Local, off: Value) -> None:
        """Fill the slot of one instruction from its `word`.

        Many encodings have the same operands in the same places; the tree says which handler and which of these shapes, and the
        operands are taken apart once for each shape.
        """
        b = self.runtime.b
        found = b.local(b.const(I64, self.illegal))
        packed = b.local(b.const(I64, 0))
        shapes: dict[Shape, tuple[int, Encoding]] = {}

        def leaf(encoding: Encoding) -> None:
            forms = self.forms[encoding.insn.name]
            number, _ = shapes.setdefault(_shape(encoding, len(forms) > 1), (len(shapes) + 1, encoding))
            found.set(forms[-1].index | number << 32)

        def illegal() -> None:
            pass

        self.isa.emit_decode(b, word, leaf, illegal)
        self._form = b.local(found.get() & 0xFFFF_FFFF)
        self._take_apart(word, found.get() >> 32, packed, [*shapes.values()])
        at = slot.get()
        form = self._form.get()
        handler = b.hload(b.emit("address_of", I64, (), name="form_handlers") + (form << 3), I64)
        b.hstore(at, handler)
        self._fusion.follow(at, form, packed.get())
        b.hstore(at, packed.get() | (off.zext(I64) << 56), SLOT_IMM)
        slot.set(at + SLOT_SIZE)
