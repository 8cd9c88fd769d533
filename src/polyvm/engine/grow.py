"""Growing a region: from a hot block along the edges that were taken, as the interpreter's block headers tell."""

from __future__ import annotations

import ctypes
import heapq
import struct
from typing import TYPE_CHECKING

from polyvm.engine.layout import BLOCK_HEADER
from polyvm.engine.region import QUICK, RegionBlock, RegionSpec

if TYPE_CHECKING:
    from collections.abc import Container
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

        def known(self, pc: int) -> int:
            """A reference to the block at `pc`, or 0."""
            ...

        def block(self, reference: int) -> Node: ...

        def code(self, pc: int, size: int) -> bytes: ...

_HEADER = struct.Struct("<QQIIQQQQ")
_FEW = 4  # … or not more often than this
_COLD = 12  # an edge is left out where its target was entered this many times less often than the head


class Header:
    """One block's header, read once."""

    __slots__ = ("address", "count", "end", "fall", "n", "pc", "taken")

    def __init__(self, address: int) -> None:
        self.address = address
        self.pc, self.end, self.n, _, self.count, self.taken, self.fall, _ = _HEADER.unpack(
            ctypes.string_at(address, BLOCK_HEADER)[: _HEADER.size]
        )


class LiveBlocks:
    """Those that a core has decoded; references are addresses of their headers."""

    __slots__ = ("_core", "covered", "isa_name")

    def __init__(self, core: Core) -> None:
        self._core = core
        self.isa_name = core.isa_name
        self.covered = core.covered

    def known(self, pc: int) -> int:
        """The header's address, or 0."""
        return self._core.known(pc)

    def block(self, reference: int) -> Header:
        """What the header says now."""
        return Header(reference)

    def code(self, pc: int, size: int) -> bytes:
        """Guest code; raises MemoryFault."""
        return self._core.arena.peek(pc, size)


def grow(
    source: Blocks, heads: list[int], level: int, most_blocks: int, most_instructions: int, without: Container[int] = ()
) -> RegionSpec | None:
    """The region around the blocks at addresses `heads`, without blocks at the addresses `without`; None if there is no block at
    the first of them. Raises MemoryFault."""
    found = [source.known(head) for head in heads]
    if not found[0]:
        return None
    starts = [address for address in found if address]
    hottest = max(source.block(address).count for address in starts)
    chosen: dict[int, Node] = {}
    waiting: list[tuple[int, int]] = [(-(hottest + 1), address) for address in starts]
    seen = set(starts)
    room = most_instructions
    floor = max(hottest // _COLD, _FEW)
    while waiting and len(chosen) < most_blocks:
        weight, address = heapq.heappop(waiting)
        block = source.block(address)
        if block.pc in chosen or (chosen and block.n > room):
            continue
        room -= block.n
        chosen[block.pc] = block
        after = [block.taken, block.fall]
        if not block.fall:
            # The end of a call or jump: a return may come back there.
            after.append(source.known(block.end))
        for following in after:
            if following and following not in seen:
                seen.add(following)
                header = source.block(following)
                if header.count > floor and header.pc not in without:
                    heapq.heappush(waiting, (-min(header.count, -weight), following))
    blocks: list[RegionBlock] = []
    for block in sorted(chosen.values(), key=lambda block: block.pc != heads[0]):
        seen_last = source.block(block.taken).pc if block.taken else 0
        code = source.code(block.pc, block.end - block.pc)
        blocks.append(RegionBlock(block.pc, block.end, block.n, block.count, seen_last, code))
    entries = [pc for pc in chosen if level == QUICK or pc in heads]
    return RegionSpec(source.isa_name, level, source.covered, entries, blocks)
