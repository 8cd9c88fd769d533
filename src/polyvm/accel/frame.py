"""What virtual machines and CPUs of accelerators that are libraries (not KVM's descriptors) have in common."""

from __future__ import annotations

import mmap
import threading
from typing import TYPE_CHECKING, Any, Self

from polyvm.errors import UnsupportedError, UsageError
from polyvm.vcpu import machine_exits as exits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from polyvm.vcpu.capabilities import Capabilities
    from polyvm.vcpu.contract import Bus, MsiRoute, PinRoute, VmConfig


class Slot:
    """A range of memory that the guest sees."""

    __slots__ = ("address", "host", "log_dirty", "readonly", "size")

    def __init__(self, address: int, host: int, size: int, readonly: bool, log_dirty: bool) -> None:
        self.address, self.host, self.size = address, host, size
        self.readonly, self.log_dirty = readonly, log_dirty

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + self.size


class LibraryVm:
    """Memory, virtual CPUs and the end of a machine. `_map`, `_unmap`, `_protect`, `_dirty`, `_new_vcpu` and `_destroy` are the
    accelerator's."""

    def __init__(self, config: VmConfig, capabilities: Capabilities) -> None:
        self.config, self.capabilities = config, capabilities
        self.guest = config.guest
        self.vcpus: Sequence[Any] = []
        self._slots: dict[int, Slot] = {}
        self._closed = self._pinned = self._destroyed = False

    # -- the accelerator's ------------------------------------------------------------------------------------

    def _map(self, slot: Slot) -> None:
        raise NotImplementedError

    def _unmap(self, slot: Slot) -> None:
        raise NotImplementedError

    def _protect(self, slot: Slot) -> None:
        raise NotImplementedError

    def _dirty(self, slot: Slot) -> bytes:
        raise NotImplementedError

    def _new_vcpu(self, number: int) -> Any:
        raise NotImplementedError

    def _destroy(self) -> None:
        raise NotImplementedError

    # -- memory -----------------------------------------------------------------------------------------------

    def show_memory(self) -> None:
        """Map the regions of the machine's guest memory; for the end of a constructor."""
        memory = self.config.memory
        if memory is not None:
            memory.pin()
            self._pinned = True
            for region in memory.regions:
                self.add_memory(region.address, region.host, region.size, readonly=region.readonly)

    def add_memory(self, address: int, host: int, size: int, *, readonly: bool = False, log_dirty: bool = False) -> int:
        """Show `size` bytes of this process at `host` to the guest at `address`; whole pages of the host."""
        self.check_open()
        if size <= 0 or (address | host | size) & (mmap.PAGESIZE - 1) or address < 0:
            raise UsageError(f"memory is given to a guest in whole pages, not {size:#x} bytes at {address:#x}")
        for other in self._slots.values():
            if address < other.end and other.address < address + size:
                raise UsageError(f"guest memory at {address:#x} overlaps that at {other.address:#x}")
        if log_dirty:
            self.capabilities.require("dirty_log")
        slot = Slot(address, host, size, readonly, log_dirty)
        number = next(n for n in range(len(self._slots) + 1) if n not in self._slots)
        self._map(slot)
        self._slots[number] = slot
        return number

    def slot(self, number: int) -> Slot:
        """A slot by its number."""
        if number not in self._slots:
            raise UsageError(f"there is no memory slot {number}")
        return self._slots[number]

    def slot_of(self, address: int) -> int:
        """The slot that has a guest physical address."""
        for number, slot in self._slots.items():
            if slot.address <= address < slot.end:
                return number
        raise UsageError(f"no memory slot has the address {address:#x}")

    def set_memory_flags(self, slot: int, *, readonly: bool, log_dirty: bool) -> None:
        """Change what may be done to a slot."""
        found = self.slot(slot)
        if log_dirty:
            self.capabilities.require("dirty_log")
        found.readonly, found.log_dirty = readonly, log_dirty
        self._protect(found)

    def remove_memory(self, slot: int) -> None:
        """Take a slot away from the guest."""
        self._unmap(self.slot(slot))
        del self._slots[slot]

    def is_readonly(self, address: int) -> bool:
        """Whether the guest may not write to `address`."""
        return any(s.readonly for s in self._slots.values() if s.address <= address < s.end)

    def dirty_log(self, slot: int) -> bytes:
        """The pages that were written to since the last call; also merged into the machine's guest memory."""
        found = self.slot(slot)
        self.capabilities.require("dirty_log")
        if not found.log_dirty:
            raise UsageError(f"memory slot {slot} does not log writes: set_memory_flags(…, log_dirty=True) first")
        bitmap, memory = self._dirty(found), self.config.memory
        if memory is not None and memory.contains(found.address, found.size):
            memory.merge_dirty(found.address, bitmap)
        return bitmap

    # -- what these accelerators do not have ------------------------------------------------------------------

    def add_irqfd(self, fd: int, gsi: int, resample: int | None = None) -> None:
        """Not here."""
        self.capabilities.require("irqfd")

    def remove_irqfd(self, fd: int, gsi: int) -> None:
        """Not here."""
        self.capabilities.require("irqfd")

    def add_ioeventfd(self, fd: int, address: int, size: int, *, port: bool = False, match: int | None = None) -> None:
        """Not here."""
        self.capabilities.require("ioeventfd")

    def remove_ioeventfd(self, fd: int, address: int, size: int, *, port: bool = False, match: int | None = None) -> None:
        """Not here."""
        self.capabilities.require("ioeventfd")

    def coalesce(self, address: int, size: int, *, port: bool = False) -> None:
        """Not here."""
        self.capabilities.require("coalesced_mmio")

    def set_routes(self, routes: Iterable[MsiRoute | PinRoute]) -> None:
        """Replace the routes."""
        raise NotImplementedError

    # -- life -------------------------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise UsageError where the machine is closed."""
        if self._closed:
            raise UsageError("this virtual machine is closed")

    def create_vcpu(self, number: int) -> Any:
        """Another virtual CPU."""
        self.check_open()
        if not 0 <= number < self.config.vcpus:
            raise UsageError(f"there is no vCPU {number}: the machine has {self.config.vcpus}")
        if any(vcpu.id == number for vcpu in self.vcpus):
            raise UsageError(f"there is a vCPU {number} already")
        vcpu = self._new_vcpu(number)
        self.vcpus = [*self.vcpus, vcpu]
        return vcpu

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the machine; what runs comes back first. From a handler of a run, the rest is done when that comes back."""
        if self._closed:
            return
        self._closed = True
        for vcpu in self.vcpus:
            vcpu.close()
        self.release()

    def release(self) -> None:
        """The rest of `close`, as soon as no virtual CPU is left."""
        if self._closed and not self._destroyed and all(vcpu.is_released for vcpu in self.vcpus):
            self._destroyed = True
            self._destroy()
            if self._pinned and self.config.memory is not None:
                self._pinned = False
                self.config.memory.unpin()


class LibraryVcpu:
    """Running, kicks and the end of a virtual CPU. `_make`, `_enter`, `_cancel` and `_end` are the accelerator's."""

    guest = ""

    def __init__(self, vm: LibraryVm, number: int) -> None:
        self.machine = vm
        self.id = number
        self.is_released = False
        self._closed = self._kicked = False
        self._change = threading.Condition()
        self._runner: threading.Thread | None = None
        self._unfinished: Callable[[], exits.VmExit | None] | None = None
        self._mmio, self._port = exits.Mmio(), exits.PortIo()

    # -- the accelerator's ------------------------------------------------------------------------------------

    def _make(self) -> None:
        """Before each run, in its thread."""
        raise NotImplementedError

    def _enter(self) -> exits.VmExit | None:
        """Run the guest once; None: nothing for the caller."""
        raise NotImplementedError

    def _cancel(self) -> None:
        """Make an `_enter` under way, or else the next one, come back. From any thread."""
        raise NotImplementedError

    def _end(self) -> None:
        """Give everything back."""
        raise NotImplementedError

    # -- running ----------------------------------------------------------------------------------------------

    def run(self) -> exits.VmExit:
        """Enter the guest until something is left to the caller."""
        self._begin()
        try:
            return self._run()
        finally:
            self._finish()

    def run_with(self, bus: Bus) -> exits.VmExit:
        """Enter the guest until something comes that `bus` does not answer."""
        self._begin()
        try:
            while True:
                found = self._run()
                if isinstance(found, exits.PortIo):
                    if found.write:
                        bus.port_write(found.port, found.size, found.value)
                    else:
                        found.answer(bus.port_read(found.port, found.size))
                elif isinstance(found, exits.Mmio):
                    if found.write:
                        bus.mmio_write(found.address, found.size, found.value)
                    else:
                        found.answer(bus.mmio_read(found.address, found.size))
                else:
                    return found
                if self._closed:
                    return exits.Interrupted()
        finally:
            self._finish()

    def _begin(self) -> None:
        with self._change:
            self.check_open()
            if self._runner is not None:
                raise UsageError("this vCPU is already running")
            self._runner = threading.current_thread()

    def _finish(self) -> None:
        with self._change:
            self._runner = None
            if self._closed:
                self._release()
            self._change.notify_all()

    def _run(self) -> exits.VmExit:
        self._make()
        unfinished, self._unfinished = self._unfinished, None
        if unfinished is not None and (found := unfinished()) is not None:
            return found
        while not (self._closed or self._kicked):
            found = self._enter()
            if found is not None:
                return found
        self._kicked = False
        return exits.Interrupted()

    def kick(self) -> None:
        """Make `run` return; from any thread."""
        with self._change:
            self._kicked = True
            if self._runner is not None and not self.is_released:
                self._cancel()

    def poke(self) -> None:
        """Make the guest be left for a moment, for its interrupt lines to be looked at."""
        with self._change:
            if self._runner is not None and not self.is_released:
                self._cancel()

    # -- life -------------------------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise UsageError where the vCPU is closed."""
        if self._closed:
            raise UsageError("this vCPU is closed")

    def close(self) -> None:
        """End it. A run under way in another thread comes back first; in this one, it ends when that does."""
        with self._change:
            if self._closed:
                return
            self._closed = True
            if self._runner is threading.current_thread():
                return
            while self._runner is not None:
                self._cancel()
                self._change.wait(0.01)
            self._release()

    def _release(self) -> None:
        if not self.is_released:
            self.is_released = True
            self._end()
            self.machine.release()


def not_routed(routes: Iterable[MsiRoute | PinRoute], name: str) -> None:
    """Accept only routes that change nothing."""
    for route in routes:
        if getattr(route, "pin", None) != route.gsi:
            raise UnsupportedError(f"{name}: interrupt {route.gsi} cannot be routed elsewhere")
