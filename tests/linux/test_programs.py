"""C programs under polyvm do what they do under qemu-user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.guests import GUESTS, Guest

FOLDER = Path(__file__).parent / "programs"
PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.c"))
NATIVE = {"threads"}  # qemu-aarch64 has no robust futexes
POLYVM = [sys.executable, "-m", "polyvm", "run"]


@pytest.mark.parametrize("guest", GUESTS, ids=str)
@pytest.mark.parametrize("name", PROGRAMS)
def test_output_and_status_are_those_of_qemu(name: str, guest: Guest, tmp_path: Path) -> None:
    program = guest.build(FOLDER / f"{name}.c", tmp_path / name, "-O2", "-static", "-pthread")
    reference = [*guest.qemu, str(program)]
    if name in NATIVE:
        reference = [str(tmp_path / "native")]
        subprocess.run(["gcc", "-O2", "-w", "-pthread", "-o", *reference, FOLDER / f"{name}.c"], check=True)
    expected = subprocess.run(reference, capture_output=True, text=True, timeout=60, check=False)
    for _ in range(3):
        found = subprocess.run([*POLYVM, program], capture_output=True, text=True, timeout=60, check=False)
        assert found.stderr == ""
        assert found.stdout == expected.stdout
        assert found.returncode == expected.returncode
