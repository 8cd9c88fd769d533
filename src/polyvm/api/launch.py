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

    from polyvm.engine import JitSource
    from polyvm.engine.statistics import Statistics
    from polyvm.linux import Process

EXIT_BUDGET = 124  # as timeout(1) ends with when it had to end the program


class Launch:
    """What to run and how. Attributes are those of `polyvm.Process`; `env` is complete, `argv[0]` may differ from `program`."""

    __slots__ = (
        "allow_network", "allow_process", "argv", "env", "jit", "limit_cpu", "limit_memory", "max_instructions", "profile",
        "program", "sampled", "sandbox", "strace", "sysroot",
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
        self.profile: str | None = None  # a file that what is executed goes to: counted, or only sampled
        self.sampled = False

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
    jit = _observed(launch) if launch.profile is not None else launch.jit
    process = Process(
        launch.program, launch.argv, launch.env, sysroot=launch.sysroot, policy=policy, strace=launch.strace,
        max_instructions=launch.max_instructions, jit=jit,
    )  # fmt: skip
    if os.environ.get("POLYVM_PERF"):
        from polyvm.debug.guest import GuestNames

        names = GuestNames(roots(launch))
        process.jit.names = lambda pc: names.label(process.arena.find(pc), pc)
    return process


def roots(launch: Launch) -> list[str]:
    """Directories below which the guest's paths are looked for."""
    return [os.path.abspath(root) for root in (launch.sandbox, launch.sysroot) if root is not None]


def _observed(launch: Launch) -> JitSource:
    """A JIT that appends what is executed to the file `launch.profile`."""
    import fcntl
    from functools import partial

    from polyvm.engine import JitSource
    from polyvm.engine.recorder import Recorder, Sink

    assert launch.profile is not None
    fd = os.open(launch.profile, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 900)
    os.close(fd)
    sink = Sink(high, roots(launch))
    if not launch.sampled:
        source = JitSource()
        source.maker = partial(Recorder, sink=sink)
        return source
    from polyvm.engine.sampler import Sampler

    source = JitSource.parse(launch.jit if launch.jit is not None else os.environ.get("POLYVM_JIT", "auto"))
    source.maker = partial(Sampler, sink=sink)
    return source


def execute(process: Process) -> Summary:
    """Run a loaded program to its end."""
    import gc

    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # what runs makes many objects that stay, and next to no cycles
    began = perf_counter()
    status = process.run()
    seconds = perf_counter() - began
    process.linger()
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
