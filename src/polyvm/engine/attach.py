"""How compiled regions get into the interpreter's blocks: native functions, written with the builder.

    refill      called by a region that runs out of budget: book what was executed, look at requests, grant more; 0: leave
    known       the block at an address, if it is decoded; else 0
    attach      let the region that the translation table has for a block, if any, stand for it; 1 if there was one
    install     the same for the block at an address, where it is decoded

A region is only attached where the guest's memory still holds the code that it was made from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.engine.layout import (
    BLOCK_FIRST,
    BLOCK_HEADER,
    BLOCK_NEXT,
    BLOCK_PC,
    BUCKET_BITS,
    PSEUDO,
    REGION_SLICE,
    SAMPLES,
    SLOT_REG,
    TABLE_BITS,
    TABLE_PROBES,
)
from polyvm.ir import I8, I16, I64
from polyvm.mem import CODE, EXEC, FAST_W, PAGE_BITS, SIZE_BITS

if TYPE_CHECKING:
    from polyvm.engine.runtime import Runtime
    from polyvm.ir import Value

_GOLDEN = 0x9E3779B97F4A7C15


def table_index(pc: int) -> int:
    """The first entry of the translation table that address `pc` may have."""
    return (pc * _GOLDEN & (1 << 64) - 1) >> (64 - TABLE_BITS)


def sample(r: Runtime, cpu: Value, what: Value) -> None:
    """Put `what` into the ring of samples, and ask for a tick when enough were taken."""
    b = r.b
    taken = r.get(cpu, "sampled")
    b.hstore(cpu + ((taken & (SAMPLES - 1)) << 3), what, r.record.samples)
    r.put(cpu, "sampled", taken + 1)
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
        r.function("refill", 3, self.refill, "preserve_mostcc")
        r.function("known", 2, self.known)
        r.function("verify", 2, self.verify)
        r.function("attach", 2, self.attach)
        r.function("install", 2, self.install)

    def refill(self, cpu: Value, budget: Value, pc: Value) -> None:
        r, b = self.r, self.r.b
        limit = r.settle(cpu, budget)
        sample(r, cpu, pc | 1)
        pending = b.hload(cpu, I64, r.record["stop"]) | r.get(cpu, "tick")
        stale = r.get(cpu, "epoch").ne(b.hload(r.get(cpu, "epoch_ptr"), I64))
        with b.if_(pending.ne(0) | limit.sle(0) | stale):
            b.ret(b.const(I64, 0))
        grant = limit.smin(b.const(I64, REGION_SLICE))
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

    def verify(self, cpu: Value, record: Value) -> None:
        """1 if all parts of guest code are what the record says; their pages are marked as having decoded code."""
        r, b = self.r, self.r.b
        attr, mem = r.get(cpu, "attr"), r.get(cpu, "mem")
        part = b.local(record + 16)
        left = b.local(b.hload(record, I64, 8))
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
        with b.if_(table.eq(0) | b.hload(block, I8, BLOCK_HEADER + SLOT_REG).eq(PSEUDO)):
            b.ret(b.const(I64, 0))
        pc = b.hload(block, I64, BLOCK_PC)
        index = b.local((pc * _GOLDEN) >> (64 - TABLE_BITS))
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
        with b.if_(b.call("verify", I64, cpu, record.get()).eq(0)):
            b.ret(b.const(I64, 0))
        with b.if_(b.hload(block, I64, BLOCK_FIRST).eq(0)):
            b.hstore(block, b.hload(block, I64, BLOCK_HEADER), BLOCK_FIRST)
        b.hstore(block, b.hload(record.get(), I64), BLOCK_HEADER)
        r.count(cpu, "attached")
        b.ret(b.const(I64, 1))

    def install(self, cpu: Value, pc: Value) -> None:
        b = self.r.b
        block = b.call("known", I64, cpu, pc)
        with b.if_(block.eq(0)):
            b.ret(b.const(I64, 0))
        b.ret(b.call("attach", I64, cpu, block))
