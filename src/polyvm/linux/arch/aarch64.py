"""arm64 Linux (arch/arm64/include/uapi/asm, arch/arm64/kernel/signal.c)."""

from __future__ import annotations

import struct

from polyvm.linux.arch import Arch
from polyvm.vcpu import exits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.engine import Core
    from polyvm.isa import Isa
    from polyvm.linux.arch import Fault

# The bits of AT_HWCAP and AT_HWCAP2 in their order (asm/hwcap.h), as /proc/cpuinfo calls them.
_HWCAP = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 asimddp "
    "sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg"
).split()
_HWCAP2 = (
    "dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16 dgh rng bti "
    "mte ecv afp rpres mte3 sme smei16i64 smef64f64 smei8i32 smef16f32 smeb16f32 smef32f32 smefa64 wfxt ebf16 sveebf16 cssc "
    "rprfm sve2p1 sme2 sme2p1 smei16i32 smebi32i32 smeb16b16 smef16f16 mops hbc"
).split()

_RESERVED = 288  # where the records begin in struct sigcontext, and how many bytes they have
_RESERVED_SIZE = 4096
_FPSIMD_MAGIC, _FPSIMD_SIZE = 0x46508001, 528
_ESR_MAGIC = 0x45535201
# ESR_EL1 of an abort from EL0 (DDI 0487, D17.2.37): exception class, instruction length, what was done, fault status.
_DATA_ABORT, _INSTRUCTION_ABORT, _LONG, _WRITE = 0x24 << 26, 0x20 << 26, 1 << 25, 1 << 6
_TRANSLATION_FAULT, _PERMISSION_FAULT = 7, 15
_NZCV = 0xF << 28


class Aarch64(Arch):
    """64-bit Arm."""

    name = "aarch64"
    platform = "aarch64"
    calls = " renameat=38"
    number, first, result = 8, 0, 0
    stack, link = 31, 30
    thread_pointer = ("tpidr", 0)
    context_size = _RESERVED + _RESERVED_SIZE
    smallest_stack = 5120
    smallest_frame = 4720
    trampoline = struct.pack("<II", 0xD2801168, 0xD4000001)  # mov x8, #__NR_rt_sigreturn; svc #0
    restorer = True
    address_mask = (1 << 56) - 1  # the top byte is ignored (Documentation/arch/arm64/tagged-pointers.rst)
    info_always = False
    # O_DIRECTORY, O_NOFOLLOW, O_DIRECT, O_LARGEFILE (asm/fcntl.h)
    open_flags = ((0o40000, 0o200000), (0o100000, 0o400000), (0o200000, 0o40000), (0o400000, 0o100000))
    protections = 0x10  # PROT_BTI: pages are not guarded, since branch targets are not checked

    def hardware(self, isa: Isa) -> dict[str, int]:
        """asm/hwcap.h"""
        from polyvm.isa.aarch64.features import HWCAP, HWCAP2

        return {"HWCAP": HWCAP, "HWCAP2": HWCAP2}

    def cpuinfo(self, isa: Isa, processors: int) -> str:
        """As arch/arm64/kernel/cpuinfo.c prints it."""
        from polyvm.isa.aarch64.features import ID_REGISTERS

        midr = ID_REGISTERS["midr_el1"][2]
        bits = self.hardware(isa)
        features = " ".join(
            name for names, word in ((_HWCAP, bits["HWCAP"]), (_HWCAP2, bits["HWCAP2"])) for bit, name in enumerate(names)
            if word >> bit & 1
        )  # fmt: skip
        return "".join(
            f"processor\t: {n}\nBogoMIPS\t: 100.00\nFeatures\t: {features}\nCPU implementer\t: {midr >> 24:#04x}\n"
            f"CPU architecture: 8\nCPU variant\t: {midr >> 20 & 15:#x}\nCPU part\t: {midr >> 4 & 0xFFF:#05x}\n"
            f"CPU revision\t: {midr & 15}\n\n" for n in range(processors)
        )  # fmt: skip

    def start(self, core: Core) -> None:
        """No flags set."""
        super().start(core)
        core.isa.registers.write(core, "nzcv", 0)

    def save(self, core: Core, fault: Fault) -> bytes:
        """struct sigcontext: fault_address, x0…x30, sp, pc, pstate; then the records."""
        read = core.isa.registers.read
        general = struct.pack("<35Q", fault.address, *core.x[0:32], core.pc, read(core, "nzcv"))
        vectors = b"".join(core.get("v", i).to_bytes(16, "little") for i in range(32))
        records = struct.pack("<IIII", _FPSIMD_MAGIC, _FPSIMD_SIZE, read(core, "fpsr"), read(core, "fpcr")) + vectors
        if fault.access:
            records += struct.pack("<IIQ", _ESR_MAGIC, 16, _syndrome(fault))
        return (general.ljust(_RESERVED, b"\0") + records).ljust(self.context_size, b"\0")

    def restore(self, core: Core, data: bytes) -> bool:
        """The same back; the record of floating-point registers must be there."""
        at = _RESERVED
        floating = -1
        while at + 8 <= len(data):
            magic, size = struct.unpack_from("<II", data, at)
            if not magic:
                break
            if size < 16 or size % 16:
                return False
            if magic == _FPSIMD_MAGIC and size == _FPSIMD_SIZE and at + size <= len(data):
                floating = at
            at += size
        if floating < 0:
            return False
        _, *general, pc, pstate = struct.unpack_from("<35Q", data)
        for i, value in enumerate(general):
            core.x[i] = value
        core.pc = pc
        write = core.isa.registers.write
        write(core, "nzcv", pstate & _NZCV)
        fpsr, fpcr = struct.unpack_from("<II", data, floating + 8)
        write(core, "fpcr", fpcr)
        write(core, "fpsr", fpsr)
        for i in range(32):
            place = floating + 16 + 16 * i
            core.set("v", i, int.from_bytes(data[place : place + 16], "little"))
        return True

    def record(self, core: Core) -> bytes:
        """A frame record, as functions make them (AAPCS64, 6.4.6)."""
        return struct.pack("<QQ", core.x[29], core.x[30])

    def enter(self, core: Core, above: int) -> None:
        """The frame record is the innermost one."""
        core.x[29] = above


def _syndrome(fault: Fault) -> int:
    status = _PERMISSION_FAULT if fault.mapped else _TRANSLATION_FAULT
    if fault.access == exits.EXECUTE:
        return _INSTRUCTION_ABORT | _LONG | status
    return _DATA_ABORT | _LONG | status | (_WRITE if fault.access == exits.WRITE else 0)
