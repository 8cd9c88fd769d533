"""`Process` and `run`: guest programs from Python, in the manner of `subprocess`.

A guest process shares much with the host process it runs in: file descriptors, signals, the working directory, children.
So each runs in a host process of its own (this module starts ``python -m polyvm.api.child``), which *is* the guest as far
as the host is concerned: its pid, its signals, its exit status. Memory and registers are reached through
`polyvm.api.control`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from polyvm.api.control import EXHAUSTED, FAILED, ROOM, Channel, Gone, memory_file, unpack_error
from polyvm.errors import EngineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

StrPath = str | os.PathLike[str]
File = int | IO[bytes] | IO[str] | None

_CHUNK = ROOM - 4096
EXIT_BUDGET = 124


class Completed(subprocess.CompletedProcess[bytes]):
    """What a program that has ended leaves behind: `args`, `returncode`, `stdout`, `stderr` as of `subprocess`, and

    `instructions`  guest instructions executed, by all of its threads
    `seconds`       wall time that they took
    `exhausted`     True if `max_instructions` ended it
    """

    def __init__(
        self, args: list[str], returncode: int, stdout: bytes | None, stderr: bytes | None,
        instructions: int, seconds: float, exhausted: bool,
    ) -> None:  # fmt: skip
        super().__init__(args, returncode, stdout, stderr)
        self.instructions = instructions
        self.seconds = seconds
        self.exhausted = exhausted

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, instructions={self.instructions}, seconds={self.seconds:.3f})"


class Process(subprocess.Popen[bytes]):
    """A running guest program. All that `subprocess.Popen` has for bytes works: pipes, `wait`, `poll`, `communicate`,
    `terminate`, `send_signal`, `returncode` (negative for a signal), the context manager.

    `argv`              the program and its arguments; the program is a path, PATH is not searched
    `stdin`, `stdout`, `stderr`   as of `subprocess`: None (shared with this process), PIPE, DEVNULL, a file
    `env`               the guest's environment; None for this process's
    `cwd`               its working directory
    `sysroot`           where its absolute paths are looked for first, as ``-L`` of the command line
    `max_instructions`  ends it with status 124 and `exhausted` set
    `sandbox`           a directory: no file outside of it, no network, no other process unless `allow_…`
    `limit_memory`      bytes, `limit_cpu` seconds
    `jit`               as ``--jit`` of the command line
    `stopped`           begin stopped, before the first instruction, to look around or to set things up

    Raises FileNotFoundError, PermissionError or an ElfError where the program cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[StrPath],
        *,
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        env: Mapping[str, str] | None = None,
        cwd: StrPath | None = None,
        sysroot: StrPath | None = None,
        max_instructions: int | None = None,
        sandbox: StrPath | None = None,
        allow_network: bool = False,
        allow_process: bool = False,
        limit_memory: int | None = None,
        limit_cpu: float | None = None,
        jit: str | None = None,
        stopped: bool = False,
    ) -> None:
        words = [os.fspath(word) for word in argv]
        if not words:
            raise UsageError("a process needs a program: argv is empty")
        request = {
            "program": words[0],
            "argv": words,
            "env": dict(os.environ if env is None else env),
            "sysroot": None if sysroot is None else os.fspath(sysroot),
            "max_instructions": max_instructions,
            "sandbox": None if sandbox is None else os.fspath(sandbox),
            "allow_network": allow_network,
            "allow_process": allow_process,
            "limit_memory": limit_memory,
            "limit_cpu": limit_cpu,
            "jit": jit,
            "stopped": stopped,
        }
        self._stopped = stopped
        descriptor = memory_file()
        try:
            self._channel = Channel(descriptor, create=True)
            self._channel.payload = json.dumps(request).encode()
            super().__init__(
                [sys.executable, "-P", "-c", _CHILD, _source_root(), str(descriptor)],
                stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, pass_fds=(descriptor,),
            )  # fmt: skip
        finally:
            os.close(descriptor)
        self.args = words
        try:
            self._channel.await_answer(self._alive)
        except Gone:
            raise EngineError(f"the host process for {words[0]} ended with status {self.returncode}") from None
        except BaseException:
            self._abandon()
            raise
        if self._channel.state == FAILED:
            error = unpack_error(self._channel.payload)
            self._abandon()
            raise error

    def _abandon(self) -> None:
        self.kill()
        self.wait()
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()

    def _alive(self) -> bool:
        return self.poll() is None

    # -- counts -----------------------------------------------------------------------------------------------

    @property
    def instructions(self) -> int:
        """Guest instructions executed; known once the process has ended or is stopped."""
        if self._stopped and self._alive():
            return int(self._channel.call(self._alive, "instructions"))
        return self._channel.counts[0]

    @property
    def seconds(self) -> float:
        """Wall time that the guest took; known once the process has ended."""
        return self._channel.counts[1]

    @property
    def exhausted(self) -> bool:
        """Was it ended by `max_instructions`?"""
        return self._channel.state == EXHAUSTED

    # -- looking into a stopped process -----------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Is it stopped by `stop`?"""
        return self._stopped and self._alive()

    def stop(self) -> None:
        """Stop all of its threads before their next instruction; returns when they are. One that waits in a system
        call goes on waiting there and stops when that is over."""
        self._ask("stop")
        self._stopped = True

    def resume(self) -> None:
        """Let it go on."""
        self._ask("resume")
        self._stopped = False

    @contextmanager
    def paused(self) -> Generator[None, None, None]:
        """Stopped for the time of a ``with`` block."""
        was = self._stopped
        if not was:
            self.stop()
        try:
            yield
        finally:
            if not was and self._alive():
                self.resume()

    def threads(self) -> list[int]:
        """The ids of its threads, the first one first."""
        found: list[int] = json.loads(self._ask("threads"))
        return found

    def registers(self, thread: int | None = None) -> dict[str, int]:
        """All registers of a thread (default: the first) by name, as of `Cpu.regs`."""
        self._need_stopped()
        found: dict[str, int] = json.loads(self._ask("registers", thread=thread or 0))
        return found

    def set_register(self, name: str, value: int, thread: int | None = None) -> None:
        """Write one register."""
        self._need_stopped()
        self._ask("set_register", name=name, value=value, thread=thread or 0)

    def read_memory(self, address: int, size: int) -> bytes:
        """`size` bytes of its memory; raises MemoryFault where nothing is mapped."""
        self._need_stopped()
        parts: list[bytes] = []
        while size > 0:
            part = self._ask("read", address=address, size=min(size, _CHUNK))
            parts.append(part)
            address += len(part)
            size -= len(part)
        return b"".join(parts)

    def write_memory(self, address: int, data: bytes) -> None:
        """Write into its memory as a debugger does: code and read-only pages too."""
        self._need_stopped()
        for at in range(0, len(data), _CHUNK):
            self._ask("write", address=address + at, data=data[at : at + _CHUNK])

    def _need_stopped(self) -> None:
        if not self._stopped:
            raise UsageError("memory and registers can be looked at while the process is stopped: call stop() first")

    def _ask(self, op: str, *, data: bytes = b"", **arguments: int | str) -> bytes:
        try:
            return self._channel.call(self._alive, op, data=data, **arguments)
        except Gone:
            raise UsageError(f"the process has ended with status {self.returncode}") from None


# The child finds the same polyvm as this process, wherever it was imported from.
_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from polyvm.api.child import main; main(int(sys.argv[2]))"


def _source_root() -> str:
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(
    argv: Sequence[StrPath],
    *,
    input: bytes | str | None = None,  # noqa: A002  (the name that subprocess.run has)
    capture_output: bool = False,
    stdin: File = None,
    stdout: File = None,
    stderr: File = None,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> Completed:
    """Run a guest program to its end. All of `Process`'s options are allowed.

    `input`           bytes or text for its standard input
    `capture_output`  collect standard output and error, as bytes
    `timeout`         seconds, after which it is killed and subprocess.TimeoutExpired raised
    `check`           raise subprocess.CalledProcessError unless it ends with status 0

    >>> import polyvm
    >>> done = polyvm.run([polyvm.demo_program()], capture_output=True)
    >>> done.returncode, done.instructions > 1000
    (0, True)
    """
    if input is not None:
        if stdin is not None:
            raise UsageError("input and stdin cannot both be given")
        stdin = subprocess.PIPE
    if capture_output:
        if stdout is not None or stderr is not None:
            raise UsageError("capture_output cannot go with stdout or stderr")
        stdout = stderr = subprocess.PIPE
    data = input.encode() if isinstance(input, str) else input
    with Process(argv, stdin=stdin, stdout=stdout, stderr=stderr, **options) as process:
        try:
            output, errors = process.communicate(data, timeout)
        except BaseException:
            process.kill()
            raise
        words = [os.fspath(word) for word in argv]
        done = Completed(
            words, process.wait(), output, errors, process.instructions, process.seconds, process.exhausted
        )
    if check:
        done.check_returncode()
    return done
