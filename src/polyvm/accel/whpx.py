"""The Windows Hypervisor Platform: x86-64 guests on Windows 10 1803 and later."""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING, Any

from polyvm.accel.ffi import whpx as ffi
from polyvm.accel.whpx_vcpu import WhpxVcpu
from polyvm.errors import EngineError, UnsupportedError, UsageError
from polyvm.vcpu.capabilities import Availability, Capabilities
from polyvm.vcpu.contract import MsiRoute, PinRoute, VmConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from polyvm.vcpu.contract import IrqLine

C = ffi.CONSTANTS
_R, _W, _X = (C[f"WHvMapGpaRangeFlag{name}"] for name in ("Read", "Write", "Execute"))
_DIRTY = C["WHvMapGpaRangeFlagTrackDirtyPages"]
_EVENTFD = "event descriptors are a part of Linux"
_MISSING = {
    "irqchip": "the platform emulates local APICs, but no I/O APIC",
    "pit": "the platform emulates no i8254",
    "irqfd": _EVENTFD,
    "ioeventfd": _EVENTFD,
    "coalesced_mmio": "the platform does not collect writes",
    "msr_filter": "the platform exits for the MSRs that it does not know, no others",
    "clock": "Hyper-V's clock is for partitions with enlightenments, which are not offered",
    "nested": "nested virtualisation is not set up",
    "dirty_ring": "the platform has bitmaps",
    "xsave": "the extended state is not passed through; the registers of SSE are",
}


class _Slot:
    """A range of memory that the guest sees."""

    def __init__(self, address: int, host: int, size: int, *, readonly: bool, log_dirty: bool) -> None:
        self.address, self.host, self.size = address, host, size
        self.readonly, self.log_dirty = readonly, log_dirty

    @property
    def flags(self) -> int:
        """WHV_MAP_GPA_RANGE_FLAGS."""
        return _R | _X | (0 if self.readonly else _W) | (_DIRTY if self.log_dirty else 0)


class _Line:
    """An interrupt line: a message on its rising edge."""

    def __init__(self, vm: WhpxVm, gsi: int) -> None:
        self.vm, self.gsi, self.high = vm, gsi, False

    def set_level(self, high: bool) -> None:
        """Raise or lower it."""
        if high and not self.high:
            self.vm.raise_gsi(self.gsi)
        self.high = high

    def pulse(self) -> None:
        """Raise and lower it."""
        self.vm.raise_gsi(self.gsi)


class WhpxVm:
    """See `polyvm.vcpu.contract.Vm`."""

    guest = "x86_64"

    def __init__(self, owner: Whpx, config: VmConfig, capabilities: Capabilities) -> None:
        self.library, self.emulator = owner.libraries()
        self.config, self.capabilities = config, capabilities
        self.vcpus: Sequence[WhpxVcpu] = []
        self.handle = ctypes.c_void_p()
        self.is_set_up = False
        self._closed = False
        self._slots: dict[int, _Slot] = {}
        self._next = 0
        self._routes: dict[int, MsiRoute] = {}
        self._exceptions = 0
        self._before: list[Callable[[], None]] = []
        self.call("WHvCreatePartition", ctypes.byref(self.handle))
        self._pinned = False
        try:
            if config.memory is not None:
                config.memory.pin()
                self._pinned = True
                for region in config.memory.regions:
                    self.add_memory(region.address, region.host, region.size, readonly=region.readonly)
        except BaseException:
            self.close()
            raise

    # -- calls ------------------------------------------------------------------------------------------------

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the platform; raises EngineError with its HRESULT."""
        status = getattr(self.library, name)(*arguments)
        if status < 0:
            raise EngineError(f"whpx: {name} answers {status & 0xFFFF_FFFF:#010x}")

    def call_emulator(self, name: str, *arguments: Any) -> None:
        """The same for the instruction emulator."""
        status = getattr(self.emulator, name)(*arguments)
        if status < 0:
            raise EngineError(f"whpx: {name} answers {status & 0xFFFF_FFFF:#010x}")

    def pause(self) -> None:
        """Let another thread come out of `run`."""
        time.sleep(0.001)

    def _property(self, name: str, value: Any) -> None:
        code = C[f"WHvPartitionPropertyCode{name}"]
        self.call("WHvSetPartitionProperty", self.handle, code, ctypes.byref(value), ctypes.sizeof(value))

    def set_up(self) -> None:
        """Say what the partition is like; after that it is fixed."""
        if self.is_set_up:
            return
        self._property("ProcessorCount", ctypes.c_uint32(self.config.vcpus))
        functions = sorted({function for vcpu in self.vcpus for function, _ in vcpu.cpuid})
        wanted = ffi.EXIT_EXCEPTION if self._exceptions else 0
        if functions:
            wanted |= ffi.EXIT_CPUID
        if self.config.msr_exits:
            wanted |= ffi.EXIT_MSR
        if wanted:
            self._property("ExtendedVmExits", ctypes.c_uint64(wanted))
        if functions:
            self._property("CpuidExitList", (ctypes.c_uint32 * len(functions))(*functions))
        if self._exceptions:
            self._property("ExceptionExitBitmap", ctypes.c_uint64(self._exceptions))
        if self.config.irqchip == "split":
            self._property("LocalApicEmulationMode", ctypes.c_uint32(C["WHvX64LocalApicEmulationModeXApic"]))
        self.call("WHvSetupPartition", self.handle)
        self.is_set_up = True
        for work in self._before:
            work()
        self._before.clear()

    def want_exceptions(self, debug: bool, software: bool) -> None:
        """Have #DB and #BP come out of the guest."""
        wanted = debug << 1 | software << 3
        if wanted & ~self._exceptions:
            if self.is_set_up:
                raise UnsupportedError("whpx: debugging is asked for before the first virtual CPU is used")
            self._exceptions |= wanted

    # -- memory -----------------------------------------------------------------------------------------------

    def _when_set_up(self, work: Callable[[], None]) -> None:
        if self.is_set_up:
            work()
        else:
            self._before.append(work)

    def _map(self, slot: _Slot) -> None:
        self.call("WHvMapGpaRange", self.handle, slot.host, slot.address, slot.size, slot.flags)

    def _unmap(self, slot: _Slot) -> None:
        self.call("WHvUnmapGpaRange", self.handle, slot.address, slot.size)

    def add_memory(self, address: int, host: int, size: int, *, readonly: bool = False, log_dirty: bool = False) -> int:
        """Show memory of this process to the guest."""
        if (address | host | size) & 0xFFF or size <= 0:
            raise UsageError(f"guest memory comes in pages of 4096 bytes, not {size:#x} bytes at {address:#x}")
        for other in self._slots.values():
            if address < other.address + other.size and other.address < address + size:
                raise UsageError(f"guest memory at {address:#x} overlaps that at {other.address:#x}")
        if log_dirty:
            self.capabilities.require("dirty_log")
        slot = _Slot(address, host, size, readonly=readonly, log_dirty=log_dirty)
        number, self._next = self._next, self._next + 1
        self._slots[number] = slot
        self._when_set_up(lambda: self._map(slot) if self._slots.get(number) is slot else None)
        return number

    def _slot(self, number: int) -> _Slot:
        if number not in self._slots:
            raise UsageError(f"there is no memory slot {number}")
        return self._slots[number]

    def set_memory_flags(self, slot: int, *, readonly: bool, log_dirty: bool) -> None:
        """Change what may be done to it."""
        found = self._slot(slot)
        if log_dirty:
            self.capabilities.require("dirty_log")
        found.readonly, found.log_dirty = readonly, log_dirty
        if self.is_set_up:
            self._unmap(found)
            self._map(found)

    def remove_memory(self, slot: int) -> None:
        """Take it away from the guest."""
        found = self._slot(slot)
        del self._slots[slot]
        if self.is_set_up:
            self._unmap(found)

    def is_readonly(self, address: int) -> bool:
        """Whether the guest may not write to `address`."""
        return any(s.readonly for s in self._slots.values() if s.address <= address < s.address + s.size)

    def dirty_log(self, slot: int) -> bytes:
        """The pages that were written to since the last call."""
        found = self._slot(slot)
        if not found.log_dirty:
            raise UsageError(f"memory slot {slot} does not log what is written to")
        self.set_up()
        words = -(-(found.size >> 12) // 64)
        bitmap = (ctypes.c_uint64 * words)()
        self.call("WHvQueryGpaRangeDirtyBitmap", self.handle, found.address, found.size, bitmap, ctypes.sizeof(bitmap))
        return bytes(bitmap)[: -(-(found.size >> 12) // 8)]

    # -- interrupts -------------------------------------------------------------------------------------------

    def irq_line(self, gsi: int) -> IrqLine:
        """A line that becomes a message, by the routes."""
        if self.config.irqchip != "split":
            raise UnsupportedError("whpx: interrupt lines need irqchip=split, and routes")
        return _Line(self, gsi)

    def raise_gsi(self, gsi: int) -> None:
        """Deliver the message that `gsi` is routed to."""
        route = self._routes.get(gsi)
        if route is not None:
            self.signal_msi(route.address, route.data)

    def signal_msi(self, address: int, data: int) -> bool:
        """Deliver a message (Intel SDM, volume 3, 11.11)."""
        if self.config.irqchip != "split":
            raise UnsupportedError("whpx: messages need irqchip=split")
        self.set_up()
        kind = data >> 8 & 7 | (address >> 2 & 1) << 8 | (data >> 15 & 1) << 12
        control = ffi.WHV_INTERRUPT_CONTROL(kind, address >> 12 & 0xFF, data & 0xFF)
        self.call("WHvRequestInterrupt", self.handle, ctypes.byref(control), ctypes.sizeof(control))
        return True

    def set_routes(self, routes: Iterable[MsiRoute | PinRoute]) -> None:
        """Replace the routes; only messages can be reached."""
        new: dict[int, MsiRoute] = {}
        for route in routes:
            if isinstance(route, PinRoute):
                raise UnsupportedError(f"whpx: {_MISSING['irqchip']}, so interrupt {route.gsi} needs a message")
            new[route.gsi] = route
        self._routes = new

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

    # -- life -------------------------------------------------------------------------------------------------

    def create_vcpu(self, number: int) -> WhpxVcpu:
        """Another virtual CPU."""
        if not 0 <= number < self.config.vcpus or any(vcpu.id == number for vcpu in self.vcpus):
            raise UsageError(f"there is no virtual CPU {number} to make; the machine has {self.config.vcpus}")
        vcpu = WhpxVcpu(self, number)
        self.vcpus = [*self.vcpus, vcpu]
        return vcpu

    def close(self) -> None:
        """End the machine."""
        if self._closed:
            return
        self._closed = True
        for vcpu in self.vcpus:
            vcpu.close()
        self.library.WHvDeletePartition(self.handle)
        if self._pinned and self.config.memory is not None:
            self.config.memory.unpin()


class Whpx:
    """The accelerator. `libraries` are the platform and its instruction emulator, others than the host's in tests."""

    name = "whpx"

    def __init__(self, libraries: tuple[Any, Any] | None = None) -> None:
        self._libraries = libraries

    def libraries(self) -> tuple[Any, Any]:
        """The platform and its emulator; raises UnsupportedError where they are missing."""
        if self._libraries is None:
            try:
                self._libraries = ffi.library(), ffi.emulator()
            except (OSError, AttributeError) as error:
                raise UnsupportedError(
                    f"whpx: {error}; it needs Windows with the optional feature Windows Hypervisor Platform turned on"
                ) from error
        return self._libraries

    def _capability(self, name: str) -> int:
        """A capability as a number; 0 where the platform does not know it."""
        library, value, written = self.libraries()[0], ctypes.c_uint64(), ctypes.c_uint32()
        code = C[f"WHvCapabilityCode{name}"]
        status = library.WHvGetCapability(code, ctypes.byref(value), ctypes.sizeof(value), ctypes.byref(written))
        return int(value.value) if status >= 0 else 0

    def probe(self) -> Availability:
        """Is the platform there, and turned on?"""
        try:
            present = self._capability("HypervisorPresent") & 1
        except UnsupportedError as error:
            return Availability(self.name, False, str(error).removeprefix("whpx: "))
        if not present:
            return Availability(self.name, False, "the hypervisor does not run: turn on Windows Hypervisor Platform and restart")
        features, extended = self._capability("Features"), self._capability("ExtendedVmExits")
        apic = bool(features & ffi.FEATURE_LOCAL_APIC)
        debug = bool(extended & ffi.EXIT_EXCEPTION)
        return Availability(self.name, True, capabilities=Capabilities(
            guests=("x86_64",), max_vcpus=64, memory_slots=1 << 16, readonly_memory=True,
            dirty_log=bool(features & ffi.FEATURE_DIRTY_PAGES), split_irqchip=apic, msi=apic,
            msr_exits=bool(extended & ffi.EXIT_MSR), cpuid=bool(extended & ffi.EXIT_CPUID),
            hide_features=bool(extended & ffi.EXIT_CPUID), single_step=debug, software_breakpoints=debug,
            hardware_breakpoints=debug, full_system=True, real_mode=True, missing=_MISSING,
        ))  # fmt: skip

    def create_vm(self, config: VmConfig) -> WhpxVm:
        """A partition."""
        found = self.probe()
        if not found.present:
            raise UnsupportedError(f"whpx: {found.reason}")
        if config.guest != "x86_64":
            raise UnsupportedError(f"whpx: runs x86_64 guests, not {config.guest}")
        if config.irqchip == "full" or config.pit:
            found.capabilities.require("pit" if config.pit else "irqchip")
        elif config.irqchip == "split":
            found.capabilities.require("split_irqchip")
        if config.msr_exits:
            found.capabilities.require("msr_exits")
        if not 1 <= config.vcpus <= found.capabilities.max_vcpus:
            raise UsageError(f"a machine has 1 to {found.capabilities.max_vcpus} virtual CPUs here, not {config.vcpus}")
        return WhpxVm(self, config, found.capabilities)


accelerator = Whpx()
