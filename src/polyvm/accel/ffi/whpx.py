"""Windows Hypervisor Platform (winhvplatform.h, winhvplatformdefs.h, winhvemulation.h): constants, structures, signatures.

Names are the headers' own. Nothing here calls anything: `library()` opens WinHvPlatform.dll, `emulator()` WinHvEmulation.dll, and
types their functions; each raises OSError where there is none.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, Union, c_int32, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CONSTANTS = """
# WHV_CAPABILITY_CODE
WHvCapabilityCodeHypervisorPresent = 0x0
WHvCapabilityCodeFeatures = 0x1
WHvCapabilityCodeExtendedVmExits = 0x2
WHvCapabilityCodeExceptionExitBitmap = 0x3
WHvCapabilityCodeX64MsrExitBitmap = 0x4
WHvCapabilityCodeProcessorVendor = 0x1000
WHvCapabilityCodeProcessorFeatures = 0x1001
WHvCapabilityCodeProcessorClFlushSize = 0x1002
WHvCapabilityCodeProcessorXsaveFeatures = 0x1003
WHvCapabilityCodeProcessorClockFrequency = 0x1004
WHvCapabilityCodeInterruptClockFrequency = 0x1005
WHvCapabilityCodeProcessorFeaturesBanks = 0x1006
# WHV_PARTITION_PROPERTY_CODE
WHvPartitionPropertyCodeExtendedVmExits = 0x1
WHvPartitionPropertyCodeExceptionExitBitmap = 0x2
WHvPartitionPropertyCodeSeparateSecurityDomain = 0x3
WHvPartitionPropertyCodeNestedVirtualization = 0x4
WHvPartitionPropertyCodeX64MsrExitBitmap = 0x5
WHvPartitionPropertyCodeProcessorFeatures = 0x1001
WHvPartitionPropertyCodeProcessorClFlushSize = 0x1002
WHvPartitionPropertyCodeCpuidExitList = 0x1003
WHvPartitionPropertyCodeCpuidResultList = 0x1004
WHvPartitionPropertyCodeLocalApicEmulationMode = 0x1005
WHvPartitionPropertyCodeProcessorXsaveFeatures = 0x1006
WHvPartitionPropertyCodeProcessorClockFrequency = 0x1007
WHvPartitionPropertyCodeInterruptClockFrequency = 0x1008
WHvPartitionPropertyCodeProcessorFeaturesBanks = 0x100A
WHvPartitionPropertyCodeReferenceTime = 0x100B
WHvPartitionPropertyCodeProcessorCount = 0x1FFF
# WHV_X64_LOCAL_APIC_EMULATION_MODE
WHvX64LocalApicEmulationModeNone = 0
WHvX64LocalApicEmulationModeXApic = 1
WHvX64LocalApicEmulationModeX2Apic = 2
# WHV_MAP_GPA_RANGE_FLAGS
WHvMapGpaRangeFlagNone = 0x0
WHvMapGpaRangeFlagRead = 0x1
WHvMapGpaRangeFlagWrite = 0x2
WHvMapGpaRangeFlagExecute = 0x4
WHvMapGpaRangeFlagTrackDirtyPages = 0x8
# WHV_TRANSLATE_GVA_FLAGS, WHV_TRANSLATE_GVA_RESULT_CODE
WHvTranslateGvaFlagNone = 0x0
WHvTranslateGvaFlagValidateRead = 0x1
WHvTranslateGvaFlagValidateWrite = 0x2
WHvTranslateGvaFlagValidateExecute = 0x4
WHvTranslateGvaFlagPrivilegeExempt = 0x8
WHvTranslateGvaFlagSetPageTableBits = 0x10
WHvTranslateGvaResultSuccess = 0
# WHV_MEMORY_ACCESS_TYPE
WHvMemoryAccessRead = 0
WHvMemoryAccessWrite = 1
WHvMemoryAccessExecute = 2
# WHV_RUN_VP_EXIT_REASON
WHvRunVpExitReasonNone = 0x0
WHvRunVpExitReasonMemoryAccess = 0x1
WHvRunVpExitReasonX64IoPortAccess = 0x2
WHvRunVpExitReasonUnrecoverableException = 0x4
WHvRunVpExitReasonInvalidVpRegisterValue = 0x5
WHvRunVpExitReasonUnsupportedFeature = 0x6
WHvRunVpExitReasonX64InterruptWindow = 0x7
WHvRunVpExitReasonX64Halt = 0x8
WHvRunVpExitReasonX64ApicEoi = 0x9
WHvRunVpExitReasonSynicSintDeliverable = 0xA
WHvRunVpExitReasonX64MsrAccess = 0x1000
WHvRunVpExitReasonX64Cpuid = 0x1001
WHvRunVpExitReasonException = 0x1002
WHvRunVpExitReasonX64Rdtsc = 0x1003
WHvRunVpExitReasonX64ApicSmiTrap = 0x1004
WHvRunVpExitReasonHypercall = 0x1005
WHvRunVpExitReasonX64ApicInitSipiTrap = 0x1006
WHvRunVpExitReasonX64ApicWriteTrap = 0x1007
WHvRunVpExitReasonCanceled = 0x2001
# WHV_X64_PENDING_INTERRUPTION_TYPE, WHV_X64_PENDING_EVENT_TYPE
WHvX64PendingInterrupt = 0
WHvX64PendingNmi = 2
WHvX64PendingException = 3
WHvX64PendingEventException = 0
WHvX64PendingEventExtInt = 5
# WHV_INTERRUPT_TYPE, WHV_INTERRUPT_DESTINATION_MODE, WHV_INTERRUPT_TRIGGER_MODE
WHvX64InterruptTypeFixed = 0
WHvX64InterruptTypeLowestPriority = 1
WHvX64InterruptTypeNmi = 4
WHvX64InterruptTypeInit = 5
WHvX64InterruptTypeSipi = 6
WHvX64InterruptTypeLocalInt1 = 9
WHvX64InterruptDestinationModePhysical = 0
WHvX64InterruptDestinationModeLogical = 1
WHvX64InterruptTriggerModeEdge = 0
WHvX64InterruptTriggerModeLevel = 1
# WHV_REGISTER_NAME
WHvX64RegisterRax = 0x0
WHvX64RegisterRcx = 0x1
WHvX64RegisterRdx = 0x2
WHvX64RegisterRbx = 0x3
WHvX64RegisterRsp = 0x4
WHvX64RegisterRbp = 0x5
WHvX64RegisterRsi = 0x6
WHvX64RegisterRdi = 0x7
WHvX64RegisterR8 = 0x8
WHvX64RegisterR9 = 0x9
WHvX64RegisterR10 = 0xA
WHvX64RegisterR11 = 0xB
WHvX64RegisterR12 = 0xC
WHvX64RegisterR13 = 0xD
WHvX64RegisterR14 = 0xE
WHvX64RegisterR15 = 0xF
WHvX64RegisterRip = 0x10
WHvX64RegisterRflags = 0x11
WHvX64RegisterEs = 0x12
WHvX64RegisterCs = 0x13
WHvX64RegisterSs = 0x14
WHvX64RegisterDs = 0x15
WHvX64RegisterFs = 0x16
WHvX64RegisterGs = 0x17
WHvX64RegisterLdtr = 0x18
WHvX64RegisterTr = 0x19
WHvX64RegisterIdtr = 0x1A
WHvX64RegisterGdtr = 0x1B
WHvX64RegisterCr0 = 0x1C
WHvX64RegisterCr2 = 0x1D
WHvX64RegisterCr3 = 0x1E
WHvX64RegisterCr4 = 0x1F
WHvX64RegisterCr8 = 0x20
WHvX64RegisterDr0 = 0x21
WHvX64RegisterDr1 = 0x22
WHvX64RegisterDr2 = 0x23
WHvX64RegisterDr3 = 0x24
WHvX64RegisterDr6 = 0x25
WHvX64RegisterDr7 = 0x26
WHvX64RegisterXCr0 = 0x27
WHvX64RegisterXmm0 = 0x1000
WHvX64RegisterXmm15 = 0x100F
WHvX64RegisterFpMmx0 = 0x1010
WHvX64RegisterFpMmx7 = 0x1017
WHvX64RegisterFpControlStatus = 0x1018
WHvX64RegisterXmmControlStatus = 0x1019
WHvX64RegisterTsc = 0x2000
WHvX64RegisterEfer = 0x2001
WHvX64RegisterKernelGsBase = 0x2002
WHvX64RegisterApicBase = 0x2003
WHvX64RegisterPat = 0x2004
WHvX64RegisterSysenterCs = 0x2005
WHvX64RegisterSysenterEip = 0x2006
WHvX64RegisterSysenterEsp = 0x2007
WHvX64RegisterStar = 0x2008
WHvX64RegisterLstar = 0x2009
WHvX64RegisterCstar = 0x200A
WHvX64RegisterSfmask = 0x200B
WHvX64RegisterInitialApicId = 0x200C
WHvX64RegisterTscAux = 0x207B
WHvX64RegisterSpecCtrl = 0x2084
WHvX64RegisterXss = 0x208B
WHvX64RegisterTscDeadline = 0x2095
WHvX64RegisterTscAdjust = 0x2096
WHvX64RegisterApicId = 0x3002
WHvX64RegisterApicVersion = 0x3003
WHvX64RegisterApicTpr = 0x3008
WHvRegisterPendingInterruption = 0x80000000
WHvRegisterInterruptState = 0x80000001
WHvRegisterPendingEvent = 0x80000002
WHvX64RegisterDeliverabilityNotifications = 0x80000004
WHvRegisterInternalActivityState = 0x80000005
WHvX64RegisterPendingDebugException = 0x80000006
"""


def _parse(text: str) -> dict[str, int]:
    lines = [line.split(" = ") for line in text.strip().splitlines() if not line.startswith("#")]
    return {name: int(value, 16 if value.startswith("0x") else 10) for name, value in lines}


CONSTANTS: Mapping[str, int] = _parse(_CONSTANTS)
globals().update(CONSTANTS)

if TYPE_CHECKING:

    def __getattr__(name: str) -> int: ...


# HRESULTs (winerror.h): functions answer 0 or one of these as a negative number.
S_OK = 0
E_INVALIDARG = 0x80070057
# WHV_E_*, facility 0x37
WHV_E_UNKNOWN_CAPABILITY = 0x80370300
WHV_E_INSUFFICIENT_BUFFER = 0x80370301
WHV_E_UNKNOWN_PROPERTY = 0x80370302
WHV_E_UNSUPPORTED_HYPERVISOR_CONFIG = 0x80370303
WHV_E_INVALID_PARTITION_CONFIG = 0x80370304
WHV_E_GPA_RANGE_NOT_FOUND = 0x80370305
WHV_E_VP_ALREADY_EXISTS = 0x80370306
WHV_E_VP_DOES_NOT_EXIST = 0x80370307
WHV_E_INVALID_VP_STATE = 0x80370308
WHV_E_INVALID_VP_REGISTER_NAME = 0x80370309

# Bits of WHV_CAPABILITY_FEATURES and WHV_EXTENDED_VM_EXITS.
FEATURE_PARTIAL_UNMAP, FEATURE_LOCAL_APIC, FEATURE_XSAVE, FEATURE_DIRTY_PAGES = 1 << 0, 1 << 1, 1 << 2, 1 << 3
EXIT_CPUID, EXIT_MSR, EXIT_EXCEPTION, EXIT_RDTSC, EXIT_HYPERCALL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 5


class WHV_UINT128(Structure):  # noqa: N801
    """A 128-bit value."""

    _fields_ = [("Low64", c_uint64), ("High64", c_uint64)]


class WHV_X64_SEGMENT_REGISTER(Structure):  # noqa: N801
    """A segment with its hidden part; `Attributes` are the descriptor's access byte, and its flags from bit 12 on."""

    _fields_ = [("Base", c_uint64), ("Limit", c_uint32), ("Selector", c_uint16), ("Attributes", c_uint16)]


class WHV_X64_TABLE_REGISTER(Structure):  # noqa: N801
    """GDTR or IDTR."""

    _fields_ = [("Pad", c_uint16 * 3), ("Limit", c_uint16), ("Base", c_uint64)]


class WHV_X64_FP_CONTROL_STATUS_REGISTER(Structure):  # noqa: N801
    """The x87 unit's control and status."""

    _fields_ = [
        ("FpControl", c_uint16), ("FpStatus", c_uint16), ("FpTag", c_uint8), ("Reserved", c_uint8),
        ("LastFpOp", c_uint16), ("LastFpRip", c_uint64),
    ]  # fmt: skip


class WHV_X64_XMM_CONTROL_STATUS_REGISTER(Structure):  # noqa: N801
    """MXCSR."""

    _fields_ = [("LastFpRdp", c_uint64), ("XmmStatusControl", c_uint32), ("XmmStatusControlMask", c_uint32)]


class WHV_REGISTER_VALUE(Union):  # noqa: N801
    """The value of any register; 16 bytes, aligned so."""

    _fields_ = [
        ("Reg128", WHV_UINT128), ("Reg64", c_uint64), ("Reg32", c_uint32), ("Reg16", c_uint16), ("Reg8", c_uint8),
        ("FpControlStatus", WHV_X64_FP_CONTROL_STATUS_REGISTER), ("XmmControlStatus", WHV_X64_XMM_CONTROL_STATUS_REGISTER),
        ("Segment", WHV_X64_SEGMENT_REGISTER), ("Table", WHV_X64_TABLE_REGISTER),
    ]  # fmt: skip


class WHV_VP_EXIT_CONTEXT(Structure):  # noqa: N801
    """Where the processor is; `Length` has the instruction's in bits 3:0, CR8 in bits 7:4."""

    _fields_ = [
        ("ExecutionState", c_uint16), ("Length", c_uint8), ("Reserved", c_uint8), ("Reserved2", c_uint32),
        ("Cs", WHV_X64_SEGMENT_REGISTER), ("Rip", c_uint64), ("Rflags", c_uint64),
    ]  # fmt: skip


class WHV_MEMORY_ACCESS_CONTEXT(Structure):  # noqa: N801
    """An access to memory that is not mapped; `AccessInfo`: kind in bits 1:0, GPA unmapped 2, GVA valid 3."""

    _fields_ = [
        ("InstructionByteCount", c_uint8), ("Reserved", c_uint8 * 3), ("InstructionBytes", c_uint8 * 16),
        ("AccessInfo", c_uint32), ("Gpa", c_uint64), ("Gva", c_uint64),
    ]  # fmt: skip


class WHV_X64_IO_PORT_ACCESS_CONTEXT(Structure):  # noqa: N801
    """An access to a port; `AccessInfo`: write in bit 0, size in bits 3:1, string 4, rep 5."""

    _fields_ = [
        ("InstructionByteCount", c_uint8), ("Reserved", c_uint8 * 3), ("InstructionBytes", c_uint8 * 16),
        ("AccessInfo", c_uint32), ("PortNumber", c_uint16), ("Reserved2", c_uint16 * 3), ("Rax", c_uint64),
        ("Rcx", c_uint64), ("Rsi", c_uint64), ("Rdi", c_uint64), ("Ds", WHV_X64_SEGMENT_REGISTER),
        ("Es", WHV_X64_SEGMENT_REGISTER),
    ]  # fmt: skip


class WHV_X64_MSR_ACCESS_CONTEXT(Structure):  # noqa: N801
    """rdmsr or wrmsr; bit 0 of `AccessInfo` says that it writes."""

    _fields_ = [("AccessInfo", c_uint32), ("MsrNumber", c_uint32), ("Rax", c_uint64), ("Rdx", c_uint64)]


class WHV_X64_CPUID_ACCESS_CONTEXT(Structure):  # noqa: N801
    """cpuid, and what it would have answered."""

    _fields_ = [
        ("Rax", c_uint64), ("Rcx", c_uint64), ("Rdx", c_uint64), ("Rbx", c_uint64), ("DefaultResultRax", c_uint64),
        ("DefaultResultRcx", c_uint64), ("DefaultResultRdx", c_uint64), ("DefaultResultRbx", c_uint64),
    ]  # fmt: skip


class WHV_VP_EXCEPTION_CONTEXT(Structure):  # noqa: N801
    """An exception that was asked to exit; `ExceptionInfo`: error code valid in bit 0, software 1."""

    _fields_ = [
        ("InstructionByteCount", c_uint8), ("Reserved", c_uint8 * 3), ("InstructionBytes", c_uint8 * 16),
        ("ExceptionInfo", c_uint32), ("ExceptionType", c_uint8), ("Reserved2", c_uint8 * 3), ("ErrorCode", c_uint32),
        ("ExceptionParameter", c_uint64),
    ]  # fmt: skip


class WHV_X64_UNSUPPORTED_FEATURE_CONTEXT(Structure):  # noqa: N801
    """What the hypervisor cannot do."""

    _fields_ = [("FeatureCode", c_uint32), ("Reserved", c_uint32), ("FeatureParameter", c_uint64)]


class WHV_X64_APIC_EOI_CONTEXT(Structure):  # noqa: N801
    """The end of a level-triggered interrupt."""

    _fields_ = [("InterruptVector", c_uint32)]


class WHV_HYPERCALL_CONTEXT(Structure):  # noqa: N801
    """vmcall, where it was asked to exit."""

    _fields_ = [
        ("Rax", c_uint64), ("Rbx", c_uint64), ("Rcx", c_uint64), ("Rdx", c_uint64), ("R8", c_uint64), ("Rsi", c_uint64),
        ("Rdi", c_uint64), ("Reserved0", c_uint64), ("XmmRegisters", WHV_UINT128 * 6), ("Reserved1", c_uint64 * 2),
    ]  # fmt: skip


class _ExitUnion(Union):
    _fields_ = [
        ("MemoryAccess", WHV_MEMORY_ACCESS_CONTEXT), ("IoPortAccess", WHV_X64_IO_PORT_ACCESS_CONTEXT),
        ("MsrAccess", WHV_X64_MSR_ACCESS_CONTEXT), ("CpuidAccess", WHV_X64_CPUID_ACCESS_CONTEXT),
        ("VpException", WHV_VP_EXCEPTION_CONTEXT), ("UnsupportedFeature", WHV_X64_UNSUPPORTED_FEATURE_CONTEXT),
        ("ApicEoi", WHV_X64_APIC_EOI_CONTEXT), ("Hypercall", WHV_HYPERCALL_CONTEXT),
    ]  # fmt: skip


class WHV_RUN_VP_EXIT_CONTEXT(Structure):  # noqa: N801
    """Why WHvRunVirtualProcessor came back."""

    _anonymous_ = ("u",)
    _fields_ = [("ExitReason", c_uint32), ("Reserved", c_uint32), ("VpContext", WHV_VP_EXIT_CONTEXT), ("u", _ExitUnion)]


class WHV_INTERRUPT_CONTROL(Structure):  # noqa: N801
    """An interrupt to request; `Kind`: type in bits 7:0, destination mode 11:8, trigger mode 15:12."""

    _fields_ = [("Kind", c_uint64), ("Destination", c_uint32), ("Vector", c_uint32)]


class WHV_X64_CPUID_RESULT(Structure):  # noqa: N801
    """A line of the list of cpuid results."""

    _fields_ = [
        ("Function", c_uint32), ("Reserved", c_uint32 * 3), ("Eax", c_uint32), ("Ebx", c_uint32), ("Ecx", c_uint32),
        ("Edx", c_uint32),
    ]  # fmt: skip


class WHV_DOORBELL_MATCH_DATA(Structure):  # noqa: N801
    """A write that signals an event instead of leaving; `Flags`: match on value in bit 0, on length 1."""

    _fields_ = [("GuestAddress", c_uint64), ("Value", c_uint64), ("Length", c_uint32), ("Flags", c_uint32)]


class WHV_EMULATOR_MEMORY_ACCESS_INFO(Structure):  # noqa: N801
    """An access to memory that the instruction emulator makes."""

    _fields_ = [("GpaAddress", c_uint64), ("Direction", c_uint8), ("AccessSize", c_uint8), ("Data", c_uint8 * 8)]


class WHV_EMULATOR_IO_ACCESS_INFO(Structure):  # noqa: N801
    """An access to a port that the instruction emulator makes."""

    _fields_ = [("Direction", c_uint8), ("Port", c_uint16), ("AccessSize", c_uint16), ("Data", c_uint32)]


HRESULT = c_int32
_PARTITION, _INDEX, _SIZE = c_void_p, c_uint32, c_uint32
_NAMES, _VALUES = POINTER(c_uint32), POINTER(WHV_REGISTER_VALUE)
# ctypes.WINFUNCTYPE is on Windows only; the calling convention of x86-64 Windows is the platform's one there.
_callback: Callable[..., Any] = getattr(ctypes, "WINFUNCTYPE", ctypes.CFUNCTYPE)
IO_PORT_CALLBACK = _callback(HRESULT, c_void_p, POINTER(WHV_EMULATOR_IO_ACCESS_INFO))
MEMORY_CALLBACK = _callback(HRESULT, c_void_p, POINTER(WHV_EMULATOR_MEMORY_ACCESS_INFO))
GET_REGISTERS_CALLBACK = _callback(HRESULT, c_void_p, _NAMES, c_uint32, _VALUES)
SET_REGISTERS_CALLBACK = _callback(HRESULT, c_void_p, _NAMES, c_uint32, _VALUES)
TRANSLATE_CALLBACK = _callback(HRESULT, c_void_p, c_uint64, c_uint32, POINTER(c_uint32), POINTER(c_uint64))


class WHV_EMULATOR_CALLBACKS(Structure):  # noqa: N801
    """What the instruction emulator calls."""

    _fields_ = [
        ("Size", c_uint32), ("Reserved", c_uint32), ("WHvEmulatorIoPortCallback", IO_PORT_CALLBACK),
        ("WHvEmulatorMemoryCallback", MEMORY_CALLBACK),
        ("WHvEmulatorGetVirtualProcessorRegisters", GET_REGISTERS_CALLBACK),
        ("WHvEmulatorSetVirtualProcessorRegisters", SET_REGISTERS_CALLBACK),
        ("WHvEmulatorTranslateGvaPage", TRANSLATE_CALLBACK),
    ]  # fmt: skip


STRUCTURES: tuple[type[Structure] | type[Union], ...] = (
    WHV_UINT128, WHV_X64_SEGMENT_REGISTER, WHV_X64_TABLE_REGISTER, WHV_X64_FP_CONTROL_STATUS_REGISTER,
    WHV_X64_XMM_CONTROL_STATUS_REGISTER, WHV_REGISTER_VALUE, WHV_VP_EXIT_CONTEXT, WHV_MEMORY_ACCESS_CONTEXT,
    WHV_X64_IO_PORT_ACCESS_CONTEXT, WHV_X64_MSR_ACCESS_CONTEXT, WHV_X64_CPUID_ACCESS_CONTEXT, WHV_VP_EXCEPTION_CONTEXT,
    WHV_X64_UNSUPPORTED_FEATURE_CONTEXT, WHV_X64_APIC_EOI_CONTEXT, WHV_HYPERCALL_CONTEXT, WHV_RUN_VP_EXIT_CONTEXT,
    WHV_INTERRUPT_CONTROL, WHV_X64_CPUID_RESULT, WHV_DOORBELL_MATCH_DATA, WHV_EMULATOR_MEMORY_ACCESS_INFO,
    WHV_EMULATOR_IO_ACCESS_INFO, WHV_EMULATOR_CALLBACKS,
)  # fmt: skip

# Parameters of each function; all answer an HRESULT.
FUNCTIONS: Mapping[str, tuple[Any, ...]] = {
    "WHvGetCapability": (c_uint32, c_void_p, _SIZE, POINTER(c_uint32)),
    "WHvCreatePartition": (POINTER(_PARTITION),),
    "WHvSetupPartition": (_PARTITION,),
    "WHvDeletePartition": (_PARTITION,),
    "WHvGetPartitionProperty": (_PARTITION, c_uint32, c_void_p, _SIZE, POINTER(c_uint32)),
    "WHvSetPartitionProperty": (_PARTITION, c_uint32, c_void_p, _SIZE),
    "WHvMapGpaRange": (_PARTITION, c_void_p, c_uint64, c_uint64, c_uint32),
    "WHvUnmapGpaRange": (_PARTITION, c_uint64, c_uint64),
    "WHvTranslateGva": (_PARTITION, _INDEX, c_uint64, c_uint32, POINTER(c_uint64), POINTER(c_uint64)),
    "WHvCreateVirtualProcessor": (_PARTITION, _INDEX, c_uint32),
    "WHvDeleteVirtualProcessor": (_PARTITION, _INDEX),
    "WHvRunVirtualProcessor": (_PARTITION, _INDEX, c_void_p, _SIZE),
    "WHvCancelRunVirtualProcessor": (_PARTITION, _INDEX, c_uint32),
    "WHvGetVirtualProcessorRegisters": (_PARTITION, _INDEX, _NAMES, c_uint32, _VALUES),
    "WHvSetVirtualProcessorRegisters": (_PARTITION, _INDEX, _NAMES, c_uint32, _VALUES),
    "WHvRequestInterrupt": (_PARTITION, POINTER(WHV_INTERRUPT_CONTROL), _SIZE),
    "WHvGetVirtualProcessorXsaveState": (_PARTITION, _INDEX, c_void_p, _SIZE, POINTER(c_uint32)),
    "WHvSetVirtualProcessorXsaveState": (_PARTITION, _INDEX, c_void_p, _SIZE),
    "WHvGetVirtualProcessorInterruptControllerState2": (_PARTITION, _INDEX, c_void_p, _SIZE, POINTER(c_uint32)),
    "WHvSetVirtualProcessorInterruptControllerState2": (_PARTITION, _INDEX, c_void_p, _SIZE),
    "WHvQueryGpaRangeDirtyBitmap": (_PARTITION, c_uint64, c_uint64, POINTER(c_uint64), _SIZE),
    "WHvRegisterPartitionDoorbellEvent": (_PARTITION, POINTER(WHV_DOORBELL_MATCH_DATA), c_void_p),
    "WHvUnregisterPartitionDoorbellEvent": (_PARTITION, POINTER(WHV_DOORBELL_MATCH_DATA)),
}
# WHV_EMULATOR_STATUS is a bit field of 32 bits: bit 0 says that emulation succeeded.
EMULATOR_FUNCTIONS: Mapping[str, tuple[Any, ...]] = {
    "WHvEmulatorCreateEmulator": (POINTER(WHV_EMULATOR_CALLBACKS), POINTER(c_void_p)),
    "WHvEmulatorDestroyEmulator": (c_void_p,),
    "WHvEmulatorTryIoEmulation": (
        c_void_p, c_void_p, POINTER(WHV_VP_EXIT_CONTEXT), POINTER(WHV_X64_IO_PORT_ACCESS_CONTEXT), POINTER(c_uint32),
    ),
    "WHvEmulatorTryMmioEmulation": (
        c_void_p, c_void_p, POINTER(WHV_VP_EXIT_CONTEXT), POINTER(WHV_MEMORY_ACCESS_CONTEXT), POINTER(c_uint32),
    ),
}  # fmt: skip


def declare(library: Any, functions: Mapping[str, tuple[Any, ...]]) -> Any:
    """`library` with its `functions` typed."""
    for name, parameters in functions.items():
        function = getattr(library, name)
        function.argtypes = parameters
        function.restype = HRESULT
    return library


def _open(name: str) -> Any:
    loader: Callable[[str], Any] | None = getattr(ctypes, "WinDLL", None)
    if loader is None:
        raise OSError(f"{name} is a library of Windows")
    return loader(name)


def library() -> Any:
    """WinHvPlatform.dll; OSError where there is none."""
    return declare(_open("WinHvPlatform.dll"), FUNCTIONS)


def emulator() -> Any:
    """WinHvEmulation.dll; OSError where there is none."""
    return declare(_open("WinHvEmulation.dll"), EMULATOR_FUNCTIONS)
