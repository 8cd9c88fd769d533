"""KVM on aarch64, against a library that follows a script: GICv3, PSCI, interrupts, debugging."""

from __future__ import annotations

import struct

import pytest

from polyvm.accel.ffi import kvm as k
from polyvm.accel.ffi import kvm_aarch64 as a
from polyvm.accel.kvm import Kvm
from polyvm.accel.kvm_aarch64 import CORE, watch_control
from polyvm.errors import UnsupportedError, UsageError
from polyvm.mem.guest import GuestMemory
from polyvm.testing import Failure, ScriptedKvm
from polyvm.vcpu.contract import DebugControl, MsiRoute, VmConfig
from polyvm.vcpu.machine_exits import Debug, EmulationFailure, SystemEvent


def machine(*steps: object, **config: object):
    library = ScriptedKvm([steps, ()], machine="aarch64")
    memory = GuestMemory([(0x4000_0000, 0x10000)])
    vm = Kvm(library, machine="aarch64").create_vm(VmConfig(guest="aarch64", memory=memory, **config))  # type: ignore[arg-type]
    return library, memory, vm


def test_a_gicv3_is_complete_with_the_last_vcpu() -> None:
    """Its addresses and number of interrupts come first; it is initialised once all vCPUs are there, as the kernel demands."""
    library, _, vm = machine(irqchip="full", vcpus=2, gic=(0x800_0000, 0x80A_0000))
    before = [(a.DEV_ARM_VGIC_GRP_ADDR, a.VGIC_V3_ADDR_TYPE_DIST, 0x800_0000), (a.DEV_ARM_VGIC_GRP_ADDR, a.VGIC_V3_ADDR_TYPE_REDIST, 0x80A_0000), (a.DEV_ARM_VGIC_GRP_NR_IRQS, 0, 256)]
    vm.create_vcpu(0)
    assert library.devices == [k.DEV_TYPE_ARM_VGIC_V3]
    assert library.attributes == before
    vm.create_vcpu(1)
    assert library.attributes == [*before, (a.DEV_ARM_VGIC_GRP_CTRL, a.DEV_ARM_VGIC_CTRL_INIT, None)]
    vm.close()
    assert library.open_descriptors == set()


def test_the_first_vcpu_runs_and_the_others_wait_for_psci() -> None:
    """All have PSCI; only the first is switched on."""
    library, _, vm = machine(vcpus=2)
    vm.create_vcpu(0)
    vm.create_vcpu(1)
    psci, off = 1 << a.ARM_VCPU_PSCI_0_2, 1 << a.ARM_VCPU_POWER_OFF
    assert library.features == [(5, psci), (5, psci | off)]


def test_lines_are_shared_peripheral_interrupts() -> None:
    """Line n is INTID 32 + n."""
    library, _, vm = machine(irqchip="full")
    line = vm.irq_line(3)
    line.set_level(True)
    line.set_level(False)
    number = a.ARM_IRQ_TYPE_SPI << a.ARM_IRQ_TYPE_SHIFT | 35
    assert library.levels == [(number, 1), (number, 0)]
    with pytest.raises(UsageError, match="line 224"):
        vm.irq_line(224)
    vm.set_routes([MsiRoute(1, 0x8090040, 7)])


def test_a_vcpu_without_a_gic_has_its_own_inputs() -> None:
    """IRQ and FIQ of each."""
    library, _, vm = machine(vcpus=2)
    vm.create_vcpu(0)
    vm.create_vcpu(1).set_irq(True, fast=True)
    assert library.levels == [(1 << a.ARM_IRQ_VCPU_SHIFT | a.ARM_IRQ_CPU_FIQ, 1)]
    with pytest.raises(UnsupportedError, match="irqchip"):
        vm.irq_line(0)


@pytest.mark.parametrize("pstate,place", [(0x3C5, "sp_el1"), (0x3C4, "regs.sp"), (0, "regs.sp")])
def test_sp_is_the_one_in_use(pstate: int, place: str) -> None:
    """SP_EL1 in EL1h, else SP_EL0."""
    _, _, vm = machine()
    vcpu = vm.create_vcpu(0)
    regs = vcpu.get_regs()
    regs.sp, regs.pstate = 0x1234, pstate
    vcpu.set_regs(regs)
    assert vcpu.get_reg(CORE[place]) == 0x1234 and vcpu.get_regs() == regs


@pytest.mark.parametrize("kind,syndrome", [("step", 0x32), ("hardware", 0x30), ("watch", 0x34), ("breakpoint", 0x3C)])
def test_debug_exits_are_told_apart_by_their_syndrome(kind: str, syndrome: int) -> None:
    """By the exception class."""
    _, _, vm = machine(Failure(k.EXIT_DEBUG))
    vcpu = vm.create_vcpu(0)
    struct.pack_into("<IIQ", vcpu.page, 32, syndrome << 26, 0, 0x4000_1000)
    found = vcpu.run()
    assert isinstance(found, Debug) and found.kind == kind
    assert found.address == (0x4000_1000 if kind == "watch" else 0)


def test_what_set_debug_asks_for() -> None:
    """Addresses in the kernel's structure, with control words as the manual has them."""
    library, _, vm = machine()
    vm.create_vcpu(0).set_debug(DebugControl(step=True, breakpoints=(0x4000_0010,), watchpoints=((0x4000_0024, 4, "w"),)))
    data = library.debug[-1]
    assert data.control == k.GUESTDBG_ENABLE | k.GUESTDBG_SINGLESTEP | a.GUESTDBG_USE_HW
    assert (data.arch.dbg_bvr[0], data.arch.dbg_bcr[0]) == (0x4000_0010, 0x1E7)
    assert (data.arch.dbg_wvr[0], data.arch.dbg_wcr[0]) == (0x4000_0020, 1 | 3 << 1 | 2 << 3 | 0xF0 << 5)
    with pytest.raises(UsageError, match="8 aligned bytes"):
        watch_control(0x1006, 4, "w")


def test_an_access_without_a_syndrome_is_an_emulation_failure() -> None:
    """With the instruction's bytes, while the MMU is off."""
    _, memory, vm = machine(Failure(k.EXIT_ARM_NISV))
    vcpu = vm.create_vcpu(0)
    memory.write(0x4000_0100, bytes.fromhex("200440f8"))
    regs = vcpu.get_regs()
    regs.pc = 0x4000_0100
    vcpu.set_regs(regs)
    assert vcpu.run() == EmulationFailure(0x4000_0100, bytes.fromhex("200440f8"))


@pytest.mark.parametrize("number,kind", [(k.SYSTEM_EVENT_SHUTDOWN, "shutdown"), (k.SYSTEM_EVENT_RESET, "reset"), (k.SYSTEM_EVENT_SUSPEND, "suspend")])
def test_psci_calls_about_the_machine_are_system_events(number: int, kind: str) -> None:
    """SYSTEM_OFF, SYSTEM_RESET, SYSTEM_SUSPEND."""
    _, _, vm = machine(Failure(k.EXIT_SYSTEM_EVENT))
    vcpu = vm.create_vcpu(0)
    struct.pack_into("<IIQ", vcpu.page, 32, number, 1, 99)
    assert vcpu.run() == SystemEvent(kind, (99,))


def test_hosts_with_short_addresses_get_what_they_have() -> None:
    """The size of guest physical addresses is asked for only where it is below the usual 40 bits."""
    from polyvm.accel.kvm_aarch64 import A64Provider

    assert [A64Provider().vm_type(limit) for limit in (0, 36, 40, 48)] == [0, 36, 0, 0]


def test_x86_things_are_refused() -> None:
    """With a sentence."""
    with pytest.raises(UsageError, match="i8254"):
        machine(pit=True)
    with pytest.raises(UsageError, match="full"):
        machine(irqchip="split")
