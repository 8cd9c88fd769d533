"""A program that does what regions have their own ways for prints what qemu-user prints, however it is compiled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.guests import GUESTS, Guest

SOURCE = Path(__file__).parent / "programs" / "regions.c"


@pytest.fixture(scope="module", params=GUESTS, ids=str)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """It, and what it prints."""
    guest: Guest = request.param
    target = tmp_path_factory.mktemp("regions") / guest.name
    guest.build(SOURCE, target, "-static", "-O2", "-fno-strict-aliasing", "-mstrict-align")
    return target, subprocess.run([*guest.qemu, target, "20"], capture_output=True, check=True).stdout


@pytest.mark.parametrize("jit", ["off", "stencil:0", "quick:0", "full:0", "auto:0.01"])
def test_a_program_prints_the_same_however_it_is_compiled(program: tuple[Path, bytes], jit: str) -> None:
    target, expected = program
    command = [sys.executable, "-m", "polyvm", "run", f"--jit={jit}", str(target), "20"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == expected
