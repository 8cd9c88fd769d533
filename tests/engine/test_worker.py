"""What the compiler's process makes of regions."""

from __future__ import annotations

from polyvm.engine.worker import compile_region
from tests.engine import surveyed

# LLVM moves what follows two loads to where they meet, and once cut the loaded values to 32 bits before they were there.
MEETING = """
    j loop
both:
    addiw a1, a1, 60
    add a4, a4, a1
    addi a0, a0, -1
loop:
    andi a2, a0, 1
    beqz a2, even
    lbu a1, 0(a3)
    addiw a1, a1, 12
    j both
even:
    lbu a1, 1(a3)
    addiw a1, a1, 36
    j both
"""


def test_loads_that_the_host_may_refuse_can_meet() -> None:
    spec = surveyed(MEETING, 0x10000)
    spec = spec._replace(guarded=True, blocks=[block._replace(entries=1000) for block in spec.blocks])
    image, _, ways = compile_region(spec.pack())  # EngineError if it is not what LLVM's verifier takes
    assert image
    assert len(ways) == len(spec.blocks) == 5
