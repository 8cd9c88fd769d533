"""The driver's side of virtio-mmio and of split virtqueues, in Python: what a guest's kernel does, over guest memory and registers."""

from __future__ import annotations

import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from polyvm.devices import Loop, Wire
from polyvm.devices.virtio import VirtioDevice, VirtioMmio
from polyvm.mem.guest import GuestMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RAM = 0x100000
RAM_SIZE = 4 << 20
NEXT, WRITE, INDIRECT = 1, 2, 4


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    """Fail unless `condition` comes true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.0005)


class VirtQueue:
    """A virtqueue as its driver keeps it."""

    def __init__(self, driver: Driver, index: int, size: int, base: int) -> None:
        self.driver, self.index, self.size = driver, index, size
        self.table, self.avail, self.used = base, base + 0x4000, base + 0x8000
        self.free = list(range(size))
        self.next_avail = self.last_used = 0
        self.lengths: dict[int, list[int]] = {}

    def add(self, *buffers: tuple[int, int, bool], indirect: int | None = None) -> int:
        """Offer buffers (address, size, whether the device writes); `indirect` is where a table of them may be put."""
        memory = self.driver.memory
        if indirect is not None:
            for i, (address, size, write) in enumerate(buffers):
                flags = (WRITE if write else 0) | (NEXT if i + 1 < len(buffers) else 0)
                memory.write(indirect + 16 * i, struct.pack("<QIHH", address, size, flags, i + 1))
            numbers = [self.free.pop(0)]
            memory.write(self.table + 16 * numbers[0], struct.pack("<QIHH", indirect, 16 * len(buffers), INDIRECT, 0))
        else:
            numbers = [self.free.pop(0) for _ in buffers]
            for i, (address, size, write) in enumerate(buffers):
                last = i + 1 == len(buffers)
                flags = (WRITE if write else 0) | (0 if last else NEXT)
                memory.write(self.table + 16 * numbers[i], struct.pack("<QIHH", address, size, flags, 0 if last else numbers[i + 1]))
        self.lengths[numbers[0]] = numbers
        memory.write(self.avail + 4 + 2 * (self.next_avail % self.size), struct.pack("<H", numbers[0]))
        self.next_avail = self.next_avail + 1 & 0xFFFF
        memory.write(self.avail + 2, struct.pack("<H", self.next_avail))
        return numbers[0]

    def notify(self) -> None:
        self.driver.mmio.write(0x50, 4, self.index)

    def take(self) -> tuple[int, int] | None:
        """A request that came back: its head and how much was written."""
        memory = self.driver.memory
        if struct.unpack("<H", memory.read(self.used + 2, 2))[0] == self.last_used:
            return None
        head, written = struct.unpack("<II", memory.read(self.used + 4 + 8 * (self.last_used % self.size), 8))
        self.last_used = self.last_used + 1 & 0xFFFF
        if self.driver.event_index:
            memory.write(self.avail + 4 + 2 * self.size, struct.pack("<H", self.last_used))
        self.free += self.lengths.pop(head)
        return head, written

    def wait(self) -> tuple[int, int]:
        """The next request that comes back, as the interrupt says."""
        found: list[tuple[int, int]] = []

        def look() -> bool:
            self.driver.acknowledge()
            taken = self.take()
            if taken is not None:
                found.append(taken)
            return bool(found)

        wait_for(look)
        return found[0]


class Driver:
    """One device's driver; `start` is section 3.1.1 of the specification."""

    def __init__(self, device: VirtioDevice, mmio: VirtioMmio, memory: GuestMemory, line: Wire) -> None:
        self.device, self.mmio, self.memory, self.line = device, mmio, memory, line
        self.reports: list[str] = []
        self.queues: list[VirtQueue] = []
        self.event_index = False
        self.buffers = RAM + 0x100000  # free for requests from here on

    def features(self) -> int:
        value = 0
        for select in (0, 1):
            self.mmio.write(0x14, 4, select)
            value |= self.mmio.read(0x10, 4) << 32 * select
        return value

    def start(self, without: int = 0, size: int | None = None) -> Driver:
        mmio = self.mmio
        assert (mmio.read(0, 4), mmio.read(4, 4)) == (0x74726976, 2)
        mmio.write(0x70, 4, 0)
        mmio.write(0x70, 4, 1)
        mmio.write(0x70, 4, 3)
        wanted = self.features() & ~without
        self.event_index = bool(wanted & 1 << 29)
        for select in (0, 1):
            mmio.write(0x24, 4, select)
            mmio.write(0x20, 4, wanted >> 32 * select & 0xFFFFFFFF)
        mmio.write(0x70, 4, 11)
        assert mmio.read(0x70, 4) & 8
        self.queues = []
        for index in range(len(self.device.QUEUES)):
            mmio.write(0x30, 4, index)
            count = size or mmio.read(0x34, 4)
            queue = VirtQueue(self, index, count, RAM + 0x10000 * (index + 1))
            self.memory.write(queue.table, bytes(0x10000))
            mmio.write(0x38, 4, count)
            for register, address in ((0x80, queue.table), (0x90, queue.avail), (0xA0, queue.used)):
                mmio.write(register, 4, address & 0xFFFFFFFF)
                mmio.write(register + 4, 4, address >> 32)
            mmio.write(0x44, 4, 1)
            self.queues.append(queue)
        mmio.write(0x70, 4, 15)
        return self

    def acknowledge(self) -> int:
        status = self.mmio.read(0x60, 4)
        if status:
            self.mmio.write(0x64, 4, status)
        return status

    def config(self, offset: int, size: int) -> int:
        return self.mmio.read(0x100 + offset, size)


@contextmanager
def attached(make: Callable[[GuestMemory, Loop], VirtioDevice]) -> Iterator[Driver]:
    """A device of its own with memory, loop and transport."""
    memory = GuestMemory([(0, 0x10000), (RAM, RAM_SIZE)])
    failures: list[BaseException] = []
    loop = Loop(failed=failures.append)
    line = Wire()
    device = make(memory, loop)
    reports: list[str] = []
    mmio = VirtioMmio(device, line, reports.append)
    driver = Driver(device, mmio, memory, line)
    driver.reports = reports
    loop.start()
    try:
        yield driver
    finally:
        loop.stop()
        mmio.close()
        memory.close()
        assert not failures, failures
