"""A scripted Hypervisor.framework, for tests on hosts without it: registers, and exits that a test lists.

Its functions are C function pointers of the real signatures, so every call passes through the same conversions as on macOS. It
executes no instructions: `script` holds what the processor does next, functions that change registers and say why it came back.

    fake = ScriptedHvf("aarch64")
    fake.script.append(lambda fake: fake.exception(0x16 << 26))    # HVC
    vm = Hvf(fake.library, machine="arm64", set_simd=fake.set_simd).create_vm(VmConfig(guest="aarch64"))

After that it does what `scripts` say, steps of `polyvm.testing.steps` for each processor, in the order in which they are made.
"""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING, Any

from polyvm.accel.ffi import hvf as ffi
from polyvm.testing.library import ScriptedLibrary
from polyvm.testing.steps import (
    Failure,
    HaltStep,
    MmioRead,
    MmioWrite,
    PortRead,
    PortWrite,
    Script,
    ShutdownStep,
    Slot,
    Spin,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OK, _BAD, _NO_DEVICE, _BUSY = ffi.HV_SUCCESS, ffi.HV_BAD_ARGUMENT, ffi.HV_NO_DEVICE, ffi.HV_BUSY
_VMCS_OF = {number: name for name, number in ffi.VMCS.items()}
# What a processor allows (high half) and requires (low half) of the controls (Intel SDM, volume 3, A.3).
_CAPABILITIES = {0: 0x7F << 32 | 0x16, 1: 0xFFF9FFFE << 32 | 0x0401E172, 2: 0xFF << 32, 3: 0x3FFFF << 32 | 0x11FF}


class ScriptedHvf(ScriptedLibrary):
    """One virtual machine. After use: `registers` of the calling thread's virtual CPU by
    (kind, number), `mapped` ranges by address as (host, size, flags), `spis`
    and `messages` of the interrupt controller, `calls` in order."""

    def __init__(self, architecture: str, scripts: Sequence[Sequence[Step]] | None = None, *, gic: bool = True) -> None:
        super().__init__()
        self.architecture = architecture
        self.scripts = None if scripts is None else [Script(steps) for steps in scripts]
        self.script: list[Callable[[ScriptedHvf], None]] = []
        self._banks: dict[int, dict[tuple[str, int], int]] = {}
        self.mapped: dict[int, tuple[int, int, int]] = {}
        self.spis: list[tuple[int, bool]] = []
        self.messages: list[tuple[int, int]] = []
        self.pending: list[tuple[int, bool]] = []
        self.native: set[int] = set()
        self.machines = 0
        self.threads: dict[int, int] = {}
        self.fpstate = bytes(4096)
        self._cancelled: dict[int, threading.Event] = {}
        self._exits: dict[int, ffi.hv_vcpu_exit_t] = {}
        functions = dict(ffi.ARM_FUNCTIONS if architecture == "aarch64" else ffi.X86_FUNCTIONS)
        if architecture == "aarch64" and gic:
            functions |= ffi.GIC_FUNCTIONS
        self.library = self.functions(functions, ctypes.c_uint32)
        if architecture == "aarch64" and gic:
            self._create_gic = ctypes.CFUNCTYPE(ctypes.c_void_p)(lambda: 0x7000)
            setattr(self.library, ffi.GIC_CONFIG_CREATE, self._create_gic)

    @property
    def _here(self) -> int:
        """The virtual CPU of this thread; the first, where it has none."""
        return next((number for number, thread in self.threads.items() if thread == threading.get_ident()), 0)

    @property
    def registers(self) -> dict[tuple[str, int], int]:
        """Of this thread's virtual CPU."""
        return self._banks.setdefault(self._here, {})

    @property
    def _exit(self) -> ffi.hv_vcpu_exit_t:
        return self._exits[self._here]

    # -- what tests write scripts with --------------------------------------------------------------------------

    def exception(self, syndrome: int, *, virtual: int = 0, physical: int = 0) -> None:
        """aarch64: the guest took an exception to us."""
        self._exit.reason = ffi.HV_EXIT_REASON_EXCEPTION
        found = self._exit.exception
        found.syndrome, found.virtual_address, found.physical_address = syndrome, virtual, physical

    def leaves(self, reason: int) -> None:
        """aarch64: any other exit."""
        self._exit.reason = reason

    def vmx(self, reason: int, detail: int = 0, *, length: int = 2, **fields: int) -> None:
        """x86-64: a VMX exit with its qualification, and other fields of the VMCS."""
        basic = {"RO_EXIT_REASON": reason, "RO_EXIT_QUALIFIC": detail, "RO_VMEXIT_INSTR_LEN": length}
        for name, value in (basic | fields).items():
            self.registers["vmcs", ffi.VMCS[name]] = value

    def reg(self, name: str) -> int:
        """x86-64: a register by its name in the framework; aarch64: ``x0`` to ``x30``, or a system register by name."""
        if self.architecture == "x86_64":
            return self.registers.get(("reg", ffi.X86_REGISTERS[name]), 0)
        if name[0] == "x":
            return self.registers.get(("reg", int(name[1:])), 0)
        return self.registers.get(("sys", ffi.SYSTEM_REGISTERS[name]), 0)

    def vmcs(self, name: str) -> int:
        """x86-64: a field of the VMCS."""
        return self.registers.get(("vmcs", ffi.VMCS[name]), 0)

    # -- scripts of steps -----------------------------------------------------------------------------------------

    def _follow(self, script: Script) -> bool:
        """The exit of the next step; False: the guest only computes. What is read goes to x1, or to rax."""
        if script.waiting:
            script.answered(self.reg("x1" if self.architecture == "aarch64" else "RAX"))
        step = script.next(self.find)
        if isinstance(step, Spin):
            return False
        (self._follow_arm if self.architecture == "aarch64" else self._follow_x86)(step)
        return True

    def _follow_arm(self, step: Step) -> None:
        if isinstance(step, (MmioRead, MmioWrite)):
            write = isinstance(step, MmioWrite)
            if isinstance(step, MmioWrite):
                self.registers["reg", 1] = step.value
            size = step.size.bit_length() - 1
            self.exception(0x24 << 26 | 1 << 24 | size << 22 | 1 << 16 | 1 << 15 | write << 6, physical=step.address)
        elif isinstance(step, HaltStep):
            self.exception(0x01 << 26)
        elif isinstance(step, ShutdownStep):
            self.registers["reg", 0] = 0x8400_0008
            self.exception(0x16 << 26)
        elif isinstance(step, Failure):
            self.leaves(step.code)

    def _follow_x86(self, step: Step) -> None:
        if isinstance(step, (PortRead, PortWrite)):
            if isinstance(step, PortWrite):
                self.registers["reg", ffi.X86_REGISTERS["RAX"]] = step.value
            self.vmx(ffi.EXIT_IO, step.size - 1 | isinstance(step, PortRead) << 3 | step.port << 16, length=1)
        elif isinstance(step, (MmioRead, MmioWrite)):
            write = isinstance(step, MmioWrite)
            if isinstance(step, MmioWrite):
                self.registers["reg", ffi.X86_REGISTERS["RAX"]] = step.value
            # mov between [bx] and al, ax or eax, put where the guest is.
            code = (b"\x66" if step.size == 4 else b"") + bytes([(0x88 if write else 0x8A) + (step.size > 1), 0x07])
            place = self.vmcs("GUEST_CS_BASE") + self.reg("RIP")
            slot = self.find(place, len(code))
            assert slot is not None
            ctypes.memmove(slot.host + place - slot.address, code, len(code))
            self.vmx(ffi.EXIT_EPT_VIOLATION, 2 if write else 1)
            self.registers["vmcs", ffi.VMCS["GUEST_PHYSICAL_ADDRESS"]] = step.address
        elif isinstance(step, HaltStep):
            self.vmx(ffi.EXIT_HLT, length=1)
        elif isinstance(step, ShutdownStep):
            self.vmx(ffi.EXIT_TRIPLE_FAULT)
        elif isinstance(step, Failure):
            self.vmx(step.code)

    # -- machine and memory ---------------------------------------------------------------------------------------

    def _hv_vm_create(self, _: Any) -> int:
        if self.machines:
            return _BUSY
        self.machines = 1
        return _OK

    def _hv_vm_destroy(self) -> int:
        self.machines = 0
        return _OK

    def _hv_vm_map(self, host: int, address: int, size: int, flags: int) -> int:
        if not self.machines or (host | address | size) & 0xFFF:
            return _BAD
        self.mapped[address] = host, size, flags
        self.slots[address] = Slot(address, size, host, not flags & ffi.HV_MEMORY_WRITE)
        return _OK

    def _hv_vm_unmap(self, address: int, size: int) -> int:
        self.slots.pop(address, None)
        return _OK if self.mapped.pop(address, None) is not None else _BAD

    def _hv_vm_protect(self, address: int, size: int, flags: int) -> int:
        if address not in self.mapped:
            return _BAD
        self.mapped[address] = self.mapped[address][0], size, flags
        self.slots[address].readonly = not flags & ffi.HV_MEMORY_WRITE
        return _OK

    # -- processors -----------------------------------------------------------------------------------------------

    def _hv_vcpu_create(self, handle: Any, *more: Any) -> int:
        number = len(self._cancelled)
        if threading.get_ident() in self.threads.values():
            return _BUSY  # one for each thread
        self.threads[number] = threading.get_ident()
        self._banks[number], self._cancelled[number], self._exits[number] = {}, threading.Event(), ffi.hv_vcpu_exit_t()
        handle[0] = number
        if self.architecture == "aarch64":
            more[0][0] = ctypes.pointer(self._exit)
        return _OK

    def _owned(self, vcpu: int) -> bool:
        return self.threads.get(vcpu) == threading.get_ident()

    def _hv_vcpu_destroy(self, vcpu: int) -> int:
        if not self._owned(vcpu):
            return _NO_DEVICE
        del self.threads[vcpu]
        return _OK

    def _hv_vcpu_run(self, vcpu: int) -> int:
        if not self._owned(vcpu):
            return _NO_DEVICE
        cancelled = self._cancelled[vcpu]
        if not cancelled.is_set() and self.script:
            self.script.pop(0)(self)
            return _OK
        if not cancelled.is_set() and self.scripts is not None and self._follow(self.scripts[vcpu]):
            return _OK
        # A guest that only computes: until it is cancelled.
        cancelled.wait()
        cancelled.clear()
        if self.scripts is not None:
            self.scripts[vcpu].kicked()
        if self.architecture == "aarch64":
            self.leaves(ffi.HV_EXIT_REASON_CANCELED)
        else:
            self.vmx(ffi.EXIT_EXTERNAL_INTERRUPT)
        return _OK

    def _hv_vcpus_exit(self, vcpus: Any, count: int) -> int:
        for number in vcpus[:count]:
            self._cancelled[number].set()
        return _OK

    _hv_vcpu_interrupt = _hv_vcpus_exit

    def _get(self, kind: str, vcpu: int, number: int, value: Any) -> int:
        if not self._owned(vcpu):
            return _NO_DEVICE
        value[0] = self.registers.get((kind, number), 0)
        return _OK

    def _put(self, kind: str, vcpu: int, number: int, value: int) -> int:
        if not self._owned(vcpu):
            return _NO_DEVICE
        self.registers[kind, number] = value
        return _OK

    def _hv_vcpu_get_reg(self, vcpu: int, number: int, value: Any) -> int:
        return self._get("reg", vcpu, number, value) if number <= ffi.HV_REG_CPSR else _BAD

    def _hv_vcpu_set_reg(self, vcpu: int, number: int, value: int) -> int:
        return self._put("reg", vcpu, number, value) if number <= ffi.HV_REG_CPSR else _BAD

    def _hv_vcpu_get_sys_reg(self, vcpu: int, number: int, value: Any) -> int:
        return self._get("sys", vcpu, number, value)

    def _hv_vcpu_set_sys_reg(self, vcpu: int, number: int, value: int) -> int:
        return self._put("sys", vcpu, number, value)

    def _hv_vcpu_get_simd_fp_reg(self, vcpu: int, number: int, place: int) -> int:
        ctypes.memmove(place, self.registers.get(("simd", number), 0).to_bytes(16, "little"), 16)
        return _OK

    def set_simd(self, vcpu: Any, number: int, place: int) -> int:
        """In place of the routine that passes a vector by value."""
        return self._put("simd", vcpu.value, number, int.from_bytes(ctypes.string_at(place, 16), "little"))

    def _hv_vcpu_set_pending_interrupt(self, vcpu: int, kind: int, pending: bool) -> int:
        self.pending.append((kind, pending))
        return _OK

    def _hv_gic_set_spi(self, number: int, level: bool) -> int:
        self.spis.append((number, level))
        return _OK

    def _hv_gic_send_msi(self, address: int, number: int) -> int:
        self.messages.append((address, number))
        return _OK

    # -- Intel ----------------------------------------------------------------------------------------------------

    def _hv_vcpu_read_register(self, vcpu: int, number: int, value: Any) -> int:
        return self._get("reg", vcpu, number, value) if number < len(ffi.X86_REGISTERS) else _BAD

    def _hv_vcpu_write_register(self, vcpu: int, number: int, value: int) -> int:
        return self._put("reg", vcpu, number, value) if number < len(ffi.X86_REGISTERS) else _BAD

    def _hv_vmx_vcpu_read_vmcs(self, vcpu: int, field: int, value: Any) -> int:
        return self._get("vmcs", vcpu, field, value) if field in _VMCS_OF else _BAD

    def _hv_vmx_vcpu_write_vmcs(self, vcpu: int, field: int, value: int) -> int:
        # Fields of exit information are read-only.
        if _VMCS_OF.get(field, "RO_").startswith("RO_"):
            return _BAD
        return self._put("vmcs", vcpu, field, value)

    def _hv_vmx_read_capability(self, field: int, value: Any) -> int:
        if field not in _CAPABILITIES:
            return _BAD
        value[0] = _CAPABILITIES[field]
        return _OK

    def _hv_vcpu_enable_native_msr(self, vcpu: int, msr: int, enable: bool) -> int:
        self.native.add(msr)
        return _OK

    def _hv_vcpu_read_msr(self, vcpu: int, msr: int, value: Any) -> int:
        return self._get("msr", vcpu, msr, value) if msr in self.native else _BAD

    def _hv_vcpu_write_msr(self, vcpu: int, msr: int, value: int) -> int:
        return self._put("msr", vcpu, msr, value) if msr in self.native else _BAD

    def _hv_vcpu_read_fpstate(self, vcpu: int, buffer: int, size: int) -> int:
        ctypes.memmove(buffer, self.fpstate, min(size, len(self.fpstate)))
        return _OK

    def _hv_vcpu_write_fpstate(self, vcpu: int, buffer: int, size: int) -> int:
        self.fpstate = ctypes.string_at(buffer, size)
        return _OK
