"""What was hot and is not compiled yet when a guest ends is compiled then, for the next run, by a process that nobody waits for.

It is a fork of the guest's, in which nothing of the guest executes any more: it keeps the decoded blocks with their counts, gives
the guest's data back, closes all descriptors and lets everybody else go first. There is one at a time for each cache, for
``$POLYVM_LINGER`` seconds at most.
"""

from __future__ import annotations

import math
import os
import signal
from time import monotonic
from typing import TYPE_CHECKING

from polyvm.codegen import cache
from polyvm.engine.spawn import stand_back
from polyvm.mem.attributes import EXEC
from polyvm.mem.host import DONT_NEED, host_advise

if TYPE_CHECKING:
    from typing import NoReturn

    from polyvm.engine.core import Core
    from polyvm.engine.jit import Jit

NAME = "linger"  # of the lock in the cache
_SECONDS, _MOST = 30.0, 3600.0
_SHARE = 100  # it is worth it if one in so many instructions was interpreted …
_HEAT = 200_000  # … and a block if it executed one in so many
_OTHERS = 19  # nice
_MARGIN = 60  # seconds that the last region may take


def allowed() -> float:
    """Seconds that it may take: ``$POLYVM_LINGER``, or 30."""
    try:
        found = float(os.environ.get("POLYVM_LINGER", _SECONDS))
    except ValueError:
        return _SECONDS
    return min(found, _MOST) if found > 0 else 0.0


def begin(jit: Jit, core: Core) -> bool:
    """Start such a process, if there is something to do for one; True if it was started. Then the compiler's belongs to it."""
    seconds = allowed()
    if not seconds or not _is_worth_it(jit, core):
        return False
    lock = cache.making(NAME, wait=False)
    with jit.lock, core.arena.lock:
        lock.__enter__()
        if lock.busy:
            lock.__exit__()
            return False
        try:
            pid = os.fork()
        except OSError:
            lock.__exit__()
            return False
    if pid == 0:
        _linger(jit, core, lock, seconds)
    lock.leave()
    return True


def _is_worth_it(jit: Jit, core: Core) -> bool:
    if not jit.may_be_stored(core) or not jit.is_late(core):
        return False
    core.hot(1 << 62, 0)  # counts what was interpreted
    return core.get_field("interpreted") * _SHARE > core.get_field("executed") or jit.has_requests


def _linger(jit: Jit, core: Core, lock: cache.making, seconds: float) -> NoReturn:
    try:
        end = monotonic() + seconds
        _stand_back(jit, core, lock)
        # Whatever it waits for, a lock of a thread that it does not have even: it ends.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(seconds) + _MARGIN)
        jit.compile_all(core, hot(core), end)
        jit.close()
        lock.__exit__()
    finally:
        os._exit(0)


def _stand_back(jit: Jit, core: Core, lock: cache.making) -> None:
    kept = sorted({*jit.descriptors, lock.descriptor, -1})
    for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, high)
    stand_back(_OTHERS)
    for pid in (0, *jit.compilers):
        try:
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        except OSError:
            pass  # it is nice at least
    if os.path.isabs(cache.directory()):
        os.chdir("/")
    for mapping in core.arena.regions():
        if not mapping.prot & EXEC and not mapping.shared:
            host_advise(core.arena.base + mapping.start, mapping.end - mapping.start, DONT_NEED)


def hot(core: Core) -> list[tuple[int, int]]:
    """Blocks that executed much since they were decoded: how many instructions, and address, the hottest first."""
    least = max(core.get_field("executed") // _HEAT, 1)
    return sorted(((count * n, pc) for pc, n, count in core.blocks() if count * n >= least), reverse=True)
