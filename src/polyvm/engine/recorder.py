"""A run that is counted: everything is interpreted, and each block's count goes into a profile.

The native side counts how often a block is entered, and forgets it when decoded code is dropped. So the counts are taken from
time to time, and when a thread, an image or the process ends.
"""

from __future__ import annotations

import ctypes
import struct
from time import perf_counter
from typing import TYPE_CHECKING

from polyvm.engine import profile
from polyvm.engine.jit import Jit
from polyvm.engine.layout import BLOCK_BYTES, BLOCK_HEADER
from polyvm.engine.profile import CodeMap, Image, RecordedBlock
from polyvm.errors import MemoryFault
from polyvm.mem import EXEC, PAGE_BITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polyvm.engine.core import Core, JitSource
    from polyvm.mem import Arena

_HEADER = struct.Struct("<QQIIQQQ")
_TICK = 1024  # slices
_SLICES_A_SECOND, _TAKE_SHARE = 60_000, 20  # roughly; taking counts may need one part in so many of the time


class Sink:
    """The open file that a profile goes to, and where the guest's files were looked for."""

    __slots__ = ("fd", "roots")

    def __init__(self, fd: int, roots: list[str]) -> None:
        self.fd = fd
        self.roots = roots


def maps_of(arena: Arena) -> list[CodeMap]:
    """What is mapped executable."""
    return [CodeMap(m.start, m.end, m.offset, m.path) for m in arena.regions() if m.prot & EXEC]


class _Taken:
    """What was taken of a core already: counts by the address of the header, and after how many flushes."""

    __slots__ = ("counts", "flushes")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.flushes = -1


class Recorder(Jit):
    """Takes the place of the JIT; one for all cores that share guest memory."""

    def __init__(self, isa_name: str, source: JitSource, identity: str, restore: int, sink: Sink) -> None:
        super().__init__(isa_name, source, identity, restore)
        self._source = source
        self._sink = sink
        self._cores: dict[Core, _Taken] = {}
        self._blocks: dict[int, RecordedBlock] = {}
        self._code: dict[int, bytes] = {}
        self._maps: dict[CodeMap, None] = {}

    def attach(self, core: Core) -> None:
        """Count what `core` does; there is nothing that it could enter."""
        with self.lock:
            self._cores.setdefault(core, _Taken())

    def detach(self, core: Core) -> None:
        """`core` ends."""
        with self.lock:
            self._take(core)
            self._cores.pop(core, None)

    def tick(self, core: Core) -> None:
        """Take the counts of `core`."""
        with self.lock:
            self.counters.ticks += 1
            began = perf_counter()
            self._take(core)
            took = perf_counter() - began
            core.set_field("tick_left", max(_TICK, int(took * _SLICES_A_SECOND * _TAKE_SHARE)))

    def reset(self) -> None:
        """Another program image."""
        self._write()
        super().reset()

    def finish(self) -> None:
        """Write what there is."""
        self._write()

    def after_fork(self) -> None:
        """In the child: what was counted before is the parent's."""
        super().after_fork()
        for core in self._cores:
            self._take(core)
        self._forget()

    def close(self) -> None:
        """The process ends."""
        self._write()
        super().close()

    @property
    def descriptors(self) -> list[int]:
        """The file's."""
        return [self._sink.fd]

    def _forget(self) -> None:
        self._blocks, self._code, self._maps = {}, {}, {}

    def _write(self) -> None:
        with self.lock:
            for core in self._cores:
                self._take(core)
            if self._blocks:
                image = Image(self.isa_name, self._source.program, self._sink.roots)
                image.blocks, image.pages, image.maps = self._blocks, self._code, list(self._maps)
                profile.append(self._sink.fd, image)
            self._forget()

    def _take(self, core: Core) -> None:
        taken = self._cores.get(core)
        if taken is None or not core.address:
            return
        flushes = core.get_field("flushes")
        if flushes != taken.flushes:
            taken.flushes = flushes
            taken.counts = {}
            self._check_code(core.arena)
        headers = dict(_headers(core))
        counts = taken.counts
        mapped = False
        for address, (pc, end, n, _, count, taken_to, fall) in headers.items():
            entered = count - counts.get(address, 0)
            if entered <= 0:
                continue
            counts[address] = count
            if pc >> PAGE_BITS not in self._code or (end - 1) >> PAGE_BITS not in self._code:
                if not self._read(core.arena, pc, end):
                    continue
                mapped = True
            old = self._blocks.get(pc)
            after, below = headers.get(taken_to), headers.get(fall)
            goes, falls = after[0] if after else 0, below[0] if below else 0
            if old is not None and old.n == n:
                entered += old.count
                goes, falls = goes or old.taken, falls or old.fall
            elif old is not None and old.count > entered:
                continue  # decoded shorter once, for an exact stop
            self._blocks[pc] = RecordedBlock(pc, end, n, entered, goes, falls)
        if mapped:
            self._maps.update(dict.fromkeys(maps_of(core.arena)))

    def _read(self, arena: Arena, pc: int, end: int) -> bool:
        for page in {pc >> PAGE_BITS, (end - 1) >> PAGE_BITS}:
            try:
                self._code.setdefault(page, arena.peek(page << PAGE_BITS, 1 << PAGE_BITS))
            except MemoryFault:
                return False
        return True

    def _check_code(self, arena: Arena) -> None:
        """Decoded code was dropped: perhaps because it is another now."""
        changed: set[int] = set()
        for page, code in self._code.items():
            try:
                if arena.peek(page << PAGE_BITS, 1 << PAGE_BITS) != code:
                    changed.add(page)
            except MemoryFault:
                pass  # unmapped; perhaps it comes back
        for page in changed:
            del self._code[page]
        if changed:
            self._blocks = {
                pc: block for pc, block in self._blocks.items()
                if not changed & {pc >> PAGE_BITS, (block.end - 1) >> PAGE_BITS}
            }  # fmt: skip


def _headers(core: Core) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Address and fields of each block since decoded code was dropped last."""
    start, end = core.get_field("arena_start"), core.get_field("arena")
    data = ctypes.string_at(start, max(0, end - start))
    at = 0
    while at + BLOCK_HEADER <= len(data):
        fields = _HEADER.unpack_from(data, at)
        yield start + at, fields
        size = fields[3]
        if not BLOCK_HEADER <= size <= BLOCK_BYTES + 63:
            return  # another thread is decoding
        at += size


__all__ = ["Recorder", "Sink", "maps_of"]
