"""What a region is: guest code that is compiled as one function."""

from __future__ import annotations

import marshal
from typing import Any, NamedTuple

QUICK, FULL = 1, 2  # levels: LLVM's quick passes, its whole pipeline
TAKEN, FALL = 1, 2  # ways out of a block
SMALL, LARGE = (32, 200), (128, 800)  # blocks and instructions that a region has at most; LARGE where there is time
REGION, ENTER, GO = "region", "enter", "go"  # names of its own function and of the two that lead there (`entrance.py`)
ENOUGH = 1024  # instructions: more than any region has
COUNTERS = 2  # of a block: entered, left by its jump (one through a register: out of the region); 8 bytes each
TARGETS = 8  # of its indirect jump, each with how often it was taken since another was in its place; twice 8 bytes


class RegionBlock(NamedTuple):
    """One block of a region: `entries` is how often it was entered, `seen` where its indirect jump went, most often first,
    `cold` which of TAKEN and FALL are rare, `taken` how often its conditional jump was taken (-1: not known)."""

    pc: int
    end: int
    n: int
    entries: int
    seen: tuple[int, ...]
    cold: int
    taken: int
    code: bytes

    @classmethod
    def uncounted(cls, pc: int, end: int, n: int, code: bytes) -> RegionBlock:
        """A block of which nothing but its code is known."""
        return cls(pc, end, n, 0, (), 0, -1, code)


class RegionSpec(NamedTuple):
    """A region before it is compiled; the first block is its head. `entries`: addresses of the blocks where it can be entered.
    `coverage`: bits of the coverage map in which it notes the blocks that it executes, or 0; `noted`: the addresses of those that
    are there (`noted.py`). `guarded`: the host refuses the accesses to memory that the page attributes forbid. `tallied`: it
    counts how often it goes from one of its blocks to each. `flushing`: it is for where subnormal numbers become zero."""

    isa: str
    level: int
    coverage: int
    guarded: bool
    noted: list[int]
    tallied: bool
    flushing: bool
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
                start, before = found[-1] if found else (0, b"")
                if before and at % 4096 and start <= at <= start + len(before):
                    found[-1] = start, before + data[start + len(before) - at : room]
                else:
                    found.append((at, data[:room]))
                at, data = at + room, data[room:]
        return found

    def pack(self) -> bytes:
        """As bytes, for the compiler's process."""
        return marshal.dumps((*self[:-1], [tuple(block) for block in self.blocks]))

    @classmethod
    def unpack(cls, data: bytes) -> RegionSpec:
        """From `pack`."""
        fields: Any = marshal.loads(data)
        found = cls(*fields)
        return found._replace(blocks=[RegionBlock(*block) for block in found.blocks])


class Compiled(NamedTuple):
    """A compiled region: its image and the guest code that it stands for. `inside`: the addresses of all its blocks. `notes`:
    bytes of the notes of its rare exits (`exits.py`). `ways`: for each block inside its length in instructions, where its jump
    goes and where it goes on otherwise (0: elsewhere), and 1 if it closes a cycle; code of the quick kind counts at them, and has
    COUNTERS for each. `warm`: where rare exits of it, made before, turned out to lead often."""

    entries: list[int]
    inside: list[int]
    level: int
    instructions: int
    parts: list[tuple[int, bytes]]
    data: bytes
    notes: int
    ways: list[tuple[int, int, int, int]]
    warm: list[int]

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
