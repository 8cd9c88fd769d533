"""Compiled code whose memory is used up is dropped, and everything goes on."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import pytest

from polyvm.codegen import space
from polyvm.codegen.space import budget, code_space
from polyvm.engine import Core, JitSource, reclaim
from polyvm.engine.interpreter import load
from polyvm.mem import EXEC, READ, WRITE, Arena
from polyvm.vcpu import exits
from tests.assembler import assemble
from tests.guests import AARCH64, RISCV64, Guest

if TYPE_CHECKING:
    from collections.abc import Iterator

CODE = 0x10000
FUNCTIONS = 60
USUAL = dict(os.environ)  # with the usual cache
SOURCE = Path(__file__).parents[1] / "differential" / "programs" / "regions.c"


@pytest.fixture(autouse=True)
def no_old_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("riscv64")
    monkeypatch.setenv("POLYVM_CACHE", str(tmp_path))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """Room for some ten regions beside what other tests have left."""
    monkeypatch.setattr(space, "_space", [])
    monkeypatch.setattr(code_space(), "limit", 20_000)
    return 20_000


@pytest.fixture
def arena() -> Iterator[Arena]:
    """Functions, each of which adds its number to a0 in a loop, and a program that calls them in turn, a1 times over."""
    made = Arena()
    made.map(CODE, 0x8000, READ | WRITE | EXEC)
    calls = "".join(f"call f{i}\n" for i in range(FUNCTIONS))
    one = "f{0}: li t0, 5\nmore{0}: addi a0, a0, {0}\naddi t0, t0, -1\nbnez t0, more{0}\nret\n"
    functions = "".join(one.format(i) for i in range(FUNCTIONS))
    made.write(CODE, assemble(f"outer: {calls}addi a1, a1, -1\nbnez a1, outer\necall\n{functions}"))
    yield made
    made.close()


def expected(rounds: int) -> int:
    return rounds * 5 * sum(range(FUNCTIONS))


@pytest.mark.parametrize("mode", ["quick:0", "full:0"])
def test_a_program_with_more_code_than_fits_does_what_it_should(mode: str, small: int, arena: Arena) -> None:
    core, source = Core("riscv64", arena), JitSource.parse(mode)
    core.use_jit(source)
    core.pc, core.x[11] = CODE, 3
    assert core.run() == exits.SYSCALL
    counts = source.add_to(core.statistics())
    assert core.x[10] == expected(3)
    assert counts.cleared >= 3
    assert counts.code <= 2 * small
    assert counts.regions > FUNCTIONS
    source.close()
    core.close()


@pytest.mark.usefixtures("small")
def test_cores_that_run_meanwhile_come_out_and_go_on(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reclaim, "_INTERVAL", 0.01)
    source = JitSource.parse("quick:0.001")
    cores = [Core("riscv64", arena) for _ in range(4)]
    ends: list[int] = []
    deadline = perf_counter() + 120  # how fast code fills depends on the compiler's share of the machine

    def go(core: Core, rounds: int) -> None:
        while source.add_to(core.statistics()).cleared < 3 and perf_counter() < deadline:
            core.pc, core.x[10], core.x[11] = CODE, 0, rounds
            ends.append(core.run())
            if core.x[10] != expected(rounds):
                ends.append(-1)

    threads: list[threading.Thread] = []
    for core in cores:
        core.use_jit(source)
        threads.append(threading.Thread(target=go, args=(core, random.randrange(50_000, 150_000))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(ends) == {exits.SYSCALL}
    assert source.add_to(cores[0].statistics()).cleared >= 3
    source.close()
    for core in cores:
        core.close()


@pytest.mark.usefixtures("small")
def test_a_core_of_another_jit_forgets_its_regions_too(arena: Arena) -> None:
    sources = [JitSource.parse("quick:0") for _ in range(2)]
    cores = [Core("riscv64", arena) for _ in range(2)]
    for core, source in zip(cores, sources, strict=True):
        core.use_jit(source)
        core.pc, core.x[11] = CODE, 4
    ended = [exits.BUDGET, exits.BUDGET]
    while exits.SYSCALL not in ended:
        ended = [core.run(2500) for core in cores]
    assert [core.x[10] for core in cores] == [expected(4)] * 2
    assert all(source.add_to(core.statistics()).cleared >= 3 for core, source in zip(cores, sources, strict=True))
    for core, source in zip(cores, sources, strict=True):
        source.close()
        core.close()


@pytest.mark.parametrize(("guest", "mode"), [(RISCV64, "quick:0"), (AARCH64, "full:0")])
def test_programs_do_what_they_do_under_qemu(guest: Guest, mode: str, tmp_path: Path) -> None:
    program = guest.build(SOURCE, tmp_path / "regions", "-O2", "-static")
    wanted = subprocess.run([*guest.qemu, program], capture_output=True, check=True).stdout
    stats = ["--stats=json", f"--stats-file={tmp_path / 'stats'}"]
    command = [sys.executable, "-m", "polyvm", "run", f"--jit={mode}", *stats, program]
    found = subprocess.run(command, capture_output=True, check=True, env={**USUAL, "POLYVM_CODE_SIZE": "0.2"}, timeout=200)
    assert found.stdout == wanted
    assert json.loads((tmp_path / "stats").read_text())["code_cleared"] >= 2


def test_the_budget_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 128 << 20
    for text, size in (("1", 1 << 20), ("0.5", 1 << 19), ("9999", most), ("much", most), ("inf", most), ("nan", most), ("-1", 4096)):
        monkeypatch.setenv("POLYVM_CODE_SIZE", text)
        assert budget() == size
