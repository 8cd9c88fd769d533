"""The Windows Hypervisor Platform: x86-64 guests on Windows 10 1803 and later."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from polyvm.accel.ffi import whpx as ffi
from polyvm.accel.frame import LibraryVm, Slot
from polyvm.accel.whpx_vcpu import WhpxVcpu
from polyvm.errors import EngineError, UnsupportedError, UsageError
from polyvm.vcpu.capabilities import Availability, Capabilities
from polyvm.vcpu.contract import MsiRoute, PinRoute, VmConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


class WhpxVm(LibraryVm):
    """See `polyvm.vcpu.contract.Vm`. What the partition is like is fixed when a virtual CPU is first used: so long, ranges of
    memory wait to be mapped."""

    vcpus: Sequence[WhpxVcpu]

    def __init__(self, owner: Whpx, config: VmConfig, capabilities: Capabilities) -> None:
        super().__init__(config, capabilities)
        self.library, self.emulator = owner.libraries()
        self.handle = ctypes.c_void_p()
        self.is_set_up = False
        self._routes: dict[int, MsiRoute] = {}
        self._exceptions = 0
        self.call("WHvCreatePartition", ctypes.byref(self.handle))
        try:
            self.show_memory()
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
        for slot in self._slots.values():
            self._map(slot)

    def want_exceptions(self, debug: bool, software: bool) -> None:
        """Have #DB and #BP come out of the guest."""
        wanted = debug << 1 | software << 3
        if wanted & ~self._exceptions:
            if self.is_set_up:
                raise UnsupportedError("whpx: debugging is asked for before the first virtual CPU is used")
            self._exceptions |= wanted

    # -- memory -----------------------------------------------------------------------------------------------

    def _map(self, slot: Slot) -> None:
        if self.is_set_up:
            flags = _R | _X | (0 if slot.readonly else _W) | (_DIRTY if slot.log_dirty else 0)
            self.call("WHvMapGpaRange", self.handle, slot.host, slot.address, slot.size, flags)

    def _unmap(self, slot: Slot) -> None:
        if self.is_set_up:
            self.call("WHvUnmapGpaRange", self.handle, slot.address, slot.size)

    def _protect(self, slot: Slot) -> None:
        self._unmap(slot)
        self._map(slot)

    def _dirty(self, slot: Slot) -> bytes:
        self.set_up()
        pages = slot.size >> 12
        bitmap = (ctypes.c_uint64 * -(-pages // 64))()
        self.call("WHvQueryGpaRangeDirtyBitmap", self.handle, slot.address, slot.size, bitmap, ctypes.sizeof(bitmap))
        return bytes(bitmap)[: -(-pages // 8)]

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

    # -- life -------------------------------------------------------------------------------------------------

    def _new_vcpu(self, number: int) -> WhpxVcpu:
        return WhpxVcpu(self, number)

    def _destroy(self) -> None:
        self.library.WHvDeletePartition(self.handle)


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
