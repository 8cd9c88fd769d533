"""Starting a guest program in this host process: what the command line and the child of `Process` share.

On the way of `polyvm run`, so light: it imports what it needs when it needs it.
"""

from __future__ import annotations

import gc
import os
from time import perf_counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from polyvm.engine.statistics import Statistics
    from polyvm.linux import Process

EXIT_BUDGET = 124  # as timeout(1) ends with when it had to end the program


class Launch:
    """What to run and how. Attributes are those of `polyvm.Process`; `env` is complete, `argv[0]` may differ from `program`."""

    __slots__ = (
        "allow_network", "allow_process", "argv", "env", "jit", "limit_cpu", "limit_memory", "max_instructions", "program",
        "sandbox", "strace", "sysroot",
    )  # fmt: skip

    def __init__(self, program: str, argv: list[str], env: dict[str, str]) -> None:
        self.program = program
        self.argv = argv
        self.env = env
        self.sysroot: str | None = None
        self.strace = False
        self.max_instructions: int | None = None
        self.sandbox: str | None = None
        self.allow_network = False
        self.allow_process = False
        self.limit_memory: int | None = None
        self.limit_cpu: float | None = None
        self.jit: str | None = None

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Launch:
        """From the request of a `polyvm.Process`; what it does not name keeps its default."""
        launch = cls(record["program"], record["argv"], record["env"])
        for name in cls.__slots__:
            if name in record:
                setattr(launch, name, record[name])
        return launch


class Summary:
    """How a run ended: `status` is the exit status, or minus the number of the signal that killed the guest."""

    __slots__ = ("_process", "exhausted", "seconds", "status", "threads")

    def __init__(self, process: Process, status: int, seconds: float) -> None:
        self._process = process
        self.exhausted = process.exhausted
        self.status = EXIT_BUDGET if self.exhausted else status
        self.seconds = seconds
        self.threads = process.thread_count

    @property
    def statistics(self) -> Statistics:
        """Counters of all threads; counted when they are asked for."""
        return self._process.statistics()


def prepare(launch: Launch) -> Process:
    """Load the program; raises OSError or ElfError."""
    # What is made until the program runs stays: looking for garbage in it takes longer than reading the program.
    gc.disable()
    try:
        return _prepare(launch)
    finally:
        gc.freeze()
        gc.enable()


def _prepare(launch: Launch) -> Process:
    from polyvm.linux import Process

    policy = None
    if launch.sandbox is not None or launch.limit_memory is not None or launch.limit_cpu is not None:
        from polyvm.linux.policy import Policy

        policy = Policy(
            root=launch.sandbox,
            network=launch.sandbox is None or launch.allow_network,
            processes=launch.sandbox is None or launch.allow_process,
            memory=launch.limit_memory,
            cpu=launch.limit_cpu,
        )
    return Process(
        launch.program, launch.argv, launch.env, sysroot=launch.sysroot, policy=policy, strace=launch.strace,
        max_instructions=launch.max_instructions, jit=launch.jit,
    )  # fmt: skip


def execute(process: Process) -> Summary:
    """Run a loaded program to its end."""
    began = perf_counter()
    status = process.run()
    seconds = perf_counter() - began
    process.jit.close()
    return Summary(process, status, seconds)


def end(status: int) -> int:
    """End this process as the guest ended: by the same signal, or return its exit status.

    A core dump would be polyvm's, not the guest's, so none is made.
    """
    if status >= 0:
        return status
    import resource
    import signal

    number = -status
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
    except (OSError, ValueError):
        pass  # a signal that this host does not have
    return 128 + number
