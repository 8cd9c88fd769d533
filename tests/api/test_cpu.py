"""`Cpu`: memory, registers, runs, hooks."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from polyvm import Access, Breakpoint, Budget, Cpu, Fault, Illegal, Stopped, Syscall, Until
from polyvm.errors import MemoryFault, UnsupportedError, UsageError
from tests.isa.riscv64.binutils import assemble

CODE, DATA = 0x10000, 0x20000


@pytest.fixture
def cpu() -> object:
    with Cpu("riscv64") as made:
        made.map(CODE, 0x1000, "rx")
        made.map(DATA, 0x2000, "rw")
        yield made


def put(cpu: Cpu, source: str) -> None:
    cpu.write(CODE, assemble(source))


def test_a_program_runs_to_its_system_call(cpu: Cpu) -> None:
    put(cpu, "li a0, 6\nli a1, 7\nmul a0, a0, a1\necall")
    why = cpu.run(CODE)
    assert isinstance(why, Syscall)
    assert cpu.regs["a0"] == cpu.x[10] == 42
    assert cpu.instructions == 4


def test_until_and_budget_stop_exactly(cpu: Cpu) -> None:
    put(cpu, "loop: addi a0, a0, 1\nj loop")
    assert isinstance(cpu.run(CODE, max_instructions=11), Budget)
    assert (cpu.x[10], cpu.pc, cpu.instructions) == (6, CODE + 4 - 2 * (cpu.pc == CODE + 2), 11)
    put(cpu, "li a0, 1\nli a0, 2\nli a0, 3\necall")
    why = cpu.run(CODE, until=CODE + 4)
    assert isinstance(why, Until)
    assert cpu.pc == CODE + 4


def test_faults_tell_address_and_kind(cpu: Cpu) -> None:
    put(cpu, "li a1, 0x30000\nld a0, 8(a1)\necall")
    why = cpu.run(CODE)
    assert isinstance(why, Fault)
    assert (why.address, why.access, why.size) == (0x30008, "r", 8)
    put(cpu, "li a1, 0x10000\nsd a0, 0(a1)\necall")
    why = cpu.run(CODE)
    assert isinstance(why, Fault)
    assert why.access == "w"
    put(cpu, "li a1, 0x20000\njr a1")
    why = cpu.run(CODE)
    assert isinstance(why, Fault)
    assert why.access == "x"


def test_breakpoints_and_illegal_instructions(cpu: Cpu) -> None:
    put(cpu, "ebreak")
    assert isinstance(cpu.run(CODE), Breakpoint)
    put(cpu, ".4byte 0")
    assert isinstance(cpu.run(CODE), Illegal)


def test_instruction_and_block_hooks_see_each_address(cpu: Cpu) -> None:
    put(cpu, "li a0, 3\nloop: addi a0, a0, -1\nbnez a0, loop\necall")
    seen: list[int] = []
    hook = cpu.hook_instruction(lambda c, pc: seen.append(pc))
    cpu.run(CODE)
    assert len(seen) == 1 + 2 * 3 + 1
    hook.remove()
    blocks: list[int] = []
    cpu.hook_block(lambda c, pc: blocks.append(pc))
    cpu.run(CODE)
    assert len(seen) == 8
    assert blocks[0] == CODE
    assert len(blocks) == 4


def test_memory_hooks_see_accesses_to_their_range_only(cpu: Cpu) -> None:
    put(cpu, "li a1, 0x20000\nli a2, 5\nsd a2, 16(a1)\nld a3, 16(a1)\nsw a2, 64(a1)\necall")
    seen: list[tuple[str, int, int]] = []

    def note(c: Cpu, access: Access) -> None:
        seen.append((access.kind, access.address, access.size))

    cpu.hook_memory(note, DATA + 16, DATA + 24)
    cpu.run(CODE)
    assert seen == [("w", DATA + 16, 8), ("r", DATA + 16, 8)]
    assert cpu.x[13] == 5


def test_system_call_hooks_go_on_after_the_call(cpu: Cpu) -> None:
    put(cpu, "li a7, 1\necall\nli a7, 2\necall\nebreak")
    seen: list[int] = []
    cpu.hook_syscall(lambda c: seen.append(c.regs["a7"]))
    assert isinstance(cpu.run(CODE), Breakpoint)
    assert seen == [1, 2]


def test_an_exception_in_a_hook_comes_out_of_run(cpu: Cpu) -> None:
    put(cpu, "li a0, 1\necall")

    def fail(c: Cpu, pc: int) -> None:
        raise KeyError("from the hook")

    cpu.hook_instruction(fail)
    with pytest.raises(KeyError, match="from the hook"):
        cpu.run(CODE)


def test_a_hook_can_stop_the_run(cpu: Cpu) -> None:
    put(cpu, "1: j 1b")
    cpu.hook_block(lambda c, pc: c.stop() if c.instructions > 100 else None)
    assert isinstance(cpu.run(CODE), Stopped)


def test_ctrl_c_gets_in(cpu: Cpu) -> None:
    put(cpu, "1: j 1b")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    timer = threading.Timer(0.7, lambda: os.kill(os.getpid(), signal.SIGINT))  # not while a compiler starts
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        cpu.run(CODE)
    timer.join()
    signal.signal(signal.SIGINT, before)


def test_self_modifying_code_takes_effect_at_the_fence(cpu: Cpu) -> None:
    cpu.protect(CODE, 0x1000, "rwx")
    put(
        cpu,
        "la a1, 1f\nli a2, 0x00200513\nli a3, 2\nloop: sw a2, 0(a1)\nfence.i\n1: li a0, 1\n.option norvc\naddi a3, a3, -1\nbnez a3, loop\necall",
    )
    cpu.run(CODE)
    assert cpu.x[10] in (1, 2)


def test_block_counts_and_coverage() -> None:
    with Cpu("riscv64", jit="off") as cpu:
        cpu.map(CODE, 0x1000, "rx")
        put(cpu, "li a0, 100\nloop: addi a0, a0, -1\nbnez a0, loop\necall")
        coverage = cpu.coverage()
        cpu.run(CODE)
        counts = cpu.count_blocks()
        assert sum(block.count * block.instructions for block in counts) == cpu.instructions
        assert max(block.count for block in counts) >= 99
        assert any(coverage)
        coverage.release()


def test_floating_point_registers(cpu: Cpu) -> None:
    cpu.d[10], cpu.s[11] = 1.5, 2.25
    put(cpu, "fcvt.d.s fa1, fa1\nfadd.d fa0, fa0, fa1\necall")
    cpu.run(CODE)
    assert cpu.d[10] == 3.75
    assert cpu.f[10] == 0x400E000000000000


def test_mistakes_get_a_sentence(cpu: Cpu) -> None:
    with pytest.raises(UsageError, match="whole pages"):
        cpu.map(0x1001, 5)
    with pytest.raises(MemoryFault):
        cpu.read(0x900000, 8)
    with pytest.raises(UnsupportedError, match="vax"):
        Cpu("vax")
    with pytest.raises((UsageError, KeyError)):
        cpu.regs["q0"]


@pytest.mark.parametrize("mode", ["auto:0.01", "stencil:0", "quick:0", "full:0"])
def test_compiled_code_counts_blocks_when_it_is_told_to(mode: str) -> None:
    with Cpu("riscv64", jit=mode) as cpu:
        cpu.map(CODE, 0x1000, "rx")
        cpu.map(DATA, 0x4000, "rw")
        put(
            cpu,
            "li a0, 100000\nloop: andi a1, a0, 7\nbnez a1, skip\naddi a2, a2, 1\njal f\nskip: addi a0, a0, -1\nbnez a0, loop\n"
            "li a0, 100\nouter: li a3, 0x20000\nli a4, 300\ninner: ld a5, 0(a3)\nadd a6, a6, a5\naddi a3, a3, 8\naddi a4, a4, -1\n"
            "bnez a4, inner\naddi a0, a0, -1\nbnez a0, outer\necall\nf: addi a7, a7, 3\nret",
        )
        cpu.run(CODE)
        for _ in range(2):
            cpu.start_counting()
            before = cpu.instructions
            cpu.run(CODE)
            counts = cpu.count_blocks()
            # Where a part of a run ends inside a block, the rest is a block of its own.
            assert abs(sum(block.count * block.instructions for block in counts) - (cpu.instructions - before)) < 50
            assert 100000 - 10 < max(block.count for block in counts) <= 100000
