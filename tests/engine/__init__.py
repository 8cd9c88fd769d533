"""The engine's tests, and guest code that several of them run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.engine.survey import survey
from polyvm.isa import get
from tests.assembler import assemble

if TYPE_CHECKING:
    from polyvm.engine.region import RegionSpec

# A loop that adds 1 or 2 to a0 in turn, {rounds} times: it writes the addi before each round.
CHANGES_ITSELF = """
        li a5, {rounds}
        la a1, patch
        lw a2, 0(a1)
        la a3, other
        lw a3, 0(a3)
    loop:
        sw a2, 0(a1)
        mv a4, a2
        mv a2, a3
        mv a3, a4
        fence.i
        .p2align 2
    patch:
        .option push
        .option norvc
        addi a0, a0, 1
        addi a5, a5, -1
        bnez a5, loop
        ecall
    other:
        addi a0, a0, 2
        .option pop
        """


def surveyed(text: str, start: int) -> RegionSpec:
    """The riscv64 region that begins where `text` does."""
    code = assemble(text)
    spec = survey(get("riscv64"), lambda at, size: code[at - start : at - start + size], start)
    assert spec is not None
    return spec
