"""Entropy device (Virtio 1.2, section 5.4). One queue; no features, no configuration space.

    queue 0  requestq: the device fills what the driver gives
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from polyvm.devices.virtio.device import VirtioDevice

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.devices.loop import Loop
    from polyvm.devices.virtio.queue import Chain, GuestRam

_MOST = 65536  # bytes for one request; the driver asks again for more


class Rng(VirtioDevice):
    """`source` gives as many random bytes as it is asked for."""

    NAME = "virtio-rng"
    ID = 4
    QUEUES = (64,)

    def __init__(self, memory: GuestRam, loop: Loop, source: Callable[[int], bytes] = os.urandom) -> None:
        super().__init__(memory, loop)
        self._source = source

    def process(self, index: int) -> None:
        """Fill all requests."""
        self.drain(index, self._fill)

    def _fill(self, chain: Chain) -> int:
        return chain.write(self._source(min(chain.writable_size, _MOST)))
