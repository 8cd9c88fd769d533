"""Console device with one port (Virtio 1.2, section 5.3).

    queue 0  receiveq: the device fills with input
    queue 1  transmitq: output

    configuration   0 cols u16   2 rows u16   4 max_nr_ports u32   8 emerg_wr u32 (write: output of a guest without queues)

    feature  0 SIZE       cols and rows are the terminal's
             2 EMERG_WRITE
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from polyvm.devices.virtio.device import VirtioDevice

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.devices.loop import Loop
    from polyvm.devices.virtio.queue import Chain, GuestRam

SIZE, EMERG_WRITE = 1, 4
_BACKLOG = 65536


class Console(VirtioDevice):
    """`sink` gets what the guest writes; `room` is called when input that was refused for want of room can be given again."""

    NAME = "virtio-console"
    ID = 3
    QUEUES = (64, 64)

    def __init__(
        self, memory: GuestRam, loop: Loop, sink: Callable[[bytes], object], size: tuple[int, int] = (80, 25),
        room: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(memory, loop)
        self.features |= SIZE | EMERG_WRITE
        self._sink = sink
        self._room = room
        self._size = size
        self._input = bytearray()

    def config(self) -> bytes:
        """Columns, rows, ports."""
        return struct.pack("<HHII", self._size[0] & 0xFFFF, self._size[1] & 0xFFFF, 1, 0)

    def write_config(self, offset: int, data: bytes) -> None:
        """An emergency write puts one character out."""
        if offset == 8:
            self._sink(data[:1])

    def resize(self, columns: int, rows: int) -> None:
        """The terminal has another size now; from any thread."""
        with self.lock:
            self._size = (columns, rows)
            if self.has(SIZE):
                self.config_changed()

    def feed(self, data: bytes) -> int:
        """Let `data` be typed; how many bytes were taken, fewer where the guest does not read. From any thread."""
        with self.lock:
            taken = min(len(data), _BACKLOG - len(self._input))
            self._input += data[:taken]
        if taken:
            self.again(0)
        return taken

    def process(self, index: int) -> None:
        """Take output, or hand over input."""
        if index == 1:
            self.drain(1, self._output)
        elif self._input:
            self._hand_over()

    def _output(self, chain: Chain) -> int:
        data = chain.read()
        if data:
            self._sink(data)
        return 0

    def _hand_over(self) -> None:
        queue = self.queues[0]
        full = len(self._input) >= _BACKLOG
        while self._input:
            chain = queue.pop()
            if chain is None:
                break
            written = chain.write(self._input)
            del self._input[:written]
            queue.push(chain, written)
        queue.notifications(True)  # wanted while input waits, and cheap where none does
        if self._input and queue.pending():
            self.again(0)
        if queue.needs_interrupt():
            self.interrupt()
        if full and self._room is not None and len(self._input) < _BACKLOG:
            self._room()
