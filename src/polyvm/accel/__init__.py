"""Ways to run guests in hardware, and the software engine, behind one contract (`polyvm.vcpu.contract`).

`available()` says what this host has and why not the rest; `best(guest)` picks; `get(name)` names one.
"""

from __future__ import annotations

from polyvm.accel.select import ACCELERATORS, available, best, get

__all__ = ["ACCELERATORS", "available", "best", "get"]
