"""KVM's interface as <linux/kvm.h> has it: what is the same on every architecture.

A structure is named as in the header without `kvm_` (`struct kvm_irq_level` is `IrqLevel`), a constant without `KVM_`.
Structures with a
flexible array have their head only; whoever uses them makes the array. Architectures add theirs in `kvm_x86_64` and
`kvm_aarch64`.
"""

from __future__ import annotations

import mmap
import os
from ctypes import (
    CDLL,
    Structure,
    Union,
    c_char,
    c_int,
    c_int32,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_ulong,
    c_void_p,
    cast,
    get_errno,
    sizeof,
)
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

u8, u16, u32, u64 = c_uint8, c_uint16, c_uint32, c_uint64


class UserspaceMemoryRegion(Structure):
    _fields_ = (
        ("slot", u32), ("flags", u32), ("guest_phys_addr", u64), ("memory_size", u64), ("userspace_addr", u64),
    )  # fmt: skip


class IrqLevel(Structure):
    _fields_ = (("irq", u32), ("level", u32))


class Interrupt(Structure):
    _fields_ = (("irq", u32),)


class DirtyLog(Structure):
    _fields_ = (("slot", u32), ("padding1", u32), ("dirty_bitmap", u64))


class ClearDirtyLog(Structure):
    _fields_ = (("slot", u32), ("num_pages", u32), ("first_page", u64), ("dirty_bitmap", u64))


class Translation(Structure):
    _fields_ = (
        ("linear_address", u64), ("physical_address", u64), ("valid", u8), ("writeable", u8), ("usermode", u8), ("pad", u8 * 5),
    )  # fmt: skip


class MpState(Structure):
    _fields_ = (("mp_state", u32),)


class Ioeventfd(Structure):
    _fields_ = (
        ("datamatch", u64), ("addr", u64), ("len", u32), ("fd", c_int32), ("flags", u32), ("pad", u8 * 36),
    )  # fmt: skip


class EnableCap(Structure):
    _fields_ = (("cap", u32), ("flags", u32), ("args", u64 * 4), ("pad", u8 * 64))


class IrqRoutingIrqchip(Structure):
    _fields_ = (("irqchip", u32), ("pin", u32))


class IrqRoutingMsi(Structure):
    _fields_ = (("address_lo", u32), ("address_hi", u32), ("data", u32), ("devid", u32))


class _RoutingTarget(Union):
    _fields_ = (("irqchip", IrqRoutingIrqchip), ("msi", IrqRoutingMsi), ("pad", u32 * 8))


class IrqRoutingEntry(Structure):
    _fields_ = (("gsi", u32), ("type", u32), ("flags", u32), ("pad", u32), ("u", _RoutingTarget))


class IrqRouting(Structure):
    _fields_ = (("nr", u32), ("flags", u32))


class Irqfd(Structure):
    _fields_ = (("fd", u32), ("gsi", u32), ("flags", u32), ("resamplefd", u32), ("pad", u8 * 16))


class ClockData(Structure):
    _fields_ = (
        ("clock", u64), ("flags", u32), ("pad0", u32), ("realtime", u64), ("host_tsc", u64), ("pad", u32 * 4),
    )  # fmt: skip


class OneReg(Structure):
    _fields_ = (("id", u64), ("addr", u64))


class Msi(Structure):
    _fields_ = (
        ("address_lo", u32), ("address_hi", u32), ("data", u32), ("flags", u32), ("devid", u32), ("pad", u8 * 12),
    )  # fmt: skip


class CreateDevice(Structure):
    _fields_ = (("type", u32), ("fd", u32), ("flags", u32))


class DeviceAttr(Structure):
    _fields_ = (("flags", u32), ("group", u32), ("attr", u64), ("addr", u64))


class CoalescedMmioZone(Structure):
    _fields_ = (("addr", u64), ("size", u32), ("pio", u32))


class CoalescedMmio(Structure):
    _fields_ = (("phys_addr", u64), ("len", u32), ("pio", u32), ("data", u8 * 8))


class CoalescedMmioRing(Structure):
    _fields_ = (("first", u32), ("last", u32))


class RegList(Structure):
    _fields_ = (("n", u64),)


class Run(Structure):
    """The page that the kernel and a vCPU share, up to the union of what exits say, which begins at `exit`."""

    _fields_ = (
        ("request_interrupt_window", u8), ("immediate_exit", u8), ("padding1", u8 * 6), ("exit_reason", u32),
        ("ready_for_interrupt_injection", u8), ("if_flag", u8), ("flags", u16), ("cr8", u64), ("apic_base", u64),
        ("exit", c_char * 256), ("kvm_valid_regs", u64), ("kvm_dirty_regs", u64), ("s", c_char * 2048),
    )  # fmt: skip


# Where the members of that union lie in the page: (C's name, offset, struct format).
RUN_IO = ("io.direction", 32, "<BBHIQ")  # direction, size, port, count, data_offset
RUN_MMIO = ("mmio.phys_addr", 32, "<Q8sIB")  # phys_addr, data, len, is_write
RUN_MSR = ("msr.error", 32, "<B7xIIQ")  # error, reason, index, data: pads of alignment are the compiler's
RUN_HYPERCALL = ("hypercall.nr", 32, "<Q6QQI")  # nr, args, ret, longmode
RUN_FAIL_ENTRY = ("fail_entry.hardware_entry_failure_reason", 32, "<QI")  # reason, cpu
RUN_INTERNAL = ("internal.suberror", 32, "<II16Q")  # suberror, ndata, data
RUN_SYSTEM_EVENT = ("system_event.type", 32, "<II16Q")  # type, ndata, data
RUN_EOI = ("eoi.vector", 32, "<B")
RUN_DEBUG = ("debug.arch", 32, "")  # struct kvm_debug_exit_arch
RUN_NISV = ("arm_nisv.esr_iss", 32, "<QQ")  # esr_iss, fault_ipa

API_VERSION = 12

EXIT_UNKNOWN, EXIT_EXCEPTION, EXIT_IO, EXIT_HYPERCALL, EXIT_DEBUG, EXIT_HLT, EXIT_MMIO = 0, 1, 2, 3, 4, 5, 6
EXIT_IRQ_WINDOW_OPEN, EXIT_SHUTDOWN, EXIT_FAIL_ENTRY, EXIT_INTR, EXIT_SET_TPR, EXIT_TPR_ACCESS = 7, 8, 9, 10, 11, 12
EXIT_NMI, EXIT_INTERNAL_ERROR, EXIT_WATCHDOG, EXIT_SYSTEM_EVENT, EXIT_IOAPIC_EOI, EXIT_HYPERV = 16, 17, 21, 24, 26, 27
EXIT_ARM_NISV, EXIT_X86_RDMSR, EXIT_X86_WRMSR, EXIT_DIRTY_RING_FULL, EXIT_AP_RESET_HOLD = 28, 29, 30, 31, 32
EXIT_X86_BUS_LOCK, EXIT_XEN, EXIT_RISCV_SBI, EXIT_RISCV_CSR, EXIT_NOTIFY = 33, 34, 35, 36, 37
EXIT_IO_IN, EXIT_IO_OUT = 0, 1
INTERNAL_ERROR_EMULATION, INTERNAL_ERROR_SIMUL_EX, INTERNAL_ERROR_DELIVERY_EV, INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 1, 2, 3, 4
INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES = 1
SYSTEM_EVENT_SHUTDOWN, SYSTEM_EVENT_RESET, SYSTEM_EVENT_CRASH, SYSTEM_EVENT_WAKEUP, SYSTEM_EVENT_SUSPEND = 1, 2, 3, 4, 5
SYSTEM_EVENT_SEV_TERM = 6

MEM_LOG_DIRTY_PAGES, MEM_READONLY = 1, 2
IOEVENTFD_FLAG_DATAMATCH, IOEVENTFD_FLAG_PIO, IOEVENTFD_FLAG_DEASSIGN = 1, 2, 4
IRQFD_FLAG_DEASSIGN, IRQFD_FLAG_RESAMPLE = 1, 2
IRQ_ROUTING_IRQCHIP, IRQ_ROUTING_MSI = 1, 2
MP_STATE_RUNNABLE, MP_STATE_UNINITIALIZED, MP_STATE_INIT_RECEIVED, MP_STATE_HALTED, MP_STATE_SIPI_RECEIVED = 0, 1, 2, 3, 4
MP_STATE_STOPPED = 5
GUESTDBG_ENABLE, GUESTDBG_SINGLESTEP, GUESTDBG_USE_SW_BP = 1, 2, 0x10000
MSR_EXIT_REASON_INVAL, MSR_EXIT_REASON_UNKNOWN, MSR_EXIT_REASON_FILTER = 1, 2, 4
MSI_VALID_DEVID = 1
DEV_TYPE_ARM_VGIC_V2, DEV_TYPE_ARM_VGIC_V3, DEV_TYPE_ARM_VGIC_ITS = 5, 7, 8
REG_ARM64, REG_SIZE_SHIFT, REG_SIZE_MASK = 0x6000_0000_0000_0000, 52, 0x00F0_0000_0000_0000
REG_SIZE_U32, REG_SIZE_U64, REG_SIZE_U128 = 2 << 52, 3 << 52, 4 << 52

CAP_IRQCHIP, CAP_USER_MEMORY, CAP_SET_TSS_ADDR, CAP_EXT_CPUID, CAP_NR_VCPUS, CAP_NR_MEMSLOTS = 0, 3, 4, 7, 9, 10
CAP_MP_STATE, CAP_COALESCED_MMIO, CAP_SYNC_MMU, CAP_USER_NMI, CAP_SET_GUEST_DEBUG, CAP_IRQ_ROUTING = 14, 15, 16, 22, 23, 25
CAP_IRQFD, CAP_IOEVENTFD, CAP_SET_IDENTITY_MAP_ADDR, CAP_ADJUST_CLOCK, CAP_VCPU_EVENTS = 32, 36, 37, 39, 41
CAP_MAX_VCPUS, CAP_ONE_REG, CAP_TSC_DEADLINE_TIMER = 66, 70, 72
CAP_SYNC_REGS, CAP_KVMCLOCK_CTRL, CAP_SIGNAL_MSI, CAP_READONLY_MEM, CAP_IRQFD_RESAMPLE, CAP_ARM_PSCI = 74, 76, 77, 81, 82, 87
CAP_DEVICE_CTRL, CAP_ENABLE_CAP_VM, CAP_IOEVENTFD_ANY_LENGTH, CAP_ARM_PSCI_0_2 = 89, 98, 122, 102
CAP_GUEST_DEBUG_HW_BPS, CAP_GUEST_DEBUG_HW_WPS, CAP_SPLIT_IRQCHIP, CAP_MAX_VCPU_ID, CAP_X2APIC_API = 119, 120, 121, 128, 129
CAP_IMMEDIATE_EXIT, CAP_X86_DISABLE_EXITS, CAP_NESTED_STATE, CAP_COALESCED_PIO, CAP_EXCEPTION_PAYLOAD = 136, 143, 157, 162, 164
CAP_ARM_VM_IPA_SIZE, CAP_MANUAL_DIRTY_LOG_PROTECT2, CAP_ARM_SVE, CAP_ARM_NISV_TO_USER = 165, 168, 170, 177
CAP_X86_USER_SPACE_MSR, CAP_X86_MSR_FILTER, CAP_DIRTY_LOG_RING, CAP_SET_GUEST_DEBUG2, CAP_SREGS2 = 188, 189, 192, 195, 200
CAP_EXIT_HYPERCALL, CAP_XSAVE2, CAP_SYSTEM_EVENT_DATA, CAP_DIRTY_LOG_RING_ACQ_REL = 201, 208, 215, 223

_IO, _TYPE = 0xAE00, 0xAE


def _code(direction: int, number: int, size: int) -> int:
    """_IOC of <asm-generic/ioctl.h>."""
    return direction << 30 | size << 16 | _TYPE << 8 | number


def iow(number: int, argument: type[Structure] | type[c_uint64] | type[c_int]) -> int:
    """_IOW(KVMIO, number, argument)."""
    return _code(1, number, sizeof(argument))


def ior(number: int, argument: type[Structure]) -> int:
    """_IOR(KVMIO, number, argument)."""
    return _code(2, number, sizeof(argument))


def iowr(number: int, argument: type[Structure]) -> int:
    """_IOWR(KVMIO, number, argument)."""
    return _code(3, number, sizeof(argument))


GET_API_VERSION, CREATE_VM, CHECK_EXTENSION, GET_VCPU_MMAP_SIZE = _IO | 0, _IO | 1, _IO | 3, _IO | 4
CREATE_VCPU, CREATE_IRQCHIP, RUN, NMI = _IO | 0x41, _IO | 0x60, _IO | 0x80, _IO | 0x9A
KVMCLOCK_CTRL, RESET_DIRTY_RINGS = _IO | 0xAD, _IO | 0xC7
SET_USER_MEMORY_REGION = iow(0x46, UserspaceMemoryRegion)
GET_DIRTY_LOG, CLEAR_DIRTY_LOG = iow(0x42, DirtyLog), iowr(0xC0, ClearDirtyLog)
IRQ_LINE, SET_GSI_ROUTING, SIGNAL_MSI = iow(0x61, IrqLevel), iow(0x6A, IrqRouting), iow(0xA5, Msi)
IRQFD, IOEVENTFD = iow(0x76, Irqfd), iow(0x79, Ioeventfd)
REGISTER_COALESCED_MMIO, UNREGISTER_COALESCED_MMIO = iow(0x67, CoalescedMmioZone), iow(0x68, CoalescedMmioZone)
SET_CLOCK, GET_CLOCK = iow(0x7B, ClockData), ior(0x7C, ClockData)
TRANSLATE, INTERRUPT = iowr(0x85, Translation), iow(0x86, Interrupt)
GET_MP_STATE, SET_MP_STATE = ior(0x98, MpState), iow(0x99, MpState)
ENABLE_CAP = iow(0xA3, EnableCap)
GET_ONE_REG, SET_ONE_REG, GET_REG_LIST = iow(0xAB, OneReg), iow(0xAC, OneReg), iowr(0xB0, RegList)
CREATE_DEVICE, SET_DEVICE_ATTR = iowr(0xE0, CreateDevice), iow(0xE1, DeviceAttr)
GET_DEVICE_ATTR, HAS_DEVICE_ATTR = iow(0xE2, DeviceAttr), iow(0xE3, DeviceAttr)


class Library:
    """The calls of the operating system that KVM needs. `polyvm.testing` has another with the same names.

    ctypes, since `fcntl.ioctl` begins again after EINTR (from CPython 3.14 on), which is how a vCPU is kicked.
    """

    def __init__(self) -> None:
        libc = CDLL(None, use_errno=True)
        self.ioctl: Callable[[int, int, object], int] = libc.ioctl
        libc.ioctl.argtypes, libc.ioctl.restype = [c_int, c_ulong, c_void_p], c_int
        self.tgkill: Callable[[int, int, int], int] = libc.tgkill
        libc.tgkill.argtypes, libc.tgkill.restype = [c_int, c_int, c_int], c_int
        self._signal = libc.signal
        self._signal.argtypes, self._signal.restype = [c_int, c_void_p], c_void_p
        self._nothing = libc.abs

    def open(self, path: str) -> int:
        """open(2)."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """close(2)."""
        os.close(fd)

    def map(self, fd: int, size: int) -> mmap.mmap | bytearray:
        """mmap(2), shared."""
        return mmap.mmap(fd, size)

    def errno(self) -> int:
        """What the last call that failed says."""
        return get_errno()

    def ignore_signal(self, number: int) -> None:
        """Let a signal do nothing but interrupt system calls, unless it has a handler. The handler is a function of the C library
        that takes a number and has no effect: Python's own would run Python code in the main thread at each kick."""
        before = self._signal(number, cast(self._nothing, c_void_p).value)
        if before not in (None, 0, 1):  # SIG_DFL and SIG_IGN
            self._signal(number, before)
