"""Loops whose accesses move by known steps: a region has them twice.

Before the loop its `Entrance` reads the attributes of eight pages, from where each group of accesses is now, in the direction in
which it moves. From them and from the budget it works out how many iterations need no further check; if those are enough, they
are done in a copy of the loop that has none. The rest, and whatever does not fit, is done in the loop as it was.

An access without a check of its own cannot see that another thread takes the page away: for one grant of the budget at most, it
is as if it had happened before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.engine.induction import groups_of
from polyvm.ir.types import I1, I64
from polyvm.mem import PAGE_BITS, PAGE_MASK, SIZE_BITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polyvm.engine.blocks import Block
    from polyvm.engine.induction import Group, Step, Wrap
    from polyvm.engine.translate import RegionEmitter

_MOST_BLOCKS, _MOST_INSTRUCTIONS = 12, 150
_RARE = 8  # a way back that is taken this many times less often than the header is entered
_SOME = 6  # iterations that a loop has to have on average
_ENOUGH = 4  # iterations that the copy is entered for
_PAUSE = 16  # iterations until the entrance is tried again, where it was in vain
_PAGES = 8
_FAR = 16 << PAGE_BITS  # bytes: more than what moves in the copy, before it is left
_NEAR = 4096


class Loop:
    """An innermost loop: its blocks, the header first, each after all that lead to it."""

    __slots__ = ("blocks", "covered", "floor", "groups", "header", "inside", "longest", "shortest", "skip")

    def __init__(self, header: int, blocks: list[Block], inside: dict[int, list[int]], groups: list[Group]) -> None:
        self.header = header
        self.blocks = blocks
        self.inside = inside
        self.groups = groups
        self.covered: set[int] = set().union(*(group.members for group in groups))
        self.shortest, self.longest = _lengths(header, blocks, inside)
        self.floor = self.skip = ""

    def label(self, pc: int) -> str:
        """Of a block in the copy; 0: of what closes the loop."""
        return f"fast_{self.header:x}_{pc:x}"


def _lengths(header: int, blocks: list[Block], inside: dict[int, list[int]]) -> tuple[int, int]:
    """The least number of instructions in an iteration, and the greatest on any way through the loop."""
    least: dict[int, int] = {header: 0}
    most: dict[int, int] = {header: 0}
    whole: list[int] = []
    longest = 0
    for block in blocks:
        pc, n = block.spec.pc, block.spec.n
        low, high = least[pc] + n, most[pc] + n
        longest = max(longest, high)
        for target in inside[pc]:
            if target == header:
                whole.append(low)
            else:
                least[target] = min(least.get(target, low), low)
                most[target] = max(most.get(target, high), high)
    return min(whole), longest


def _reachable(start: int, edges: dict[int, list[int]], stop: int) -> set[int]:
    """What `edges` lead to from `start`, not beyond `stop`."""
    found: set[int] = set()
    waiting = [start]
    while waiting:
        for pc in edges[waiting.pop()]:
            if pc not in found and pc != stop:
                found.add(pc)
                waiting.append(pc)
    return found


def _sorted(header: int, inside: dict[int, list[int]]) -> list[int] | None:
    """The blocks in topological order; None if there is another loop among them."""
    arrivals = dict.fromkeys(inside, 0)
    for targets in inside.values():
        for pc in targets:
            if pc != header:
                arrivals[pc] += 1
    order: list[int] = []
    waiting = [header]
    while waiting:
        pc = waiting.pop()
        order.append(pc)
        for target in inside[pc]:
            if target != header:
                arrivals[target] -= 1
                if not arrivals[target]:
                    waiting.append(target)
    return order if len(order) == len(inside) else None


def _body(
    header: int, blocks: dict[int, Block], forth: dict[int, list[int]], back: dict[int, list[int]]
) -> dict[int, list[int]] | None:
    """The blocks of the innermost loop with that header and their ways inside it. Ways back to the header that are seldom taken
    belong to a loop around it."""
    reached = _reachable(header, forth, header) | {header}
    body: set[int] = set()
    for source in sorted((pc for pc in back[header] if pc in reached), key=lambda pc: -blocks[pc].spec.entries):
        if blocks[source].spec.entries < blocks[header].spec.entries // _RARE:
            break
        larger = body | {header, source}
        if source != header:
            larger |= _reachable(source, back, header) & reached
        inside = {pc: [target for target in forth[pc] if target in larger] for pc in larger}
        small = len(larger) <= _MOST_BLOCKS and sum(blocks[pc].spec.n for pc in larger) <= _MOST_INSTRUCTIONS
        if small and _sorted(header, inside) is not None:
            body = larger
    return {pc: [target for target in forth[pc] if target in body] for pc in body} if body else None


def find_loops(blocks: dict[int, Block]) -> dict[int, Loop]:
    """The loops that are worth a copy, by their headers."""
    forth = {pc: list(dict.fromkeys(block.targets)) for pc, block in blocks.items()}
    back: dict[int, list[int]] = {pc: [] for pc in blocks}
    for pc, targets in forth.items():
        for target in targets:
            back[target].append(pc)
    loops: dict[int, Loop] = {}
    for header, block in blocks.items():
        if not block.checked:
            continue
        inside = _body(header, blocks, forth, back)
        if inside is None:
            continue
        outside = sum(min(blocks[pc].spec.entries, block.spec.entries) for pc in back[header] if pc not in inside)
        if block.spec.entries < _SOME * outside:
            continue
        order = _sorted(header, inside)
        assert order is not None
        chosen = [blocks[pc] for pc in order]
        groups = groups_of(chosen, inside, header)
        if groups:
            loops[header] = Loop(header, chosen, inside, groups)
    return loops


class Entrance:
    """Writes what comes before a loop."""

    def __init__(self, emitter: RegionEmitter, loop: Loop) -> None:
        self.e = emitter
        self.loop = loop
        self._fail = emitter.label()

    def write(self) -> None:
        """Go to the copy, or on to the loop as it was."""
        e, loop = self.e, self.loop
        slow, try_, pause = e.label(), e.label(), e.label()
        skip = e.temp(f"load i64, ptr {loop.skip}")
        e.branch_to(e.temp(f"icmp ne i64 {skip}, 0"), pause, try_, unlikely=True)
        e.place(try_)
        left = e.temp("load i64, ptr %budget")
        count = e.temp(f"udiv i64 {e.temp(f'sub i64 {left}, {e.bound}')}, {loop.longest}")
        for wrap in dict.fromkeys(self._wraps()):
            self._stays(*wrap)
        for group in loop.groups:
            steps = self._steps(group.step, self._room(group))
            if steps:
                count = e.intrinsic("umin.i64", I64, [(I64, count), (I64, steps)])
        self._need(f"icmp uge i64 {count}, {_ENOUGH}")
        more = e.temp(f"mul i64 {e.temp(f'sub i64 {count}, 1')}, {loop.shortest}")
        e.line(f"store i64 {e.temp(f'sub i64 {left}, {more}')}, ptr {loop.floor}")
        if e.spec.coverage:
            e.cover(loop.header)
        e.jump_to(loop.label(loop.header))
        e.place(self._fail)
        e.line(f"store i64 {_PAUSE}, ptr {loop.skip}")
        e.jump_to(slow)
        e.place(pause)
        e.line(f"store i64 {e.temp(f'sub i64 {skip}, 1')}, ptr {loop.skip}")
        e.jump_to(slow)
        e.place(slow)

    def _need(self, condition: str) -> None:
        good = self.e.label()
        self.e.branch_to(self.e.temp(condition), good, self._fail)
        self.e.place(good)

    # -- expressions ------------------------------------------------------------------------------------------

    def _wraps(self) -> Iterator[tuple[Wrap, bool]]:
        """The conditions, and whether what they are about comes close to its lower end."""
        for group in self.loop.groups:
            for wrap in sorted(group.wraps):
                yield wrap, wrap.back or wrap.kind == "s" or group.step.low < 0

    def _stays(self, wrap: Wrap, low: bool) -> None:
        e = self.e
        half = e.half_sum_of(wrap.parts)
        if wrap.whole:
            kind = "sext" if wrap.kind == "s" else "zext"
            whole = e.held_integer(wrap.parts[0][0])
            self._need(f"icmp eq i64 {whole}, {e.temp(f'{kind} i32 {half} to i64')}")
        if wrap.kind == "s":
            half = e.temp(f"xor i32 {half}, {-(1 << 31)}")
        below = _FAR if low else 0
        if below:
            half = e.temp(f"sub i32 {half}, {below}")
        self._need(f"icmp ult i32 {half}, {((1 << 32) - below - _FAR) - (1 << 32)}")

    # -- how far it may go ------------------------------------------------------------------------------------

    def _room(self, group: Group) -> str:
        """Bytes between where the first iteration's accesses begin (moving up: end) and the next page that is not allowed."""
        e = self.e
        back = group.step.low < 0
        edge = e.temp(f"add i64 {e.sum_of(group.terms)}, {group.high - 1 if back else group.low}")
        distance = e.temp(f"sub i64 {edge}, {_FAR}") if back else edge
        self._need(f"icmp ult i64 {distance}, {(1 << SIZE_BITS) - _FAR}")
        flags = e.attributes_at(e.temp(f"lshr i64 {edge}, {PAGE_BITS}"), "i64", 1 - _PAGES if back else 0)
        mask = group.wanted * 0x0101_0101_0101_0101
        bad = e.temp(f"xor i64 {e.temp(f'and i64 {flags}, {mask}')}, {mask}")
        first = e.intrinsic("ctlz.i64" if back else "cttz.i64", I64, [(I64, bad), (I1, "false")])
        good = e.temp(f"shl i64 {e.temp(f'lshr i64 {first}, 3')}, {PAGE_BITS}")
        used = e.temp(f"and i64 {edge}, {PAGE_MASK}")
        if back:
            used = e.temp(f"xor i64 {used}, {PAGE_MASK}")
        room = e.temp(f"sub i64 {good}, {e.temp(f'add i64 {used}, {group.high - group.low}')}")
        self._need(f"icmp sge i64 {room}, 0")
        return room

    def _steps(self, step: Step, room: str) -> str:
        """Iterations that `room` bytes are enough for; empty if the accesses do not move."""
        e = self.e
        if step.register is not None:
            stride = e.held_integer(step.register)
            if step.half:
                stride = e.temp(f"sext i32 {e.temp(f'trunc i64 {stride} to i32')} to i64")
            stride = e.temp(f"mul i64 {stride}, {step.factor}")
            self._need(f"icmp ult i64 {e.temp(f'sub i64 {stride}, 1')}, {_NEAR}")
            # Both are small, and the narrow division is quicker.
            halves = [e.temp(f"trunc i64 {value} to i32") for value in (room, stride)]
            times = e.temp(f"zext i32 {e.temp(f'udiv i32 {halves[0]}, {halves[1]}')} to i64")
        elif step.low or step.high:
            times = e.temp(f"udiv i64 {room}, {max(-step.low, step.high)}")
        else:
            return ""
        return e.temp(f"add i64 {times}, 1")
