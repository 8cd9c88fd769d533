"""An aarch64 virtual CPU of Hypervisor.framework. Syndromes are the Arm ARM's (DDI 0487, D24.2.40, ESR_ELx)."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from polyvm.accel.ffi import hvf as ffi
from polyvm.accel.hvf_vcpu import HvfVcpu
from polyvm.accel.registers import checked
from polyvm.errors import EngineError, MemoryFault, UnsupportedError
from polyvm.vcpu import machine_exits as exits
from polyvm.vcpu.aarch64 import A64Fpu, A64Regs, A64Special
from polyvm.vcpu.exit_types import Unsupported

if TYPE_CHECKING:
    from polyvm.accel.hvf import HvfVm

# Exception classes, ESR bits 31:26.
_EC_WFX, _EC_HVC, _EC_SMC, _EC_MSR = 0x01, 0x16, 0x17, 0x18
_EC_INSTRUCTION_ABORT, _EC_DATA_ABORT = 0x20, 0x24
_EC_BREAKPOINT, _EC_STEP, _EC_WATCHPOINT, _EC_BRK = 0x30, 0x32, 0x34, 0x3C
_DEBUGS = {_EC_BREAKPOINT: "hardware", _EC_STEP: "step", _EC_WATCHPOINT: "watch", _EC_BRK: "breakpoint"}
# PSCI (DEN0022): functions that concern the whole machine or say what there is.
_PSCI_VERSION, _PSCI_MIGRATE, _PSCI_OFF, _PSCI_RESET, _PSCI_FEATURES = (
    0x8400_0000, 0x8400_0006, 0x8400_0008, 0x8400_0009, 0x8400_000A,
)  # fmt: skip
_NOT_SUPPORTED = 0xFFFF_FFFF_FFFF_FFFF
_SPSR_SS, _MDSCR_SS, _MDSCR_KDE, _MDSCR_MDE = 1 << 21, 1, 1 << 13, 1 << 15

_REGS = checked(A64Regs, [
    *((f"x{number}", ffi.HV_REG_X0 + number) for number in range(31)), ("pc", ffi.HV_REG_PC), ("pstate", ffi.HV_REG_CPSR),
], without=("sp",))  # fmt: skip
# The framework lets ACTLR_EL1 be read and written only in parts, since macOS 15.
_SPECIAL = checked(A64Special, [
    (name, ffi.SYSTEM_REGISTERS[name.upper()]) for name in A64Special.__dataclass_fields__ if name != "actlr_el1"
], without=("actlr_el1",))  # fmt: skip
_READ_ONLY = ("midr_el1",)


class HvfA64(HvfVcpu):
    """See `polyvm.vcpu.contract.A64Vcpu`."""

    guest = "aarch64"

    def __init__(self, vm: HvfVm, number: int) -> None:
        super().__init__(vm, number)
        self._handle = ctypes.c_uint64()
        self._exit = ctypes.POINTER(ffi.hv_vcpu_exit_t)()
        self._value = ctypes.c_uint64()

    # -- single registers -------------------------------------------------------------------------------------

    def _call(self, name: str, *arguments: Any) -> None:
        self.vm.call(name, self._handle, *arguments)

    def _reg(self, number: int) -> int:
        self._call("hv_vcpu_get_reg", number, ctypes.byref(self._value))
        return self._value.value

    def _set_reg(self, number: int, value: int) -> None:
        self._call("hv_vcpu_set_reg", number, value)

    def _sys(self, number: int) -> int:
        self._call("hv_vcpu_get_sys_reg", number, ctypes.byref(self._value))
        return self._value.value

    def _set_sys(self, number: int, value: int) -> None:
        self._call("hv_vcpu_set_sys_reg", number, value)

    def _x(self, number: int) -> int:
        """A general register as instructions number them: 31 is zero."""
        return self._reg(number) if number < 31 else 0

    def _set_x(self, number: int, value: int) -> None:
        if number < 31:
            self._set_reg(number, value)

    def _skip(self) -> None:
        self._set_reg(ffi.HV_REG_PC, self._reg(ffi.HV_REG_PC) + 4)

    # -- the frame's ------------------------------------------------------------------------------------------

    def _create(self) -> None:
        self.vm.call("hv_vcpu_create", ctypes.byref(self._handle), ctypes.byref(self._exit), None)
        self._store(A64Regs())
        self._set_sys(ffi.SYSTEM_REGISTERS["MPIDR_EL1"], 0x8000_0000 | self.id)

    def _destroy(self) -> None:
        self.vm.library.hv_vcpu_destroy(self._handle)

    def _cancel(self) -> None:
        if self._owner is not None:
            self.vm.library.hv_vcpus_exit(ctypes.byref(self._handle), 1)

    def _apply_debug(self) -> None:
        control = self._debug
        if len(control.breakpoints) > 6 or len(control.watchpoints) > 4:
            raise UnsupportedError("hvf: there are six hardware breakpoints and four watchpoints")
        wanted = control.step or control.software or bool(control.breakpoints or control.watchpoints)
        self._call("hv_vcpu_set_trap_debug_exceptions", wanted)
        for number in range(6):
            on = number < len(control.breakpoints)
            self._set_sys(0x8004 + 8 * number, control.breakpoints[number] if on else 0)
            # DBGBCR_EL1: enabled, EL1 and EL0, all four bytes (D24.3.2).
            self._set_sys(0x8005 + 8 * number, 1 | 3 << 1 | 15 << 5 if on else 0)
        for number in range(4):
            on = number < len(control.watchpoints)
            address, size, access = control.watchpoints[number] if on else (0, 0, "w")
            select = ((1 << size) - 1) << (address & 7) & 0xFF
            # DBGWCR_EL1: enabled, EL1 and EL0, stores or loads too, the bytes (D24.3.11).
            kind = 3 if access == "rw" else 2
            self._set_sys(0x8006 + 8 * number, address & ~7)
            self._set_sys(0x8007 + 8 * number, 1 | 3 << 1 | kind << 3 | select << 5 if on else 0)
        place = ffi.SYSTEM_REGISTERS["MDSCR_EL1"]
        mdscr = self._sys(place) & ~(_MDSCR_SS | _MDSCR_KDE | _MDSCR_MDE)
        pstate = self._reg(ffi.HV_REG_CPSR) & ~_SPSR_SS
        if control.step:
            mdscr, pstate = mdscr | _MDSCR_SS | _MDSCR_KDE, pstate | _SPSR_SS
        if control.breakpoints or control.watchpoints:
            mdscr |= _MDSCR_MDE | _MDSCR_KDE
        self._set_sys(place, mdscr)
        self._set_reg(ffi.HV_REG_CPSR, pstate)

    def _enter(self) -> exits.VmExit | None:
        if self.vm.config.irqchip == "none":
            self._call("hv_vcpu_set_pending_interrupt", ffi.HV_INTERRUPT_TYPE_IRQ, self.vm.lines.get(self.id, False))
        if self._debug.step:
            self._set_reg(ffi.HV_REG_CPSR, self._reg(ffi.HV_REG_CPSR) | _SPSR_SS)
        self._call("hv_vcpu_run")
        found = self._exit.contents
        if found.reason == ffi.HV_EXIT_REASON_CANCELED:
            return None  # `_run` looks why
        if found.reason == ffi.HV_EXIT_REASON_VTIMER_ACTIVATED:
            return exits.SystemEvent("timer")
        if found.reason != ffi.HV_EXIT_REASON_EXCEPTION:
            return Unsupported(self._reg(ffi.HV_REG_PC), "an exit that polyvm does not know", found.reason)
        exception = found.exception
        return self._exception(exception.syndrome, exception.virtual_address, exception.physical_address)

    # -- exceptions -------------------------------------------------------------------------------------------

    def _exception(self, syndrome: int, virtual: int, physical: int) -> exits.VmExit | None:
        kind = syndrome >> 26 & 0x3F
        if kind == _EC_DATA_ABORT:
            return self._data_abort(syndrome, physical)
        if kind == _EC_WFX:
            self._skip()
            # WFE waits for other processors: a hint.
            return None if syndrome & 1 else exits.Halt()
        if kind in (_EC_HVC, _EC_SMC):
            if kind == _EC_SMC:
                self._skip()
            return self._hypercall()
        if kind == _EC_MSR:
            return self._system_register(syndrome)
        pc = self._reg(ffi.HV_REG_PC)
        if kind in _DEBUGS:
            return exits.Debug(pc, _DEBUGS[kind], virtual if kind == _EC_WATCHPOINT else pc, syndrome)
        if kind == _EC_INSTRUCTION_ABORT:
            return exits.EmulationFailure(pc)
        return Unsupported(pc, f"exception class {kind:#x}", kind, syndrome.to_bytes(8, "little"))

    def _code(self, pc: int) -> bytes:
        """The instruction at `pc`, where that is an address of memory as it is (the guest's page tables are off)."""
        memory = self.vm.config.memory
        if memory is None or self._sys(ffi.SYSTEM_REGISTERS["SCTLR_EL1"]) & 1:
            return b""
        try:
            return memory.read(pc, 4)
        except MemoryFault:
            return b""

    def _data_abort(self, syndrome: int, physical: int) -> exits.VmExit:
        pc = self._reg(ffi.HV_REG_PC)
        if not syndrome >> 24 & 1:  # ISV: pairs, vectors, write-back
            return exits.EmulationFailure(pc, self._code(pc))
        size, register = 1 << (syndrome >> 22 & 3), syndrome >> 16 & 31
        signed, wide = syndrome >> 21 & 1, syndrome >> 15 & 1
        access, mask = self._mmio, exits.ALL_ONES[size]
        access.address, access.size, access.write = physical, size, bool(syndrome >> 6 & 1)
        access.value = self._x(register) & mask if access.write else mask

        def finish() -> None:
            if not access.write:
                value = access.value & mask
                if signed and value > mask >> 1:
                    value |= ~mask & (_NOT_SUPPORTED if wide else 0xFFFF_FFFF)
                self._set_x(register, value)
            self._skip()

        self._unfinished = finish
        return access

    def _hypercall(self) -> exits.VmExit | None:
        number, *arguments = (self._reg(index) for index in range(7))
        number &= 0xFFFF_FFFF
        if number in (_PSCI_OFF, _PSCI_RESET):
            return exits.SystemEvent("shutdown" if number == _PSCI_OFF else "reset")
        known = {_PSCI_VERSION: 0x1_0001, _PSCI_MIGRATE: 2}
        if number == _PSCI_FEATURES:
            known[number] = 0 if arguments[0] in (*known, _PSCI_OFF, _PSCI_RESET, _PSCI_FEATURES) else _NOT_SUPPORTED
        if number in known:
            self._set_reg(0, known[number])
            return None
        found = exits.Hypercall(number, tuple(arguments), _NOT_SUPPORTED)
        self._unfinished = lambda: self._set_reg(0, found.result & _NOT_SUPPORTED)
        return found

    def _system_register(self, syndrome: int) -> exits.Msr:
        """MRS or MSR; `index` has op0, op1, CRn, CRm and op2 as the instruction has them."""
        fields = ((20, 2, 14), (14, 3, 11), (10, 4, 7), (1, 4, 3), (17, 3, 0))
        index = sum((syndrome >> low & (1 << bits) - 1) << at for low, bits, at in fields)
        register, write = syndrome >> 5 & 31, not syndrome & 1
        found = exits.Msr(index, write, self._x(register) if write else 0)

        def finish() -> None:
            if found.refused:
                self._undefined()
                return
            if not write:
                self._set_x(register, found.value)
            self._skip()

        self._unfinished = finish
        return found

    def _undefined(self) -> None:
        """An undefined instruction exception, taken to EL1 (D1.3.4): from EL1h or EL0, where the vector is 0x200 or 0x400 on."""
        names = ffi.SYSTEM_REGISTERS
        pstate, pc = self._reg(ffi.HV_REG_CPSR), self._reg(ffi.HV_REG_PC)
        self._set_sys(names["SPSR_EL1"], pstate)
        self._set_sys(names["ELR_EL1"], pc)
        self._set_sys(names["ESR_EL1"], 1 << 25)  # IL, exception class 0
        level = 0x400 if pstate & 0xF == 0 else 0x200 if pstate & 1 else 0
        self._set_reg(ffi.HV_REG_PC, self._sys(names["VBAR_EL1"]) + level)
        self._set_reg(ffi.HV_REG_CPSR, pstate & ~0xF | 0x3C5)

    # -- sets of registers ------------------------------------------------------------------------------------

    def _stack_pointer(self, pstate: int) -> int:
        """The one that PSTATE selects (C5.2.18)."""
        return ffi.SYSTEM_REGISTERS["SP_EL1" if pstate & 1 else "SP_EL0"]

    def _read(self, kind: type[Any]) -> Any:
        if kind is A64Regs:
            values = {name: self._reg(number) for name, number in _REGS.items()}
            return A64Regs(sp=self._sys(self._stack_pointer(values["pstate"])), **values)
        if kind is A64Special:
            return A64Special(**{name: self._sys(number) for name, number in _SPECIAL.items()})
        lanes = (ctypes.c_uint8 * 16)()
        vectors: list[int] = []
        for number in range(32):
            self._call("hv_vcpu_get_simd_fp_reg", ffi.HV_SIMD_FP_REG_Q0 + number, ctypes.byref(lanes))
            vectors.append(int.from_bytes(bytes(lanes), "little"))
        return A64Fpu(tuple(vectors), self._reg(ffi.HV_REG_FPSR), self._reg(ffi.HV_REG_FPCR))

    def _store(self, record: Any) -> None:
        if isinstance(record, A64Regs):
            self._unfinished = None
            for name, number in _REGS.items():
                self._set_reg(number, getattr(record, name))
            self._set_sys(self._stack_pointer(record.pstate), record.sp)
        elif isinstance(record, A64Special):
            for name, number in _SPECIAL.items():
                if name not in _READ_ONLY:
                    self._set_sys(number, getattr(record, name))
        else:
            setter = self.vm.owner.simd_setter()
            for number, value in enumerate(record.v):
                lanes = (ctypes.c_uint8 * 16)(*value.to_bytes(16, "little"))
                if status := setter(self._handle, ffi.HV_SIMD_FP_REG_Q0 + number, ctypes.addressof(lanes)):
                    raise EngineError(f"hvf: {ffi.SET_SIMD} answers {ffi.RETURNS.get(status, hex(status))}")
            self._set_reg(ffi.HV_REG_FPSR, record.fpsr)
            self._set_reg(ffi.HV_REG_FPCR, record.fpcr)

    def get_regs(self) -> A64Regs:
        """General registers."""
        found: A64Regs = self.get(A64Regs)
        return found

    def set_regs(self, regs: A64Regs, /) -> None:
        """Write them."""
        self.set(regs)

    def get_fpu_regs(self) -> A64Fpu:
        """Vector registers."""
        found: A64Fpu = self.get(A64Fpu)
        return found

    def set_fpu_regs(self, regs: A64Fpu, /) -> None:
        """Write them."""
        self.set(regs)

    def get_special_regs(self) -> A64Special:
        """System registers; ACTLR_EL1 is 0."""
        found: A64Special = self.get(A64Special)
        return found

    def set_special_regs(self, regs: A64Special, /) -> None:
        """Write them; MIDR_EL1 and ACTLR_EL1 stay."""
        self.set(regs)
