"""Compiled regions do what the interpreter does: counts, faults, changing code, hooks, requests, failures."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from polyvm.codegen import cache
from polyvm.engine import Core, JitSource
from polyvm.engine.compiler import Compiler
from polyvm.engine.interpreter import load
from polyvm.errors import UsageError
from polyvm.mem import EXEC, READ, WRITE, Arena
from polyvm.vcpu import exits
from tests.assembler import assemble
from tests.engine import CHANGES_ITSELF

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from polyvm.engine.region import RegionSpec

CODE, DATA = 0x10000, 0x40000
FORCED = ["quick:0", "full:0"]
LOOP = """
    li a1, 0x40000
    li t0, 0
loop:
    andi t1, t0, 255
    slli t1, t1, 3
    add t2, a1, t1
    ld t3, 0(t2)
    add t3, t3, t0
    sd t3, 0(t2)
    call twice
    addi t0, t0, 1
    bne t0, a0, loop
    ecall
twice:
    slli a3, t3, 1
    xor a2, a2, a3
    ret
"""


class Machine:
    """A core with its memory; the JIT as `mode` says."""

    def __init__(self, mode: str) -> None:
        self.arena = Arena()
        self.arena.map(CODE, 0x4000, READ | WRITE | EXEC)
        self.arena.map(DATA, 0x4000, READ | WRITE)
        self.core = Core("riscv64", self.arena)
        self.source = JitSource.parse(mode)
        self.core.use_jit(self.source)
        self.core.pc = CODE

    def put(self, text: str, address: int = CODE) -> None:
        self.arena.write(address, assemble(text))

    def close(self) -> None:
        self.source.close()
        self.core.close()
        self.arena.close()


@pytest.fixture(autouse=True)
def no_old_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for each test; the interpreter comes from the usual one."""
    load("riscv64")
    monkeypatch.setenv("POLYVM_CACHE", str(tmp_path))


@pytest.fixture(params=FORCED)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    made = Machine(request.param)
    yield made
    made.close()


def regions(machine: Machine) -> int:
    """How many regions came into use."""
    return machine.source.add_to(machine.core.statistics()).regions


def state(machine: Machine) -> tuple[list[int], int, int, bytes]:
    core = machine.core
    return list(core.x)[1:32], core.pc, core.instructions, machine.arena.read(DATA, 0x4000)


def test_a_forced_jit_interprets_nothing_but_what_it_leaves_out(machine: Machine) -> None:
    machine.put(LOOP)
    machine.core.x[10] = 1000
    assert machine.core.run() == exits.SYSCALL
    reference = Machine("off")
    reference.put(LOOP)
    reference.core.x[10] = 1000
    assert reference.core.run() == exits.SYSCALL
    assert state(machine) == state(reference)
    assert regions(machine) > 0
    assert machine.core.statistics().interpreted < 100
    reference.close()


@pytest.mark.parametrize("limit", [1, 2, 9, 10, 11, 100, 1234, 5000, 11_999])
def test_a_limited_run_executes_exactly_that_many(machine: Machine, limit: int) -> None:
    machine.put(LOOP)
    machine.core.x[10] = 1000
    reference = Machine("off")
    reference.put(LOOP)
    reference.core.x[10] = 1000
    for one in (machine, reference):
        assert one.core.run(limit) == exits.BUDGET
        assert one.core.instructions == limit
    assert state(machine) == state(reference)
    reference.close()


def test_a_fault_is_reported_at_its_instruction_with_all_registers(machine: Machine) -> None:
    text = "li a1, 0x43000\nloop: addi a2, a2, 3\nsd a2, 0(a1)\naddi a1, a1, 8\nsd a2, -8(a1)\nj loop"
    machine.put(text)
    reference = Machine("off")
    reference.put(text)
    for one in (machine, reference):
        assert one.core.run() == exits.FAULT
        assert (one.core.exit_address, one.core.exit_access) == (0x44000, exits.WRITE)
    assert state(machine) == state(reference)
    reference.close()


def test_misaligned_accesses_are_left_to_the_interpreter(machine: Machine) -> None:
    machine.put(
        "li a1, 0x40ffd\nli a2, 500\nloop: ld a3, 0(a1)\naddi a3, a3, 1\nsd a3, 0(a1)\naddi a2, a2, -1\nbnez a2, loop\necall"
    )
    assert machine.core.run() == exits.SYSCALL
    assert int.from_bytes(machine.arena.read(0x40FFD, 8), "little") == 500


def test_code_that_changes_itself_is_compiled_anew(machine: Machine) -> None:
    machine.put(CHANGES_ITSELF.format(rounds=100))
    assert machine.core.run() == exits.SYSCALL
    assert machine.core.x[10] == 150
    assert machine.core.statistics().invalidations > 10


def test_floating_point_takes_the_rounding_mode_and_leaves_flags(machine: Machine) -> None:
    text = """
        li t0, {mode}
        fsrm t0
        li t1, 300
        li t2, 3
        fcvt.d.l fa1, t2
        li t2, 1
        fcvt.d.l fa0, t2
    loop:
        fdiv.d fa2, fa0, fa1
        fadd.d fa3, fa3, fa2
        fcvt.s.d fa4, fa3
        fmadd.d fa5, fa2, fa2, fa3
        addi t1, t1, -1
        bnez t1, loop
        frflags a0
        ecall
    """
    for mode in range(5):
        reference = Machine("off")
        machine.core.reset()
        machine.core.pc = CODE
        for one in (machine, reference):
            one.put(text.format(mode=mode))
            one.core.instructions = 0
            assert one.core.run() == exits.SYSCALL
        assert [machine.core.get("f", i) for i in range(32)] == [reference.core.get("f", i) for i in range(32)]
        assert machine.core.x[10] == reference.core.x[10] == 1
        reference.close()


def test_a_hook_takes_effect_on_compiled_code_and_goes_again(machine: Machine) -> None:
    machine.put("loop: addi a0, a0, 1\naddi a1, a1, 1\nj loop")
    assert machine.core.run(300) == exits.BUDGET
    machine.core.set_hooks(instructions=[(CODE + 2, CODE + 4)])
    assert machine.core.run(300) == exits.HOOK
    assert machine.core.pc == CODE + 2
    machine.core.set_hooks()
    assert machine.core.run(300) == exits.BUDGET


def test_watched_memory_is_seen_by_compiled_code(machine: Machine) -> None:
    machine.put("li a1, 0x40000\nloop: addi a0, a0, 1\nsd a0, 0(a1)\nj loop")
    assert machine.core.run(3000) == exits.BUDGET
    machine.arena.watch(DATA, 8, "w")
    assert machine.core.run(3000) == exits.WATCH
    assert machine.core.exit_address == DATA


@pytest.mark.parametrize("mode", [*FORCED, "auto:0.01"])
def test_a_stop_request_ends_a_compiled_loop_soon(mode: str) -> None:
    machine = Machine(mode)
    machine.put("loop: addi a0, a0, 1\nxor a1, a1, a0\nj loop")
    stopper = threading.Timer(1.0, machine.core.request_stop)
    stopper.start()
    began = time.monotonic()
    assert machine.core.run() == exits.STOPPED
    assert time.monotonic() - began < 5
    assert regions(machine) > 0
    machine.close()


def test_threads_share_what_is_compiled() -> None:
    machine = Machine("auto:0.01")
    machine.put(LOOP)
    others = [machine.core.clone() for _ in range(3)]
    cores = [machine.core, *others]
    for core in cores:
        core.x[10], core.pc = 400_000, CODE
    threads = [threading.Thread(target=core.run) for core in cores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {core.instructions for core in cores} == {machine.core.instructions}
    assert all(core.x[5] == 400_000 for core in cores)
    for core in others:
        core.close()
    machine.close()


def test_a_region_that_the_compiler_refuses_is_left_to_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Compiler, timeout: float) -> list[tuple[int, bytes | str, float]]:
        answers = [(number, "no", 0.0) for number in self._sent]
        self._sent.clear()
        return answers

    monkeypatch.setattr(Compiler, "receive", refuse)
    machine = Machine("quick:0")
    machine.put(LOOP)
    machine.core.x[10] = 50
    assert machine.core.run() == exits.SYSCALL
    counts = machine.source.add_to(machine.core.statistics())
    assert counts.regions == 0
    assert counts.failed > 0
    machine.close()


def hanging(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """The compiler stops at its first request, and patience ends when it has so many; the heads of all that are made."""
    send, sent = Compiler.send, []

    def hang(self: Compiler, spec: RegionSpec) -> int | None:
        number = send(self, spec)
        sent.append(spec.head)
        if len(sent) == 1:
            os.kill(self._pid, signal.SIGSTOP)
        monkeypatch.setattr("polyvm.engine.compiler._PATIENCE", 0.0 if len(sent) == most else 60.0)
        return number

    monkeypatch.setattr(Compiler, "send", hang)
    return sent


def hot_loops(count: int) -> str:
    """A program that goes through so many loops in turn, none of which reaches another without a call."""
    calls = "".join(f"call loop{i}\n" for i in range(count))
    loop = "loop{0}: li t0, 200\nmore{0}: addi a2, a2, {0}\naddi t0, t0, -1\nbnez t0, more{0}\nret\n"
    loops = "".join(loop.format(i) for i in range(count))
    return f"mv s0, a0\nouter: {calls}addi s0, s0, -1\nbnez s0, outer\necall\n{loops}"


def test_what_a_compiler_that_hangs_was_asked_for_beside_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = hanging(monkeypatch, 4)  # as many as it takes
    machine = Machine("quick:0.001")
    machine.put(hot_loops(12))
    machine.core.x[10] = 1 << 40
    deadline = time.monotonic() + 60
    made = machine.source.made(machine.core).regions
    while time.monotonic() < deadline and (len(sent) < 7 or not set(sent[1:4]) <= made.keys()):
        machine.core.run(1 << 22)
    counts = machine.source.add_to(machine.core.statistics())
    assert counts.failed == 1
    assert sent.count(sent[0]) == 1
    assert sent[4:7] == sent[1:4]
    assert set(sent[1:4]) <= made.keys()
    machine.close()


def test_a_compiler_that_dies_is_replaced_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    send = Compiler.send

    def murder(self: Compiler, spec: object) -> int | None:
        number = send(self, spec)  # type: ignore[arg-type]
        os.kill(self._pid, signal.SIGKILL)
        return number

    monkeypatch.setattr(Compiler, "send", murder)
    machine = Machine("quick:0")
    machine.put(LOOP)
    machine.core.x[10] = 50
    assert machine.core.run() == exits.SYSCALL
    assert machine.source.add_to(machine.core.statistics()).regions == 0
    machine.close()


def test_an_interrupt_while_a_compiler_starts_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(code: str, fd: int) -> int:
        raise KeyboardInterrupt

    before = os.listdir("/proc/self/fd")
    machine = Machine("quick:0")
    machine.put(LOOP)
    machine.core.x[10] = 50
    with monkeypatch.context() as patched:
        patched.setattr("polyvm.engine.spawn.start_python", interrupt)
        with pytest.raises(KeyboardInterrupt):
            machine.core.run()
    assert machine.source.descriptors == []
    assert machine.core.run() == exits.SYSCALL
    machine.close()
    assert os.listdir("/proc/self/fd") == before


def test_a_compiler_that_hangs_is_killed_and_its_region_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = hanging(monkeypatch, 1)
    machine = Machine("quick:0")
    machine.put(LOOP)
    machine.core.x[10] = 50
    assert machine.core.run() == exits.SYSCALL
    counts = machine.source.add_to(machine.core.statistics())
    assert counts.failed == 1
    assert counts.regions == len(sent) - 1 > 0
    assert sent.count(sent[0]) == 1
    machine.close()


def test_damaged_entries_on_disk_are_made_anew(tmp_path: Path) -> None:
    def once() -> tuple[int, int]:
        machine = Machine("quick:0")
        machine.put(LOOP)
        machine.core.x[10] = 50
        assert machine.core.run() == exits.SYSCALL
        counts = machine.source.add_to(machine.core.statistics())
        machine.close()
        return counts.regions, counts.cached

    made, found = once()
    assert made > 0
    assert found == 0
    assert once() == (made, made)
    names = [name for name, _ in cache.entries() if cache.load(name) is not None]  # regions, not the lists of them
    (tmp_path / names[0]).write_bytes((tmp_path / names[0]).read_bytes()[:-7])
    cache.store(names[1], b"something else")
    assert once() == (made, made - 2)
    assert once() == (made, made)


def test_an_entry_for_other_code_behind_the_same_head_is_made_anew() -> None:
    for step in (1, 2, 1):
        machine = Machine("quick:0")
        machine.put(f"li a1, 100\nloop: call more\naddi a1, a1, -1\nbnez a1, loop\necall\nmore: addi a0, a0, {step}\nret")
        assert machine.core.run() == exits.SYSCALL
        assert machine.core.x[10] == 100 * step
        assert machine.core.statistics().interpreted < 10
        machine.close()


@pytest.mark.parametrize("text", ["fast", "full:x", "auto:-1", ":3"])
def test_a_wrong_mode_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        JitSource.parse(text)


def test_coverage_is_noted_by_compiled_code_and_can_be_switched(machine: Machine) -> None:
    machine.put(LOOP)
    reference = Machine("off")
    reference.put(LOOP)
    machine.core.x[10] = 100
    assert machine.core.run() == exits.SYSCALL  # compiled without
    maps: list[bytes] = []
    for one in (machine, reference):
        covered = one.core.enable_coverage(12)
        one.core.pc, one.core.x[10] = CODE, 100
        assert one.core.run() == exits.SYSCALL
        maps.append(bytes(covered))
    assert maps[0] == maps[1]
    assert any(maps[0])
    assert machine.core.statistics().interpreted < 100
    machine.core.disable_coverage()
    machine.core.pc, machine.core.x[10] = CODE, 100
    assert machine.core.run() == exits.SYSCALL
    reference.close()


CHANGING = """
loop:
    addi a1, a1, 1
    bltu a0, a2, other
    xor a3, a3, a1
back:
    addi a0, a0, -1
    bnez a0, loop
    ecall
other:
    add a3, a3, a0
    slli a4, a3, 1
    xor a3, a3, a4
    j back
"""


@pytest.mark.parametrize("mode", ["auto:0.02", "full:0.02"])
def test_a_way_that_was_rare_and_is_not_any_more_does_not_stay_slow(mode: str) -> None:
    """The region is made while one way is never taken. When it is, all the time, that soon goes through no patch point, behind which
    the jump cache leads on."""
    rounds = 10_000_000
    machine, reference = Machine(mode), Machine("off")
    for one in (machine, reference):
        one.put(CHANGING)
    start = machine.core.pc

    def both(turn: int) -> int:
        before = machine.core.statistics().jump_hits
        for one in (machine, reference):
            one.core.pc, one.core.x[10], one.core.x[12] = start, rounds, turn
            assert one.core.run() == exits.SYSCALL
        assert state(machine) == state(reference)
        return machine.core.statistics().jump_hits - before

    for _ in range(50):  # until the compiler, in its process, has made the region
        both(0)
        if regions(machine):
            break
    assert regions(machine) > 0
    assert any(both(rounds // 2) < rounds // 1000 for _ in range(50))
    machine.close()
    reference.close()


@pytest.mark.parametrize("mode", ["auto:0.01", "full:0"])
def test_coverage_that_is_cleared_by_hand_is_noted_again(mode: str) -> None:
    one = Machine(mode)
    one.put("li a0, 3000000\nloop: andi a1, a0, 3\nbnez a1, odd\naddi a2, a2, 1\nodd: addi a0, a0, -1\nbnez a0, loop\necall")
    covered = one.core.enable_coverage(12)
    maps: list[bytes] = []
    for _ in range(8):
        one.core.pc = CODE
        assert one.core.run() == exits.SYSCALL
        maps.append(bytes(covered))
        covered[:] = bytes(len(covered))
    assert any(maps[0])
    assert maps == maps[:1] * 8
    one.close()


def test_coverage_that_another_thread_clears_is_noted_again() -> None:
    one = Machine("auto:0.01")
    one.put("loop: andi a1, a0, 3\nbnez a1, odd\naddi a2, a2, 1\nodd: addi a0, a0, -1\nj loop")
    covered = one.core.enable_coverage(12)
    running = threading.Thread(target=one.core.run)
    running.start()
    time.sleep(1.5)
    first = bytes(covered)
    covered[:] = bytes(len(covered))
    deadline = time.monotonic() + 20
    while bytes(covered) != first and time.monotonic() < deadline:
        time.sleep(0.05)
    one.core.request_stop()
    running.join()
    assert any(first)
    again = {i for i, byte in enumerate(bytes(covered)) if byte}
    assert again <= {i for i, byte in enumerate(first) if byte}
    assert len(again) >= 3  # all but the block that is executed once
    one.close()
