"""What a scripted guest does."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polyvm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class PortRead:
    """IN; what it gets is what `Store` stores later."""

    port: int
    size: int = 1


@dataclass(frozen=True, slots=True)
class PortWrite:
    """OUT."""

    port: int
    size: int
    value: int


@dataclass(frozen=True, slots=True)
class MmioRead:
    """A load from a guest physical address without memory."""

    address: int
    size: int = 4


@dataclass(frozen=True, slots=True)
class MmioWrite:
    """A store there."""

    address: int
    size: int
    value: int


@dataclass(frozen=True, slots=True)
class Store:
    """Store what was read last to guest memory."""

    address: int
    size: int = 4


@dataclass(frozen=True, slots=True)
class Touch:
    """Store a value to guest memory: MMIO where there is none, or only read-only memory."""

    address: int
    size: int
    value: int


@dataclass(frozen=True, slots=True)
class HaltStep:
    """HLT or WFI."""


@dataclass(frozen=True, slots=True)
class ShutdownStep:
    """A triple fault, or PSCI's SYSTEM_OFF."""


@dataclass(frozen=True, slots=True)
class Spin:
    """Do nothing until someone kicks the vCPU."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that the accelerator itself cannot do: `code` is its own number for the exit."""

    code: int


Step = PortRead | PortWrite | MmioRead | MmioWrite | Store | Touch | HaltStep | ShutdownStep | Spin | Failure


@dataclass(slots=True)
class Slot:
    """Memory that the accelerator was given."""

    address: int
    size: int
    host: int
    readonly: bool = False
    dirty: set[int] = field(default_factory=set[int])


class Script:
    """The steps of one vCPU, and what it has read. Steps that need no exit are done here."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)
        self.read = 0
        self.answers: list[int] = []
        self._waiting = 0  # the size of a read that waits for its answer

    def answered(self, value: int) -> None:
        """The accelerator has delivered what the last step reads."""
        if self._waiting:
            self.read = value & (1 << 8 * self._waiting) - 1
            self.answers.append(self.read)
            self._waiting = 0

    @property
    def waiting(self) -> int:
        """The size of the read that waits for its answer; 0 if none does."""
        return self._waiting

    def next(self, find: Callable[[int, int], Slot | None]) -> Step:
        """The next step that is an exit. After the last one the guest halts."""
        if self._waiting:
            raise UsageError("the scripted guest waits for what it reads: the accelerator did not deliver it")
        while self.steps:
            step = self.steps[0]
            if isinstance(step, Spin):
                return step  # stays: it ends when the vCPU is kicked
            self.steps.pop(0)
            if isinstance(step, Store):
                step = Touch(step.address, step.size, self.read)
            if isinstance(step, Touch):
                slot = find(step.address, step.size)
                if slot is None or slot.readonly:
                    return MmioWrite(step.address, step.size, step.value)
                ctypes.memmove(slot.host + step.address - slot.address, step.value.to_bytes(step.size, "little"), step.size)
                slot.dirty.add((step.address - slot.address) >> 12)
                continue
            if isinstance(step, MmioRead):
                slot = find(step.address, step.size)
                if slot is not None:
                    self.read = int.from_bytes(ctypes.string_at(slot.host + step.address - slot.address, step.size), "little")
                    continue
            if isinstance(step, (PortRead, MmioRead)):
                self._waiting = step.size
            return step
        return HaltStep()

    def kicked(self) -> None:
        """The vCPU came back because of a kick."""
        if self.steps and isinstance(self.steps[0], Spin):
            self.steps.pop(0)
