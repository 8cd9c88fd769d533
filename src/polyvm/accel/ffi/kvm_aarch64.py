"""KVM's interface on aarch64, as <asm/kvm.h> has it. Names as in `polyvm.accel.ffi.kvm`."""

from __future__ import annotations

from ctypes import Structure, c_int, c_uint8, c_uint32, c_uint64

from polyvm.accel.ffi.kvm import REG_ARM64, REG_SIZE_U64, ior, iow

u8, u32, u64 = c_uint8, c_uint32, c_uint64


class _PtRegs(Structure):
    _fields_ = (("regs", u64 * 31), ("sp", u64), ("pc", u64), ("pstate", u64))


class _FpsimdState(Structure):
    _fields_ = (("vregs", u64 * 2 * 32), ("fpsr", u32), ("fpcr", u32), ("reserved", u32 * 2))


class Regs(Structure):
    """Never passed to the kernel: registers are numbered by their offset in it, in 32-bit words."""

    _fields_ = (
        ("regs", _PtRegs), ("sp_el1", u64), ("elr_el1", u64), ("spsr", u64 * 5), ("_align", u64), ("fp_regs", _FpsimdState),
    )  # fmt: skip


class VcpuInit(Structure):
    _fields_ = (("target", u32), ("features", u32 * 7))


class GuestDebugArch(Structure):
    _fields_ = (("dbg_bcr", u64 * 16), ("dbg_bvr", u64 * 16), ("dbg_wcr", u64 * 16), ("dbg_wvr", u64 * 16))


class GuestDebug(Structure):
    _fields_ = (("control", u32), ("pad", u32), ("arch", GuestDebugArch))


class DebugExitArch(Structure):
    _fields_ = (("hsr", u32), ("hsr_high", u32), ("far", u64))


class _Exception(Structure):
    _fields_ = (("serror_pending", u8), ("serror_has_esr", u8), ("ext_dabt_pending", u8), ("pad", u8 * 5), ("serror_esr", u64))


class VcpuEvents(Structure):
    _fields_ = (("exception", _Exception), ("reserved", u32 * 12))


REG_ARM_CORE, REG_ARM64_SYSREG = 0x10 << 16, 0x13 << 16
REG_ARM64_SYSREG_OP0_SHIFT, REG_ARM64_SYSREG_OP1_SHIFT, REG_ARM64_SYSREG_CRN_SHIFT, REG_ARM64_SYSREG_CRM_SHIFT = 14, 11, 7, 3


def sysreg(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    """ARM64_SYS_REG: the number of a system register for KVM_GET_ONE_REG."""
    return REG_ARM64 | REG_SIZE_U64 | REG_ARM64_SYSREG | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2


# The kernel has the encodings of these two exchanged, and says that it always will.
REG_ARM_TIMER_CTL, REG_ARM_TIMER_CVAL, REG_ARM_TIMER_CNT = sysreg(3, 3, 14, 3, 1), sysreg(3, 3, 14, 0, 2), sysreg(3, 3, 14, 3, 2)
ARM_VCPU_POWER_OFF, ARM_VCPU_PSCI_0_2, ARM_VCPU_PMU_V3, ARM_VCPU_SVE = 0, 2, 3, 4
GUESTDBG_USE_HW, ARM_MAX_DBG_REGS = 1 << 17, 16
VGIC_V3_ADDR_TYPE_DIST, VGIC_V3_ADDR_TYPE_REDIST, VGIC_V3_ADDR_TYPE_REDIST_REGION = 2, 3, 5
DEV_ARM_VGIC_GRP_ADDR, DEV_ARM_VGIC_GRP_NR_IRQS, DEV_ARM_VGIC_GRP_CTRL, DEV_ARM_VGIC_CTRL_INIT = 0, 3, 4, 0
ARM_IRQ_VCPU2_SHIFT, ARM_IRQ_TYPE_SHIFT, ARM_IRQ_VCPU_SHIFT, ARM_IRQ_NUM_SHIFT = 28, 24, 16, 0
ARM_IRQ_TYPE_CPU, ARM_IRQ_TYPE_SPI, ARM_IRQ_TYPE_PPI = 0, 1, 2
ARM_IRQ_CPU_IRQ, ARM_IRQ_CPU_FIQ = 0, 1

ARM_VCPU_INIT, ARM_PREFERRED_TARGET, ARM_VCPU_FINALIZE = iow(0xAE, VcpuInit), ior(0xAF, VcpuInit), iow(0xC2, c_int)
SET_GUEST_DEBUG = iow(0x9B, GuestDebug)
GET_VCPU_EVENTS, SET_VCPU_EVENTS = ior(0x9F, VcpuEvents), iow(0xA0, VcpuEvents)
