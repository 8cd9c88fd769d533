"""Whole machines: boards, configuration, running them. `Machine` is the front door."""

from __future__ import annotations

from polyvm.machine.config import DiskConfig, Ending, MachineConfig, NetConfig
from polyvm.machine.console import Console
from polyvm.machine.machine import Machine

__all__ = ["Console", "DiskConfig", "Ending", "Machine", "MachineConfig", "NetConfig"]
