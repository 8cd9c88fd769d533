"""Ways to run a case: the evaluator, the interpreter, and `qemu-riscv64` as a witness for the expected results."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile

from polyvm.errors import MemoryFault
from polyvm.isa import get
from polyvm.vcpu import exits
from tests.isa.riscv64 import binutils
from tests.isa.riscv64.cases import CODE_STEP, DATA, DATA_END, F_INDEX, M64, READ_ONLY, X_INDEX, Case, State


class _Machine:
    """A `State` as the evaluator's machine."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.pc = self.next_pc = 0
        self.instret = 0
        self.ticks = 0
        self.extra: dict[tuple[str, int], int] = {("res_addr", 0): M64}

    def get(self, slot: str, index: int) -> int:
        if slot == "x" and index < 32:
            return self.state.x[index]
        if slot == "f":
            return self.state.f[index]
        return self.extra.get((slot, index), 0)

    def set(self, slot: str, index: int, value: int) -> None:
        if slot == "x" and index < 32:
            self.state.x[index] = value
        elif slot == "f":
            self.state.f[index] = value
        else:
            self.extra[slot, index] = value

    def _offset(self, address: int, size: int, access: str) -> int:
        if not address >= DATA or address + size > (DATA_END if access == "r" else READ_ONLY):
            raise MemoryFault(address, access, size)
        return address - DATA

    def load(self, address: int, size: int) -> int:
        at = self._offset(address, size, "r")
        return int.from_bytes(self.state.memory[at : at + size], "little")

    def store(self, address: int, size: int, value: int) -> None:
        at = self._offset(address, size, "w")
        self.state.memory[at : at + size] = value.to_bytes(size, "little")

    def probe(self, address: int, size: int, access: str) -> None:
        self._offset(address, size, access)

    @property
    def fp_flags(self) -> int:
        return self.state.fcsr & 31

    @fp_flags.setter
    def fp_flags(self, flags: int) -> None:
        self.state.fcsr = self.state.fcsr & ~31 | flags

    @property
    def fp_rm(self) -> int:
        return self.state.fcsr >> 5

    @fp_rm.setter
    def fp_rm(self, mode: int) -> None:
        self.state.fcsr = self.state.fcsr & 31 | mode << 5


def run_evaluator(cases: list[Case]) -> list[State]:
    """Each case by the evaluator, from the IR of its instructions with constant operands."""
    from polyvm.codegen.evaluator import evaluate

    isa = get("riscv64")
    results: list[State] = []
    for case in cases:
        state = case.before.copy()
        machine = _Machine(state)
        for _ in range(case.count):
            at = state.pc - case.address
            decoded = isa.decode(int.from_bytes(case.code[at : at + 4], "little"))
            if decoded is None:
                state.exit = (exits.ILLEGAL,)
                break
            machine.pc, machine.next_pc = state.pc, state.pc + decoded.length
            b = isa.builder()
            decoded.insn.body(b, **{o.name: b.const(o.type, decoded.operands[o.name]) for o in decoded.insn.operands})
            try:
                outcome = evaluate(b.body, machine, {})
            except MemoryFault as fault:
                access = {letter: code for code, letter in exits.ACCESS_LETTERS.items()}[fault.access]
                state.exit = (exits.FAULT, fault.address, access, fault.size)
                break
            if outcome.code is not None and outcome.code != exits.FENCE_I:
                state.exit = (outcome.code, *(int(a) for a in outcome.args))
                break
            state.pc = machine.next_pc if outcome.next_pc is None else outcome.next_pc
        results.append(state)
    return results


def run_interpreter(cases: list[Case]) -> list[State]:
    """Each case by the interpreter."""
    from polyvm.engine import Core
    from polyvm.mem import EXEC, READ, WRITE, Arena

    arena = Arena()
    arena.map(DATA, READ_ONLY - DATA, READ | WRITE)
    arena.map(READ_ONLY, DATA_END - READ_ONLY, READ)
    arena.map(0x1000, DATA - 0x2000, READ | EXEC)
    arena.map(0x100000, 0x100000, READ | EXEC)
    for case in cases:
        arena.poke(case.address, case.code.ljust(CODE_STEP, b"\0"))
    core = Core("riscv64", arena)
    results: list[State] = []
    for case in cases:
        state = case.before.copy()
        for i in range(32):
            core.set("x", i, state.x[i])
            core.set("f", i, state.f[i])
        core.set("res_addr", 0, M64)
        core.isa.registers.write(core, "fcsr", state.fcsr)
        core.pc = state.pc
        arena.poke(DATA, bytes(state.memory))
        code = core.run(case.count)
        if code == exits.FAULT:
            state.exit = (code, core.exit_address, core.exit_access, core.exit_size)
        elif code != exits.BUDGET:
            state.exit = (code,)
        state.x = [core.get("x", i) for i in range(32)]
        state.f = [core.get("f", i) for i in range(32)]
        state.fcsr, state.pc = core.isa.registers.read(core, "fcsr"), core.pc
        state.memory = bytearray(arena.read(DATA, DATA_END - DATA))
        results.append(state)
    core.close()
    arena.close()
    return results


EXECUTORS = {"evaluator": run_evaluator, "interpreter": run_interpreter}

# -- the witness --------------------------------------------------------------------------------------------------------

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
        lines += [f"ld {name}, {8 * n}({spare})" for name, n in X_INDEX.items() if name not in (spare, "zero", "fp")]
        compressed = case.text.startswith("c.")
        lines += [".option rvc" if compressed else ".option norvc", case.text, ".option norvc", f"la {spare}, after"]
        lines += [f"sd {name}, {8 * n}({spare})" for name, n in X_INDEX.items() if name not in (spare, "fp")]
        lines += [f"fsd {name}, {256 + 8 * n}({spare})" for name, n in F_INDEX.items()]
        lines += ["csrr a0, fcsr", f"sd a0, 512({spare})"]
        for source, size in (("after", _RECORD), (f"{DATA:#x}", READ_ONLY - DATA)):
            load = "la" if source == "after" else "li"
            lines += ["li a0, 1", f"{load} a1, {source}", f"li a2, {size}", "li a7, 64", "ecall"]
    lines += ["li a0, 0", "li a7, 93", "ecall", '.section .work, "aw"', f"after: .zero {_RECORD}"]
    for i, case in enumerate(cases):
        values = [*case.before.x, *case.before.f, case.before.fcsr]
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
        values = list(struct.unpack("<66Q", raw[:_RECORD]))
        spare = X_INDEX[_spare(case)]
        state.x = [value if n != spare else case.before.x[spare] for n, value in enumerate(values[:32])]
        state.f, state.fcsr = values[32:64], values[64]
        state.memory[: READ_ONLY - DATA] = raw[_RECORD:]
        results.append(state)
    return results
