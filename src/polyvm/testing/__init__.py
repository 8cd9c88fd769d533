"""Helpers for tests of programs that use accelerators: libraries that follow a script in place of a hypervisor.

    ScriptedKvm                what `Kvm(library=…)` takes
    ScriptedWhpx               its `platform` and `emulator` are what `Whpx(…)` takes
    ScriptedHvf                its `library` and `set_simd` are what `Hvf(…)` takes
    PortRead … Spin, Step      what the guest does, one after the other

A scripted library keeps registers and memory slots as the hypervisor would, and answers each entry with the next step.
"""

from __future__ import annotations

from polyvm.testing.hvf import ScriptedHvf
from polyvm.testing.kvm import ScriptedKvm
from polyvm.testing.steps import (
    Failure,
    HaltStep,
    MmioRead,
    MmioWrite,
    PortRead,
    PortWrite,
    Script,
    ShutdownStep,
    Spin,
    Step,
    Store,
    Touch,
)
from polyvm.testing.whpx import ScriptedWhpx

__all__ = [
    "Failure", "HaltStep", "MmioRead", "MmioWrite", "PortRead", "PortWrite", "Script", "ScriptedHvf", "ScriptedKvm",
    "ScriptedWhpx", "ShutdownStep", "Spin", "Step", "Store", "Touch",
]  # fmt: skip
