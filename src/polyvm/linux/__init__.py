"""Linux user mode: programs, their system calls, signals and threads."""

from __future__ import annotations

from polyvm.linux.process import Arrived, Process, Thread

__all__ = ["Arrived", "Process", "Thread"]
