"""The test guest, and whether there is an accelerator to run it on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from polyvm import accel

GUESTS = Path(__file__).parent / "guests"
_GCC = (
    "gcc -O1 -ffreestanding -mgeneral-regs-only -mno-red-zone -fno-pie -no-pie -static -nostdlib -fcf-protection=none "
    "-fno-stack-protector -Wl,-T,guest.ld -Wl,--build-id=none -Wl,--no-warn-rwx-segments"
).split()


@pytest.fixture(scope="session")
def accelerator() -> str:
    """The name of an accelerator that runs whole x86-64 machines."""
    found = [a for a in accel.available() if a.present and a.capabilities.full_system and "x86_64" in a.capabilities.guests]
    if not found:
        pytest.skip("no accelerator here runs an x86-64 machine: " + "; ".join(f"{a.name}: {a.reason}" for a in accel.available()))
    return found[0].name


@pytest.fixture(scope="session")
def guests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The test guest as ELF files by entry: "linux" and "pvh"."""
    folder = tmp_path_factory.mktemp("guests")
    built: dict[str, Path] = {}
    for name, flags in (("linux", []), ("pvh", ["-DPVH"])):
        built[name] = folder / name
        subprocess.run([*_GCC, *flags, "-o", built[name], "start.S", "guest.c"], cwd=GUESTS, check=True)
    return built
