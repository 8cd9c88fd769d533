"""Hypervisor.framework against a scripted one: what its exits become, and what is written to it; both processors."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from polyvm.accel.ffi import hvf as ffi
from polyvm.accel.hvf import Hvf
from polyvm.errors import EngineError, UnsupportedError, UsageError
from polyvm.mem.guest import GuestMemory
from polyvm.testing import ScriptedHvf
from polyvm.vcpu.contract import CpuidLeaf, DebugControl, MsiRoute, VmConfig
from polyvm.vcpu.machine_exits import (
    Debug,
    EmulationFailure,
    FailEntry,
    Halt,
    Hypercall,
    InterruptWindow,
    Mmio,
    Msr,
    PortIo,
    Shutdown,
    SystemEvent,
)
from polyvm.vcpu.x86_64 import X86Events, X86Fpu, X86Regs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SYSTEM = ffi.SYSTEM_REGISTERS


class Machine:
    """A script and a machine on it, with a megabyte."""

    def __init__(self, architecture: str, **config: Any) -> None:
        self.fake = ScriptedHvf(architecture)
        self.memory = GuestMemory([(0, 1 << 20)])
        accelerator = Hvf(self.fake.library, machine=architecture, set_simd=self.fake.set_simd)
        self.vm = accelerator.create_vm(VmConfig(guest=architecture, memory=self.memory, **config))
        self.vcpu: Any = self.vm.create_vcpu(0)

    def does(self, *steps: Callable[[ScriptedHvf], None]) -> None:
        """What the processor does next."""
        self.fake.script += steps

    def close(self) -> None:
        """All of it."""
        self.vm.close()
        self.memory.close()
        assert self.fake.machines == 0
        assert self.fake.threads == {}


@pytest.fixture
def arm() -> Iterator[Machine]:
    """On Apple silicon."""
    machine = Machine("aarch64")
    yield machine
    machine.close()


@pytest.fixture
def intel() -> Iterator[Machine]:
    """On an Intel Mac."""
    machine = Machine("x86_64")
    yield machine
    machine.close()


def wfi(fake: ScriptedHvf) -> None:
    """The end of an aarch64 guest."""
    fake.exception(0x01 << 26)


def hlt(fake: ScriptedHvf) -> None:
    """The end of an x86-64 guest."""
    fake.vmx(ffi.EXIT_HLT, length=1)


# -- aarch64 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "signed", "wide", "expected"),
    [(1, 0, 0, 0x80), (1, 1, 0, 0xFFFF_FF80), (1, 1, 1, 0xFFFF_FFFF_FFFF_FF80), (4, 1, 1, 0xFFFF_FFFF_8000_0080), (8, 0, 1, 0x80000080)],
)
def test_a_load_is_extended_as_its_syndrome_says(arm: Machine, size: int, signed: int, wide: int, expected: int) -> None:
    """SAS, SSE, SRT and SF of a data abort (DDI 0487, ISS encoding of data aborts); the pc moves on afterwards."""
    syndrome = 0x24 << 26 | 1 << 24 | (size.bit_length() - 1) << 22 | signed << 21 | 5 << 16 | wide << 15
    arm.does(lambda fake: fake.exception(syndrome, physical=0x0900_0000), wfi)
    found = arm.vcpu.run()
    assert found == Mmio(0x0900_0000, size, False, (1 << 8 * size) - 1)
    found.answer(0x8000_0080)
    assert arm.vcpu.run() == Halt()
    assert arm.fake.reg("x5") == expected
    assert arm.vcpu.get_regs().pc == 8


def test_a_store_of_the_zero_register_writes_zero(arm: Machine) -> None:
    """Register 31 of a syndrome."""
    arm.does(lambda fake: fake.exception(0x24 << 26 | 1 << 24 | 2 << 22 | 31 << 16 | 1 << 6, physical=0x0900_0018), wfi)
    assert arm.vcpu.run() == Mmio(0x0900_0018, 4, True, 0)


def test_an_abort_without_a_syndrome_is_reported_with_its_instruction(arm: Machine) -> None:
    """Pairs and vectors have none."""
    arm.memory.write_u32(0x400, 0xA940_0440)
    regs = arm.vcpu.get_regs()
    regs.pc = 0x400
    arm.vcpu.set_regs(regs)
    arm.does(lambda fake: fake.exception(0x24 << 26, physical=0x0900_0000))
    assert arm.vcpu.run() == EmulationFailure(0x400, bytes.fromhex("400440a9"))


def test_psci_is_answered(arm: Machine) -> None:
    """The version here; what concerns the machine, by the caller (DEN0022)."""

    def call(number: int, argument: int = 0) -> Callable[[ScriptedHvf], None]:
        def step(fake: ScriptedHvf) -> None:
            fake.registers["reg", 0], fake.registers["reg", 1] = number, argument
            fake.exception(0x16 << 26)

        return step

    arm.does(call(0x8400_0000), wfi)
    assert arm.vcpu.run() == Halt()
    assert arm.fake.reg("x0") == 0x1_0001
    arm.does(call(0x8400_000A, 0x1234), wfi)
    arm.vcpu.run()
    assert arm.fake.reg("x0") == 0xFFFF_FFFF_FFFF_FFFF
    arm.does(call(0x8400_0008), call(0x8400_0009), call(0x8600_0001, 7), wfi)
    assert [arm.vcpu.run() for _ in range(2)] == [SystemEvent("shutdown"), SystemEvent("reset")]
    found = arm.vcpu.run()
    assert isinstance(found, Hypercall) and (found.number, found.arguments[0]) == (0x8600_0001, 7)
    found.answer(99)
    arm.vcpu.run()
    assert arm.fake.reg("x0") == 99


def test_system_registers_come_by_their_encoding(arm: Machine) -> None:
    """MRS and MSR that trap; a refused one becomes an undefined instruction at EL1's vector."""
    index = SYSTEM["MDSCR_EL1"]
    fields = (index >> 14 & 3) << 20 | (index & 7) << 17 | (index >> 11 & 7) << 14 | (index >> 7 & 15) << 10 | (index >> 3 & 15) << 1
    arm.does(lambda fake: fake.exception(0x18 << 26 | fields | 3 << 5 | 1), wfi)
    found = arm.vcpu.run()
    assert found == Msr(index, False)
    found.answer(0x42)
    arm.vcpu.run()
    assert arm.fake.reg("x3") == 0x42
    special = arm.vcpu.get_special_regs()
    special.vbar_el1 = 0x8000
    arm.vcpu.set_special_regs(special)
    before = arm.vcpu.get_regs().pc
    arm.does(lambda fake: fake.exception(0x18 << 26 | fields | 3 << 5), wfi)
    arm.vcpu.run().refuse()
    arm.vcpu.run()
    assert arm.vcpu.get_special_regs().elr_el1 == before
    assert arm.vcpu.get_regs().pc == 0x8200 + 4


def test_interrupt_lines_are_given_at_each_entry(arm: Machine) -> None:
    """Without a GIC in the framework, which forgets them when it comes back."""
    arm.vm.irq_line(0).set_level(True)
    arm.does(wfi, wfi)
    arm.vcpu.run()
    arm.vm.irq_line(0).set_level(False)
    arm.vcpu.run()
    assert arm.fake.pending == [(0, True), (0, False)]


def test_the_timer_is_left_to_the_caller(arm: Machine) -> None:
    """HV_EXIT_REASON_VTIMER_ACTIVATED."""
    arm.does(lambda fake: fake.leaves(ffi.HV_EXIT_REASON_VTIMER_ACTIVATED))
    assert arm.vcpu.run() == SystemEvent("timer")


def test_the_frameworks_interrupt_controller_gets_lines_and_messages() -> None:
    """irqchip=full, on macOS 15."""
    machine = Machine("aarch64", irqchip="full")
    machine.vm.irq_line(33).pulse()
    machine.vm.signal_msi(0x0808_0040, 70)
    assert (machine.fake.spis, machine.fake.messages) == ([(33, True), (33, False)], [(0x0808_0040, 70)])
    with pytest.raises(UnsupportedError, match="cannot be routed"):
        machine.vm.set_routes([MsiRoute(1, 2, 3)])
    machine.close()


def test_debugging_sets_the_debug_registers(arm: Machine) -> None:
    """A breakpoint, a watchpoint on a halfword, a step; what they hit."""
    arm.vcpu.set_debug(DebugControl(step=True, breakpoints=(0x1000,), watchpoints=((0x2006, 2, "w"),)))
    arm.does(lambda fake: fake.exception(0x34 << 26, virtual=0x2006))
    assert arm.vcpu.run() == Debug(0, "watch", 0x2006, 0x34 << 26)
    registers = arm.fake.registers
    assert (registers["sys", 0x8004], registers["sys", 0x8005] & 1) == (0x1000, 1)
    assert (registers["sys", 0x8006], registers["sys", 0x8007] >> 5 & 0xFF, registers["sys", 0x8007] >> 3 & 3) == (0x2000, 0xC0, 2)
    assert registers["sys", SYSTEM["MDSCR_EL1"]] & 1


def test_a_processor_belongs_to_the_thread_that_first_ran_it(arm: Machine) -> None:
    """The framework's rule, as a sentence; what was written before comes along."""
    regs = arm.vcpu.get_regs()
    regs.x7 = 77
    arm.vcpu.set_regs(regs)
    arm.does(wfi)
    failed: list[Exception] = []

    def other() -> None:
        try:
            arm.vcpu.run()
        except UsageError as error:
            failed.append(error)

    arm.vcpu.run()
    assert arm.fake.reg("x7") == 77
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert "first ran it" in str(failed[0])


# -- x86-64 -----------------------------------------------------------------------------------------------------------


def test_ports_and_their_widths(intel: Machine) -> None:
    """Qualifications as table 28-5 lays them out."""
    intel.does(lambda fake: fake.vmx(ffi.EXIT_IO, 1 | 1 << 3 | 0x60 << 16, length=1), hlt)
    found = intel.vcpu.run()
    assert found == PortIo(0x60, 2, False, 0xFFFF)
    found.answer(0x1234)
    regs = X86Regs(rax=0xAAAA_BBBB_CCCC_DDDD)
    intel.fake.registers["reg", ffi.X86_REGISTERS["RAX"]] = regs.rax
    assert intel.vcpu.run() == Halt()
    assert intel.fake.reg("RIP") == 2


def test_moves_to_devices_are_decoded(intel: Machine) -> None:
    """`movsx eax, byte ptr [rbx]` in 64-bit code, through page tables."""
    special = intel.vcpu.get_special_regs()
    special.long_mode(0x1000)
    intel.vcpu.set_special_regs(special)
    for table, entry in ((0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x83)):
        intel.memory.write_u64(table, entry)
    intel.memory.write(0x10_0000 - 0x100, bytes.fromhex("0fbe03"))
    intel.vcpu.set_regs(X86Regs(rip=0x10_0000 - 0x100, rax=0xFFFF_0000_0000_0000))
    intel.does(lambda fake: fake.vmx(ffi.EXIT_EPT_VIOLATION, 1, GUEST_PHYSICAL_ADDRESS=0xFE00_0000), hlt)
    found = intel.vcpu.run()
    assert found == Mmio(0xFE00_0000, 1, False, 0xFF)
    found.answer(0x80)
    intel.vcpu.run()
    assert intel.fake.reg("RAX") == 0xFFFF_FF80
    assert intel.fake.reg("RIP") == 0x10_0000 - 0x100 + 4
    assert intel.vcpu.translate(0x1234) == 0x1234
    assert intel.vcpu.translate(0x8000_0000) is None


def test_a_fault_on_memory_that_is_there_is_entered_again(intel: Machine) -> None:
    """The framework maps lazily."""
    intel.does(lambda fake: fake.vmx(ffi.EXIT_EPT_VIOLATION, 1, GUEST_PHYSICAL_ADDRESS=0x5000), hlt)
    assert intel.vcpu.run() == Halt()


def test_an_instruction_that_is_no_move_is_reported(intel: Machine) -> None:
    """With what lies at rip."""
    intel.memory.write(0x700, bytes.fromhex("f30f6f07"))
    intel.vcpu.set_regs(X86Regs(rip=0x700))
    intel.does(lambda fake: fake.vmx(ffi.EXIT_EPT_VIOLATION, 1, GUEST_PHYSICAL_ADDRESS=0xFE00_0000))
    found = intel.vcpu.run()
    assert isinstance(found, EmulationFailure) and found.code.startswith(bytes.fromhex("f30f6f07"))


def test_long_mode_is_entered_by_the_guests_writes(intel: Machine) -> None:
    """CR4, EFER, CR0: the shadows are the guest's, the real registers have what VMX needs, the entry control follows."""

    def move(number: int, value: int) -> Callable[[ScriptedHvf], None]:
        def step(fake: ScriptedHvf) -> None:
            fake.registers["reg", ffi.X86_REGISTERS["RBX"]] = value
            fake.vmx(ffi.EXIT_CR_ACCESS, number | 3 << 8, length=3)

        return step

    intel.does(move(4, 0x20), hlt)
    intel.vcpu.run()
    assert intel.fake.vmcs("GUEST_CR4") == 0x2020
    intel.fake.registers["vmcs", ffi.VMCS["GUEST_IA32_EFER"]] = 0x100
    intel.does(move(0, 0x8000_0011), hlt)
    intel.vcpu.run()
    special = intel.vcpu.get_special_regs()
    assert (special.cr0, special.cr4, special.efer) == (0x8000_0011, 0x20, 0x500)
    assert intel.fake.vmcs("GUEST_CR0") == 0x8000_0031
    assert intel.fake.vmcs("CTRL_VMENTRY_CONTROLS") >> 9 & 1


def test_controls_are_what_the_processor_allows(intel: Machine) -> None:
    """Required bits set, forbidden ones clear, whatever was wanted."""
    intel.does(hlt)
    intel.vcpu.run()
    cpu = intel.fake.vmcs("CTRL_CPU_BASED")
    assert cpu & 0x0401E172 == 0x0401E172 and cpu & ~0xFFF9FFFE == 0 and cpu >> 7 & 1
    assert intel.fake.vmcs("CTRL_CPU_BASED2") >> 7 & 1


def test_cpuid_msrs_and_ends(intel: Machine) -> None:
    """Leaves that were set; model specific registers; triple fault; refused entry."""
    intel.vcpu.set_cpuid([CpuidLeaf(0, 0, 0x16, 1, 2, 3)])
    intel.does(lambda fake: fake.vmx(ffi.EXIT_CPUID), lambda fake: fake.vmx(ffi.EXIT_RDMSR))
    found = intel.vcpu.run()
    assert [intel.fake.reg(name) for name in ("RAX", "RBX", "RDX")] == [0x16, 1, 3]
    found.refuse()
    intel.does(hlt)
    intel.vcpu.run()
    assert intel.vcpu.get_events() == X86Events(exception=13, error_code=0)
    intel.vcpu.set_msrs({0xC0000082: 0xFFFF_8000_0000_0000})
    assert intel.vcpu.get_msrs([0xC0000082, 0x1234]) == {0xC0000082: 0xFFFF_8000_0000_0000}
    with pytest.raises(UnsupportedError, match="0x1234"):
        intel.vcpu.set_msrs({0x1234: 1})
    intel.does(lambda fake: fake.vmx(ffi.EXIT_TRIPLE_FAULT), lambda fake: fake.vmx(1 << 31 | 33))
    assert [intel.vcpu.run() for _ in range(2)] == [Shutdown(), FailEntry(33)]


def test_interrupts_are_injected_when_the_window_opens(intel: Machine) -> None:
    """25.8.3: valid bit, type, vector; the window's control bit goes when it has opened."""
    intel.does(hlt)
    intel.vcpu.run()
    intel.vcpu.request_interrupt_window(True)
    assert intel.fake.vmcs("CTRL_CPU_BASED") >> 2 & 1
    intel.does(lambda fake: fake.vmx(ffi.EXIT_INTERRUPT_WINDOW))
    assert intel.vcpu.run() == InterruptWindow()
    assert not intel.fake.vmcs("CTRL_CPU_BASED") >> 2 & 1
    intel.vcpu.set_regs(X86Regs(rflags=0x202))
    assert intel.vcpu.can_inject()
    intel.vcpu.inject(0x41)
    assert intel.fake.vmcs("CTRL_VMENTRY_IRQ_INFO") == 0x8000_0041
    assert not intel.vcpu.can_inject()


def test_the_floating_point_state_is_an_xsave_image(intel: Machine) -> None:
    """Written where the SDM says (volume 1, 10.5.1)."""
    regs = X86Fpu(mxcsr=0x1F80, xmm=tuple(range(16)), fcw=0x37F)
    intel.vcpu.set_fpu_regs(regs)
    intel.does(hlt)
    intel.vcpu.run()
    assert intel.vcpu.get_fpu_regs() == regs
    assert intel.fake.fpstate[160 + 16 * 3] == 3


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_what_the_framework_lacks_is_said() -> None:
    """Another system, another guest, no GIC, a second machine, a call that is denied."""
    probe = Hvf(machine="arm64").probe()
    assert not probe.present and "macOS" in probe.reason
    fake = ScriptedHvf("aarch64", gic=False)
    accelerator = Hvf(fake.library, machine="arm64")
    with pytest.raises(UnsupportedError, match="macOS 15"):
        accelerator.create_vm(VmConfig(guest="aarch64", irqchip="full"))
    with pytest.raises(UnsupportedError, match="x86_64"):
        accelerator.create_vm(VmConfig(guest="x86_64"))
    vm = accelerator.create_vm(VmConfig(guest="aarch64"))
    with pytest.raises(EngineError, match="HV_BUSY"):
        accelerator.create_vm(VmConfig(guest="aarch64"))
    with pytest.raises(UnsupportedError, match="no log"):
        vm.add_memory(0, 0, 0x4000, log_dirty=True)
    vm.close()
