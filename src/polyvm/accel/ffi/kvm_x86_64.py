"""KVM's interface on x86-64, as <asm/kvm.h> and <linux/kvm.h> have it. Names as in `polyvm.accel.ffi.kvm`."""

from __future__ import annotations

from ctypes import Structure, c_char, c_int64, c_uint8, c_uint16, c_uint32, c_uint64

from polyvm.accel.ffi.kvm import _IO, ior, iow, iowr

u8, u16, u32, u64 = c_uint8, c_uint16, c_uint32, c_uint64
NR_INTERRUPTS = 256


class Regs(Structure):
    _fields_ = tuple(
        (name, u64)
        for name in (
            "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip",
            "rflags",
        )
    )  # fmt: skip


class Segment(Structure):
    _fields_ = (
        ("base", u64), ("limit", u32), ("selector", u16), ("type", u8), ("present", u8), ("dpl", u8), ("db", u8), ("s", u8),
        ("l", u8), ("g", u8), ("avl", u8), ("unusable", u8), ("padding", u8),
    )  # fmt: skip


class Dtable(Structure):
    _fields_ = (("base", u64), ("limit", u16), ("padding", u16 * 3))


class Sregs(Structure):
    _fields_ = (
        ("cs", Segment), ("ds", Segment), ("es", Segment), ("fs", Segment), ("gs", Segment), ("ss", Segment), ("tr", Segment),
        ("ldt", Segment), ("gdt", Dtable), ("idt", Dtable), ("cr0", u64), ("cr2", u64), ("cr3", u64), ("cr4", u64), ("cr8", u64),
        ("efer", u64), ("apic_base", u64), ("interrupt_bitmap", u64 * (NR_INTERRUPTS // 64)),
    )  # fmt: skip


class Fpu(Structure):
    _fields_ = (
        ("fpr", u8 * 16 * 8), ("fcw", u16), ("fsw", u16), ("ftwx", u8), ("pad1", u8), ("last_opcode", u16), ("last_ip", u64),
        ("last_dp", u64), ("xmm", u8 * 16 * 16), ("mxcsr", u32), ("pad2", u32),
    )  # fmt: skip


class MsrEntry(Structure):
    _fields_ = (("index", u32), ("reserved", u32), ("data", u64))


class Msrs(Structure):
    _fields_ = (("nmsrs", u32), ("pad", u32))


class MsrList(Structure):
    _fields_ = (("nmsrs", u32),)


class MsrFilterRange(Structure):
    _fields_ = (("flags", u32), ("nmsrs", u32), ("base", u32), ("bitmap", u64))


class MsrFilter(Structure):
    _fields_ = (("flags", u32), ("ranges", MsrFilterRange * 16))


class CpuidEntry2(Structure):
    _fields_ = (
        ("function", u32), ("index", u32), ("flags", u32), ("eax", u32), ("ebx", u32), ("ecx", u32), ("edx", u32),
        ("padding", u32 * 3),
    )  # fmt: skip


class Cpuid2(Structure):
    _fields_ = (("nent", u32), ("padding", u32))


class PitConfig(Structure):
    _fields_ = (("flags", u32), ("pad", u32 * 15))


class PitChannelState(Structure):
    _fields_ = (
        ("count", u32), ("latched_count", u16), ("count_latched", u8), ("status_latched", u8), ("status", u8), ("read_state", u8),
        ("write_state", u8), ("write_latch", u8), ("rw_mode", u8), ("mode", u8), ("bcd", u8), ("gate", u8), ("count_load_time",
        c_int64),
    )  # fmt: skip


class PitState2(Structure):
    _fields_ = (("channels", PitChannelState * 3), ("flags", u32), ("reserved", u32 * 9))


class LapicState(Structure):
    _fields_ = (("regs", c_char * 0x400),)


class Irqchip(Structure):
    _fields_ = (("chip_id", u32), ("pad", u32), ("chip", c_char * 512))


class DebugExitArch(Structure):
    _fields_ = (("exception", u32), ("pad", u32), ("pc", u64), ("dr6", u64), ("dr7", u64))


class GuestDebugArch(Structure):
    _fields_ = (("debugreg", u64 * 8),)


class GuestDebug(Structure):
    _fields_ = (("control", u32), ("pad", u32), ("arch", GuestDebugArch))


class _Exception(Structure):
    _fields_ = (("injected", u8), ("nr", u8), ("has_error_code", u8), ("pending", u8), ("error_code", u32))


class _Interrupt(Structure):
    _fields_ = (("injected", u8), ("nr", u8), ("soft", u8), ("shadow", u8))


class _Nmi(Structure):
    _fields_ = (("injected", u8), ("pending", u8), ("masked", u8), ("pad", u8))


class _Smi(Structure):
    _fields_ = (("smm", u8), ("pending", u8), ("smm_inside_nmi", u8), ("latched_init", u8))


class VcpuEvents(Structure):
    _fields_ = (
        ("exception", _Exception), ("interrupt", _Interrupt), ("nmi", _Nmi), ("sipi_vector", u32), ("flags", u32), ("smi", _Smi),
        ("triple_fault", u8), ("reserved", u8 * 26), ("exception_has_payload", u8), ("exception_payload", u64),
    )  # fmt: skip


class Debugregs(Structure):
    _fields_ = (("db", u64 * 4), ("dr6", u64), ("dr7", u64), ("flags", u64), ("reserved", u64 * 9))


class Xsave(Structure):
    _fields_ = (("region", u32 * 1024),)


class Xcr(Structure):
    _fields_ = (("xcr", u32), ("reserved", u32), ("value", u64))


class Xcrs(Structure):
    _fields_ = (("nr_xcrs", u32), ("flags", u32), ("xcrs", Xcr * 16), ("padding", u64 * 16))


class SyncRegs(Structure):
    _fields_ = (("regs", Regs), ("sregs", Sregs), ("events", VcpuEvents))


SYNC_X86_REGS, SYNC_X86_SREGS, SYNC_X86_EVENTS = 1, 2, 4
GUESTDBG_USE_HW_BP, GUESTDBG_INJECT_DB, GUESTDBG_INJECT_BP, GUESTDBG_BLOCKIRQ = 0x20000, 0x40000, 0x80000, 0x100000
VCPUEVENT_VALID_NMI_PENDING, VCPUEVENT_VALID_SIPI_VECTOR, VCPUEVENT_VALID_SHADOW = 1, 2, 4
X86_SHADOW_INT_MOV_SS, X86_SHADOW_INT_STI = 1, 2
CPUID_FLAG_SIGNIFCANT_INDEX = 1
IRQCHIP_PIC_MASTER, IRQCHIP_PIC_SLAVE, IRQCHIP_IOAPIC = 0, 1, 2
MSR_FILTER_READ, MSR_FILTER_WRITE, MSR_FILTER_DEFAULT_ALLOW, MSR_FILTER_DEFAULT_DENY = 1, 2, 0, 1
MSR_FILTER_MAX_RANGES = 16
PIT_SPEAKER_DUMMY = 1
CAP_PIT2, CAP_DEBUGREGS, CAP_XSAVE, CAP_XCRS = 33, 50, 55, 56

GET_MSR_INDEX_LIST, GET_SUPPORTED_CPUID = iowr(0x02, MsrList), iowr(0x05, Cpuid2)
SET_TSS_ADDR, SET_IDENTITY_MAP_ADDR = _IO | 0x47, iow(0x48, u64)
GET_IRQCHIP, SET_IRQCHIP = iowr(0x62, Irqchip), ior(0x63, Irqchip)
CREATE_PIT2, GET_PIT2, SET_PIT2 = iow(0x77, PitConfig), ior(0x9F, PitState2), iow(0xA0, PitState2)
GET_REGS, SET_REGS, GET_SREGS, SET_SREGS = ior(0x81, Regs), iow(0x82, Regs), ior(0x83, Sregs), iow(0x84, Sregs)
GET_MSRS, SET_MSRS, SET_CPUID2 = iowr(0x88, Msrs), iow(0x89, Msrs), iow(0x90, Cpuid2)
GET_FPU, SET_FPU, GET_LAPIC, SET_LAPIC = ior(0x8C, Fpu), iow(0x8D, Fpu), ior(0x8E, LapicState), iow(0x8F, LapicState)
SET_GUEST_DEBUG = iow(0x9B, GuestDebug)
GET_VCPU_EVENTS, SET_VCPU_EVENTS = ior(0x9F, VcpuEvents), iow(0xA0, VcpuEvents)
GET_DEBUGREGS, SET_DEBUGREGS = ior(0xA1, Debugregs), iow(0xA2, Debugregs)
GET_XSAVE, SET_XSAVE, GET_XSAVE2 = ior(0xA4, Xsave), iow(0xA5, Xsave), ior(0xCF, Xsave)
GET_XCRS, SET_XCRS = ior(0xA6, Xcrs), iow(0xA7, Xcrs)
SET_TSC_KHZ, GET_TSC_KHZ = _IO | 0xA2, _IO | 0xA3
X86_SET_MSR_FILTER = iow(0xC6, MsrFilter)
