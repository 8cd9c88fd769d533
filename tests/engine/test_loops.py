"""Loops that are compiled twice do what the interpreter does, wherever their accesses go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from polyvm.engine.interpreter import load
from polyvm.engine.translate import loops_of
from polyvm.isa import get
from polyvm.vcpu import exits
from tests.engine import surveyed
from tests.engine.test_jit import CODE, DATA, Machine

if TYPE_CHECKING:
    from pathlib import Path

    from polyvm.engine.loops import Loop

PATTERN = bytes(i * 37 % 251 for i in range(0x4000))
LOOPS = {
    "up": "li a1, 0x40010\nli a2, 3000\nloop: lw a3, 0(a1)\nadd a4, a4, a3\naddi a1, a1, 4\naddi a2, a2, -1\nbnez a2, loop\necall",
    "down": "li a1, 0x43f00\nli a2, 3000\nloop: lhu a3, 6(a1)\nadd a4, a4, a3\nsb a4, 0(a1)\naddi a1, a1, -5\naddi a2, a2, -1\nbnez a2, loop\necall",
    "two": "li a1, 0x40000\nli a5, 0x42000\nli a2, 900\nloop: ld a3, 0(a1)\nsd a3, 8(a5)\nld a4, 8(a1)\naddi a1, a1, 8\naddi a5, a5, 8\n"
           "addi a2, a2, -1\nbnez a2, loop\necall",
    "stride in a register": "li a1, 0x40000\nli a2, 200\nli a6, 72\nloop: lb a3, 0(a1)\nadd a4, a4, a3\nadd a1, a1, a6\naddi a2, a2, -1\n"
                            "bnez a2, loop\necall",
    "stride of nothing": "li a1, 0x40000\nli a2, 500\nli a6, 0\nloop: lb a3, 0(a1)\nadd a4, a4, a3\nadd a1, a1, a6\naddi a2, a2, -1\n"
                         "bnez a2, loop\necall",
    "stride back": "li a1, 0x43ff0\nli a2, 500\nli a6, -8\nloop: ld a3, 0(a1)\nadd a4, a4, a3\nadd a1, a1, a6\naddi a2, a2, -1\n"
                   "bnez a2, loop\necall",
    "unsigned index": "li a1, 0x40000\nli a2, 0\nli a6, 1000\nloop: slli a5, a2, 32\nsrli a5, a5, 30\nadd a5, a5, a1\nlw a3, 0(a5)\nadd a4, a4, a3\n"
                      "addiw a2, a2, 1\nbne a2, a6, loop\necall",
    "index around zero": "li a1, 0x41000\nli a2, -900\nli a6, 900\nloop: slli a5, a2, 32\nsrai a5, a5, 30\nadd a5, a5, a1\nsw a2, 0(a5)\n"
                         "addiw a2, a2, 1\nbne a2, a6, loop\necall",
    "index that wraps": "li a1, 0x40000\nli a2, 0xfffffff0\nli a6, 600\nloop: addiw a2, a2, 1\nslli a5, a2, 32\nsrli a5, a5, 32\n"
                        "andi a7, a5, 0x7ff\nadd a7, a7, a1\nlbu a3, 0(a7)\nadd a4, a4, a3\naddi a6, a6, -1\nbnez a6, loop\necall",
    "index that is not extended": "li a1, 0x40000\nli a2, 0x500000100\nli a6, 300\nloop: slli a5, a2, 32\nsrli a5, a5, 32\nadd a5, a5, a1\n"
                                  "lbu a3, 0(a5)\nadd a4, a4, a3\naddiw a2, a2, 1\naddi a6, a6, -1\nbnez a6, loop\necall",
    "two ways": "li a1, 0x40000\nli a2, 2000\nloop: lbu a3, 0(a1)\nandi a5, a3, 1\nbeqz a5, even\nlbu a6, 1(a1)\nadd a4, a4, a6\naddi a1, a1, 1\n"
                "j next\neven: sb a2, 2(a1)\naddi a1, a1, 3\nnext: addi a2, a2, -1\nbnez a2, loop\necall",
    "moved by what is loaded": "li a1, 0x40000\nli a2, 1000\nloop: lbu a3, 0(a1)\nandi a3, a3, 7\nadd a1, a1, a3\nadd a4, a4, a3\naddi a2, a2, -1\n"
                               "bnez a2, loop\necall",
    "nest": "li a0, 12\nouter: li a1, 0x40000\nli a2, 300\ninner: lw a3, 0(a1)\nmul a4, a4, a3\naddi a4, a4, 7\nsw a4, 4(a1)\naddi a1, a1, 8\n"
            "addi a2, a2, -1\nbnez a2, inner\naddi a0, a0, -1\nbnez a0, outer\necall",
    "off the end": "li a1, 0x43000\nloop: addi a2, a2, 3\nlw a3, 0(a1)\nadd a4, a4, a3\naddi a1, a1, 4\nj loop",
    "off the start": "li a1, 0x40800\nloop: addi a2, a2, 3\nsh a2, 0(a1)\naddi a1, a1, -2\nj loop",
    "across the end": "li a1, 0x43c01\nloop: addi a2, a2, 3\nld a3, 0(a1)\nadd a4, a4, a3\naddi a1, a1, 8\nj loop",
    "outside": "li a1, 0x4000000000\naddi a1, a1, -16\nloop: addi a2, a2, 3\nlbu a3, 0(a1)\naddi a1, a1, 1\nj loop",
    "around the top": "li a1, -64\nloop: addi a2, a2, 3\nlbu a3, 0(a1)\naddi a1, a1, 1\nj loop",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_old_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("riscv64")
    monkeypatch.setenv("POLYVM_CACHE", str(tmp_path))


def machine(mode: str, text: str) -> Machine:
    made = Machine(mode)
    made.arena.write(DATA, PATTERN)
    made.put(text)
    return made


def seen(one: Machine, code: int) -> tuple[object, ...]:
    core = one.core
    fault = core.exit_address if code == exits.FAULT else 0
    return list(core.x)[1:32], core.pc, core.instructions, fault, one.arena.read(DATA, 0x4000)


@pytest.mark.parametrize("text", LOOPS.values(), ids=LOOPS.keys())
def test_a_loop_does_what_the_interpreter_does(text: str) -> None:
    made, reference = machine("full:0", text), machine("off", text)
    code = made.core.run(200_000)
    assert code == reference.core.run(200_000)
    assert seen(made, code) == seen(reference, code)
    made.close()
    reference.close()


@pytest.mark.parametrize("part", [61, 977, 4001])
@pytest.mark.parametrize("name", ["up", "two ways", "nest", "unsigned index", "off the end"])
def test_a_loop_can_be_left_anywhere_when_the_budget_ends(name: str, part: int) -> None:
    made, reference = machine("full:0", LOOPS[name]), machine("off", LOOPS[name])
    code = exits.BUDGET
    while code == exits.BUDGET and made.core.instructions < 30_000:
        code = made.core.run(part)
        assert code == reference.core.run(part)
        assert seen(made, code) == seen(reference, code)
    made.close()
    reference.close()


def test_a_page_that_is_protected_between_runs_is_seen() -> None:
    text = "li a2, 0\nouter: li a1, 0x40000\nloop: sw a2, 0(a1)\naddi a1, a1, 4\nli a3, 0x44000\nbne a1, a3, loop\naddi a2, a2, 1\nj outer"
    made, reference = machine("full:0", text), machine("off", text)
    for one in (made, reference):
        assert one.core.run(150_000) == exits.BUDGET
        one.arena.protect(DATA + 0x2000, 0x1000, 1)
        assert one.core.run(150_000) == exits.FAULT
        assert one.core.exit_address == DATA + 0x2000
    assert seen(made, exits.FAULT) == seen(reference, exits.FAULT)
    made.close()
    reference.close()


def loops(text: str) -> list[Loop]:
    """Those of the region that begins where `text` does."""
    return loops_of(get("riscv64"), surveyed(text, CODE))


@pytest.mark.parametrize(("name", "steps"), [
    ("up", [(4, 4)]), ("down", [(-5, -5)]), ("two", [(8, 8), (8, 8)]), ("unsigned index", [(4, 4)]), ("two ways", [(1, 3)]),
    ("moved by what is loaded", None),
])  # fmt: skip
def test_steps_are_found(name: str, steps: list[tuple[int, int]] | None) -> None:
    found = loops(LOOPS[name].removesuffix("ecall"))
    if steps is None:
        assert not found
    else:
        assert [(group.step.low, group.step.high) for group in found[0].groups] == steps
