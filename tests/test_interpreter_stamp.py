"""What an interpreter in the cache depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from polyvm.engine.interpreter import _stamp
from polyvm.isa import NAMES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for package in ("ir", "isa", "codegen", "engine", "vcpu", "mem", *(f"isa/{name}" for name in NAMES)):
        (tmp_path / package).mkdir()
        (tmp_path / package / "file.py").write_text("")
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_guests_instructions_change_its_own_interpreter_only(tree: Path, name: str) -> None:
    """Whoever changes one guest's instructions does not wait for the others' interpreters."""
    before = {guest: _stamp(guest, str(tree)) for guest in NAMES}
    (tree / "isa" / name / "file.py").write_text("changed")
    assert [guest for guest in NAMES if _stamp(guest, str(tree)) != before[guest]] == [name]


@pytest.mark.parametrize("package", ["ir", "isa", "codegen", "engine", "vcpu", "mem"])
def test_what_guests_share_changes_all_interpreters(tree: Path, package: str) -> None:
    """No guest goes on with an interpreter that other code has made."""
    before = {guest: _stamp(guest, str(tree)) for guest in NAMES}
    (tree / package / "file.py").write_text("changed")
    assert all(_stamp(guest, str(tree)) != before[guest] for guest in NAMES)
