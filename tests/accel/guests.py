"""Small guests: machine code for processors that run it, and the same as a script for accelerators that are not here."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from polyvm.testing import HaltStep, MmioRead, MmioWrite, PortRead, PortWrite, Spin, Step, Store, Touch

CODE, RESULT, DEVICE = 0x1000, 0x5000, 0xD0000  # DEVICE has no memory


@cache
def assemble(source: str, bits: int = 16, origin: int = CODE) -> bytes:
    """Machine code of x86 assembly in Intel syntax, at an address."""
    with TemporaryDirectory() as place:
        path = Path(place)
        (path / "a.s").write_text(f".intel_syntax noprefix\n.code{bits}\n{source}\n")
        subprocess.run(["as", "--64" if bits == 64 else "--32", path / "a.s", "-o", path / "a.o"], check=True)
        subprocess.run(["ld", "-m", "elf_x86_64" if bits == 64 else "elf_i386", f"-Ttext={origin:#x}", "--oformat=binary", path / "a.o", "-o", path / "a.bin", "-e", "0"], check=True)
        return (path / "a.bin").read_bytes()


@dataclass(frozen=True)
class Guest:
    """x86: real mode, DS = 0, ES at DEVICE. The others are user code: a system call where x86 halts."""

    source: str
    steps: tuple[Step, ...]
    riscv64: str = ""
    aarch64: str = ""

    def user_code(self, guest: str) -> bytes:
        """For the software engine."""
        return assemble_user(guest, self.riscv64 if guest == "riscv64" else self.aarch64)

    @property
    def code(self) -> bytes:
        return assemble("mov ax, 0xd000; mov es, ax\n" + self.source)


@cache
def assemble_user(guest: str, source: str) -> bytes:
    """Machine code of riscv64 or aarch64 assembly, which does not depend on where it lies."""
    with TemporaryDirectory() as place:
        path = Path(place)
        (path / "a.s").write_text(source.replace(";", "\n") + "\n")
        subprocess.run([f"{guest}-linux-gnu-as", path / "a.s", "-o", path / "a.o"], check=True)
        subprocess.run([f"{guest}-linux-gnu-objcopy", "-O", "binary", "-j", ".text", path / "a.o", path / "a.bin"], check=True)
        return (path / "a.bin").read_bytes()


GUESTS = {
    "halt": Guest("hlt; hlt", (HaltStep(), HaltStep()), "ecall; ecall", "svc 0; svc 0"),
    "port_write": Guest("mov dx, 0x3f8; mov al, 0x41; out dx, al; mov ax, 0x1234; out dx, ax; mov eax, 0x89abcdef; out dx, eax; hlt",
                        (PortWrite(0x3F8, 1, 0x41), PortWrite(0x3F8, 2, 0x1234), PortWrite(0x3F8, 4, 0x89ABCDEF), HaltStep())),
    "port_read": Guest("mov dx, 0x60; in al, dx; mov [0x5000], al; in ax, dx; mov [0x5002], ax; in eax, dx; mov [0x5004], eax; hlt",
                       (PortRead(0x60, 1), Store(RESULT, 1), PortRead(0x60, 2), Store(RESULT + 2, 2), PortRead(0x60, 4), Store(RESULT + 4, 4), HaltStep())),
    "mmio_write": Guest("mov byte ptr es:[0x10], 0x11; mov word ptr es:[0x12], 0x2222; mov dword ptr es:[0x14], 0x33333333; hlt",
                        (MmioWrite(DEVICE + 0x10, 1, 0x11), MmioWrite(DEVICE + 0x12, 2, 0x2222), MmioWrite(DEVICE + 0x14, 4, 0x33333333), HaltStep()),
                        "li a0, 0xd0000; li a1, 0x11; sb a1, 0x10(a0); li a1, 0x2222; sh a1, 0x12(a0); li a1, 0x33333333; sw a1, 0x14(a0); ecall",
                        "mov x0, 0xd0000; mov w1, 0x11; strb w1, [x0, 0x10]; mov w1, 0x2222; strh w1, [x0, 0x12]; mov w1, 0x33333333; str w1, [x0, 0x14]; svc 0"),
    "mmio_read": Guest("mov al, es:[0x10]; mov [0x5000], al; mov ax, es:[0x12]; mov [0x5002], ax; mov eax, es:[0x14]; mov [0x5004], eax; hlt",
                       (MmioRead(DEVICE + 0x10, 1), Store(RESULT, 1), MmioRead(DEVICE + 0x12, 2), Store(RESULT + 2, 2), MmioRead(DEVICE + 0x14, 4), Store(RESULT + 4, 4), HaltStep()),
                       "li a0, 0xd0000; li a2, 0x5000; lbu a1, 0x10(a0); sb a1, 0(a2); lhu a1, 0x12(a0); sh a1, 2(a2); lw a1, 0x14(a0); sw a1, 4(a2); ecall",
                       "mov x0, 0xd0000; mov x2, 0x5000; ldrb w1, [x0, 0x10]; strb w1, [x2]; ldrh w1, [x0, 0x12]; strh w1, [x2, 2]; ldr w1, [x0, 0x14]; str w1, [x2, 4]; svc 0"),
    "spin": Guest("1: jmp 1b; hlt", (Spin(), HaltStep()), "1: j 1b", "1: b 1b"),
    "touch": Guest("mov dword ptr [0x6000], 1; mov dword ptr [0x8ffc], 2; mov dword ptr [0x6004], 3; hlt",
                   (Touch(0x6000, 4, 1), Touch(0x8FFC, 4, 2), Touch(0x6004, 4, 3), HaltStep())),
}  # fmt: skip
