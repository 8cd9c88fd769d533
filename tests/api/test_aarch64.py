"""A bare aarch64 processor from Python."""

from __future__ import annotations

import random
import struct

import pytest

from polyvm import Cpu, Syscall

CODE = 0x10000
MRS_NZCV = 0xD53B4202  # mrs x2, nzcv
SVC = 0xD4000001
# adds, subs, ands of x0 and x1, of w0 and w1; adcs, sbcs; ccmp x0, x1, #5, lt; rmif x0, #7, #9
SETTERS = [0xAB010003, 0xEB010003, 0xEA010003, 0x2B010003, 0x6B010003, 0x6A010003, 0xBA010003, 0xFA010003, 0xFA41B005, 0xBA038409]
VALUES = [0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


@pytest.fixture
def cpu() -> Cpu:
    """One with a page of code."""
    made = Cpu("aarch64")
    made.map(CODE, 0x1000)
    return made


def code(cpu: Cpu, *words: int) -> None:
    """Put instructions at CODE."""
    cpu.write(CODE, struct.pack(f"<{len(words)}I", *words))


@pytest.mark.parametrize("setter", SETTERS, ids=hex)
def test_the_flags_by_name_are_what_the_guest_reads(cpu: Cpu, setter: int) -> None:
    rng = random.Random(setter)
    pairs = [(x, y) for x in VALUES for y in VALUES] + [(rng.getrandbits(64), rng.getrandbits(64)) for _ in range(20)]
    code(cpu, setter, SVC, MRS_NZCV, SVC)
    for x, y in pairs:
        cpu.regs.update({"x0": x, "x1": y, "nzcv": rng.getrandbits(4) << 28})
        why = cpu.run(CODE)
        assert why == Syscall(CODE + 4, CODE + 8)
        seen = cpu.regs["nzcv"]
        cpu.run(CODE + 8)
        assert seen == cpu.regs["x2"]
        assert cpu.regs["nzcv"] == seen


def test_flags_that_are_written_by_name_are_what_the_guest_reads(cpu: Cpu) -> None:
    code(cpu, MRS_NZCV, SVC)
    for flags in range(16):
        cpu.regs["nzcv"] = flags << 28
        cpu.run(CODE)
        assert cpu.regs["x2"] == flags << 28


def test_registers_have_the_names_and_widths_of_the_manual(cpu: Cpu) -> None:
    cpu.regs["x3"] = 0x1122_3344_5566_7788
    assert cpu.regs["w3"] == 0x5566_7788
    cpu.regs["w3"] = 0x9ABC_DEF0
    assert cpu.regs["x3"] == 0x9ABC_DEF0
    cpu.regs["v5"] = 1 << 127 | 0x4000_0000_3F80_0000
    assert (cpu.regs["q5"], cpu.regs["s5"], cpu.regs["h5"], cpu.s[5]) == (cpu.v[5], 0x3F80_0000, 0, 1.0)
    cpu.d[5] = -2.5
    assert cpu.regs["v5"] == 0xC004_0000_0000_0000
    cpu.regs["xzr"] = 7
    assert cpu.regs["xzr"] == 0
    cpu.regs["sp"] = 0x8000
    assert "x31" not in cpu.regs
    assert len(cpu.x) == 31
    with pytest.raises(IndexError):
        cpu.x[31]
    names = list(cpu.regs)
    assert names[:32] == [*(f"x{i}" for i in range(31)), "sp"]
    assert {"pc", "nzcv", "v31", "fpcr", "fpsr", "tpidr_el0"} < set(names)


def test_the_stack_pointer_is_register_31_and_the_zero_register_is_not(cpu: Cpu) -> None:
    code(cpu, 0x910043FF, 0xAA1F03E0, SVC)  # add sp, sp, #16; mov x0, xzr
    cpu.regs["sp"], cpu.regs["x0"] = 0x4000, 5
    cpu.run(CODE)
    assert (cpu.regs["sp"], cpu.regs["x0"]) == (0x4010, 0)


def test_the_environment_of_floating_point_reads_back(cpu: Cpu) -> None:
    for value in (0, 1 << 22, 2 << 22, 3 << 22):
        cpu.regs["fpcr"] = value
        assert cpu.regs["fpcr"] == value
    for value in (0, 0x1F, 1 << 27, 1 << 27 | 0x11):
        cpu.regs["fpsr"] = value
        assert cpu.regs["fpsr"] == value
