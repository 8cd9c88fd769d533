"""Hypervisor.framework: aarch64 guests on Apple silicon, x86-64 guests on Intel Macs."""

from __future__ import annotations

import ctypes
import mmap
import platform
from typing import TYPE_CHECKING, Any

from polyvm.accel.ffi import hvf as ffi
from polyvm.accel.frame import LibraryVm, Slot, not_routed
from polyvm.errors import EngineError, UnsupportedError, UsageError
from polyvm.vcpu.capabilities import Availability, Capabilities

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polyvm.accel.hvf_vcpu import HvfVcpu
    from polyvm.vcpu.contract import IrqLine, MsiRoute, PinRoute, VmConfig

_GUESTS = ("aarch64", "x86_64")
_R, _W, _X = ffi.HV_MEMORY_READ, ffi.HV_MEMORY_WRITE, ffi.HV_MEMORY_EXEC
_EVENTFD = "event descriptors are a part of Linux"
_MISSING = {
    "dirty_ring": "the framework has no log of its own",
    "dirty_log": "the framework has no log of its own",
    "irqfd": _EVENTFD,
    "ioeventfd": _EVENTFD,
    "coalesced_mmio": "the framework does not collect writes",
    "pit": "the framework emulates no i8254",
    "split_irqchip": "the framework emulates no local APICs for this",
    "clock": "the framework has no paravirtual clock",
    "nested": "nested virtualisation is not set up",
    "msr_filter": "the framework exits for the registers that are not enabled, no others",
}


class _Line:
    """An interrupt line: an input of the framework's GIC, or, without one, of a processor."""

    def __init__(self, vm: HvfVm, gsi: int) -> None:
        self.vm, self.gsi = vm, gsi

    def set_level(self, high: bool) -> None:
        """Raise or lower it."""
        self.vm.set_line(self.gsi, high)

    def pulse(self) -> None:
        """Raise and lower it."""
        self.vm.set_line(self.gsi, True)
        self.vm.set_line(self.gsi, False)


class HvfVm(LibraryVm):
    """See `polyvm.vcpu.contract.Vm`. The framework has one virtual machine in a process."""

    vcpus: Sequence[HvfVcpu]

    def __init__(self, owner: Hvf, config: VmConfig, capabilities: Capabilities) -> None:
        super().__init__(config, capabilities)
        self.owner = owner
        self.library = owner.library()
        self.lines: dict[int, bool] = {}
        self.call("hv_vm_create", None if self.guest == "aarch64" else 0)
        try:
            if config.irqchip == "full":
                self._create_gic()
            self.show_memory()
        except BaseException:
            self.close()
            raise

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the framework; raises EngineError with what it answers."""
        status = getattr(self.library, name)(*arguments)
        if status:
            said = ffi.RETURNS.get(status, f"{status:#x}")
            hint = "; the program needs the entitlement com.apple.security.hypervisor" if status == ffi.HV_DENIED else ""
            raise EngineError(f"hvf: {name} answers {said}{hint}")

    def _create_gic(self) -> None:
        distributor, redistributor = self.config.gic
        gic = getattr(self.library, ffi.GIC_CONFIG_CREATE)()
        self.call("hv_gic_config_set_distributor_base", gic, distributor)
        self.call("hv_gic_config_set_redistributor_base", gic, redistributor)
        self.call("hv_gic_create", gic)

    # -- memory -----------------------------------------------------------------------------------------------

    @staticmethod
    def _flags(slot: Slot) -> int:
        return _R | _X | (0 if slot.readonly else _W)

    def _map(self, slot: Slot) -> None:
        self.call("hv_vm_map", slot.host, slot.address, slot.size, self._flags(slot))

    def _unmap(self, slot: Slot) -> None:
        self.call("hv_vm_unmap", slot.address, slot.size)

    def _protect(self, slot: Slot) -> None:
        self.call("hv_vm_protect", slot.address, slot.size, self._flags(slot))

    # -- interrupts -------------------------------------------------------------------------------------------

    def irq_line(self, gsi: int) -> IrqLine:
        """With a GIC: shared peripheral interrupt `gsi`; without one: the IRQ input of virtual CPU `gsi`."""
        return _Line(self, gsi)

    def set_line(self, gsi: int, high: bool) -> None:
        """Raise or lower a line."""
        if self.config.irqchip == "full":
            self.call("hv_gic_set_spi", gsi, high)
            return
        self.lines[gsi] = high
        if high:
            for vcpu in self.vcpus:
                if vcpu.id == gsi:
                    vcpu.poke()

    def signal_msi(self, address: int, data: int) -> bool:
        """A message to the framework's GIC."""
        if self.config.irqchip != "full":
            raise UnsupportedError("hvf: messages need irqchip=full")
        self.call("hv_gic_send_msi", address, data)
        return True

    def set_routes(self, routes: Iterable[MsiRoute | PinRoute]) -> None:
        """Lines have their own numbers here: no other routes."""
        not_routed(routes, "hvf")

    # -- life -------------------------------------------------------------------------------------------------

    def _new_vcpu(self, number: int) -> HvfVcpu:
        """It belongs to the thread that first runs it."""
        if self.guest == "aarch64":
            from polyvm.accel.hvf_aarch64 import HvfA64

            return HvfA64(self, number)
        from polyvm.accel.hvf_x86_64 import HvfX86

        return HvfX86(self, number)

    def _destroy(self) -> None:
        self.library.hv_vm_destroy()


class Hvf:
    """The accelerator. In tests `library` is another one than the framework, and `machine` another processor."""

    name = "hvf"

    def __init__(self, library: Any = None, *, machine: str | None = None, set_simd: Any = None) -> None:
        self._library = library
        self.set_simd = set_simd
        named = machine or platform.machine()
        self.guest = {"arm64": "aarch64", "AMD64": "x86_64"}.get(named, named)

    def library(self) -> Any:
        """The framework; raises UnsupportedError where it is missing."""
        if self._library is None:
            try:
                self._library = ffi.library(self.guest)
            except (OSError, AttributeError) as error:
                raise UnsupportedError(f"hvf: Hypervisor.framework is a part of macOS 11 and later ({error})") from error
        return self._library

    def probe(self) -> Availability:
        """Is the framework there, and does it let us make a machine?"""
        if self._library is None and platform.system() != "Darwin":
            return Availability(self.name, False, f"Hypervisor.framework is a part of macOS; this is {platform.system()}")
        try:
            library = self.library()
        except UnsupportedError as error:
            return Availability(self.name, False, str(error).removeprefix("hvf: "))
        if self.guest not in _GUESTS:
            return Availability(self.name, False, f"the framework has no guests on {self.guest}")
        arm = self.guest == "aarch64"
        gic = arm and hasattr(library, ffi.GIC_CONFIG_CREATE)
        missing = dict(_MISSING)
        if not gic:
            missing["irqchip"] = "the framework has an interrupt controller on Apple silicon with macOS 15 and later"
        return Availability(self.name, True, capabilities=Capabilities(
            guests=(self.guest,), max_vcpus=64, memory_slots=1 << 10, readonly_memory=True, irqchip=gic, msi=gic,
            msr_exits=True, cpuid=not arm, hide_features=not arm, single_step=True, software_breakpoints=arm,
            hardware_breakpoints=arm, full_system=True, real_mode=not arm, missing=missing,
        ))  # fmt: skip

    def create_vm(self, config: VmConfig) -> HvfVm:
        """A machine."""
        found = self.probe()
        if not found.present:
            raise UnsupportedError(f"hvf: {found.reason}")
        if config.guest != self.guest:
            raise UnsupportedError(f"hvf: runs {self.guest} guests here, not {config.guest}")
        if config.irqchip != "none":
            found.capabilities.require("irqchip" if config.irqchip == "full" else "split_irqchip")
        if config.pit:
            found.capabilities.require("pit")
        if not 1 <= config.vcpus <= found.capabilities.max_vcpus:
            raise UsageError(f"a machine has 1 to {found.capabilities.max_vcpus} virtual CPUs here, not {config.vcpus}")
        return HvfVm(self, config, found.capabilities)

    def simd_setter(self) -> Any:
        """A function (vcpu, register, address of 16 bytes) for hv_vcpu_set_simd_fp_reg, which ctypes cannot call."""
        if self.set_simd is None:
            library = self.library()
            system = ctypes.CDLL(None)
            code = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANON | ffi.MAP_JIT, 7)
            system.pthread_jit_write_protect_np(0)
            code.write(ffi.SET_SIMD_CODE)
            system.pthread_jit_write_protect_np(1)
            start = ctypes.addressof(ctypes.c_char.from_buffer(code))
            system.sys_icache_invalidate(ctypes.c_void_p(start), ctypes.c_size_t(len(ffi.SET_SIMD_CODE)))
            routine = ctypes.CFUNCTYPE(ctypes.c_uint32, *ffi.SET_SIMD_PARAMETERS)(start)
            target = ctypes.cast(getattr(library, ffi.SET_SIMD), ctypes.c_void_p)

            def set_simd(vcpu: Any, register: int, place: int) -> int:
                status: int = routine(vcpu, register, place, target)
                return status

            self.set_simd = set_simd
            self._code = code
        return self.set_simd


accelerator = Hvf()
