"""KVM's vCPUs on aarch64: one-reg registers, GICv3, PSCI, debugging."""

from __future__ import annotations

import struct
from ctypes import addressof, byref, c_uint32, c_uint64, create_string_buffer
from typing import TYPE_CHECKING, Any

from polyvm.accel.ffi import kvm as k
from polyvm.accel.ffi import kvm_aarch64 as a
from polyvm.accel.kvm_vcpu import KvmVcpu
from polyvm.accel.registers import checked
from polyvm.errors import MemoryFault, UsageError
from polyvm.vcpu.aarch64 import A64Fpu, A64Regs, A64Special
from polyvm.vcpu.machine_exits import Debug, EmulationFailure, VmExit

if TYPE_CHECKING:
    from polyvm.accel.kvm_vm import KvmVm
    from polyvm.vcpu.contract import DebugControl

_CORE64 = k.REG_ARM64 | k.REG_SIZE_U64 | a.REG_ARM_CORE
_CORE32 = k.REG_ARM64 | k.REG_SIZE_U32 | a.REG_ARM_CORE
_CORE128 = k.REG_ARM64 | k.REG_SIZE_U128 | a.REG_ARM_CORE
_FP = a.Regs.fp_regs.offset

# Members of struct kvm_regs → the number that KVM_GET_ONE_REG has for them: their offset in words.
CORE: dict[str, int] = {
    **{f"regs.regs[{i}]": _CORE64 | 2 * i for i in range(31)},
    "regs.sp": _CORE64 | 62,
    "regs.pc": _CORE64 | 64,
    "regs.pstate": _CORE64 | 66,
    "sp_el1": _CORE64 | a.Regs.sp_el1.offset // 4,
    "elr_el1": _CORE64 | a.Regs.elr_el1.offset // 4,
    "spsr[0]": _CORE64 | a.Regs.spsr.offset // 4,
}
VECTOR = tuple(_CORE128 | (_FP + 16 * i) // 4 for i in range(32))
FPSR, FPCR = _CORE32 | (_FP + 512) // 4, _CORE32 | (_FP + 516) // 4

_GENERAL = checked(
    A64Regs,
    [*((f"x{i}", CORE[f"regs.regs[{i}]"]) for i in range(31)), *((name, CORE[f"regs.{name}"]) for name in ("pc", "pstate"))],
    without=("sp",),  # SP_EL0 or SP_EL1
)
# System registers by their encodings (op0, op1, CRn, CRm, op2), DDI 0487, D19.2.
_ENCODINGS: dict[str, tuple[int, int, int, int, int]] = {
    "sctlr_el1": (3, 0, 1, 0, 0), "actlr_el1": (3, 0, 1, 0, 1), "cpacr_el1": (3, 0, 1, 0, 2), "ttbr0_el1": (3, 0, 2, 0, 0),
    "ttbr1_el1": (3, 0, 2, 0, 1), "tcr_el1": (3, 0, 2, 0, 2), "afsr0_el1": (3, 0, 5, 1, 0), "afsr1_el1": (3, 0, 5, 1, 1),
    "esr_el1": (3, 0, 5, 2, 0), "far_el1": (3, 0, 6, 0, 0), "par_el1": (3, 0, 7, 4, 0), "mair_el1": (3, 0, 10, 2, 0),
    "amair_el1": (3, 0, 10, 3, 0), "vbar_el1": (3, 0, 12, 0, 0), "contextidr_el1": (3, 0, 13, 0, 1),
    "tpidr_el1": (3, 0, 13, 0, 4),
    "tpidr_el0": (3, 3, 13, 0, 2), "tpidrro_el0": (3, 3, 13, 0, 3), "cntkctl_el1": (3, 0, 14, 1, 0), "mdscr_el1": (2, 0, 0, 2, 2),
    "midr_el1": (3, 0, 0, 0, 0), "mpidr_el1": (3, 0, 0, 0, 5),
}  # fmt: skip
SYSTEM = {encoding: a.sysreg(*encoding) for encoding in _ENCODINGS.values()}
_SPECIAL = checked(
    A64Special,
    [
        *((name, SYSTEM[encoding]) for name, encoding in _ENCODINGS.items()),
        ("sp_el0", CORE["regs.sp"]), ("sp_el1", CORE["sp_el1"]), ("elr_el1", CORE["elr_el1"]), ("spsr_el1", CORE["spsr[0]"]),
        ("cntv_ctl_el0", a.REG_ARM_TIMER_CTL), ("cntv_cval_el0", a.REG_ARM_TIMER_CVAL),
    ],
)  # fmt: skip
_READ_ONLY = ("midr_el1", "mpidr_el1")
_GIC_INTERRUPTS = 256
# Exception classes of ESR_EL2 (DDI 0487, D19.2.37).
_STEPS, _HARDWARE, _WATCH, _BRK = (0x32, 0x33), (0x30, 0x31), (0x34, 0x35), 0x3C


class A64Provider:
    """What aarch64 adds to a VM."""

    def __init__(self) -> None:
        self._gic = -1
        self._made = 0

    def vm_type(self, limit: int) -> int:
        """The size of guest physical addresses, where the host has less than the usual 40 bits."""
        return limit if 0 < limit < 40 else 0

    def set_up(self, vm: KvmVm) -> None:
        """A GICv3 in the kernel, as the configuration asks."""
        if vm.has(k.CAP_ARM_NISV_TO_USER):
            vm.enable(k.CAP_ARM_NISV_TO_USER)
        if vm.config.irqchip == "full":
            vm.capabilities.require("irqchip")
            self._gic = vm.create_device(k.DEV_TYPE_ARM_VGIC_V3)
            distributor, redistributors = vm.config.gic
            vm.set_device(self._gic, a.DEV_ARM_VGIC_GRP_ADDR, a.VGIC_V3_ADDR_TYPE_DIST, distributor)
            vm.set_device(self._gic, a.DEV_ARM_VGIC_GRP_ADDR, a.VGIC_V3_ADDR_TYPE_REDIST, redistributors)
            vm.set_device(self._gic, a.DEV_ARM_VGIC_GRP_NR_IRQS, 0, _GIC_INTERRUPTS)
        elif vm.config.irqchip != "none":
            raise UsageError(f'an aarch64 irqchip is "full" or "none", not {vm.config.irqchip!r}')
        if vm.config.pit:
            raise UsageError("aarch64 machines have no i8254 timer")

    def vcpu(self, vm: KvmVm, number: int, fd: int, page: Any) -> A64KvmVcpu:
        """A vCPU with PSCI; all but the first wait for CPU_ON. With the last one the GIC is complete."""
        vcpu = A64KvmVcpu(vm, number, fd, page)
        target = a.VcpuInit()
        vm.call(a.ARM_PREFERRED_TARGET, byref(target), "KVM_ARM_PREFERRED_TARGET")
        target.features[0] |= 1 << a.ARM_VCPU_PSCI_0_2
        if number:
            target.features[0] |= 1 << a.ARM_VCPU_POWER_OFF
        vcpu.call(a.ARM_VCPU_INIT, byref(target), "KVM_ARM_VCPU_INIT")
        self._made += 1
        if self._gic >= 0 and self._made == vm.config.vcpus:
            vm.set_device(self._gic, a.DEV_ARM_VGIC_GRP_CTRL, a.DEV_ARM_VGIC_CTRL_INIT, None)
        return vcpu

    def line(self, vm: KvmVm, gsi: int) -> int:
        """Lines are shared peripheral interrupts, counted from 0: INTID 32 on."""
        if not 0 <= gsi < _GIC_INTERRUPTS - 32:
            raise UsageError(f"there is no interrupt line {gsi}; the GIC has {_GIC_INTERRUPTS - 32}")
        return a.ARM_IRQ_TYPE_SPI << a.ARM_IRQ_TYPE_SHIFT | gsi + 32


class A64KvmVcpu(KvmVcpu):
    """An aarch64 vCPU."""

    guest = "aarch64"

    def __init__(self, vm: KvmVm, number: int, fd: int, page: Any) -> None:
        super().__init__(vm, number, fd, page)
        self._value, self._small, self._wide = c_uint64(), c_uint32(), create_string_buffer(16)
        self._reg = k.OneReg(0, addressof(self._value))
        self._reg_small = k.OneReg(0, addressof(self._small))
        self._reg_wide = k.OneReg(0, addressof(self._wide))

    # -- one register -----------------------------------------------------------------------------------------

    def get_reg(self, number: int) -> int:
        """KVM_GET_ONE_REG of a 64-bit register."""
        self._reg.id = number
        self.call(k.GET_ONE_REG, byref(self._reg), "KVM_GET_ONE_REG")
        return self._value.value

    def set_reg(self, number: int, value: int) -> None:
        """KVM_SET_ONE_REG of a 64-bit register."""
        self._reg.id, self._value.value = number, value
        self.call(k.SET_ONE_REG, byref(self._reg), "KVM_SET_ONE_REG")

    # -- sets of them -----------------------------------------------------------------------------------------

    def get_regs(self) -> A64Regs:
        """General registers, pc, PSTATE and the stack pointer in use."""
        found = A64Regs(**{name: self.get_reg(number) for name, number in _GENERAL.items()})
        found.sp = self.get_reg(_stack(found.pstate))
        return found

    def set_regs(self, regs: A64Regs, /) -> None:
        """All of them."""
        for name, number in _GENERAL.items():
            self.set_reg(number, getattr(regs, name))
        self.set_reg(_stack(regs.pstate), regs.sp)

    def get_special_regs(self) -> A64Special:
        """System registers."""
        return A64Special(**{name: self.get_reg(number) for name, number in _SPECIAL.items()})

    def set_special_regs(self, regs: A64Special, /) -> None:
        """System registers, but for those that identify the processor."""
        for name, number in _SPECIAL.items():
            if name not in _READ_ONLY:
                self.set_reg(number, getattr(regs, name))

    def get_fpu_regs(self) -> A64Fpu:
        """V registers, FPSR, FPCR."""
        vectors: list[int] = []
        for number in VECTOR:
            self._reg_wide.id = number
            self.call(k.GET_ONE_REG, byref(self._reg_wide), "KVM_GET_ONE_REG")
            vectors.append(int.from_bytes(self._wide.raw, "little"))
        status: list[int] = []
        for number in (FPSR, FPCR):
            self._reg_small.id = number
            self.call(k.GET_ONE_REG, byref(self._reg_small), "KVM_GET_ONE_REG")
            status.append(self._small.value)
        return A64Fpu(tuple(vectors), status[0], status[1])

    def set_fpu_regs(self, regs: A64Fpu, /) -> None:
        """V registers, FPSR, FPCR."""
        for number, value in zip(VECTOR, regs.v):
            self._reg_wide.id = number
            self._wide.raw = value.to_bytes(16, "little")
            self.call(k.SET_ONE_REG, byref(self._reg_wide), "KVM_SET_ONE_REG")
        for number, value in ((FPSR, regs.fpsr), (FPCR, regs.fpcr)):
            self._reg_small.id, self._small.value = number, value
            self.call(k.SET_ONE_REG, byref(self._reg_small), "KVM_SET_ONE_REG")

    def get_mp_state(self) -> int:
        """KVM_GET_MP_STATE: 0 runnable, 5 switched off."""
        data = k.MpState()
        self.call(k.GET_MP_STATE, byref(data), "KVM_GET_MP_STATE")
        return int(data.mp_state)

    # -- interrupts without a GIC in the kernel ---------------------------------------------------------------

    def set_irq(self, high: bool, *, fast: bool = False) -> None:
        """The vCPU's IRQ (or FIQ) input, for VMs without an irqchip."""
        number = a.ARM_IRQ_CPU_FIQ if fast else a.ARM_IRQ_CPU_IRQ
        irq = a.ARM_IRQ_TYPE_CPU << a.ARM_IRQ_TYPE_SHIFT | self.id << a.ARM_IRQ_VCPU_SHIFT | number
        self.vm.call(k.IRQ_LINE, byref(k.IrqLevel(irq, int(high))), "KVM_IRQ_LINE")

    # -- debugging --------------------------------------------------------------------------------------------

    def set_debug(self, control: DebugControl) -> None:
        """KVM_SET_GUEST_DEBUG."""
        data = a.GuestDebug()
        if control.step or control.software or control.breakpoints or control.watchpoints:
            data.control = k.GUESTDBG_ENABLE
        data.control |= (k.GUESTDBG_SINGLESTEP if control.step else 0) | (k.GUESTDBG_USE_SW_BP if control.software else 0)
        if control.breakpoints or control.watchpoints:
            self.vm.capabilities.require("hardware_breakpoints")
            data.control |= a.GUESTDBG_USE_HW
        for place, address in enumerate(control.breakpoints[: a.ARM_MAX_DBG_REGS]):
            data.arch.dbg_bcr[place], data.arch.dbg_bvr[place] = 0x1E7, address
        for place, (address, size, kind) in enumerate(control.watchpoints[: a.ARM_MAX_DBG_REGS]):
            data.arch.dbg_wcr[place], data.arch.dbg_wvr[place] = watch_control(address, size, kind), address & ~7
        self.call(a.SET_GUEST_DEBUG, byref(data), "KVM_SET_GUEST_DEBUG")

    def debug_exit(self) -> VmExit:
        """By the exception class of the syndrome."""
        syndrome, _, address = struct.unpack_from("<IIQ", self.page, 32)
        kind = syndrome >> 26
        pc = self.program_counter()
        if kind in _STEPS:
            return Debug(pc, "step", pc, syndrome)
        if kind in _HARDWARE:
            return Debug(pc, "hardware", pc, syndrome)
        if kind in _WATCH:
            return Debug(pc, "watch", address, syndrome)
        return Debug(pc, "breakpoint", pc, syndrome)

    def other_exit(self, reason: int) -> VmExit:
        """An access to a device with an instruction that does not say what it does (no valid syndrome) has to be emulated."""
        if reason == k.EXIT_ARM_NISV:
            pc = self.program_counter()
            return EmulationFailure(pc, self.code_at(pc))
        return super().other_exit(reason)

    def program_counter(self) -> int:
        """PC."""
        return self.get_reg(CORE["regs.pc"])

    def code_at(self, pc: int) -> bytes:
        """The instruction, where the guest's virtual addresses are physical ones (the MMU is off)."""
        if self.vm.memory is None or self.get_reg(_SPECIAL["sctlr_el1"]) & 1:
            return b""
        try:
            return self.vm.memory.read(pc, 4)
        except MemoryFault:
            return b""


def _stack(pstate: int) -> int:
    """Which stack pointer an instruction sees: SP_EL1 for EL1h (DDI 0487, C5.2.19)."""
    return CORE["sp_el1"] if pstate & 0xF == 5 else CORE["regs.sp"]


def watch_control(address: int, size: int, kind: str) -> int:
    """DBGWCR_EL1 of a watchpoint (DDI 0487, D19.3.11): enabled, at EL0 and EL1, some bytes of a doubleword."""
    if not 1 <= size <= 8 or (address & 7) + size > 8 or kind not in ("w", "rw"):
        raise UsageError(f"a watchpoint is within 8 aligned bytes and of kind w or rw; not {size} at {address:#x}, {kind}")
    return 1 | 3 << 1 | (2 if kind == "w" else 3) << 3 | ((1 << size) - 1 << (address & 7)) << 5
