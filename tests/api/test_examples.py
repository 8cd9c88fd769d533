"""The examples run, the docstrings' examples hold, and the generated documentation is up to date."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_an_example_runs(name: str) -> None:
    done = subprocess.run([sys.executable, ROOT / "examples" / name], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    "module", ["polyvm.api.cpu", "polyvm.api.process", "polyvm.ir.softfloat", "polyvm.ir.state", "polyvm.api.registers"]
)
def test_docstring_examples_hold(module: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert failed == 0
    assert tried or module == "polyvm.api.registers"


def test_the_generated_documentation_is_current() -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "gen-docs", "--check"], check=True, timeout=60)
