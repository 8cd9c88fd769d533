"""What a start loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import polyvm
from polyvm.api.programs import demo_program

_HELLO = str(Path(demo_program()).with_name("hello"))
# What takes long to import and is not needed to run what is compiled already.
_NOT_NEEDED = {
    "click", "collections", "enum", "functools", "hashlib", "inspect", "llvmlite", "platform", "polyvm.engine.jit", "polyvm.ir.builder",
    "polyvm.isa.insn", "re", "subprocess", "threading", "typing",
}  # fmt: skip


def _python(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment["PYTHONPATH"] = str(Path(polyvm.__file__).parent.parent)
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def imported() -> set[str]:
    start = ["-X", "importtime", "-c", "from polyvm.cli import script; script()", "run", _HELLO]
    _python(*start[2:])  # compiles the interpreter where no earlier run has
    found = _python(*start)
    assert found.stdout == "Hello from riscv64\n"
    return {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}


def test_a_start_imports_nothing_that_takes_long(imported: set[str]) -> None:
    """Neither LLVM, the instructions, the command line's library, nor the standard library's slow modules are imported."""
    by_site = {line.rpartition("|")[2].strip() for line in _python("-X", "importtime", "-c", "").stderr.splitlines()}
    assert imported & _NOT_NEEDED - by_site == set()
