"""How blocks get stencils: native functions, written with the builder.

    stamp        copy stencils for the blocks that wait; 0 where there was no room for all
    stamp_block  copy the stencils of a block's slots one after the other, and let them stand for the block; 0 for want of room
    stencil_fault  back to the interpreter, at the instruction: where a host signal handler sends a thread whose access in a
                 stencil the host refused; instead of the slot it gets the host's pc
    unlinked     the last instruction of a block, whose successor is not known, in the interpreter; instead of the slot it
                 gets the block

A stencil is the machine code of a handler whose operands are filled in as it is copied (`stencils.py`). The code goes to a
range of
memory of the core's own, which begins with what stencils refer to (`Stencils`):

    the addresses of functions of the interpreter, the jumps to them, the ways back to the interpreter at each slot, constants

For each stencil there is an entry, and for each hole in it another:

    +0  code   offset (u32)      +4   holes  offset of the first (u32)
    +8  size   bytes (u16)       +10  count  holes (u16)
    +12 slots  it takes (u8)     +13  ends   1: nothing of the block follows (u8)
    +14 access which of its slots accesses guest memory (u8)

    +0  at     offset (u16)      +2   kind   see below (u8)
    +3  size   bytes (u8)        +4   slot   which of the stencil's slots it is about (u8)
    +5  left   shift (u8)        +6   right  shift (u8)
    +8  addend (i32)             +12  factor (i32)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.engine.handlers import MARK_ENTER
from polyvm.engine.layout import BLOCK_FIRST, BLOCK_GO, BLOCK_HEADER, BLOCK_N, BLOCK_PLAIN, SLOT_IMM, SLOT_SIZE
from polyvm.ir import I8, I16, I32, I64

if TYPE_CHECKING:
    from polyvm.engine.runtime import Runtime
    from polyvm.ir import Value

# Kinds of holes: bits of the slot's operands, unsigned or signed, times `factor`; the slot's distance from its block; the
# number of
# instructions in the block; the distance to what follows the stencil, to the way back to the interpreter, to something at the
# start of the core's stencils.
UNSIGNED, SIGNED, PLACE, LENGTH, NEXT, BACK, ARENA = range(7)
BACK_SIZE = 16  # bytes of a way back


class Stamp:
    """Adds the functions to the runtime's module."""

    def __init__(self, runtime: Runtime) -> None:
        self.r = runtime

    def build(self) -> None:
        """All of them."""
        self.r.function("stamp", 1, self.stamp)
        self.r.function("stamp_block", 2, self.stamp_block)
        self.r.chained(self.stencil_fault)
        self.r.chained(self.unlinked)
        block = ["null"] * (BLOCK_HEADER // 8)
        block[BLOCK_GO // 8] = "@unlinked"
        self.r.module.table("unlinked_block", "ptr", block)

    def stamp(self, cpu: Value) -> None:
        r, b = self.r, self.r.b
        with b.loop():
            block = r.get(cpu, "warm_list")
            b.break_if(block.eq(1))
            following = b.hload(block, I64, BLOCK_PLAIN)
            with b.if_(b.call("stamp_block", I64, cpu, block).eq(0)):
                b.ret(b.const(I64, 0))
            r.put(cpu, "warm_list", following)
        b.ret(b.const(I64, 1))

    def stamp_block(self, cpu: Value, block: Value) -> None:
        r, b = self.r, self.r.b
        start = (r.get(cpu, "stamp_at") + 15) & -16
        enter = r.get(cpu, "stencil_table") + (MARK_ENTER << 4)
        body = start + b.hload(enter, I16, 8).zext(I64)
        end = r.get(cpu, "stamp_end")
        attached = b.hload(block, I64, BLOCK_FIRST)
        first = b.select(attached.ne(0), attached, b.hload(block, I64, BLOCK_HEADER))
        with b.if_(end.ult(body + 8)):
            b.ret(b.const(I64, 0))
        self._copy(cpu, block, block, start, enter)
        at = b.local(body)
        slot = b.local(block + BLOCK_HEADER)
        with b.loop():
            here, place = slot.get(), at.get()
            handler = b.select(here.eq(block + BLOCK_HEADER), first, b.hload(here, I64))
            entry = self._entry(cpu, handler)
            size = b.hload(entry, I16, 8).zext(I64)
            with b.if_(end.ult(place + size + 8)):
                b.ret(b.const(I64, 0))
            self._copy(cpu, block, here, place, entry)
            slot.set(here + (b.hload(entry, I8, 12).zext(I64) << 4))
            at.set(place + size)
            b.break_if(b.hload(entry, I8, 13).ne(0))
        b.hstore(block, first, BLOCK_PLAIN)
        with b.if_(attached.ne(0)):
            b.hstore(block, body, BLOCK_FIRST)
        with b.else_():
            b.hstore(block, body, BLOCK_HEADER)
            b.hstore(block, start, BLOCK_GO)
        r.put(cpu, "stamp_at", at.get())
        r.count(cpu, "stamped")
        b.ret(b.const(I64, 1))

    def stencil_fault(self, cpu: Value, pc: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        b = self.r.b
        first = block + BLOCK_HEADER
        attached = b.hload(block, I64, BLOCK_FIRST)
        at = b.local(b.select(attached.ne(0), attached, b.hload(first, I64)))
        slot = b.local(first)
        entry = b.local(b.const(I64, 0))
        with b.loop():
            entry.set(self._entry(cpu, b.select(slot.get().eq(first), b.hload(block, I64, BLOCK_PLAIN), b.hload(slot.get(),
            I64))))
            end = at.get() + b.hload(entry.get(), I16, 8).zext(I64)
            b.break_if(pc.ult(end) | b.hload(entry.get(), I8, 13).ne(0))
            at.set(end)
            slot.set(slot.get() + (b.hload(entry.get(), I8, 12).zext(I64) << 4))
        here = slot.get() + (b.hload(entry.get(), I8, 14).zext(I64) << 4)
        handler = b.select(here.eq(first), b.hload(block, I64, BLOCK_PLAIN), b.hload(here, I64))
        b.tailcall("", handler, cpu, here, block, budget, mem, attr)

    def unlinked(self, cpu: Value, origin: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        b = self.r.b
        first = origin + BLOCK_HEADER
        slot = b.local(first)
        entry = b.local(b.const(I64, 0))
        with b.loop():
            here = slot.get()
            entry.set(self._entry(cpu, b.select(here.eq(first), b.hload(origin, I64, BLOCK_PLAIN), b.hload(here, I64))))
            slot.set(here + (b.hload(entry.get(), I8, 12).zext(I64) << 4))
            b.break_if(b.hload(entry.get(), I8, 13).ne(0))
        last = slot.get() - SLOT_SIZE
        handler = b.select(last.eq(first), b.hload(origin, I64, BLOCK_PLAIN), b.hload(last, I64))
        b.tailcall("", handler, cpu, last, origin, budget, mem, attr)

    def _entry(self, cpu: Value, handler: Value) -> Value:
        """The entry of a handler's stencil."""
        return self.r.get(cpu, "stencil_table") + (self.r.b.hload(handler, I64, -8) << 4)

    def _copy(self, cpu: Value, block: Value, slot: Value, target: Value, entry: Value) -> None:
        """Copy the stencil with that entry, for `slot`, to `target`."""
        b = self.r.b
        source = self.r.get(cpu, "stencil_code") + b.hload(entry, I32).zext(I64)
        size = b.hload(entry, I16, 8).zext(I64)
        done = b.local(b.const(I64, 0))
        with b.loop():
            b.break_if(done.get().uge(size))
            b.hstore(target + done.get(), b.hload(source + done.get(), I64))
            done.set(done.get() + 8)
        self._fill(cpu, block, slot, target, entry)

    def _fill(self, cpu: Value, block: Value, slot: Value, place: Value, entry: Value) -> None:
        """The holes of one stencil, copied to `place` for `slot`."""
        r, b = self.r, self.r.b
        hole = b.local(r.get(cpu, "stencil_holes") + b.hload(entry, I32, 4).zext(I64))
        left = b.local(b.hload(entry, I16, 10).zext(I64))
        arena = r.get(cpu, "stamp_start")
        with b.loop():
            b.break_if(left.get().eq(0))
            it = hole.get()
            kind = b.hload(it, I8, 2)
            to = place + b.hload(it, I16).zext(I64)
            addend = b.hload(it, I32, 8).sext(I64)
            own = slot + b.hload(it, I8, 4).zext(I64) * SLOT_SIZE
            value = b.local(addend)
            with b.if_(kind.ule(SIGNED)):
                field = b.hload(own, I64, SLOT_IMM) << b.hload(it, I8, 5).zext(I64)
                right = b.hload(it, I8, 6).zext(I64)
                bits = b.select(kind.eq(SIGNED), field.asr(right), field >> right)
                value.set(addend + bits * b.hload(it, I32, 12).sext(I64))
            with b.else_():
                with b.if_(kind.eq(PLACE)):
                    value.set(addend + own - block)
                with b.if_(kind.eq(LENGTH)):
                    value.set(addend + b.hload(block, I32, BLOCK_N).zext(I64))
                with b.if_(kind.eq(NEXT)):
                    value.set(addend + place + b.hload(entry, I16, 8).zext(I64) - to)
                with b.if_(kind.eq(BACK)):
                    value.set(addend + arena + (own - block - BLOCK_HEADER) * (BACK_SIZE // SLOT_SIZE) - to)
                with b.if_(kind.eq(ARENA)):
                    value.set(addend + arena - to)
            size = b.hload(it, I8, 3)
            with b.if_(size.eq(4)):
                b.hstore(to, value.get().trunc(I32))
            with b.if_(size.eq(8)):
                b.hstore(to, value.get())
            with b.if_(size.eq(1)):
                b.hstore(to, value.get().trunc(I8))
            hole.set(it + 16)
            left.set(left.get() - 1)
