"""What virtual CPUs of Hypervisor.framework have in common, whatever the guest.

The framework's processor belongs to the thread that makes it. So it is made by the thread that first calls `run`; what is written
before then, from anywhere, waits until it is there.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from polyvm.errors import UnsupportedError, UsageError
from polyvm.vcpu import machine_exits as exits
from polyvm.vcpu.contract import DebugControl

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.accel.hvf import HvfVm
    from polyvm.vcpu.contract import Bus


class HvfVcpu:
    """The frame; `_create`, `_destroy`, `_enter`, `_cancel`, `_read` and `_store` are the architecture's."""

    guest = ""

    def __init__(self, vm: HvfVm, number: int) -> None:
        self.vm = vm
        self.id = number
        self._owner: threading.Thread | None = None
        self._staged: dict[type[Any], Any] = {}
        self._closed = self._kicked = False
        self._idle = threading.Condition()
        self._inside = False
        self._unfinished: Callable[[], exits.VmExit | None] | None = None
        self._debug = DebugControl()
        self._mmio, self._port = exits.Mmio(), exits.PortIo()

    # -- the architecture's -----------------------------------------------------------------------------------

    def _create(self) -> None:
        raise NotImplementedError

    def _destroy(self) -> None:
        raise NotImplementedError

    def _enter(self) -> exits.VmExit | None:
        """Run the guest once; None: nothing for the caller."""
        raise NotImplementedError

    def _cancel(self) -> None:
        """From any thread."""
        raise NotImplementedError

    def _read(self, kind: type[Any]) -> Any:
        raise NotImplementedError

    def _store(self, record: Any) -> None:
        raise NotImplementedError

    def _apply_debug(self) -> None:
        raise NotImplementedError

    # -- running ----------------------------------------------------------------------------------------------

    def _make(self) -> None:
        if self._owner is threading.current_thread():
            return
        if self._owner is not None:
            raise UsageError(f"virtual CPU {self.id} belongs to the thread that first ran it, which this is not")
        self._create()
        self._owner = threading.current_thread()
        staged, self._staged = self._staged, {}
        for record in staged.values():
            self._store(record)
        self._apply_debug()

    def run(self) -> exits.VmExit:
        """Enter the guest until something is left to the caller."""
        with self._idle:
            if self._closed:
                raise UnsupportedError(f"virtual CPU {self.id} is closed")
            self._inside = True
        try:
            self._make()
            unfinished, self._unfinished = self._unfinished, None
            if unfinished is not None and (found := unfinished()) is not None:
                return found
            while True:
                if self._closed or self._kicked:
                    self._kicked = False
                    return exits.Interrupted()
                found = self._enter()
                if found is not None:
                    return found
        finally:
            with self._idle:
                self._inside = False
                if self._closed:
                    self._release()
                self._idle.notify_all()

    def run_with(self, bus: Bus) -> exits.VmExit:
        """The same, with devices."""
        while True:
            found = self.run()
            if isinstance(found, exits.PortIo):
                if found.write:
                    bus.port_write(found.port, found.size, found.value)
                else:
                    found.answer(bus.port_read(found.port, found.size))
            elif isinstance(found, exits.Mmio):
                if found.write:
                    bus.mmio_write(found.address, found.size, found.value)
                else:
                    found.answer(bus.mmio_read(found.address, found.size))
            else:
                return found

    def kick(self) -> None:
        """Make `run` return."""
        self._kicked = True
        self.poke()

    def poke(self) -> None:
        """Make the guest be left for a moment, for its interrupt lines to be looked at."""
        if self._owner is not None:
            self._cancel()

    def close(self) -> None:
        """End it; a `run` under way returns first. The framework wants its processor to end in its own thread: another
        thread's, of which no `run` is under way, ends with the machine."""
        with self._idle:
            if self._closed:
                return
            self._closed = True
            while self._inside and self._owner is not threading.current_thread():
                self.poke()
                self._idle.wait(0.01)
            self._release()

    def _release(self) -> None:
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
