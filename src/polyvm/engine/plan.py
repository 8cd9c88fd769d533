"""From a counted profile to the regions that are worth compiling.

The regions are those that the JIT would come to, had the program run long: of the quick kind around all that is executed much
when it is interpreted, of the full kind around the headers of hot loops and the entries of hot functions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from polyvm.engine.core import FIRST_TICK
from polyvm.engine.grow import grow
from polyvm.engine.layout import SLICE
from polyvm.engine.region import FULL, LARGE, QUICK, SMALL, RegionSpec
from polyvm.engine.walk import Walk
from polyvm.mem import PAGE_BITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from polyvm.engine.profile import Image, RecordedBlock
    from polyvm.isa import Isa

SHORT = FIRST_TICK * SLICE  # instructions: a program that ends before never asks for a region
# Instructions executed in a block, from which on the JIT may ask for it. Where these are many, only those count that do not
# take longer to load than to interpret.
_WARM, _MANY, _WORTH = 2048, 2000, 8192
_MOST_ENTRIES = 6
_ROUNDS, _AT_ONCE = 24, 16  # of the full kind: looks at what is outside of it, and regions that one look adds
_SHARE, _LITTLE = 0.001, 0.02  # of all instructions: at a place that is worth a region, and outside at the end


class Planned(NamedTuple):
    """A region to be compiled; `weight` is how many instructions were executed in it, `pages` the code of those with entries."""

    spec: RegionSpec
    weight: int
    pages: dict[int, bytes]


class ImageBlocks:
    """The blocks of an image as `grow` wants them; a reference is the address."""

    def __init__(self, image: Image) -> None:
        self.isa_name = image.isa
        self.covered = 0
        self.tallied = self.flushing = False
        self.guarded = True
        self._image = image

    def known(self, pc: int) -> int:
        """The address, if there is a block."""
        return pc if pc in self._image.blocks else 0

    def block(self, reference: int) -> RecordedBlock:
        """The block at an address; it leads to no block that is not there."""
        block, blocks = self._image.blocks[reference], self._image.blocks
        if (block.taken and block.taken not in blocks) or (block.fall and block.fall not in blocks):
            taken, fall = (pc if pc in blocks else 0 for pc in (block.taken, block.fall))
            block = replace(block, taken=taken, fall=fall)
        return block

    def counted(self, pc: int) -> None:
        """Nothing but what the blocks say."""

    def code(self, pc: int, size: int) -> bytes:
        """Its code."""
        return self._image.code(pc, size)


def merge(images: Iterable[Image]) -> list[Image]:
    """Runs of the same program as one, if its code is at the same place; those too short for regions are left out."""
    merged: list[Image] = []
    for image in images:
        if not image.blocks or image.instructions < SHORT:
            continue
        for other in merged:
            if (other.isa, other.program) == (image.isa, image.program) and _agree(other, image):
                _add(other, image)
                break
        else:
            merged.append(image)
    return merged


def _agree(one: Image, other: Image) -> bool:
    return all(one.pages.get(page, code) == code for page, code in other.pages.items())


def _add(into: Image, image: Image) -> None:
    into.pages.update(image.pages)
    for pc, block in image.blocks.items():
        old = into.blocks.get(pc)
        if old is not None and old.n == block.n:
            block = replace(block, count=old.count + block.count, taken=block.taken or old.taken, fall=block.fall or old.fall)
        into.blocks[pc] = block


def plan(image: Image, isa: Isa, mode: str) -> list[Planned]:
    """The regions of an image, those with most instructions first."""
    image.blocks = {pc: block for pc, block in image.blocks.items() if _whole(image, block, isa)}
    source = ImageBlocks(image)
    heat = {pc: block.n * block.count for pc, block in image.blocks.items()}
    heat = {pc: value for pc, value in heat.items() if value >= _WARM}
    if len(heat) > _MANY:
        heat = {pc: value for pc, value in heat.items() if value >= _WORTH}
    if mode == "full":
        specs = list(_cover(source, heat, FULL, SMALL))
    else:
        specs = list(_cover(source, heat, QUICK, SMALL))
    if mode == "auto":
        specs += _full(source, Walk(image, heat, isa), specs)
    planned: list[Planned] = []
    for spec in specs:
        weight = sum(heat.get(block.pc, 0) for block in spec.blocks)
        pages = {pc >> PAGE_BITS: image.pages[pc >> PAGE_BITS] for pc in spec.entries}
        planned.append(Planned(spec, weight, pages))
    return sorted(planned, key=lambda item: -item.weight)


def _whole(image: Image, block: RecordedBlock, isa: Isa) -> bool:
    """True if the code is there and its instructions are as many and as long as the block says."""
    size = block.end - block.pc
    code = image.code(block.pc, size)
    at = n = 0
    while at < len(code) == size:
        at += isa.length(int.from_bytes(code[at : at + 2], "little"))
        n += 1
    return at == size and n == block.n


def _cover(source: ImageBlocks, heat: dict[int, int], level: int, room: tuple[int, int]) -> Iterator[RegionSpec]:
    """Regions around all blocks, the hottest first."""
    settled: set[int] = set()
    for pc in sorted(heat, key=lambda pc: -heat[pc]):
        if pc not in settled:
            spec = grow(source, [pc], level, *room, settled if level == QUICK else ())
            if spec is not None:
                settled.update(spec.entries)
                yield spec


def _full(source: ImageBlocks, walk: Walk, quick: list[RegionSpec]) -> list[RegionSpec]:
    """Regions of the full kind, until little is executed outside. A place inside of one becomes another of its entries."""
    made: list[RegionSpec] = []
    tried: set[int] = set()
    for _ in range(_ROUNDS):
        shares = walk.outside(made, quick)
        heads = [pc for pc in sorted(shares, key=lambda pc: -shares[pc]) if shares[pc] >= _SHARE and pc not in tried]
        if not heads or sum(shares.values()) < _LITTLE:
            break
        for head in heads[:_AT_ONCE]:
            tried.add(head)
            around = next((i for i, spec in enumerate(made) if _may_enter(spec, head)), None)
            if around is not None:
                spec = grow(source, [*made[around].entries, head], FULL, *LARGE)
                if spec is not None and head in spec.entries:
                    made[around] = spec
                    continue
            spec = grow(source, [head], FULL, *LARGE)
            if spec is not None:
                made.append(spec)
    return made


def _may_enter(spec: RegionSpec, head: int) -> bool:
    return len(spec.entries) < _MOST_ENTRIES and any(block.pc == head for block in spec.blocks)


__all__ = ["Planned", "merge", "plan"]
