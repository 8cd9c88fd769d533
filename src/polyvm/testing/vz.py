"""A Virtualization.framework that only keeps what it is told. It has the selectors of `polyvm.accel.ffi.vz` and no others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from polyvm.accel.ffi import vz as ffi

if TYPE_CHECKING:
    from collections.abc import Callable

_LIMITS = {
    "minimumAllowedMemorySize": 4 << 20, "maximumAllowedMemorySize": 8 << 30, "minimumAllowedCPUCount": 1,
    "maximumAllowedCPUCount": 8,
}  # fmt: skip
_ALLOWED = {"canStart": (0, 3), "canPause": (1,), "canResume": (2,), "canStop": (1, 2), "canRequestStop": (1,)}
_BECOMES = {"start": 1, "pause": 2, "resume": 1, "stop": 0}


class _Object:
    """An instance: `values` are its properties, `made` how it was initialised."""

    def __init__(self, kind: _Class) -> None:
        self.kind = kind
        self.values: dict[str, Any] = {}
        self.made: tuple[Any, ...] = ()

    def __getattr__(self, selector: str) -> Callable[..., Any]:
        if selector not in self.kind.selectors:
            raise AttributeError(f"{self.kind.name} has no {selector}")
        return lambda *arguments: self._call(selector, arguments)

    def _call(self, selector: str, arguments: tuple[Any, ...]) -> Any:
        owner, state = self.kind.owner, self.kind.owner.state
        if selector.startswith("init"):
            self.made = arguments
            if not selector.endswith("error_"):
                return self
            return (None, "no such file") if arguments[0] in owner.bad_files else (self, None)
        if selector.startswith("set"):
            self.values[selector[3:-1]] = arguments[0]
            return None
        if selector == "validateWithError_":
            owner.configuration = self
            return (owner.invalid is None, owner.invalid)
        if selector == "state":
            return state
        if selector in _ALLOWED:
            return state in _ALLOWED[selector]
        if selector == "requestStopWithError_":
            owner.state = 0
            return (True, None)
        owner.state = 3 if owner.failure else _BECOMES[selector.removesuffix("WithCompletionHandler_")]
        arguments[0](owner.failure)
        return None


class _Class:
    def __init__(self, owner: ScriptedVz, name: str, selectors: tuple[str, ...]) -> None:
        self.owner, self.name, self.selectors = owner, name, selectors

    def __getattr__(self, selector: str) -> Callable[..., Any]:
        if selector not in self.selectors:
            raise AttributeError(f"{self.name} has no {selector}")
        if selector == "alloc":
            return lambda: _Object(self)
        if selector == "isSupported":
            return lambda: self.owner.supported
        if selector == "fileURLWithPath_":
            return str
        return lambda: _LIMITS[selector]


class ScriptedVz:
    """What `Vz(load=…)` takes. `invalid` and `failure` are errors that the framework gives, `configuration` what it was asked
    for."""

    def __init__(self, *, supported: bool = True, invalid: str | None = None, failure: str | None = None) -> None:
        self.supported, self.invalid, self.failure = supported, invalid, failure
        self.bad_files: tuple[str, ...] = ()
        self.state = 0
        self.configuration: Any = None
        self.on_queue = 0

    def __call__(self) -> SimpleNamespace:
        """The namespace that pyobjc's modules would give."""
        names: dict[str, Any] = {
            name: _Class(self, name, selectors) for classes in ffi.CLASSES.values() for name, selectors in classes.items()
        }
        return SimpleNamespace(**names, dispatch_queue_create=self._create, dispatch_sync=self._sync)

    def _create(self, label: bytes, kind: None) -> object:
        return (label, kind)

    def _sync(self, queue: object, call: Callable[[], None]) -> None:
        self.on_queue += 1
        call()
