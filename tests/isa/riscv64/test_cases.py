"""Every instruction does what the manual says, on every engine."""

from __future__ import annotations

import pytest

from polyvm.isa import get
from tests.isa.riscv64 import binutils, cases, executors

pytestmark = pytest.mark.skipif(not binutils.available(), reason="needs the riscv64 cross binutils")

FILES = sorted(path.name for path in cases.FOLDER.glob("cases_*.txt"))


def _compare(chosen: list[cases.Case], results: list[cases.State]) -> None:
    problems: list[str] = []
    for case, result in zip(chosen, results, strict=True):
        problems += [f"{case!r}: {difference}" for difference in result.differences(case.after)]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("executor", executors.EXECUTORS)
def test_case(executor: str, file: str) -> None:
    """An instruction changes what its case says and nothing else."""
    if executor == "evaluator":
        pytest.importorskip("polyvm.codegen.evaluator")
    chosen = cases.load()[file]
    _compare(chosen, executors.EXECUTORS[executor](chosen))


@pytest.mark.skipif(not executors.qemu_available(), reason="needs qemu-riscv64")
@pytest.mark.parametrize("file", FILES)
def test_expected_results_are_those_of_qemu(file: str) -> None:
    """The cases themselves agree with another implementation."""
    chosen = [case for case in cases.load()[file] if case.ordinary]
    if chosen:
        _compare(chosen, executors.run_qemu(chosen))


def test_unknown_to_the_assembler() -> None:
    """A case that is written as bits is the instruction that its last column names."""
    isa = get("riscv64")
    for file in cases.load().values():
        for case in file:
            if case.disassembly:
                assert isa.disassemble(int.from_bytes(case.code, "little"), case.address) == case.disassembly, case


def test_every_encoding_has_a_case() -> None:
    """Each encoding is the first or a later instruction of some case."""
    isa = get("riscv64")
    seen: set[str] = set()
    for file in cases.load().values():
        for case in file:
            rest = case.code
            while rest:
                decoded = isa.decode(int.from_bytes(rest[:4], "little"))
                if decoded is not None:
                    seen.add(decoded.encoding.name)
                rest = rest[isa.length(int.from_bytes(rest[:2], "little")) :]
    missing = [encoding.name for encoding in isa.encodings if encoding.name not in seen]
    assert not missing
