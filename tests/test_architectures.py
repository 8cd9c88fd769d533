"""Guest architectures are known where they are described, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import polyvm

SOURCE = Path(polyvm.__file__).parent
NAMES = re.compile(r"risc.?v|rv64|aarch64|arm64|\ba64\b|\barm\b", re.IGNORECASE)


@pytest.mark.parametrize("package", ["ir", "engine", "codegen", "mem"])
def test_a_package_names_no_architecture(package: str) -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{number}: {line.strip()}"
        for path in sorted((SOURCE / package).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if NAMES.search(line)
    ]
    assert found == []


def test_linux_names_them_in_its_records_only() -> None:
    folder = SOURCE / "linux"
    found = [path.name for path in sorted(folder.glob("*.py")) if NAMES.search(path.read_text())]
    assert found == []
