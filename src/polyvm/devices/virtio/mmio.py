"""virtio-mmio, version 2: the transport (Virtio 1.2, section 4.2.2, table "MMIO Device Register Layout").

    offset  register                      offset  register
    000 R   MagicValue "virt"             064 W   InterruptACK
    004 R   Version, 2                    070 RW  Status
    008 R   DeviceID                      080 W   QueueDescLow      084 W  QueueDescHigh
    00c R   VendorID                      090 W   QueueDriverLow    094 W  QueueDriverHigh
    010 R   DeviceFeatures                0a0 W   QueueDeviceLow    0a4 W  QueueDeviceHigh
    014 W   DeviceFeaturesSel             0ac W   SHMSel
    020 W   DriverFeatures                0b0 R   SHMLenLow         0b4 R  SHMLenHigh
    024 W   DriverFeaturesSel             0b8 R   SHMBaseLow        0bc R  SHMBaseHigh
    030 W   QueueSel                      0fc R   ConfigGeneration
    034 R   QueueNumMax                   100 RW  Config
    038 W   QueueNum
    044 RW  QueueReady
    050 W   QueueNotify
    060 R   InterruptStatus

Registers are four bytes wide; another access to them reads 0 and writes nothing. The configuration space takes any size.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING

from polyvm.devices.tree import Node
from polyvm.devices.virtio.device import RING_EVENT_IDX, RING_INDIRECT_DESC, VERSION_1, VirtioDevice
from polyvm.devices.virtio.queue import RingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.devices.bus import Line

SIZE = 0x200
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 64, 128
"""Bits of Status (section 2.1)."""
USED_BUFFER, CONFIG_CHANGE = 1, 2
"""Bits of InterruptStatus."""
NOTIFY = 0x50
"""Offset of QueueNotify, for event descriptors that an accelerator signals in place of an exit."""

_MAGIC, _VENDOR = 0x74726976, 0x56594C50  # "virt", "PLYV"


class VirtioMmio:
    """The registers of one device at an MMIO range of `SIZE` bytes."""

    SIZE = SIZE
    NOTIFY = NOTIFY
    NODE = Node("virtio_mmio", {"compatible": ("virtio,mmio",), "dma-coherent": None})

    def __init__(self, device: VirtioDevice, line: Line, report: Callable[[str], None] | None = None) -> None:
        self.device = device
        self._line = line
        self._report = report
        self._irq_lock = threading.Lock()
        self._kick_lock = threading.Lock()
        self._kicked = 0  # a bit for each queue that has to be looked at
        self._interrupt_status = 0
        self._generation = 0
        self._event = -1
        self._status = self._queue = self._device_select = self._driver_select = self._driver_features = 0
        device.interrupt = self._used_buffer
        device.config_changed = self._config_changed
        device.again = self.kick
        device.enter = self._enter
        self._forget()

    def command_line(self, base: int, irq: int) -> str:
        """What Linux is told of it without a device tree (Documentation/admin-guide/kernel-parameters, virtio_mmio.device)."""
        return f"virtio_mmio.device={self.SIZE}@{base:#x}:{irq}"

    @property
    def status(self) -> int:
        """The Status register."""
        return self._status

    def kick(self, index: int) -> None:
        """Have queue `index` looked at on the loop's thread; from any thread."""
        if index >= len(self.device.queues):
            return
        with self._kick_lock:
            first = not self._kicked
            self._kicked |= 1 << index
        if first:
            self.device.loop.call(self._work)

    def event(self) -> int:
        """An event descriptor that stands for a write to QueueNotify of any queue, watched by the loop."""
        if self._event < 0:
            self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self.device.loop.call(lambda: self.device.loop.watch(self._event, self._event_came))
        return self._event

    def close(self) -> None:
        """Give back what is held; once the loop has ended."""
        with self.device.lock:
            self._forget()
            self.device.close()
        if self._event >= 0:
            os.close(self._event)
            self._event = -1

    def reset(self) -> None:
        """As a write of 0 to Status."""
        with self.device.lock:
            self._forget()

    # --- registers

    def read(self, offset: int, size: int) -> int:
        """Read a register, or the configuration space."""
        if offset >= 0x100:
            with self.device.lock:
                space = self.device.config()
            return int.from_bytes(space[offset - 0x100 : offset - 0x100 + size], "little")
        if size != 4 or offset & 3:
            return 0
        if offset == 0x60:
            return self._interrupt_status
        constant = {0x00: _MAGIC, 0x04: 2, 0x08: self.device.ID, 0x0C: _VENDOR}.get(offset)
        if constant is not None:
            return constant
        if 0xB0 <= offset <= 0xBC:
            return 0xFFFF_FFFF  # there is no shared memory
        if offset == 0xFC:
            return self._generation
        with self.device.lock:
            return self._read(offset)

    def _read(self, offset: int) -> int:
        if offset == 0x10:
            select = self._device_select
            return self.device.features >> 32 * select & 0xFFFF_FFFF if select < 2 else 0
        if offset == 0x70:
            return self._status
        if self._queue >= len(self.device.queues):
            return 0
        queue = self.device.queues[self._queue]
        if offset == 0x34:
            return queue.max_size
        if offset == 0x44:
            return int(queue.ready)
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register, or the configuration space."""
        if offset >= 0x100:
            with self.device.lock:
                self.device.write_config(offset - 0x100, value.to_bytes(8, "little")[:size])
        elif size == 4 and not offset & 3:
            if offset == NOTIFY:
                self.kick(value)
            elif offset == 0x64:
                self._acknowledge(value)
            else:
                with self.device.lock:
                    self._write(offset, value)

    def _write(self, offset: int, value: int) -> None:
        if offset == 0x70:
            self._set_status(value)
        elif offset == 0x14:
            self._device_select = value
        elif offset == 0x24:
            self._driver_select = value
        elif offset == 0x20:
            if self._driver_select < 2 and not self._status & FEATURES_OK:
                shift = 32 * self._driver_select
                self._driver_features = self._driver_features & ~(0xFFFF_FFFF << shift) | value << shift
        elif offset == 0x30:
            self._queue = value
        elif self._queue < len(self.device.queues):
            self._write_queue(offset, value)

    def _write_queue(self, offset: int, value: int) -> None:
        queue = self.device.queues[self._queue]
        if offset == 0x44:
            if value & 1 and not queue.ready:
                try:
                    queue.enable(self.device.has(RING_EVENT_IDX), self.device.has(RING_INDIRECT_DESC))
                except RingError as error:
                    self._broken(error)
            elif not value & 1:
                queue.reset()
        elif queue.ready:
            return  # section 4.2.2.2: none of the others may change then
        elif offset == 0x38:
            queue.size = value
        elif offset in (0x80, 0x84):
            queue.descriptors = _half(queue.descriptors, offset, value)
        elif offset in (0x90, 0x94):
            queue.available = _half(queue.available, offset, value)
        elif offset in (0xA0, 0xA4):
            queue.used = _half(queue.used, offset, value)

    def _set_status(self, value: int) -> None:
        if value == 0:
            self._forget()
            return
        new = value & (ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED) | self._status & NEEDS_RESET
        if new & FEATURES_OK and not self._status & FEATURES_OK:
            if self._driver_features & ~self.device.features or not self._driver_features & VERSION_1:
                new &= ~FEATURES_OK
            else:
                self.device.negotiated = self._driver_features
        if not new & FEATURES_OK:
            new &= ~DRIVER_OK
        started = new & DRIVER_OK and not self._status & DRIVER_OK
        self._status = new
        self.device.active = bool(new & DRIVER_OK) and not new & (NEEDS_RESET | FAILED)
        if started and self.device.active:
            self.device.start()
            for index in range(len(self.device.queues)):
                self.kick(index)

    def _forget(self) -> None:
        self._status = self._queue = self._device_select = self._driver_select = 0
        self._driver_features = 0
        self.device.active = False
        self.device.reset()
        self.device.negotiated = 0
        for queue in self.device.queues:
            queue.reset()
        self._acknowledge(0xFFFF_FFFF)

    # --- interrupts and work

    def _used_buffer(self) -> None:
        self._raise(USED_BUFFER)

    def _config_changed(self) -> None:
        self._generation = self._generation + 1 & 0xFFFF_FFFF
        if self.device.active:
            self._raise(CONFIG_CHANGE)

    def _raise(self, bit: int) -> None:
        with self._irq_lock:
            if self._interrupt_status and not self._interrupt_status & bit:
                self._line.set_level(False)  # a controller that looks for edges needs another one
            self._interrupt_status |= bit
            self._line.set_level(True)

    def _acknowledge(self, value: int) -> None:
        with self._irq_lock:
            self._interrupt_status &= ~value
            if not self._interrupt_status:
                self._line.set_level(False)

    def _event_came(self) -> None:
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return
        with self._kick_lock:
            self._kicked |= (1 << len(self.device.queues)) - 1
        self._work()

    def _work(self) -> None:
        with self._kick_lock:
            kicked, self._kicked = self._kicked, 0
        for index in range(len(self.device.queues)):
            if kicked >> index & 1:
                self._enter(partial(self._process, index))

    def _process(self, index: int) -> None:
        if self.device.queues[index].ready:
            self.device.process(index)

    def _enter(self, work: Callable[[], None]) -> None:
        """Do `work` for an active device; a driver that breaks the rules meanwhile has a device that needs a reset."""
        with self.device.lock:
            if self.device.active:
                try:
                    work()
                except RingError as error:
                    self._broken(error)

    def _broken(self, error: RingError) -> None:
        self._status |= NEEDS_RESET
        self.device.active = False
        if self._report is not None:
            self._report(f"{self.device.NAME}: the driver broke the rules of its queues: {error}; the device waits for a reset")
        if self._status & DRIVER_OK:
            self._generation = self._generation + 1 & 0xFFFF_FFFF
            self._raise(CONFIG_CHANGE)


def _half(address: int, offset: int, value: int) -> int:
    return address & 0xFFFF_FFFF | value << 32 if offset & 4 else address & ~0xFFFF_FFFF | value
