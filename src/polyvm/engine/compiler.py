"""The guest's side of the compiler's process."""

from __future__ import annotations

import marshal
import os
import signal
from time import perf_counter
from typing import TYPE_CHECKING

from polyvm.errors import EngineError

if TYPE_CHECKING:
    import socket

    from polyvm.engine.region import RegionSpec
    from polyvm.engine.worker import Answer

_HIGH = 900  # descriptors from here on are polyvm's own
_STARTS = 3  # a process that keeps dying is not started again
_PATIENCE = 30.0  # seconds that a region may take; its process is killed then


class Compiler:
    """A process that compiles regions, started at the first request."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._socket: socket.socket | None = None
        self._pid = 0
        self._starts = 0
        self._number = 0
        self._buffer = b""
        self._sent: dict[int, float] = {}
        self._answered = 0.0  # when the last answer came
        self.lost = False

    @property
    def descriptors(self) -> list[int]:
        """Those that the connection uses."""
        return [] if self._socket is None else [self._socket.fileno()]

    @property
    def processes(self) -> list[int]:
        """The process, if it runs."""
        return [] if self._socket is None else [self._pid]

    def abandon(self) -> None:
        """Forget the process, which is another's."""
        if self._socket is not None:
            self._socket.close()
        self._reset()

    def close(self) -> None:
        """End the process: it ends when the connection does."""
        self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._buffer = b""
            self._sent.clear()
        self.lost = True

    def _start(self) -> bool:
        import fcntl
        import socket

        from polyvm.engine.spawn import start_python

        if self._starts >= _STARTS:
            return False
        self._starts += 1
        try:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                self._pid = start_python("from polyvm.engine.worker import main; main()", theirs.fileno())
                self._socket = socket.socket(fileno=fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, _HIGH))
                self._socket.setblocking(False)
        except (OSError, EngineError):
            return False
        self.lost = False
        return True

    def send(self, spec: RegionSpec) -> int | None:
        """Ask for a region; the request's number, or None if there is no process to ask."""
        from polyvm.engine.worker import frame

        if self._socket is None and not self._start():
            return None
        self._number += 1
        data = frame(self._number, spec.pack())
        assert self._socket is not None
        try:
            self._socket.setblocking(True)
            self._socket.sendall(data)
            self._socket.setblocking(False)
        except OSError:
            self._drop()
            return None
        self._sent[self._number] = perf_counter()
        return self._number

    def receive(self, timeout: float) -> list[tuple[int, Answer | str, float]]:
        """Answers that are there, or come within `timeout` seconds: number, what `compile_region` returns or a reason, seconds
        that it took."""
        found: list[tuple[int, Answer | str, float]] = []
        if self._socket is None:
            return found
        import select

        try:
            if timeout and not select.select([self._socket], [], [], timeout)[0]:
                self._watch()
                return found
            while True:
                got = self._socket.recv(1 << 20)
                if not got:
                    self._drop()
                    return found
                self._buffer += got
        except BlockingIOError:
            pass
        except (OSError, ValueError):
            self._drop()
            return found
        while len(self._buffer) >= 8:
            size = int.from_bytes(self._buffer[:8], "little")
            if len(self._buffer) < 8 + size:
                break
            number, answer = marshal.loads(self._buffer[8 : 8 + size])
            self._buffer = self._buffer[8 + size :]
            self._answered = perf_counter()
            self._starts = 1  # it works: those before it count no more
            found.append((number, answer, self._answered - self._sent.pop(number, self._answered)))
        self._watch()
        return found

    def _watch(self) -> None:
        """Kill the process if it has been at one region, the oldest that was asked for, for too long."""
        if not self._sent or perf_counter() - max(self._answered, next(iter(self._sent.values()))) < _PATIENCE:
            return
        os.kill(self._pid, signal.SIGKILL)
        self._drop()
