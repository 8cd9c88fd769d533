"""How much is executed in each tier: interpreted, quick, full.

Nothing counts instructions in compiled code by its kind. When a core's slices end, the JIT sees in which region that was; what
was executed since it saw the core last, and the processor time of the core's thread, is booked there.
"""

from __future__ import annotations

from time import thread_time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyvm.engine.core import Core
    from polyvm.engine.jit import Installed


class Tiers:
    """Instructions and seconds by level; 0 is the interpreter."""

    def __init__(self) -> None:
        self._instructions = [0, 0, 0]
        self._seconds = [0.0, 0.0, 0.0]

    def book(self, core: Core, region: Installed | None) -> None:
        """`core` has used up its budget in `region`."""
        level = region.level if region is not None else 0
        executed, now = core.get_field("executed"), thread_time()
        self._instructions[level] += executed - core.jit_booked
        core.jit_booked = executed
        if core.jit_clock >= 0:
            self._seconds[level] += now - core.jit_clock
        core.jit_clock = now

    @property
    def seconds(self) -> tuple[float, float, float]:
        """By level."""
        interpreted, quick, full = self._seconds
        return interpreted, quick, full

    def split(self, compiled: int, mode: str) -> tuple[int, int]:
        """So many compiled instructions, divided among the two kinds."""
        _, quick, full = self._instructions
        if not quick + full:
            return (0, compiled) if mode == "full" else (compiled, 0)
        share = compiled * full // (quick + full)
        return compiled - share, share
