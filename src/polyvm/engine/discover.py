"""Blocks of code that has not run: by following it from where functions begin.

How often they would be entered is guessed: eight times as often in a loop as outside of it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from polyvm.engine.blocks import stage_block
from polyvm.engine.layout import MAX_BLOCK
from polyvm.engine.profile import Image, RecordedBlock
from polyvm.engine.region import RegionBlock
from polyvm.mem import PAGE_BITS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyvm.isa import Isa

_ONCE = 8192  # entries of a block outside of loops: enough to be compiled
_DEEPEST = 4
_FARTHEST = 1 << 14  # bytes that a loop's jump goes back at most
_ENDS = frozenset({"jump", "branch", "indirect", "exit"})


class Discovery:
    """Finds the blocks of an image, whose pages are known."""

    def __init__(self, image: Image, isa: Isa) -> None:
        self._image = image
        self._isa = isa
        self._ends: dict[str, bool] = {}

    def follow(self, functions: Iterable[int], weight: int = 1) -> set[int]:
        """Add the blocks of `functions`, each counted `weight` times as much; which others these call."""
        found: dict[int, tuple[int, int, int, int]] = {}
        loops: list[tuple[int, int]] = []
        called: set[int] = set()
        waiting = list(functions)
        while waiting:
            pc = waiting.pop()
            block = None if pc in found or pc in self._image.blocks else self._block(pc)
            if block is None:
                continue
            end, n, targets, call = block
            found[pc] = (end, n, targets[0] if targets else 0, 0 if call or len(targets) == 1 else end)
            if call:
                called.update(targets)
                waiting.append(end)
                continue
            waiting += targets or [end]
            loops += [(target, pc) for target in targets if 0 <= pc - target < _FARTHEST]
        depth = _depths(sorted(found), loops)
        for pc, (end, n, taken, falls) in found.items():
            self._image.blocks[pc] = RecordedBlock(pc, end, n, weight * _ONCE << 3 * depth[pc], taken, falls)
        return called - self._image.blocks.keys()

    def _block(self, pc: int) -> tuple[int, int, list[int], bool] | None:
        """Its end, its instructions, where it leads to (nowhere: to what follows it), and whether it is a call."""
        at, n, last = pc, 0, b""
        while n < MAX_BLOCK and (n == 0 or at % (1 << PAGE_BITS)):
            raw = self._image.code(at, 4)
            decoded = self._isa.decode(int.from_bytes(raw, "little")) if len(raw) >= 2 else None
            if decoded is None or decoded.length > len(raw):
                return None
            last = raw[: decoded.length]
            at, n = at + decoded.length, n + 1
            name = decoded.insn.name
            if name not in self._ends:
                self._ends[name] = self._ends_block(at - len(last), last)
            if self._ends[name]:
                return self._leads(at - len(last), at, n, last)
        return at, n, [], False

    def _ends_block(self, pc: int, code: bytes) -> bool:
        step = stage_block(self._isa, RegionBlock.uncounted(pc, pc + len(code), 1, code)).steps[0]
        return any(value.op in _ENDS for value in step.flat)

    def _leads(self, pc: int, end: int, n: int, code: bytes) -> tuple[int, int, list[int], bool]:
        staged = stage_block(self._isa, RegionBlock.uncounted(pc, end, 1, code))
        last = staged.last
        if last is None:
            return end, n, [], False  # a system call: it goes on after it
        if last.op == "branch":
            return end, n, [last.args[1].bits, end], False
        if last.op == "jump":
            return end, n, [last.args[0].bits], staged.is_call
        return end, n, [0], staged.is_call


def _depths(order: list[int], loops: list[tuple[int, int]]) -> dict[int, int]:
    """In how many loops each block is: headers with different addresses count."""
    depth = dict.fromkeys(order, 0)
    longest: dict[int, int] = {}
    for first, last in loops:
        longest[first] = max(last, longest.get(first, 0))
    for first, last in longest.items():
        for pc in order[bisect_left(order, first) : bisect_right(order, last)]:
            depth[pc] = min(depth[pc] + 1, _DEEPEST)
    return depth


__all__ = ["Discovery"]
