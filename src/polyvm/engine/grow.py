"""Growing a region: from a hot block along the edges that were taken, as the interpreter's block headers and the counters of
quickly made code tell."""

from __future__ import annotations

import ctypes
import heapq
import struct
from typing import TYPE_CHECKING, NamedTuple

from polyvm.engine.layout import BLOCK_HEADER
from polyvm.engine.region import FALL, QUICK, TAKEN, RegionBlock, RegionSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from typing import Protocol

    from polyvm.engine.core import Core

    class Node(Protocol):
        """A block: `taken` and `fall` are references to those that it goes to, or 0."""

        @property
        def pc(self) -> int: ...

        @property
        def end(self) -> int: ...

        @property
        def n(self) -> int: ...

        @property
        def count(self) -> int: ...

        @property
        def taken(self) -> int: ...

        @property
        def fall(self) -> int: ...

    class Blocks(Protocol):
        """Blocks with what is known of how often they were entered and where they went."""

        isa_name: str
        covered: int
        guarded: bool
        tallied: bool
        flushing: bool

        def known(self, pc: int) -> int:
            """A reference to the block at `pc`, or 0."""
            ...

        def block(self, reference: int) -> Node: ...

        def counted(self, pc: int) -> Counted | None: ...

        def code(self, pc: int, size: int) -> bytes: ...

_HEADER = struct.Struct("<QQIIQQQQ")
_FEW = 4  # … or not more often than this
_COLD = 12  # an edge is left out where it was taken this many times less often than the head was entered
_RARE = 128  # an edge out of the region is rare where it is taken this many times less often than the block before is entered


class Counted(NamedTuple):
    """What quickly made code has counted of a block: how often it was entered, and left for `taken_pc`; `fall_pc`: where it goes
    on otherwise (0: no such way); `seen`: where its indirect jump went, and about how often, most often first."""

    times: int
    taken: int
    seen: list[tuple[int, int]]
    taken_pc: int
    fall_pc: int


class Header:
    """One block's header, read once."""

    __slots__ = ("address", "count", "end", "fall", "n", "pc", "taken")

    def __init__(self, address: int) -> None:
        self.address = address
        self.pc, self.end, self.n, _, self.count, self.taken, self.fall, _ = _HEADER.unpack(
            ctypes.string_at(address, BLOCK_HEADER)[: _HEADER.size]
        )


class _Node:
    """A block with its ways out: address and weight of each."""

    __slots__ = ("block", "cold", "count", "edges", "seen", "taken")

    def __init__(self, source: Blocks, block: Node, warm: Container[int]) -> None:
        counted = source.counted(block.pc)
        self.block = block
        self.count = block.count
        self.taken = -1
        taken = fall = None
        if counted is not None:
            self.count, self.taken = counted.times, counted.taken
            total = sum(times for _, times in counted.seen)
            jumps = [(pc, counted.times * times // total) for pc, times in counted.seen]
            if counted.taken_pc:
                # Only conditional jumps count how often they are taken.
                taken = counted.taken_pc, counted.taken if counted.fall_pc else counted.times
            if counted.fall_pc:
                fall = counted.fall_pc, max(0, counted.times - counted.taken)
        else:
            headers = [source.block(reference) if reference else None for reference in (block.taken, block.fall)]
            taken, fall = ((h.pc, min(h.count, block.count)) if h is not None else None for h in headers)
            jumps = [] if taken is None else [taken]
        self.seen = tuple(pc for pc, _ in jumps)
        if taken is None and jumps:
            taken = jumps[0]
        taken, fall = (
            (edge[0], max(edge[1], self.count // 4)) if edge is not None and edge[0] in warm else edge for edge in (taken, fall)
        )
        self.edges = [edge for edge in (taken, fall, *jumps[1:]) if edge is not None]
        if fall is None:
            # The end of a call or jump: a return may come back there.
            after = source.known(block.end)
            if after:
                self.edges.append((block.end, min(source.block(after).count, self.count) if counted is None else self.count))
        self.cold = sum(
            way for way, edge in ((TAKEN, taken), (FALL, fall)) if edge is None or edge[1] * _RARE < self.count
        )  # fmt: skip


class LiveBlocks:
    """Those that a core has decoded; references are addresses of their headers."""

    __slots__ = ("_core", "_counted", "covered", "flushing", "guarded", "isa_name", "tallied")

    def __init__(self, core: Core, counted: Callable[[int], Counted | None] = lambda _: None) -> None:
        self._core = core
        self._counted = counted
        self.guarded = core.arena.traps
        self.isa_name = core.isa_name
        self.covered = core.covered
        self.tallied = core.tallied
        self.flushing = core.flushing

    def known(self, pc: int) -> int:
        """The header's address, or 0."""
        return self._core.known(pc)

    def counted(self, pc: int) -> Counted | None:
        """What quick code has counted."""
        return self._counted(pc)

    def block(self, reference: int) -> Header:
        """What the header says now."""
        return Header(reference)

    def code(self, pc: int, size: int) -> bytes:
        """Guest code; raises MemoryFault."""
        return self._core.arena.peek(pc, size)


def grow(
    source: Blocks, heads: list[int], level: int, most_blocks: int, most_instructions: int, without: Container[int] = (),
    warm: Container[int] = (),
) -> RegionSpec | None:  # fmt: skip
    """The region around the blocks at addresses `heads`, without blocks at the addresses `without`; None if there is no block at
    the first of them. Ways to the addresses `warm` are not rare, whatever the counts say. Raises MemoryFault."""
    starts = [reference for reference in map(source.known, heads) if reference]
    if not starts or source.block(starts[0]).pc != heads[0]:
        return None
    waiting: list[tuple[int, int, _Node]] = []
    for order, reference in enumerate(starts):
        waiting.append((-(1 << 62), order, _Node(source, source.block(reference), warm)))
    hottest = max(found.count for _, _, found in waiting)
    chosen: dict[int, _Node] = {}
    seen = set(starts)
    room = most_instructions
    floor = max(hottest // _COLD, _FEW)
    while waiting and len(chosen) < most_blocks:
        weight, _, found = heapq.heappop(waiting)
        block = found.block
        if block.pc in chosen or (chosen and block.n > room):
            continue
        room -= block.n
        chosen[block.pc] = found
        for pc, times in found.edges:
            following = source.known(pc)
            if following and following not in seen and times > floor and pc not in without:
                seen.add(following)
                found = _Node(source, source.block(following), warm)
                heapq.heappush(waiting, (-min(times, -weight), len(seen) + len(starts), found))
    blocks: list[RegionBlock] = []
    for found in sorted(chosen.values(), key=lambda found: found.block.pc != heads[0]):
        block = found.block
        code = source.code(block.pc, block.end - block.pc)
        blocks.append(RegionBlock(block.pc, block.end, block.n, found.count, found.seen, found.cold, found.taken, code))
    entries = [pc for pc in chosen if level == QUICK or pc in heads]
    return RegionSpec(
        source.isa_name, level, source.covered, source.guarded, [], source.tallied, source.flushing, entries, blocks
    )  # fmt: skip
