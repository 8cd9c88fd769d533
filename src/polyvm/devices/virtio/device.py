"""What all virtio devices have: queues, features, configuration space, and their work on the loop's thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from polyvm.devices.virtio.queue import Chain, GuestRam, Queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.devices.loop import Loop

RING_INDIRECT_DESC, RING_EVENT_IDX, VERSION_1 = 1 << 28, 1 << 29, 1 << 32
"""Feature bits of the rings (Virtio 1.2, section 6)."""

_BATCH = 4  # of a queue's sizes: how much is done for one device before others have their turn


def _nothing() -> None:
    pass


def _plain(work: Callable[[], None]) -> None:
    work()


class VirtioDevice:
    """Base of the devices. A transport sets `interrupt`, `config_changed`, `again` and `enter`, and calls the rest with `lock`
    held.

    A subclass has `NAME`, `ID` (Virtio 1.2, section 5), `QUEUES` (the sizes of its queues), and overrides what it needs.
    `process` runs on the loop's thread; a `RingError` that comes out of it puts the device into the state "needs reset". What a
    device does of its own accord (something arrived for the guest) it does inside of `enter`, which does nothing while there is
    no driver.
    """

    NAME = ""
    ID = 0
    QUEUES: tuple[int, ...] = ()

    def __init__(self, memory: GuestRam, loop: Loop) -> None:
        self.memory = memory
        self.loop = loop
        self.lock = threading.RLock()
        self.queues = [Queue(memory, size) for size in self.QUEUES]
        self.features = RING_INDIRECT_DESC | RING_EVENT_IDX | VERSION_1
        self.negotiated = 0
        self.active = False
        self.interrupt: Callable[[], None] = _nothing
        self.config_changed: Callable[[], None] = _nothing
        self.again: Callable[[int], None] = lambda index: None
        self.enter: Callable[[Callable[[], None]], None] = _plain

    def config(self) -> bytes:
        """The configuration space."""
        return b""

    def write_config(self, offset: int, data: bytes) -> None:
        """The driver writes to the configuration space; most devices have nothing there to write."""

    def start(self) -> None:
        """The driver is there (DRIVER_OK)."""

    def reset(self) -> None:
        """The driver is gone: forget what it asked for. The queues are reset after this."""

    def close(self) -> None:
        """The machine is gone: give back what the device holds of the host. On the loop's thread, or once it has ended."""

    def process(self, index: int) -> None:
        """There is something in queue `index`."""
        raise NotImplementedError

    def has(self, feature: int) -> bool:
        """Whether the driver took `feature` (a mask of one bit)."""
        return bool(self.negotiated & feature)

    def drain(self, index: int, handle: Callable[[Chain], int]) -> None:
        """Call `handle` for each request of queue `index`, which gives how many bytes it wrote, and give the request back."""
        queue = self.queues[index]
        queue.notifications(False)
        try:
            for _ in range(_BATCH * queue.size):
                chain = queue.pop()
                if chain is not None:
                    queue.push(chain, handle(chain))
                    continue
                queue.notifications(True)
                if not queue.pending():
                    return
                queue.notifications(False)
            self.again(index)
        finally:
            if queue.needs_interrupt():
                self.interrupt()
