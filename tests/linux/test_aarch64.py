"""What only aarch64 has: identification registers, instructions with several accesses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.guests import AARCH64

FOLDER = Path(__file__).parent / "programs" / "aarch64"
POLYVM = [sys.executable, "-m", "polyvm", "run"]

# Linux's arm64_elf_hwcaps (arch/arm64/kernel/cpufeature.c): register, lowest bit of its field, least value of the field, bit of
# AT_HWCAP, or 64 and the bit of AT_HWCAP2.
HWCAPS = """
isar0  4 2 4    isar0  4 1 3    isar0  8 1 5    isar0 12 1 6    isar0 12 2 21   isar0 16 1 7    isar0 20 2 8    isar0 20 3 111
isar0 28 1 12   isar0 32 1 17   isar0 36 1 18   isar0 40 1 19   isar0 44 1 20   isar0 48 1 23   isar0 52 1 27   isar0 52 2 71
isar0 60 1 80   pfr0 16 0 0     pfr0 16 1 9     pfr0 20 0 1     pfr0 20 1 10    pfr0 32 1 22    pfr0 48 1 24
pfr1  0 1 81    pfr1  4 2 28    pfr1  8 2 82    pfr1  8 3 86    pfr1 24 1 87
isar1  0 1 16   isar1  0 2 64   isar1  4 1 30   isar1  8 1 30   isar1 12 1 13   isar1 16 1 14   isar1 20 1 15   isar1 20 2 26
isar1 20 3 110  isar1 24 1 31   isar1 28 1 31   isar1 32 1 72   isar1 36 1 29   isar1 44 1 78   isar1 44 2 96   isar1 48 1 79
isar1 52 1 77   mmfr0 60 1 83   mmfr1 44 1 84   mmfr2 32 1 25
isar2  0 2 95   isar2  4 1 85   isar2  8 1 30   isar2 12 1 30   isar2 16 1 107  isar2 20 1 108  isar2 48 1 109  isar2 52 1 98
"""
PLACES = {"pfr0": (4, 0), "pfr1": (4, 1), "isar0": (6, 0), "isar1": (6, 1), "isar2": (6, 2), "mmfr0": (7, 0), "mmfr1": (7, 1),
          "mmfr2": (7, 2)}  # fmt: skip
SIGNED = {("pfr0", 16), ("pfr0", 20)}  # 15 is -1: there is none
CPUID = 11  # the registers can be read
# Fields that programs see by cpu-feature-registers.rst, or whose value the kernel gives where they do not: others read as 0.
HIDDEN = {(4, 0): 0xFF, (5, 0): 6, (7, 0): 0xFF00_0000}


class Processor(NamedTuple):
    """What a program is told."""

    hwcaps: int  # AT_HWCAP2 above AT_HWCAP
    registers: dict[tuple[int, int], int]  # by CRm, op2

    def field(self, name: str, low: int) -> int:
        """A field's value."""
        value = self.registers[PLACES[name]] >> low & 15
        return -1 if (name, low) in SIGNED and value == 15 else value


def processor(command: list[str], folder: Path) -> Processor:
    """What `command`, an emulator, tells."""
    program = AARCH64.build(FOLDER / "processor.c", folder / "processor", "-O2", "-static")
    lines = subprocess.run([*command, program], capture_output=True, text=True, timeout=60, check=False).stdout.splitlines()
    first, second = (int(word, 16) for word in lines[0].split())
    rows = [line.split() for line in lines[1:]]
    return Processor(second << 64 | first, {(int(crm), int(op2)): int(value, 16) for crm, op2, value in rows})


def rows() -> list[tuple[str, int, int, int]]:
    """HWCAPS, parsed."""
    words = HWCAPS.split()
    return [(words[i], int(words[i + 1]), int(words[i + 2]), int(words[i + 3])) for i in range(0, len(words), 4)]


def hwcaps(told: Processor) -> int:
    """What the kernel makes of the registers."""
    return sum({1 << bit for name, low, least, bit in rows() if told.field(name, low) >= least}) | 1 << CPUID


def test_hardware_capabilities_are_what_linux_makes_of_the_registers(tmp_path: Path) -> None:
    told = processor(POLYVM, tmp_path)
    assert hex(told.hwcaps) == hex(hwcaps(told))


def test_qemu_bears_out_the_table(tmp_path: Path) -> None:
    """For all that polyvm has."""
    told, own = processor(AARCH64.qemu, tmp_path), processor(POLYVM, tmp_path).hwcaps
    assert hex(told.hwcaps & own) == hex(hwcaps(told) & own) == hex(own)


def test_no_field_says_what_linux_does_not_show(tmp_path: Path) -> None:
    told = processor(POLYVM, tmp_path)
    assert told.registers[0, 5] == 1 << 31 and told.registers[0, 6] == 0
    assert told.registers[0, 0] >> 16 & 15 == 15  # MIDR_EL1: features are in the registers
    for place, value in told.registers.items():
        shown = sum({15 << low for name, low, _, _ in rows() if PLACES[name] == place})
        if place[0]:
            assert value & ~shown & ~HIDDEN.get(place, 0) == 0, place
            assert value & HIDDEN.get(place, 0) == (0x11 if place == (4, 0) else HIDDEN.get(place, 0))


@pytest.mark.parametrize("jit", ["off", "stencil:0", "quick:0", "full:0"])
def test_a_fault_between_accesses_leaves_the_base_alone(jit: str, tmp_path: Path) -> None:
    """The address, pc and registers are those under qemu, which has loaded a part already into vector registers; polyvm has not."""
    program = AARCH64.build(FOLDER / "parts.c", tmp_path / "parts", "-O2", "-static")
    expected = subprocess.run(["qemu-aarch64", "-cpu", "cortex-a72", program], capture_output=True, text=True, check=True).stdout
    found = subprocess.run([*POLYVM, f"--jit={jit}", program], capture_output=True, text=True, timeout=100, check=True).stdout
    assert "changed" not in found
    changed = [line for line in expected.splitlines() if "changed" in line]
    assert all(line.startswith("ld") for line in changed)
    assert found.splitlines() == [line.replace("registers changed", "") for line in expected.splitlines()]
    assert found.count("signal 11") > 500
