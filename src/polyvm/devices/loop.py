"""The thread that does the devices' work: what waits for files, sockets, kicks or time is not done on a vCPU's thread.

Callbacks run one after the other on the loop's thread. One that fails is reported by `failed` and taken out, so that a defect
of one device leaves the others alone.
"""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush

Callback = Callable[[], None]


class Timer:
    """What `Loop.call_later` gives: `cancel` keeps the callback from being called."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callback) -> None:
        self.due = due
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Do not call it any more."""
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return self.due < other.due


class Loop:
    """An event loop on a thread of its own, from `start` to `stop`."""

    def __init__(self, name: str = "devices", failed: Callable[[BaseException], None] | None = None) -> None:
        self.name = name
        self._failed = failed
        self._selector = selectors.DefaultSelector()
        self._calls: deque[Callback] = deque()
        self._timers: list[Timer] = []
        self._lock = threading.Lock()
        self._awake = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._drain)

    def start(self) -> None:
        """Start the thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"polyvm {self.name}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread, wait for it, and give back what the loop holds. Callbacks that were not called yet are dropped."""
        self._stopping = True
        self._wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        if self._wake_read >= 0:
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_read = self._wake_write = -1

    def call(self, callback: Callback) -> None:
        """Have `callback` called soon; from any thread."""
        self._calls.append(callback)
        self._wake()

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Have `callback` called after `seconds`; from any thread."""
        timer = Timer(time.monotonic() + seconds, callback)
        with self._lock:
            heappush(self._timers, timer)
            first = self._timers[0] is timer
            if len(self._timers) > 256:  # cancelled ones stay until their time comes; a guest could make many
                self._timers = sorted(t for t in self._timers if t.callback is not None)
        if first:
            self._wake()
        return timer

    def watch(self, fd: int, callback: Callback, write: bool = False) -> None:
        """Have `callback` called whenever `fd` can be read (or written); on the loop's thread, or before `start`."""
        events = selectors.EVENT_WRITE if write else selectors.EVENT_READ
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, callback)
        else:
            self._selector.register(fd, events, callback)

    def unwatch(self, fd: int) -> None:
        """Undo `watch`; nothing happens where there was none."""
        if not self._stopping and fd in self._selector.get_map():
            self._selector.unregister(fd)

    @property
    def here(self) -> bool:
        """Whether this is the loop's own thread."""
        return threading.current_thread() is self._thread

    def _wake(self) -> None:
        if self._awake:
            return
        self._awake = True
        try:
            os.write(self._wake_write, b"\0")
        except OSError:
            pass  # full, so the loop will wake; or closed

    def _drain(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass
        self._awake = False  # after the read, which else could take a later wake-up away; what was added before is looked at next

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select(self._timeout()):
                self._guarded(key.data, key.fd)
                if self._stopping:
                    return
            for _ in range(len(self._calls)):
                self._guarded(self._calls.popleft(), -1)
            self._run_timers()

    def _timeout(self) -> float | None:
        if self._calls:
            return 0
        with self._lock:
            return max(0.0, self._timers[0].due - time.monotonic()) if self._timers else None

    def _run_timers(self) -> None:
        now = time.monotonic()
        while True:
            with self._lock:
                if not self._timers or self._timers[0].due > now:
                    return
                callback = heappop(self._timers).callback
            if callback is not None:
                self._guarded(callback, -1)

    def _guarded(self, callback: Callback, fd: int) -> None:
        try:
            callback()
        except Exception as error:  # a defect in one device must not end the others
            if fd >= 0:
                self.unwatch(fd)
            if self._failed is not None:
                self._failed(error)
