"""Network device (Virtio 1.2, section 5.1).

    queue 0  receiveq: the device fills with frames
    queue 1  transmitq: frames

    header, 12 bytes   0 flags u8   1 gso_type u8   2 hdr_len u16   4 gso_size u16   6 csum_start u16   8 csum_offset u16   10
    num_buffers u16 configuration      0 mac u8[6]   6 status u16 (bit 0: the link is up)   8 max_virtqueue_pairs u16   10 mtu u16

    feature  5 MAC   16 STATUS

Nothing is offloaded: every frame is whole, with its checksums.
"""

from __future__ import annotations

import os
import re
import struct
from typing import TYPE_CHECKING

from polyvm.devices.network import LONGEST
from polyvm.devices.virtio.device import VirtioDevice
from polyvm.errors import UsageError

if TYPE_CHECKING:
    from polyvm.devices.loop import Loop
    from polyvm.devices.network import Network
    from polyvm.devices.virtio.queue import Chain, GuestRam

MAC, STATUS = 1 << 5, 1 << 16
_HEADER = 12
_EMPTY = struct.pack("<BBHHHHH", 0, 0, 0, 0, 0, 0, 1)
_BATCH = 256  # frames that are taken before others have their turn


def mac_address(text: str) -> bytes:
    """The address in `text`, such as 52:54:00:12:34:56; where it is empty, a random one that is nobody's. Raises UsageError."""
    if not text:
        return b"\x52\x54\x00" + os.urandom(3)
    if not re.fullmatch("([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}", text) or int(text[:2], 16) & 1:
        raise UsageError(f"mac={text}: an address of a card is six bytes such as 52:54:00:12:34:56, the first of them even")
    return bytes.fromhex(text.replace(":", ""))


class Net(VirtioDevice):
    """A card with the address `mac` (six bytes) on the wire `network`."""

    NAME = "virtio-net"
    ID = 1
    QUEUES = (256, 256)

    def __init__(self, memory: GuestRam, loop: Loop, network: Network, mac: bytes) -> None:
        super().__init__(memory, loop)
        self.network = network
        self.features |= MAC | STATUS
        self._mac = mac
        self.dropped = 0
        network.pause(True)
        loop.call(lambda: network.start(loop, lambda: self.enter(self._receive)))

    def config(self) -> bytes:
        """Address and link."""
        return self._mac + struct.pack("<HHH", 1, 1, 0)

    def reset(self) -> None:
        """Frames wait on the host until there is a driver."""
        self._pause(True)

    def close(self) -> None:
        """Leave the wire."""
        self.network.close()

    def process(self, index: int) -> None:
        """Send frames; or there is room for what arrives."""
        if index == 1:
            self.drain(1, self._send)
        else:
            self.network.pause(False)
            self._receive()

    def _pause(self, paused: bool) -> None:
        if self.loop.here:
            self.network.pause(paused)
        else:
            self.loop.call(lambda: self.network.pause(paused and not self.active))

    def _send(self, chain: Chain) -> int:
        if chain.readable_size <= _HEADER + LONGEST:
            frame = chain.read()[_HEADER:]
            if len(frame) >= 14:
                self.network.send(frame)
        return 0

    def _receive(self) -> None:
        queue = self.queues[0]
        for _ in range(_BATCH):
            if not queue.pending():
                queue.notifications(True)
                if not queue.pending():
                    self.network.pause(True)  # until the driver gives buffers and notifies
                    break
            queue.notifications(False)
            frame = self.network.receive()
            if frame is None:
                break
            chain = queue.pop()
            if chain is None:
                break
            if chain.writable_size < len(frame) + _HEADER:
                self.dropped += 1
                queue.unpop()
                continue
            queue.push(chain, chain.write(_EMPTY + frame))
        else:
            self.again(0)
        if queue.needs_interrupt():
            self.interrupt()
