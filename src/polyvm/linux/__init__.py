"""Linux user mode: programs, their system calls, signals and threads."""

from __future__ import annotations

from polyvm.linux.process import Process, Thread

__all__ = ["Process", "Thread"]
