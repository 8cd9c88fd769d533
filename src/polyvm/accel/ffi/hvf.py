"""Hypervisor.framework (Hypervisor/hv.h and what it includes): constants, structures, signatures.

Names are the framework's own. On Apple silicon a guest is aarch64, on Intel Macs x86-64; the two interfaces share little but
memory. Nothing here calls anything: `library()` opens the framework and types the functions of one of them, and raises OSError
where there is none.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_bool, c_size_t, c_uint16, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = "/System/Library/Frameworks/Hypervisor.framework/Hypervisor"

# hv_return_t (hv_error.h)
HV_SUCCESS = 0
HV_ERROR = 0xFAE94001
HV_BUSY = 0xFAE94002
HV_BAD_ARGUMENT = 0xFAE94003
HV_ILLEGAL_GUEST_STATE = 0xFAE94004
HV_NO_RESOURCES = 0xFAE94005
HV_NO_DEVICE = 0xFAE94006
HV_DENIED = 0xFAE94007
HV_UNSUPPORTED = 0xFAE9400F
RETURNS: Mapping[int, str] = {
    HV_ERROR: "HV_ERROR", HV_BUSY: "HV_BUSY", HV_BAD_ARGUMENT: "HV_BAD_ARGUMENT",
    HV_ILLEGAL_GUEST_STATE: "HV_ILLEGAL_GUEST_STATE", HV_NO_RESOURCES: "HV_NO_RESOURCES", HV_NO_DEVICE: "HV_NO_DEVICE",
    HV_DENIED: "HV_DENIED", HV_UNSUPPORTED: "HV_UNSUPPORTED",
}  # fmt: skip

# hv_memory_flags_t
HV_MEMORY_READ, HV_MEMORY_WRITE, HV_MEMORY_EXEC = 1, 2, 4

# -- Apple silicon (hv_vcpu_types.h) ------------------------------------------------------------------------------

HV_EXIT_REASON_CANCELED, HV_EXIT_REASON_EXCEPTION, HV_EXIT_REASON_VTIMER_ACTIVATED, HV_EXIT_REASON_UNKNOWN = range(4)
HV_INTERRUPT_TYPE_IRQ, HV_INTERRUPT_TYPE_FIQ = 0, 1
# hv_reg_t: X0 to X30, then these.
HV_REG_X0, HV_REG_PC, HV_REG_FPCR, HV_REG_FPSR, HV_REG_CPSR = 0, 31, 32, 33, 34
HV_SIMD_FP_REG_Q0 = 0

# hv_sys_reg_t: op0, op1, CRn, CRm and op2 of MRS in 2, 3, 4, 4 and 3 bits (Arm ARM, C5.3).
_SYSTEM_REGISTERS = """
MDSCR_EL1=8012 MIDR_EL1=c000 MPIDR_EL1=c005 ID_AA64PFR0_EL1=c020 ID_AA64PFR1_EL1=c021 ID_AA64DFR0_EL1=c028
ID_AA64DFR1_EL1=c029 ID_AA64ISAR0_EL1=c030 ID_AA64ISAR1_EL1=c031 ID_AA64MMFR0_EL1=c038 ID_AA64MMFR1_EL1=c039
ID_AA64MMFR2_EL1=c03a SCTLR_EL1=c080 CPACR_EL1=c082 TTBR0_EL1=c100 TTBR1_EL1=c101 TCR_EL1=c102 APIAKEYLO_EL1=c108
APIAKEYHI_EL1=c109 APIBKEYLO_EL1=c10a APIBKEYHI_EL1=c10b APDAKEYLO_EL1=c110 APDAKEYHI_EL1=c111 APDBKEYLO_EL1=c112
APDBKEYHI_EL1=c113 APGAKEYLO_EL1=c118 APGAKEYHI_EL1=c119 SPSR_EL1=c200 ELR_EL1=c201 SP_EL0=c208 AFSR0_EL1=c288
AFSR1_EL1=c289 ESR_EL1=c290 FAR_EL1=c300 PAR_EL1=c3a0 MAIR_EL1=c510 AMAIR_EL1=c518 VBAR_EL1=c600 CONTEXTIDR_EL1=c681
TPIDR_EL1=c684 CNTKCTL_EL1=c708 CSSELR_EL1=d000 TPIDR_EL0=de82 TPIDRRO_EL0=de83 CNTV_CTL_EL0=df19 CNTV_CVAL_EL0=df1a
SP_EL1=e208
"""
SYSTEM_REGISTERS: Mapping[str, int] = {
    name: int(value, 16) for name, value in (word.split("=") for word in _SYSTEM_REGISTERS.split())
}


class hv_vcpu_exit_exception_t(Structure):  # noqa: N801
    """An exception that the guest took to the host: ESR, FAR and the intermediate physical address."""

    _fields_ = [("syndrome", c_uint64), ("virtual_address", c_uint64), ("physical_address", c_uint64)]


class hv_vcpu_exit_t(Structure):  # noqa: N801
    """Why hv_vcpu_run came back."""

    _fields_ = [("reason", c_uint32), ("exception", hv_vcpu_exit_exception_t)]


# -- Intel Macs (hv_arch_x86.h, hv_arch_vmx.h, hv_vmx.h) ------------------------------------------------------------

# hv_x86_reg_t, in order from 0.
X86_REGISTERS: Mapping[str, int] = {
    name: number
    for number, name in enumerate(
        (
            "RIP RFLAGS RAX RCX RDX RBX RSI RDI RSP RBP R8 R9 R10 R11 R12 R13 R14 R15 CS SS DS ES FS GS IDT_BASE IDT_LIMIT "
            "GDT_BASE GDT_LIMIT LDTR LDT_BASE LDT_LIMIT LDT_AR TR TSS_BASE TSS_LIMIT TSS_AR CR0 CR1 CR2 CR3 CR4 DR0 DR1 DR2 "
            "DR3 DR4 DR5 DR6 DR7 TPR XCR0"
        ).split()
    )
}

# hv_vmx_capability_t
HV_VMX_CAP_PINBASED, HV_VMX_CAP_PROCBASED, HV_VMX_CAP_PROCBASED2, HV_VMX_CAP_ENTRY, HV_VMX_CAP_EXIT = range(5)
HV_VMX_CAP_PREEMPTION_TIMER = 32

# VMCS fields by the names of hv_arch_vmx.h; encodings from the Intel SDM, volume 3, appendix B.
_VMCS = """
GUEST_ES=0800 GUEST_CS=0802 GUEST_SS=0804 GUEST_DS=0806 GUEST_FS=0808 GUEST_GS=080a GUEST_LDTR=080c GUEST_TR=080e
GUEST_PHYSICAL_ADDRESS=2400 GUEST_LINK_POINTER=2800 GUEST_IA32_DEBUGCTL=2802 GUEST_IA32_PAT=2804 GUEST_IA32_EFER=2806
CTRL_PIN_BASED=4000 CTRL_CPU_BASED=4002 CTRL_EXC_BITMAP=4004 CTRL_VMEXIT_CONTROLS=400c CTRL_VMENTRY_CONTROLS=4012
CTRL_VMENTRY_IRQ_INFO=4016 CTRL_VMENTRY_EXC_ERROR=4018 CTRL_VMENTRY_INSTR_LEN=401a CTRL_TPR_THRESHOLD=401c
CTRL_CPU_BASED2=401e RO_INSTR_ERROR=4400 RO_EXIT_REASON=4402 RO_VMEXIT_IRQ_INFO=4404 RO_VMEXIT_IRQ_ERROR=4406
RO_IDT_VECTOR_INFO=4408 RO_IDT_VECTOR_ERROR=440a RO_VMEXIT_INSTR_LEN=440c RO_VMX_INSTR_INFO=440e
GUEST_ES_LIMIT=4800 GUEST_CS_LIMIT=4802 GUEST_SS_LIMIT=4804 GUEST_DS_LIMIT=4806 GUEST_FS_LIMIT=4808 GUEST_GS_LIMIT=480a
GUEST_LDTR_LIMIT=480c GUEST_TR_LIMIT=480e GUEST_GDTR_LIMIT=4810 GUEST_IDTR_LIMIT=4812 GUEST_ES_AR=4814 GUEST_CS_AR=4816
GUEST_SS_AR=4818 GUEST_DS_AR=481a GUEST_FS_AR=481c GUEST_GS_AR=481e GUEST_LDTR_AR=4820 GUEST_TR_AR=4822
GUEST_IGNORE_IRQ=4824 GUEST_ACTIVITY_STATE=4826 GUEST_SMBASE=4828 GUEST_IA32_SYSENTER_CS=482a
CTRL_CR0_MASK=6000 CTRL_CR4_MASK=6002 CTRL_CR0_SHADOW=6004 CTRL_CR4_SHADOW=6006 RO_EXIT_QUALIFIC=6400
RO_GUEST_LIN_ADDR=640a GUEST_CR0=6800 GUEST_CR3=6802 GUEST_CR4=6804 GUEST_ES_BASE=6806 GUEST_CS_BASE=6808
GUEST_SS_BASE=680a GUEST_DS_BASE=680c GUEST_FS_BASE=680e GUEST_GS_BASE=6810 GUEST_LDTR_BASE=6812 GUEST_TR_BASE=6814
GUEST_GDTR_BASE=6816 GUEST_IDTR_BASE=6818 GUEST_DR7=681a GUEST_RSP=681c GUEST_RIP=681e GUEST_RFLAGS=6820
GUEST_DEBUG_EXC=6822 GUEST_SYSENTER_ESP=6824 GUEST_SYSENTER_EIP=6826
"""
VMCS: Mapping[str, int] = {name: int(value, 16) for name, value in (word.split("=") for word in _VMCS.split())}

# Basic exit reasons (Intel SDM, volume 3, appendix C).
EXIT_EXCEPTION, EXIT_EXTERNAL_INTERRUPT, EXIT_TRIPLE_FAULT, EXIT_INTERRUPT_WINDOW = 0, 1, 2, 7
EXIT_CPUID, EXIT_HLT, EXIT_RDTSC, EXIT_VMCALL, EXIT_CR_ACCESS, EXIT_IO, EXIT_RDMSR, EXIT_WRMSR = 10, 12, 16, 18, 28, 30, 31, 32
EXIT_INVALID_GUEST_STATE, EXIT_EPT_VIOLATION, EXIT_EPT_MISCONFIGURATION, EXIT_XSETBV = 33, 48, 49, 55

STRUCTURES: Mapping[str, type[Structure]] = {
    "hv_vcpu_exit_exception_t": hv_vcpu_exit_exception_t,
    "hv_vcpu_exit_t": hv_vcpu_exit_t,
}

# Parameters by function; all answer an hv_return_t.
_ARM_VCPU = c_uint64
ARM_FUNCTIONS: Mapping[str, tuple[Any, ...]] = {
    "hv_vm_create": (c_void_p,),
    "hv_vm_destroy": (),
    "hv_vm_map": (c_void_p, c_uint64, c_size_t, c_uint64),
    "hv_vm_unmap": (c_uint64, c_size_t),
    "hv_vm_protect": (c_uint64, c_size_t, c_uint64),
    "hv_vcpu_create": (POINTER(_ARM_VCPU), POINTER(POINTER(hv_vcpu_exit_t)), c_void_p),
    "hv_vcpu_destroy": (_ARM_VCPU,),
    "hv_vcpu_run": (_ARM_VCPU,),
    "hv_vcpus_exit": (POINTER(_ARM_VCPU), c_uint32),
    "hv_vcpu_get_reg": (_ARM_VCPU, c_uint32, POINTER(c_uint64)),
    "hv_vcpu_set_reg": (_ARM_VCPU, c_uint32, c_uint64),
    "hv_vcpu_get_sys_reg": (_ARM_VCPU, c_uint16, POINTER(c_uint64)),
    "hv_vcpu_set_sys_reg": (_ARM_VCPU, c_uint16, c_uint64),
    "hv_vcpu_get_simd_fp_reg": (_ARM_VCPU, c_uint32, c_void_p),
    "hv_vcpu_get_pending_interrupt": (_ARM_VCPU, c_uint32, POINTER(c_bool)),
    "hv_vcpu_set_pending_interrupt": (_ARM_VCPU, c_uint32, c_bool),
    "hv_vcpu_set_trap_debug_exceptions": (_ARM_VCPU, c_bool),
    "hv_vcpu_set_trap_debug_reg_accesses": (_ARM_VCPU, c_bool),
    "hv_vcpu_get_exec_time": (_ARM_VCPU, POINTER(c_uint64)),
    "hv_vcpu_get_vtimer_mask": (_ARM_VCPU, POINTER(c_bool)),
    "hv_vcpu_set_vtimer_mask": (_ARM_VCPU, c_bool),
    "hv_vcpu_get_vtimer_offset": (_ARM_VCPU, POINTER(c_uint64)),
    "hv_vcpu_set_vtimer_offset": (_ARM_VCPU, c_uint64),
}
# hv_vcpu_set_simd_fp_reg takes its vector by value, in q0, which ctypes cannot pass: a routine in machine code gets (vcpu,
# register, address of the vector, address of the function), loads q0 and goes on there.
SET_SIMD = "hv_vcpu_set_simd_fp_reg"
SET_SIMD_CODE = bytes.fromhex("4000c03d" "60001fd6")  # ldr q0, [x2]; br x3
SET_SIMD_PARAMETERS = (_ARM_VCPU, c_uint32, c_void_p, c_void_p)
MAP_JIT = 0x800  # <sys/mman.h>
# The framework's interrupt controller, since macOS 15 (hv_gic.h, hv_gic_config.h); the first answers an object.
GIC_FUNCTIONS: Mapping[str, tuple[Any, ...]] = {
    "hv_gic_config_set_distributor_base": (c_void_p, c_uint64),
    "hv_gic_config_set_redistributor_base": (c_void_p, c_uint64),
    "hv_gic_create": (c_void_p,),
    "hv_gic_set_spi": (c_uint32, c_bool),
    "hv_gic_send_msi": (c_uint64, c_uint32),
}
GIC_CONFIG_CREATE = "hv_gic_config_create"
_X86_VCPU = c_uint32
X86_FUNCTIONS: Mapping[str, tuple[Any, ...]] = {
    "hv_vm_create": (c_uint64,),
    "hv_vm_destroy": (),
    "hv_vm_map": (c_void_p, c_uint64, c_size_t, c_uint64),
    "hv_vm_unmap": (c_uint64, c_size_t),
    "hv_vm_protect": (c_uint64, c_size_t, c_uint64),
    "hv_vcpu_create": (POINTER(_X86_VCPU), c_uint64),
    "hv_vcpu_destroy": (_X86_VCPU,),
    "hv_vcpu_run": (_X86_VCPU,),
    "hv_vcpu_run_until": (_X86_VCPU, c_uint64),
    "hv_vcpu_interrupt": (POINTER(_X86_VCPU), c_uint32),
    "hv_vcpu_read_register": (_X86_VCPU, c_uint32, POINTER(c_uint64)),
    "hv_vcpu_write_register": (_X86_VCPU, c_uint32, c_uint64),
    "hv_vcpu_read_fpstate": (_X86_VCPU, c_void_p, c_size_t),
    "hv_vcpu_write_fpstate": (_X86_VCPU, c_void_p, c_size_t),
    "hv_vcpu_enable_native_msr": (_X86_VCPU, c_uint32, c_bool),
    "hv_vcpu_read_msr": (_X86_VCPU, c_uint32, POINTER(c_uint64)),
    "hv_vcpu_write_msr": (_X86_VCPU, c_uint32, c_uint64),
    "hv_vcpu_flush": (_X86_VCPU,),
    "hv_vcpu_invalidate_tlb": (_X86_VCPU,),
    "hv_vmx_vcpu_read_vmcs": (_X86_VCPU, c_uint32, POINTER(c_uint64)),
    "hv_vmx_vcpu_write_vmcs": (_X86_VCPU, c_uint32, c_uint64),
    "hv_vmx_read_capability": (c_uint32, POINTER(c_uint64)),
}


def declare(library: Any, functions: Mapping[str, tuple[Any, ...]]) -> Any:
    """`library` with its `functions` typed."""
    for name, parameters in functions.items():
        function = getattr(library, name)
        function.argtypes = parameters
        function.restype = c_uint32
    return library


def library(architecture: str) -> Any:
    """The framework with the functions for guests of `architecture` (``"aarch64"`` or ``"x86_64"``); OSError where there is
    none, AttributeError where it is too old."""
    found = declare(ctypes.CDLL(PATH), ARM_FUNCTIONS if architecture == "aarch64" else X86_FUNCTIONS)
    if architecture == "aarch64" and hasattr(found, GIC_CONFIG_CREATE):
        declare(found, GIC_FUNCTIONS)
        getattr(found, GIC_CONFIG_CREATE).restype = c_void_p
    return found
