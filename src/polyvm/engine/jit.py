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
from polyvm.engine.layout import BETTER_BITS, SLICE, TABLE_BITS, TABLE_PROBES, better_index, table_index
from polyvm.engine.region import FULL, LARGE, QUICK, SMALL, Compiled, RegionSpec
from polyvm.engine.store import list_name, region_name
from polyvm.engine.tiers import Tiers
from polyvm.errors import EngineError, MemoryFault
from polyvm.mem import PAGE_BITS
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
_TICK, _SAMPLING_TICK, _CALM_TICK = 256, 1024, 8192  # slices
_SURE = 3  # ticks that find the guest in the same place, until it is made well
_MOST_ENTRIES = 6  # of a region that was made well
_RENEWALS = 3  # of the code at one address: a guest that keeps changing it is interpreted


class Counters:
    """What the JIT did; `--stats` shows it."""

    def __init__(self) -> None:
        self.compiled = self.cached = self.failed = self.requested = self.ticks = 0
        self.instructions = 0  # guest instructions in compiled regions
        self.regions = {QUICK: 0, FULL: 0}  # that came into use
        self.compile_seconds = {QUICK: 0.0, FULL: 0.0}  # of the compiler's process
        self.queue = self.queue_most = 0  # hot blocks and requests that wait
        self.pages = self.page_hits = 0  # of code that the disk was asked about


class Installed:
    """A region in memory. `records` holds what the translation table points to; `keep` what they do."""

    __slots__ = ("compiled", "keep", "level", "records")

    def __init__(self, compiled: Compiled) -> None:
        loaded = LoadedObject(compiled.data, code_space())
        self.compiled = compiled
        self.level = compiled.level
        buffers = [ctypes.create_string_buffer(data, len(data)) for _, data in compiled.parts]
        parts = (ctypes.c_uint64 * (1 + 3 * len(buffers)))(len(buffers))
        for i, ((address, data), buffer) in enumerate(zip(compiled.parts, buffers, strict=True)):
            parts[1 + 3 * i : 4 + 3 * i] = [address, len(data), ctypes.addressof(buffer)]
        self.records = (ctypes.c_uint64 * (3 * len(compiled.entries)))()
        for i in range(len(compiled.entries)):
            self.records[3 * i : 3 * i + 3] = [loaded.symbols["region"], i, ctypes.addressof(parts)]
        self.keep = (loaded, buffers, parts)


class Jit:
    """One for all cores that share guest memory; `source` says how it is to compile."""

    def __init__(self, isa_name: str, source: JitSource, identity: str) -> None:
        self.isa_name = isa_name
        self.mode = source.mode
        self.threshold = source.threshold
        self.forced = source.threshold == 0
        self.identity = identity
        self._names = source.names
        self.counters = Counters()
        self.tiers = Tiers()
        self._lock = threading.Lock()
        self._size = (16 << TABLE_BITS) + (1 << BETTER_BITS)
        self._address = host_mmap(0, self._size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        self.regions: dict[int, Installed] = {}
        self._asked: dict[int, tuple[int, RegionSpec, list[str]]] = {}
        self._settled: set[int] = set()  # addresses that nothing more is to be done about
        self._renewed: dict[int, int] = {}  # addresses whose code was found to be another, and how often
        self._on_disk: set[str] | None = None  # names of entries when this run first looked
        self._pages: set[int] = set()  # pages of code that the disk was asked about
        self._loaded: set[str] = set()
        self._samples: dict[int, int] = {}  # where ticks have found the guest in code of the quick kind
        self._improved: set[int] = set()
        self._generation = 0
        self._installed: list[int] = []
        self._compiler = Compiler()
        self._mapped = bool(os.environ.get("POLYVM_PERF"))
        self._retired: list[Installed] = []

    # -- cores ------------------------------------------------------------------------------------------------

    def attach(self, core: Core) -> None:
        """Let `core` use the translations and take samples."""
        core.set_field("translations", self._address)
        core.jit_seen = core.jit_booked = core.get_field("executed")
        core.jit_installed = 0
        core.jit_hot = []
        core.jit_rest = 0

    def detach(self, core: Core) -> None:
        """`core` ends."""

    def finish(self) -> None:
        """A forked child ends, in which there is nothing to close."""

    def reset(self) -> None:
        """Other guest memory: nothing that was compiled holds."""
        with self._lock:
            self._generation += 1
            ctypes.memset(self._address, 0, self._size)
            self._retired += self.regions.values()
            self.regions.clear()
            for known in (self._settled, self._renewed, self._pages, self._loaded, self._samples, self._improved):
                known.clear()
            self._installed.clear()

    def after_fork(self) -> None:
        """In the child of a fork: the compiler belongs to the parent."""
        self._lock = threading.Lock()
        self._compiler.abandon()
        self._asked.clear()

    def close(self) -> None:
        """End the compiler's process, and let go of what the disk has too much of."""
        self._compiler.close()
        if self.counters.compiled:
            cache.trim(cache.budget())

    @property
    def descriptors(self) -> list[int]:
        """polyvm's own, which the guest's execve leaves open."""
        return self._compiler.descriptors

    # -- ticks ------------------------------------------------------------------------------------------------

    def tick(self, core: Core) -> None:
        """Look at the samples of `core`, ask for what is hot, install what is ready."""
        with self._lock:
            self.counters.ticks += 1
            self.tiers.book(core, self.at(core))
            self._collect()
            if self.forced:
                self._force(core)
                left = _NEVER
            else:
                left = self._look(core)
            self._refresh(core)
            core.set_field("tick_left", left)

    def _look(self, core: Core) -> int:
        """Find out what is hot, and do something about it; slices until the next tick."""
        core.jit_rest -= core.jit_ticks
        if core.jit_rest <= 0:
            self._rank(core)
        if self.mode == "auto":
            self._sample(core)
        self._request(core)
        self.counters.queue = len(self._asked) + len(core.jit_hot)
        self.counters.queue_most = max(self.counters.queue_most, self.counters.queue)
        if self._asked or core.jit_hot or core.jit_busy:
            core.jit_ticks = _TICK
        else:
            core.jit_ticks = min(core.jit_rest, _SAMPLING_TICK if self._samples else _CALM_TICK)
        return core.jit_ticks

    def _rank(self, core: Core) -> None:
        """List the hot blocks, coldest first. It should not take more than a small part of the time until it is done again."""
        interpreted, executed = core.get_field("interpreted"), core.get_field("executed")
        began = perf_counter()
        core.jit_hot = core.hot(int(self.threshold * SLICE / _IDLE), _CANDIDATES)
        took = perf_counter() - began
        interpreted = core.get_field("interpreted") - interpreted
        executed -= core.jit_seen
        core.jit_seen += executed
        core.jit_busy = interpreted * 8 > executed
        core.jit_rest = max(_TICK if core.jit_busy else _CALM_TICK, int(took * _SLICES_A_SECOND * _LOOK_SHARE))

    def at(self, core: Core) -> Installed | None:
        """The region in which `core`, which has just used up its budget, was; None if it interprets."""
        return self.regions.get(core.get_field("ticked_in"))

    def _sample(self, core: Core) -> None:
        """Note where `core` is, if that is code of the quick kind."""
        region = self.at(core)
        if region is None or region.level != QUICK:
            return
        pc = core.pc if core.pc in region.compiled.inside else core.get_field("ticked_in")
        if pc not in self._improved:
            self._samples[pc] = self._samples.get(pc, 0) + 1

    def _request(self, core: Core) -> None:
        looked_up = 0
        hot = core.jit_hot
        while hot:
            heat, pc = hot[-1]
            if pc in self._settled and not self._changed(core, pc):
                hot.pop()
                continue
            if pc >> PAGE_BITS not in self._pages:
                looked_up += 1
                if looked_up > _LOOK_UPS:
                    break
                if self._from_disk(core, pc):
                    hot.pop()
                    continue
            busy = len(self._asked)
            if busy >= _QUEUE or core.get_field("executed") < self.threshold * _PATIENCE * SLICE:
                break
            if heat < self.threshold * SLICE * (busy or 1 / _IDLE):
                break
            hot.pop()
            self._ask(core, pc)
        if self._samples and not self._asked:
            pc, count = max(self._samples.items(), key=lambda item: item[1])
            if count >= _SURE:
                del self._samples[pc]
                self._improve(core, pc)

    def _changed(self, core: Core, pc: int) -> bool:
        """True if the code at `pc`, which is interpreted though there is a region for it, is not what that was made from."""
        region = self.regions.get(pc)
        if region is None or self._renewed.get(pc, 0) >= _RENEWALS or self._fits(core, region.compiled):
            return False
        self._renewed[pc] = self._renewed.get(pc, 0) + 1
        self._settled.discard(pc)
        self._pages.discard(pc >> PAGE_BITS)
        return True

    def _name(self, spec: RegionSpec) -> str:
        return region_name(self.identity, self.mode, spec)

    def _index(self, core: Core, page: int) -> str | None:
        """The name of the list of regions that can be entered in a page, as it is now."""
        try:
            code = core.arena.peek(page << PAGE_BITS, 1 << PAGE_BITS)
        except MemoryFault:
            return None
        return list_name(self.identity, self.mode, core.covered, page, code)

    def _from_disk(self, core: Core, pc: int) -> bool:
        """Install what earlier runs have compiled for the page of `pc`; True if there is nothing more to do for `pc`."""
        self._pages.add(pc >> PAGE_BITS)
        index = self._index(core, pc >> PAGE_BITS)
        if self._on_disk is None:
            self._on_disk = cache.names()
        self.counters.pages += 1
        if index is None or index not in self._on_disk:
            return False
        self.counters.page_hits += 1
        found: list[Compiled] = []
        for name in cache.lines(index):
            if name not in self._loaded:
                self._loaded.add(name)
                data = cache.load(name)
                compiled = Compiled.unpack(data) if data else None
                if compiled is not None and self._fits(core, compiled):
                    found.append(compiled)
        for compiled in sorted(found, key=lambda compiled: compiled.level):
            if self._install(compiled):
                self.counters.cached += 1
        return pc in self._settled

    @staticmethod
    def _fits(core: Core, compiled: Compiled) -> bool:
        """True if the guest's memory has the code that the region was made from."""
        try:
            return all(core.arena.peek(address, len(code)) == code for address, code in compiled.parts)
        except MemoryFault:
            return False

    def _ask(self, core: Core, pc: int) -> None:
        """Ask for a region around `pc`."""
        level = FULL if self.mode == "full" else QUICK
        spec = self._grow(core, [pc], level, *SMALL)
        if spec is not None:
            # Code of the quick kind can be entered at each of its blocks: none of them needs another region.
            self._settled.update(spec.entries)
            self._send(core, spec)

    def _improve(self, core: Core, pc: int) -> None:
        """Make the code around `pc` well; where it is in a region that was made well, so that it can be entered there, too."""
        self._improved.add(pc)
        around = {id(region): region for region in self.regions.values() if region.level == FULL and pc in region.compiled.inside}
        heads = [pc]
        for region in around.values():
            if len(region.compiled.entries) < _MOST_ENTRIES:
                heads = [*region.compiled.entries, pc]
                break
        spec = self._grow(core, heads, FULL, *LARGE)
        if spec is not None:
            self._send(core, spec)

    def _grow(self, core: Core, heads: list[int], level: int, most_blocks: int, most_instructions: int) -> RegionSpec | None:
        from polyvm.engine.grow import LiveBlocks, grow

        try:
            spec = grow(LiveBlocks(core), heads, level, most_blocks, most_instructions, self._settled if level == QUICK else ())
        except MemoryFault:
            self._settled.add(heads[0])
            return None
        if spec is not None and self.forced:
            return spec._replace(entries=[block.pc for block in spec.blocks])
        return spec

    def _send(self, core: Core, spec: RegionSpec) -> None:
        number = self._compiler.send(spec)
        if number is not None:
            self.counters.requested += 1
            lists = [self._index(core, page) for page in {pc >> PAGE_BITS for pc in spec.entries}]
            self._asked[number] = (self._generation, spec, [name for name in lists if name])

    def _collect(self, timeout: float = 0.0) -> None:
        """Install what the compiler has finished."""
        for number, answer, seconds in self._compiler.receive(timeout):
            asked = self._asked.pop(number, None)
            if asked is None:
                continue
            generation, spec, indices = asked
            self.counters.compile_seconds[spec.level] += seconds
            if isinstance(answer, str):
                self.counters.failed += 1
                if os.environ.get("POLYVM_DEBUG"):
                    os.write(2, f"polyvm: region {spec.head:#x} is left to the interpreter: {answer}\n".encode())
                continue
            inside = [block.pc for block in spec.blocks]
            compiled = Compiled(spec.entries, inside, spec.level, spec.instructions, spec.parts(), answer)
            name = self._name(spec)
            if cache.store(name, compiled.pack()):
                for index in indices:
                    cache.append(index, name)
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
        used = False
        for i, pc in enumerate(compiled.entries):
            old = self.regions.get(pc)
            if old is not None and old.level > compiled.level and not self._renewed.get(pc):
                continue
            if self._enter(pc, ctypes.addressof(region.records) + 24 * i):
                used = True
                if old is not None:
                    self._retired.append(old)
                self.regions[pc] = region
                self._settled.add(pc)
                self._installed.append(pc)
                if compiled.level == FULL:
                    ctypes.c_uint8.from_address(self._address + better_index(pc)).value = 1
        if not used:
            return False
        if self._mapped:
            code = region.keep[0]
            perfmap.add(code.start, code.end, self._label(compiled))
        self.counters.instructions += compiled.instructions
        self.counters.regions[compiled.level] += 1
        return True

    def _label(self, compiled: Compiled) -> str:
        head = compiled.entries[0]
        name = self._names(head) if self._names is not None else f"{head:#x}"
        return f"{self.isa_name}:{name} [{'full' if compiled.level == FULL else 'quick'}]"

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
        if core.known(pc) and (pc >> PAGE_BITS in self._pages or not self._from_disk(core, pc)):
            self._settled.add(pc)
            self._ask(core, pc)
            while self._asked:
                self._collect(10.0)

    def free(self) -> None:
        """Give the table back; no core may use it any more."""
        host_munmap(self._address, self._size)
