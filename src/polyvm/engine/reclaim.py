"""Memory of compiled code, which is given back all at once when it is used up.

A region can be in use wherever a core is in native code, and decoded blocks and the translation table point to it. So first all
cores of the process have to come out: those that run are asked to at the end of a slice, and none goes in any more
(`Core.run`). Then everything compiled is forgotten, and each core drops its decoded blocks before it goes in again. What is
still hot comes back from the disk.
"""

from __future__ import annotations

import _thread
from time import perf_counter, sleep
from weakref import WeakSet

from polyvm.codegen.space import code_space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.engine.core import Core
    from polyvm.engine.jit import Jit

_PATIENCE = 1.0  # seconds until cores have to be out
_INTERVAL = 1.0  # seconds between two times …
_RESPITE = 30.0  # … and so many more if they did not come out


class _Process:
    """All that share the memory."""

    def __init__(self) -> None:
        self.jits: WeakSet[Jit] = WeakSet()
        self.gate = _thread.allocate_lock()  # held while no core may go in
        self.last = 0.0


_process = _Process()


def join(jit: Jit, core: Core) -> None:
    """`core` may run what `jit` compiles."""
    with _process.gate:
        _process.jits.add(jit)
        if core not in jit.cores:
            jit.cores.append(core)


def wait() -> None:
    """Until cores may go in."""
    with _process.gate:
        pass


def after_fork(jit: Jit) -> None:
    """In the child, which has one thread, in Python."""
    _process.gate = _thread.allocate_lock()
    for core in jit.cores:
        core.inside = False


def give_back(jit: Jit, *, now: bool = False) -> None:
    """Give all memory of compiled code back, if there is little left and nothing is in the way; to be called with the lock of
    `jit`. `now`: even if that was done a moment ago."""
    space = code_space()
    if not space.crowded or not (now or perf_counter() - _process.last >= _INTERVAL) or not _process.gate.acquire(blocking=False):
        return
    taken: list[Jit] = []
    try:
        others = [other for other in _process.jits if other is not jit]
        for other in others:
            if not other.lock.acquire(blocking=False):
                return
            taken.append(other)
        jits = [jit, *others]
        if any(one.is_tallied for one in jits):
            return
        if not _all_out([core for one in jits for core in one.cores]):
            _process.last = perf_counter() + _RESPITE
            return
        for one in jits:
            one.forget()
        space.clear()
        _process.last = perf_counter()
    finally:
        for other in taken:
            other.lock.release()
        _process.gate.release()


def _all_out(cores: list[Core]) -> bool:
    """Have all cores leave native code, and wait at the gate and drop what they decoded before they enter it again."""
    for core in cores:
        core.held_up = True
    deadline = perf_counter() + _PATIENCE
    while running := [core for core in cores if core.inside]:
        if perf_counter() > deadline:
            return False
        for core in running:
            core.set_field("tick_left", 1)
        sleep(0.0005)
    return True
