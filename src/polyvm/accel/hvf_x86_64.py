"""An x86-64 virtual CPU of Hypervisor.framework: Intel's VMX (Intel SDM, volume 3, chapters 25 to 28)."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from polyvm.accel import fxsave
from polyvm.accel.ffi import hvf as ffi
from polyvm.accel.hvf_vcpu import HvfVcpu
from polyvm.accel.registers import checked
from polyvm.accel.x86_mmio import Move, decode
from polyvm.accel.x86_paging import walk
from polyvm.errors import MemoryFault, UnsupportedError
from polyvm.vcpu import machine_exits as exits
from polyvm.vcpu import x86_64 as x
from polyvm.vcpu.contract import CpuidLeaf
from polyvm.vcpu.exit_types import Unsupported
from polyvm.vcpu.x86_64 import Segment, Table, X86Events, X86Fpu, X86Regs, X86Special

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from polyvm.accel.hvf import HvfVm

V, R = ffi.VMCS, ffi.X86_REGISTERS
_NUMBERED = tuple(R[name] for name in "RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10 R11 R12 R13 R14 R15".split())
# Control bits (volume 3, 25.6 and 25.8).
_PIN_EXTERNAL, _PIN_NMI = 1, 1 << 3
_CPU_WINDOW, _CPU_HLT, _CPU_SECONDARY = 1 << 2, 1 << 7, 1 << 31
_CPU2_RDTSCP, _CPU2_UNRESTRICTED = 1 << 3, 1 << 7
_ENTRY_IA32E = 1 << 9
_CR0_OWNED, _CR4_OWNED = x.CR0_PE | x.CR0_PG | x.CR0_NE, 1 << 13
_CR4_VMXE = 1 << 13
_NATIVE_MSRS = (0x10, 0x174, 0x175, 0x176, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000100, 0xC0000101, 0xC0000102,
                0xC0000103)  # fmt: skip
_EVENT_VALID, _EVENT_ERROR = 1 << 31, 1 << 11
_M64 = 0xFFFF_FFFF_FFFF_FFFF
_FPSTATE = 4096  # bytes: an XSAVE image

_REGS = checked(X86Regs, [(name, R[name.upper()]) for name in X86Regs.__dataclass_fields__])
_SEGMENTS = {"cs": "CS", "ds": "DS", "es": "ES", "fs": "FS", "gs": "GS", "ss": "SS", "tr": "TR", "ldt": "LDTR"}
_TABLES = {"gdt": "GDTR", "idt": "IDTR"}
_PLAIN = checked(
    X86Special, [("cr2", R["CR2"]), ("cr8", R["TPR"])],
    without=(*_SEGMENTS, *_TABLES, "cr0", "cr3", "cr4", "efer", "apic_base"),
)  # fmt: skip


class HvfX86(HvfVcpu):
    """See `polyvm.vcpu.contract.X86Vcpu`. CPUID answers what was set, else zeros. Interrupts are injected by hand."""

    guest = "x86_64"

    def __init__(self, vm: HvfVm, number: int) -> None:
        super().__init__(vm, number)
        self._handle = ctypes.c_uint32()
        self._value = ctypes.c_uint64()
        self._leaves: dict[tuple[int, int | None], CpuidLeaf] = {}
        self._apic_base = X86Special().apic_base
        self._msrs: dict[int, int] = {}
        self._created = False

    # -- single registers -------------------------------------------------------------------------------------

    def _call(self, name: str, *arguments: Any) -> None:
        self.vm.call(name, self._handle, *arguments)

    def _reg(self, number: int) -> int:
        self._call("hv_vcpu_read_register", number, ctypes.byref(self._value))
        return self._value.value

    def _set_reg(self, number: int, value: int) -> None:
        self._call("hv_vcpu_write_register", number, value & _M64)

    def _vmcs(self, name: str) -> int:
        self._call("hv_vmx_vcpu_read_vmcs", V[name], ctypes.byref(self._value))
        return self._value.value

    def _set_vmcs(self, name: str, value: int) -> None:
        self._call("hv_vmx_vcpu_write_vmcs", V[name], value & _M64)

    def _skip(self, length: int | None = None) -> None:
        step = self._vmcs("RO_VMEXIT_INSTR_LEN") if length is None else length
        self._set_reg(R["RIP"], self._reg(R["RIP"]) + step)

    # -- the frame's ------------------------------------------------------------------------------------------

    def _controls(self, name: str, capability: int, wanted: int) -> None:
        """Set controls, as far as the processor allows them and with what it requires (A.3)."""
        self.vm.call("hv_vmx_read_capability", capability, ctypes.byref(self._value))
        required, allowed = self._value.value & 0xFFFF_FFFF, self._value.value >> 32
        self._set_vmcs(name, (wanted | required) & allowed)

    def _create(self) -> None:
        self.vm.call("hv_vcpu_create", ctypes.byref(self._handle), 0)
        self._created = True
        for msr in _NATIVE_MSRS:
            self._call("hv_vcpu_enable_native_msr", msr, True)
        self._controls("CTRL_PIN_BASED", ffi.HV_VMX_CAP_PINBASED, _PIN_EXTERNAL | _PIN_NMI)
        self._controls("CTRL_CPU_BASED", ffi.HV_VMX_CAP_PROCBASED, _CPU_HLT | _CPU_SECONDARY)
        self._controls("CTRL_CPU_BASED2", ffi.HV_VMX_CAP_PROCBASED2, _CPU2_UNRESTRICTED | _CPU2_RDTSCP)
        self._controls("CTRL_VMENTRY_CONTROLS", ffi.HV_VMX_CAP_ENTRY, 0)
        self._set_vmcs("CTRL_CR0_MASK", _CR0_OWNED)
        self._set_vmcs("CTRL_CR4_MASK", _CR4_OWNED)
        self._set_vmcs("GUEST_LINK_POINTER", _M64)
        self._store(X86Special())
        self._store(X86Regs())
        if self._msrs:
            self.set_msrs(self._msrs)

    def _destroy(self) -> None:
        self.vm.library.hv_vcpu_destroy(self._handle)

    def _cancel(self) -> None:
        if self._owner is not None:
            self.vm.library.hv_vcpu_interrupt(ctypes.byref(self._handle), 1)

    def _apply_debug(self) -> None:
        control = self._debug
        if control.breakpoints or control.watchpoints or control.software:
            self.vm.capabilities.require("hardware_breakpoints")
        self._set_vmcs("CTRL_EXC_BITMAP", 1 << 1 if control.step else 0)
        flags = self._reg(R["RFLAGS"])
        self._set_reg(R["RFLAGS"], flags | x.RFLAGS_TF if control.step else flags & ~x.RFLAGS_TF)

    def _enter(self) -> exits.VmExit | None:
        self._call("hv_vcpu_run")
        whole = self._vmcs("RO_EXIT_REASON")
        reason, detail = whole & 0xFFFF, self._vmcs("RO_EXIT_QUALIFIC")
        if whole >> 31 & 1:
            return exits.FailEntry(reason)
        if reason == ffi.EXIT_EXTERNAL_INTERRUPT:
            return None  # `_run` looks why
        if reason == ffi.EXIT_EPT_VIOLATION:
            return self._violation(detail)
        if reason == ffi.EXIT_IO:
            return self._io(detail)
        if reason == ffi.EXIT_HLT:
            self._skip()
            return exits.Halt()
        if reason == ffi.EXIT_CPUID:
            self._cpuid()
            return None
        if reason in (ffi.EXIT_RDMSR, ffi.EXIT_WRMSR):
            return self._msr(reason == ffi.EXIT_WRMSR)
        if reason == ffi.EXIT_CR_ACCESS:
            return self._control_register(detail)
        if reason == ffi.EXIT_INTERRUPT_WINDOW:
            self.request_interrupt_window(False)
            return exits.InterruptWindow()
        if reason == ffi.EXIT_TRIPLE_FAULT:
            return exits.Shutdown()
        if reason == ffi.EXIT_EXCEPTION:
            return self._exception(detail)
        if reason == ffi.EXIT_VMCALL:
            return self._hypercall()
        if reason == ffi.EXIT_XSETBV:
            self._set_reg(R["XCR0"], self._reg(R["RAX"]) & 0xFFFF_FFFF | self._reg(R["RDX"]) << 32)
            self._skip()
            return None
        return Unsupported(self._reg(R["RIP"]), f"VMX exit reason {reason}", reason, detail.to_bytes(8, "little"))

    # -- exits ------------------------------------------------------------------------------------------------

    def _exception(self, detail: int) -> exits.VmExit | None:
        info = self._vmcs("RO_VMEXIT_IRQ_INFO")
        if info >> 8 & 7 == 2:
            return None  # an NMI for the host
        return exits.Debug(self._reg(R["RIP"]), "step", 0, detail)

    def _io(self, detail: int) -> exits.VmExit:
        """Qualification of an access to a port (table 28-5)."""
        if detail >> 4 & 1:
            return exits.EmulationFailure(self._reg(R["RIP"]), self._code())
        access = self._port
        access.port, access.size, access.write = detail >> 16 & 0xFFFF, (detail & 7) + 1, not detail >> 3 & 1
        access.count, access.data = 1, b""
        rax, mask = self._reg(R["RAX"]), exits.ALL_ONES[access.size]
        access.value = rax & mask if access.write else mask

        def finish() -> None:
            if not access.write:
                value = access.value & mask
                self._set_reg(R["RAX"], value if access.size == 4 else rax & ~mask | value)
            self._skip()

        self._unfinished = finish
        return access

    def _hypercall(self) -> exits.Hypercall:
        number, *arguments = (self._reg(R[name]) for name in ("RAX", "RBX", "RCX", "RDX", "RSI", "RDI"))
        found = exits.Hypercall(number, tuple(arguments))

        def finish() -> None:
            self._set_reg(R["RAX"], found.result)
            self._skip()

        self._unfinished = finish
        return found

    def _cpuid(self) -> None:
        function, index = (self._reg(R[name]) & 0xFFFF_FFFF for name in ("RAX", "RCX"))
        leaf = self._leaves.get((function, index)) or self._leaves.get((function, None)) or CpuidLeaf(function)
        for name, value in (("RAX", leaf.eax), ("RBX", leaf.ebx), ("RCX", leaf.ecx), ("RDX", leaf.edx)):
            self._set_reg(R[name], value)
        self._skip()

    def _msr(self, write: bool) -> exits.Msr:
        low, high = self._reg(R["RAX"]) & 0xFFFF_FFFF, self._reg(R["RDX"]) & 0xFFFF_FFFF
        found = exits.Msr(self._reg(R["RCX"]) & 0xFFFF_FFFF, write, high << 32 | low if write else 0)

        def finish() -> None:
            if found.refused:
                self.set_events(X86Events(exception=13, error_code=0))
                return
            if not write:
                self._set_reg(R["RAX"], found.value & 0xFFFF_FFFF)
                self._set_reg(R["RDX"], found.value >> 32 & 0xFFFF_FFFF)
            self._skip()

        self._unfinished = finish
        return found

    def _control_register(self, detail: int) -> exits.VmExit | None:
        """Moves to CR0 and CR4 that change bits which are ours (table 28-3)."""
        number, kind = detail & 15, detail >> 4 & 3
        if kind == 0 and number in (0, 4):
            value = self._reg(_NUMBERED[detail >> 8 & 15])
            self._write_control(number, value)
            self._skip()
            return None
        if kind == 3 and number == 0:  # LMSW cannot clear PE
            self._write_control(0, self._control(0) & ~0xE | detail >> 16 & 0xF)
            self._skip()
            return None
        return exits.EmulationFailure(self._reg(R["RIP"]), self._code())

    def _violation(self, detail: int) -> exits.VmExit | None:
        """An access to memory that is not mapped; the framework also shows those that it has just mapped itself."""
        address = self._vmcs("GUEST_PHYSICAL_ADDRESS")
        memory = self.vm.config.memory
        region = memory.find(address) if memory is not None else None
        if region is not None and not (region.readonly and detail >> 1 & 1):
            return None
        code, rip = self._code(), self._reg(R["RIP"])
        attributes = self._vmcs("GUEST_CS_AR")
        bits = 64 if attributes >> 13 & 1 else 32 if attributes >> 14 & 1 else 16
        move = decode(code, bits)
        if move is None or detail >> 2 & 1:
            return exits.EmulationFailure(rip, code)
        access, mask = self._mmio, exits.ALL_ONES[move.size]
        access.address, access.size, access.write = address, move.size, move.write
        access.value = mask
        if move.write:
            held = self._reg(_NUMBERED[move.register]) >> (8 if move.high else 0) if move.register >= 0 else move.immediate
            access.value = held & mask

        def finish() -> None:
            if not move.write:
                self._load(move, access.value & mask)
            self._skip(move.length)

        self._unfinished = finish
        return access

    def _load(self, move: Move, value: int) -> None:
        """Put what was read into the register (volume 1, 3.4.1.1)."""
        if move.signed and value >> 8 * move.size - 1:
            value |= -1 << 8 * move.size
        number, shift = _NUMBERED[move.register], 8 if move.high else 0
        mask = (1 << 8 * move.width) - 1
        if move.width < 4:
            value = self._reg(number) & ~(mask << shift) | (value & mask) << shift
        self._set_reg(number, value & (_M64 if move.width < 4 else mask))

    def _code(self) -> bytes:
        """What lies at the guest's rip; as much as the first page has of it."""
        address = self._vmcs("GUEST_CS_BASE") + self._reg(R["RIP"]) & _M64
        physical, memory = self.translate(address), self.vm.config.memory
        if physical is None or memory is None:
            return b""
        try:
            return memory.read(physical, min(15, 0x1000 - (physical & 0xFFF)))
        except MemoryFault:
            return b""

    def translate(self, address: int) -> int | None:
        """The guest physical address, if the page tables have one."""
        special, memory = self.get_special_regs(), self.vm.config.memory
        return walk(memory, special, address) if memory is not None else None

    # -- control registers ------------------------------------------------------------------------------------

    def _control(self, number: int) -> int:
        """CR0 or CR4 as the guest sees it: bits that are ours from the shadow."""
        real, shadow = self._vmcs(f"GUEST_CR{number}"), self._vmcs(f"CTRL_CR{number}_SHADOW")
        mask = _CR0_OWNED if number == 0 else _CR4_OWNED
        return real & ~mask | shadow & mask

    def _write_control(self, number: int, value: int) -> None:
        """Write CR0 or CR4, with what VMX requires (volume 3, 24.8), and follow into or out of long mode."""
        self._set_vmcs(f"CTRL_CR{number}_SHADOW", value)
        if number == 4:
            self._set_vmcs("GUEST_CR4", value | _CR4_VMXE)
            return
        self._set_vmcs("GUEST_CR0", value | x.CR0_NE)
        efer = self._vmcs("GUEST_IA32_EFER")
        active = bool(value & x.CR0_PG and efer & x.EFER_LME)
        self._set_vmcs("GUEST_IA32_EFER", efer | x.EFER_LMA if active else efer & ~x.EFER_LMA)
        entry = self._vmcs("CTRL_VMENTRY_CONTROLS")
        self._set_vmcs("CTRL_VMENTRY_CONTROLS", entry | _ENTRY_IA32E if active else entry & ~_ENTRY_IA32E)

    # -- sets of registers ------------------------------------------------------------------------------------

    def _read(self, kind: type[Any]) -> Any:
        if kind is X86Regs:
            return X86Regs(**{name: self._reg(number) for name, number in _REGS.items()})
        if kind is X86Fpu:
            return fxsave.unpack(bytes(self._fpstate()))
        found = X86Special(cr2=self._reg(_PLAIN["cr2"]), cr8=self._reg(_PLAIN["cr8"]) >> 4)
        for name, there in _SEGMENTS.items():
            parts = (self._vmcs(f"GUEST_{there}{part}") for part in ("_BASE", "_LIMIT", "", "_AR"))
            setattr(found, name, Segment(*parts))
        for name, there in _TABLES.items():
            setattr(found, name, Table(self._vmcs(f"GUEST_{there}_BASE"), self._vmcs(f"GUEST_{there}_LIMIT")))
        found.cr0, found.cr4, found.cr3 = self._control(0), self._control(4), self._vmcs("GUEST_CR3")
        found.efer, found.apic_base = self._vmcs("GUEST_IA32_EFER"), self._apic_base
        return found

    def _store(self, record: Any) -> None:
        if isinstance(record, X86Regs):
            self._unfinished = None
            for name, number in _REGS.items():
                self._set_reg(number, getattr(record, name))
        elif isinstance(record, X86Special):
            for name, number in _PLAIN.items():
                self._set_reg(number, getattr(record, name) << (4 if name == "cr8" else 0))
            for name, there in _SEGMENTS.items():
                segment: Segment = getattr(record, name)
                for part, value in (("_BASE", segment.base), ("_LIMIT", segment.limit), ("", segment.selector),
                                    ("_AR", segment.attributes)):  # fmt: skip
                    self._set_vmcs(f"GUEST_{there}{part}", value)
            for name, there in _TABLES.items():
                table: Table = getattr(record, name)
                self._set_vmcs(f"GUEST_{there}_BASE", table.base)
                self._set_vmcs(f"GUEST_{there}_LIMIT", table.limit)
            self._set_vmcs("GUEST_CR3", record.cr3)
            self._set_vmcs("GUEST_IA32_EFER", record.efer)
            self._write_control(4, record.cr4)
            self._write_control(0, record.cr0)
            self._apic_base = record.apic_base
        else:
            self._store_fpu(record)

    def _fpstate(self) -> bytearray:
        area = (ctypes.c_uint8 * _FPSTATE)()
        self._call("hv_vcpu_read_fpstate", ctypes.byref(area), _FPSTATE)
        return bytearray(area)

    def _store_fpu(self, record: X86Fpu) -> None:
        image = self._fpstate()
        fxsave.pack(image, record)
        self._call("hv_vcpu_write_fpstate", (ctypes.c_uint8 * _FPSTATE).from_buffer(image), _FPSTATE)

    def get_regs(self) -> X86Regs:
        """General registers."""
        found: X86Regs = self.get(X86Regs)
        return found

    def set_regs(self, regs: X86Regs, /) -> None:
        """Write them."""
        self.set(regs)

    def get_fpu_regs(self) -> X86Fpu:
        """x87 and SSE."""
        found: X86Fpu = self.get(X86Fpu)
        return found

    def set_fpu_regs(self, regs: X86Fpu, /) -> None:
        """Write them."""
        self.set(regs)

    def get_special_regs(self) -> X86Special:
        """Segments, tables, control registers."""
        found: X86Special = self.get(X86Special)
        return found

    def set_special_regs(self, regs: X86Special, /) -> None:
        """Write them."""
        self.set(regs)

    def get_msrs(self, indices: Iterable[int]) -> dict[int, int]:
        """Those that the processor keeps itself."""
        wanted = [index for index in indices if index in _NATIVE_MSRS]
        if not self._created:
            return {index: self._msrs.get(index, 0) for index in wanted}
        found: dict[int, int] = {}
        for index in wanted:
            self._call("hv_vcpu_read_msr", index, ctypes.byref(self._value))
            found[index] = self._value.value
        return found

    def set_msrs(self, values: Mapping[int, int]) -> None:
        """Write them."""
        for index in values:
            if index not in _NATIVE_MSRS:
                raise UnsupportedError(f"hvf: the processor does not keep MSR {index:#x}")
        if not self._created:
            self._msrs.update(values)
            return
        for index, value in values.items():
            self._call("hv_vcpu_write_msr", index, value)

    def set_cpuid(self, leaves: Sequence[CpuidLeaf]) -> None:
        """What CPUID answers."""
        self._leaves = {(leaf.function, leaf.subleaf if leaf.indexed else None): leaf for leaf in leaves}

    # -- events -----------------------------------------------------------------------------------------------

    def get_events(self) -> X86Events:
        """What is about to be injected (25.8.3), and the interruptibility state (25.4.2)."""
        info, state = self._vmcs("CTRL_VMENTRY_IRQ_INFO"), self._vmcs("GUEST_IGNORE_IRQ")
        found = X86Events(interrupt_shadow=state & 3, nmi_masked=bool(state & 8))
        if info & _EVENT_VALID:
            kind, vector = info >> 8 & 7, info & 0xFF
            if kind == 0:
                found.interrupt = vector
            elif kind == 2:
                found.nmi_injected = True
            else:
                found.exception = vector
                found.error_code = self._vmcs("CTRL_VMENTRY_EXC_ERROR") if info & _EVENT_ERROR else None
        return found

    def set_events(self, events: X86Events) -> None:
        """Write them."""
        info = 0
        if events.exception is not None:
            info = _EVENT_VALID | 3 << 8 | events.exception | (_EVENT_ERROR if events.error_code is not None else 0)
            self._set_vmcs("CTRL_VMENTRY_EXC_ERROR", events.error_code or 0)
        elif events.nmi_injected or events.nmi_pending:
            info = _EVENT_VALID | 2 << 8 | 2
        elif events.interrupt is not None:
            info = _EVENT_VALID | events.interrupt
        self._set_vmcs("CTRL_VMENTRY_IRQ_INFO", info)
        self._set_vmcs("GUEST_IGNORE_IRQ", events.interrupt_shadow & 3 | events.nmi_masked << 3)

    def can_inject(self) -> bool:
        """IF is set, and neither a shadow nor another event is there."""
        free = not self._vmcs("CTRL_VMENTRY_IRQ_INFO") & _EVENT_VALID and not self._vmcs("GUEST_IGNORE_IRQ") & 3
        return free and bool(self._reg(R["RFLAGS"]) & x.RFLAGS_IF)

    def inject(self, vector: int) -> None:
        """An external interrupt."""
        self._set_vmcs("CTRL_VMENTRY_IRQ_INFO", _EVENT_VALID | vector)

    def inject_nmi(self) -> None:
        """A non-maskable interrupt."""
        self._set_vmcs("CTRL_VMENTRY_IRQ_INFO", _EVENT_VALID | 2 << 8 | 2)

    def request_interrupt_window(self, wanted: bool) -> None:
        """Ask for, or no longer for, an exit when an interrupt can be taken."""
        controls = self._vmcs("CTRL_CPU_BASED")
        self._set_vmcs("CTRL_CPU_BASED", controls | _CPU_WINDOW if wanted else controls & ~_CPU_WINDOW)
