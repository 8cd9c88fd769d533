"""riscv64 Linux (arch/riscv/include/uapi/asm, arch/riscv/kernel/signal.c)."""

from __future__ import annotations

import struct

from polyvm.linux.arch import Arch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.engine import Core
    from polyvm.isa import Isa
    from polyvm.linux.arch import Fault

_FLOAT = 256  # where the floating-point registers begin in struct sigcontext


class Riscv64(Arch):
    """64-bit RISC-V."""

    name = "riscv64"
    calls = " riscv_hwprobe=258 riscv_flush_icache=259"
    modules = {"riscv_hwprobe": "arch.riscv64_calls", "riscv_flush_icache": "arch.riscv64_calls"}
    number, first, result = 17, 10, 10
    stack, link = 2, 1
    thread_pointer = ("x", 4)
    context_size = _FLOAT + 528
    trampoline = struct.pack("<II", 0x08B00893, 0x00000073)  # li a7, __NR_rt_sigreturn; ecall

    def hardware(self, isa: Isa) -> dict[str, int]:
        """A bit for each single-letter extension (asm/hwcap.h)."""
        return {"HWCAP": sum(1 << ord(e) - ord("A") for e in isa.extensions if len(e) == 1)}

    def cpuinfo(self, isa: Isa, processors: int) -> str:
        """As arch/riscv/kernel/cpu.c prints it."""
        letters = "".join(e.lower() for e in isa.extensions if len(e) == 1)
        longer = "".join("_" + e.lower() for e in sorted(isa.extensions) if len(e) > 1)
        return "".join(
            f"processor\t: {n}\nhart\t\t: {n}\nisa\t\t: rv64{letters}{longer}\nmmu\t\t: sv39\n\n" for n in range(processors)
        )

    def save(self, core: Core, fault: Fault) -> bytes:
        """struct sigcontext: pc, x1…x31, then the D extension's state."""
        fcsr = core.isa.registers.read(core, "fcsr")
        return struct.pack("<32Q", core.pc, *core.x[1:32]) + struct.pack(
            "<32QI", *(core.get("f", i) for i in range(32)), fcsr
        ).ljust(528, b"\0")

    def restore(self, core: Core, data: bytes) -> bool:
        """The same back."""
        general = struct.unpack_from("<32Q", data)
        core.pc = general[0]
        for i in range(1, 32):
            core.x[i] = general[i]
        for i, value in enumerate(struct.unpack_from("<32Q", data, _FLOAT)):
            core.set("f", i, value)
        core.isa.registers.write(core, "fcsr", struct.unpack_from("<I", data, _FLOAT + 256)[0])
        return True
