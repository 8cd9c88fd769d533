"""virtio devices (Virtio 1.2): queues once (`queue`), the transport apart (`mmio`), a file for each device."""

from __future__ import annotations

from polyvm.devices.virtio.blk import Blk
from polyvm.devices.virtio.console import Console
from polyvm.devices.virtio.device import VirtioDevice
from polyvm.devices.virtio.mmio import VirtioMmio
from polyvm.devices.virtio.queue import Chain, GuestRam, Queue, RingError
from polyvm.devices.virtio.rng import Rng

__all__ = ["Blk", "Chain", "Console", "GuestRam", "Queue", "RingError", "Rng", "VirtioDevice", "VirtioMmio"]
