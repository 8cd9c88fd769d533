"""KVM's vCPUs on x86-64: registers, CPUID, MSRs, interrupts, debugging."""

from __future__ import annotations

import struct
from contextlib import suppress
from ctypes import Array, addressof, byref, c_char, c_uint64, create_string_buffer, sizeof
from typing import TYPE_CHECKING, Any

from polyvm.accel import fxsave
from polyvm.accel.ffi import kvm as k
from polyvm.accel.ffi import kvm_x86_64 as x
from polyvm.accel.kvm_vcpu import KvmVcpu
from polyvm.accel.registers import StructMap, checked
from polyvm.errors import EngineError, MemoryFault, UnsupportedError, UsageError
from polyvm.vcpu.contract import CpuidLeaf, DebugControl
from polyvm.vcpu.machine_exits import Debug, VmExit
from polyvm.vcpu.x86_64 import Segment, Table, X86Debug, X86Events, X86Fpu, X86Regs, X86Special

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from polyvm.accel.kvm_vm import KvmVm

# The register maps: contract → struct kvm_regs, kvm_sregs, kvm_debugregs.
REGS = StructMap(
    X86Regs,
    x.Regs,
    (
        ("rax", "rax"), ("rbx", "rbx"), ("rcx", "rcx"), ("rdx", "rdx"), ("rsi", "rsi"), ("rdi", "rdi"), ("rsp", "rsp"),
        ("rbp", "rbp"), ("r8", "r8"), ("r9", "r9"), ("r10", "r10"), ("r11", "r11"), ("r12", "r12"), ("r13", "r13"),
        ("r14", "r14"), ("r15", "r15"), ("rip", "rip"), ("rflags", "rflags"),
    ),
)  # fmt: skip
_SPECIAL = checked(
    X86Special,
    (
        ("cs", "cs"), ("ds", "ds"), ("es", "es"), ("fs", "fs"), ("gs", "gs"), ("ss", "ss"), ("tr", "tr"), ("ldt", "ldt"),
        ("gdt", "gdt"), ("idt", "idt"), ("cr0", "cr0"), ("cr2", "cr2"), ("cr3", "cr3"), ("cr4", "cr4"), ("cr8", "cr8"),
        ("efer", "efer"), ("apic_base", "apic_base"),
    ),
)  # fmt: skip
_SEGMENT = struct.Struct("<QIH10B")
_SYNC = k.Run.s.offset
_VALID, _DIRTY = k.Run.kvm_valid_regs.offset, k.Run.kvm_dirty_regs.offset
_TSS, _IDENTITY = 0xFEFF_D000, 0xFEFF_C000  # four pages below the usual place of firmware that Intel's real mode needs
_IOAPIC_PINS = 24


class X86Provider:
    """What x86-64 adds to a VM."""

    def vm_type(self, limit: int) -> int:
        """The one type."""
        return 0

    def set_up(self, vm: KvmVm) -> None:
        """Interrupt controllers, timer, MSR exits, as the configuration asks."""
        config = vm.config
        vm.call(x.SET_TSS_ADDR, _TSS, "KVM_SET_TSS_ADDR")
        if vm.has(k.CAP_SET_IDENTITY_MAP_ADDR):
            vm.call(x.SET_IDENTITY_MAP_ADDR, byref(c_uint64(_IDENTITY)), "KVM_SET_IDENTITY_MAP_ADDR")
        if config.irqchip == "full":
            vm.capabilities.require("irqchip")
            vm.call(k.CREATE_IRQCHIP, None, "KVM_CREATE_IRQCHIP")
        elif config.irqchip == "split":
            vm.capabilities.require("split_irqchip")
            vm.enable(k.CAP_SPLIT_IRQCHIP, _IOAPIC_PINS)
        elif config.irqchip != "none":
            raise UsageError(f'an irqchip is "full", "split" or "none", not {config.irqchip!r}')
        if config.pit:
            vm.capabilities.require("pit")
            if config.irqchip != "full":
                raise UsageError("the i8254 timer needs irqchip='full', which has the interrupt controller that it is wired to")
            vm.call(x.CREATE_PIT2, byref(x.PitConfig(x.PIT_SPEAKER_DUMMY)), "KVM_CREATE_PIT2")
        if config.msr_exits:
            vm.capabilities.require("msr_exits")
            reasons = k.MSR_EXIT_REASON_INVAL | k.MSR_EXIT_REASON_UNKNOWN | k.MSR_EXIT_REASON_FILTER
            vm.enable(k.CAP_X86_USER_SPACE_MSR, reasons)

    def vcpu(self, vm: KvmVm, number: int, fd: int, page: Any) -> X86KvmVcpu:
        """A vCPU with CPUID as the host has it."""
        vcpu = X86KvmVcpu(vm, number, fd, page)
        if vm.capabilities.cpuid:
            from polyvm.accel.cpuid import for_vcpu

            vcpu.set_cpuid(for_vcpu(supported_cpuid(vm), number, vm.config.vcpus))
        return vcpu

    def line(self, vm: KvmVm, gsi: int) -> int:
        """Global interrupt numbers are KVM's own."""
        if not 0 <= gsi < _IOAPIC_PINS:
            raise UsageError(f"there is no interrupt line {gsi}; the I/O APIC has {_IOAPIC_PINS}")
        return gsi


def supported_cpuid(vm: KvmVm) -> list[CpuidLeaf]:
    """What the host's processor and KVM can offer (KVM_GET_SUPPORTED_CPUID)."""
    size = 256
    buffer = create_string_buffer(8 + size * sizeof(x.CpuidEntry2))
    struct.pack_into("<II", buffer, 0, size, 0)
    fd = vm.library.open(vm.device)
    try:
        if vm.library.ioctl(fd, x.GET_SUPPORTED_CPUID, buffer) < 0:
            raise EngineError("KVM_GET_SUPPORTED_CPUID failed")
    finally:
        vm.library.close(fd)
    (count,) = struct.unpack_from("<I", buffer)
    found: list[CpuidLeaf] = []
    for index in range(count):
        function, subleaf, flags, a, b, c, d = struct.unpack_from("<7I", buffer, 8 + index * sizeof(x.CpuidEntry2))
        found.append(CpuidLeaf(function, subleaf, a, b, c, d, indexed=bool(flags & x.CPUID_FLAG_SIGNIFCANT_INDEX)))
    return found


def set_msr_filter(vm: KvmVm, denied: Iterable[int]) -> None:
    """Accesses to these MSRs are left to us (`Msr` exits with the reason "filter", where the VM has `msr_exits`); all others
    are not."""
    vm.capabilities.require("msr_filter")
    indices = sorted(set(denied))
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and index - ranges[-1][-1] <= 64:
            ranges[-1].append(index)
        else:
            ranges.append([index])
    if len(ranges) > x.MSR_FILTER_MAX_RANGES:
        raise UsageError(f"a filter has at most {x.MSR_FILTER_MAX_RANGES} ranges of MSRs, not {len(ranges)}")
    made = x.MsrFilter(x.MSR_FILTER_DEFAULT_ALLOW)
    bitmaps: list[Array[c_char]] = []
    for place, members in enumerate(ranges):
        count = members[-1] - members[0] + 1
        bits = (1 << count) - 1
        for index in members:
            bits &= ~(1 << index - members[0])
        bitmaps.append(create_string_buffer(bits.to_bytes(-(-count // 8), "little"), -(-count // 8)))
        target = made.ranges[place]
        target.flags, target.nmsrs, target.base = x.MSR_FILTER_READ | x.MSR_FILTER_WRITE, count, members[0]
        target.bitmap = addressof(bitmaps[-1])
    vm.call(x.X86_SET_MSR_FILTER, byref(made), "KVM_X86_SET_MSR_FILTER")


class X86KvmVcpu(KvmVcpu):
    """An x86-64 vCPU. General registers come and go with the run page (KVM_CAP_SYNC_REGS), at no cost."""

    guest = "x86_64"

    def __init__(self, vm: KvmVm, number: int, fd: int, page: Any) -> None:
        super().__init__(vm, number, fd, page)
        self._sync = bool(vm.has(k.CAP_SYNC_REGS) & x.SYNC_X86_REGS)
        self._fresh = False  # whether the page has the general registers
        self._xsave_size = vm.has(k.CAP_XSAVE2) or sizeof(x.Xsave)
        self._debug: DebugControl = DebugControl()
        if self._sync:
            struct.pack_into("<Q", page, _VALID, x.SYNC_X86_REGS)

    def entered(self) -> None:
        """The page has the registers now."""
        self._fresh = self._sync

    # -- registers --------------------------------------------------------------------------------------------

    def get_regs(self) -> X86Regs:
        """General registers; from the run page once the guest has run."""
        self._open()
        if self._fresh:
            return REGS.get(self.page, _SYNC)
        data = x.Regs()
        self.call(x.GET_REGS, byref(data), "KVM_GET_REGS")
        return REGS.get(data)

    def set_regs(self, regs: X86Regs, /) -> None:
        """General registers, from the next entry on."""
        self._open()
        if self._fresh:
            REGS.set(self.page, _SYNC, regs)
            struct.pack_into("<Q", self.page, _DIRTY, x.SYNC_X86_REGS)
            return
        data = x.Regs()
        REGS.set(data, 0, regs)
        self.call(x.SET_REGS, byref(data), "KVM_SET_REGS")

    def _open(self) -> None:
        if self._released:
            raise UsageError("this vCPU is closed")

    def _flush(self) -> None:
        """Registers that wait in the page for the next entry go to the kernel, where another call needs them."""
        if self._fresh and self.raw[_DIRTY]:
            data = x.Regs.from_buffer_copy(self.raw[_SYNC : _SYNC + REGS.size])
            self.call(x.SET_REGS, byref(data), "KVM_SET_REGS")

    def get_special_regs(self) -> X86Special:
        """Segments, tables, control registers (KVM_GET_SREGS)."""
        data = x.Sregs()
        self.call(x.GET_SREGS, byref(data), "KVM_GET_SREGS")
        found: dict[str, Any] = {}
        for name, field in _SPECIAL.items():
            value: Any = getattr(data, field)
            if isinstance(value, x.Segment):
                value = _segment(value)
            elif isinstance(value, x.Dtable):
                value = Table(value.base, value.limit)
            found[name] = value
        return X86Special(**found)

    def set_special_regs(self, regs: X86Special, /) -> None:
        """All of them (KVM_SET_SREGS). LMA follows from LME and PG, as the processor has it."""
        data = x.Sregs()
        self.call(x.GET_SREGS, byref(data), "KVM_GET_SREGS")  # pending interrupts stay as they are
        for name, field in _SPECIAL.items():
            value = getattr(regs, name)
            if isinstance(value, Segment):
                _SEGMENT.pack_into(getattr(data, field), 0, *_segment_values(value))
            elif isinstance(value, Table):
                target = getattr(data, field)
                target.base, target.limit = value.base, value.limit
            else:
                setattr(data, field, value)
        if regs.efer & 0x100:
            data.efer = regs.efer & ~0x400 | (0x400 if regs.cr0 >> 31 & 1 else 0)
        self.call(x.SET_SREGS, byref(data), "KVM_SET_SREGS")

    def get_fpu_regs(self) -> X86Fpu:
        """x87 and SSE, from the XSAVE image where there is one."""
        if self.vm.capabilities.xsave:
            return fxsave.unpack(self.get_xsave())
        data = x.Fpu()
        self.call(x.GET_FPU, byref(data), "KVM_GET_FPU")
        return fxsave.from_kvm(data)

    def set_fpu_regs(self, regs: X86Fpu, /) -> None:
        """x87 and SSE; other parts of the extended state stay as they are."""
        if self.vm.capabilities.xsave:
            image = bytearray(self.get_xsave())
            fxsave.pack(image, regs)
            self.set_xsave(image)
            return
        data = x.Fpu()
        fxsave.to_kvm(data, regs)
        self.call(x.SET_FPU, byref(data), "KVM_SET_FPU")

    def get_xsave(self) -> bytes:
        """The extended state, as XSAVE's standard form lays it out (SDM volume 1, 13.4)."""
        self.vm.capabilities.require("xsave")
        buffer = create_string_buffer(self._xsave_size)
        large = self._xsave_size > sizeof(x.Xsave)
        self.call(x.GET_XSAVE2 if large else x.GET_XSAVE, buffer, "KVM_GET_XSAVE")
        return buffer.raw

    def set_xsave(self, image: bytes | bytearray) -> None:
        """The reverse of `get_xsave`."""
        self.vm.capabilities.require("xsave")
        buffer = create_string_buffer(bytes(image), self._xsave_size)
        self.call(x.SET_XSAVE, buffer, "KVM_SET_XSAVE")

    def get_xcr0(self) -> int:
        """XCR0 (KVM_GET_XCRS)."""
        data = x.Xcrs()
        self.call(x.GET_XCRS, byref(data), "KVM_GET_XCRS")
        return next((int(entry.value) for entry in data.xcrs[: data.nr_xcrs] if entry.xcr == 0), 1)

    def set_xcr0(self, value: int) -> None:
        """XCR0 (KVM_SET_XCRS)."""
        data = x.Xcrs(1, 0)
        data.xcrs[0].value = value
        self.call(x.SET_XCRS, byref(data), "KVM_SET_XCRS")

    def get_debug_regs(self) -> X86Debug:
        """The guest's own debug registers (KVM_GET_DEBUGREGS)."""
        data = x.Debugregs()
        self.call(x.GET_DEBUGREGS, byref(data), "KVM_GET_DEBUGREGS")
        return X86Debug(data.db[0], data.db[1], data.db[2], data.db[3], data.dr6, data.dr7)

    def set_debug_regs(self, regs: X86Debug) -> None:
        """The guest's own debug registers (KVM_SET_DEBUGREGS)."""
        data = x.Debugregs((c_uint64 * 4)(regs.dr0, regs.dr1, regs.dr2, regs.dr3), regs.dr6, regs.dr7)
        self.call(x.SET_DEBUGREGS, byref(data), "KVM_SET_DEBUGREGS")

    # -- MSRs and CPUID ---------------------------------------------------------------------------------------

    def get_msrs(self, indices: Iterable[int]) -> dict[int, int]:
        """KVM_GET_MSRS; those that KVM does not have are left out."""
        wanted = list(indices)
        found: dict[int, int] = {}
        while wanted:
            buffer = _msrs([(index, 0) for index in wanted])
            done = self.call(x.GET_MSRS, buffer, "KVM_GET_MSRS")
            for place in range(done):
                index, value = struct.unpack_from("<I4xQ", buffer, 8 + 16 * place)
                found[index] = value
            wanted = wanted[done + 1 :]  # the kernel stops at the first that it does not have
        return found

    def set_msrs(self, values: Mapping[int, int]) -> None:
        """KVM_SET_MSRS."""
        pairs = list(values.items())
        done = self.call(x.SET_MSRS, _msrs(pairs), "KVM_SET_MSRS") if pairs else 0
        if done < len(pairs):
            raise UnsupportedError(f"KVM refuses to set MSR {pairs[done][0]:#x} to {pairs[done][1]:#x}")

    def set_cpuid(self, leaves: Sequence[CpuidLeaf]) -> None:
        """KVM_SET_CPUID2."""
        buffer = create_string_buffer(8 + len(leaves) * sizeof(x.CpuidEntry2))
        struct.pack_into("<II", buffer, 0, len(leaves), 0)
        for place, leaf in enumerate(leaves):
            struct.pack_into(
                "<7I", buffer, 8 + place * sizeof(x.CpuidEntry2), leaf.function, leaf.subleaf,
                x.CPUID_FLAG_SIGNIFCANT_INDEX if leaf.indexed else 0, leaf.eax, leaf.ebx, leaf.ecx, leaf.edx,
            )  # fmt: skip
        self.call(x.SET_CPUID2, buffer, "KVM_SET_CPUID2")

    # -- interrupts -------------------------------------------------------------------------------------------

    def get_events(self) -> X86Events:
        """KVM_GET_VCPU_EVENTS."""
        data = x.VcpuEvents()
        self.call(x.GET_VCPU_EVENTS, byref(data), "KVM_GET_VCPU_EVENTS")
        fault, interrupt, nmi = data.exception, data.interrupt, data.nmi
        there = fault.injected or fault.pending
        shadow = (1 if interrupt.shadow & x.X86_SHADOW_INT_STI else 0) | (2 if interrupt.shadow & x.X86_SHADOW_INT_MOV_SS else 0)
        return X86Events(
            exception=fault.nr if there else None,
            error_code=fault.error_code if there and fault.has_error_code else None,
            interrupt=interrupt.nr if interrupt.injected else None,
            soft=bool(interrupt.soft), interrupt_shadow=shadow, nmi_injected=bool(nmi.injected), nmi_pending=bool(nmi.pending),
            nmi_masked=bool(nmi.masked),
        )  # fmt: skip

    def set_events(self, events: X86Events) -> None:
        """KVM_SET_VCPU_EVENTS."""
        data = x.VcpuEvents()
        self.call(x.GET_VCPU_EVENTS, byref(data), "KVM_GET_VCPU_EVENTS")
        fault, interrupt, nmi = data.exception, data.interrupt, data.nmi
        fault.injected, fault.pending, fault.nr = int(events.exception is not None), 0, events.exception or 0
        fault.has_error_code, fault.error_code = int(events.error_code is not None), events.error_code or 0
        interrupt.injected, interrupt.nr = int(events.interrupt is not None), events.interrupt or 0
        interrupt.soft = int(events.soft)
        interrupt.shadow = (x.X86_SHADOW_INT_STI if events.interrupt_shadow & 1 else 0) | (
            x.X86_SHADOW_INT_MOV_SS if events.interrupt_shadow & 2 else 0
        )
        nmi.injected, nmi.pending, nmi.masked = int(events.nmi_injected), int(events.nmi_pending), int(events.nmi_masked)
        data.flags = x.VCPUEVENT_VALID_NMI_PENDING | x.VCPUEVENT_VALID_SHADOW
        self.call(x.SET_VCPU_EVENTS, byref(data), "KVM_SET_VCPU_EVENTS")

    def can_inject(self) -> bool:
        """Whether the guest can take an interrupt: valid after an exit."""
        return bool(self.raw[12])

    def inject(self, vector: int) -> None:
        """KVM_INTERRUPT."""
        if self.vm.config.irqchip != "none":
            raise UsageError("this VM has interrupt controllers in the kernel: use irq_line or signal_msi")
        self.call(k.INTERRUPT, byref(k.Interrupt(vector)), "KVM_INTERRUPT")

    def inject_nmi(self) -> None:
        """KVM_NMI."""
        self.call(k.NMI, None, "KVM_NMI")

    def request_interrupt_window(self, wanted: bool) -> None:
        """Ask for an `InterruptWindow` exit."""
        self.raw[0] = int(wanted)

    def get_lapic(self) -> bytes:
        """The local APIC's registers as a guest sees them, 0x400 bytes (KVM_GET_LAPIC)."""
        data = x.LapicState()
        self.call(x.GET_LAPIC, byref(data), "KVM_GET_LAPIC")
        return bytes(data)

    def set_lapic(self, image: bytes) -> None:
        """KVM_SET_LAPIC."""
        self.call(x.SET_LAPIC, byref(x.LapicState.from_buffer_copy(image)), "KVM_SET_LAPIC")

    def get_mp_state(self) -> int:
        """KVM_GET_MP_STATE: 0 runnable, 1 not started, 3 halted."""
        data = k.MpState()
        self.call(k.GET_MP_STATE, byref(data), "KVM_GET_MP_STATE")
        return int(data.mp_state)

    def set_mp_state(self, state: int) -> None:
        """KVM_SET_MP_STATE."""
        self.call(k.SET_MP_STATE, byref(k.MpState(state)), "KVM_SET_MP_STATE")

    def pause_clock(self) -> None:
        """Tell the guest's watchdogs that it was stopped (KVM_KVMCLOCK_CTRL); without a kvmclock in the guest it does nothing."""
        with suppress(EngineError):
            self.call(k.KVMCLOCK_CTRL, None, "KVM_KVMCLOCK_CTRL")

    # -- debugging --------------------------------------------------------------------------------------------

    def set_debug(self, control: DebugControl) -> None:
        """KVM_SET_GUEST_DEBUG."""
        data = x.GuestDebug()
        if control.step or control.software or control.breakpoints or control.watchpoints:
            data.control = k.GUESTDBG_ENABLE
        if control.step:
            self.vm.capabilities.require("single_step")
            data.control |= k.GUESTDBG_SINGLESTEP
        if control.software:
            self.vm.capabilities.require("software_breakpoints")
            data.control |= k.GUESTDBG_USE_SW_BP
        if control.breakpoints or control.watchpoints:
            self.vm.capabilities.require("hardware_breakpoints")
            data.control |= x.GUESTDBG_USE_HW_BP
            for number, value in enumerate(debug_registers(control)):
                data.arch.debugreg[number] = value
        self._flush()
        self.call(x.SET_GUEST_DEBUG, byref(data), "KVM_SET_GUEST_DEBUG")
        self._debug = control

    def debug_exit(self) -> VmExit:
        """Which of the things that were asked for it is (DR6; SDM volume 3, 17.2.3)."""
        exception, _, pc, dr6, _ = struct.unpack_from("<IIQQQ", self.page, 32)
        if exception == 3:
            return Debug(pc, "breakpoint", pc, dr6)
        points = len(self._debug.breakpoints)
        for number in range(4):
            if dr6 >> number & 1:
                if number < points:
                    return Debug(pc, "hardware", self._debug.breakpoints[number], dr6)
                if number - points < len(self._debug.watchpoints):
                    return Debug(pc, "watch", self._debug.watchpoints[number - points][0], dr6)
        return Debug(pc, "step", pc, dr6)

    # -- memory -----------------------------------------------------------------------------------------------

    def translate(self, address: int) -> int | None:
        """KVM_TRANSLATE."""
        data = k.Translation(address)
        try:
            self.call(k.TRANSLATE, byref(data), "KVM_TRANSLATE")
        except EngineError:
            return None
        return int(data.physical_address) if data.valid else None

    def program_counter(self) -> int:
        """RIP."""
        return self.get_regs().rip

    def code_at(self, pc: int) -> bytes:
        """Up to 15 bytes of code."""
        memory, found = self.vm.memory, b""
        if memory is None:
            return found
        base = self.get_special_regs().cs.base
        while len(found) < 15:
            address = base + pc + len(found)
            physical = self.translate(address)
            if physical is None:
                break
            try:
                found += memory.read(physical, min(15 - len(found), 0x1000 - (address & 0xFFF)))
            except MemoryFault:
                break
        return found


def _segment(raw: x.Segment) -> Segment:
    attributes = raw.type | raw.s << 4 | raw.dpl << 5 | raw.present << 7
    attributes |= raw.avl << 12 | raw.l << 13 | raw.db << 14 | raw.g << 15
    return Segment(raw.base, raw.limit, raw.selector, attributes | raw.unusable << 16)


def _segment_values(segment: Segment) -> tuple[int, ...]:
    """In the order of struct kvm_segment."""
    a = segment.attributes
    return (
        segment.base, segment.limit, segment.selector, a & 15, a >> 7 & 1, a >> 5 & 3, a >> 14 & 1, a >> 4 & 1, a >> 13 & 1,
        a >> 15 & 1, a >> 12 & 1, a >> 16 & 1, 0,
    )  # fmt: skip


def _msrs(pairs: Sequence[tuple[int, int]]) -> Array[c_char]:
    buffer = create_string_buffer(8 + 16 * len(pairs))
    struct.pack_into("<II", buffer, 0, len(pairs), 0)
    for place, (index, value) in enumerate(pairs):
        struct.pack_into("<IIQ", buffer, 8 + 16 * place, index, 0, value)
    return buffer


def debug_registers(control: DebugControl) -> list[int]:
    """DR0 to DR7 for what `set_debug` asks (SDM volume 3, 17.2.4); raises UsageError for what they cannot hold."""
    if len(control.breakpoints) + len(control.watchpoints) > 4:
        raise UsageError("x86-64 has four debug registers for breakpoints and watchpoints together")
    registers = [0] * 8
    registers[7] = 0x400
    places = [(address, 0, 0) for address in control.breakpoints]
    for address, size, kind in control.watchpoints:
        if size not in (1, 2, 4, 8) or address % size or kind not in ("w", "rw"):
            raise UsageError(f"a watchpoint is 1, 2, 4 or 8 bytes, aligned, of kind w or rw; not {size} at {address:#x}, {kind}")
        places.append((address, 1 if kind == "w" else 3, {1: 0, 2: 1, 4: 3, 8: 2}[size]))
    for number, (address, kind_bits, size_bits) in enumerate(places):
        registers[number] = address
        registers[7] |= 2 << 2 * number | kind_bits << 16 + 4 * number | size_bits << 18 + 4 * number
    return registers
