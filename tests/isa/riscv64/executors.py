"""`qemu-riscv64` as a witness for the expected results of cases."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile

from tests.isa.harness import DATA, DATA_END, READ_ONLY, Case, State
from tests.isa.riscv64 import binutils
from tests.isa.riscv64.cases import F_INDEX, X_INDEX

QEMU = "qemu-riscv64"
_QEMU_CPU = "rv64,Zfh=true"
_RECORD = 8 * 66


def qemu_available() -> bool:
    """True if the witness is installed."""
    return shutil.which(QEMU) is not None


def _spare(case: Case) -> str:
    """A register that the case neither names nor changes."""
    words = case.text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    for name in ("s11", "s10", "s9", "s8", "t6"):
        if name not in words:
            return name
    raise AssertionError(f"{case!r} leaves no register")


def _program(cases: list[Case]) -> str:
    """For each case: memory and registers as they should be before, the instructions, then all that is after is written
    out."""
    lines = [".globl _start", ".option norvc", "_start:"]
    for i, case in enumerate(cases):
        spare = _spare(case)
        lines += [f"la a0, before_{i}", f"li a1, {DATA:#x}", f"li a2, {READ_ONLY:#x}", "li a4, 0"]
        lines += [f"clear_{i}: sd a4, 0(a1)", "addi a1, a1, 8", f"bltu a1, a2, clear_{i}"]
        for offset in range(0, READ_ONLY - DATA, 8):
            value = int.from_bytes(case.before.memory[offset : offset + 8], "little")
            if value:
                lines += [f"li a3, {value:#x}", f"li a1, {DATA + offset:#x}", "sd a3, 0(a1)"]
        lines += [f"ld {spare}, 512(a0)", f"csrw fcsr, {spare}", f"mv {spare}, a0"]
        lines += [f"fld {name}, {256 + 8 * n}({spare})" for name, n in F_INDEX.items()]
        lines += [f"ld {name}, {8 * n}({spare})" for name, n in X_INDEX.items() if name not in (spare, "zero")]
        compressed = case.text.startswith("c.")
        lines += [".option rvc" if compressed else ".option norvc", case.text, ".option norvc", f"la {spare}, after"]
        lines += [f"sd {name}, {8 * n}({spare})" for name, n in X_INDEX.items() if name != spare]
        lines += [f"fsd {name}, {256 + 8 * n}({spare})" for name, n in F_INDEX.items()]
        lines += ["csrr a0, fcsr", f"sd a0, 512({spare})"]
        for source, size in (("after", _RECORD), (f"{DATA:#x}", READ_ONLY - DATA)):
            load = "la" if source == "after" else "li"
            lines += ["li a0, 1", f"{load} a1, {source}", f"li a2, {size}", "li a7, 64", "ecall"]
    lines += ["li a0, 0", "li a7, 93", "ecall", '.section .work, "aw"', f"after: .zero {_RECORD}"]
    for i, case in enumerate(cases):
        values = case.before.registers.values()
        lines.append(f"before_{i}: .dword {', '.join(hex(value) for value in values)}")
    lines += [".data", f".zero {DATA_END - DATA}"]
    return "\n".join(lines) + "\n"


def run_qemu(cases: list[Case]) -> list[State]:
    """Each case, which must be ordinary, by qemu-riscv64."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "a.s"), os.path.join(folder, "a")
        with open(source, "w", encoding="ascii") as file:
            file.write(_program(cases))
        flags = [f"-march={binutils.ARCH}", "-mno-relax", "-nostdlib", "-static", "-Wl,--no-relax"]
        places = ["-Wl,-Ttext=0x1000000", f"-Wl,--section-start=.data={DATA:#x}", "-Wl,--section-start=.work=0x800000"]
        subprocess.run([f"{binutils.PREFIX}gcc", *flags, *places, "-o", program, source], check=True)
        done = subprocess.run([QEMU, "-cpu", _QEMU_CPU, program], capture_output=True, check=True, timeout=60)
    results: list[State] = []
    size = _RECORD + READ_ONLY - DATA
    for i, case in enumerate(cases):
        raw = done.stdout[i * size : (i + 1) * size]
        state = case.after.copy()
        values = struct.unpack("<66Q", raw[:_RECORD])
        spare = _spare(case)
        state.registers = dict(zip(state.registers, values, strict=False))
        state.registers[spare] = case.before.registers[spare]
        state.memory[: READ_ONLY - DATA] = raw[_RECORD:]
        results.append(state)
    return results
