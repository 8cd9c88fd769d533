"""Where the guest would be found outside of well made code: a random walk over the blocks of a profile.

The JIT makes a region of the full kind around places where ticks keep finding the guest in code of the quick kind. Ahead of time
nothing ticks, so the guest is imitated: from block to block, by how often each was entered, with a stack of the calls.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING

from polyvm.engine.blocks import stage_block
from polyvm.engine.region import RegionBlock

if TYPE_CHECKING:
    from polyvm.engine.blocks import Block
    from polyvm.engine.profile import Image
    from polyvm.engine.region import RegionSpec
    from polyvm.isa import Isa

_WALKS, _STEPS = 400, 500
_DEEP = 64  # calls that are remembered
_FAR = 1 << 16  # bytes that an indirect jump goes at most


def _last_instruction(isa: Isa, pc: int, code: bytes) -> Block:
    """A block's last instruction, staged, as a block of its own."""
    at, length = 0, 0
    while at + length < len(code):
        at += length
        length = isa.length(int.from_bytes(code[at : at + 2], "little"))
    return stage_block(isa, RegionBlock.uncounted(pc + at, pc + len(code), 1, code[at:]))


class _Choice:
    """Places to go to, each with a weight."""

    __slots__ = ("_ends", "_places")

    def __init__(self, weights: list[tuple[int, int]]) -> None:
        self._places = [place for place, _ in weights]
        self._ends = list(accumulate(max(1, weight) for _, weight in weights))

    def pick(self, random: Random) -> int:
        """One of them; 0 where there is none."""
        if len(self._places) < 2:
            return self._places[0] if self._places else 0
        return self._places[bisect_left(self._ends, random.random() * self._ends[-1])]


class _Inside:
    """A region's blocks, and those that come after its calls."""

    __slots__ = ("blocks", "sites")

    def __init__(self, spec: RegionSpec, calls: set[int]) -> None:
        self.blocks = {block.pc for block in spec.blocks}
        self.sites = self.blocks & {block.end for block in spec.blocks if block.pc in calls}


class Walk:
    """The blocks of `heat`, which says how many instructions were executed in each."""

    def __init__(self, image: Image, heat: dict[int, int], isa: Isa) -> None:
        self._blocks = {pc: image.blocks[pc] for pc in heat}
        self._random = Random(0)
        self._start = _Choice(list(heat.items()))
        self._to: dict[int, _Choice] = {}
        self._calls: set[int] = set()
        self._returns: set[int] = set()
        self._explained: dict[int, int] = {}
        self._jumps: set[int] = set()  # indirect, calls among them
        scattered: list[int] = []
        for pc, block in self._blocks.items():
            staged = _last_instruction(isa, pc, image.code(pc, block.end - pc))
            last = staged.last
            if staged.is_call:
                self._calls.add(pc)
            if last is None:
                self._lead(pc, [block.end])
            elif last.op == "jump":
                self._lead(pc, [last.args[0].bits])
            elif last.op == "branch":
                self._lead(pc, [last.args[1].bits, block.end])
            elif last.attrs["hint"] == "ret":
                self._returns.add(pc)
                self._lead(pc, [block.taken])
            else:
                self._jumps.add(pc)
                if staged.is_call:
                    self._lead(pc, [block.taken])
                else:
                    scattered.append(pc)
        self._scatter(scattered)

    def _lead(self, pc: int, targets: list[int]) -> None:
        found = [(target, self._blocks[target].count) for target in targets if target in self._blocks]
        self._to[pc] = _Choice(found)
        count = self._blocks[pc].count
        if pc in self._calls:
            self._explain(self._blocks[pc].end, count)  # it comes back
        if pc not in self._returns:
            total = sum(weight for _, weight in found)
            for target, weight in found:
                self._explain(target, count * weight // max(1, total))

    def _explain(self, pc: int, count: int) -> None:
        self._explained[pc] = self._explained.get(pc, 0) + count

    def _scatter(self, jumps: list[int]) -> None:
        """Indirect jumps: only where they went last is known; they lead to what is near and was entered in no known way."""
        open_ = {pc: block.count - self._explained.get(pc, 0) for pc, block in self._blocks.items()}
        order = sorted(pc for pc, missing in open_.items() if missing * 8 > self._blocks[pc].count)
        for pc in jumps:
            near = order[bisect_left(order, pc - _FAR) : bisect_left(order, pc + _FAR)]
            found = [(target, open_[target]) for target in near]
            taken = self._blocks[pc].taken
            self._to[pc] = _Choice(found or [(taken, 1)] if taken in self._blocks else found)

    def outside(self, full: list[RegionSpec], quick: list[RegionSpec]) -> dict[int, float]:
        """The share of instructions that is executed in regions of the quick kind, by the places where they were entered."""
        entries = {pc: spec for spec in full for pc in spec.entries}
        inside = {id(spec): _Inside(spec, self._calls) for spec in (*full, *quick)}
        others = {pc: spec for spec in quick for pc in spec.entries}
        found: dict[int, int] = {}
        total = 0
        random = self._random
        for _ in range(_WALKS):
            pc = self._start.pick(random)
            where, head, stack = entries.get(pc) or others.get(pc), pc, list[int]()
            for _ in range(_STEPS):
                block = self._blocks.get(pc)
                if block is None:
                    break
                total += block.n
                if where is not None and others.get(head) is where:
                    found[head] = found.get(head, 0) + block.n
                following = self._after(pc, stack)
                stays = where is not None and self._stays(pc, following, inside[id(where)])
                if not stays or (others.get(head) is where and following in entries):
                    where, head = entries.get(following) or others.get(following), following
                pc = following
        return {pc: count / max(1, total) for pc, count in found.items() if pc not in entries}

    def _stays(self, pc: int, following: int, inside: _Inside) -> bool:
        """True if a region goes on inside: where an indirect jump went last, where its calls come back."""
        if pc in self._returns:
            return following in inside.sites
        if pc in self._jumps and following != self._blocks[pc].taken:
            return False
        return following in inside.blocks

    def _after(self, pc: int, stack: list[int]) -> int:
        if pc in self._returns and stack:
            return stack.pop()
        if pc in self._calls:
            stack.append(self._blocks[pc].end)
            del stack[:-_DEEP]
        return self._to[pc].pick(self._random)
