"""Running a program in a child process, with what it executes noted in a file."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.api.launch import Launch


def observe(launch: Launch, failed: Callable[[BaseException], int]) -> int:
    """Run `launch`, which names the profile, in a child; its exit status, or minus the number of the signal that ended it.
    `failed` says why there was nothing to run and gives the child's status for that."""
    from polyvm.api.launch import end, execute, prepare

    return in_child(lambda: end(execute(prepare(launch)).status), failed)


def in_child(work: Callable[[], int], failed: Callable[[BaseException], int]) -> int:
    """Do `work` in a child process, which is the guest's then; the same status."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(work, failed)
    # Ctrl-C is for the guest; what it has done until then is of use.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        signal.signal(signal.SIGINT, before)


def _child(work: Callable[[], int], failed: Callable[[BaseException], int]) -> NoReturn:
    status = 125
    try:
        status = work()
    except BaseException as error:  # nothing of the parent's may run here
        status = failed(error)
    finally:
        os._exit(status & 0xFF)
