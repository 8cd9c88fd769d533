"""`Cpu`: one bare processor with memory and no operating system."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Self

from polyvm.api.hooks import EVERYWHERE, Access, AddressHook, Hook, HookSet, MemoryHook, SyscallHook
from polyvm.api.registers import FloatView, RegisterFile, Registers
from polyvm.engine import Core, JitSource
from polyvm.errors import UsageError
from polyvm.isa import get as get_isa
from polyvm.mem import Arena
from polyvm.vcpu import exits
from polyvm.vcpu.exit_types import Breakpoint, Budget, Exit, Fault, Illegal, Stopped, Syscall, Unsupported, Until

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from types import TracebackType

# Native code runs in slices of about this many seconds, so that Python's signal handlers (Ctrl-C) get in between.
_SLICE_SECONDS = 0.02
_FIRST_SLICE = 200_000
_LARGEST_SLICE = 1 << 32

_HOOK_INSTRUCTION, _HOOK_BLOCK = 1, 2
_PROTECTION = {"r": 1, "w": 2, "x": 4}
_KINDS = {exits.READ: "r", exits.WRITE: "w", exits.EXECUTE: "x", exits.READ | exits.WRITE: "rw"}


@dataclass(frozen=True, slots=True)
class BlockCount:
    """How often the basic block of `instructions` instructions at `pc` was entered."""

    pc: int
    instructions: int
    count: int


class Cpu:
    """One processor with an address space of its own.

    >>> from polyvm import Cpu, Syscall
    >>> with Cpu("riscv64") as cpu:
    ...     cpu.map(0x10000, 0x1000, "rwx")
    ...     cpu.write(0x10000, bytes.fromhex("1305a002 73000000"))  # li a0, 42; ecall
    ...     why = cpu.run(0x10000)
    ...     cpu.regs["a0"], why
    65536
    (42, Syscall(pc=65540, next_pc=65544))

    `x`, `f` (or `v`) are the register files as unsigned integers, `d` and `s` the floating-point registers as doubles and
    singles, `regs` all registers by name. `jit` as of the command line. Guest memory is only what `map` gives; every other
    access is a `Fault`.
    """

    def __init__(self, guest: str = "riscv64", *, jit: str | None = None) -> None:
        table = get_isa(guest).registers
        self.guest = guest
        self._arena = Arena()
        self._core = Core(guest, self._arena)
        self._jit = JitSource.parse(jit if jit is not None else os.environ.get("POLYVM_JIT", "auto"))
        self._core.use_jit(self._jit)
        self.x = RegisterFile(self._core, table, "x")
        self.f = self.v = RegisterFile(self._core, table, table.floating)
        self.d = FloatView(self.f, table, double=True)
        self.s = FloatView(self.f, table, double=False)
        self.regs = Registers(self._core, guest)
        self._hooks = HookSet()
        self._until: frozenset[int] = frozenset()
        self._watched: list[tuple[int, int]] = []
        self._slice = _FIRST_SLICE
        self._running = False
        self._stop = False
        self._missed_at: int | None = None
        self._closed = False

    # -- memory -----------------------------------------------------------------------------------------------

    def map(self, address: int, size: int, protection: str = "rwx") -> int:
        """Give the guest `size` bytes of zeroed memory at `address` (both whole pages of 4 KiB); returns `address`."""
        if size <= 0 or (address | size) & 0xFFF:
            raise UsageError(f"memory is mapped in whole pages of 4096 bytes, not {size:#x} bytes at {address:#x}")
        if address < 0 or address + size > self._arena.size:
            raise UsageError(f"{address:#x} is outside of the address space of {self._arena.size:#x} bytes")
        self._arena.map(address, size, _protection(protection))
        self._hooks.changed = True
        return address

    def unmap(self, address: int, size: int) -> None:
        """Take memory away."""
        self._arena.unmap(address, size)
        self._hooks.changed = True

    def protect(self, address: int, size: int, protection: str) -> None:
        """Change what the guest may do with memory, e.g. to ``"rx"``."""
        self._arena.protect(address, size, _protection(protection))
        self._hooks.changed = True

    def read(self, address: int, size: int) -> bytes:
        """The bytes at `address`; raises MemoryFault where the guest itself could not read them."""
        return self._arena.read(address, size)

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes as a debugger does: code and read-only memory too. Raises MemoryFault where nothing is mapped."""
        self._arena.poke(address, bytes(data))

    # -- state ------------------------------------------------------------------------------------------------

    @property
    def pc(self) -> int:
        """The address of the next instruction."""
        return self._core.pc

    @pc.setter
    def pc(self, value: int) -> None:
        self._core.pc = value

    @property
    def instructions(self) -> int:
        """How many instructions were executed since the beginning, exactly."""
        return self._core.instructions

    @property
    def statistics(self) -> object:
        """An immutable record of the engine's counters."""
        return self._jit.add_to(self._core.statistics())

    # -- running ----------------------------------------------------------------------------------------------

    def run(
        self,
        start: int | None = None,
        *,
        until: int | Iterable[int] = (),
        max_instructions: int | None = None,
    ) -> Exit:
        """Run from `start` (default: from the pc on) and say why it ended.

        `until` names addresses to stop at, before the instruction there; the one that the run begins with does not
        count. After a `Syscall` or `Breakpoint` go on with ``cpu.run(exit.next_pc)``, after a `Fault` at the same
        instruction. An exception in a hook comes out of here and leaves the processor before the instruction (or the
        system call) that the hook was called for. Ctrl-C raises KeyboardInterrupt within a twentieth of a second.
        """
        self._check_open()
        if self._running:
            raise UsageError("run() was called from a hook of the same processor")
        core = self._core
        if start is not None:
            core.pc = start
        stops = frozenset((until,) if isinstance(until, int) else until)
        if stops != self._until:
            self._until = stops
            self._hooks.changed = True
        limit = None if max_instructions is None else core.instructions + max_instructions
        self._running = True
        try:
            return self._run(limit)
        finally:
            self._running = False

    def stop(self) -> None:
        """Make `run` return `Stopped`: the one under way (from a hook or any thread), else the next one at once."""
        self._stop = True
        self._core.request_stop()

    def _run(self, limit: int | None) -> Exit:
        core = self._core
        first = core.instructions
        missed, self._missed_at = self._missed_at, None
        if missed is not None and missed == core.pc and not self._call(self._hooks.instructions, missed):
            return self._stopped()
        while True:
            if self._hooks.changed:
                self._install()
            count = self._slice
            if limit is not None:
                count = min(count, limit - core.instructions)
                if count <= 0:
                    return Budget(core.pc)
            began = perf_counter()
            code = core.run(count)
            if code == exits.BUDGET:
                self._adapt(count, perf_counter() - began)
                continue
            found = self._after(code, first)
            if found is not None:
                return found

    def _after(self, code: int, first: int) -> Exit | None:
        """What exit `code` means to the caller; None to go on."""
        core = self._core
        pc = core.pc
        going = True
        if code == exits.HOOK:
            if core.hook_kind == _HOOK_INSTRUCTION:
                if pc in self._until and core.instructions != first:
                    # The engine passes over this hook when it goes on, so the others at this address are called then.
                    self._missed_at = pc
                    return Until(pc)
                going = self._call(self._hooks.instructions, pc)
            else:
                going = self._call(self._hooks.blocks, pc)
        elif code == exits.WATCH:
            going = self._watch(pc)
        elif code == exits.SYSCALL:
            following = pc + core.insn_length
            if not self._hooks.syscalls:
                return Syscall(pc, following)
            for hook in self._hooks.syscalls:
                hook.call(self)
            if core.pc == pc:
                core.pc = following
            going = not self._stop
        elif code == exits.STOPPED:
            core.clear_stop()
            going = not self._stop
        elif code == exits.BREAKPOINT:
            return Breakpoint(pc, pc + core.insn_length)
        elif code == exits.ILLEGAL:
            return Illegal(pc)
        elif code in (exits.FAULT, exits.HOSTFAULT):
            address = core.exit_address
            kind = _KINDS.get(core.exit_access, "r")
            return Fault(pc, address, kind, core.exit_size, code == exits.HOSTFAULT or self._mapped(address))
        elif code != exits.FENCE_I:
            return Unsupported(pc, exits.NAMES.get(code, str(code)))
        return None if going else self._stopped()

    def _call(self, hooks: tuple[Hook, ...], pc: int) -> bool:
        """Call the hooks that cover `pc`; False if one of them asked to stop."""
        for hook in hooks:
            if hook.active and hook.covers(pc):
                hook.call(self, pc)
        return not self._stop

    def _watch(self, pc: int) -> bool:
        core = self._core
        kind = _KINDS.get(core.exit_access, "rw")
        access = Access(pc, core.exit_address, core.exit_size, kind)
        for hook in self._hooks.memory:
            if hook.active and hook.covers(access.address, access.size) and not set(kind).isdisjoint(hook.kind):
                hook.call(self, access)
        return not self._stop

    def _stopped(self) -> Stopped:
        self._stop = False
        self._core.clear_stop()
        return Stopped(self._core.pc)

    def _adapt(self, count: int, seconds: float) -> None:
        if count < self._slice:
            return  # cut short by max_instructions: says nothing about the speed
        if seconds > 2 * _SLICE_SECONDS:
            self._slice = max(_FIRST_SLICE // 100, int(count * _SLICE_SECONDS / seconds))
        elif seconds < _SLICE_SECONDS / 2:
            self._slice = min(_LARGEST_SLICE, count * 2)

    def _mapped(self, address: int) -> bool:
        return self._arena.find(address) is not None

    # -- hooks ------------------------------------------------------------------------------------------------

    def hook_instruction(self, call: AddressHook, begin: int = 0, end: int = EVERYWHERE) -> Hook:
        """Call ``call(cpu, pc)`` before each instruction whose address is in ``begin <= pc < end``."""
        return self._hooks.add("instructions", Hook(self._hooks, "instruction", call, begin, end))

    def hook_block(self, call: AddressHook, begin: int = 0, end: int = EVERYWHERE) -> Hook:
        """Call ``call(cpu, pc)`` before each basic block that begins in ``begin <= pc < end``."""
        return self._hooks.add("blocks", Hook(self._hooks, "block", call, begin, end))

    def hook_memory(self, call: MemoryHook, begin: int = 0, end: int = EVERYWHERE, kind: str = "rw") -> Hook:
        """Call ``call(cpu, access)`` before each load (``"r"``), store (``"w"``) or both that touches the range.

        Only accesses to the pages of the range get slower; those that miss the range itself do not call `call`.
        """
        if kind not in ("r", "w", "rw"):
            raise UsageError(f'a memory hook is of kind "r", "w" or "rw", not {kind!r}')
        return self._hooks.add("memory", Hook(self._hooks, kind, call, begin, end))

    def hook_syscall(self, call: SyscallHook) -> Hook:
        """Call ``call(cpu)`` at each system call, then go on after it, or where the hook has set the pc to."""
        return self._hooks.add("syscalls", Hook(self._hooks, "syscall", call, 0, EVERYWHERE))

    def _install(self) -> None:
        """Tell the engine which addresses to come back at, and which pages to watch."""
        hooks = self._hooks
        hooks.changed = False
        self._core.set_hooks(
            instructions=[*((h.begin, h.end) for h in hooks.instructions), *((a, a + 1) for a in self._until)],
            blocks=[(h.begin, h.end) for h in hooks.blocks],
        )
        for address, size in self._watched:
            self._arena.unwatch(address, size)
        self._watched = []
        for hook in hooks.memory:
            for region in list(self._arena.regions()):
                begin, end = max(hook.begin, region.start), min(hook.end, region.end)
                if begin < end:
                    self._arena.watch(begin, end - begin, hook.kind)
                    self._watched.append((begin, end - begin))

    # -- counting, natively -----------------------------------------------------------------------------------

    def count_blocks(self) -> list[BlockCount]:
        """The basic blocks executed so far and how often each was entered, most frequent first.

        Compiled code counts only where it is entered, unless `start_counting` was called before.
        """
        counts = [BlockCount(pc, instructions, count) for pc, instructions, count in self._core.blocks()]
        counts.sort(key=lambda block: (-block.count, block.pc))
        return counts

    def start_counting(self) -> None:
        """Count blocks from zero, in compiled code at each of them: that costs it a little time."""
        self._core.tally()

    def coverage(self, bits: int = 16) -> memoryview:
        """A bitmap of ``2**bits`` bits that native code fills: the bit of each executed block, by a hash of its pc.

        The same view each time; write zeros to it to begin anew. That is noticed before a run, and soon during one; compiled code
        is then made again, and more slowly executed, since it has to look at each bit.
        """
        return self._core.enable_coverage(bits)

    # -- life -------------------------------------------------------------------------------------------------

    @contextmanager
    def saved(self) -> Generator[None, None, None]:
        """Put registers back to their present values at the end of the block; memory stays as it is then."""
        before = dict(self.regs)
        try:
            yield
        finally:
            self.regs.update(before)

    def close(self) -> None:
        """Give the memory back; the processor cannot be used any more."""
        if not self._closed:
            self._closed = True
            self._jit.close()
            self._core.close()
            self._arena.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("this processor is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Cpu {self.guest}, closed>" if self._closed else f"<Cpu {self.guest}, pc={self.pc:#x}>"


def _protection(letters: str) -> int:
    bits = 0
    for letter in letters:
        if letter not in _PROTECTION:
            raise UsageError(f'protection is made of the letters "r", "w", "x", not {letters!r}')
        bits |= _PROTECTION[letter]
    return bits
