"""The software engine as an accelerator: user code of the engine's guests, in flat memory, on every host that it runs on.

It has no privileged modes yet: a system call, a breakpoint or an undefined instruction is an exit, guest addresses are physical
ones, there are no interrupts. Accesses to addresses without memory are MMIO: the evaluator does the instruction, as a
transaction.
"""

from __future__ import annotations

import os
import threading
from _thread import get_native_id
from time import sleep
from typing import TYPE_CHECKING, Any

from polyvm.engine import Core, JitSource
from polyvm.engine.evaluate import CoreMachine
from polyvm.errors import MemoryFault, UnsupportedError, UsageError
from polyvm.isa import NAMES
from polyvm.mem import EXEC, READ, WRITE, Arena
from polyvm.mem.host import host_mremap
from polyvm.vcpu import exits
from polyvm.vcpu.aarch64 import A64Fpu, A64Regs, A64Special
from polyvm.vcpu.capabilities import Availability, Capabilities
from polyvm.vcpu.exit_types import Breakpoint, Fault, Illegal, Syscall, Unsupported
from polyvm.vcpu.machine_exits import ALL_ONES, Interrupted, Mmio, VmExit
from polyvm.vcpu.riscv64 import RvFpu, RvRegs, RvSpecial

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polyvm.vcpu.contract import Bus, DebugControl, IrqLine, MsiRoute, PinRoute, VmConfig

_SLICE = 20_000_000  # instructions until Python's signal handlers get a turn
_M64 = (1 << 64) - 1
_INTERRUPTED = Interrupted()
_USER_ONLY = "the software engine executes user code only: it has no privileged modes, paging or interrupts yet"
_MISSING = {
    "full_system": _USER_ONLY,
    "irqchip": _USER_ONLY,
    "msi": _USER_ONLY,
    "irqfd": _USER_ONLY,
    "dirty_log": "the software engine's stores are not logged",
    "single_step": "stepping is `polyvm.Cpu`'s run(max_instructions=1)",
}


class _NeedsRead(Exception):
    """A transaction reads an address without memory."""

    def __init__(self, address: int, size: int) -> None:
        self.address, self.size = address, size


class _Transaction(CoreMachine):
    """One instruction whose effects wait until it is complete; loads from devices take `answers` in order."""

    def __init__(self, core: Core, length: int, answers: Sequence[int]) -> None:
        super().__init__(core, length, _M64)
        self._answers = list(answers)
        self._registers: dict[tuple[str, int], int] = {}
        self._stores: list[tuple[int, int, int]] = []
        self.device: list[tuple[int, int, int]] = []

    def get(self, slot: str, index: int) -> int:
        """A register."""
        found = self._registers.get((slot, index))
        return super().get(slot, index) if found is None else found

    def set(self, slot: str, index: int, value: int) -> None:
        """Write a register, at the end."""
        self._registers[slot, index] = value

    def load(self, address: int, size: int) -> int:
        """Guest memory, or a device's answer."""
        try:
            return super().load(address, size)
        except MemoryFault:
            if self._answers:
                return self._answers.pop(0)
            raise _NeedsRead(address, size) from None

    def store(self, address: int, size: int, value: int) -> None:
        """Write guest memory or a device, at the end."""
        place = self._stores if self.core.arena.check(address, size, "w") else self.device
        place.append((address, size, value))

    def probe(self, address: int, size: int, access: str) -> None:
        """Devices take every access."""

    def commit(self) -> None:
        """Let registers and memory have what was written."""
        for (slot, index), value in self._registers.items():
            super().set(slot, index, value)
        for address, size, value in self._stores:
            super().store(address, size, value)


class SoftVcpu:
    """A core of the engine."""

    def __init__(self, vm: SoftVm, number: int) -> None:
        self.vm = vm
        self._number = number
        self.guest = vm.guest
        self._core = Core(vm.guest, vm.arena)
        self._core.use_jit(vm.jit)
        self._table = self._core.isa.registers
        self._mmio = Mmio()
        self._asked: list[tuple[int, int]] = []  # reads of the transaction that were asked, and what they got
        self._answers: list[int] = []
        self._writes: list[tuple[int, int, int]] = []
        self._thread = 0
        self._closed = self._released = False
        self._lock = threading.Lock()

    @property
    def id(self) -> int:
        """The number that it was made with."""
        return self._number

    @property
    def released(self) -> bool:
        """Whether its core is gone."""
        return self._released

    # -- running ----------------------------------------------------------------------------------------------

    def run(self) -> VmExit:
        """See `polyvm.vcpu.contract`. `Syscall` and `Breakpoint` are exits: go on by setting the pc to their `next_pc`."""
        self._enter()
        try:
            return self._run()
        finally:
            self._leave()

    def run_with(self, bus: Bus) -> VmExit:
        """As `run`, but MMIO is answered by `bus`."""
        self._enter()
        try:
            while isinstance(found := self._run(), Mmio):
                if found.write:
                    bus.mmio_write(found.address, found.size, found.value)
                else:
                    found.value = bus.mmio_read(found.address, found.size)
                if self._closed:
                    return _INTERRUPTED
            return found
        finally:
            self._leave()

    def _enter(self) -> None:
        if self._thread:
            raise UsageError("this vCPU is already running")
        self._thread = get_native_id()
        if self._closed:
            self._leave()
            raise UsageError("this vCPU is closed")

    def _leave(self) -> None:
        self._thread = 0
        if self._closed:
            self._release()

    def _run(self) -> VmExit:
        core = self._core
        if self._asked:
            self._answers.append(self._mmio.value & (1 << 8 * self._mmio.size) - 1)
            self._asked.pop()
            return self._device()
        if self._writes:
            return self._next_write()
        while True:
            code = core.run(_SLICE)
            if self._closed:
                return _INTERRUPTED
            if code in (exits.BUDGET, exits.FENCE_I):
                continue
            pc = core.pc
            if code == exits.STOPPED:
                core.clear_stop()
                return _INTERRUPTED
            if code == exits.SYSCALL:
                return Syscall(pc, pc + 4)
            if code == exits.BREAKPOINT:
                return Breakpoint(pc, pc + core.insn_length)
            if code == exits.ILLEGAL:
                return Illegal(pc)
            if code == exits.FAULT and core.exit_access != exits.EXECUTE:
                return self._device()
            if code in (exits.FAULT, exits.HOSTFAULT):
                access = exits.ACCESS_LETTERS.get(core.exit_access, "r")
                return Fault(pc, core.exit_address, access, core.exit_size, code == exits.HOSTFAULT)
            return Unsupported(pc, exits.NAMES.get(code, str(code)), code)

    def _device(self) -> VmExit:
        """The instruction at the pc accesses a device: do it, or come back with the read that it needs."""
        from polyvm.codegen.evaluator import evaluate

        core = self._core
        decoded = core.isa.decode(int.from_bytes(core.arena.read(core.pc, core.insn_length), "little"))
        if decoded is None:
            return Illegal(core.pc)
        machine = _Transaction(core, decoded.length, self._answers)
        b = core.isa.builder()
        operands = {o.name: b.const(o.type, decoded.operands[o.name]) for o in decoded.insn.operands}
        decoded.insn.body(b, **operands)
        try:
            outcome = evaluate(b.body, machine, {})
        except _NeedsRead as need:
            found = self._mmio
            found.address, found.size, found.write, found.value = need.address, need.size, False, ALL_ONES[8]
            self._asked.append((need.address, need.size))
            return found
        self._answers = []
        machine.commit()
        core.instructions += 1
        core.pc = outcome.next_pc if outcome.next_pc is not None else machine.next_pc
        self._writes = machine.device
        return self._next_write() if self._writes else self._run()

    def _next_write(self) -> Mmio:
        found = self._mmio
        found.address, found.size, found.value = self._writes.pop(0)
        found.write = True
        return found

    def kick(self) -> None:
        """See `polyvm.vcpu.contract`."""
        with self._lock:
            if not self._released:
                self._core.request_stop()

    # -- registers --------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._released:
            raise UsageError("this vCPU is closed")

    def _read(self, name: str) -> int:
        self._open()
        return self._table.read(self._core, name)

    def _write(self, name: str, value: int) -> None:
        self._open()
        self._asked, self._answers, self._writes = [], [], []
        self._table.write(self._core, name, value & (1 << 128) - 1)

    def get_regs(self) -> Any:
        """`RvRegs` or `A64Regs`."""
        if self.guest == "riscv64":
            return RvRegs(**{f"x{i}": self._read(f"x{i}") for i in range(1, 32)}, pc=self._read("pc"))
        general = {f"x{i}": self._read(f"x{i}") for i in range(31)}
        return A64Regs(**general, sp=self._read("sp"), pc=self._read("pc"), pstate=self._read("nzcv"))

    def set_regs(self, regs: Any, /) -> None:
        """`RvRegs` or `A64Regs`; of PSTATE there are the condition flags, at EL0."""
        if self.guest == "riscv64":
            for i in range(1, 32):
                self._write(f"x{i}", getattr(regs, f"x{i}"))
        else:
            if regs.pstate & 0x1F:
                raise UnsupportedError(f"PSTATE {regs.pstate:#x} is not EL0: {_USER_ONLY}")
            for i in range(31):
                self._write(f"x{i}", getattr(regs, f"x{i}"))
            self._write("sp", regs.sp)
            self._write("nzcv", regs.pstate & 0xF000_0000)
        self._write("pc", regs.pc)

    def get_fpu_regs(self) -> Any:
        """`RvFpu` or `A64Fpu`."""
        if self.guest == "riscv64":
            return RvFpu(tuple(self._read(f"f{i}") for i in range(32)), self._read("fcsr"))
        return A64Fpu(tuple(self._read(f"v{i}") for i in range(32)), self._read("fpsr"), self._read("fpcr"))

    def set_fpu_regs(self, regs: Any, /) -> None:
        """`RvFpu` or `A64Fpu`."""
        if self.guest == "riscv64":
            for i, value in enumerate(regs.f):
                self._write(f"f{i}", value)
            self._write("fcsr", regs.fcsr)
            return
        for i, value in enumerate(regs.v):
            self._write(f"v{i}", value)
        self._write("fpsr", regs.fpsr)
        self._write("fpcr", regs.fpcr)

    def get_special_regs(self) -> Any:
        """What user code sees of them: TPIDR_EL0. The others are as after a reset."""
        self._open()
        return RvSpecial() if self.guest == "riscv64" else A64Special(tpidr_el0=self._read("tpidr_el0"))

    def set_special_regs(self, regs: Any, /) -> None:
        """The same; raises UnsupportedError for a change of anything else."""
        expected = RvSpecial() if self.guest == "riscv64" else A64Special(tpidr_el0=regs.tpidr_el0)
        if regs != expected:
            raise UnsupportedError(f"system registers cannot be set: {_USER_ONLY}")
        if self.guest == "aarch64":
            self._write("tpidr_el0", regs.tpidr_el0)

    def set_debug(self, control: DebugControl) -> None:
        """Breakpoint instructions are exits always; the rest is not there."""
        if control.step or control.breakpoints or control.watchpoints:
            self.vm.capabilities.require("single_step")

    # -- life -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """See `polyvm.vcpu.contract`."""
        self._closed = True
        while self._thread and self._thread != get_native_id():
            self.kick()
            sleep(0.0005)
        if not self._thread:
            self._release()

    def _release(self) -> None:
        with self._lock:
            if not self._released:
                self._released = True
                self._core.close()
                self.vm.released()


class SoftVm:
    """Cores that share an arena."""

    def __init__(self, config: VmConfig, capabilities: Capabilities) -> None:
        self.guest = config.guest
        self.config = config
        self.capabilities = capabilities
        self.memory = config.memory
        self.arena = Arena()
        mode = config.options.get("jit", os.environ.get("POLYVM_JIT", "auto"))
        self.jit = JitSource.parse(str(mode))
        self._slots: dict[int, tuple[int, int]] = {}
        self._vcpus: list[SoftVcpu] = []
        self._closed = self._finished = False
        self._pinned = False
        if config.irqchip != "none" or config.pit or config.msr_exits:
            self.arena.close()
            raise UnsupportedError(_USER_ONLY)
        if config.memory is not None:
            config.memory.pin()
            self._pinned = True
            for region in config.memory.regions:
                self.add_memory(region.address, region.host, region.size, readonly=region.readonly)

    @property
    def vcpus(self) -> Sequence[SoftVcpu]:
        """Those that were made, in order."""
        return tuple(self._vcpus)

    def _open(self) -> None:
        if self._closed:
            raise UsageError("this virtual machine is closed")

    def add_memory(self, address: int, host: int, size: int, *, readonly: bool = False, log_dirty: bool = False) -> int:
        """The same pages come to a second place, in the arena; they have to be shared ones, as `GuestMemory` has them."""
        self._open()
        if size <= 0 or (address | host | size) & 0xFFF or address < 0:
            raise UsageError(f"memory is given to a guest in whole pages, not {size:#x} bytes at {address:#x}")
        if log_dirty:
            self.capabilities.require("dirty_log")
        for other, length in self._slots.values():
            if address < other + length and other < address + size:
                raise UsageError(f"guest memory at {address:#x} overlaps that at {other:#x}")
        if not self.arena.inside(address, size):
            raise UnsupportedError(f"the software engine has {self.arena.size:#x} bytes of addresses, and none at {address:#x}")
        self.arena.map(address, size, READ | EXEC | (0 if readonly else WRITE), shared=True)
        host_mremap_alias(host, size, self.arena.base + address)
        slot = next(number for number in range(len(self._slots) + 1) if number not in self._slots)
        self._slots[slot] = (address, size)
        return slot

    def slot_of(self, address: int) -> int:
        """The slot that has a guest physical address."""
        for number, (begin, size) in self._slots.items():
            if begin <= address < begin + size:
                return number
        raise UsageError(f"no memory slot has the address {address:#x}")

    def set_memory_flags(self, slot: int, *, readonly: bool, log_dirty: bool) -> None:
        """Whether the guest may write."""
        self._open()
        if log_dirty:
            self.capabilities.require("dirty_log")
        address, size = self._slot(slot)
        self.arena.protect(address, size, READ | EXEC | (0 if readonly else WRITE))

    def remove_memory(self, slot: int) -> None:
        """Accesses there are MMIO from now on."""
        self._open()
        address, size = self._slot(slot)
        self.arena.unmap(address, size)
        del self._slots[slot]

    def _slot(self, slot: int) -> tuple[int, int]:
        if slot not in self._slots:
            raise UsageError(f"there is no memory slot {slot}")
        return self._slots[slot]

    def dirty_log(self, slot: int) -> bytes:
        """Not there."""
        raise UnsupportedError(self.capabilities.why_not("dirty_log"))

    def create_vcpu(self, number: int) -> SoftVcpu:
        """A core."""
        self._open()
        if not 0 <= number < self.capabilities.max_vcpus:
            raise UsageError(f"there is no vCPU {number}: there are at most {self.capabilities.max_vcpus}")
        if any(vcpu.id == number for vcpu in self._vcpus):
            raise UsageError(f"there is a vCPU {number} already")
        vcpu = SoftVcpu(self, number)
        self._vcpus.append(vcpu)
        return vcpu

    def irq_line(self, gsi: int) -> IrqLine:
        """Not there."""
        raise UnsupportedError(_USER_ONLY)

    def signal_msi(self, address: int, data: int) -> bool:
        """Not there."""
        raise UnsupportedError(_USER_ONLY)

    def set_routes(self, routes: Iterable[MsiRoute | PinRoute]) -> None:
        """Not there."""
        raise UnsupportedError(_USER_ONLY)

    def add_irqfd(self, fd: int, gsi: int, resample: int | None = None) -> None:
        """Not there."""
        raise UnsupportedError(_USER_ONLY)

    def remove_irqfd(self, fd: int, gsi: int) -> None:
        """Not there."""
        raise UnsupportedError(_USER_ONLY)

    def add_ioeventfd(self, fd: int, address: int, size: int, *, port: bool = False, match: int | None = None) -> None:
        """Not there."""
        self.capabilities.require("ioeventfd")

    def remove_ioeventfd(self, fd: int, address: int, size: int, *, port: bool = False, match: int | None = None) -> None:
        """Not there."""
        self.capabilities.require("ioeventfd")

    def coalesce(self, address: int, size: int, *, port: bool = False) -> None:
        """Not there."""
        self.capabilities.require("coalesced_mmio")

    def close(self) -> None:
        """See `polyvm.vcpu.contract`."""
        if self._closed:
            return
        self._closed = True
        for vcpu in self._vcpus:
            vcpu.close()
        self.released()

    def released(self) -> None:
        """Give the memory back, once it is closed and no vCPU runs: one may have closed it from a handler."""
        if not self._closed or self._finished or not all(vcpu.released for vcpu in self._vcpus):
            return
        self._finished = True
        self.jit.close()
        self.arena.close()
        if self._pinned and self.memory is not None:
            self._pinned = False
            self.memory.unpin()

    def __enter__(self) -> SoftVm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def host_mremap_alias(host: int, size: int, target: int) -> None:
    """Show shared pages at a second address: mremap(2) with an old size of 0."""
    try:
        host_mremap(host, 0, size, target)
    except OSError as error:
        raise UnsupportedError("the software engine takes memory in shared mappings only, as GuestMemory has it") from error


class Soft:
    """The accelerator."""

    name = "soft"

    def probe(self) -> Availability:
        """Whether the engine runs on this host: it makes x86-64 code for Linux."""
        import platform
        import sys

        if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
            where = f"{sys.platform} on {platform.machine()}"
            return Availability(self.name, present=False, reason=f"the engine makes code for Linux on x86-64; this is {where}")
        from polyvm import __version__

        capabilities = Capabilities(
            guests=NAMES, max_vcpus=256, memory_slots=1 << 16, readonly_memory=True, software_breakpoints=True, missing=_MISSING
        )
        return Availability(self.name, present=True, version=__version__, capabilities=capabilities)

    def create_vm(self, config: VmConfig) -> SoftVm:
        """A new VM for user code."""
        found = self.probe()
        if not found.present:
            raise UnsupportedError(found.reason)
        if config.guest not in NAMES:
            raise UnsupportedError(f"the software engine runs {', '.join(NAMES)}, not {config.guest}")
        return SoftVm(config, found.capabilities)


accelerator = Soft()
