"""From a counted profile to the regions that are worth compiling.

The regions are those that the JIT would come to, had the program run long: of the quick kind around all that is executed much
when it is interpreted, of the full kind around the headers of hot loops and the entries of hot functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from polyvm.engine.blocks import stage_block
from polyvm.engine.core import FIRST_TICK
from polyvm.engine.grow import grow
from polyvm.engine.layout import SLICE
from polyvm.engine.profile import Image, RecordedBlock
from polyvm.engine.region import FULL, LARGE, QUICK, SMALL, RegionBlock, RegionSpec
from polyvm.mem import PAGE_BITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from polyvm.isa import Isa

SHORT = FIRST_TICK * SLICE  # instructions: a program that ends before never asks for a region
WARM = 2048  # instructions executed in a block, from which on the JIT asks for it where it has nothing better to do
_HOT, _HOT_SHARE = 1_000_000, 5_000  # instructions around a place that is worth the full kind: so many, and one part in so many
_MOST_ENTRIES = 6
_MOST_LOOP = 1 << 14  # bytes: a jump that goes further back is no loop's


class Planned(NamedTuple):
    """A region to be compiled; `weight` is how many instructions were executed in it, `pages` the code of those with entries."""

    spec: RegionSpec
    weight: int
    pages: dict[int, bytes]


class ImageBlocks:
    """The blocks of an image as `grow` wants them; a reference is the address."""

    covered = 0

    def __init__(self, image: Image) -> None:
        self.isa_name = image.isa
        self._image = image

    def known(self, pc: int) -> int:
        """The address, if there is a block."""
        return pc if pc in self._image.blocks else 0

    def block(self, reference: int) -> RecordedBlock:
        """The block at an address."""
        return self._image.blocks[reference]

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
            block = block._replace(count=old.count + block.count, taken=block.taken or old.taken, fall=block.fall or old.fall)
        into.blocks[pc] = block


def plan(image: Image, isa: Isa, mode: str, *, warm: int = WARM, hot: int | None = None) -> list[Planned]:
    """The regions of an image, those with most instructions first."""
    least = max(_HOT, image.instructions // _HOT_SHARE) if hot is None else hot
    source = ImageBlocks(image)
    heat = {pc: block.n * block.count for pc, block in image.blocks.items()}
    heat = {pc: value for pc, value in heat.items() if value >= warm and _whole(image, pc)}
    specs: list[RegionSpec] = []
    if mode != "full":
        specs += _cover(source, heat, QUICK, SMALL)
    if mode == "full":
        specs += _cover(source, heat, FULL, SMALL)
    elif mode == "auto":
        specs += _full(source, image, heat, least, isa)
    planned: list[Planned] = []
    for spec in specs:
        weight = sum(heat.get(block.pc, 0) for block in spec.blocks)
        pages = {pc >> PAGE_BITS: image.pages[pc >> PAGE_BITS] for pc in spec.entries}
        planned.append(Planned(spec, weight, pages))
    return sorted(planned, key=lambda item: -item.weight)


def _whole(image: Image, pc: int) -> bool:
    block = image.blocks[pc]
    return len(image.code(pc, block.end - pc)) == block.end - pc


def _cover(source: ImageBlocks, heat: dict[int, int], level: int, room: tuple[int, int]) -> Iterator[RegionSpec]:
    """Regions around all blocks, the hottest first."""
    settled: set[int] = set()
    for pc in sorted(heat, key=lambda pc: -heat[pc]):
        if pc not in settled:
            spec = grow(source, [pc], level, *room, settled if level == QUICK else ())
            if spec is not None:
                settled.update(spec.entries)
                yield spec


def _full(source: ImageBlocks, image: Image, heat: dict[int, int], least: int, isa: Isa) -> list[RegionSpec]:
    """Regions of the full kind; a place that is inside of one already becomes another of its entries, if it is come to from
    outside."""
    ways = Ways(image, heat, isa)
    made: list[RegionSpec] = []
    for head in ways.heads(least):
        inside = [i for i, spec in enumerate(made) if any(block.pc == head for block in spec.blocks)]
        around = next((i for i in inside if len(made[i].entries) < _MOST_ENTRIES), None)
        if inside and not any(ways.entered_from_outside(head, made[i]) for i in inside[:1]):
            continue
        heads = [*made[around].entries, head] if around is not None else [head]
        spec = grow(source, heads, FULL, *LARGE)
        if spec is None:
            continue
        if around is not None and head in spec.entries:
            made[around] = spec
        else:
            made.append(spec)
    return made


class Ways:
    """Where each warm block goes, within its function."""

    def __init__(self, image: Image, heat: dict[int, int], isa: Isa) -> None:
        self._image = image
        self._heat = heat
        self._before: dict[int, list[int]] = {}
        self._loops: list[tuple[int, int]] = []  # first and last address of those with a jump back
        self._functions: set[int] = set()
        for pc in heat:
            self._follow(image.blocks[pc], isa)

    def _follow(self, block: RecordedBlock, isa: Isa) -> None:
        code = self._image.code(block.pc, block.end - block.pc)
        staged = stage_block(isa, RegionBlock(block.pc, block.end, block.n, 0, 0, code))
        last = staged.last
        targets = [block.end]
        if last is not None:
            if last.op == "jump":
                targets = [last.args[0].bits]
            elif last.op == "branch":
                targets = [last.args[1].bits, block.end]
            else:
                targets = [block.taken]
        for target in targets:
            self._before.setdefault(target, []).append(block.pc)
        if staged.is_call:
            self._functions.update(targets)
        elif last is not None and last.attrs.get("hint") != "ret":
            self._loops += [(target, block.pc) for target in targets if 0 <= block.pc - target < _MOST_LOOP]

    def heads(self, least: int) -> list[int]:
        """Where regions of the full kind are to begin, hottest first: each warm block speaks for the header of the innermost loop
        that it is in, else for its function's entry."""
        weights: dict[int, int] = {}
        inner = self._innermost()
        functions = sorted(self._functions)
        for pc, value in self._heat.items():
            head = inner.get(pc)
            if head is None:
                head = _last_before(functions, pc)
            if head is None or head not in self._heat:
                head = pc
            weights[head] = weights.get(head, 0) + value
        return sorted((pc for pc, weight in weights.items() if weight >= least), key=lambda pc: -weights[pc])

    def _innermost(self) -> dict[int, int]:
        order = sorted(self._heat)
        found: dict[int, int] = {}
        from bisect import bisect_left, bisect_right

        for first, last in sorted(set(self._loops), key=lambda loop: loop[1] - loop[0]):
            for pc in order[bisect_left(order, first) : bisect_right(order, last)]:
                found.setdefault(pc, first)
        return found

    def entered_from_outside(self, pc: int, spec: RegionSpec) -> bool:
        """True if more than a few of the ways to `pc` come from blocks that are not in a region."""
        inside = {block.pc for block in spec.blocks}
        outside = sum(self._image.blocks[before].count for before in self._before.get(pc, ()) if before not in inside)
        return outside * SLICE > self._image.blocks[pc].count


def _last_before(addresses: list[int], pc: int) -> int | None:
    from bisect import bisect_right

    index = bisect_right(addresses, pc) - 1
    return addresses[index] if index >= 0 and pc - addresses[index] < _MOST_LOOP else None


__all__ = ["Planned", "Ways", "merge", "plan"]
