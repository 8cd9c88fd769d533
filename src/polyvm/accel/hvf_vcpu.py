"""What virtual CPUs of Hypervisor.framework have in common, whatever the guest.

The framework's processor belongs to the thread that makes it. So it is made by the thread that first calls `run`; what is written
before then, from anywhere, waits until it is there.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from polyvm.accel.frame import LibraryVcpu
from polyvm.errors import UsageError
from polyvm.vcpu.contract import DebugControl

if TYPE_CHECKING:
    from polyvm.accel.hvf import HvfVm


class HvfVcpu(LibraryVcpu):
    """`_create`, `_destroy`, `_enter`, `_cancel`, `_read` and `_store` are the architecture's."""

    def __init__(self, vm: HvfVm, number: int) -> None:
        super().__init__(vm, number)
        self.vm = vm
        self._owner: threading.Thread | None = None
        self._staged: dict[type[Any], Any] = {}
        self._debug = DebugControl()

    # -- the architecture's -----------------------------------------------------------------------------------

    def _create(self) -> None:
        raise NotImplementedError

    def _destroy(self) -> None:
        raise NotImplementedError

    def _read(self, kind: type[Any]) -> Any:
        raise NotImplementedError

    def _store(self, record: Any) -> None:
        raise NotImplementedError

    def _apply_debug(self) -> None:
        raise NotImplementedError

    # -- the frame's ------------------------------------------------------------------------------------------

    def _make(self) -> None:
        if self._owner is threading.current_thread():
            return
        if self._owner is not None:
            raise UsageError(f"vCPU {self.id} belongs to the thread that first ran it, which this is not")
        self._create()
        self._owner = threading.current_thread()
        staged, self._staged = self._staged, {}
        for record in staged.values():
            self._store(record)
        self._apply_debug()

    def _end(self) -> None:
        # The framework wants its processor to end in its own thread; another thread's ends with the machine.
        if self._owner is threading.current_thread():
            self._owner = None
            self._destroy()

    # -- registers --------------------------------------------------------------------------------------------

    def get(self, kind: type[Any]) -> Any:
        """A record of registers."""
        if self._owner is None:
            return self._staged.get(kind) or kind()
        self._make()
        return self._read(kind)

    def set(self, record: Any) -> None:
        """Write a record of registers."""
        if self._owner is None:
            self._staged[type(record)] = record
            return
        self._make()
        self._store(record)

    def set_debug(self, control: DebugControl) -> None:
        """Steps, breakpoints, watchpoints."""
        self._debug = control
        if self._owner is not None:
            self._make()
            self._apply_debug()
