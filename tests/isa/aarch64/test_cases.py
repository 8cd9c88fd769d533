"""Every instruction does what the manual says, on every engine, and is written as binutils writes it."""

from __future__ import annotations

import os
import random
from functools import partial

import pytest

from tests.isa import harness
from tests.isa.aarch64 import binutils, cases

pytestmark = pytest.mark.skipif(not binutils.available(), reason="needs the aarch64 cross binutils")

FILES = sorted(path.name for path in cases.GUEST.folder.glob("cases_*.txt"))
EXECUTORS = {"evaluator": harness.run_evaluator, "interpreter": harness.run_core}
SEED = int(os.environ.get("POLYVM_SEED", "0")) or random.SystemRandom().getrandbits(32)
COMPILED = 4  # cases of a file that are compiled in one run: others each time


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_case(executor: str, file: str) -> None:
    """An instruction changes what its case says and nothing else."""
    harness.check(cases.load()[file], EXECUTORS[executor])


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("jit", ["stencil:0", "quick:0", "full:0"])
def test_compiled_case(jit: str, file: str) -> None:
    """The same in compiled code."""
    print(f"POLYVM_SEED={SEED}")
    chosen = cases.load()[file]
    picked = random.Random(f"{SEED}/{file}").sample(chosen, min(len(chosen), COMPILED))
    harness.check(picked, partial(harness.run_core, jit=jit))


@pytest.mark.skipif(not cases.qemu_available(), reason="needs qemu-aarch64")
@pytest.mark.parametrize("file", FILES)
def test_expected_results_are_those_of_qemu(file: str) -> None:
    """The cases themselves agree with another implementation."""
    chosen = [case for case in cases.load()[file] if case.ordinary]
    if chosen:
        harness.check(chosen, cases.run_qemu)


def test_unknown_to_the_assembler() -> None:
    """A case that is written as bits is the instruction that its last column names."""
    isa = cases.GUEST.isa
    for file in cases.load().values():
        for case in file:
            if case.disassembly:
                assert isa.disassemble(int.from_bytes(case.code, "little"), case.address) == case.disassembly, case


def test_every_integer_encoding_has_a_case() -> None:
    """Each encoding is the first or a later instruction of some case."""
    where = {e.name: e.insn.body.__module__ for e in cases.GUEST.isa.encodings}
    integer = tuple(f"a64_{name}" for name in ("immediate", "register", "branch", "memory", "atomic", "system"))
    assert not [name for name in harness.uncovered(cases.GUEST, cases.load()) if where[name].endswith(integer)]


def test_disassembly_is_that_of_binutils() -> None:
    """Random words of each encoding read as objdump writes them."""
    isa, rng = cases.GUEST.isa, random.Random(SEED)
    print(f"POLYVM_SEED={SEED}")
    words: list[int] = []
    for encoding in isa.encodings:
        for _ in range(20):
            word = rng.getrandbits(32) & ~encoding.mask | encoding.value
            for place in (0, 5, 16):
                word |= rng.choice((0, 0, 31)) << place & ~encoding.mask
            if isa.decoder.find(word) is encoding:
                words.append(word)
    problems: list[str] = []
    for i, (word, wanted) in enumerate(zip(words, binutils.disassemble(words), strict=True)):
        text = isa.disassemble(word, 4 * i)
        # binutils has names for AArch32's registers and takes bits that should be one for more.
        if wanted and text.replace(" ", "") != wanted.replace(" ", "") and "s3_0_c0_c" not in text:
            problems.append(f"{word:#010x}: {text}, not {wanted}")
    assert not problems, "\n" + "\n".join(problems)
