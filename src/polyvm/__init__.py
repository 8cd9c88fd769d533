"""polyvm runs programs that were built for another architecture.

    run, Process, Completed     guest programs, in the manner of `subprocess`
    Cpu                         one bare processor: memory, registers, hooks
    Machine, MachineConfig      a whole machine, in hardware; DiskConfig, NetConfig, Ending
    Syscall … Until, Exit       why `Cpu.run` came back
    errors                      the error tree

Names are imported at their first use, so that ``import polyvm`` costs next to nothing.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = [
    "Access", "BlockCount", "Breakpoint", "Budget", "Completed", "Cpu", "DiskConfig", "Ending", "Exit", "Fault", "Hook",
    "Illegal", "Machine", "MachineConfig", "NetConfig", "Process", "Stopped", "Syscall", "Unsupported", "Until",
    "__version__", "demo_program", "errors", "run",
]  # fmt: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm import errors
    from polyvm.api.cpu import BlockCount, Cpu
    from polyvm.api.hooks import Access, Hook
    from polyvm.api.process import Completed, Process, run
    from polyvm.api.programs import demo_program
    from polyvm.machine import DiskConfig, Ending, Machine, MachineConfig, NetConfig
    from polyvm.vcpu.exit_types import (
        Breakpoint,
        Budget,
        Exit,
        Fault,
        Illegal,
        Stopped,
        Syscall,
        Unsupported,
        Until,
    )

_HOMES = {
    "polyvm.api.cpu": ("BlockCount", "Cpu"),
    "polyvm.api.hooks": ("Access", "Hook"),
    "polyvm.api.process": ("Completed", "Process", "run"),
    "polyvm.api.programs": ("demo_program",),
    "polyvm.machine": ("DiskConfig", "Ending", "Machine", "MachineConfig", "NetConfig"),
    "polyvm.vcpu.exit_types": (
        "Breakpoint", "Budget", "Exit", "Fault", "Illegal", "Stopped", "Syscall", "Unsupported", "Until",
    ),
}  # fmt: skip


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "errors":
        return import_module("polyvm.errors")
    for home, names in _HOMES.items():
        if name in names:
            value: object = getattr(import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'polyvm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
