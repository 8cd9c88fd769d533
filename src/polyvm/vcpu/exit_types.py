"""Why a bare `Cpu` came back, as values to match on: the tagged union `Exit`.

The codes in `polyvm.vcpu.exits` are what native code stores; these classes are what a program that embeds polyvm sees:

    match cpu.run(start):
        case Syscall(pc):
            ...
        case Fault(address=address, access="w"):
            ...
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Syscall:
    """The guest asks its operating system; `pc` is the instruction's address, `next_pc` where to go on after it."""

    pc: int
    next_pc: int


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """A breakpoint instruction at `pc`; `next_pc` is the address of the instruction after it."""

    pc: int
    next_pc: int


@dataclass(frozen=True, slots=True)
class Illegal:
    """The bytes at `pc` are no instruction of this guest."""

    pc: int


@dataclass(frozen=True, slots=True)
class Fault:
    """The instruction at `pc` made an access that the mapping forbids; it had no effect.

    `address` is the first byte that cannot be accessed, `access` one of ``"r"``, ``"w"``, ``"x"``, `size` the number
    of bytes of the whole access, and `mapped` tells a protected page (True) from an unmapped one (False).
    """

    pc: int
    address: int
    access: str
    size: int
    mapped: bool


@dataclass(frozen=True, slots=True)
class Budget:
    """`max_instructions` were executed; `pc` is the next one."""

    pc: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """`Cpu.stop` was called, from a hook or from another thread; `pc` is the next instruction."""

    pc: int


@dataclass(frozen=True, slots=True)
class Until:
    """The guest reached `pc`, one of the addresses given as `until`; the instruction there was not executed."""

    pc: int


@dataclass(frozen=True, slots=True)
class Unsupported:
    """The engine left for a reason that has no class of its own: `reason` is its name in `polyvm.vcpu.exits`.

    From an accelerator: `code` is its own number for the reason, `raw` what it gave besides, as bytes; `pc` is 0 where unknown.
    """

    pc: int
    reason: str
    code: int = -1
    raw: bytes = b""


Exit = Syscall | Breakpoint | Illegal | Fault | Budget | Stopped | Until | Unsupported
