"""KVM (Linux): what the host's kernel offers, and new VMs."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from typing import TYPE_CHECKING

from polyvm.accel.ffi import kvm as k
from polyvm.accel.ffi import kvm_x86_64 as x
from polyvm.accel.kvm_vm import KvmVm, Provider
from polyvm.errors import UnsupportedError
from polyvm.vcpu.capabilities import Availability, Capabilities

if TYPE_CHECKING:
    from polyvm.vcpu.contract import VmConfig

# The feature of `Capabilities` that each extension stands for.
_EXTENSIONS = {
    "readonly_memory": k.CAP_READONLY_MEM,
    "irqchip": k.CAP_IRQCHIP,
    "split_irqchip": k.CAP_SPLIT_IRQCHIP,
    "pit": x.CAP_PIT2,
    "msi": k.CAP_SIGNAL_MSI,
    "irqfd": k.CAP_IRQFD,
    "ioeventfd": k.CAP_IOEVENTFD,
    "coalesced_mmio": k.CAP_COALESCED_MMIO,
    "msr_exits": k.CAP_X86_USER_SPACE_MSR,
    "msr_filter": k.CAP_X86_MSR_FILTER,
    "cpuid": k.CAP_EXT_CPUID,
    "xsave": x.CAP_XSAVE,
    "single_step": k.CAP_SET_GUEST_DEBUG,
    "clock": k.CAP_ADJUST_CLOCK,
    "nested": k.CAP_NESTED_STATE,
}
_X86_ONLY = ("split_irqchip", "pit", "msr_exits", "msr_filter", "cpuid", "hide_features", "xsave", "clock", "real_mode")
# What kvm_pvm, a KVM without virtualisation in hardware, does not do although it has the extension.
_PVM = "the host's KVM is kvm_pvm, which runs guests without virtualisation in hardware"
_PVM_MISSING = {
    "hide_features": f"{_PVM}: the guest sees the host's CPUID",
    "software_breakpoints": f"{_PVM}: its emulator does not do int3",
    "nested": _PVM,
}
PVM_MODULE = "/sys/module/kvm_pvm"
_ARCHITECTURES = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


class Kvm:
    """The accelerator. `library` and `machine` (the host's processor) are other ones in tests."""

    name = "kvm"

    def __init__(self, library: k.Library | None = None, *, device: str = "/dev/kvm", machine: str | None = None) -> None:
        self._library = library
        self._device = device
        self.machine = _ARCHITECTURES.get(machine or platform.machine(), machine or platform.machine())

    def _open(self) -> tuple[k.Library, int]:
        """The device, of the right version; raises UnsupportedError with a reason."""
        if self._library is None:
            if platform.system() != "Linux":
                raise UnsupportedError(f"KVM is a part of Linux; this is {platform.system()}")
            self._library = k.Library()
        if self.machine not in ("x86_64", "aarch64"):
            raise UnsupportedError(f"polyvm knows KVM on x86-64 and aarch64, not on {self.machine}")
        library = self._library
        try:
            fd = library.open(self._device)
        except FileNotFoundError:
            raise UnsupportedError(
                f"there is no {self._device}: the kernel has no KVM, or virtualisation is off in the firmware's set-up"
            ) from None
        except PermissionError:
            raise UnsupportedError(f"no permission to open {self._device}: join the group that owns it (often kvm)") from None
        except OSError as error:
            raise UnsupportedError(f"{self._device} cannot be opened: {os.strerror(error.errno or 0)}") from None
        version = library.ioctl(fd, k.GET_API_VERSION, None)
        if version != k.API_VERSION:
            library.close(fd)
            raise UnsupportedError(f"{self._device} is not a KVM of version {k.API_VERSION} (it answers {version})")
        return library, fd

    def probe(self) -> Availability:
        """What this host's KVM offers."""
        try:
            library, fd = self._open()
        except UnsupportedError as error:
            return Availability(self.name, present=False, reason=str(error))
        try:
            if any(library.ioctl(fd, k.CHECK_EXTENSION, needed) <= 0 for needed in (k.CAP_USER_MEMORY, k.CAP_IMMEDIATE_EXIT)):
                return Availability(self.name, present=False, reason="this KVM has no immediate_exit: it needs Linux 4.13")
            version = f"API {k.API_VERSION}{self._kind()}"
            return Availability(self.name, present=True, version=version, capabilities=self._ask(library, fd))
        finally:
            library.close(fd)

    def _kind(self) -> str:
        for kind in ("kvm_intel", "kvm_amd", "kvm_pvm"):
            with suppress(OSError):
                if os.path.isdir(f"/sys/module/{kind}") and isinstance(self._library, k.Library) and self._device == "/dev/kvm":
                    return f", {kind}"
        return ""

    def _ask(self, library: k.Library, fd: int) -> Capabilities:
        def has(extension: int) -> int:
            return max(0, library.ioctl(fd, k.CHECK_EXTENSION, extension))

        x86 = self.machine == "x86_64"
        found = {name: bool(has(extension)) for name, extension in _EXTENSIONS.items()}
        found |= {"dirty_log": True, "full_system": True, "software_breakpoints": found["single_step"]}
        found |= {"hardware_breakpoints": found["single_step"] if x86 else bool(has(k.CAP_GUEST_DEBUG_HW_BPS))}
        found |= {"hide_features": True, "real_mode": True, "irqchip": found["irqchip"] if x86 else bool(has(k.CAP_DEVICE_CTRL))}
        missing = {"dirty_ring": "polyvm takes KVM's bitmaps"}
        if not x86:
            for name in _X86_ONLY:
                found[name] = False
                missing[name] = "only on x86-64"
        if self._kind() == ", kvm_pvm":
            for name, reason in _PVM_MISSING.items():
                found[name] = False
                missing[name] = reason
        return Capabilities(
            guests=(self.machine,),
            max_vcpus=has(k.CAP_MAX_VCPUS) or has(k.CAP_NR_VCPUS) or 4,
            memory_slots=has(k.CAP_NR_MEMSLOTS) or 32,
            missing=missing,
            **found,
        )

    def create_vm(self, config: VmConfig) -> KvmVm:
        """A new VM; raises UnsupportedError where KVM, or something that `config` asks for, is missing."""
        library, fd = self._open()
        try:
            capabilities = self._ask(library, fd)
            if config.guest not in capabilities.guests:
                raise UnsupportedError(f"KVM runs guests of the host's own architecture, {self.machine}, not {config.guest}")
            if self.machine == "x86_64":
                from polyvm.accel.kvm_x86_64 import X86Provider

                provider: Provider = X86Provider()
            else:
                from polyvm.accel.kvm_aarch64 import A64Provider

                provider = A64Provider()
            return KvmVm(library, fd, self._device, config, capabilities, provider)
        finally:
            library.close(fd)


accelerator = Kvm()
