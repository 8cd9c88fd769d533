"""Every instruction does what the manual says, on every engine."""

from __future__ import annotations

import pytest

from tests.isa import harness
from tests.isa.riscv64 import binutils, cases, executors

pytestmark = pytest.mark.skipif(not binutils.available(), reason="needs the riscv64 cross binutils")

FILES = sorted(path.name for path in cases.GUEST.folder.glob("cases_*.txt"))
EXECUTORS = {"evaluator": harness.run_evaluator, "interpreter": harness.run_core}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_case(executor: str, file: str) -> None:
    """An instruction changes what its case says and nothing else."""
    harness.check(cases.load()[file], EXECUTORS[executor])


@pytest.mark.skipif(not executors.qemu_available(), reason="needs qemu-riscv64")
@pytest.mark.parametrize("file", FILES)
def test_expected_results_are_those_of_qemu(file: str) -> None:
    """The cases themselves agree with another implementation."""
    chosen = [case for case in cases.load()[file] if case.ordinary]
    if chosen:
        harness.check(chosen, executors.run_qemu)


def test_unknown_to_the_assembler() -> None:
    """A case that is written as bits is the instruction that its last column names."""
    isa = cases.GUEST.isa
    for file in cases.load().values():
        for case in file:
            if case.disassembly:
                assert isa.disassemble(int.from_bytes(case.code, "little"), case.address) == case.disassembly, case


def test_every_encoding_has_a_case() -> None:
    """Each encoding is the first or a later instruction of some case."""
    assert not harness.uncovered(cases.GUEST, cases.load())
