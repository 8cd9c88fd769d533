"""aarch64 for the cases of this folder (see `tests.isa.harness`), and `qemu-aarch64` as a witness for their results."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from tests.isa.aarch64 import binutils
from tests.isa.harness import DATA, DATA_END, READ_ONLY, Case, Guest, State

QEMU = "qemu-aarch64"
_X = tuple(f"x{i}" for i in range(31))
_V = tuple(f"v{i}" for i in range(32))
_RECORD = 8 * 36 + 16 * 32  # x0 to x30, sp, nzcv, fpcr, fpsr, none, v0 to v31


class Aarch64(Guest):
    """x0 to x30, sp, nzcv, fpcr, fpsr, v0 to v31; the parts of v registers set all of them."""

    name = "aarch64"
    folder = Path(__file__).parent
    names = (*_X, "sp", "nzcv", "fpcr", "fpsr", *_V)
    others = {"lr": "x30", **{f"{letter}{i}": f"v{i}" for letter in "qdshb" for i in range(32)}}
    letters = {"nzcv": 28 * "." + "VCZN"}

    def start(self, name: str) -> int:
        """Each has another value; no flags."""
        if name in ("nzcv", "fpcr", "fpsr"):
            return 0
        if name[0] == "v":
            return (int(name[1:]) + 64) * 0x0101_0101_0101_0101_0101_0101_0101_0101
        return (31 if name == "sp" else int(name[1:])) * 0x0101_0101_0101_0101

    def available(self) -> bool:
        """True if the cross binutils are installed."""
        return binutils.available()

    def assemble(self, source: str) -> bytes:
        """By GNU as."""
        return binutils.assemble(source)


GUEST = Aarch64()


@lru_cache(maxsize=1)
def load() -> dict[str, list[Case]]:
    """All cases by file name."""
    return GUEST.load()


def qemu_available() -> bool:
    """True if the witness is installed."""
    return shutil.which(QEMU) is not None


def _spare(case: Case) -> int:
    """A register that the case neither names nor changes."""
    for i in (28, 27, 26, 25, 24, 18):
        if f"x{i}" not in case.text and f"w{i}" not in case.text:
            return i
    raise AssertionError(f"{case!r} leaves no register")


def _program(cases: list[Case]) -> str:
    """For each case: memory and registers as they should be before, the instructions, then all that is after is written
    out."""
    lines = [f".arch {binutils.ARCH}", ".globl _start", "_start:"]
    for i, case in enumerate(cases):
        spare = f"x{_spare(case)}"
        lines += [f"ldr x1, ={DATA}", f"ldr x2, ={READ_ONLY}", "1: stp xzr, xzr, [x1], #16", "cmp x1, x2", "b.lo 1b"]
        for offset in range(0, READ_ONLY - DATA, 8):
            value = int.from_bytes(case.before.memory[offset : offset + 8], "little")
            if value:
                lines += [f"ldr x1, ={DATA + offset}", f"ldr x2, ={value}", "str x2, [x1]"]
        lines += [f"ldr {spare}, =before_{i}"]
        for name, place in (("nzcv", 256), ("fpcr", 264), ("fpsr", 272)):
            lines += [f"ldr x0, [{spare}, #{place}]", f"msr {name}, x0"]
        lines += [f"ldr x0, [{spare}, #248]", "mov sp, x0"]
        lines += [f"ldr q{n}, [{spare}, #{288 + 16 * n}]" for n in range(32)]
        lines += [f"ldr {name}, [{spare}, #{8 * n}]" for n, name in enumerate(_X) if name != spare]
        lines += [f"ldr {spare}, [{spare}, #{8 * int(spare[1:])}]", case.text, f"ldr {spare}, =after"]
        lines += [f"str {name}, [{spare}, #{8 * n}]" for n, name in enumerate(_X) if name != spare]
        lines += ["mov x0, sp", f"str x0, [{spare}, #248]"]
        for name, place in (("nzcv", 256), ("fpcr", 264), ("fpsr", 272)):
            lines += [f"mrs x0, {name}", f"str x0, [{spare}, #{place}]"]
        lines += [f"str q{n}, [{spare}, #{288 + 16 * n}]" for n in range(32)]
        for source, size in (("after", _RECORD), (f"{DATA}", READ_ONLY - DATA)):
            lines += ["mov x0, #1", f"ldr x1, ={source}", f"ldr x2, ={size}", "mov x8, #64", "svc #0"]
        lines += ["b 1f", ".ltorg", "1:"]
    lines += ["mov x0, #0", "mov x8, #93", "svc #0", '.section .work, "aw"', ".balign 16", f"after: .zero {_RECORD}"]
    for i, case in enumerate(cases):
        values = case.before.registers
        words = [*(values[name] for name in (*_X, "sp", "nzcv", "fpcr", "fpsr")), 0]
        words += [values[name] >> shift & (1 << 64) - 1 for name in _V for shift in (0, 64)]
        lines.append(f"before_{i}: .8byte {', '.join(hex(value) for value in words)}")
    lines += [".data", f".zero {DATA_END - DATA}"]
    return "\n".join(lines) + "\n"


def run_qemu(cases: list[Case]) -> list[State]:
    """Each case, which must be ordinary, by qemu-aarch64."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "a.s"), os.path.join(folder, "a")
        with open(source, "w", encoding="ascii") as file:
            file.write(_program(cases))
        places = ["-Wl,-Ttext=0x1000000", f"-Wl,--section-start=.data={DATA:#x}", "-Wl,--section-start=.work=0x800000"]
        command = [f"{binutils.PREFIX}gcc", "-nostdlib", "-static", "-Wl,-z,max-page-size=4096", *places, "-o", program, source]
        subprocess.run(command, check=True)
        done = subprocess.run([QEMU, "-cpu", "max,pauth=off", program], capture_output=True, check=True, timeout=60)
    results: list[State] = []
    size = _RECORD + READ_ONLY - DATA
    for i, case in enumerate(cases):
        raw = done.stdout[i * size : (i + 1) * size]
        state = case.after.copy()
        for n, name in enumerate((*_X, "sp", "nzcv", "fpcr", "fpsr")):
            state.registers[name] = int.from_bytes(raw[8 * n : 8 * n + 8], "little")
        for n, name in enumerate(_V):
            state.registers[name] = int.from_bytes(raw[288 + 16 * n : 304 + 16 * n], "little")
        spare = f"x{_spare(case)}"
        state.registers[spare] = case.before.registers[spare]
        state.memory[: READ_ONLY - DATA] = raw[_RECORD:]
        results.append(state)
    return results
