"""A virtual CPU of the Windows Hypervisor Platform.

An access to memory that is not mapped brings the instruction, not the access: the platform's own instruction emulator finds out.
It wants an answer at once, where the contract lets the caller answer later. So an instruction is emulated up to its first access
that nobody has answered, and given up; once the caller has answered, it is emulated again with what is known by then. Nothing
of it shows before the emulator sets the registers at its end.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from polyvm.accel import whpx_registers as maps
from polyvm.accel.ffi import whpx as ffi
from polyvm.accel.frame import LibraryVcpu
from polyvm.errors import MemoryFault, UnsupportedError
from polyvm.vcpu import machine_exits as exits
from polyvm.vcpu.contract import CpuidLeaf, DebugControl
from polyvm.vcpu.exit_types import Unsupported
from polyvm.vcpu.x86_64 import RFLAGS_IF, RFLAGS_TF, X86Debug, X86Events, X86Fpu, X86Regs, X86Special

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from polyvm.accel.whpx import WhpxVm

C = ffi.CONSTANTS
_RIP, _RAX, _RBX, _RCX, _RDX = (C[maps.PREFIX + name] for name in ("Rip", "Rax", "Rbx", "Rcx", "Rdx"))
_PENDING = C["WHvRegisterPendingInterruption"]
_STATE = C["WHvRegisterInterruptState"]
_WINDOW = C["WHvX64RegisterDeliverabilityNotifications"]
_RFLAGS, _DR6, _DR7 = (C[maps.PREFIX + name] for name in ("Rflags", "Dr6", "Dr7"))
_FAIL = -2147467259  # E_FAIL
_GENERAL_PROTECTION, _DEBUG, _BREAKPOINT = 13, 1, 3
_LENGTHS = {1: 0, 2: 1, 8: 2, 4: 3}  # of a watchpoint, as DR7 writes them (Intel SDM, volume 3, 18.2.4)


class _Access:
    """An access that an emulated instruction makes to a device."""

    __slots__ = ("address", "port", "size", "value", "write")

    def __init__(self, address: int, size: int, write: bool, value: int, port: bool) -> None:
        self.address, self.size, self.write, self.value, self.port = address, size, write, value, port


class WhpxVcpu(LibraryVcpu):
    """See `polyvm.vcpu.contract.X86Vcpu`. The platform's own processor is made when it is first used, since what CPUID answers
    has to be known before."""

    guest = "x86_64"

    def __init__(self, vm: WhpxVm, number: int) -> None:
        super().__init__(vm, number)
        self.vm = vm
        self.cpuid: dict[tuple[int, int | None], CpuidLeaf] = {}
        self._made = self._window = False
        self._debug = DebugControl()
        self._context = ffi.WHV_RUN_VP_EXIT_CONTEXT()
        self._known: list[_Access] = []  # answers to the accesses of the instruction that is being emulated, in order
        self._position = 0
        self._asks: _Access | None = None
        self._callbacks = ffi.WHV_EMULATOR_CALLBACKS(
            ctypes.sizeof(ffi.WHV_EMULATOR_CALLBACKS), 0, ffi.IO_PORT_CALLBACK(self._on_port),
            ffi.MEMORY_CALLBACK(self._on_memory), ffi.GET_REGISTERS_CALLBACK(self._on_get),
            ffi.SET_REGISTERS_CALLBACK(self._on_set), ffi.TRANSLATE_CALLBACK(self._on_translate),
        )  # fmt: skip
        self._emulator = ctypes.c_void_p()

    # -- the frame's ------------------------------------------------------------------------------------------

    def _make(self) -> None:
        if self._made:
            return
        self.check_open()
        self.vm.set_up()
        self.vm.call("WHvCreateVirtualProcessor", self.vm.handle, self.id, 0)
        self.vm.call_emulator("WHvEmulatorCreateEmulator", ctypes.byref(self._callbacks), ctypes.byref(self._emulator))
        self._made = True

    def _end(self) -> None:
        if self._made:
            self._made = False
            self.vm.emulator.WHvEmulatorDestroyEmulator(self._emulator)
            self.vm.library.WHvDeleteVirtualProcessor(self.vm.handle, self.id)

    def _cancel(self) -> None:
        if self._made:
            self.vm.library.WHvCancelRunVirtualProcessor(self.vm.handle, self.id, 0)

    def _enter(self) -> exits.VmExit | None:
        context = self._context
        self.vm.call("WHvRunVirtualProcessor", self.vm.handle, self.id, ctypes.byref(context), ctypes.sizeof(context))
        return self._exit(context)

    def _exit(self, context: ffi.WHV_RUN_VP_EXIT_CONTEXT) -> exits.VmExit | None:
        """What an exit means to the caller; None: nothing."""
        reason = context.ExitReason
        if reason == C["WHvRunVpExitReasonMemoryAccess"]:
            return self._interpret(self._emulate_memory)
        if reason == C["WHvRunVpExitReasonX64IoPortAccess"]:
            if context.IoPortAccess.AccessInfo >> 4 & 3:
                return self._interpret(self._emulate_port)
            return self._plain_port(context)
        if reason == C["WHvRunVpExitReasonX64Halt"]:
            return exits.Halt()
        if reason == C["WHvRunVpExitReasonCanceled"]:
            return None  # `_run` looks why
        if reason == C["WHvRunVpExitReasonX64MsrAccess"]:
            return self._msr(context)
        if reason == C["WHvRunVpExitReasonX64Cpuid"]:
            self._answer_cpuid(context)
            return None
        if reason == C["WHvRunVpExitReasonX64InterruptWindow"]:
            self._window = False
            return exits.InterruptWindow()
        if reason == C["WHvRunVpExitReasonX64ApicEoi"]:
            return exits.EndOfInterrupt(context.ApicEoi.InterruptVector)
        if reason == C["WHvRunVpExitReasonUnrecoverableException"]:
            return exits.Shutdown()
        if reason == C["WHvRunVpExitReasonException"]:
            return self._exception(context)
        if reason == C["WHvRunVpExitReasonHypercall"]:
            call = context.Hypercall
            found = exits.Hypercall(call.Rax, (call.Rbx, call.Rcx, call.Rdx, call.Rsi, call.Rdi, call.R8))
            self._unfinished = lambda: self._skip({_RAX: found.result})
            return found
        if reason == C["WHvRunVpExitReasonInvalidVpRegisterValue"]:
            return exits.FailEntry(reason)
        if reason == C["WHvRunVpExitReasonUnsupportedFeature"]:
            feature = context.UnsupportedFeature
            return exits.InternalError(reason, (feature.FeatureCode, feature.FeatureParameter))
        return Unsupported(context.VpContext.Rip, "an exit that polyvm does not know", reason)

    def _skip(self, values: Mapping[int, int]) -> None:
        """Go on after the instruction of the last exit, with some registers changed."""
        place = self._context.VpContext
        self._write({**values, _RIP: place.Rip + (place.Length & 15)})

    def _plain_port(self, context: ffi.WHV_RUN_VP_EXIT_CONTEXT) -> exits.PortIo:
        access, io = context.IoPortAccess, self._port
        io.port, io.size = access.PortNumber, access.AccessInfo >> 1 & 7
        io.write, io.count, io.data = bool(access.AccessInfo & 1), 1, b""
        mask = exits.ALL_ONES[io.size]
        io.value = access.Rax & mask if io.write else mask
        rax = access.Rax

        def finish() -> None:
            value = io.value & mask
            # A write of 32 bits clears the upper half, narrower ones leave the rest.
            self._skip({} if io.write else {_RAX: value if io.size == 4 else rax & ~mask | value})

        self._unfinished = finish
        return io

    def _msr(self, context: ffi.WHV_RUN_VP_EXIT_CONTEXT) -> exits.Msr:
        access = context.MsrAccess
        write = bool(access.AccessInfo & 1)
        value = (access.Rdx & 0xFFFF_FFFF) << 32 | access.Rax & 0xFFFF_FFFF if write else 0
        found = exits.Msr(access.MsrNumber, write, value)

        def finish() -> None:
            if found.refused:
                self._raise(_GENERAL_PROTECTION, 0)
            else:
                self._skip({} if write else {_RAX: found.value & 0xFFFF_FFFF, _RDX: found.value >> 32 & 0xFFFF_FFFF})

        self._unfinished = finish
        return found

    def _answer_cpuid(self, context: ffi.WHV_RUN_VP_EXIT_CONTEXT) -> None:
        asked = context.CpuidAccess
        function, index = asked.Rax & 0xFFFF_FFFF, asked.Rcx & 0xFFFF_FFFF
        leaf = self.cpuid.get((function, index)) or self.cpuid.get((function, None))
        if leaf is None:
            values = asked.DefaultResultRax, asked.DefaultResultRbx, asked.DefaultResultRcx, asked.DefaultResultRdx
        else:
            values = leaf.eax, leaf.ebx, leaf.ecx, leaf.edx
        self._skip(dict(zip((_RAX, _RBX, _RCX, _RDX), values, strict=True)))

    def _exception(self, context: ffi.WHV_RUN_VP_EXIT_CONTEXT) -> exits.Debug:
        place, vector = context.VpContext, context.VpException.ExceptionType
        if vector == _BREAKPOINT:
            return exits.Debug(place.Rip, "breakpoint")
        dr6 = context.VpException.ExceptionParameter
        if dr6 & 0xF:
            number = (dr6 & -dr6 & 0xF).bit_length() - 1
            points = len(self._debug.breakpoints)
            if number < points:
                return exits.Debug(place.Rip, "hardware", self._debug.breakpoints[number], dr6)
            return exits.Debug(place.Rip, "watch", self._debug.watchpoints[number - points][0], dr6)
        return exits.Debug(place.Rip, "step", 0, dr6)

    # -- the instruction emulator -----------------------------------------------------------------------------

    def _interpret(self, emulate: Callable[[], int]) -> exits.VmExit | None:
        self._known = []
        return self._emulate(emulate)

    def _emulate(self, emulate: Callable[[], int]) -> exits.VmExit | None:
        """Do the instruction with what is known; the exit for the first access that is not, None if it is done."""
        self._position, self._asks = 0, None
        done = emulate() & 1
        asks = self._asks
        if asks is None:
            if done:
                return None
            place = self._context.VpContext
            code = self._context.MemoryAccess
            return exits.EmulationFailure(place.Rip, bytes(code.InstructionBytes[: code.InstructionByteCount]))
        found: exits.PortIo | exits.Mmio
        if asks.port:
            found = self._port
            found.port, found.count, found.data = asks.address, 1, b""
        else:
            found = self._mmio
            found.address = asks.address
        mask = exits.ALL_ONES[asks.size]
        found.size, found.write, found.value = asks.size, asks.write, asks.value if asks.write else mask

        def go_on() -> exits.VmExit | None:
            asks.value = found.value & mask
            self._known.append(asks)
            return self._emulate(emulate)

        self._unfinished = go_on
        return found

    def _emulate_memory(self) -> int:
        context, status = self._context, ctypes.c_uint32()
        self.vm.call_emulator(
            "WHvEmulatorTryMmioEmulation", self._emulator, None, ctypes.byref(context.VpContext),
            ctypes.byref(context.MemoryAccess), ctypes.byref(status),
        )  # fmt: skip
        return status.value

    def _emulate_port(self) -> int:
        context, status = self._context, ctypes.c_uint32()
        self.vm.call_emulator(
            "WHvEmulatorTryIoEmulation", self._emulator, None, ctypes.byref(context.VpContext),
            ctypes.byref(context.IoPortAccess), ctypes.byref(status),
        )  # fmt: skip
        return status.value

    def _ask(self, address: int, size: int, write: bool, value: int, port: bool) -> int | None:
        """What a device answered to this access; None: nobody has asked it yet."""
        if self._position < len(self._known):
            known = self._known[self._position]
            self._position += 1
            return known.value
        if self._asks is None:
            self._asks = _Access(address, size, write, value, port)
        return None

    def _on_port(self, _: int, access: Any) -> int:
        io = access.contents
        value = self._ask(io.Port, io.AccessSize, bool(io.Direction), io.Data, True)
        if value is None:
            return _FAIL
        if not io.Direction:
            io.Data = value
        return 0

    def _on_memory(self, _: int, access: Any) -> int:
        io = access.contents
        size, write, address = io.AccessSize, bool(io.Direction), io.GpaAddress
        memory = self.vm.config.memory
        try:
            if memory is not None and memory.contains(address, size) and not (write and self.vm.is_readonly(address)):
                if write:
                    memory.write(address, bytes(io.Data[:size]))
                else:
                    io.Data[:size] = list(memory.read(address, size))
                return 0
        except MemoryFault:
            return _FAIL
        value = self._ask(address, size, write, int.from_bytes(bytes(io.Data[:size]), "little"), False)
        if value is None:
            return _FAIL
        if not write:
            io.Data[:size] = list(value.to_bytes(size, "little"))
        return 0

    def _on_get(self, _: int, names: Any, count: int, values: Any) -> int:
        return int(self.vm.library.WHvGetVirtualProcessorRegisters(self.vm.handle, self.id, names, count, values))

    def _on_set(self, _: int, names: Any, count: int, values: Any) -> int:
        return int(self.vm.library.WHvSetVirtualProcessorRegisters(self.vm.handle, self.id, names, count, values))

    def _on_translate(self, _: int, address: int, flags: int, result: Any, physical: Any) -> int:
        found, gpa = ctypes.c_uint64(), ctypes.c_uint64()
        status = self.vm.library.WHvTranslateGva(
            self.vm.handle, self.id, address, flags, ctypes.byref(found), ctypes.byref(gpa)
        )
        result[0], physical[0] = found.value & 0xFFFF_FFFF, gpa.value
        return int(status)

    # -- registers --------------------------------------------------------------------------------------------

    def _get(self, table: Any) -> Any:
        self._make()
        values = table.values()
        self.vm.call("WHvGetVirtualProcessorRegisters", self.vm.handle, self.id, table.names, table.count, values)
        return table.unpack(values)

    def _set(self, table: Any, record: Any) -> None:
        self._make()
        self.vm.call(
            "WHvSetVirtualProcessorRegisters", self.vm.handle, self.id, table.names, table.count, table.pack(record)
        )

    def _read(self, names: Sequence[int]) -> list[int]:
        self._make()
        values = (ffi.WHV_REGISTER_VALUE * len(names))()
        numbers = (ctypes.c_uint32 * len(names))(*names)
        self.vm.call("WHvGetVirtualProcessorRegisters", self.vm.handle, self.id, numbers, len(names), values)
        return [value.Reg64 for value in values]

    def _write(self, registers: Mapping[int, int]) -> None:
        self._make()
        values = (ffi.WHV_REGISTER_VALUE * len(registers))()
        for value, number in zip(values, registers.values(), strict=True):
            value.Reg64 = number
        numbers = (ctypes.c_uint32 * len(registers))(*registers)
        self.vm.call("WHvSetVirtualProcessorRegisters", self.vm.handle, self.id, numbers, len(registers), values)

    def get_regs(self) -> X86Regs:
        """General registers."""
        found: X86Regs = self._get(maps.REGS)
        return found

    def set_regs(self, regs: X86Regs, /) -> None:
        """Write them; an instruction that waits for an answer is given up."""
        self._unfinished = None
        self._set(maps.REGS, regs)

    def get_fpu_regs(self) -> X86Fpu:
        """x87 and SSE."""
        found: X86Fpu = self._get(maps.FPU)
        return found

    def set_fpu_regs(self, regs: X86Fpu, /) -> None:
        """Write them."""
        self._set(maps.FPU, regs)

    def get_special_regs(self) -> X86Special:
        """Segments, tables, control registers."""
        found: X86Special = self._get(maps.SPECIAL)
        return found

    def set_special_regs(self, regs: X86Special, /) -> None:
        """Write them."""
        self._set(maps.SPECIAL, regs)

    def get_msrs(self, indices: Iterable[int]) -> dict[int, int]:
        """Those that the platform has names for."""
        wanted = [index for index in indices if index in maps.MSRS]
        if not wanted:
            return {}
        return dict(zip(wanted, self._read([C[maps.PREFIX + maps.MSRS[i]] for i in wanted]), strict=True))

    def set_msrs(self, values: Mapping[int, int]) -> None:
        """Write them."""
        for index in values:
            if index not in maps.MSRS:
                raise UnsupportedError(f"whpx: the platform has no name for MSR {index:#x}")
        if values:
            self._write({C[maps.PREFIX + maps.MSRS[index]]: value for index, value in values.items()})

    def set_cpuid(self, leaves: Sequence[CpuidLeaf]) -> None:
        """What CPUID answers, before the machine is first used; other functions answer as the host's do."""
        if self.vm.is_set_up:
            raise UnsupportedError("whpx: CPUID is set before the first virtual CPU is used")
        self.cpuid = {(leaf.function, leaf.subleaf if leaf.indexed else None): leaf for leaf in leaves}

    # -- events -----------------------------------------------------------------------------------------------

    def get_events(self) -> X86Events:
        """What is pending."""
        pending, state = self._read([_PENDING, _STATE])
        found = X86Events(interrupt_shadow=state & 1, nmi_masked=bool(state & 2))
        if pending & 1:
            kind, vector = pending >> 1 & 7, pending >> 16 & 0xFFFF
            if kind == C["WHvX64PendingException"]:
                found.exception = vector
                found.error_code = pending >> 32 if pending >> 4 & 1 else None
            elif kind == C["WHvX64PendingNmi"]:
                found.nmi_injected = True
            else:
                found.interrupt = vector
        return found

    def set_events(self, events: X86Events) -> None:
        """Write them; the platform holds one pending event."""
        if events.exception is not None:
            code = events.error_code
            pending = self._pending(C["WHvX64PendingException"], events.exception, code)
        elif events.nmi_injected or events.nmi_pending:
            pending = self._pending(C["WHvX64PendingNmi"], 2)
        elif events.interrupt is not None:
            pending = self._pending(C["WHvX64PendingInterrupt"], events.interrupt)
        else:
            pending = 0
        self._write({_PENDING: pending, _STATE: int(bool(events.interrupt_shadow)) | events.nmi_masked << 1})

    @staticmethod
    def _pending(kind: int, vector: int, error_code: int | None = None) -> int:
        """WHV_X64_PENDING_INTERRUPTION_REGISTER."""
        return 1 | kind << 1 | (error_code is not None) << 4 | vector << 16 | (error_code or 0) << 32

    def _raise(self, vector: int, error_code: int | None = None) -> None:
        self._write({_PENDING: self._pending(C["WHvX64PendingException"], vector, error_code)})

    def can_inject(self) -> bool:
        """IF is set, and neither a shadow nor another event is there."""
        flags, pending, state = self._read([_RFLAGS, _PENDING, _STATE])
        return bool(flags & RFLAGS_IF) and not pending & 1 and not state & 1

    def inject(self, vector: int) -> None:
        """An external interrupt."""
        self._write({_PENDING: self._pending(C["WHvX64PendingInterrupt"], vector)})

    def inject_nmi(self) -> None:
        """A non-maskable interrupt."""
        self._write({_PENDING: self._pending(C["WHvX64PendingNmi"], 2)})

    def request_interrupt_window(self, wanted: bool) -> None:
        """Ask for, or no longer for, an exit when an interrupt can be taken."""
        if wanted != self._window:
            self._write({_WINDOW: 2 if wanted else 0})
            self._window = wanted

    def translate(self, address: int) -> int | None:
        """The guest physical address, if the page tables have one."""
        self._make()
        found, gpa = ctypes.c_uint64(), ctypes.c_uint64()
        self.vm.call(
            "WHvTranslateGva", self.vm.handle, self.id, address, C["WHvTranslateGvaFlagPrivilegeExempt"],
            ctypes.byref(found), ctypes.byref(gpa),
        )  # fmt: skip
        return gpa.value if found.value & 0xFFFF_FFFF == C["WHvTranslateGvaResultSuccess"] else None

    # -- debugging --------------------------------------------------------------------------------------------

    def set_debug(self, control: DebugControl) -> None:
        """Steps by the trap flag, breakpoints and watchpoints by the guest's debug registers."""
        if len(control.breakpoints) + len(control.watchpoints) > 4:
            raise UnsupportedError("x86-64 has four hardware breakpoints and watchpoints")
        self.vm.want_exceptions(bool(control.step or control.breakpoints or control.watchpoints), control.software)
        self._debug = control
        registers, dr7 = [0, 0, 0, 0], 0x400
        points = [(address, 1, "x") for address in control.breakpoints] + list(control.watchpoints)
        for number, (address, size, access) in enumerate(points):
            registers[number] = address
            kind = {"x": 0, "w": 1, "rw": 3}[access]
            dr7 |= 2 << 2 * number | (kind | _LENGTHS[size] << 2) << 16 + 4 * number
        first, second, third, fourth = registers
        self._set(maps.DEBUG, X86Debug(first, second, third, fourth, dr7=dr7))
        flags = self._read([_RFLAGS])[0]
        self._write({_RFLAGS: flags | RFLAGS_TF if control.step else flags & ~RFLAGS_TF})
