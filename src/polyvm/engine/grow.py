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

    from polyvm.engine.core import Core

_HEADER = struct.Struct("<QQIIQQQQ")
_FEW = 4  # … or not more often than this
_COLD = 12  # an edge is left out where it was taken this many times less often than the head was entered
_RARE = 24  # an edge out of the region is rare where it is taken this many times less often than the block before is entered


class Counted(NamedTuple):
    """What quickly made code has counted of a block: how often it was entered, and left for `taken_pc`; `fall_pc`: where it goes on
    otherwise; `seen`: where its indirect jump went last. 0: no such way."""

    count: int
    taken: int
    seen: int
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

    def __init__(self, core: Core, block: Header, counted: Counted | None, warm: Container[int]) -> None:
        self.block = block
        self.count = block.count
        self.taken = -1
        taken = fall = None
        if counted is not None:
            self.count, self.taken = counted.count, counted.taken
            self.seen = counted.seen
            if counted.taken_pc:
                taken = counted.taken_pc, counted.taken
            if counted.fall_pc:
                fall = counted.fall_pc, max(0, counted.count - counted.taken)
        else:
            headers = [Header(address) if address else None for address in (block.taken, block.fall)]
            taken, fall = ((h.pc, min(h.count, block.count)) if h is not None else None for h in headers)
            self.seen = taken[0] if taken is not None else 0
        if taken is None and self.seen:
            taken = self.seen, self.count
        taken, fall = (
            (edge[0], max(edge[1], self.count // 4)) if edge is not None and edge[0] in warm else edge for edge in (taken, fall)
        )
        self.edges = [edge for edge in (taken, fall) if edge is not None]
        if fall is None:
            # The end of a call or jump: a return may come back there.
            after = core.known(block.end)
            if after:
                self.edges.append((block.end, min(Header(after).count, self.count) if counted is None else self.count))
        self.cold = sum(
            way for way, edge in ((TAKEN, taken), (FALL, fall)) if edge is None or edge[1] * _RARE < self.count
        )  # fmt: skip


def grow(
    core: Core, heads: list[int], level: int, most_blocks: int, most_instructions: int, without: Container[int] = (),
    profile: Callable[[int], Counted | None] = lambda _: None, warm: Container[int] = (),
) -> RegionSpec | None:  # fmt: skip
    """The region around the blocks at addresses `heads`, without blocks at the addresses `without`; None if there is no block at
    the first of them. Ways to the addresses `warm` are not rare, whatever the counts say. Raises MemoryFault."""
    starts = [address for address in map(core.known, heads) if address]
    if not starts or Header(starts[0]).pc != heads[0]:
        return None

    def node(address: int) -> _Node:
        header = Header(address)
        return _Node(core, header, profile(header.pc), warm)

    waiting: list[tuple[int, int, _Node]] = []
    for order, address in enumerate(starts):
        waiting.append((-(1 << 62), order, node(address)))
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
            following = core.known(pc)
            if following and following not in seen and times > floor and pc not in without:
                seen.add(following)
                heapq.heappush(waiting, (-min(times, -weight), len(seen) + len(starts), node(following)))
    blocks: list[RegionBlock] = []
    for found in sorted(chosen.values(), key=lambda found: found.block.pc != heads[0]):
        block = found.block
        code = core.arena.peek(block.pc, block.end - block.pc)
        blocks.append(RegionBlock(block.pc, block.end, block.n, found.count, found.seen, found.cold, found.taken, code))
    entries = [pc for pc in chosen if level == QUICK or pc in heads]
    return RegionSpec(core.isa_name, level, core.covered, core.arena.guarded, entries, blocks)
