"""What a region is: guest code that is compiled as one function."""

from __future__ import annotations

import marshal
from typing import Any, NamedTuple

QUICK, FULL = 1, 2  # levels: LLVM's quick passes, its whole pipeline
SMALL, LARGE = (32, 200), (64, 500)  # blocks and instructions that a region has at most; LARGE where there is time


class RegionBlock(NamedTuple):
    """One block of a region: `entries` is how often it was entered, `seen` where its indirect jump last went (0: none)."""

    pc: int
    end: int
    n: int
    entries: int
    seen: int
    code: bytes


class RegionSpec(NamedTuple):
    """A region before it is compiled; the first block is its head. `entries`: addresses of the blocks where it can be entered.
    `coverage`: bits of the coverage map in which it notes the blocks that it executes, or 0."""

    isa: str
    level: int
    coverage: int
    entries: list[int]
    blocks: list[RegionBlock]

    @property
    def head(self) -> int:
        """The address of its first block, which is an entry."""
        return self.blocks[0].pc

    @property
    def instructions(self) -> int:
        """Guest instructions in all its blocks."""
        return sum(block.n for block in self.blocks)

    def parts(self) -> list[tuple[int, bytes]]:
        """The guest code that the region was made from: addresses and bytes, none across a page."""
        found: list[tuple[int, bytes]] = []
        for block in sorted(self.blocks):
            at, data = block.pc, block.code
            while data:
                room = 4096 - at % 4096
                found.append((at, data[:room]))
                at, data = at + room, data[room:]
        return found

    def pack(self) -> bytes:
        """As bytes, for the compiler's process."""
        return marshal.dumps((self.isa, self.level, self.coverage, self.entries, [tuple(block) for block in self.blocks]))

    @classmethod
    def unpack(cls, data: bytes) -> RegionSpec:
        """From `pack`."""
        isa, level, coverage, entries, blocks = marshal.loads(data)
        return cls(isa, level, coverage, entries, [RegionBlock(*block) for block in blocks])


class Compiled(NamedTuple):
    """A compiled region: its object file and the guest code that it stands for. `inside`: the addresses of all its blocks."""

    entries: list[int]
    inside: list[int]
    level: int
    instructions: int
    parts: list[tuple[int, bytes]]
    data: bytes

    def pack(self) -> bytes:
        """As bytes, for the disk cache."""
        return marshal.dumps(tuple(self))

    @classmethod
    def unpack(cls, data: bytes) -> Compiled | None:
        """From `pack`; None if it is something else."""
        try:
            fields: Any = marshal.loads(data)
            return cls(*fields)
        except (ValueError, EOFError, TypeError):
            return None
