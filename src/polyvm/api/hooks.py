"""Hooks of a bare `Cpu`: what to call, where, and the handle that takes it away again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from polyvm.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

    from polyvm.api.cpu import Cpu

EVERYWHERE = 1 << 64

AddressHook = Callable[["Cpu", int], object]
SyscallHook = Callable[["Cpu"], object]


@dataclass(frozen=True, slots=True)
class Access:
    """An access to memory that is about to be made by the instruction at `pc`; `kind` is ``"r"``, ``"w"`` or ``"rw"``."""

    pc: int
    address: int
    size: int
    kind: str


MemoryHook = Callable[["Cpu", Access], object]


class Hook:
    """A hook that is set; `remove` takes it away. As a context manager it is removed at the end of the block."""

    __slots__ = ("_owner", "begin", "call", "end", "kind")

    def __init__(self, owner: HookSet, kind: str, call: Callable[..., object], begin: int, end: int) -> None:
        if not 0 <= begin < end <= EVERYWHERE:
            raise UsageError(f"a hook needs addresses with 0 <= begin < end, not {begin:#x} and {end:#x}")
        self._owner: HookSet | None = owner
        self.kind = kind
        self.call = call
        self.begin = begin
        self.end = end

    def covers(self, address: int, size: int = 1) -> bool:
        """Does one of the `size` bytes at `address` lie in the hook's range?"""
        return address < self.end and self.begin < address + size

    @property
    def active(self) -> bool:
        """Is it still set?"""
        return self._owner is not None

    def remove(self) -> None:
        """Take the hook away; nothing if it is away already."""
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<{self.kind} hook {self.begin:#x}…{self.end:#x}{'' if self.active else ', removed'}>"


class HookSet:
    """The hooks of one `Cpu` by kind. `changed` tells that the engine has to be told again."""

    __slots__ = ("blocks", "changed", "instructions", "memory", "syscalls")

    def __init__(self) -> None:
        # Replaced, never changed in place: a hook may set and remove hooks while these are iterated over.
        self.instructions: tuple[Hook, ...] = ()
        self.blocks: tuple[Hook, ...] = ()
        self.memory: tuple[Hook, ...] = ()
        self.syscalls: tuple[Hook, ...] = ()
        self.changed = False

    def add(self, group: str, hook: Hook) -> Hook:
        """Set `hook` as one of `group`."""
        setattr(self, group, (*getattr(self, group), hook))
        self.changed = True
        return hook

    def discard(self, hook: Hook) -> None:
        """Forget `hook`."""
        for group in ("instructions", "blocks", "memory", "syscalls"):
            hooks: tuple[Hook, ...] = getattr(self, group)
            if hook in hooks:
                setattr(self, group, tuple(h for h in hooks if h is not hook))
        self.changed = True
