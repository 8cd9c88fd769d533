"""One guest instruction by the evaluator: for what the host's hardware cannot do exactly."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from polyvm.errors import MemoryFault
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from polyvm.engine.core import Core

_M64 = (1 << 64) - 1
_LONGEST = 8  # instructions that one handler does


class CoreMachine:
    """A core as the evaluator's machine."""

    def __init__(self, core: Core, length: int, mask: int) -> None:
        self.core = core
        self.mask = mask
        self.pc = core.pc
        self.next_pc = (core.pc + length) & _M64
        self.instret = core.instructions
        self.ticks = monotonic_ns()

    def get(self, slot: str, index: int) -> int:
        """A register."""
        return self.core.get(slot, index)

    def set(self, slot: str, index: int, value: int) -> None:
        """Write a register."""
        self.core.set(slot, index, value)

    def load(self, address: int, size: int) -> int:
        """Guest memory."""
        return int.from_bytes(self.core.arena.read(address & self.mask, size), "little")

    def store(self, address: int, size: int, value: int) -> None:
        """Write guest memory."""
        self.core.arena.write(address & self.mask, value.to_bytes(size, "little"))

    @property
    def fp_flags(self) -> int:
        """Accrued exceptions."""
        return self.core.fp_flags

    @fp_flags.setter
    def fp_flags(self, flags: int) -> None:
        self.core.fp_flags = flags

    @property
    def fp_rm(self) -> int:
        """The rounding mode as it was written."""
        return self.core.fp_rm

    @fp_rm.setter
    def fp_rm(self, mode: int) -> None:
        self.core.fp_rm = mode


class _Accessed(Exception):
    """An instruction comes to an access of `size` bytes at `address`."""

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size


class _Looking(CoreMachine):
    """A core on which nothing is changed."""

    def set(self, slot: str, index: int, value: int) -> None:
        """Nothing."""

    def load(self, address: int, size: int) -> int:
        """Guest memory is not looked at."""
        raise _Accessed(address, size)

    def store(self, address: int, size: int, value: int) -> None:
        """The same."""
        raise _Accessed(address, size)

    @property
    def fp_flags(self) -> int:
        """Accrued exceptions, which no address depends on."""
        return 0

    @fp_flags.setter
    def fp_flags(self, flags: int) -> None:
        """Nothing."""

    @property
    def fp_rm(self) -> int:
        """The same."""
        return 0

    @fp_rm.setter
    def fp_rm(self, mode: int) -> None:
        """Nothing."""


def locate_fault(core: Core) -> None:
    """The host has refused an access, and the core is at the start of what one handler does: at an instruction or at several.
    Those before the one that makes the access are done. Moves the pc there; where no instruction is found it stays."""
    from polyvm.codegen.evaluator import evaluate

    wanted = core.exit_address - core.arena.base
    start, at = core.pc, core.pc
    for done in range(_LONGEST):
        core.pc = at
        length = core.insn_length
        core.pc = start
        try:
            decoded = core.isa.decode(int.from_bytes(core.arena.read(at, length), "little")) if length else None
        except MemoryFault:
            return
        if decoded is None:
            return
        machine = _Looking(core, length, _M64)
        machine.pc, machine.next_pc = at, at + length
        b = core.isa.builder()
        decoded.insn.body(b, **{o.name: b.const(o.type, decoded.operands[o.name]) for o in decoded.insn.operands})
        try:
            outcome = evaluate(b.body, machine, {})
        except _Accessed as access:
            if access.address <= wanted < access.address + access.size:
                core.pc = at
                core.instructions += done
                return
        else:
            if outcome.code is not None or outcome.next_pc is not None:
                return
        at += length


def evaluate_instruction(core: Core, mask: int = _M64) -> int:
    """Do the instruction at the core's pc; exits.NONE, or the exit that it ends in. Of addresses only the bits in `mask` count.

    The native side has counted the instruction already. Raises MemoryFault.
    """
    from polyvm.codegen.evaluator import evaluate

    try:
        word = int.from_bytes(core.arena.read(core.pc, 4), "little")
    except MemoryFault:
        word = int.from_bytes(core.arena.read(core.pc, 2), "little")
    decoded = core.isa.decode(word)
    if decoded is None:
        return exits.ILLEGAL
    machine = CoreMachine(core, decoded.length, mask)
    b = core.isa.builder()
    operands = {o.name: b.const(o.type, decoded.operands[o.name]) for o in decoded.insn.operands}
    decoded.insn.body(b, **operands)
    outcome = evaluate(b.body, machine, {})
    if outcome.code is not None:
        return outcome.code
    core.pc = outcome.next_pc if outcome.next_pc is not None else machine.next_pc
    return exits.NONE
