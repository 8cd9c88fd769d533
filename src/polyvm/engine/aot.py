"""Compiling ahead of time: planned regions, in several processes at once, into the cache on disk."""

from __future__ import annotations

import select
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from polyvm.codegen import cache
from polyvm.engine.compiler import Compiler
from polyvm.engine.region import FULL, QUICK, Compiled
from polyvm.engine.store import list_name, region_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.engine.plan import Planned
    from polyvm.engine.region import RegionSpec
    from polyvm.engine.worker import Answer


class Outcome(NamedTuple):
    """What was done: regions of both kinds that are new, those that were there before, those that cannot be compiled, those
    that there was no time for; `seconds` of all processes together."""

    quick: int = 0
    full: int = 0
    there: int = 0
    failed: int = 0
    left: int = 0
    instructions: int = 0
    seconds: float = 0.0

    def plus(self, other: Outcome) -> Outcome:
        """Both together."""
        return Outcome(
            self.quick + other.quick, self.full + other.full, self.there + other.there, self.failed + other.failed,
            self.left + other.left, self.instructions + other.instructions, self.seconds + other.seconds,
        )  # fmt: skip


class Builder:
    """Compiles for one JIT mode and puts what it gets where runs look for it."""

    def __init__(self, identity: str, mode: str, jobs: int) -> None:
        self._identity = identity
        self._mode = mode
        self._compilers = [Compiler() for _ in range(max(1, jobs))]
        self._asked: dict[tuple[int, int], Planned] = {}
        self._idle = list(range(len(self._compilers)))
        self._outcome = Outcome()

    def build(self, planned: list[Planned], step: Callable[[int], None], until: float | None = None) -> Outcome:
        """Compile all, in order, and tell `step` how many instructions are done; past the time `until` (of perf_counter) what has
        not begun is left."""
        self._outcome = Outcome()
        waiting = list(reversed(planned))
        try:
            while waiting or self._asked:
                while waiting and self._idle:
                    if until is not None and perf_counter() >= until:
                        self._count(left=len(waiting))
                        waiting.clear()
                        break
                    self._ask(waiting.pop(), step)
                if self._asked:
                    self._collect(step)
        finally:
            for compiler in self._compilers:
                compiler.close()
        for page, code in {page for item in planned for page in item.pages.items()}:
            self._tidy(page, code, [item for item in planned if item.pages.get(page) == code])
        cache.trim(cache.budget())
        return self._outcome

    def _ask(self, item: Planned, step: Callable[[int], None]) -> None:
        if _is_there(region_name(self._identity, self._mode, item.spec), item.spec):
            self._list(item)
            self._count(there=1)
            step(item.spec.instructions)
            return
        which = self._idle.pop()
        number = self._compilers[which].send(item.spec)
        if number is None:
            self._count(failed=1)
            step(item.spec.instructions)
            if any(compiler.descriptors for compiler in self._compilers):
                return  # this one is given up, others work
            self._idle.append(which)
            return
        self._asked[which, number] = item

    def _collect(self, step: Callable[[int], None]) -> None:
        places = {fd: i for i, compiler in enumerate(self._compilers) for fd in compiler.descriptors}
        if places:
            select.select(list(places), [], [], 10.0)
        for which in places.values():
            for number, answer, seconds in self._compilers[which].receive(0.0):
                item = self._asked.pop((which, number))
                self._idle.append(which)
                if not isinstance(answer, str):
                    self._store(item, answer)
                    full = item.spec.level == FULL
                    self._count(quick=not full, full=full, instructions=item.spec.instructions, seconds=seconds)
                else:
                    self._count(failed=1, seconds=seconds)
                step(item.spec.instructions)
        for which, compiler in enumerate(self._compilers):
            if not compiler.descriptors:
                for key in [key for key in self._asked if key[0] == which]:  # its process died of it
                    self._count(failed=1)
                    step(self._asked.pop(key).spec.instructions)
                    self._idle.append(which)

    def _count(self, **more: float) -> None:
        old = self._outcome._asdict()
        self._outcome = self._outcome._replace(**{name: old[name] + value for name, value in more.items()})

    def _store(self, item: Planned, answer: Answer) -> None:
        spec = item.spec
        inside = [block.pc for block in spec.blocks]
        compiled = Compiled(spec.entries, inside, spec.level, spec.instructions, spec.parts(), *answer, [])
        if cache.store(region_name(self._identity, self._mode, spec), compiled.pack()):
            self._list(item)

    def _list(self, item: Planned) -> None:
        name = region_name(self._identity, self._mode, item.spec)
        for page, code in item.pages.items():
            cache.append(list_name(self._identity, self._mode, item.spec.coverage, item.spec.guarded, page, code), name)

    def _tidy(self, page: int, code: bytes, planned: list[Planned]) -> None:
        """Take regions from a page's list that the new ones stand for, so that no run loads both."""
        name = list_name(self._identity, self._mode, 0, True, page, code)
        own = {region_name(self._identity, self._mode, item.spec) for item in planned}
        entries = {
            level: {pc for item in planned if item.spec.level == level for pc in item.spec.entries} for level in (QUICK, FULL)
        }
        kept: list[str] = []
        old = cache.lines(name)
        for entry in old:
            data = None if entry in own else cache.load(entry)
            compiled = Compiled.unpack(data) if data else None
            if entry in own or (compiled is not None and not entries[compiled.level].issuperset(compiled.entries)):
                kept.append(entry)
        if kept != old:
            cache.rewrite(name, kept)


def _is_there(name: str, spec: RegionSpec) -> bool:
    """True if the same region was compiled before."""
    data = cache.load(name)
    old = Compiled.unpack(data) if data else None
    if old is None:
        return False
    inside = [block.pc for block in spec.blocks]
    return (old.entries, old.inside, old.level, old.parts) == (spec.entries, inside, spec.level, spec.parts())
