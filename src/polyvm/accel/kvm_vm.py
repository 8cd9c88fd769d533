"""A virtual machine of KVM: memory, interrupts, event descriptors; what is the same on every architecture."""

from __future__ import annotations

import os
import struct
import threading
from ctypes import addressof, byref, c_uint64, create_string_buffer, memmove, sizeof
from typing import TYPE_CHECKING, Any, Protocol

from polyvm.accel.ffi import kvm as k
from polyvm.accel.kvm_vcpu import CoalescedRing, KvmVcpu
from polyvm.errors import EngineError, UnsupportedError, UsageError
from polyvm.vcpu.contract import Bus, MsiRoute, PinRoute, VmConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polyvm.vcpu.capabilities import Capabilities

PAGE = 4096
_CHIPS = {"pic-master": 0, "pic-slave": 1, "ioapic": 2, "gic": 0}


class Provider(Protocol):
    """What an architecture adds."""

    def vm_type(self, limit: int) -> int:
        """The argument of KVM_CREATE_VM; `limit` is what KVM_CAP_ARM_VM_IPA_SIZE says."""
        ...

    def set_up(self, vm: KvmVm) -> None:
        """After the VM is made, before its vCPUs."""
        ...

    def vcpu(self, vm: KvmVm, number: int, fd: int, page: Any) -> KvmVcpu: ...

    def line(self, vm: KvmVm, gsi: int) -> int:
        """What KVM_IRQ_LINE calls an interrupt."""
        ...


class KvmIrqLine:
    """An input of the interrupt controller in the kernel (KVM_IRQ_LINE)."""

    __slots__ = ("_high", "_low", "_vm")

    def __init__(self, vm: KvmVm, irq: int) -> None:
        self._vm = vm
        self._high, self._low = k.IrqLevel(irq, 1), k.IrqLevel(irq, 0)

    def set_level(self, high: bool) -> None:
        """Raise or lower it."""
        self._vm.call(k.IRQ_LINE, byref(self._high if high else self._low), "KVM_IRQ_LINE")

    def pulse(self) -> None:
        """Raise and lower it."""
        self.set_level(True)
        self.set_level(False)


class KvmVm:
    """A VM. Everything but `create_vcpu` and `close` may be called from any thread."""

    def __init__(
        self, library: k.Library, kvm: int, device: str, config: VmConfig, capabilities: Capabilities, provider: Provider
    ) -> None:
        self.library = library
        self.device = device
        self.config = config
        self.capabilities = capabilities
        self.guest = config.guest
        self.memory = config.memory
        self._provider = provider
        self._lock = threading.Lock()
        self._slots: dict[int, k.UserspaceMemoryRegion] = {}
        self._vcpus: list[KvmVcpu] = []
        self._devices: list[int] = []
        self._ring: CoalescedRing | None = None
        self._coalesced = False
        self._closed = False
        self._pinned = False
        self._fd = -1
        self.run_size = self._checked(library.ioctl(kvm, k.GET_VCPU_MMAP_SIZE, None), "KVM_GET_VCPU_MMAP_SIZE")
        limit = max(0, library.ioctl(kvm, k.CHECK_EXTENSION, k.CAP_ARM_VM_IPA_SIZE))
        self._fd = self._checked(library.ioctl(kvm, k.CREATE_VM, provider.vm_type(limit)), "KVM_CREATE_VM")
        try:
            provider.set_up(self)
            if config.memory is not None:
                config.memory.pin()
                self._pinned = True
                for region in config.memory.regions:
                    self.add_memory(region.address, region.host, region.size, readonly=region.readonly)
        except BaseException:
            self.close()
            raise

    # -- calls ------------------------------------------------------------------------------------------------

    def _checked(self, result: int, what: str) -> int:
        if result < 0:
            number = self.library.errno()
            raise EngineError(f"{what}: {os.strerror(number)}")
        return result

    def call(self, code: int, argument: object, what: str) -> int:
        """An ioctl of the VM; raises EngineError."""
        if self._closed:
            raise UsageError("this virtual machine is closed")
        return self._checked(self.library.ioctl(self._fd, code, argument), what)

    def has(self, extension: int) -> int:
        """KVM_CHECK_EXTENSION of this VM."""
        return max(0, self.library.ioctl(self._fd, k.CHECK_EXTENSION, extension))

    def enable(self, extension: int, *arguments: int) -> None:
        """KVM_ENABLE_CAP."""
        cap = k.EnableCap(extension, 0)
        for index, argument in enumerate(arguments):
            cap.args[index] = argument
        self.call(k.ENABLE_CAP, byref(cap), f"KVM_ENABLE_CAP({extension})")

    def create_device(self, kind: int) -> int:
        """KVM_CREATE_DEVICE; the descriptor goes with the VM."""
        made = k.CreateDevice(kind, 0, 0)
        self.call(k.CREATE_DEVICE, byref(made), "KVM_CREATE_DEVICE")
        self._devices.append(made.fd)
        return int(made.fd)

    def set_device(self, device: int, group: int, attribute: int, value: int | None, *, bits: int = 64) -> None:
        """KVM_SET_DEVICE_ATTR."""
        data = c_uint64(value or 0)  # little-endian: a 32-bit attribute reads its low half
        pointer = addressof(data) if value is not None else 0
        attr = k.DeviceAttr(0, group, attribute, pointer)
        self._checked(self.library.ioctl(device, k.SET_DEVICE_ATTR, byref(attr)), f"KVM_SET_DEVICE_ATTR({group}, {attribute})")

    # -- memory -----------------------------------------------------------------------------------------------

    def add_memory(self, address: int, host: int, size: int, *, readonly: bool = False, log_dirty: bool = False) -> int:
        """A memory slot: `size` bytes of this process at `host`, for the guest at `address`. The mapping must stay until
        `remove_memory`."""
        if size <= 0 or (address | host | size) & (PAGE - 1) or address < 0:
            raise UsageError(f"memory is given to a guest in whole pages, not {size:#x} bytes at {address:#x}")
        if readonly:
            self.capabilities.require("readonly_memory")
        with self._lock:
            for other in self._slots.values():
                if address < other.guest_phys_addr + other.memory_size and other.guest_phys_addr < address + size:
                    raise UsageError(f"guest memory at {address:#x} overlaps that at {other.guest_phys_addr:#x}")
            slot = next(number for number in range(len(self._slots) + 1) if number not in self._slots)
            if slot >= self.capabilities.memory_slots:
                raise UnsupportedError(f"KVM has no more than {self.capabilities.memory_slots} memory slots here")
            region = k.UserspaceMemoryRegion(slot, _flags(readonly, log_dirty), address, size, host)
            self.call(k.SET_USER_MEMORY_REGION, byref(region), "KVM_SET_USER_MEMORY_REGION")
            self._slots[slot] = region
            return slot

    def _slot(self, slot: int) -> k.UserspaceMemoryRegion:
        if slot not in self._slots:
            raise UsageError(f"there is no memory slot {slot}")
        return self._slots[slot]

    def slot_of(self, address: int) -> int:
        """The slot that has a guest physical address."""
        for number, region in self._slots.items():
            if region.guest_phys_addr <= address < region.guest_phys_addr + region.memory_size:
                return number
        raise UsageError(f"no memory slot has the address {address:#x}")

    def set_memory_flags(self, slot: int, *, readonly: bool, log_dirty: bool) -> None:
        """Change a slot. Whether it is read-only cannot change (the kernel refuses it): such a slot is removed and made again."""
        with self._lock:
            region = self._slot(slot)
            flags = _flags(readonly, log_dirty)
            if (region.flags ^ flags) & k.MEM_READONLY:
                size = region.memory_size
                region.memory_size = 0
                self.call(k.SET_USER_MEMORY_REGION, byref(region), "KVM_SET_USER_MEMORY_REGION")
                region.memory_size = size
            region.flags = flags
            self.call(k.SET_USER_MEMORY_REGION, byref(region), "KVM_SET_USER_MEMORY_REGION")

    def remove_memory(self, slot: int) -> None:
        """Take a slot away; the guest's accesses there are MMIO from now on."""
        with self._lock:
            region = self._slot(slot)
            region.memory_size = 0
            self.call(k.SET_USER_MEMORY_REGION, byref(region), "KVM_SET_USER_MEMORY_REGION")
            del self._slots[slot]

    def dirty_log(self, slot: int) -> bytes:
        """KVM_GET_DIRTY_LOG: a bit for each page written to since the last call; also merged into the `GuestMemory` of the VM."""
        with self._lock:
            region = self._slot(slot)
            if not region.flags & k.MEM_LOG_DIRTY_PAGES:
                raise UsageError(f"memory slot {slot} does not log writes: set_memory_flags(…, log_dirty=True) first")
            size = region.memory_size // PAGE
            bitmap = create_string_buffer(-(-size // 64) * 8)
            log = k.DirtyLog(slot, 0, addressof(bitmap))
            self.call(k.GET_DIRTY_LOG, byref(log), "KVM_GET_DIRTY_LOG")
            found = bitmap.raw[: -(-size // 8)]
            if self.memory is not None and self.memory.contains(region.guest_phys_addr, region.memory_size):
                self.memory.merge_dirty(region.guest_phys_addr, found)
            return found

    # -- vCPUs ------------------------------------------------------------------------------------------------

    @property
    def vcpus(self) -> Sequence[KvmVcpu]:
        """Those that were made, in order."""
        return tuple(self._vcpus)

    def create_vcpu(self, number: int) -> KvmVcpu:
        """A vCPU; x86-64's first has number 0, which its APIC has too."""
        if number < 0 or number >= max(self.capabilities.max_vcpus, 1):
            raise UsageError(f"there is no vCPU {number}: KVM has at most {self.capabilities.max_vcpus} here")
        if any(vcpu.id == number for vcpu in self._vcpus):
            raise UsageError(f"there is a vCPU {number} already")
        fd = self.call(k.CREATE_VCPU, number, "KVM_CREATE_VCPU")
        try:
            page = self.library.map(fd, self.run_size)
            vcpu = self._provider.vcpu(self, number, fd, page)
        except BaseException:
            self.library.close(fd)
            raise
        self._vcpus.append(vcpu)
        if self._coalesced:
            self._find_ring()
        return vcpu

    # -- interrupts -------------------------------------------------------------------------------------------

    def irq_line(self, gsi: int) -> KvmIrqLine:
        """An input of the interrupt controllers in the kernel."""
        if self.config.irqchip != "full":
            raise UnsupportedError("interrupt lines need an interrupt controller in the accelerator: VmConfig(irqchip='full')")
        return KvmIrqLine(self, self._provider.line(self, gsi))

    def signal_msi(self, address: int, data: int) -> bool:
        """KVM_SIGNAL_MSI."""
        self.capabilities.require("msi")
        message = k.Msi(address & 0xFFFF_FFFF, address >> 32, data, 0, 0)
        return self.call(k.SIGNAL_MSI, byref(message), "KVM_SIGNAL_MSI") > 0

    def set_routes(self, routes: Iterable[MsiRoute | PinRoute]) -> None:
        """KVM_SET_GSI_ROUTING."""
        entries: list[k.IrqRoutingEntry] = []
        for route in routes:
            entry = k.IrqRoutingEntry(route.gsi, k.IRQ_ROUTING_IRQCHIP if isinstance(route, PinRoute) else k.IRQ_ROUTING_MSI)
            if isinstance(route, PinRoute):
                entry.u.irqchip = k.IrqRoutingIrqchip(_CHIPS[route.chip], route.pin)
            else:
                entry.u.msi = k.IrqRoutingMsi(route.address & 0xFFFF_FFFF, route.address >> 32, route.data, 0)
            entries.append(entry)
        size = sizeof(k.IrqRoutingEntry)
        buffer = create_string_buffer(sizeof(k.IrqRouting) + size * len(entries))
        struct.pack_into("<II", buffer, 0, len(entries), 0)
        for index, entry in enumerate(entries):
            memmove(addressof(buffer) + sizeof(k.IrqRouting) + index * size, byref(entry), size)
        self.call(k.SET_GSI_ROUTING, buffer, "KVM_SET_GSI_ROUTING")

    def add_irqfd(self, fd: int, gsi: int, resample: int | None = None) -> None:
        """KVM_IRQFD."""
        self.capabilities.require("irqfd")
        flags = 0 if resample is None else k.IRQFD_FLAG_RESAMPLE
        self.call(k.IRQFD, byref(k.Irqfd(fd, gsi, flags, resample or 0)), "KVM_IRQFD")

    def remove_irqfd(self, fd: int, gsi: int) -> None:
        """The reverse of `add_irqfd`."""
        self.call(k.IRQFD, byref(k.Irqfd(fd, gsi, k.IRQFD_FLAG_DEASSIGN, 0)), "KVM_IRQFD")

    def add_ioeventfd(self, fd: int, address: int, size: int, *, port: bool = False, match: int | None = None) -> None:
        """KVM_IOEVENTFD."""
        self.capabilities.require("ioeventfd")
        self._ioeventfd(fd, address, size, port, match, 0)

    def remove_ioeventfd(self, fd: int, address: int, size: int, *, port: bool = False, match: int | None = None) -> None:
        """The reverse of `add_ioeventfd`, with the same arguments."""
        self._ioeventfd(fd, address, size, port, match, k.IOEVENTFD_FLAG_DEASSIGN)

    def _ioeventfd(self, fd: int, address: int, size: int, port: bool, match: int | None, flags: int) -> None:
        flags |= (k.IOEVENTFD_FLAG_PIO if port else 0) | (0 if match is None else k.IOEVENTFD_FLAG_DATAMATCH)
        self.call(k.IOEVENTFD, byref(k.Ioeventfd(match or 0, address, size, fd, flags)), "KVM_IOEVENTFD")

    # -- coalesced writes -------------------------------------------------------------------------------------

    def coalesce(self, address: int, size: int, *, port: bool = False) -> None:
        """KVM_REGISTER_COALESCED_MMIO. Needs a vCPU, whose mapping has the ring."""
        self.capabilities.require("coalesced_mmio")
        self.call(k.REGISTER_COALESCED_MMIO, byref(k.CoalescedMmioZone(address, size, int(port))), "KVM_REGISTER_COALESCED_MMIO")
        self._coalesced = True
        self._find_ring()

    def _find_ring(self) -> None:
        if self._ring is None and self._vcpus:
            offset = self.has(k.CAP_COALESCED_MMIO) * PAGE
            self._ring = CoalescedRing(self._vcpus[0].page, offset)
        for vcpu in self._vcpus:
            vcpu.ring = self._ring

    def drain(self, bus: Bus) -> int:
        """Give collected writes to `bus`; returns how many. `run_with` does so at each exit."""
        return self._ring.drain(bus) if self._ring is not None else 0

    # -- life -------------------------------------------------------------------------------------------------

    def get_clock(self) -> int:
        """The guest's paravirtual clock, in nanoseconds (KVM_GET_CLOCK)."""
        self.capabilities.require("clock")
        data = k.ClockData()
        self.call(k.GET_CLOCK, byref(data), "KVM_GET_CLOCK")
        return int(data.clock)

    def set_clock(self, nanoseconds: int) -> None:
        """KVM_SET_CLOCK."""
        self.capabilities.require("clock")
        self.call(k.SET_CLOCK, byref(k.ClockData(nanoseconds, 0)), "KVM_SET_CLOCK")

    def close(self) -> None:
        """Give everything back; vCPUs that run in other threads come back with `Interrupted` first."""
        if self._closed:
            return
        self._closed = True
        for vcpu in self._vcpus:
            vcpu.close()
        for fd in (*self._devices, self._fd):
            if fd >= 0:
                self.library.close(fd)
        self._fd = -1
        if self._pinned and self.memory is not None:
            self.memory.unpin()
        self._ring = None

    def __enter__(self) -> KvmVm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _flags(readonly: bool, log_dirty: bool) -> int:
    return (k.MEM_READONLY if readonly else 0) | (k.MEM_LOG_DIRTY_PAGES if log_dirty else 0)


