"""The just-in-time compiler's run time: which code is hot, what is compiled, and where it goes.

Every block counts how often the interpreter enters it. When a core has used up some slices of its budget it comes here (`tick`):
the counts become an exponentially weighted moving average of the instructions that are interpreted in each block, and what is
above the threshold is looked up on disk or sent to the compiler's process. What comes back is put into the translation table,
from which the native side attaches it to blocks, now and whenever they are decoded anew.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from time import perf_counter
from typing import TYPE_CHECKING

from polyvm.codegen import cache
from polyvm.codegen.objects import LoadedObject
from polyvm.codegen.space import code_space
from polyvm.engine import perfmap
from polyvm.engine.compiler import Compiler
from polyvm.engine.layout import SLICE, TABLE_BITS, TABLE_PROBES, table_index
from polyvm.engine.region import FULL, QUICK, Compiled, RegionSpec
from polyvm.errors import EngineError, MemoryFault
from polyvm.mem.host import host_mmap, host_munmap

if TYPE_CHECKING:
    from polyvm.engine.core import Core, JitSource

_NEVER = 1 << 62
_CANDIDATES = 2048  # hot blocks that one look finds
_IDLE = 32  # the threshold is this many times lower while the compiler has nothing to do
_SLICES_A_SECOND, _LOOK_SHARE = 60_000, 30  # roughly; the share is one part in so many
_PATIENCE = 640  # slices, times the threshold, until the compiler's process is started: short programs end before it could help
_LOOK_UPS = 64  # on disk, by one look
_QUEUE = 2  # requests that the compiler has at a time; others wait here, where their order can still change
_TICK, _CALM_TICK = 256, 8192  # slices
_MOST_BLOCKS, _MOST_INSTRUCTIONS = 24, 200
_WELL_BLOCKS, _WELL_INSTRUCTIONS = 64, 500  # the same where there is time


class Counters:
    """What the JIT did; `--stats` shows it."""

    def __init__(self) -> None:
        self.compiled = self.cached = self.failed = self.requested = self.ticks = 0
        self.instructions = 0  # guest instructions in compiled regions
        self.compile_seconds = 0.0  # of the compiler's process


class Installed:
    """A region in memory. `keep` holds what its record points to."""

    __slots__ = ("instructions", "keep", "level", "record")

    def __init__(self, compiled: Compiled) -> None:
        loaded = LoadedObject(compiled.data, code_space())
        self.level = compiled.level
        self.instructions = compiled.instructions
        self.record = (ctypes.c_uint64 * (2 + 3 * len(compiled.parts)))()
        buffers = [ctypes.create_string_buffer(data, len(data)) for _, data in compiled.parts]
        words: list[ctypes.c_uint64 | int] = [loaded.symbols["region"], len(compiled.parts)]
        for (address, data), buffer in zip(compiled.parts, buffers, strict=True):
            words += [address, len(data), ctypes.addressof(buffer)]
        self.record[:] = words
        self.keep = (loaded, buffers)


class Jit:
    """One for all cores that share guest memory; `source` says how it is to compile."""

    def __init__(self, isa_name: str, source: JitSource, identity: str) -> None:
        self.isa_name = isa_name
        self.mode = source.mode
        self.threshold = source.threshold
        self.forced = source.threshold == 0
        self.identity = identity
        self.counters = Counters()
        self._lock = threading.Lock()
        self._size = 16 << TABLE_BITS
        self._address = host_mmap(0, self._size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        self.regions: dict[int, Installed] = {}
        self._asked: dict[int, tuple[int, RegionSpec]] = {}
        self._settled: set[int] = set()  # addresses that nothing more is to be done about
        self._on_disk: set[str] | None = None  # names of entries when this run first looked
        self._missing: set[int] = set()  # those that the disk has nothing for
        self._better: dict[int, None] = {}  # heads of regions of the quick kind that are to be made well
        self._generation = 0
        self._installed: list[int] = []
        self._compiler = Compiler()
        self._mapped = bool(os.environ.get("POLYVM_PERF"))
        self._retired: list[Installed] = []

    # -- cores ------------------------------------------------------------------------------------------------

    def attach(self, core: Core) -> None:
        """Let `core` use the translations and take samples."""
        core.set_field("translations", self._address)
        core.jit_seen = core.get_field("executed")
        core.jit_installed = 0

    def reset(self) -> None:
        """Other guest memory: nothing that was compiled holds."""
        with self._lock:
            self._generation += 1
            ctypes.memset(self._address, 0, self._size)
            self._retired += self.regions.values()
            self.regions.clear()
            self._settled.clear()
            self._missing.clear()
            self._better.clear()
            self._installed.clear()

    def after_fork(self) -> None:
        """In the child of a fork: the compiler belongs to the parent."""
        self._lock = threading.Lock()
        self._compiler.abandon()
        self._asked.clear()

    def close(self) -> None:
        """End the compiler's process."""
        self._compiler.close()

    @property
    def descriptors(self) -> list[int]:
        """polyvm's own, which the guest's execve leaves open."""
        return self._compiler.descriptors

    # -- ticks ------------------------------------------------------------------------------------------------

    def tick(self, core: Core) -> None:
        """Look at the samples of `core`, ask for what is hot, install what is ready."""
        with self._lock:
            self.counters.ticks += 1
            self._collect()
            if self.forced:
                self._force(core)
                left = _NEVER
            else:
                left = self._look(core)
            self._refresh(core)
            core.set_field("tick_left", left)

    def _look(self, core: Core) -> int:
        """Find out what is hot; slices until the next look."""
        interpreted, executed = core.get_field("interpreted"), core.get_field("executed")
        began = perf_counter()
        hot = core.hot(int(self.threshold * SLICE / _IDLE), _CANDIDATES)
        took = perf_counter() - began
        self._request(core, hot)
        interpreted = core.get_field("interpreted") - interpreted
        executed -= core.jit_seen
        core.jit_seen += executed
        busy = self._asked or self._better or interpreted * 8 > executed
        # A look should not take more than a small part of the time between looks.
        return max(_TICK if busy else _CALM_TICK, int(took * _SLICES_A_SECOND * _LOOK_SHARE))

    def _request(self, core: Core, hot: list[tuple[int, int]]) -> None:
        looked_up = 0
        for heat, pc in hot:
            if pc in self._settled:
                continue
            if pc not in self._missing:
                looked_up += 1
                if looked_up > _LOOK_UPS:
                    break
                if self._from_disk(core, pc):
                    continue
            busy = len(self._asked)
            if core.get_field("executed") < self.threshold * _PATIENCE * SLICE:
                break
            if busy >= _QUEUE or heat < self.threshold * SLICE * (busy or 1 / _IDLE):
                break
            self._ask(core, pc)
        if self._better and not self._asked:
            head = next(iter(self._better))
            del self._better[head]
            self._improve(core, head)

    def _key(self, core: Core, pc: int) -> str | None:
        block = core.known(pc)
        if not block:
            return None
        end = ctypes.c_uint64.from_address(block + 8).value
        try:
            code = core.arena.peek(pc, end - pc)
        except MemoryFault:
            return None
        return self._name(core.covered, pc, code)

    def _name(self, coverage: bool, pc: int, code: bytes) -> str:
        return cache.key("region", self.identity, self.mode, str(coverage), str(pc), code)

    def _from_disk(self, core: Core, pc: int) -> bool:
        """Install the region at `pc` as an earlier run compiled it; True if there is nothing more to do."""
        name = self._key(core, pc)
        if name is None:
            return True
        if self._on_disk is None:
            self._on_disk = cache.names()
        data = cache.load(name) if name in self._on_disk else None
        compiled = Compiled.unpack(data) if data else None
        if compiled is None or compiled.head != pc or not self._fits(core, compiled) or not self._install(compiled):
            self._missing.add(pc)
            return False
        self.counters.cached += 1
        return True

    @staticmethod
    def _fits(core: Core, compiled: Compiled) -> bool:
        """True if the guest's memory has the code that the region was made from."""
        try:
            return all(core.arena.peek(address, len(code)) == code for address, code in compiled.parts)
        except MemoryFault:
            return False

    def _ask(self, core: Core, pc: int) -> None:
        self._settled.add(pc)
        from polyvm.engine.grow import grow

        try:
            spec = grow(core, pc, FULL if self.mode == "full" else QUICK, _MOST_BLOCKS, _MOST_INSTRUCTIONS)
        except MemoryFault:
            return
        if spec is None:
            self._settled.discard(pc)
            return
        self._send(spec)

    def _improve(self, core: Core, head: int) -> None:
        """Make a region of the quick kind again, larger and better."""
        from polyvm.engine.grow import grow

        try:
            larger = grow(core, head, FULL, _WELL_BLOCKS, _WELL_INSTRUCTIONS)
        except MemoryFault:
            return
        if larger is not None:
            self._send(larger)

    def _send(self, spec: RegionSpec) -> None:
        number = self._compiler.send(spec)
        if number is not None:
            self.counters.requested += 1
            self._asked[number] = (self._generation, spec)

    def _collect(self, timeout: float = 0.0) -> None:
        """Install what the compiler has finished."""
        for number, answer, seconds in self._compiler.receive(timeout):
            asked = self._asked.pop(number, None)
            if asked is None:
                continue
            generation, spec = asked
            self.counters.compile_seconds += seconds
            if isinstance(answer, str):
                self.counters.failed += 1
                if os.environ.get("POLYVM_DEBUG"):
                    os.write(2, f"polyvm: region {spec.head:#x} is left to the interpreter: {answer}\n".encode())
                continue
            compiled = Compiled(spec.head, spec.level, spec.instructions, spec.parts(), answer)
            head = spec.blocks[0]
            cache.store(self._name(spec.coverage, head.pc, head.code), compiled.pack())
            if generation == self._generation:
                self._install(compiled)
                self.counters.compiled += 1
        if self._compiler.lost and self._asked:
            self.counters.failed += len(self._asked)
            self._asked.clear()

    def _install(self, compiled: Compiled) -> bool:
        try:
            region = Installed(compiled)
        except (EngineError, KeyError):
            return False
        if not self._enter(compiled.head, ctypes.addressof(region.record)):
            return False
        old = self.regions.get(compiled.head)
        if old is not None:
            self._retired.append(old)
        self.regions[compiled.head] = region
        if self.mode == "auto" and compiled.level == QUICK:
            self._better[compiled.head] = None
        if self._mapped:
            code = region.keep[0]
            perfmap.add(code.start, code.end, f"guest_{compiled.head:x}")
        self._settled.add(compiled.head)
        self._installed.append(compiled.head)
        self.counters.instructions += compiled.instructions
        return True

    def _enter(self, pc: int, record: int) -> bool:
        """Put `record` into the table, which other threads read."""
        index = table_index(pc)
        for probe in range(TABLE_PROBES):
            place = self._address + 16 * ((index + probe) & ((1 << TABLE_BITS) - 1))
            known = ctypes.c_uint64.from_address(place)
            if known.value in (0, pc):
                ctypes.c_uint64.from_address(place + 8).value = record
                known.value = pc
                return True
        return False

    def _refresh(self, core: Core) -> None:
        """Attach to `core` what was installed since it was here last."""
        for pc in self._installed[core.jit_installed :]:
            core.install(pc)
        core.jit_installed = len(self._installed)

    def _force(self, core: Core) -> None:
        """Compile the region at the core's pc now."""
        pc = core.pc
        core.set_field("forced_pc", pc)
        if pc in self._settled:
            return
        if core.known(pc) and not self._from_disk(core, pc):
            self._ask(core, pc)
            while self._asked:
                self._collect(10.0)

    def free(self) -> None:
        """Give the table back; no core may use it any more."""
        host_munmap(self._address, self._size)
