"""What scripted libraries of C functions have in common."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from polyvm.testing.steps import Slot


class ScriptedLibrary:
    """Functions of C's types that are methods here, ``_`` before the name; those without one succeed. `calls` lists what was
    called, `slots` has the guest's memory by address."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.slots: dict[int, Slot] = {}

    def functions(self, parameters: Mapping[str, tuple[Any, ...]], result: Any) -> SimpleNamespace:
        """A library of these functions, given their parameters' types; each answers a `result`, 0 for success."""
        return SimpleNamespace(**{
            name: ctypes.CFUNCTYPE(result, *types)(self._noted(name)) for name, types in parameters.items()
        })  # fmt: skip

    def _noted(self, name: str) -> Callable[..., int]:
        work: Callable[..., int] = getattr(self, f"_{name}", lambda *_: 0)

        def noted(*arguments: Any) -> int:
            self.calls.append(name)
            return work(*arguments)

        return noted

    def find(self, address: int, size: int) -> Slot | None:
        """The memory that has all of an access."""
        return next((s for s in self.slots.values() if s.address <= address and address + size <= s.address + s.size), None)
