"""Guest programs that come with polyvm."""

from __future__ import annotations

import os

from polyvm.errors import UsageError


def demo_program(guest: str = "riscv64") -> str:
    """The path of the demonstration program for `guest`."""
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guests", guest, "demo")
    if not os.path.exists(path):
        raise UsageError(f"there is no demonstration program for {guest}")
    return path
