"""The interpreter's native functions that belong to no instruction, written with the builder.

Functions with six parameters are part of the chain of tail calls, like handlers: CPU record, slot, block, budget, guest
memory, page attributes. The others follow the host's C convention.

    run             enter the chain at the CPU's pc; returns when something leaves it
    budget_out      the budget is used up: stop, look at requests, or go on with the next slice
    resume          interpret the block at the CPU's pc
    link, lookup    find the block at the CPU's pc (link: and note it in the predecessor), go there
    leave_inside    leave in the middle of a block: give back what was not executed, set the pc
    host_fault, region_fault  where a host signal handler sends a thread whose guest access the host could not serve
    find            the block at an address: from the hash, or decoded
    flush           forget all decoded code
    check_access    the full check of one memory access; sets the exit record if it is refused
    instret         instructions executed so far
    p_*             handlers of slots that are no guest instruction
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.codegen.llvm import Emitter
from polyvm.engine.attach import Attach, count_slice
from polyvm.engine.handlers import CONVENTION, MARK_COVER, MARK_FALL, MARK_NONE, PARAMS, HandlerEmitter
from polyvm.engine.layout import (
    ARENA_BYTES,
    BLOCK_BYTES,
    BLOCK_COUNT,
    BLOCK_FALL,
    BLOCK_FIRST,
    BLOCK_HEADER,
    BLOCK_N,
    BLOCK_NEXT,
    BLOCK_PC,
    BLOCK_PLAIN,
    BLOCK_SIZE,
    BUCKET_BITS,
    GOLDEN,
    JUMP_CACHE_BITS,
    JUMP_CACHE_FOLD,
    JUMP_CACHE_MASK,
    MAX_BLOCK,
    PSEUDO,
    SLICE,
    SLOT_OFF,
    SLOT_REG,
    SLOT_SIZE,
    SPREAD_BITS,
    TO_NEAR,
    CpuRecord,
)
from polyvm.engine.region import ENOUGH
from polyvm.engine.stamp import Stamp
from polyvm.ir import I8, I32, I64, Builder, Type, Value
from polyvm.mem import CODE, FAST_W, PAGE_BITS, READ, SIZE_BITS, WATCH_R, WATCH_W, WRITE
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.codegen.llvm_module import ModuleText

_FEW_BLOCKS = 1 << 20  # bytes of decoded blocks that are looked at one by one when they are forgotten
_STOP_KINDS_COUNTED = (exits.SYSCALL, exits.EVAL)


class Runtime:
    """Adds the functions to a module."""

    def __init__(self, module: ModuleText, record: CpuRecord) -> None:
        self.module = module
        self.record = record
        self.b = Builder(record.layout)

    def build(self) -> None:
        """All of them."""
        for function in (
            self.budget_out, self.link, self.lookup, self.resume, self.leave_inside, self.host_fault,
            self.region_fault, self.warm, self.enter_block, self.go_indirect, self.short_budget,
        ):
            self.chained(function)
        self.chained(self.p_hook, MARK_NONE)
        self.chained(self.p_cover, MARK_COVER)
        self.function("find", 2, self.find)
        self.function("flush", 1, self.flush)
        self.function("check_access", 3, self.check_access)
        self.function("instret", 4, self.instret)
        self.function("executed_in_block", 2, self.executed_in_block)
        self.function("run", 1, self.run)
        Attach(self).build()
        Stamp(self).build()
        fall = HandlerEmitter(self.module, "p_fall", self.record, "p_fall", terminates=True)
        fall.mark = MARK_FALL
        fall.chained(BLOCK_FALL, None)
        fall.finish()

    # -- writing functions ------------------------------------------------------------------------------------

    def chained(self, body: Callable[..., None], mark: int | None = None) -> None:
        """A function in the chain of tail calls."""
        emitter = HandlerEmitter(self.module, body.__name__, self.record, None, terminates=True)
        emitter.mark = mark
        self.write(emitter, PARAMS, body)

    def function(self, name: str, arity: int, body: Callable[..., None], convention: str = "") -> None:
        """A function of the C convention, or another, with i64 parameters and an i64 result."""
        self.write(Emitter(self.module, name, [I64] * arity, I64, convention), [I64] * arity, body)

    def write(self, emitter: Emitter, params: list[Type], body: Callable[..., None]) -> None:
        """The function of `emitter`, with what `body` builds in it."""
        self.b = Builder(self.record.layout)
        body(*[self.b.emit("param", t, index=i) for i, t in enumerate(params)])
        emitter.region(self.b.body)
        emitter.finish()

    def get(self, cpu: Value, name: str) -> Value:
        """A field of the CPU record."""
        return self.b.hload(cpu, I64, self.record[name])

    def put(self, cpu: Value, name: str, value: Value | int) -> None:
        """Write a field of the CPU record."""
        self.b.hstore(cpu, self.b.coerce(value, I64), self.record[name])

    def count(self, cpu: Value, name: str) -> None:
        """Add one to a field of the CPU record."""
        self.put(cpu, name, self.get(cpu, name) + 1)

    def pc(self, cpu: Value) -> Value:
        """The guest's pc."""
        return self.b.hload(cpu, I64, self.record.layout["pc"].offset)

    def set_pc(self, cpu: Value, value: Value) -> None:
        """Write the guest's pc."""
        self.b.hstore(cpu, value, self.record.layout["pc"].offset)

    def _enter(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        """Go to `block`: count the entry, take its instructions from the budget."""
        b = self.b
        entered = b.hload(block, I64, BLOCK_COUNT) + 1
        b.hstore(block, entered, BLOCK_COUNT)
        with b.if_(entered.eq(self.get(cpu, "warm"))):
            b.tailcall("warm", cpu, slot, block, budget, mem, attr)
        left = budget - b.hload(block, I32, BLOCK_N).zext(I64)
        with b.if_(left.slt(0)):
            b.tailcall("budget_out", cpu, slot, block, left, mem, attr)
        handler = b.hload(block, I64, BLOCK_HEADER)
        b.tailcall("", handler, cpu, block + BLOCK_HEADER, block, left, mem, attr)

    def enter_block(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        """The same as a function."""
        self._enter(cpu, slot, block, budget, mem, attr)

    def go_indirect(self, cpu: Value, target: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        """Where a stencil jumps to an address."""
        self.b.indirect(target)

    def settle(self, cpu: Value, budget: Value) -> Value:
        """Book what was executed since the budget was granted; the limit that is left."""
        used = self.get(cpu, "granted") - budget
        self.put(cpu, "executed", self.get(cpu, "executed") + used)
        limit = self.get(cpu, "limit") - used
        self.put(cpu, "limit", limit)
        self.put(cpu, "granted", 0)
        return limit

    def grant(self, cpu: Value, limit: Value) -> Value:
        """The next slice, of the limit that is left. It is somewhat shorter at random, lest a loop ends all its slices at one of
        its places: ticks are to find the guest wherever it spends its time."""
        spread = (self.get(cpu, "executed") * GOLDEN) >> (64 - SPREAD_BITS)
        return limit.smin(self.b.const(I64, SLICE) - spread)

    def _leave(self, cpu: Value, code: int) -> None:
        self.put(cpu, "code", code)
        self.b.ret()

    # -- the chain --------------------------------------------------------------------------------------------

    def budget_out(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        b = self.b
        self.put(cpu, "host_sp", b.emit("entry_sp", I64))
        n = b.hload(block, I32, BLOCK_N).zext(I64)
        pc = b.hload(block, I64, BLOCK_PC)
        # Its entry is counted already, and will be again if it is left now.
        b.hstore(block, b.hload(block, I64, BLOCK_COUNT) - 1, BLOCK_COUNT)
        with b.if_(self.get(cpu, "granted").sgt(budget + n)):
            count_slice(self, cpu)
        limit = self.settle(cpu, budget + n)
        refused = self.get(cpu, "refused")
        self.put(cpu, "refused", 0)
        self.put(cpu, "ticked_in", b.select(refused.ne(0), self.pc(cpu), 0))
        self.set_pc(cpu, pc)
        with b.if_(b.hload(cpu, I32, self.record["stop"]).ne(0)):
            self._leave(cpu, exits.STOPPED)
        with b.if_(limit.sle(0)):
            self._leave(cpu, exits.BUDGET)
        with b.if_(self.get(cpu, "tick").ne(0)):
            self.put(cpu, "tick", 0)
            self._leave(cpu, exits.TICK)
        with b.if_(self._unoffered(cpu, block, pc)):
            self._leave(cpu, exits.TICK)
        with b.if_(self.get(cpu, "warm_list").ne(1)):
            wait = self.get(cpu, "warm_wait") - 1
            self.put(cpu, "warm_wait", wait)
            with b.if_(wait.sle(0)):
                self._leave(cpu, exits.STAMP)
        grant = self.grant(cpu, limit)
        self.put(cpu, "granted", grant)
        with b.if_(self.get(cpu, "epoch").ne(b.hload(self.get(cpu, "epoch_ptr"), I64))):
            b.tailcall("lookup", cpu, slot, block, grant, mem, attr)
        with b.if_(grant.ult(n)):
            # The last instructions of a limited run: a block cut to size, which nothing else finds.
            short = b.call("decode", I64, cpu, b.hload(block, I64, BLOCK_PC), grant)
            with b.if_(short.eq(0)):
                self.settle(cpu, grant)
                b.ret()
            self._enter(cpu, slot, short, grant, mem, attr)
        b.hstore(block, b.hload(block, I64, BLOCK_COUNT) + 1, BLOCK_COUNT)
        b.tailcall("", b.hload(block, I64, BLOCK_HEADER), cpu, block + BLOCK_HEADER, block, grant - n, mem, attr)

    def _find_or_leave(self, cpu: Value, budget: Value) -> Value:
        b = self.b
        found = b.call("find", I64, cpu, self.pc(cpu))
        with b.if_(found.eq(0)):
            self.settle(cpu, budget)
            b.ret()
        with b.if_(self._unoffered(cpu, found, self.pc(cpu))):
            self.settle(cpu, budget)
            self._leave(cpu, exits.TICK)
        return found

    def _unoffered(self, cpu: Value, block: Value, pc: Value) -> Value:
        """i1: the JIT wants to see this block before it is executed."""
        forced, first = self.get(cpu, "forced"), self.b.hload(block, I64, BLOCK_FIRST)
        return forced.ne(0) & first.eq(0) & self.get(cpu, "forced_pc").ne(pc)

    def short_budget(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        """A region is to be entered at `block`, whose instructions were taken from the budget, but what is left may be too little
        for its longest way to a checkpoint. Then the block is interpreted."""
        b = self.b
        with b.if_(budget.slt(0)):
            b.tailcall("budget_out", cpu, slot, block, budget, mem, attr)
        self.set_pc(cpu, b.hload(block, I64, BLOCK_PC))  # for `ticked_in`
        granted = b.emit("call", I64, (cpu, budget), callee="refill", convention="preserve_mostcc")
        handler = b.local(b.hload(block, I64, BLOCK_HEADER))
        with b.if_(granted.slt(ENOUGH)):
            handler.set(b.hload(block, I64, BLOCK_FIRST))
        b.tailcall("", handler.get(), cpu, block + BLOCK_HEADER, block, granted, mem, attr)

    def warm(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        """Go to `block`, which was counted and is to have stencils soon."""
        b = self.b
        # An entry that was taken back is counted again: once is enough.
        with b.if_(b.hload(block, I64, BLOCK_PLAIN).eq(0)):
            b.hstore(block, self.get(cpu, "warm_list"), BLOCK_PLAIN)
            self.put(cpu, "warm_list", block)
        left = budget - b.hload(block, I32, BLOCK_N).zext(I64)
        with b.if_(left.slt(0)):
            b.tailcall("budget_out", cpu, slot, block, left, mem, attr)
        b.tailcall("", b.hload(block, I64, BLOCK_HEADER), cpu, block + BLOCK_HEADER, block, left, mem, attr)

    def link(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        found = self._find_or_leave(cpu, budget)
        self.b.hstore(self.get(cpu, "link_to"), found)
        self.b.hstore(self.get(cpu, "link_to"), found, TO_NEAR)
        self.count(cpu, "links")
        self._enter(cpu, slot, found, budget, mem, attr)

    def lookup(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        found = self._find_or_leave(cpu, budget)
        self.count(cpu, "lookups")
        pc = self.pc(cpu)
        entry = cpu + self._jump_offset(pc)
        self.b.hstore(entry, pc, self.record.jump_cache)
        self.b.hstore(entry, found, self.record.jump_cache + 8)
        self._enter(cpu, slot, found, budget, mem, attr)

    @staticmethod
    def _jump_offset(pc: Value) -> Value:
        """`jump_offset` as native code."""
        return ((pc ^ (pc >> JUMP_CACHE_FOLD)) << 3) & JUMP_CACHE_MASK

    def resume(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        """Interpret from the pc on, even where a region stands for the block there: one has left this instruction over."""
        b = self.b
        self.count(cpu, "resumes")
        found = self._find_or_leave(cpu, budget)
        left = budget - b.hload(found, I32, BLOCK_N).zext(I64)
        with b.if_(left.slt(0)):
            b.hstore(found, b.hload(found, I64, BLOCK_COUNT) + 1, BLOCK_COUNT)
            b.tailcall("budget_out", cpu, slot, found, left, mem, attr)
        handler = b.local(b.hload(found, I64, BLOCK_FIRST))
        with b.if_(handler.get().eq(0)):
            handler.set(b.hload(found, I64, BLOCK_HEADER))
        b.tailcall("", handler.get(), cpu, found + BLOCK_HEADER, found, left, mem, attr)

    def leave_inside(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        b = self.b
        code = self.get(cpu, "code")
        done = b.local(b.call("executed_in_block", I64, slot, block))
        for counted in _STOP_KINDS_COUNTED:
            with b.if_(code.eq(counted)):
                done.set(done.get() + 1)
        off = b.hload(slot, I8, SLOT_OFF).zext(I64)
        self.set_pc(cpu, b.hload(block, I64, BLOCK_PC) + (off << 1))
        n = b.hload(block, I32, BLOCK_N).zext(I64)
        self.settle(cpu, budget + n - done.get())
        b.ret()

    def host_fault(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        self.put(cpu, "code", exits.HOSTFAULT)
        self.put(cpu, "arg1", 0)
        self.b.tailcall("leave_inside", cpu, slot, block, budget, mem, attr)

    def region_fault(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        """The same in a compiled region. The guest's registers are those with which it was entered, and so is the pc."""
        self.put(cpu, "granted", 0)
        self.put(cpu, "arg1", 1)
        self._leave(cpu, exits.HOSTFAULT)

    # -- slots that are no guest instruction --------------------------------------------------------------------

    def _next_slot(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        self.b.tailcall("", self.b.hload(slot, I64, SLOT_SIZE), cpu, slot + SLOT_SIZE, block, budget, mem, attr)

    def p_hook(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        """Leave before the next instruction, unless this is how the run went on from there."""
        b = self.b
        off = b.hload(slot, I8, SLOT_OFF).zext(I64)
        here = b.hload(block, I64, BLOCK_PC) + (off << 1)
        kind = b.hload(slot, I8, SLOT_REG + 1).zext(I64)
        # A hook on the block comes before one on its first instruction, so stopping at the latter passes both.
        stopped_at = self.get(cpu, "hook_kind")
        with b.if_(self.get(cpu, "hook_skip").eq(here) & stopped_at.ule(kind)):
            with b.if_(stopped_at.eq(kind)):
                self.put(cpu, "hook_skip", -1)
            self._next_slot(cpu, slot, block, budget, mem, attr)
        self.put(cpu, "code", exits.HOOK)
        self.put(cpu, "hook_kind", kind)
        b.tailcall("leave_inside", cpu, slot, block, budget, mem, attr)

    def p_cover(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        """Set the block's bit in the coverage map."""
        b = self.b
        bit = self._coverage_bit(b.hload(block, I64, BLOCK_PC)) & self.get(cpu, "coverage_mask")
        place = self.get(cpu, "coverage") + (bit >> 3)
        mask = (b.const(I64, 1) << (bit & 7)).trunc(I8)
        b.hstore(place, b.hload(place, I8) | mask)
        self._next_slot(cpu, slot, block, budget, mem, attr)

    @staticmethod
    def _coverage_bit(pc: Value) -> Value:
        """`coverage_hash` as native code."""
        return (pc * GOLDEN) >> 32

    # -- functions of the C convention --------------------------------------------------------------------------

    def executed_in_block(self, slot: Value, block: Value) -> None:
        """Guest instructions before `slot`."""
        b = self.b
        at = b.local(block + BLOCK_HEADER)
        done = b.local(b.const(I64, 0))
        with b.loop():
            here = at.get()
            b.break_if(here.uge(slot))
            real = b.hload(here, I8, SLOT_REG).ne(PSEUDO)
            done.set(done.get() + real.zext(I64))
            at.set(here + SLOT_SIZE)
        b.ret(done.get())

    def instret(self, cpu: Value, slot: Value, block: Value, budget: Value) -> None:
        b = self.b
        n = b.hload(block, I32, BLOCK_N).zext(I64)
        before = self.get(cpu, "executed") + self.get(cpu, "granted") - (budget + n)
        b.ret(before + b.call("executed_in_block", I64, slot, block))

    def find(self, cpu: Value, pc: Value) -> None:
        b = self.b
        with b.if_(self.get(cpu, "epoch").ne(b.hload(self.get(cpu, "epoch_ptr"), I64))):
            b.call("flush", I64, cpu)
        mask = (1 << BUCKET_BITS) - 1
        bucket = self.get(cpu, "buckets") + (((pc >> 1) & mask) << 3)
        block = b.local(b.hload(bucket, I64))
        with b.loop():
            b.break_if(block.get().eq(0))
            with b.if_(b.hload(block.get(), I64, BLOCK_PC).eq(pc)):
                b.ret(block.get())
            block.set(b.hload(block.get(), I64, BLOCK_NEXT))
        made = b.call("decode", I64, cpu, pc, b.const(I64, MAX_BLOCK))
        with b.if_(made.ne(0)):
            b.hstore(made, b.hload(bucket, I64), BLOCK_NEXT)
            b.hstore(bucket, made)
            b.call("attach", I64, cpu, made)
            unmarked = self.get(cpu, "unmarked")
            with b.if_(unmarked.ne(0)):
                self.ask_to_mark(cpu, unmarked)
                b.ret(b.const(I64, 0))
            with b.if_(self.get(cpu, "warm").eq(0)):
                b.hstore(made, b.const(I64, 1), BLOCK_PLAIN)
                self.put(cpu, "warm_list", made)
                self.put(cpu, "code", exits.STAMP)
                b.ret(b.const(I64, 0))
        b.ret(made)

    def needs_guard(self, cpu: Value, attribute: Value) -> Value:
        """i1: before code is decoded from such a page, the host has to refuse stores to it."""
        return (attribute & WRITE).ne(0) & self.get(cpu, "guarded").ne(0)

    def ask_to_mark(self, cpu: Value, address: Value) -> None:
        """Prepare to leave: code is to be decoded from the page of `address`."""
        self.put(cpu, "unmarked", 0)
        self.put(cpu, "code", exits.PROTECT)
        self.put(cpu, "arg0", address)
        self.put(cpu, "arg1", exits.EXECUTE)

    def flush(self, cpu: Value) -> None:
        b = self.b
        b.call("scan", I64, cpu, b.const(I64, 0), b.const(I64, 0), b.const(I64, 0))
        self.count(cpu, "flushes")
        self.put(cpu, "epoch", b.hload(self.get(cpu, "epoch_ptr"), I64))
        start, end = self.get(cpu, "arena_start"), self.get(cpu, "arena")
        buckets, jumps = self.get(cpu, "buckets"), cpu + self.record.jump_cache
        with b.if_((end - start).ult(_FEW_BLOCKS)):
            # What the blocks that there are have filled in.
            at = b.local(start)
            with b.loop():
                block = at.get()
                b.break_if(block.uge(end))
                pc = b.hload(block, I64, BLOCK_PC)
                b.hstore(buckets + (((pc >> 1) & ((1 << BUCKET_BITS) - 1)) << 3), b.const(I64, 0))
                b.hstore(jumps + self._jump_offset(pc), b.const(I64, 1))
                at.set(block + b.hload(block, I32, BLOCK_SIZE).zext(I64))
        with b.else_():
            # No block starts at an odd address. Entries of a new core are zero: only the first could be taken for one in use.
            b.hstore(jumps, b.const(I64, 1))
            with b.if_(end.ne(0)):
                self._fill(buckets, 8 << BUCKET_BITS, 8, 0)
                self._fill(jumps, 16 << JUMP_CACHE_BITS, 16, 1)
        start = self.get(cpu, "arena_start")
        self.put(cpu, "arena", start)
        self.put(cpu, "arena_end", start + (ARENA_BYTES - BLOCK_BYTES))
        self.put(cpu, "link_to", cpu + self.record.sink)
        self.put(cpu, "stamp_at", self.get(cpu, "stamp_free"))
        self.put(cpu, "warm_list", 1)
        b.ret(b.const(I64, 0))

    def _fill(self, start: Value, size: int, step: int, value: int) -> None:
        b = self.b
        at = b.local(b.const(I64, 0))
        with b.loop():
            b.hstore(start + at.get(), b.const(I64, value))
            at.set(at.get() + step)
            b.break_if(at.get().uge(size))

    def check_access(self, cpu: Value, address: Value, kind: Value) -> None:
        """`kind`: size in bits 0–7, access bits above. 0: go ahead; else the exit record is set."""
        b = self.b
        size, access = kind & 0xFF, kind >> 8
        last = address + size - 1
        wanted = ((access & exits.READ) * READ | ((access & exits.WRITE) >> 1) * WRITE).trunc(I8)
        watched = ((access & exits.READ) * WATCH_R | ((access & exits.WRITE) >> 1) * WATCH_W).trunc(I8)
        self.put(cpu, "arg1", access)
        self.put(cpu, "arg2", size)
        for end in (address, last):
            # The first byte that cannot be accessed: the start, or that of the second page.
            bad = address if end is address else b.select((last >> PAGE_BITS).eq(address >> PAGE_BITS), address,
                                                          last & -(1 << PAGE_BITS))  # fmt: skip
            self.put(cpu, "arg0", bad)
            with b.if_(end.uge(1 << SIZE_BITS)):
                self.put(cpu, "code", exits.FAULT)
                b.ret(b.const(I64, 1))
            flags = b.hload(self.get(cpu, "attr") + (end >> PAGE_BITS), I8)
            with b.if_((flags & wanted).ne(wanted)):
                self.put(cpu, "code", exits.FAULT)
                b.ret(b.const(I64, 1))
        self.put(cpu, "arg0", address)
        for end in (address, last):
            place = self.get(cpu, "attr") + (end >> PAGE_BITS)
            flags = b.hload(place, I8)
            with b.if_((flags & watched).ne(0) & self.get(cpu, "watch_skip").ne(address)):
                self.put(cpu, "code", exits.WATCH)
                b.ret(b.const(I64, 1))
            with b.if_((access & exits.WRITE).ne(0) & (flags & CODE).ne(0)):
                with b.if_(self.get(cpu, "guarded").ne(0)):
                    self.put(cpu, "code", exits.PROTECT)
                    b.ret(b.const(I64, 1))
                b.hamo("and", place, b.const(I8, ~CODE))
                with b.if_((flags & WATCH_W).eq(0)):
                    b.hamo("or", place, b.const(I8, FAST_W))
                b.hamo("add", self.get(cpu, "epoch_ptr"), b.const(I32, 1))  # the upper half is the arena's
        self.put(cpu, "watch_skip", -1)
        b.ret(b.const(I64, 0))

    def run(self, cpu: Value) -> None:
        b = self.b
        self.put(cpu, "granted", 0)
        with b.if_(b.hload(cpu, I32, self.record["stop"]).ne(0)):
            b.ret(b.const(I64, exits.STOPPED))
        with b.if_(self.get(cpu, "limit").sle(0)):
            b.ret(b.const(I64, exits.BUDGET))
        b.emit("host_fp", I64, (cpu,), save=self.record["host_mxcsr"], load=self.record["mxcsr"])
        block = b.call("find", I64, cpu, self.pc(cpu))
        with b.if_(block.ne(0)):
            b.hstore(block, b.hload(block, I64, BLOCK_COUNT) + 1, BLOCK_COUNT)
            n = b.hload(block, I32, BLOCK_N).zext(I64)
            args = (cpu, b.const(I64, 0), block, -n, self.get(cpu, "mem"), self.get(cpu, "attr"))
            b.emit("save_bp", I64, (cpu,), offset=self.record["host_bp"])
            b.emit("call", I64, args, callee="budget_out", convention=CONVENTION, void=True)
        b.emit("host_fp", I64, (cpu,), save=self.record["mxcsr"], load=self.record["host_mxcsr"])
        b.ret(self.get(cpu, "code"))

