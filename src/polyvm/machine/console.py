"""A machine's console as a program sees it: what the guest printed, and what is typed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from polyvm.errors import ConsoleTimeout

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

_KEPT = 4 << 20  # bytes of output that nobody has taken


class Console:
    """Output is collected from the start; `expect` takes it piece by piece. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._output = bytearray()
        self._taken = 0  # how much of _output `expect` went past
        self._changed = threading.Condition()
        self._ended = False
        self._listeners: list[Callable[[bytes], object]] = []
        self._feed: Callable[[bytes], int] | None = None
        self._pending = bytearray()
        self._typing = threading.Lock()

    # -- the device's side

    def attach(self, feed: Callable[[bytes], int]) -> None:
        """`feed` is what takes typed bytes: the device of the machine that runs now."""
        self._feed = feed
        self.pump()

    def put(self, data: bytes) -> None:
        """The guest printed `data`."""
        with self._changed:
            self._output += data
            if len(self._output) > _KEPT:
                excess = len(self._output) - _KEPT // 2
                del self._output[:excess]
                self._taken = max(0, self._taken - excess)
            self._changed.notify_all()
        for listener in self._listeners:
            listener(data)

    def pump(self) -> None:
        """Give the device what was typed and did not fit yet."""
        with self._typing:
            if self._pending and self._feed is not None:
                del self._pending[: self._feed(bytes(self._pending))]

    def end(self) -> None:
        """There will be no more output."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    # -- the user's side

    def listen(self, listener: Callable[[bytes], object]) -> None:
        """Have `listener` called with all that is printed from now on, on the thread that prints it."""
        self._listeners.append(listener)

    def send(self, text: str | bytes) -> None:
        """Type `text`."""
        with self._typing:
            self._pending += text.encode() if isinstance(text, str) else text
        self.pump()

    def send_line(self, text: str) -> None:
        """Type `text` and Return."""
        self.send(text + "\r")

    @property
    def waiting(self) -> int:
        """Bytes that were typed and that no device took yet."""
        return len(self._pending)

    @property
    def text(self) -> str:
        """All output (the last megabytes of it), whether `expect` went past it or not."""
        with self._changed:
            return self._output.decode(errors="replace")

    def expect(self, what: str | re.Pattern[str], timeout: float = 30.0) -> str:
        """Wait until `what`, a text or a regular expression, is printed; the output since the last `expect`, up to its end.

        Raises ConsoleTimeout after `timeout` seconds, or when the machine ended without it.
        """
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                rest = self._output[self._taken :].decode(errors="surrogateescape")
                if isinstance(what, str):
                    at = rest.find(what)
                    stop = at + len(what) if at >= 0 else -1
                else:
                    match = what.search(rest)
                    stop = match.end() if match is not None else -1
                if stop >= 0:
                    found = rest[:stop]
                    self._taken += len(found.encode(errors="surrogateescape"))
                    return found
                left = end - time.monotonic()
                if left <= 0 or self._ended:
                    why = "the machine ended" if self._ended else f"nothing like it came in {timeout:g} seconds"
                    name = what if isinstance(what, str) else what.pattern
                    raise ConsoleTimeout(f"waited for {name!r}, but {why}; the last output was {rest[-300:]!r}")
                self._changed.wait(left)
