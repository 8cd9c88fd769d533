"""The just-in-time compiler's run time: which code is hot, what is compiled, and where it goes.

Every block counts how often the interpreter enters it. When a core has used up some slices of its budget it comes here (`tick`):
the counts become an exponentially weighted moving average of the instructions that are interpreted in each block, and what is
above the threshold is looked up on disk or sent to the compiler's process. What comes back is put into the translation table,
from which the native side attaches it to blocks, now and whenever they are decoded anew.
"""

from __future__ import annotations

import _thread
import ctypes
import mmap
import os
import struct
from time import monotonic, perf_counter
from typing import NamedTuple

from polyvm.codegen import cache
from polyvm.codegen.objects import LoadedObject
from polyvm.codegen.space import code_space
from polyvm.engine import perfmap, reclaim
from polyvm.engine.compiler import Compiler
from polyvm.engine.exits import taken_often, trampoline
from polyvm.engine.grow import Counted, Header, LiveBlocks, grow
from polyvm.engine.layout import BETTER_BITS, SLICE, TABLE_BITS, TABLE_PROBES, better_index, table_index
from polyvm.engine.noted import Noted
from polyvm.engine.region import COUNTERS, ENTER, FULL, GO, LARGE, QUICK, SMALL, TARGETS, Compiled, RegionSpec
from polyvm.engine.store import list_name, region_name
from polyvm.engine.tiers import Tiers
from polyvm.errors import EngineError, MemoryFault
from polyvm.mem import PAGE_BITS
from polyvm.mem.host import host_mmap, host_munmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.engine.core import Core, JitSource
    from polyvm.mem import Arena

_NEVER = 1 << 62
_CANDIDATES = 2048  # hot blocks that one look finds
_IDLE = 32  # the threshold is this many times lower while the compiler has nothing to do
_LOOK_SHARE = 50  # a look may take one part in so many of the time
_PATIENCE = 640  # slices, times the threshold, until the compiler's process is started: short programs end before it could help
_LOOK_UPS = 64  # on disk, by one look
_QUEUE = 4  # requests that the compiler has at a time; others wait here, where their order can still change
_TICK, _CALM_TICK = 384, 4096  # slices
_PAUSE = 0.05  # seconds between looks where little is found
_WORTH = 1000  # code of the quick kind is made well if it executes one in so many instructions
_WORTH_LATER = 10_000  # … where nothing waits for it
_ROUND = 8  # so many of it before it is weighed again
_LEAST = 1 << 20  # instructions, times the threshold, that it has to execute between looks
_OFTEN = 4  # a block is an entry if it is entered as often as the head, but for this factor
_SEVERAL = 256  # times that a rare exit may be taken
_MOST_ENTRIES = 6  # of a region that was made well
_REMAKES = 12  # of a region some of whose rare exits were not
_RENEWALS = 3  # of the code at one address: a guest that keeps changing it is interpreted


class Counters:
    """What the JIT did; `--stats` shows it."""

    def __init__(self) -> None:
        self.compiled = self.cached = self.failed = self.requested = self.ticks = 0
        self.instructions = 0  # guest instructions in compiled regions
        self.regions = {QUICK: 0, FULL: 0}  # that came into use
        self.compile_seconds = {QUICK: 0.0, FULL: 0.0}  # of the compiler's process
        self.cleared = 0  # times that all regions were dropped because memory was used up
        self.queue = self.queue_most = 0  # hot blocks and requests that wait
        self.pages = self.page_hits = 0  # of code that the disk was asked about


class Installed:
    """A region in memory. `records` holds what the translation table points to; `keep` what they do; `counters` and `targets` are
    addresses of what code of the quick kind counts, `heat` a moving average of the instructions that it executes."""

    __slots__ = ("before", "compiled", "counters", "heat", "keep", "level", "notes", "records", "targets")

    def __init__(self, compiled: Compiled, restore: int) -> None:
        space = code_space()
        loaded = LoadedObject(compiled.data, space)
        self.counters = loaded.address("counters") if compiled.level == QUICK else 0
        self.targets = loaded.address("targets") if compiled.level == QUICK and loaded.defines("targets") else 0
        self.notes = 0
        if compiled.notes:
            ctypes.c_uint64.from_address(loaded.writable).value = space.stub(f"exit {restore}", lambda: trampoline(restore))
            self.notes = loaded.writable + 8
        self.compiled = compiled
        self.level = compiled.level
        number = len(compiled.parts)
        data = b"".join([part for _, part in compiled.parts])
        parts = ctypes.create_string_buffer(8 + 24 * number + len(data))  # and behind them the bytes
        words, at = [number], ctypes.addressof(parts) + 8 + 24 * number
        for address, part in compiled.parts:
            words += [address, len(part), at]
            at += len(part)
        parts.raw = struct.pack(f"<{len(words)}Q", *words) + data
        enter, go = loaded.address(ENTER), loaded.address(GO)
        place = ctypes.addressof(parts)
        records = [word for i in range(len(compiled.entries)) for word in (enter, i, place, go)]
        self.records = (ctypes.c_uint64 * len(records))(*records)
        self.keep = (loaded, parts)
        self.heat = 0
        self.before: tuple[int, ...] = (0,) * len(compiled.ways)

    def counted(self) -> tuple[int, ...]:
        """All counters, COUNTERS for each block."""
        number = COUNTERS * len(self.compiled.ways)
        return struct.unpack(f"<{number}Q", ctypes.string_at(self.counters, 8 * number))

    def jumps(self, i: int) -> list[tuple[int, int]]:
        """Where the indirect jump of block `i` went, and how often, most often first."""
        if not self.targets:
            return []
        size = 16 * TARGETS
        found = struct.iter_unpack("<QQ", ctypes.string_at(self.targets + size * i, size))
        return sorted(((pc, times) for pc, times in found if times), key=lambda jump: -jump[1])

    def inline_caches(self) -> tuple[int, int]:
        """Jumps through registers in code of the quick kind, and how many of them left it."""
        counted = self.counted()
        ways = enumerate(self.compiled.ways)
        found = [COUNTERS * i for i, (_, taken, fall, _) in ways if not taken and not fall and self.jumps(i)]
        return sum(counted[i] for i in found), sum(counted[i + 1] for i in found)

    def weigh(self) -> int:
        """Bring `heat` up to date; the instructions executed since the last time."""
        now = self.counted()[::COUNTERS]
        executed = sum((a - b) * way[0] for a, b, way in zip(now, self.before, self.compiled.ways, strict=True))
        self.before = now
        self.heat = self.heat // 2 + executed
        return executed


class _Request(NamedTuple):
    """What the compiler was asked for, before code was dropped `generation` times; which lists of the cache it goes into; what
    was known of rare exits then."""

    generation: int
    spec: RegionSpec
    lists: list[str]
    warm: list[int]


class Jit:
    """One for all cores that share guest memory; `source` says how it is to compile."""

    def __init__(self, isa_name: str, source: JitSource, identity: str, restore: int) -> None:
        self.isa_name = isa_name
        self.mode = source.mode
        self.threshold = source.threshold
        self.forced = source.threshold == 0
        self.identity = identity
        self._restore = restore
        self._names = source.names
        self.counters = Counters()
        self.tiers = Tiers()
        self.lock = _thread.allocate_lock()
        self.noted = Noted()
        self._tallies: list[Installed] = []
        self._size = (16 << TABLE_BITS) + (1 << BETTER_BITS)
        self._address = host_mmap(0, self._size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        self._table = (ctypes.c_uint64 * (2 << TABLE_BITS)).from_address(self._address)
        self.regions: dict[int, Installed] = {}
        self._asked: dict[int, _Request] = {}
        self._settled: set[int] = set()  # addresses that nothing more is to be done about
        self._renewed: dict[int, int] = {}  # addresses whose code was found to be another, and how often
        self._on_disk: set[str] | None = None  # names of entries when this run first looked
        self._pages: set[int] = set()  # pages of code that the disk was asked about
        self._loaded: set[str] = set()
        self._quick: dict[int, tuple[Installed, int]] = {}  # where each block of the quick kind is counted
        self._within: dict[int, Installed] = {}  # the region of the full kind that each block is in
        self._improved: set[int] = set()
        self._worthy: list[Installed] = []  # regions of the quick kind to be made well, the hottest last
        self._warm: set[int] = set()  # where rare exits turned out to go often
        self._remade: dict[int, int] = {}
        self._generation = 0
        self._installed: list[int] = []
        self._compiler = Compiler()
        self._mapped = bool(os.environ.get("POLYVM_PERF"))
        self._retired: list[Installed] = []
        self._forgotten: list[Installed] = []
        self.cores: list[Core] = []
        self._trusted: Arena | None = None  # memory for which `stop_trusting` was called

    # -- cores ------------------------------------------------------------------------------------------------

    def attach(self, core: Core) -> None:
        """Let `core` use the translations and take samples."""
        if self.noted.joined(core):
            self.reset()
        reclaim.join(self, core)
        core.set_field("translations", self._address)
        core.jit_seen = core.jit_booked = core.get_field("executed")
        core.jit_installed = 0
        core.jit_hot = []
        core.jit_rest = core.jit_weigh = 0.0
        core.jit_weighed = core.jit_seen

    def detach(self, core: Core) -> None:
        """`core` ends."""
        if core in self.cores:
            self.cores.remove(core)

    def finish(self) -> None:
        """A forked child ends, in which there is nothing to close."""

    def reset(self) -> None:
        """Other guest memory: nothing that was compiled holds."""
        with self.lock:
            self.noted.forget()
            self._tallies.clear()
            self._retired += self.regions.values()
            self._clear()

    def _clear(self) -> None:
        self._generation += 1
        ctypes.memset(self._address, 0, self._size)
        for known in (self.regions, self._settled, self._renewed, self._pages, self._loaded, self._quick, self._within,
                      self._improved, self._warm, self._remade, self._installed, self._worthy):  # fmt: skip
            known.clear()
        for core in self.cores:
            core.jit_installed = 0

    @property
    def is_tallied(self) -> bool:
        """True if somebody will want to know what regions counted."""
        return bool(self._tallies)

    def forget(self) -> None:
        """The memory of all regions is given back. Their records are kept until the next time: a core may be reading them."""
        self._forgotten = [*self._retired, *self.regions.values()]
        self._retired.clear()
        self._clear()
        self.counters.cleared += 1

    def stop_trusting(self, arena: Arena) -> None:
        """From now on regions check their accesses: the host does not do it any more."""
        if self._trusted is not arena:
            self._trusted = arena
            self.reset()

    def after_fork(self) -> None:
        """In the child of a fork: the compiler belongs to the parent."""
        self.lock = _thread.allocate_lock()
        self._compiler.abandon()
        self._asked.clear()
        reclaim.after_fork(self)

    def close(self) -> None:
        """End the compiler's process, and let go of what the disk has too much of."""
        self._compiler.close()
        if self.counters.compiled:
            cache.trim(cache.budget())

    @property
    def descriptors(self) -> list[int]:
        """polyvm's own, which the guest's execve leaves open."""
        return self._compiler.descriptors

    # -- at the end -------------------------------------------------------------------------------------------

    @property
    def compilers(self) -> list[int]:
        """Processes that compile."""
        return self._compiler.processes

    @property
    def has_requests(self) -> bool:
        """True if something was asked for, or about to be, and is not made."""
        return bool(self._asked or self._worthy)

    def may_be_stored(self, core: Core) -> bool:
        """True if later runs could use what is compiled for `core`."""
        return not (self.forced or core.tallied or core.covered)

    def is_late(self, core: Core) -> bool:
        """True if `core` has executed enough for code to be compiled."""
        return core.get_field("executed") >= self.threshold * _PATIENCE * SLICE

    def compile_all(self, core: Core, hot: list[tuple[int, int]], end: float) -> None:
        """Until the monotonic clock says `end`: compile what is `hot`, heat and address, for the disk, then make well what is
        worth it. Nothing executes any more."""
        self._mapped = False
        self._collect()
        for _, pc in hot:
            if pc in self._settled or (pc >> PAGE_BITS not in self._pages and self._from_disk(core, pc)):
                continue
            if not self._await(_QUEUE - 1, end):
                return
            self._ask(core, pc)
        if self.mode == "auto" and self._await(0, end):
            for region in self._counting():
                region.before = (0,) * len(region.before)
            least = core.get_field("executed") // _WORTH_LATER
            weighed = sorted(((region.weigh(), i, region) for i, region in enumerate(self._counting())), reverse=True)
            for executed, _, region in weighed:
                if executed < least or not self._await(_QUEUE - 1, end):
                    break
                self._improve(core, region)
        self._await(0, end)

    def _await(self, most: int, end: float) -> bool:
        """Until the compiler has at most so many requests; False if the time was over first."""
        while len(self._asked) > most and monotonic() < end:
            self._collect(1.0)
        return monotonic() < end

    # -- ticks ------------------------------------------------------------------------------------------------

    def tick(self, core: Core) -> None:
        """Look at the samples of `core`, ask for what is hot, install what is ready."""
        with self.lock:
            self.counters.ticks += 1
            self.tiers.book(core, self.at(core))
            self._collect()
            reclaim.give_back(self, now=self.forced)
            if self.forced:
                self._force(core)
                left = _NEVER
            else:
                left = self._look(core)
            self._refresh(core)
            core.set_field("tick_left", left)

    def _look(self, core: Core) -> int:
        """Find out what is hot, and do something about it; slices until the next tick."""
        now = perf_counter()
        if now >= core.jit_rest:
            self._rank(core)
        self._request(core)
        if self.mode == "auto":
            if now >= core.jit_weigh and not self._asked and not self._worthy:
                self._weigh(core)
            while self._worthy and len(self._asked) < _QUEUE:
                self._improve(core, self._worthy.pop())
        if core.get_field("hot_exit"):
            self._remake(core)
        self.counters.queue = len(self._asked) + len(core.jit_hot)
        self.counters.queue_most = max(self.counters.queue_most, self.counters.queue)
        return _TICK if self._asked or core.jit_hot or core.jit_busy else _CALM_TICK

    def _rank(self, core: Core) -> None:
        """List the hot blocks, coldest first. It should not take more than a small part of the time until it is done again."""
        interpreted, executed = core.get_field("interpreted"), core.get_field("executed")
        if executed >= _PATIENCE * SLICE:
            core.use_large_pages()
        began = perf_counter()
        core.jit_hot = core.hot(int(self.threshold * SLICE / _IDLE), _CANDIDATES)
        took = perf_counter() - began
        interpreted = core.get_field("interpreted") - interpreted
        executed -= core.jit_seen
        core.jit_seen += executed
        core.jit_busy = interpreted * 8 > executed
        core.jit_rest = began + max(0.0 if core.jit_busy else _PAUSE, took * _LOOK_SHARE)

    def _counting(self) -> list[Installed]:
        """The regions of the quick kind that are in use, each once."""
        return list({id(region): region for region, _ in self._quick.values()}.values())

    def _weigh(self, core: Core) -> None:
        """Find out which code of the quick kind executes most, and have it made well."""
        began = perf_counter()
        regions = self._counting()
        executed = sum(region.weigh() for region in regions)
        share = max(max(core.get_field("executed") - core.jit_weighed, executed) // _WORTH, int(self.threshold * _LEAST))
        core.jit_weighed = core.get_field("executed")
        self._worthy = sorted((region for region in regions if region.heat > share), key=lambda region: region.heat)[-_ROUND:]
        took = perf_counter() - began
        core.jit_weigh = began + max(0.0 if self._worthy else _PAUSE, took * _LOOK_SHARE)

    def _profile(self, pc: int) -> Counted | None:
        """What was counted of the block at `pc`."""
        found = self._quick.get(pc)
        if found is None:
            return None
        region, i = found
        counts = ctypes.string_at(region.counters + 8 * COUNTERS * i, 8 * COUNTERS)
        _, taken, fall, _ = region.compiled.ways[i]
        times, jumped = struct.unpack("<2Q", counts)
        return Counted(times, jumped, region.jumps(i) if not taken and not fall else [], taken, fall)

    def at(self, core: Core) -> Installed | None:
        """The region in which `core`, which has just used up its budget, was; None if it interprets."""
        pc = core.get_field("ticked_in")
        found = self.regions.get(pc) or self._within.get(pc)
        return found if found is not None or pc not in self._quick else self._quick[pc][0]

    def _request(self, core: Core) -> None:
        hot = core.jit_hot
        # All that is on disk, before anything waits for the compiler.
        unknown = [pc for _, pc in reversed(hot) if pc >> PAGE_BITS not in self._pages]
        looked_up = 0
        for pc in unknown:
            if pc >> PAGE_BITS not in self._pages:
                looked_up += 1
                if looked_up > _LOOK_UPS:
                    return
                self._from_disk(core, pc)
        while hot:
            heat, pc = hot[-1]
            if pc in self._settled and not self._changed(core, pc):
                hot.pop()
                continue
            if pc >> PAGE_BITS not in self._pages and self._from_disk(core, pc):  # its code has changed
                hot.pop()
                continue
            busy = len(self._asked)
            if busy >= _QUEUE or not self.is_late(core):
                break
            if heat < self.threshold * SLICE * (1 if busy else 1 / _IDLE):
                break
            hot.pop()
            self._ask(core, pc)

    def _changed(self, core: Core, pc: int) -> bool:
        """True if the code at `pc`, which is interpreted though there is a region for it, is not what that was made from."""
        region = self.regions.get(pc)
        if region is None or self._renewed.get(pc, 0) >= _RENEWALS or core.install(pc) or self._fits(core, region.compiled, {}):
            return False
        self._renewed[pc] = self._renewed.get(pc, 0) + 1
        self._settled.discard(pc)
        self._pages.discard(pc >> PAGE_BITS)
        return True

    def _name(self, spec: RegionSpec) -> str:
        return region_name(self.identity, self.mode, spec)

    def _index(self, core: Core, page: int) -> str | None:
        """The name of the list of regions that can be entered in a page, as it is now."""
        if core.tallied:
            return None
        try:
            code = core.arena.peek(page << PAGE_BITS, 1 << PAGE_BITS)
        except MemoryFault:
            return None
        return list_name(self.identity, self.mode, core.covered, core.arena.traps, page, code, flushing=core.flushing)

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
        pages: dict[int, bytes] = {}
        for name in cache.lines(index):
            if name not in self._loaded:
                self._loaded.add(name)
                data = cache.load(name)
                compiled = Compiled.unpack(data) if data else None
                if compiled is not None and self._fits(core, compiled, pages):
                    found.append(compiled)
        for compiled in sorted(found, key=lambda compiled: compiled.level):
            if self._install(compiled):
                self.counters.cached += 1
        return pc in self._settled

    @staticmethod
    def _fits(core: Core, compiled: Compiled, pages: dict[int, bytes]) -> bool:
        """True if the guest's memory has the code that the region was made from. `pages` are those that were read already."""
        try:
            for address, code in compiled.parts:
                number, at = divmod(address, 1 << PAGE_BITS)
                page = pages.get(number)
                if page is None:
                    page = pages[number] = core.arena.peek(number << PAGE_BITS, 1 << PAGE_BITS)
                if page[at : at + len(code)] != code:
                    return False
        except MemoryFault:
            return False
        return True

    def _ask(self, core: Core, pc: int) -> None:
        """Ask for a region around `pc`."""
        level = FULL if self.mode == "full" else QUICK
        spec = self._grow(core, [pc], level, *SMALL)
        if spec is not None:
            # Code of the quick kind can be entered at each of its blocks: none of them needs another region.
            self._settled.update(spec.entries)
            self._send(core, spec)

    def _entered(self, core: Core, pc: int) -> int:
        """How often well made code would be entered at the block at `pc`: from elsewhere, and where quick code looks for
        better."""
        block, counted = core.known(pc), self._quick.get(pc)
        times = Header(block).count if block else 0
        if counted is not None and counted[0].compiled.ways[counted[1]][3]:
            times += counted[0].before[counted[1]]
        return times

    def _is_well_made(self, pc: int) -> bool:
        """True if well made code can be entered at `pc`, or was asked for."""
        region = self.regions.get(pc)
        return pc in self._improved or (region is not None and region.level == FULL)

    def _improve(self, core: Core, region: Installed) -> None:
        """Make the code around the block of `region` well where it is entered most; where that is in a region that was made well,
        so that it can be entered there, too."""
        rated = sorted((self._entered(core, pc), pc) for pc in region.compiled.inside if not self._is_well_made(pc))
        if not rated or not rated[-1][0]:
            return
        most, pc = rated[-1]
        around = self._within.get(pc)
        heads = [pc]
        if around is not None and len(around.compiled.entries) < _MOST_ENTRIES:
            heads = [*around.compiled.entries, pc]
        spec = self._grow(core, heads, FULL, *LARGE)
        self._improved.add(pc)
        if spec is None:
            return
        # Other blocks of it that are entered about as often are entries at once.
        blocks = [b.pc for b in spec.blocks if b.pc not in spec.entries and not self._is_well_made(b.pc)]
        others = sorted(((self._entered(core, other), other) for other in blocks), reverse=True)
        more = [other for times, other in others if times * _OFTEN > most][: max(0, _MOST_ENTRIES - len(spec.entries))]
        self._improved.update(more)
        self._send(core, spec._replace(entries=[*spec.entries, *more]))

    def _remake(self, core: Core) -> None:
        """A rare exit of a well made region is not rare: make the region anew, so that it goes on there."""
        note = core.get_field("hot_exit")
        core.set_field("hot_exit", 0)
        region = next((r for r in self.regions.values() if r.notes <= note < r.notes + r.compiled.notes), None)
        if region is None:
            return
        head = region.compiled.entries[0]
        # What another region has found out meanwhile is new for this one, too.
        new = set(taken_often(ctypes.string_at(region.notes, region.compiled.notes), _SEVERAL)).difference(region.compiled.warm)
        self._warm |= new
        if any(request.spec.head == head for request in self._asked.values()):
            return
        self._remade[head] = self._remade.get(head, 0) + 1
        if new and self._remade[head] <= _REMAKES:
            spec = self._grow(core, region.compiled.entries, FULL, *LARGE)
            if spec is not None:
                self._send(core, spec)

    def _grow(self, core: Core, heads: list[int], level: int, most_blocks: int, most_instructions: int) -> RegionSpec | None:
        try:
            without = self._settled if level == QUICK else ()
            spec = grow(LiveBlocks(core, self._profile), heads, level, most_blocks, most_instructions, without, self._warm)
        except MemoryFault:
            self._settled.add(heads[0])
            return None
        if spec is not None and self.forced:
            return spec._replace(entries=[block.pc for block in spec.blocks])
        return spec

    def _send(self, core: Core, spec: RegionSpec) -> None:
        if spec.level == FULL:
            spec = self.noted.of(core, spec)
        warm = sorted(self._warm) if spec.level == FULL else []
        number = self._compiler.send(spec)
        if number is not None:
            self.counters.requested += 1
            lists = [self._index(core, page) for page in {pc >> PAGE_BITS for pc in spec.entries}]
            self._asked[number] = _Request(self._generation, spec, [name for name in lists if name], warm)

    def _collect(self, timeout: float = 0.0) -> None:
        """Install what the compiler has finished."""
        for number, answer, seconds in self._compiler.receive(timeout):
            asked = self._asked.pop(number, None)
            if asked is None:
                continue
            spec = asked.spec
            self.counters.compile_seconds[spec.level] += seconds
            if isinstance(answer, str):
                self.counters.failed += 1
                if os.environ.get("POLYVM_DEBUG"):
                    os.write(2, f"polyvm: region {spec.head:#x} is left to the interpreter: {answer}\n".encode())
                continue
            inside = [block.pc for block in spec.blocks]
            compiled = Compiled(spec.entries, inside, spec.level, spec.instructions, spec.parts(), *answer, asked.warm)
            name = self._name(spec)
            if not spec.noted and not spec.tallied and cache.store(name, compiled.pack()):
                for index in asked.lists:
                    cache.append(index, name)
            if asked.generation == self._generation:
                self._install(compiled, tallied=spec.tallied)
                self.counters.compiled += 1
        if self._compiler.lost and self._asked:
            self._ask_again()

    def _ask_again(self) -> None:
        """The compiler's process ended. It was at the oldest request, which may be why; the others are sent once more."""
        others = list(self._asked.values())[1:]
        self._asked.clear()
        self.counters.failed += 1
        for request in others:
            number = self._compiler.send(request.spec)
            if number is None:
                self.counters.failed += 1
            else:
                self._asked[number] = request

    def _install(self, compiled: Compiled, *, tallied: bool = False) -> bool:
        try:
            region = Installed(compiled, self._restore)
        except (EngineError, OSError):  # the cache's entry is damaged, or there is no room for more code
            return False
        used = False
        for i, pc in enumerate(compiled.entries):
            old = self.regions.get(pc)
            if old is not None and old.level > compiled.level and not self._renewed.get(pc):
                continue
            if self._enter(pc, ctypes.addressof(region.records) + 32 * i):
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
        if tallied:
            self._tallies.append(region)
        self._warm.update(compiled.warm)
        if compiled.level == FULL:
            self._within.update(dict.fromkeys(compiled.inside, region))
        else:
            self._quick.update((pc, (region, i)) for i, pc in enumerate(compiled.inside))
        if self._mapped:
            code = region.keep[0]
            perfmap.add(code.start, code.end, self._label(compiled))
        self.counters.instructions += compiled.instructions
        self.counters.regions[compiled.level] += 1
        return True

    def entered(self) -> dict[int, tuple[int, int]]:
        """For the blocks of regions that count: instructions, and how often they were entered from inside."""
        found: dict[int, tuple[int, int]] = {}
        for region in self._tallies:
            code, compiled = region.keep[0], region.compiled
            number = len(compiled.inside)
            counts = struct.unpack(f"<{number}Q", ctypes.string_at(code.address("entered"), 8 * number))
            for pc, way, count in zip(compiled.inside, compiled.ways, counts, strict=True):
                found[pc] = way[0], count + found.get(pc, (0, 0))[1]
        return found

    def inline_caches(self) -> tuple[int, int]:
        """Jumps through registers in code of the quick kind that is in use, and how many of them left their regions."""
        counts = [region.inline_caches() for region in self._counting()]
        return sum(jumps for jumps, _ in counts), sum(left for _, left in counts)

    def _label(self, compiled: Compiled) -> str:
        head = compiled.entries[0]
        name = self._names(head) if self._names is not None else f"{head:#x}"
        return f"{self.isa_name}:{name} [{'full' if compiled.level == FULL else 'quick'}]"

    def _enter(self, pc: int, record: int) -> bool:
        """Put `record` into the table, which other threads read."""
        index, table = table_index(pc), self._table
        for probe in range(TABLE_PROBES):
            place = 2 * ((index + probe) & ((1 << TABLE_BITS) - 1))
            if table[place] in (0, pc):
                table[place + 1] = record
                table[place] = pc
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
