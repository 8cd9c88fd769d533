"""How compiled regions get into the interpreter's blocks: native functions, written with the builder.

    scan        bring every block's heat up to date and list the hottest
    refill      called by a region that runs out of budget: book what was executed, look at requests, grant more; 0: leave
    known       the block at an address, if it is decoded; else 0
    verify      whether the guest code that a region was made from is still there
    attach      let the region that the translation table has for a block, if any, stand for it; 1 if there was one
    install     the same for the block at an address, where it is decoded
    restore     fill in the CPU record at a rare exit of a region

A region is only attached where the guest's memory still holds the code that it was made from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.engine.exits import restore
from polyvm.engine.layout import (
    BLOCK_COUNT,
    BLOCK_ENTRY,
    BLOCK_FIRST,
    BLOCK_GO,
    BLOCK_HEADER,
    BLOCK_HEAT,
    BLOCK_N,
    BLOCK_NEXT,
    BLOCK_PC,
    BLOCK_SEEN,
    BLOCK_SIZE,
    BUCKET_BITS,
    GOLDEN,
    PSEUDO,
    SLOT_REG,
    TABLE_BITS,
    TABLE_PROBES,
)
from polyvm.ir import I8, I16, I32, I64
from polyvm.mem import CODE, EXEC, FAST_W, PAGE_BITS, SIZE_BITS

if TYPE_CHECKING:
    from polyvm.engine.runtime import Runtime
    from polyvm.ir import Value

def count_slice(r: Runtime, cpu: Value) -> None:
    """Ask for a tick when enough slices were used up."""
    b = r.b
    left = r.get(cpu, "tick_left") - 1
    r.put(cpu, "tick_left", left)
    with b.if_(left.sle(0)):
        r.put(cpu, "tick", 1)


class Attach:
    """Adds the functions to the runtime's module."""

    def __init__(self, runtime: Runtime) -> None:
        self.r = runtime

    def build(self) -> None:
        """All of them."""
        r = self.r
        r.function("scan", 4, self.scan)
        r.function("refill", 2, self.refill, "preserve_mostcc")
        r.function("known", 2, self.known)
        r.function("verify", 2, self.verify)
        r.function("attach", 2, self.attach)
        r.function("install", 2, self.install)
        r.function("restore", 2, self.restore)

    def restore(self, saved: Value, note: Value) -> None:
        """See `exits.py`."""
        restore(self.r, saved, note)

    def scan(self, cpu: Value, out: Value, most: Value, threshold: Value) -> None:
        """Heat halves from look to look. Address and heat of blocks that reach `threshold` go to `out`, `most` at most; how
        many they are."""
        r, b = self.r, self.r.b
        end = r.get(cpu, "arena")
        at = b.local(r.get(cpu, "arena_start"))
        found = b.local(b.const(I64, 0))
        total = b.local(b.const(I64, 0))
        with b.loop():
            block = at.get()
            b.break_if(block.uge(end))
            count = b.hload(block, I64, BLOCK_COUNT)
            entered = count - b.hload(block, I64, BLOCK_SEEN)
            old = b.hload(block, I64, BLOCK_HEAT)
            at.set(block + b.hload(block, I32, BLOCK_SIZE).zext(I64))
            with b.if_((entered | old).ne(0)):
                b.hstore(block, count, BLOCK_SEEN)
                attached = b.hload(block, I64, BLOCK_FIRST).ne(0)
                executed = b.select(attached, 0, entered * b.hload(block, I32, BLOCK_N).zext(I64))
                heat = (old >> 1) + executed
                b.hstore(block, heat, BLOCK_HEAT)
                total.set(total.get() + executed)
                with b.if_(threshold.ule(heat) & found.get().ult(most)):
                    place = out + (found.get() << 4)
                    b.hstore(place, b.hload(block, I64, BLOCK_PC))
                    b.hstore(place, heat, 8)
                    found.set(found.get() + 1)
        r.put(cpu, "interpreted", r.get(cpu, "interpreted") + total.get())
        b.ret(found.get())

    def refill(self, cpu: Value, budget: Value) -> None:
        r, b = self.r, self.r.b
        limit = r.settle(cpu, budget)
        count_slice(r, cpu)
        pending = b.hload(cpu, I64, r.record["stop"]) | r.get(cpu, "tick")
        stale = r.get(cpu, "epoch").ne(b.hload(r.get(cpu, "epoch_ptr"), I64))
        with b.if_(pending.ne(0) | limit.sle(0) | stale):
            r.put(cpu, "refused", 1)
            b.ret(b.const(I64, 0))
        grant = r.grant(cpu, limit)
        r.put(cpu, "granted", grant)
        b.ret(grant)

    def known(self, cpu: Value, pc: Value) -> None:
        r, b = self.r, self.r.b
        with b.if_(r.get(cpu, "epoch").ne(b.hload(r.get(cpu, "epoch_ptr"), I64))):
            b.ret(b.const(I64, 0))
        bucket = r.get(cpu, "buckets") + (((pc >> 1) & ((1 << BUCKET_BITS) - 1)) << 3)
        block = b.local(b.hload(bucket, I64))
        with b.loop():
            b.break_if(block.get().eq(0))
            b.break_if(b.hload(block.get(), I64, BLOCK_PC).eq(pc))
            block.set(b.hload(block.get(), I64, BLOCK_NEXT))
        b.ret(block.get())

    def verify(self, cpu: Value, parts: Value) -> None:
        """1 if all parts of guest code are what they were; their pages are marked as having decoded code."""
        r, b = self.r, self.r.b
        attr, mem = r.get(cpu, "attr"), r.get(cpu, "mem")
        part = b.local(parts + 8)
        left = b.local(b.hload(parts, I64))
        with b.loop():
            b.break_if(left.get().eq(0))
            address = b.hload(part.get(), I64)
            length = b.hload(part.get(), I64, 8)
            bytes_ = b.hload(part.get(), I64, 16)
            with b.if_(address.uge(1 << SIZE_BITS)):
                b.ret(b.const(I64, 0))
            place = attr + (address >> PAGE_BITS)
            with b.if_((b.hload(place, I8) & EXEC).eq(0)):
                b.ret(b.const(I64, 0))
            with b.if_((b.hload(place, I8) & CODE).eq(0)):
                with b.if_(r.needs_guard(cpu, b.hload(place, I8))):
                    r.put(cpu, "unmarked", address)
                    b.ret(b.const(I64, 0))
                b.hamo("or", place, b.const(I8, CODE))
                b.hamo("and", place, b.const(I8, ~FAST_W))
            at = b.local(b.const(I64, 0))
            with b.loop():
                b.break_if(at.get().uge(length))
                with b.if_(b.hload(mem + address + at.get(), I16).ne(b.hload(bytes_ + at.get(), I16))):
                    b.ret(b.const(I64, 0))
                at.set(at.get() + 2)
            part.set(part.get() + 24)
            left.set(left.get() - 1)
        b.ret(b.const(I64, 1))

    def attach(self, cpu: Value, block: Value) -> None:
        r, b = self.r, self.r.b
        table = r.get(cpu, "translations")
        hooked = b.hload(block, I8, BLOCK_HEADER + SLOT_REG).eq(PSEUDO) & b.hload(block, I8, BLOCK_HEADER + SLOT_REG + 1).ne(0)
        with b.if_(table.eq(0) | hooked):
            b.ret(b.const(I64, 0))
        pc = b.hload(block, I64, BLOCK_PC)
        index = b.local((pc * GOLDEN) >> (64 - TABLE_BITS))
        left = b.local(b.const(I64, TABLE_PROBES))
        record = b.local(b.const(I64, 0))
        with b.loop():
            entry = table + (index.get() << 4)
            with b.if_(b.hload(entry, I64).eq(pc)):
                record.set(b.hload(entry, I64, 8))
            left.set(left.get() - 1)
            b.break_if(record.get().ne(0) | left.get().eq(0))
            index.set((index.get() + 1) & ((1 << TABLE_BITS) - 1))
        with b.if_(record.get().eq(0)):
            b.ret(b.const(I64, 0))
        with b.if_(b.call("verify", I64, cpu, b.hload(record.get(), I64, 16)).eq(0)):
            b.ret(b.const(I64, 0))
        with b.if_(b.hload(block, I64, BLOCK_FIRST).eq(0)):
            b.hstore(block, b.hload(block, I64, BLOCK_HEADER), BLOCK_FIRST)
        b.hstore(block, b.hload(record.get(), I64, 8), BLOCK_ENTRY)
        b.hstore(block, b.hload(record.get(), I64), BLOCK_HEADER)
        b.hstore(block, b.hload(record.get(), I64, 24), BLOCK_GO)
        r.count(cpu, "attached")
        b.ret(b.const(I64, 1))

    def install(self, cpu: Value, pc: Value) -> None:
        b = self.r.b
        block = b.call("known", I64, cpu, pc)
        with b.if_(block.eq(0)):
            b.ret(b.const(I64, 0))
        b.ret(b.call("attach", I64, cpu, block))
