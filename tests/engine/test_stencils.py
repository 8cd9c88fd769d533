"""Stencils: what the interpreter's code does when it is copied for each block."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from polyvm.codegen import cache
from polyvm.engine import copies, spawn, stencils
from polyvm.engine import core as core_module
from polyvm.engine.core import Core, JitSource
from polyvm.engine.interpreter import NativeInterpreter, load
from polyvm.isa import get
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


def test_blocks_of_any_size_find_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where less is writable than a block's stencils take, more is made writable."""
    monkeypatch.setattr(copies, "_STEP", 4096)
    monkeypatch.setattr(core_module, "ROOM", 16)
    made = core(0)
    sizes = [1, 20, 63, 2, 40, 63, 63, 5]
    code = b"".join(0x02B50533.to_bytes(4, "little") * size + 0x0040006F.to_bytes(4, "little") for size in sizes)  # mul a0, a0, a1; j .+4
    made.arena.map(0x8000, 0x1000, READ | EXEC)
    made.arena.poke(0x8000, code + 0x00000073.to_bytes(4, "little"))
    made.set("x", 10, 1)
    made.set("x", 11, 3)
    made.pc = 0x8000
    assert made.run() == exits.SYSCALL
    assert made.get("x", 10) == pow(3, sum(sizes), 1 << 64)
    assert made.statistics().exits["stamp"] >= len(sizes)


def test_missing_ones_are_made_by_another_process_and_found_then(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing waits for them; whoever asks when they are there has them. They lie beside the interpreter."""
    data = cache.load(cache.key("stencils", load("riscv64").identity)) or stencils.build(get("riscv64"))
    monkeypatch.setenv("POLYVM_CACHE", str(tmp_path / "interpreter"))
    old = load("riscv64")
    native = NativeInterpreter("riscv64", old.object, old.record, old.identity)
    monkeypatch.setenv("POLYVM_CACHE", str(tmp_path / "elsewhere"))
    started: list[str] = []

    def start(code: str, _: int) -> int:
        started.append(code)
        return os.getpid()  # which nobody can wait for

    monkeypatch.setattr(spawn, "start_python", start)
    assert native.stencils(wait=False) is None
    assert native.stencils(wait=False) is None
    assert len(started) == 1
    monkeypatch.setattr(stencils, "build", lambda _: data)
    monkeypatch.setattr(stencils, "stand_back", lambda _: None)
    exec(started[0])
    assert [path.name for path in (tmp_path / "interpreter").iterdir()] == [cache.key("stencils", old.identity)]
    found = native.stencils(wait=False)
    assert found is not None
    assert native.stencils(wait=True) is found


def test_hot_code_has_them_until_it_is_compiled() -> None:
    """In the mode that is usual, once they are there."""
    load("riscv64").stencils(wait=True)
    made = core(0)
    made.use_jit(JitSource("auto"))
    made.arena.poke(0x1000, (0x000F4537).to_bytes(4, "little"))  # lui a0, 0xf4
    assert made.run() == exits.SYSCALL
    counts = made.statistics()
    assert counts.instructions == 1 + 2 * 0xF4000 + 1
    assert counts.exits["stamp"] == 1


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
