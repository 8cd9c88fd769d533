"""A port to end the machine with, laid out as QEMU's isa-debug-exit (docs/specs, "debug exit"): for guests that have no
firmware to ask.

    offset  write
    0..3    ends the machine with the value as code
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class ExitPort:
    """`ended` is called with what the guest wrote."""

    SIZE = 4

    def __init__(self, ended: Callable[[int], None]) -> None:
        self._ended = ended

    def read(self, offset: int, size: int) -> int:
        """Nothing is there to read."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """End the machine."""
        self._ended(value)
