"""C programs under polyvm do what they do under qemu-riscv64."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = sorted(path.stem for path in (Path(__file__).parent / "programs").glob("*.c"))
POLYVM = [sys.executable, "-m", "polyvm", "run"]


def build(name: str, folder: Path) -> Path:
    """The program `name`, compiled and linked statically."""
    source = Path(__file__).parent / "programs" / f"{name}.c"
    target = folder / name
    subprocess.run(["riscv64-linux-gnu-gcc", "-O2", "-w", "-static", "-pthread", "-o", target, source], check=True)
    return target


@pytest.mark.parametrize("name", PROGRAMS)
def test_output_and_status_are_those_of_qemu(name: str, tmp_path: Path) -> None:
    program = build(name, tmp_path)
    expected = subprocess.run(["qemu-riscv64", program], capture_output=True, text=True, timeout=60, check=False)
    for _ in range(3):
        found = subprocess.run([*POLYVM, program], capture_output=True, text=True, timeout=60, check=False)
        assert found.stderr == ""
        assert found.stdout == expected.stdout
        assert found.returncode == expected.returncode
