"""Flushing to zero in loops, on every way to run, against qemu-aarch64."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "flush.c"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built."""
    if shutil.which("aarch64-linux-gnu-gcc") is None or shutil.which("qemu-aarch64") is None:
        pytest.skip("needs aarch64-linux-gnu-gcc and qemu-aarch64")
    target = tmp_path_factory.mktemp("flush") / "flush"
    command = ["aarch64-linux-gnu-gcc", "-O2", "-ffp-contract=off", "-static", "-o", target, PROGRAM, "-lm"]
    subprocess.run(command, check=True)
    return target


@pytest.mark.parametrize("jit", ["off", "stencil:0", "quick:0", "full:0"])
def test_results_and_flags_are_those_of_qemu(program: Path, jit: str) -> None:
    """Numbers around the smallest normal one, in all rounding modes, with flags that are set already and that are not."""
    words = [program, "24", random.SystemRandom().choice("abcdefghijklmnop")]
    print(words)
    expected = subprocess.run(["qemu-aarch64", *words], capture_output=True, check=True).stdout
    command = [sys.executable, "-m", "polyvm", "run", "--stats", "--jit", jit, *words]
    found = subprocess.run(command, capture_output=True, check=True)
    assert found.stdout == expected
    assert b"eval" not in found.stderr  # an exit to the evaluator
