"""Stencils: what the interpreter's code does when it is copied for each block."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from polyvm.engine.core import Core, JitSource
from polyvm.mem import EXEC, READ, WRITE, Arena
from polyvm.vcpu import exits

COMPILER = "riscv64-linux-gnu-gcc"
PROGRAMS = Path(__file__).parents[2] / "bench" / "programs"


def loop(rounds: int) -> bytes:
    """li a0, rounds; addi a0, a0, -1; bnez a0, -4; ecall"""
    words = (rounds << 20 | 10 << 7 | 0x13, 0xFFF50513, 0xFE051EE3, 0x00000073)
    return b"".join(word.to_bytes(4, "little") for word in words)


def core(threshold: int) -> Core:
    """A core with that program at 0x1000 and stencils."""
    arena = Arena()
    arena.map(0x1000, 0x1000, READ | WRITE | EXEC)
    arena.write(0x1000, loop(1000))
    found = Core("riscv64", arena)
    found.use_jit(JitSource("stencil", threshold))
    found.pc = 0x1000
    return found


@pytest.mark.parametrize("threshold", [0, 1, 7, 999, 5000])
def test_instructions_are_counted_exactly(threshold: int) -> None:
    """With any threshold as many instructions are executed, and a limit is kept."""
    one = core(threshold)
    assert one.run() == exits.SYSCALL
    assert one.instructions == 1 + 2 * 1000 + 1
    assert one.get("x", 10) == 0
    two = core(threshold)
    for _ in range(300):
        assert two.run(5) == exits.BUDGET
    assert two.instructions == 1500


def test_code_that_was_copied_is_dropped_when_the_guest_changes_it() -> None:
    """After a store to it the new code is executed."""
    one = core(0)
    assert one.run(100) == exits.BUDGET
    one.arena.write(0x1004, (0xFFE50513).to_bytes(4, "little"))  # addi a0, a0, -2
    before = one.get("x", 10)
    assert one.run() == exits.SYSCALL
    assert one.instructions - 100 <= before + 3


@pytest.mark.skipif(shutil.which(COMPILER) is None or shutil.which("qemu-riscv64") is None, reason="no cross compiler or no qemu")
@pytest.mark.parametrize("name", ["json", "lz", "nbody"])
@pytest.mark.parametrize("mode", ["stencil", "stencil:0"])
def test_programs_print_what_they_print_under_qemu(name: str, mode: str, tmp_path: Path) -> None:
    """Short runs of programs of the bench."""
    program = tmp_path / name
    subprocess.run([COMPILER, "-O2", "-static", "-o", program, PROGRAMS / f"{name}.c", "-lm"], check=True)
    expected = subprocess.run(["qemu-riscv64", program, "2"], check=True, capture_output=True).stdout
    command = [sys.executable, "-m", "polyvm", "run", f"--jit={mode}", str(program), "2"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == expected
