"""The accelerators that the conformance suite runs against: those of this host, and scripted ones for the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from polyvm.accel.hvf import Hvf
from polyvm.accel.kvm import Kvm
from polyvm.accel.soft import Soft
from polyvm.accel.whpx import Whpx
from polyvm.mem.guest import GuestMemory
from polyvm.testing import HaltStep, PortRead, PortWrite, ScriptedHvf, ScriptedKvm, ScriptedWhpx
from polyvm.vcpu.contract import VmConfig
from polyvm.vcpu.exit_types import Syscall
from polyvm.vcpu.machine_exits import Halt, PortIo
from tests.accel.guests import CODE, GUESTS, Guest

if TYPE_CHECKING:
    from collections.abc import Callable

ROM = 0xF0000


class RecordingBus:
    """Answers reads with bytes that count up, and notes all that happens."""

    def __init__(self, answers: int = 0x8877665544332211) -> None:
        self.log: list[tuple[object, ...]] = []
        self.answer = answers

    def port_read(self, port: int, size: int) -> int:
        self.log.append(("in", port, size))
        return self.answer

    def port_write(self, port: int, size: int, value: int) -> None:
        self.log.append(("out", port, size, value))

    def mmio_read(self, address: int, size: int) -> int:
        self.log.append(("read", address, size))
        return self.answer

    def mmio_write(self, address: int, size: int, value: int) -> None:
        self.log.append(("write", address, size, value))


@dataclass
class Subject:
    """An accelerator, and how to start one of the guests on it. A scripted one gets a library with the guests' scripts."""

    name: str
    guest: str
    make: Callable[[list[tuple[Any, ...]]], Any]
    scripted: bool
    open: list[Any] = field(default_factory=list)
    library: Any = None

    def vm(self, *guests: Guest | bytes | str, config: dict[str, Any] | None = None) -> tuple[Any, GuestMemory, list[Any]]:
        """A VM with a vCPU for each guest (or for machine code, which only a real accelerator runs), each at its own address."""
        memory = GuestMemory([(0, 0xA0000), (ROM, 0x10000)], readonly=[ROM])
        found = [GUESTS[guest] if isinstance(guest, str) else guest for guest in guests]
        steps = [tuple(step for step in guest.steps if self.guest == "x86_64" or not isinstance(step, (PortRead, PortWrite))) if isinstance(guest, Guest) else (HaltStep(),) for guest in found]
        accelerator = self.make(steps)
        vm = accelerator.create_vm(VmConfig(guest=self.guest, memory=memory, vcpus=len(guests), **(config or {})))
        self.open += [vm, memory]
        vcpus = []
        for number, guest in enumerate(found):
            vcpu = vm.create_vcpu(number)
            vcpus.append(vcpu)
            if self.guest == "x86_64":
                place = CODE + 0x800 * number
                memory.write(place, guest.code if isinstance(guest, Guest) else guest)
                special = vcpu.get_special_regs()
                special.real_mode(0)
                if number:
                    special.real_mode(place - CODE >> 4)
                vcpu.set_special_regs(special)
                regs = vcpu.get_regs()
                regs.rip, regs.rflags, regs.rsp = CODE, 2, 0x9000 - 0x400 * number
                vcpu.set_regs(regs)
            elif self.name.startswith("soft"):
                memory.write(CODE + 0x800 * number, guest.user_code(self.guest) if isinstance(guest, Guest) else guest)
                regs = vcpu.get_regs()
                regs.pc = CODE + 0x800 * number
                vcpu.set_regs(regs)
        return vm, memory, vcpus

    def ended(self, vcpu: Any, found: object) -> bool:
        """Whether the guest is at its end: a halt, or a system call of user code, which then goes on after it."""
        if isinstance(found, Syscall) and self.name.startswith("soft"):
            regs = vcpu.get_regs()
            regs.pc = found.next_pc
            vcpu.set_regs(regs)
            return True
        return found == Halt()

    def needs_code(self) -> None:
        """Skip where no machine code is executed."""
        if self.scripted:
            pytest.skip(f"{self.name} follows a script here and executes no code")

    def needs(self, feature: str) -> None:
        """Skip, with the accelerator's reason, where a feature is missing."""
        found = self.make([()]).probe().capabilities
        if not found.has(feature):
            pytest.skip(f"{self.name}: {feature}: {found.why_not(feature)}")

    def close(self) -> None:
        for thing in self.open:
            thing.close()


def _kvm(machine: str) -> Callable[[list[tuple[Any, ...]]], Any]:
    return lambda steps: Kvm(ScriptedKvm(steps, machine=machine), device="/dev/null", machine=machine)


def _whpx(steps: list[tuple[Any, ...]]) -> Any:
    fake = ScriptedWhpx(steps)
    return Whpx((fake.platform, fake.emulator))


def _hvf(guest: str) -> Callable[[list[tuple[Any, ...]]], Any]:
    def make(steps: list[tuple[Any, ...]]) -> Any:
        fake = ScriptedHvf(guest, steps)
        return Hvf(fake.library, machine=guest, set_simd=fake.set_simd)

    return make


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "kvm": lambda: Subject("kvm", "x86_64", lambda steps: Kvm(), scripted=False),
    "soft-riscv64": lambda: Subject("soft-riscv64", "riscv64", lambda steps: Soft(), scripted=False),
    "soft-aarch64": lambda: Subject("soft-aarch64", "aarch64", lambda steps: Soft(), scripted=False),
    "kvm-x86_64-scripted": lambda: Subject("kvm-x86_64-scripted", "x86_64", _kvm("x86_64"), scripted=True),
    "kvm-aarch64-scripted": lambda: Subject("kvm-aarch64-scripted", "aarch64", _kvm("aarch64"), scripted=True),
    "whpx-scripted": lambda: Subject("whpx-scripted", "x86_64", _whpx, scripted=True),
    "hvf-aarch64-scripted": lambda: Subject("hvf-aarch64-scripted", "aarch64", _hvf("aarch64"), scripted=True),
    "hvf-x86_64-scripted": lambda: Subject("hvf-x86_64-scripted", "x86_64", _hvf("x86_64"), scripted=True),
}


def answered(exit_: Any, bus: RecordingBus) -> None:
    """Do for one exit of `run` what `run_with` does."""
    if isinstance(exit_, PortIo):
        if exit_.write:
            bus.port_write(exit_.port, exit_.size, exit_.value)
        else:
            exit_.answer(bus.port_read(exit_.port, exit_.size))
    elif exit_.write:
        bus.mmio_write(exit_.address, exit_.size, exit_.value)
    else:
        exit_.answer(bus.mmio_read(exit_.address, exit_.size))
