"""A profile as tables: which functions, and which regions and blocks, were executed most."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from polyvm.debug.guest import GuestNames, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from polyvm.engine.profile import CodeMap, Image

_K = TypeVar("_K")
TIERS = ("interpreted", "quick", "full")


class Spot(NamedTuple):
    """Something executed: `low` and `high` are the addresses of a region's or block's code; `place` is where the guest was."""

    place: Place
    low: int
    high: int
    label: str
    level: int
    instructions: int
    seconds: float


class Group:
    """Spots added up: instructions and seconds by level, and the addresses that they span."""

    __slots__ = ("high", "instructions", "low", "seconds")

    def __init__(self) -> None:
        self.instructions = [0, 0, 0]
        self.seconds = 0.0
        self.low, self.high = 1 << 64, 0

    def add(self, spot: Spot, low: int, high: int) -> None:
        """Count one."""
        self.instructions[spot.level] += spot.instructions
        self.seconds += spot.seconds
        self.low, self.high = min(self.low, low), max(self.high, high)

    @property
    def total(self) -> int:
        """Instructions of all levels."""
        return sum(self.instructions)


def spots(images: Iterable[Image]) -> Iterator[tuple[int, Spot]]:
    """All that images have, each with the address where the guest was."""
    for image in images:
        names = GuestNames(image.roots)
        maps = sorted(image.maps)
        starts = [mapped.start for mapped in maps]

        def place(pc: int, names: GuestNames = names, maps: list[CodeMap] = maps, starts: list[int] = starts) -> Place:
            index = bisect_right(starts, pc) - 1
            mapped = maps[index] if index >= 0 and pc < maps[index].end else None
            return names.place(mapped, pc)

        ranges = {(found.head, found.level): found for found in image.ranges}
        for block in image.blocks.values():
            here = place(block.pc)
            yield block.pc, Spot(here, block.pc, block.end, str(here), 0, block.n * block.count, 0.0)
        for sample in image.samples:
            here = place(sample.pc)
            found = ranges.get((sample.head, sample.level))
            low, high = (found.low, found.high) if found is not None else (sample.pc, sample.pc)
            label = str(place(found.head)) if found is not None else str(here)
            yield sample.pc, Spot(here, low, high, label, min(sample.level, 2), sample.instructions, sample.seconds)


def tables(images: list[Image], top: int) -> str:
    """The summary, the functions and the places with most instructions, `top` of each."""
    functions: dict[tuple[str, str], Group] = {}
    regions: dict[tuple[int, int, str, int], Group] = {}
    whole = Group()
    for pc, spot in spots(images):
        whole.add(spot, pc, pc)
        functions.setdefault((spot.place.module, spot.place.function or "?"), Group()).add(spot, pc, pc)
        regions.setdefault((spot.low, spot.high, spot.label, spot.level), Group()).add(spot, spot.low, spot.high)
    total, seconds = whole.total, whole.seconds
    if not total:
        return "nothing was noted: the program ended too soon"
    split = ", ".join(f"{name} {_share(whole.instructions[i], total)}" for i, name in enumerate(TIERS))
    lines = [f"{total:,} instructions" + (f" in {seconds:.3f} s of processor time" if seconds else "") + f": {split}", ""]
    lines.append("  instr.    time  interp.  quick   full  addresses                    function")
    for (module, function), group in _most(functions, top):
        tiers = " ".join(f"{_share(group.instructions[i], group.total):>6}" for i in range(3))
        lines.append(f"  {_both(group, whole)}  {tiers}  {_range(group.low, group.high):<27}  {module}:{function}")
    lines += ["", "  instr.    time  tier         addresses                    region or block"]
    for (low, high, label, level), group in _most(regions, top):
        lines.append(f"  {_both(group, whole)}  {TIERS[level]:<11}  {_range(low, high):<27}  {label}")
    return "\n".join(lines)


def _most(groups: dict[_K, Group], top: int) -> list[tuple[_K, Group]]:
    return sorted(groups.items(), key=lambda item: -item[1].total)[:top]


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _both(group: Group, whole: Group) -> str:
    return f"{_share(group.total, whole.total):>6}  {_share(group.seconds, whole.seconds):>6}"


def _range(low: int, high: int) -> str:
    return f"{low:#x}-{high:#x}" if high > low else f"{low:#x}"
