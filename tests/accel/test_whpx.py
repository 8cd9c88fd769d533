"""The Windows Hypervisor Platform against a scripted one: what is asked of it, and what its exits become."""

from __future__ import annotations

import ctypes
import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from polyvm.accel.ffi import whpx as ffi
from polyvm.accel.whpx import Whpx
from polyvm.errors import EngineError, UnsupportedError, UsageError
from polyvm.mem.guest import GuestMemory
from polyvm.testing.whpx import ScriptedWhpx
from polyvm.vcpu.contract import CpuidLeaf, DebugControl, MsiRoute, PinRoute, VmConfig
from polyvm.vcpu.machine_exits import (
    Debug,
    EmulationFailure,
    EndOfInterrupt,
    Halt,
    Interrupted,
    InterruptWindow,
    Mmio,
    Msr,
    PortIo,
    Shutdown,
)  # fmt: skip
from polyvm.vcpu.x86_64 import Segment, Table, X86Events, X86Fpu, X86Regs, X86Special

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polyvm.accel.whpx import WhpxVm

C = ffi.CONSTANTS


class Machine:
    """A fake and a machine on it."""

    def __init__(self, **config: Any) -> None:
        self.fake = ScriptedWhpx()
        self.vm: WhpxVm = Whpx((self.fake.platform, self.fake.emulator)).create_vm(VmConfig(**config))
        self.vcpu = self.vm.create_vcpu(0)

    def does(self, step: Any) -> None:
        """What the processor does next."""
        self.fake.script.append(step)

    def exits(self, reason: str, **values: Any) -> None:
        """It exits for this reason."""
        self.does(lambda fake, vp, context: fake.exit(context, reason, **values))


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine with a megabyte."""
    memory = GuestMemory([(0, 1 << 20)])
    made = Machine(memory=memory, irqchip="split", msr_exits=True)
    yield made
    made.vm.close()
    memory.close()
    assert made.fake.partitions == 0


def test_every_register_comes_back_as_it_was_written(machine: Machine) -> None:
    """General, special and floating registers, all different."""
    vcpu = machine.vcpu
    regs = X86Regs(*range(100, 118))
    vcpu.set_regs(regs)
    assert vcpu.get_regs() == regs
    segments = [Segment(base << 12, 0xFFFF_FFFF, base, 0xC093) for base in range(1, 9)]
    special = X86Special(*segments, Table(0x1000, 39), Table(0x2000, 4095), 0x8000_0011, 2, 0x3000, 0x20, 5, 0x500, 0xFEE0_0900)
    vcpu.set_special_regs(special)
    assert vcpu.get_special_regs() == special
    fpu = X86Fpu(tuple(range(1 << 79, (1 << 79) + 8)), 0x27F, 3, 0xFF, 7, 0x1234, 0x5678, 0x1FA0, tuple(i << 64 | i for i in range(16)))
    vcpu.set_fpu_regs(fpu)
    assert vcpu.get_fpu_regs() == fpu
    assert machine.fake.get(0, "R15") == 100 + list(X86Regs.__dataclass_fields__).index("r15")


def test_an_unusable_segment_stays_unusable(machine: Machine) -> None:
    """The platform has no such bit; the segment is not present there."""
    special = dataclasses.replace(machine.vcpu.get_special_regs(), ds=Segment(0, 0, 0, 1 << 16))
    machine.vcpu.set_special_regs(special)
    assert machine.vcpu.get_special_regs().ds.unusable


def test_memory_is_mapped_when_the_partition_is_set_up(machine: Machine) -> None:
    """The regions of guest memory, with the rights that they have."""
    assert machine.fake.mapped == {}
    machine.vcpu.get_regs()
    host = machine.vm.config.memory.host  # type: ignore[union-attr]
    assert machine.fake.mapped == {0: (host, 1 << 20, 7)}
    slot = machine.vm.add_memory(0x10_0000, host, 0x1000, readonly=True)
    assert machine.fake.mapped[0x10_0000] == (host, 0x1000, 5)
    machine.vm.set_memory_flags(slot, readonly=False, log_dirty=True)
    assert machine.fake.mapped[0x10_0000] == (host, 0x1000, 15)
    machine.fake.dirty[0x10_0000] = b"\1"
    assert machine.vm.dirty_log(slot) == b"\1"
    assert machine.vm.dirty_log(slot) == b"\0"
    machine.vm.remove_memory(slot)
    assert 0x10_0000 not in machine.fake.mapped
    with pytest.raises(UsageError, match="overlaps"):
        machine.vm.add_memory(0xF_F000, host, 0x2000)


def test_port_output_brings_the_value_and_goes_on_after_the_instruction(machine: Machine) -> None:
    """out dx, al writes the low byte; rip moves by the instruction's length when the guest goes on, not before."""
    machine.fake.set(0, "Rip", 0x1000)
    machine.does(lambda fake, vp, context: fake.port(context, 0x3F8, 1, write=True, rax=0x1141))
    machine.exits("X64Halt")
    found = machine.vcpu.run()
    assert found == PortIo(0x3F8, 1, True, 0x41)
    assert machine.fake.get(0, "Rip") == 0x1000
    assert machine.vcpu.run() == Halt()
    assert machine.fake.get(0, "Rip") == 0x1002


@pytest.mark.parametrize(("size", "rax"), [(1, 0xAAAA_BBBB_CCCC_DD7F), (2, 0xAAAA_BBBB_CCCC_567F), (4, 0x1234_567F)])
def test_port_input_changes_as_much_of_rax_as_the_processor_does(machine: Machine, size: int, rax: int) -> None:
    """in al and in ax leave the rest; in eax clears the upper half (Intel SDM, volume 1, 3.4.1.1)."""
    old = 0xAAAA_BBBB_CCCC_DDDD
    machine.does(lambda fake, vp, context: fake.port(context, 0x60, size, write=False, rax=old))
    machine.exits("X64Halt")
    found = machine.vcpu.run()
    assert isinstance(found, PortIo)
    found.answer(0x1234_567F)
    machine.vcpu.run()
    assert machine.fake.get(0, "Rax") == rax


def test_an_unanswered_read_gives_all_ones(machine: Machine) -> None:
    """As a bus without a device."""
    machine.does(lambda fake, vp, context: fake.port(context, 0x60, 2, write=False, rax=0))
    machine.exits("X64Halt")
    machine.vcpu.run()
    machine.vcpu.run()
    assert machine.fake.get(0, "Rax") == 0xFFFF


def test_an_emulated_instruction_reads_then_writes(machine: Machine) -> None:
    """`or dword [device], 1`: an exit for the read, one for the write of what was answered, and only then the guest goes on."""
    seen: list[str] = []

    def instruction(fake: ScriptedWhpx, context: int, place: Any) -> bool:
        seen.append("begins")
        value = fake.device(context, 0xFE00_0000, 4)
        if value is None or fake.device(context, 0xFE00_0000, 4, value | 1) is None:
            return False
        fake.finish(context, {"Rip": place[0].Rip + 2})
        seen.append("done")
        return True

    machine.fake.instruction = instruction
    machine.exits("MemoryAccess")
    machine.exits("X64Halt")
    found = machine.vcpu.run()
    assert found == Mmio(0xFE00_0000, 4, False, 0xFFFF_FFFF)
    found.answer(0x40)
    assert machine.vcpu.run() == Mmio(0xFE00_0000, 4, True, 0x41)
    assert seen.count("done") == 0
    assert machine.vcpu.run() == Halt()
    assert seen.count("done") == 1
    assert machine.fake.get(0, "Rip") == 0x1002


def test_an_emulated_instruction_reaches_memory_itself(machine: Machine) -> None:
    """`movs` from memory to a device: only the device is asked about."""
    machine.vm.config.memory.write_u32(0x2000, 0xCAFE)  # type: ignore[union-attr]

    def instruction(fake: ScriptedWhpx, context: int, place: Any) -> bool:
        value = fake.device(context, 0x2000, 4)
        return value is not None and fake.device(context, 0xFE00_0000, 4, value) is not None

    machine.fake.instruction = instruction
    machine.exits("MemoryAccess")
    machine.exits("X64Halt")
    assert machine.vcpu.run() == Mmio(0xFE00_0000, 4, True, 0xCAFE)
    assert machine.vcpu.run() == Halt()


def test_an_instruction_that_cannot_be_emulated_is_reported_with_its_bytes(machine: Machine) -> None:
    """The platform's emulator gives up."""

    def access(fake: ScriptedWhpx, vp: int, context: Any) -> None:
        fake.exit(context, "MemoryAccess", rip=0x7C00)
        context.MemoryAccess.InstructionByteCount = 3
        context.MemoryAccess.InstructionBytes[:3] = [0x0F, 0xAE, 0x07]

    machine.does(access)
    assert machine.vcpu.run() == EmulationFailure(0x7C00, bytes.fromhex("0fae07"))


def test_string_output_is_one_exit_for_each_element(machine: Machine) -> None:
    """rep outsb goes through the emulator."""

    def instruction(fake: ScriptedWhpx, context: int, place: Any) -> bool:
        return all(fake.string_port(context, 0xE9, 1, letter) is not None for letter in b"hi")

    machine.fake.instruction = instruction
    machine.does(lambda fake, vp, context: fake.port(context, 0xE9, 1, write=True, string=True))
    machine.exits("X64Halt")
    assert [machine.vcpu.run().value for _ in range(2)] == list(b"hi")  # type: ignore[union-attr]
    assert machine.vcpu.run() == Halt()


def test_run_with_asks_the_bus(machine: Machine) -> None:
    """Until something else comes."""

    class Devices:
        def port_read(self, port: int, size: int) -> int:
            return port + size

        def port_write(self, port: int, size: int, value: int) -> None:
            raise AssertionError

        mmio_read, mmio_write = port_read, port_write

    machine.does(lambda fake, vp, context: fake.port(context, 0x60, 1, write=False))
    machine.exits("X64Halt")
    assert machine.vcpu.run_with(Devices()) == Halt()
    assert machine.fake.get(0, "Rax") == 0x61


def test_a_kick_makes_a_running_processor_return(machine: Machine) -> None:
    """Also one that comes before `run`."""
    machine.vcpu.kick()
    assert machine.vcpu.run() == Interrupted()
    threading.Timer(0.05, machine.vcpu.kick).start()
    before = time.monotonic()
    assert machine.vcpu.run() == Interrupted()
    assert time.monotonic() - before < 20


def test_closing_makes_a_running_processor_return() -> None:
    """`close` from another thread, while the guest computes."""
    machine = Machine()
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(machine.vcpu.run()))
    thread.start()
    while "WHvRunVirtualProcessor" not in machine.fake.calls:
        time.sleep(0.001)
    machine.vm.close()
    thread.join(20)
    assert found == [Interrupted()]
    assert machine.fake.partitions == 0


def test_exits_become_the_contracts(machine: Machine) -> None:
    """Each reason that has no data."""
    machine.exits("UnrecoverableException")
    machine.exits("X64InterruptWindow")

    def ended(fake: ScriptedWhpx, vp: int, context: Any) -> None:
        fake.exit(context, "X64ApicEoi")
        context.ApicEoi.InterruptVector = 0x31

    machine.does(ended)
    assert [machine.vcpu.run() for _ in range(3)] == [Shutdown(), InterruptWindow(), EndOfInterrupt(0x31)]


def test_model_specific_registers_can_be_answered_and_refused(machine: Machine) -> None:
    """rdmsr gets edx:eax; a refused one is a general protection fault with error code 0."""

    def read(fake: ScriptedWhpx, vp: int, context: Any) -> None:
        fake.exit(context, "X64MsrAccess")
        context.MsrAccess.MsrNumber = 0x123

    machine.does(read)
    found = machine.vcpu.run()
    assert found == Msr(0x123, False)
    found.answer(0x1_0000_0002)
    machine.does(read)
    refused = machine.vcpu.run()
    assert (machine.fake.get(0, "Rax"), machine.fake.get(0, "Rdx")) == (2, 1)
    assert isinstance(refused, Msr)
    refused.refuse()
    machine.exits("X64Halt")
    machine.vcpu.run()
    assert machine.vcpu.get_events() == X86Events(exception=13, error_code=0)


def test_cpuid_answers_by_leaf_and_subleaf() -> None:
    """Functions that were set come out of the guest and are answered; others in the list's gaps answer as the host does."""
    machine = Machine()
    machine.vcpu.set_cpuid([CpuidLeaf(1, 0, 1, 2, 3, 4), CpuidLeaf(7, 1, 5, 6, 7, 8, indexed=True)])

    def asks(function: int, index: int) -> None:
        def cpuid(fake: ScriptedWhpx, vp: int, context: Any) -> None:
            fake.exit(context, "X64Cpuid")
            asked = context.CpuidAccess
            asked.Rax, asked.Rcx, asked.DefaultResultRax, asked.DefaultResultRdx = function, index, 0x77, 0x78

        machine.does(cpuid)

    for function, index in ((1, 9), (7, 1), (7, 0)):
        asks(function, index)
        machine.exits("X64Halt")
    answers = []
    for _ in range(3):
        machine.vcpu.run()
        answers.append([machine.fake.get(0, name) for name in ("Rax", "Rbx", "Rcx", "Rdx")])
    assert answers == [[1, 2, 3, 4], [5, 6, 7, 8], [0x77, 0, 0, 0x78]]
    assert machine.fake.properties[C["WHvPartitionPropertyCodeCpuidExitList"]] == b"\1\0\0\0\7\0\0\0"
    with pytest.raises(UnsupportedError, match="before the first"):
        machine.vcpu.set_cpuid([])
    machine.vm.close()


def test_messages_become_interrupt_requests(machine: Machine) -> None:
    """Vector, delivery and destination as the SDM's message has them; a line sends its route's on the rising edge."""
    machine.vm.signal_msi(0xFEE0_3004, 0xC531)
    assert machine.fake.interrupts == [(0x1105, 3, 0x31)]
    machine.vm.set_routes([MsiRoute(4, 0xFEE0_0000, 0x24)])
    line = machine.vm.irq_line(4)
    for high in (True, True, False, True):
        line.set_level(high)
    assert machine.fake.interrupts[1:] == [(0, 0, 0x24)] * 2
    with pytest.raises(UnsupportedError, match="no I/O APIC"):
        machine.vm.set_routes([PinRoute(4, 4)])


def test_events_can_be_injected_by_hand(machine: Machine) -> None:
    """Pending interrupts, exceptions and NMIs read back; the window is asked for once."""
    vcpu = machine.vcpu
    machine.fake.set(0, "Rflags", 0x202)
    assert vcpu.can_inject()
    vcpu.inject(0x80)
    assert vcpu.get_events().interrupt == 0x80
    assert not vcpu.can_inject()
    vcpu.set_events(X86Events(exception=14, error_code=2, interrupt_shadow=1, nmi_masked=True))
    assert vcpu.get_events() == X86Events(exception=14, error_code=2, interrupt_shadow=1, nmi_masked=True)
    vcpu.inject_nmi()
    assert vcpu.get_events().nmi_injected
    before = machine.fake.calls.count("WHvSetVirtualProcessorRegisters")
    vcpu.request_interrupt_window(True)
    vcpu.request_interrupt_window(True)
    assert machine.fake.calls.count("WHvSetVirtualProcessorRegisters") == before + 1


def test_addresses_are_translated_by_the_guests_tables(machine: Machine) -> None:
    """None where nothing is mapped."""
    machine.fake.pages[0x400] = 0x12
    assert machine.vcpu.translate(0x40_0123) == 0x1_2123
    assert machine.vcpu.translate(0x50_0000) is None


def test_debugging_sets_the_guests_debug_registers() -> None:
    """DR7 as the SDM lays it out; a hit says which address."""
    machine = Machine()
    machine.vcpu.set_debug(DebugControl(step=True, breakpoints=(0x1000,), watchpoints=((0x2000, 4, "w"),)))
    assert machine.fake.get(0, "Dr7") == 0x400 | 2 | 8 | (1 | 3 << 2) << 20
    assert machine.fake.get(0, "Rflags") & 0x100
    assert machine.fake.properties[C["WHvPartitionPropertyCodeExceptionExitBitmap"]][0] == 2

    def hit(fake: ScriptedWhpx, vp: int, context: Any) -> None:
        fake.exit(context, "Exception", rip=0x1234)
        context.VpException.ExceptionType, context.VpException.ExceptionParameter = 1, 2

    machine.does(hit)
    assert machine.vcpu.run() == Debug(0x1234, "watch", 0x2000, 2)
    with pytest.raises(UnsupportedError, match="four"):
        machine.vcpu.set_debug(DebugControl(breakpoints=(1, 2, 3, 4, 5)))
    machine.vm.close()


def test_what_the_platform_lacks_is_said() -> None:
    """No hypervisor, no library, another guest, an I/O APIC."""
    absent = ScriptedWhpx(present=False)
    probe = Whpx((absent.platform, absent.emulator)).probe()
    assert not probe.present
    assert "turn on Windows Hypervisor Platform" in probe.reason
    assert not Whpx().probe().present
    fake = ScriptedWhpx()
    accelerator = Whpx((fake.platform, fake.emulator))
    with pytest.raises(UnsupportedError, match="no I/O APIC"):
        accelerator.create_vm(VmConfig(irqchip="full"))
    with pytest.raises(UnsupportedError, match="aarch64"):
        accelerator.create_vm(VmConfig(guest="aarch64"))
    vm = accelerator.create_vm(VmConfig())
    with pytest.raises(UnsupportedError, match="Linux"):
        vm.add_irqfd(0, 0)
    vm.close()


def test_a_refused_call_names_the_function_and_its_answer() -> None:
    """An HRESULT in the message."""
    machine = Machine()
    with pytest.raises(EngineError, match="WHvSetVirtualProcessorRegisters answers 0x80370309"):
        machine.vcpu._write({0x7777: 1})
    machine.vm.close()


def test_the_exit_context_has_the_headers_size() -> None:
    """What the library is told, and what the fake insists on."""
    assert ctypes.sizeof(ffi.WHV_RUN_VP_EXIT_CONTEXT) == 224
