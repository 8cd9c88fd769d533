"""Growing a region: from a hot block along the edges that were taken, as the interpreter's block headers tell."""

from __future__ import annotations

import ctypes
import heapq
import struct
from typing import TYPE_CHECKING

from polyvm.engine.layout import BLOCK_HEADER
from polyvm.engine.region import RegionBlock, RegionSpec

if TYPE_CHECKING:
    from polyvm.engine.core import Core

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


def grow(core: Core, head: int, level: int, most_blocks: int, most_instructions: int) -> RegionSpec | None:
    """The region with its head at address `head`; None if there is no block or it cannot be read."""
    start = core.known(head)
    if not start:
        return None
    first = Header(start)
    chosen: dict[int, Header] = {}
    waiting: list[tuple[int, int]] = [(-(first.count + 1), start)]
    seen = {start}
    room = most_instructions
    floor = max(first.count // _COLD, _FEW)
    while waiting and len(chosen) < most_blocks:
        weight, address = heapq.heappop(waiting)
        block = Header(address)
        if block.pc in chosen or (chosen and block.n > room):
            continue
        room -= block.n
        chosen[block.pc] = block
        after = [block.taken, block.fall]
        if not block.fall:
            # The end of a call or jump: a return may come back there.
            after.append(core.known(block.end))
        for following in after:
            if following and following not in seen:
                seen.add(following)
                count = Header(following).count
                if count > floor:
                    heapq.heappush(waiting, (-min(count, -weight), following))
    blocks: list[RegionBlock] = []
    for block in chosen.values():
        seen_last = Header(block.taken).pc if block.taken else 0
        code = core.arena.peek(block.pc, block.end - block.pc)
        blocks.append(RegionBlock(block.pc, block.end, block.n, block.count, seen_last, code))
    return RegionSpec(core.isa_name, level, core.covered, blocks)
