"""One core: exact counts, precise exits, hooks, changing code."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from polyvm.engine import Core, coverage_bit
from polyvm.mem import EXEC, READ, WRITE, Arena
from polyvm.vcpu import exits
from tests.assembler import assemble
from tests.engine import CHANGES_ITSELF

if TYPE_CHECKING:
    from collections.abc import Iterator

CODE, DATA = 0x10000, 0x40000


@pytest.fixture
def core() -> Iterator[Core]:
    arena = Arena()
    arena.map(CODE, 0x4000, READ | WRITE | EXEC)
    arena.map(DATA, 0x4000, READ | WRITE)
    made = Core("riscv64", arena)
    made.pc = CODE
    yield made
    made.close()
    arena.close()


def put(core: Core, text: str, address: int = CODE) -> None:
    core.arena.write(address, assemble(text))


def test_a_system_call_leaves_at_its_own_address(core: Core) -> None:
    put(core, "li a0, 5\nli a7, 93\necall\nli a0, 6")
    assert core.run() == exits.SYSCALL
    assert (core.x[10], core.x[17]) == (5, 93)
    assert core.arena.read(core.pc, 4) == assemble("ecall")
    assert core.instructions == 3


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 64, 65, 1000, 4097])
def test_a_limited_run_executes_exactly_that_many(core: Core, limit: int) -> None:
    put(core, "\n".join(["loop: addi a0, a0, 1", *["addi a1, a1, 1"] * 70, "bnez a0, loop"]))
    assert core.run(limit) == exits.BUDGET
    assert core.instructions == limit
    rounds, rest = divmod(limit, 72)
    assert core.x[10] == rounds + (rest > 0)
    assert core.x[11] == rounds * 70 + min(70, max(0, rest - 1))


def test_a_limited_run_goes_on_where_it_stopped(core: Core) -> None:
    put(core, "loop: addi a0, a0, 1\nxor a1, a1, a0\nslli a2, a0, 3\nj loop")
    for _ in range(50):
        assert core.run(37) == exits.BUDGET
    stepped = list(core.x)
    core.reset()
    core.pc = CODE
    core.instructions = 0
    assert core.run(50 * 37) == exits.BUDGET
    assert list(core.x) == stepped


def test_instret_is_exact_in_the_middle_of_a_block(core: Core) -> None:
    put(core, "nop\nnop\nrdinstret a0\nnop\nrdinstret a1\nrdcycle a2\necall")
    core.run()
    assert (core.x[10], core.x[11], core.x[12]) == (2, 4, 5)


@pytest.mark.parametrize(
    ("text", "address", "access", "size"),
    [
        ("ld a1, 0(a0)", 0x5000, exits.READ, 8),
        ("sw a1, 4(a0)", 0x5004, exits.WRITE, 4),
        ("lb a1, -1(a0)", 0x4FFF, exits.READ, 1),
        ("amoadd.w a1, a2, (a0)", 0x5000, exits.READ | exits.WRITE, 4),
    ],
)
def test_a_fault_tells_address_access_and_size(core: Core, text: str, address: int, access: int, size: int) -> None:
    put(core, f"nop\nnop\n{text}\necall")
    core.x[10] = 0x5000
    core.x[11] = 77
    assert core.run() == exits.FAULT
    assert (core.exit_address, core.exit_access, core.exit_size) == (address, access, size)
    assert core.arena.read(core.pc, 4) == assemble(text).ljust(4, b"\0") or core.insn_length == 2
    assert (core.instructions, core.x[11]) == (2, 77)


@pytest.mark.parametrize("address", [1 << 38, (1 << 38) - 4, (1 << 64) - 8, 1 << 63, (1 << 64) - 1, (1 << 39) + 8])
def test_addresses_beyond_the_arena_fault(core: Core, address: int) -> None:
    put(core, "ld a1, 0(a0)\necall")
    core.x[10] = address
    assert core.run() == exits.FAULT
    assert core.exit_address in (address, 1 << 38)


def test_an_access_across_pages_needs_both(core: Core) -> None:
    put(core, "sd a1, 0(a0)\nld a2, 0(a0)\necall")
    core.x[10], core.x[11] = DATA + 0xFFD, 0x1122334455667788
    assert core.run() == exits.SYSCALL
    assert core.x[12] == 0x1122334455667788
    core.arena.protect(DATA + 0x1000, 0x1000, READ)
    core.pc, core.x[11] = CODE, 0
    assert core.run() == exits.FAULT
    assert (core.exit_address, core.exit_access) == (DATA + 0x1000, exits.WRITE)
    assert core.arena.read(DATA + 0xFFD, 8) == bytes.fromhex("8877665544332211")


def test_fetching_faults_at_the_byte_that_is_missing(core: Core) -> None:
    core.pc = CODE + 0x8000
    assert core.run() == exits.FAULT
    assert (core.exit_address, core.exit_access, core.instructions) == (CODE + 0x8000, exits.EXECUTE, 0)
    core.arena.write(CODE + 0x3FFE, assemble(".option norvc\nadd a0, a0, a0")[:2])
    core.pc = CODE + 0x3FFE
    assert core.run() == exits.FAULT
    assert (core.exit_address, core.pc) == (CODE + 0x4000, CODE + 0x3FFE)


def test_an_instruction_may_lie_across_two_pages(core: Core) -> None:
    put(core, ".option norvc\naddi a0, a0, 9\necall", CODE + 0xFFE)
    core.pc = CODE + 0xFFE
    assert core.run() == exits.SYSCALL
    assert core.x[10] == 9


def test_an_illegal_word_is_precise(core: Core) -> None:
    put(core, "nop\n.4byte 0xffffffff")
    assert core.run() == exits.ILLEGAL
    assert (core.pc, core.instructions) == (CODE + 2, 1)


def test_data_pages_do_not_execute(core: Core) -> None:
    core.pc = DATA
    assert core.run() == exits.FAULT
    assert core.exit_access == exits.EXECUTE


def test_writing_x0_changes_nothing(core: Core) -> None:
    put(core, "li a0, 3\nadd zero, a0, a0\nadd a1, zero, zero\necall")
    core.x[11] = 1
    core.run()
    assert (core.x[0], core.x[11]) == (0, 0)


def test_code_that_rewrites_itself_runs_the_new_code(core: Core) -> None:
    put(core, """
        .option norvc
        la t0, patch
        lw t1, new
        li t3, 3
    again:
    patch: addi a0, a0, 1
        sw t1, 0(t0)
        fence.i
        addi t3, t3, -1
        bnez t3, again
        ecall
    new: addi a0, a0, 100
    """)  # fmt: skip
    assert core.run() == exits.SYSCALL
    assert core.x[10] == 201
    assert core.statistics().invalidations >= 1


def test_changing_code_is_seen_while_other_threads_change_other_code(core: Core) -> None:
    rounds = 2_000_000
    put(core, CHANGES_ITSELF.format(rounds=rounds))
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            core.arena.mark_code(DATA)
            core.arena.unmark_code(DATA, 1)

    others = [threading.Thread(target=change) for _ in range(3)]
    for other in others:
        other.start()
    try:
        assert core.run() == exits.SYSCALL
    finally:
        ended.set()
        for other in others:
            other.join()
    assert core.x[10] == rounds * 3 // 2


def test_a_host_write_to_code_is_seen_at_the_next_run(core: Core) -> None:
    put(core, "li a0, 1\necall")
    core.run()
    put(core, "li a0, 2\necall")
    core.pc = CODE
    core.run()
    assert core.x[10] == 2


def test_unmapped_code_faults_even_if_it_was_decoded(core: Core) -> None:
    put(core, "li a0, 1\necall")
    core.run()
    core.arena.protect(CODE, 0x1000, READ)
    core.pc = CODE
    assert core.run() == exits.FAULT


def test_a_stop_request_from_another_thread_ends_a_loop(core: Core) -> None:
    put(core, "loop: j loop")
    timer = threading.Timer(0.05, core.request_stop)
    timer.start()
    start = time.monotonic()
    assert core.run() == exits.STOPPED
    assert time.monotonic() - start < 5
    timer.join()
    assert core.run() == exits.STOPPED
    core.clear_stop()
    assert core.run(10) == exits.BUDGET


def test_hooks_leave_before_the_instruction_and_go_on_after(core: Core) -> None:
    put(core, "loop: addi a0, a0, 1\naddi a1, a1, 1\nj loop")
    core.set_hooks(instructions=[(CODE + 2, CODE + 4)])
    for turn in range(1, 4):
        assert core.run() == exits.HOOK
        assert (core.pc, core.hook_kind, core.x[10], core.x[11]) == (CODE + 2, 1, turn, turn - 1)
    assert core.instructions == 3 + 2 * 2 - 2 + 2
    core.set_hooks()
    assert core.run(100) == exits.BUDGET


def test_block_hooks_come_before_instruction_hooks(core: Core) -> None:
    put(core, "loop: addi a0, a0, 1\nj loop")
    core.set_hooks(instructions=[(CODE, CODE + 1)], blocks=[(CODE, CODE + 1)])
    kinds = []
    for _ in range(4):
        assert core.run() == exits.HOOK
        kinds.append(core.hook_kind)
    assert kinds == [2, 1, 2, 1]
    assert core.x[10] == 1


def test_coverage_marks_the_blocks_that_ran(core: Core) -> None:
    put(core, "beqz a0, 1f\nj 2f\n1: li a1, 1\necall\n2: ecall")
    seen = core.enable_coverage(16)
    core.run()
    bits = {i * 8 + j for i, byte in enumerate(seen) for j in range(8) if byte >> j & 1}
    executed = {pc for pc, _, count in core.blocks() if count}
    assert bits == {coverage_bit(pc, 1 << 16) for pc in executed}
    assert CODE in executed and len(executed) == 2
    core.disable_coverage()


def test_block_counts_add_up_to_the_instructions(core: Core) -> None:
    put(core, "li a0, 1000\nloop: addi a0, a0, -1\naddi a1, a1, 2\nbnez a0, loop\necall")
    core.run()
    assert sum(n * count for _, n, count in core.blocks()) == core.instructions


def test_watched_memory_leaves_before_the_access(core: Core) -> None:
    put(core, "sd a1, 0(a0)\nld a2, 0(a0)\necall")
    core.x[10], core.x[11] = DATA, 42
    core.arena.watch(DATA, 8, "w")
    assert core.run() == exits.WATCH
    assert (core.exit_address, core.exit_access, core.exit_size) == (DATA, exits.WRITE, 8)
    assert core.arena.read(DATA, 8) == bytes(8)
    assert core.run() == exits.SYSCALL
    assert core.x[12] == 42
    core.arena.unwatch(DATA, 8, "w")
    core.pc = CODE
    assert core.run() == exits.SYSCALL


def test_a_clone_starts_with_the_same_registers(core: Core) -> None:
    put(core, "addi a0, a0, 1\necall")
    core.x[10] = 6
    core.isa.registers.write(core, "fcsr", 0x61)
    other = core.clone()
    assert other.pc == CODE and other.isa.registers.read(other, "fcsr") == 0x61
    other.run()
    assert (core.x[10], other.x[10]) == (6, 7)
    other.close()


def test_store_conditional_needs_the_reservation(core: Core) -> None:
    put(core, "lr.d a1, (a0)\nsc.d a2, a3, (a0)\nsc.d a4, a3, (a0)\necall")
    core.x[10], core.x[13] = DATA, 99
    core.run()
    assert (core.x[12], core.x[14]) == (0, 1)
    assert core.arena.read(DATA, 8) == (99).to_bytes(8, "little")


def test_two_cores_add_to_one_word_without_losing_any(core: Core) -> None:
    put(core, "li a2, 1\nloop: amoadd.d zero, a2, (a0)\n1: lr.d t0, (a3)\naddi t0, t0, 1\nsc.d t1, t0, (a3)\nbnez t1, 1b\n"
              "addi a1, a1, -1\nbnez a1, loop\necall")  # fmt: skip
    core.x[10], core.x[11], core.x[13] = DATA, 200_000, DATA + 64
    other = core.clone()
    thread = threading.Thread(target=other.run)
    thread.start()
    core.run()
    thread.join()
    other.close()
    assert core.arena.read(DATA, 8) == (400_000).to_bytes(8, "little")
    assert core.arena.read(DATA + 64, 8) == (400_000).to_bytes(8, "little")


def test_decoded_code_that_outgrows_its_room_is_dropped_and_decoded_again(core: Core) -> None:
    before = core.statistics().invalidations
    put(core, "addi a0, a0, 1\necall")
    for _ in range(3):
        core.flush()
        core.pc = CODE
        assert core.run() == exits.SYSCALL
    assert core.x[10] == 3
    assert core.statistics().invalidations == before + 3
