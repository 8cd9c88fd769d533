"""`Core`: one guest CPU run by the interpreter."""

from __future__ import annotations

import _thread
import ctypes
import mmap
import os

from polyvm.codegen.space import code_space
from polyvm.engine.copies import RANGE, ROOM, Copies
from polyvm.engine.interpreter import load
from polyvm.engine.layout import (
    ARENA_BYTES,
    BLOCK_BYTES,
    BLOCK_COUNT,
    BLOCK_HEADER,
    BLOCK_N,
    BLOCK_NEXT,
    BLOCK_PC,
    BUCKET_BITS,
    DEFAULT_MXCSR,
    RM_TABLE_NEAREST,
    coverage_hash,
)
from polyvm.engine.modes import FLUSH, HOST_FLUSHES, SUBNORMAL, rounding_table
from polyvm.errors import MemoryFault, UsageError
from polyvm.isa import get as get_isa
from polyvm.mem.attributes import SIZE_BITS
from polyvm.mem.host import (
    COLLAPSE,
    HUGE_PAGES,
    LARGE_PAGE,
    MAP_NORESERVE,
    clock_address,
    host_advise,
    host_mmap,
    host_munmap,
)
from polyvm.vcpu import exits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from polyvm.engine.jit import Jit
    from polyvm.engine.statistics import Statistics
    from polyvm.mem import Arena

JIT_MODES = ("off", "stencil", "quick", "full", "auto")
_WARM = 256  # entries until a block gets stencils
_WARM_WAIT = 8  # slices in which such blocks are collected
_UNMADE_WAIT = 1 << 13  # slices until the cache is asked again for stencils that are being made
FIRST_TICK = 128  # slices until the JIT looks at a core for the first time
_SLICES = 4.0
_UNLIMITED = (1 << 63) - 1
_M64 = (1 << 64) - 1
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
_BUCKETS = 8 << BUCKET_BITS  # bytes
_RW = mmap.PROT_READ | mmap.PROT_WRITE
# IR flag bit ↔ MXCSR bit.
_FLAG_BITS = ((1, 5), (2, 4), (4, 3), (8, 2), (16, 0))
_ROUND_CONTROL = (0, 3, 1, 2)


def coverage_bit(pc: int, size: int) -> int:
    """The bit of a coverage map of `size` bits (a power of two) that the block at `pc` sets."""
    return coverage_hash(pc) & (size - 1)


class JitSource:
    """How cores that share guest memory compile what is hot; the compiler itself comes when there is something.

    `mode`: "off"; "stencil", handlers' code copied for each block, without LLVM; "quick", code that is made quickly; "full",
    code that is made well; "auto", first the one, then the other.
    `threshold`: slices of instructions that code is hot after, for stencils entries of a block; 0: everything is compiled
    before it is executed first, for tests.
    """

    __slots__ = ("_lock", "jit", "maker", "mode", "names", "program", "threshold")

    def __init__(self, mode: str = "auto", threshold: float = _SLICES) -> None:
        self.mode = mode
        self.threshold = threshold
        self.jit: Jit | None = None
        self.maker: Callable[[str, JitSource, str, int], Jit] | None = None  # of a JIT that also notes what is executed
        self.names: Callable[[int], str] | None = None  # what people call the code at an address
        self.program = ""
        self._lock = _thread.allocate_lock()

    @property
    def warm(self) -> int:
        """How often a block is entered until it gets stencils; -1: it never does."""
        if self.mode == "stencil":
            return int(self.threshold) if self.threshold != _SLICES else _WARM
        return int(self.threshold * _WARM / _SLICES) or -1 if self.mode == "auto" else -1

    def made(self, core: Core) -> Jit:
        """The compiler, made at the first call: for all cores like `core`."""
        with self._lock:
            if self.jit is None:
                if self.maker is not None:
                    self.jit = self.maker(core.isa_name, self, core.identity, core.restore)
                else:
                    from polyvm.engine.jit import Jit

                    self.jit = Jit(core.isa_name, self, core.identity, core.restore)
                if os.environ.get("POLYVM_PERF"):
                    core.name_handlers()
            return self.jit

    def again(self) -> JitSource:
        """Another with the same settings, for cores of another kind."""
        other = JitSource(self.mode, self.threshold)
        other.maker, other.names = self.maker, self.names
        return other

    @property
    def descriptors(self) -> list[int]:
        """polyvm's own, which a guest's execve leaves open."""
        return self.jit.descriptors if self.jit is not None else []

    @property
    def lock(self) -> _thread.LockType:
        """Held while something is compiled, looked up, installed."""
        return self.jit.lock if self.jit is not None else self._lock

    def after_fork(self) -> None:
        """To be called in the child of a fork."""
        self._lock = _thread.allocate_lock()
        if self.jit is not None:
            self.jit.after_fork()

    def finish(self) -> None:
        """To be called where a forked child ends."""
        if self.jit is not None:
            self.jit.finish()

    def close(self) -> None:
        """End the compiler's process; no core may run any more."""
        if self.jit is not None:
            self.jit.close()

    def linger(self, core: Core) -> None:
        """To be called where the process is about to end, the last that ran being `core`: what is hot may be compiled after."""
        if self.jit is not None and self.maker is None:
            from polyvm.engine import linger

            linger.begin(self.jit, core)

    def add_to(self, total: Statistics) -> Statistics:
        """`total` with what the compiler did."""
        if self.jit is None:
            return total
        counters = self.jit.counters
        quick, full = self.jit.tiers.split(max(0, total.instructions - total.interpreted), self.mode)
        return total._replace(
            regions=counters.compiled + counters.cached, cached=counters.cached, failed=counters.failed,
            compile_seconds=sum(counters.compile_seconds.values()), quick=quick, full=full, seconds=self.jit.tiers.seconds,
            quick_regions=counters.regions[1], full_regions=counters.regions[2],
            quick_compile=counters.compile_seconds[1], full_compile=counters.compile_seconds[2],
            requests=counters.requested, queue=counters.queue, queue_most=counters.queue_most,
            inline=self.jit.inline_caches(),
            pages=counters.pages, page_hits=counters.page_hits, code=code_space().used, cleared=counters.cleared,
        )  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> JitSource:
        """From "MODE" or "MODE:THRESHOLD"; raises UsageError."""
        mode, colon, number = text.partition(":")
        if mode not in JIT_MODES:
            raise UsageError(f"the JIT's mode is one of {', '.join(JIT_MODES)}, not {mode!r}")
        if not colon:
            return cls(mode)
        try:
            threshold = float(number)
        except ValueError:
            threshold = -1.0
        if not 0 <= threshold < 1e9:
            raise UsageError(f"the JIT's threshold is a number of slices, 0 or more, not {number!r}")
        return cls(mode, threshold)


class Core:
    """One guest CPU over guest memory `arena`.

    `run` lets it go; registers can be read and written while it does not run. One host thread at a time may call `run`;
    `request_stop` may be called from any. `x` is the integer register file as an array of unsigned 64-bit values.
    """

    def __init__(self, isa_name: str, arena: Arena) -> None:
        self.isa_name = isa_name
        self.isa = get_isa(isa_name)
        self._native = load(isa_name)
        record = self._native.record
        self._record = record
        self._size = -(-record.size // 4096) * 4096
        # Side by side, so that large pages can hold them.
        self._reserved = host_mmap(0, self._size + _BUCKETS + ARENA_BYTES + LARGE_PAGE, _RW, _PRIVATE, -1, 0)
        self._cpu = -(-self._reserved // LARGE_PAGE) * LARGE_PAGE
        self._buckets = self._cpu + self._size
        self._code = self._buckets + _BUCKETS
        self._large = False
        self._fields = {
            name: ctypes.c_int64.from_address(self._cpu + offset) for name, offset in record.fields.items()
        }
        self._code_field = self._fields["code"]
        self._limit = self._fields["limit"]
        self._pc = ctypes.c_uint64.from_address(self._cpu + record.layout["pc"].offset)
        self.stop_word = self._cpu + record["stop"]
        self._stop = ctypes.c_uint32.from_address(self.stop_word)
        self.inside = False  # in native code …
        self.held_up = False  # … before which it has to `_stand_by`
        self._run = self._native.run
        self.address = self._cpu
        self._files = {
            slot.name: (ctypes.c_uint64 * (slot.count * (slot.stride // 8))).from_address(self._cpu + slot.offset)
            for slot in record.layout.slots.values()
        }
        self._wide = {slot.name for slot in record.layout.slots.values() if slot.stride == 16}
        self.x = self._files["x"]
        self.jit_source: JitSource | None = None
        # The JIT's notes about this core: how many installed regions it has seen, instructions when it last looked, hot blocks
        # that it has not come to, when it looks and weighs again, instructions when it last weighed, whether much is interpreted.
        self.jit_installed = self.jit_seen = self.jit_weighed = 0
        self.jit_rest = self.jit_weigh = 0.0
        self.jit_hot: list[tuple[int, int]] = []
        self.jit_busy = True
        self.jit_booked, self.jit_clock = 0, -1.0  # instructions and thread time that are booked on a tier
        self._instrumented = False  # hooks are in decoded code, which the interpreter has to execute
        self._hook_tables: list[object] = []
        self._coverage: ctypes.Array[ctypes.c_uint8] | None = None
        self._copies = Copies()
        self.tallied = False
        self.exits: dict[int, int] = {}
        self._set("buckets", self._buckets)
        self._set("arena_start", self._code)
        self._set("mxcsr", DEFAULT_MXCSR)
        self._set("rm_table", RM_TABLE_NEAREST)
        self._set("tick_left", _UNLIMITED)
        self._set("warm", -1)
        for name in ("refill", "lookup", "resume", "short_budget"):
            self._set(f"f_{name}", self._native.object.address(name))
        self._set("f_clock", clock_address())
        for name in ("hook_skip", "watch_skip", "address_mask"):
            self._set(name, -1)
        self.arena = arena
        self._attach(arena)

    # -- set-up -----------------------------------------------------------------------------------------------

    def _attach(self, arena: Arena) -> None:
        self.arena = arena
        self._set("mem", arena.base)
        self._set("attr", arena.attributes)
        self._set("epoch_ptr", arena.epoch)
        self._set("space", arena.size)
        self._set("reach", 1 << SIZE_BITS)
        self._guard(arena.traps)
        self.flush()
        self._set("flushes", 0)

    def _guard(self, on: bool) -> None:
        """Whether the host protects guest memory; decoded code has to be dropped then."""
        self._set("guarded", int(on))
        if self._copies.stencils is not None:
            self._set("stencil_table", self._copies.stencils.entries(guarded=on))

    def _set(self, field: str, value: int) -> None:
        self._fields[field].value = value

    def _get(self, field: str) -> int:
        return self._fields[field].value

    def reset(self, arena: Arena | None = None) -> None:
        """All registers zero, floating point as at power-on, no decoded code; perhaps on other memory."""
        ctypes.memset(self._cpu, 0, self._record.layout.size)
        self._set("mxcsr", DEFAULT_MXCSR)
        self._set("frm", 0)
        self._set("flags", 0)
        self._set("rm_table", RM_TABLE_NEAREST)
        if self.jit_source is not None and self.jit_source.jit is not None:
            self.jit_source.jit.reset()
        self._attach(arena if arena is not None else self.arena)

    def clone(self) -> Core:
        """Another core on the same memory whose registers start as copies of these."""
        other = Core(self.isa_name, self.arena)
        other.use_jit(self.jit_source)
        ctypes.memmove(other._cpu, self._cpu, self._record.layout.size)
        for name in ("mxcsr", "frm", "flags", "rm_table", "address_mask"):
            other._set(name, self._get(name))
        return other

    def close(self) -> None:
        """Give its memory back; the core cannot be used after."""
        if self._cpu:
            if self.jit_source is not None and self.jit_source.jit is not None:
                self.jit_source.jit.detach(self)
            host_munmap(self._reserved, self._size + _BUCKETS + ARENA_BYTES + LARGE_PAGE)
            self._copies.free_all()
            self._cpu = 0

    # -- running ----------------------------------------------------------------------------------------------

    def run(self, max_instructions: int | None = None) -> int:
        """Execute until something happens; the exit code says what (`polyvm.vcpu.exits`).

        `max_instructions` bounds the run exactly. What `exits.EVAL` asks for is done here and never seen outside.
        """
        if max_instructions is None:
            self._limit.value = _UNLIMITED
        else:
            self._limit.value = max(0, max_instructions)
        if self._coverage is not None:
            self._look_at_coverage()
        while True:
            self.inside = True
            if self.held_up:
                self._stand_by()
            code = self._run(self._cpu)
            self.inside = False
            counts = self.exits
            counts[code] = counts.get(code, 0) + 1
            if code == exits.SYSCALL:
                return code
            if code == exits.HOOK:
                self._set("hook_skip", self._pc.value)
                return code
            if code == exits.WATCH:
                self._set("watch_skip", self._fields["arg0"].value)
                return code
            if code == exits.TICK:
                self._tick()
                continue
            if code == exits.STAMP:
                self._stamp()
                continue
            if code == exits.PROTECT:
                self._protect()
                continue
            if code == exits.HOSTFAULT and not self._get("arg1"):
                from polyvm.engine.evaluate import locate_fault

                locate_fault(self)
            if code != exits.EVAL:
                return code
            code = self._evaluate()
            if code != exits.NONE:
                counts[code] = counts.get(code, 0) + 1
                return code

    def _stand_by(self) -> None:
        """Compiled code is being given back: wait until that is done, and forget what refers to it (`reclaim.py`)."""
        from polyvm.engine import reclaim

        while self.held_up:
            self.inside = False
            reclaim.wait()
            self.held_up = False
            self.flush()
            self._set("hot_exit", 0)
            self.inside = True

    def _stamp(self) -> None:
        """Give the blocks that wait for it stencils."""
        copies = self._copies
        if copies.stencils is None:
            wanted = self.jit_source is not None and self.jit_source.mode == "stencil"
            stencils = self._native.stencils(wait=wanted)
            if stencils is None:
                self._set("warm_wait", _UNMADE_WAIT)
                return
            free = copies.begin(stencils)
            self._set("stamp_start", copies.address)
            self._set("stamp_free", free)
            self._set("stamp_at", free)
            self._set("stencil_table", stencils.entries(guarded=bool(self._get("guarded"))))
            self._set("stencil_holes", stencils.holes)
            self._set("stencil_code", stencils.code)
        self._set("warm_wait", _WARM_WAIT)
        done, room, before = False, ROOM, 0
        while not done:
            at = self._get("stamp_at")
            room, before = (2 * room if at == before else ROOM), at
            end = copies.open(at, room)
            if not end:
                self.flush()
                return
            self._set("stamp_end", end)
            done = bool(self._native.stamp(self._cpu))
            copies.close(at, end)

    def _protect(self) -> None:
        """Do on the host what decoding code from a writable page, or a store to such a page, needs."""
        arena, address = self.arena, self._fields["arg0"].value
        with arena.lock:
            if arena.traps:
                if self._get("arg1") == exits.EXECUTE:
                    arena.mark_code(address)
                    self.install(self._pc.value)
                else:
                    arena.unmark_code(address, self._get("arg2"))
        if not arena.traps and self._get("guarded"):
            self._guard(False)
            if self.jit_source is not None and self.jit_source.jit is not None:
                self.jit_source.jit.stop_trusting(arena)
            self.flush()

    def _evaluate(self) -> int:
        """Let the evaluator do the instruction at the pc; exits.NONE, or the exit that it ends in."""
        from polyvm.engine.evaluate import evaluate_instruction

        return evaluate_instruction(self)

    def execute_masked(self, mask: int) -> int:
        """Do the one instruction at the pc, with only the bits in `mask` of the addresses that it accesses: for programs that
        keep something else in the others. exits.NONE, or the exit that it ends in; raises MemoryFault."""
        from polyvm.engine.evaluate import evaluate_instruction

        code = evaluate_instruction(self, mask)
        if code == exits.NONE:
            self.instructions += 1
        return code

    def request_stop(self) -> None:
        """Make `run`, now or at its next call, return `exits.STOPPED` soon; callable from any thread."""
        self._stop.value = 1

    def clear_stop(self) -> None:
        """Withdraw a stop request."""
        self._stop.value = 0

    def flush(self) -> None:
        """Forget all decoded code."""
        self._native.flush(self._cpu)

    # -- the JIT ----------------------------------------------------------------------------------------------

    def use_jit(self, source: JitSource | None) -> None:
        """Compile what is hot, together with the other cores of `source`; None: interpret everything."""
        self.jit_source = source
        self._set("translations", 0)
        self._set("forced", 0)
        self._set("forced_pc", -1)
        self._set("warm", -1 if source is None else source.warm)
        if source is None or source.mode in ("off", "stencil"):
            self._set("tick_left", _UNLIMITED)
            return
        self._set("tick_left", FIRST_TICK if source.threshold else _UNLIMITED)
        self._set("forced", 0 if source.threshold else 1)
        if source.maker is not None:
            source.made(self).attach(self)
            self._set("tick_left", 1)
        elif source.jit is not None:
            source.jit.attach(self)

    def _tick(self) -> None:
        source = self.jit_source
        if source is None or source.mode in ("off", "stencil"):
            self._set("tick_left", _UNLIMITED)
            self._set("forced", 0)
            return
        jit = source.made(self)
        if not self._get("translations") and not self._instrumented:
            jit.attach(self)
        if self._coverage is not None:
            self._look_at_coverage()
        jit.tick(self)

    def name_handlers(self) -> None:
        """Tell Linux's perf where the interpreter's functions are."""
        from polyvm.engine import perfmap

        perfmap.add_object(self._native.object, "polyvm_")

    @property
    def identity(self) -> str:
        """Names all that shapes the generated code: sources, host CPU, versions."""
        return self._native.identity

    @property
    def restore(self) -> int:
        """Host address of the function that fills in the CPU record at a rare exit of a region."""
        return self._native.object.symbols["restore"]

    def use_large_pages(self) -> None:
        """From a core that executes much: have what it looks up at random, and its code, in pages of 2 MiB if the host can. For
        one that ends soon they would take longer than they spare, and memory."""
        if not self._large:
            self._large = True
            host_advise(self._cpu, self._size + _BUCKETS + ARENA_BYTES, HUGE_PAGES)
            host_advise(self._cpu, -(-(self._size + _BUCKETS) // LARGE_PAGE) * LARGE_PAGE, COLLAPSE)

    def known(self, pc: int) -> int:
        """Host address of the decoded block at `pc`, or 0."""
        return self._native.known(self._cpu, pc)

    def install(self, pc: int) -> bool:
        """Attach what the translation table has for `pc` to the block there, if it is decoded."""
        while not self._native.install(self._cpu, pc):
            page = self._get("unmarked")
            if not page:
                return False
            self._set("unmarked", 0)
            self.arena.mark_code(page)
        return True

    def hot(self, threshold: int, most: int) -> list[tuple[int, int]]:
        """Blocks in which at least `threshold` instructions were interpreted lately: heat and address, hottest last."""
        out = (ctypes.c_uint64 * (2 * most))()
        found = self._native.scan(self._cpu, ctypes.addressof(out), most, threshold)
        return sorted((out[2 * i + 1], out[2 * i]) for i in range(found))

    def get_field(self, name: str) -> int:
        """A field of the CPU record."""
        return self._get(name)

    def set_field(self, name: str, value: int) -> None:
        """Write a field of the CPU record."""
        self._set(name, value)

    # -- state ------------------------------------------------------------------------------------------------

    @property
    def pc(self) -> int:
        """Address of the next instruction."""
        return self._pc.value

    @pc.setter
    def pc(self, value: int) -> None:
        self._pc.value = value & _M64

    def get(self, file: str, index: int = 0) -> int:
        """Register `index` of register file `file`, unsigned."""
        if file in self._wide:
            low, high = self._files[file][2 * index : 2 * index + 2]
            return low | high << 64
        return self._files[file][index]

    def set(self, file: str, index: int, value: int) -> None:
        """Write register `index` of register file `file`."""
        if file in self._wide:
            self._files[file][2 * index : 2 * index + 2] = [value & _M64, value >> 64 & _M64]
        else:
            self._files[file][index] = value & _M64

    @property
    def fp_flags(self) -> int:
        """Accrued floating-point exceptions, as the IR numbers them."""
        host = self._get("mxcsr")
        return sum(flag for flag, bit in _FLAG_BITS if host >> bit & 1) | self._get("flags")

    @fp_flags.setter
    def fp_flags(self, flags: int) -> None:
        host = sum(1 << bit for flag, bit in _FLAG_BITS if flags & flag)
        self._set("mxcsr", self._get("mxcsr") & ~0x3F | host)
        self._set("flags", flags & SUBNORMAL)

    @property
    def fp_rm(self) -> int:
        """The rounding mode as the guest wrote it."""
        return self._get("frm") & 0xFFFFFFFF

    @fp_rm.setter
    def fp_rm(self, mode: int) -> None:
        self._set("frm", mode)
        flushes = HOST_FLUSHES if mode & FLUSH else 0
        self._set("mxcsr", self._get("mxcsr") & ~(0x6000 | HOST_FLUSHES) | _ROUND_CONTROL[mode & 3] << 13 | flushes)
        self._set("rm_table", rounding_table(mode))

    @property
    def address_mask(self) -> int:
        """The bits of an address that count where guest memory is accessed."""
        return self._get("address_mask") & _M64

    @address_mask.setter
    def address_mask(self, mask: int) -> None:
        self._set("address_mask", mask)

    @property
    def flushing(self) -> bool:
        """Subnormal numbers become zero."""
        return self.fp_rm & FLUSH != 0

    @property
    def exit_address(self) -> int:
        """FAULT, WATCH: the address concerned."""
        return self._get("arg0") & _M64

    @property
    def exit_access(self) -> int:
        """FAULT, WATCH: what kind of access (`exits.READ`, `WRITE`, `EXECUTE`)."""
        return self._get("arg1")

    @property
    def exit_size(self) -> int:
        """FAULT, WATCH: bytes accessed."""
        return self._get("arg2")

    @property
    def hook_kind(self) -> int:
        """HOOK: 1 for an instruction, 2 for a block."""
        return self._get("hook_kind")

    @property
    def insn_length(self) -> int:
        """Bytes of the instruction at the pc; 0 if it cannot be read."""
        try:
            return self.isa.length(int.from_bytes(self.arena.read(self.pc, 2), "little"))
        except MemoryFault:
            return 0

    def host_fault_record(self) -> tuple[int, ...]:
        """What a host signal handler needs to turn a fault in native code into `exits.HOSTFAULT`: start and end of the code,
        where to send the thread, and the addresses of the stack pointer to restore (rbp follows it) and of the word that takes
        the faulting host address; for compiled regions their start and end, where to send the thread,
        the CPU record's address, for the first register of preserve_nonecc (r12), and the table of `CodeSpace`; for stencils
        their start and end, and where to send the thread with its pc in the second register."""
        native, record = self._native.object, self._record
        return (
            native.start,
            native.end,
            native.address("host_fault"),
            self._cpu + record["host_sp"],
            self._cpu + record["arg0"],
            code_space().start,
            code_space().end,
            native.address("region_fault"),
            self._cpu,
            code_space().faults,
            self._copies.address,
            self._copies.address + RANGE,
            native.address("stencil_fault"),
        )

    # -- hooks ------------------------------------------------------------------------------------------------

    def set_hooks(
        self, instructions: Iterable[tuple[int, int]] = (), blocks: Iterable[tuple[int, int]] = ()
    ) -> None:
        """Leave with `exits.HOOK` before instructions, and before blocks that start, in these [begin, end) ranges."""
        self._hook_tables = []
        for name, ranges in (("insn_hooks", list(instructions)), ("block_hooks", list(blocks))):
            flat = [word for begin, end in ranges for word in (begin & _M64, (end - 1) & _M64)]
            table = (ctypes.c_uint64 * max(1, len(flat)))(*flat)
            self._hook_tables.append(table)
            self._set(name, ctypes.addressof(table))
            self._set(name[:-1] + "_count", len(ranges))
        self._instrumented = any(self._get(f"{n}_count") for n in ("insn_hook", "block_hook"))
        self._set("translations", 0)
        self.flush()

    def enable_coverage(self, bits: int = 16) -> memoryview:
        """A map of 2**bits bits in which each executed block sets one (`coverage_bit`)."""
        size = 1 << bits
        if self.covered == size and self._coverage is not None:
            return memoryview(self._coverage).cast("B")
        self._coverage = (ctypes.c_uint8 * (size // 8))()
        self._set("coverage", ctypes.addressof(self._coverage))
        self._set("coverage_mask", size - 1)
        self._drop_regions()
        return memoryview(self._coverage).cast("B")

    def disable_coverage(self) -> None:
        """Stop recording coverage."""
        self._set("coverage", 0)
        self._set("coverage_mask", 0)
        self._coverage = None
        self._drop_regions()

    def _drop_regions(self) -> None:
        """What is compiled does not note coverage, or does so in vain: compile and decode anew."""
        if self.jit_source is not None and self.jit_source.jit is not None:
            self.jit_source.jit.reset()
        self.flush()

    def _look_at_coverage(self) -> None:
        """Somebody may have cleared bits that compiled code takes to be set."""
        jit = self.jit_source.jit if self.jit_source is not None else None
        if jit is not None and not jit.noted.holds(self):
            self._drop_regions()

    @property
    def coverage_map(self) -> bytes:
        """The coverage map as it is now; nothing without one."""
        return bytes(self._coverage) if self._coverage is not None else b""

    @property
    def covered(self) -> int:
        """Bits of the coverage map that executed blocks are noted in; 0 without one."""
        return 8 * len(self._coverage) if self._coverage is not None else 0

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """Address, number of instructions and entry count of each block decoded since the last flush."""
        jit = self.jit_source.jit if self.jit_source is not None and self.tallied else None
        inside = jit.entered() if jit is not None else {}
        for bucket in (ctypes.c_uint64 * (1 << BUCKET_BITS)).from_address(self._buckets):
            block = bucket
            while block:
                words = (ctypes.c_uint64 * (BLOCK_HEADER // 8)).from_address(block)
                pc = words[BLOCK_PC // 8]
                yield pc, words[BLOCK_N // 8] & 0xFFFFFFFF, words[BLOCK_COUNT // 8] + inside.pop(pc, (0, 0))[1]
                block = words[BLOCK_NEXT // 8]
        for pc, (instructions, count) in inside.items():
            yield pc, instructions, count

    def tally(self) -> None:
        """From now on compiled code counts blocks as the interpreter does."""
        self.tallied = True
        self._drop_regions()

    # -- statistics -------------------------------------------------------------------------------------------

    @property
    def instructions(self) -> int:
        """Guest instructions executed so far, exactly."""
        return self._get("executed")

    @instructions.setter
    def instructions(self, value: int) -> None:
        self._set("executed", value)

    def statistics(self) -> Statistics:
        """Counters since the core was made."""
        from polyvm.engine.statistics import Statistics

        self._native.scan(self._cpu, 0, 0, 0)
        return Statistics(
            instructions=self._get("executed"),
            interpreted=self._get("interpreted"),
            blocks=self._get("blocks"),
            decoded=self._get("decoded"),
            invalidations=self._get("flushes"),
            links=self._get("links"),
            lookups=self._get("lookups"),
            jump_hits=self._get("jump_hits"),
            attached=self._get("attached"),
            resumes=self._get("resumes"),
            exits={exits.NAMES[code]: count for code, count in sorted(self.exits.items())},
        )


__all__ = ["BLOCK_BYTES", "Core", "coverage_bit"]
