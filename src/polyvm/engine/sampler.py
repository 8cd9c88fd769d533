"""A run that is sampled: the JIT as it is, and every few slices of a core's budget a note of where the guest is.

A sample stands for the instructions that the core has executed since the one before, and for the processor time that its thread
has used; both go to the place where the guest looked at its budget.
"""

from __future__ import annotations

from time import thread_time
from typing import TYPE_CHECKING

from polyvm.engine import profile
from polyvm.engine.core import FIRST_TICK
from polyvm.engine.jit import Jit
from polyvm.engine.profile import CodeMap, Image, Range, Sample
from polyvm.engine.recorder import Sink, maps_of

if TYPE_CHECKING:
    from polyvm.engine.core import Core, JitSource
    from polyvm.engine.region import Compiled

_EVERY = 8  # slices
_OFTEN = 256  # samples until it is looked again what is mapped


class _Last:
    """When a core was seen last: its instructions and its thread's time; slices that the JIT has to wait still."""

    __slots__ = ("executed", "left", "seconds")

    def __init__(self, executed: int) -> None:
        self.executed = executed
        self.seconds = thread_time()
        self.left = FIRST_TICK


class Sampler(Jit):
    """The JIT of a sampled run."""

    def __init__(self, isa_name: str, source: JitSource, identity: str, restore: int, sink: Sink) -> None:
        super().__init__(isa_name, source, identity, restore)
        self._source = source
        self._sink = sink
        self._last: dict[Core, _Last] = {}
        self._found: dict[tuple[int, int, int], tuple[int, float]] = {}
        self._named: dict[tuple[int, int], Compiled] = {}
        self._maps: dict[CodeMap, None] = {}
        self._since_maps = 0

    def attach(self, core: Core) -> None:
        """Let `core` use the translations and take samples."""
        super().attach(core)
        self._last.setdefault(core, _Last(core.get_field("executed")))

    def detach(self, core: Core) -> None:
        """`core` ends."""
        with self.lock:
            self._note(core)
            self._last.pop(core, None)

    def tick(self, core: Core) -> None:
        """Note where `core` is; the JIT's own look comes when it is due."""
        with self.lock:
            self.counters.ticks += 1
            self._note(core)
        last = self._last[core]
        last.left -= _EVERY
        if last.left <= 0 or self.forced:
            super().tick(core)
            last.left = core.get_field("tick_left")
        core.set_field("tick_left", min(last.left, _EVERY))

    def reset(self) -> None:
        """Another program image."""
        self._write()
        super().reset()

    def finish(self) -> None:
        """Write what there is."""
        self._write()

    def after_fork(self) -> None:
        """In the child: what was noted before is the parent's."""
        super().after_fork()
        self._forget()
        self._last = {core: _Last(core.get_field("executed")) for core in self._last}

    def close(self) -> None:
        """The process ends."""
        self._write()
        super().close()

    @property
    def descriptors(self) -> list[int]:
        """The compiler's, and the file's."""
        return [*super().descriptors, self._sink.fd]

    def _note(self, core: Core) -> None:
        last = self._last.get(core)
        if last is None or not core.address:
            return
        executed, seconds = core.get_field("executed"), thread_time()
        instructions, last.executed = executed - last.executed, executed
        took, last.seconds = seconds - last.seconds, seconds
        if instructions <= 0:
            return
        pc, region = core.pc, self.at(core)
        head, level = 0, 0
        if region is not None:
            head, level = region.compiled.entries[0], region.level
            self._named[head, level] = region.compiled
            if pc not in region.compiled.inside:
                pc = core.get_field("ticked_in")
        old = self._found.get((pc, head, level), (0, 0.0))
        self._found[pc, head, level] = (old[0] + instructions, old[1] + took)
        self._since_maps -= 1
        if self._since_maps < 0:
            self._since_maps = _OFTEN
            self._maps.update(dict.fromkeys(maps_of(core.arena)))

    def _forget(self) -> None:
        self._found, self._named, self._maps, self._since_maps = {}, {}, {}, 0

    def _write(self) -> None:
        with self.lock:
            for core in self._last:
                self._note(core)
            if self._found:
                image = Image(self.isa_name, self._source.program, self._sink.roots)
                for core in list(self._last)[:1]:
                    self._maps.update(dict.fromkeys(maps_of(core.arena)))
                image.maps = list(self._maps)
                image.samples = [Sample(*key, count, round(took, 6)) for key, (count, took) in self._found.items()]
                for (head, level), region in self._named.items():
                    low = min(address for address, _ in region.parts)
                    high = max(address + len(code) for address, code in region.parts)
                    image.ranges.append(Range(head, level, low, high, region.instructions))
                profile.append(self._sink.fd, image)
            self._forget()


__all__ = ["Sampler"]
