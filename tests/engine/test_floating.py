"""NaNs and flags in compiled code are what the interpreter makes of them, wherever somebody looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from polyvm.engine.interpreter import load
from polyvm.vcpu import exits
from tests.engine.test_jit import DATA, Machine

if TYPE_CHECKING:
    from pathlib import Path

QUIET, SIGNALING, NEGATIVE, INFINITE = 0x7FF8_0000_DEAD_BEEF, 0x7FF4_0000_0000_1234, 0xFFF8_0000_0000_0055, 0x7FF0 << 48
PROGRAMS = {
    # fa1 comes in with a payload and is a result from the second time on.
    "exact, then a result": "loop: fsd fa1, 0(a1)\nfadd.d fa1, fa2, fa3\naddi a1, a1, 8\naddi a0, a0, -1\nbnez a0, loop\nfsd fa1, 0(a1)\necall",
    "moved to an integer": "loop: fmv.x.d a3, fa1\nxor a4, a4, a3\nfmul.d fa1, fa1, fa2\nfadd.d fa1, fa1, fa3\naddi a0, a0, -1\nbnez a0, loop\necall",
    "a result on one way": "loop: andi a3, a0, 1\nbeqz a3, even\nfld fa4, 0(a2)\nj on\neven: fsub.d fa4, fa1, fa2\non: fsd fa4, 0(a1)\naddi a1, a1, 8\n"
                           "addi a0, a0, -1\nbnez a0, loop\necall",
    "signs": "loop: fmul.d fa4, fa1, fa2\nfneg.d fa5, fa4\nfabs.d fa6, fa5\nfsgnjx.d fa7, fa5, fa4\nfadd.d fa4, fa5, fa6\nfmv.d fa1, fa4\n"
             "addi a0, a0, -1\nbnez a0, loop\necall",
    "classes": "loop: fdiv.d fa4, fa1, fa2\nfclass.d a3, fa4\nfcvt.w.d a4, fa4, rtz\nfcvt.lu.d a5, fa4\nfmin.d fa5, fa4, fa3\nfmax.d fa6, fa3, fa4\n"
               "fcvt.s.d fa7, fa4\nfcvt.d.s fa0, fa7\nfsd fa0, 0(a1)\nfadd.d fa1, fa1, fa3\naddi a0, a0, -1\nbnez a0, loop\necall",
    "fused": "loop: fmadd.d fa4, fa1, fa2, fa3\nfnmsub.d fa5, fa4, fa2, fa1\nfsub.d fa1, fa4, fa5\nfmsub.d fa1, fa1, fa2, fa3\nfsd fa1, 0(a1)\n"
             "addi a0, a0, -1\nbnez a0, loop\necall",
    "compared": "loop: fmul.d fa4, fa1, fa2\nfeq.d a3, fa4, fa4\nflt.d a4, fa4, fa3\nadd a5, a5, a3\nadd a5, a5, a4\nfrflags a6\nfsflags zero\n"
                "add a7, a7, a6\nfadd.d fa1, fa4, fa3\naddi a0, a0, -1\nbnez a0, loop\necall",
    "flags put back": "loop: frflags a3\nflt.d a4, fa1, fa2\nfle.d a5, fa3, fa2\nfsflags a3\nfrflags a6\nadd a7, a7, a6\nfadd.d fa3, fa3, fa2\n"
                      "addi a0, a0, -1\nbnez a0, loop\necall",
    "flags changed between": "loop: frflags a3\nflt.d a4, fa1, fa2\nfdiv.d fa5, fa2, fa4\nfsflags a3\nfrflags a6\nadd a7, a7, a6\naddi a0, a0, -1\n"
                             "bnez a0, loop\necall",
    "other flags": "loop: frflags a3\nandi a3, a3, 15\nfeq.d a4, fa1, fa2\nfsflags a3\nfrflags a6\nadd a7, a7, a6\nfsflagsi 21\naddi a0, a0, -1\n"
                   "bnez a0, loop\necall",
    "square roots": "loop: fsqrt.d fa4, fa1\nfsqrt.d fa5, fa2\nfadd.d fa4, fa4, fa5\nfsd fa4, 0(a1)\nfsd fa5, 8(a1)\nfneg.d fa1, fa1\naddi a0, a0, -1\n"
                    "bnez a0, loop\necall",
    "left by a fault": "loop: fmul.d fa4, fa1, fa2\nfadd.d fa5, fa4, fa3\nfld fa6, 0(a1)\naddi a1, a1, 0x400\nfsub.d fa1, fa5, fa6\nj loop",
}  # fmt: skip
NUMBERS = {
    "a NaN comes": (INFINITE, 0x3FF0 << 48, 0xFFF0 << 48),
    "payloads": (QUIET, NEGATIVE, 0x3FF0 << 48),
    "a signaling one": (SIGNALING, 0x3FF0 << 48, 0x4000 << 48),
    "signaling and quiet": (0x3FF0 << 48, SIGNALING, QUIET),
}


@pytest.fixture(autouse=True)
def no_old_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("riscv64")
    monkeypatch.setenv("POLYVM_CACHE", str(tmp_path))


def prepare(machine: Machine, numbers: tuple[int, int, int], times: int) -> None:
    core = machine.core
    machine.arena.write(DATA, b"".join(n.to_bytes(8, "little") for n in (SIGNALING, *numbers) * 256))
    for i in range(32):
        core.set("f", i, numbers[i - 11] if 11 <= i <= 13 else (SIGNALING if i % 2 else QUIET) + i)
    core.x[10], core.x[11], core.x[12] = times, DATA + 8, DATA
    core.fcsr = 0
    core.pc = 0x10000


def outcome(machine: Machine) -> tuple[object, ...]:
    core = machine.core
    return list(core.x)[1:32], [hex(core.get("f", i)) for i in range(32)], core.fcsr, core.pc, core.instructions, machine.arena.read(DATA, 0x4000)


@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_nans_and_flags_are_those_of_the_interpreter(program: str, numbers: tuple[int, int, int]) -> None:
    machines = [Machine("off"), Machine("full:0"), Machine("quick:0")]
    for machine in machines:
        machine.put(program)
    for times in (1, 2, 9):
        results: list[tuple[object, ...]] = []
        for machine in machines:
            prepare(machine, numbers, times)
            start = machine.core.instructions
            reason = machine.core.run()
            assert reason in (exits.SYSCALL, exits.FAULT)
            results.append((reason, *outcome(machine), machine.core.instructions - start))
        assert results[0] == results[1] == results[2], times
    for machine in machines:
        machine.close()


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_they_are_when_a_run_is_limited_anywhere(program: str) -> None:
    reference, machine = Machine("off"), Machine("full:0")
    for one in (reference, machine):
        one.put(program)
    for limit in range(1, 40):
        results: list[tuple[object, ...]] = []
        for one in (reference, machine):
            prepare(one, NUMBERS["a NaN comes"], 20)
            before = one.core.instructions
            one.core.run(limit)
            results.append((outcome(one)[:4], one.core.instructions - before))
        assert results[0] == results[1], limit
    reference.close()
    machine.close()
