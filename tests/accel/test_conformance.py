"""What every accelerator does, named by behaviour; run against each one that this host has, and against scripts for the rest."""

from __future__ import annotations

import threading
import time
from dataclasses import fields
from typing import Any

import pytest

from polyvm.errors import PolyvmError, UnsupportedError, UsageError
from polyvm.vcpu.contract import VmConfig
from polyvm.vcpu.machine_exits import Interrupted, Mmio, PortIo
from tests.accel.guests import CODE, DEVICE, RESULT
from tests.accel.subjects import ROM, RecordingBus, Subject, answered


def halted(subject: Subject, vcpu: Any, bus: Any) -> None:
    found = vcpu.run_with(bus)
    assert subject.ended(vcpu, found), found


# -- exits ------------------------------------------------------------------------------------------------------------


def test_halt_is_an_exit(subject: Subject) -> None:
    """A guest that halts comes back with `Halt`, each time."""
    _, _, (vcpu,) = subject.vm("halt")
    assert subject.ended(vcpu, vcpu.run())
    assert subject.ended(vcpu, vcpu.run())


@pytest.mark.parametrize("loop", ["run", "run_with"])
def test_mmio_writes_reach_the_bus(subject: Subject, loop: str) -> None:
    """Stores to addresses without memory come with address, size and value, in order."""
    _, _, (vcpu,) = subject.vm("mmio_write")
    bus = drive(subject, vcpu, loop)
    assert bus.log == [("write", DEVICE + 0x10, 1, 0x11), ("write", DEVICE + 0x12, 2, 0x2222), ("write", DEVICE + 0x14, 4, 0x33333333)]


@pytest.mark.parametrize("loop", ["run", "run_with"])
def test_mmio_read_returns_the_handler_value(subject: Subject, loop: str) -> None:
    """Loads get what the handler returns, cut to their size."""
    _, memory, (vcpu,) = subject.vm("mmio_read")
    bus = drive(subject, vcpu, loop)
    assert bus.log == [("read", DEVICE + 0x10, 1), ("read", DEVICE + 0x12, 2), ("read", DEVICE + 0x14, 4)]
    assert memory.read(RESULT, 8) == bytes.fromhex("1100 1122 11223344".replace("1122 1122", "2211"))[:0] + bytes([0x11, 0, 0x11, 0x22, 0x11, 0x22, 0x33, 0x44])


@pytest.mark.parametrize("loop", ["run", "run_with"])
def test_port_writes_reach_the_bus(subject: Subject, loop: str) -> None:
    """OUT comes with port, size and value."""
    ports(subject)
    _, _, (vcpu,) = subject.vm("port_write")
    assert drive(subject, vcpu, loop).log == [("out", 0x3F8, 1, 0x41), ("out", 0x3F8, 2, 0x1234), ("out", 0x3F8, 4, 0x89ABCDEF)]


@pytest.mark.parametrize("loop", ["run", "run_with"])
def test_port_read_returns_the_handler_value(subject: Subject, loop: str) -> None:
    """IN gets what the handler returns."""
    ports(subject)
    _, memory, (vcpu,) = subject.vm("port_read")
    assert drive(subject, vcpu, loop).log == [("in", 0x60, 1), ("in", 0x60, 2), ("in", 0x60, 4)]
    assert memory.read(RESULT, 8) == bytes([0x11, 0, 0x11, 0x22, 0x11, 0x22, 0x33, 0x44])


def test_a_read_that_is_not_answered_is_all_ones(subject: Subject) -> None:
    """As on a bus where no device answers."""
    _, memory, (vcpu,) = subject.vm("mmio_read")
    for _ in range(3):
        found = vcpu.run()
        assert isinstance(found, Mmio) and not found.write
    assert subject.ended(vcpu, vcpu.run())
    assert memory.read(RESULT, 8) == b"\xff\x00" + b"\xff" * 6


def test_an_exception_in_a_handler_comes_out(subject: Subject) -> None:
    """The run ends with it, the read gets all ones, and the guest can go on."""

    class Broken(RecordingBus):
        def mmio_read(self, address: int, size: int) -> int:
            if size == 1:
                raise LookupError("broken device")
            return super().mmio_read(address, size)

    _, memory, (vcpu,) = subject.vm("mmio_read")
    with pytest.raises(LookupError, match="broken device"):
        vcpu.run_with(Broken())
    halted(subject, vcpu, Broken())
    assert memory.read(RESULT, 4) == bytes([0xFF, 0, 0x11, 0x22])


# -- kicks and life ---------------------------------------------------------------------------------------------------


def test_kick_interrupts_a_running_vcpu(subject: Subject) -> None:
    """A guest in an endless loop comes back soon after another thread kicks it."""
    _, _, (vcpu,) = subject.vm("spin")
    began = time.monotonic()
    threading.Timer(0.05, vcpu.kick).start()
    assert vcpu.run() == Interrupted()
    assert 0.04 < time.monotonic() - began < 5


def test_a_kick_before_run_is_not_lost(subject: Subject) -> None:
    """The next `run` comes back at once, and only that one."""
    _, _, (vcpu,) = subject.vm("halt")
    vcpu.kick()
    assert vcpu.run() == Interrupted()
    assert subject.ended(vcpu, vcpu.run())


def test_many_kicks_from_many_threads(subject: Subject) -> None:
    """Kicks while a guest does MMIO lose no access and deliver none twice."""
    _, _, (vcpu,) = subject.vm("mmio_write")
    stop = threading.Event()

    def kicker() -> None:
        while not stop.is_set():
            vcpu.kick()
            time.sleep(0.0002)

    threads = [threading.Thread(target=kicker) for _ in range(3)]
    for thread in threads:
        thread.start()
    bus = RecordingBus()
    while vcpu.run_with(bus) == Interrupted():
        if len(bus.log) == 3:
            stop.set()
    stop.set()
    for thread in threads:
        thread.join()
    assert [entry[2] for entry in bus.log] == [1, 2, 4]


def test_close_while_a_vcpu_runs(subject: Subject) -> None:
    """Closing the VM from another thread brings `run` back with `Interrupted`; afterwards everything is closed."""
    vm, memory, (vcpu,) = subject.vm("spin")
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(vcpu.run()))
    thread.start()
    time.sleep(0.05)
    vm.close()
    thread.join(5)
    assert found == [Interrupted()]
    with pytest.raises(UsageError, match="closed"):
        vcpu.run()
    with pytest.raises(PolyvmError):
        vm.create_vcpu(1)
    vcpu.kick()
    vm.close()
    memory.close()


def test_close_from_a_handler(subject: Subject) -> None:
    """A device may close the VM whose guest calls it."""
    vm, _, (vcpu,) = subject.vm("mmio_write")

    class Power(RecordingBus):
        def mmio_write(self, address: int, size: int, value: int) -> None:
            vm.close()

    assert vcpu.run_with(Power()) == Interrupted()
    with pytest.raises(UsageError, match="closed"):
        vcpu.run()


def test_two_vcpus_run_in_parallel(subject: Subject) -> None:
    """Each in its own thread; a kick comes to the one that it is meant for."""
    _, memory, (first, second) = subject.vm("spin", "mmio_read", config={})
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(first.run()))
    thread.start()
    time.sleep(0.05)
    bus = RecordingBus()
    halted(subject, second, bus)
    assert len(bus.log) == 3 and memory.read_u32(RESULT + 4) == 0x44332211
    assert found == []
    first.kick()
    thread.join(5)
    assert found == [Interrupted()]


def test_a_vcpu_runs_in_one_thread_at_a_time(subject: Subject) -> None:
    """`run` in a second thread is a UsageError, not a crash."""
    _, _, (vcpu,) = subject.vm("spin")
    thread = threading.Thread(target=vcpu.run)
    thread.start()
    time.sleep(0.05)
    with pytest.raises(UsageError, match="already running"):
        vcpu.run()
    vcpu.kick()
    thread.join(5)


# -- registers --------------------------------------------------------------------------------------------------------


def test_general_registers_round_trip(subject: Subject) -> None:
    """Each register keeps its own value, before and after the guest has run."""
    _, _, (vcpu,) = subject.vm("halt")
    for _ in range(2):
        regs = vcpu.get_regs()
        keep = {"rip", "rflags", "pc", "pstate"}
        for number, entry in enumerate(fields(regs)):
            if entry.name not in keep:
                setattr(regs, entry.name, 0x1111_0000_0000_0001 * (number % 13 + 1) + number)
        vcpu.set_regs(regs)
        assert vcpu.get_regs() == regs
        vcpu.run()
        found = vcpu.get_regs()
        for entry in fields(regs):
            if entry.name not in keep | {"rax"}:
                assert getattr(found, entry.name) == getattr(regs, entry.name), entry.name


def test_floating_point_registers_round_trip(subject: Subject) -> None:
    """Each vector register keeps its own 128 bits."""
    _, _, (vcpu,) = subject.vm("halt")
    regs = vcpu.get_fpu_regs()
    name = {"x86_64": "xmm", "aarch64": "v", "riscv64": "f"}[subject.guest]
    values = tuple((0x0123456789ABCDEF0011223344556677 * (i + 1)) & (1 << (64 if name == "f" else 128)) - 1 for i in range(len(getattr(regs, name))))
    setattr(regs, name, values)
    if subject.guest == "x86_64":
        regs.fcw, regs.mxcsr = 0x27F, 0x1FA0
    vcpu.set_fpu_regs(regs)
    found = vcpu.get_fpu_regs()
    assert getattr(found, name) == values
    if subject.guest == "x86_64":
        assert (found.fcw, found.mxcsr) == (0x27F, 0x1FA0)


def test_special_registers_round_trip(subject: Subject) -> None:
    """Segments, tables, control registers, or system registers."""
    subject.needs("full_system")
    _, _, (vcpu,) = subject.vm("halt")
    regs = vcpu.get_special_regs()
    if subject.guest == "x86_64":
        regs.fs.base, regs.fs.selector, regs.gdt.base, regs.gdt.limit, regs.cr2 = 0x12340, 0x1234, 0x5678, 0x27, 0xDEADBEEF
    else:
        regs.ttbr0_el1, regs.vbar_el1, regs.sp_el1, regs.tpidr_el0, regs.cntv_cval_el0 = 0x4000_0000, 0x8000, 0x1230, 0x77, 0x99
    vcpu.set_special_regs(regs)
    assert vcpu.get_special_regs() == regs


# -- memory -----------------------------------------------------------------------------------------------------------


def test_a_write_to_read_only_memory_is_mmio(subject: Subject) -> None:
    """The guest's store to a read-only slot comes to the bus and changes nothing."""
    subject.needs("readonly_memory")
    from polyvm.testing import HaltStep, Touch
    from tests.accel.guests import Guest

    guest = Guest("mov bx, 0xf000; mov ds, bx; mov dword ptr [0x20], 0x12345678; hlt", (Touch(ROM + 0x20, 4, 0x12345678), HaltStep()), "li a0, 0xf0000; li a1, 0x12345678; sw a1, 0x20(a0); ecall", "mov x0, 0xf0000; movz w1, 0x5678; movk w1, 0x1234, lsl 16; str w1, [x0, 0x20]; svc 0")
    _, memory, (vcpu,) = subject.vm(guest)
    memory.write(ROM + 0x20, b"firm")
    bus = RecordingBus()
    halted(subject, vcpu, bus)
    assert bus.log == [("write", ROM + 0x20, 4, 0x12345678)]
    assert memory.read(ROM + 0x20, 4) == b"firm"


def test_dirty_log_names_the_pages_written_to(subject: Subject) -> None:
    """Exactly those, once; polyvm's own writes are noted by the memory."""
    subject.needs("dirty_log")
    vm, memory, (vcpu,) = subject.vm("touch")
    slot = vm.slot_of(0)
    vm.set_memory_flags(slot, readonly=False, log_dirty=True)
    memory.track_dirty(True)
    vm.dirty_log(slot)
    memory.take_dirty()
    halted(subject, vcpu, RecordingBus())
    bitmap = int.from_bytes(vm.dirty_log(slot), "little")
    assert bitmap == 1 << 6 | 1 << 8
    assert memory.take_dirty() == [0x6000, 0x8000]
    assert not any(vm.dirty_log(slot))


def test_removed_memory_is_mmio(subject: Subject) -> None:
    """Where a slot was taken away, accesses come to the bus."""
    from polyvm.testing import HaltStep, Touch
    from tests.accel.guests import Guest

    guest = Guest("mov dword ptr es:[0x30], 1; hlt; mov dword ptr es:[0x30], 2; hlt", (Touch(DEVICE + 0x30, 4, 1), HaltStep(), Touch(DEVICE + 0x30, 4, 2), HaltStep()), "li a0, 0xd0000; li a1, 1; sw a1, 0x30(a0); ecall; li a1, 2; sw a1, 0x30(a0); ecall", "mov x0, 0xd0000; mov w1, 1; str w1, [x0, 0x30]; svc 0; mov w1, 2; str w1, [x0, 0x30]; svc 0")
    vm, memory, (vcpu,) = subject.vm(guest)
    slot = vm.add_memory(DEVICE, memory.host_address(0x20000, 0x1000), 0x1000)
    bus = RecordingBus()
    halted(subject, vcpu, bus)
    assert bus.log == [] and memory.read_u32(0x20030) == 1
    vm.remove_memory(slot)
    halted(subject, vcpu, bus)
    assert bus.log == [("write", DEVICE + 0x30, 4, 2)] and memory.read_u32(0x20030) == 1


def test_overlapping_and_odd_memory_is_refused(subject: Subject) -> None:
    """With a sentence, before the accelerator sees it."""
    vm, memory, _ = subject.vm("halt")
    with pytest.raises(UsageError, match="overlaps"):
        vm.add_memory(0x9000, memory.host, 0x1000)
    with pytest.raises(UsageError, match="whole pages"):
        vm.add_memory(0x200800, memory.host, 0x1000)
    with pytest.raises(UsageError, match="no memory slot"):
        vm.remove_memory(77)


def test_a_vm_is_closed_at_the_end_of_its_block(subject: Subject) -> None:
    """`with` closes it."""
    with subject.make([(), ()]).create_vm(VmConfig(guest=subject.guest)) as vm:
        vcpu = vm.create_vcpu(0)
    with pytest.raises(UsageError, match="closed"):
        vcpu.run()


def test_memory_stays_while_the_vm_uses_it(subject: Subject) -> None:
    """Closing the memory first harms nothing: it goes with the VM."""
    vm, memory, (vcpu,) = subject.vm("mmio_write")
    memory.close()
    halted(subject, vcpu, RecordingBus())
    vm.close()


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_the_wrong_guest_is_refused(subject: Subject) -> None:
    """With a sentence that names the guest."""
    with pytest.raises(UnsupportedError, match="sparc"):
        subject.make([()]).create_vm(VmConfig(guest="sparc"))


def test_the_same_vcpu_twice_is_refused(subject: Subject) -> None:
    """And one beyond what there can be."""
    vm, _, _ = subject.vm("halt")
    with pytest.raises(UsageError, match="vCPU 0"):
        vm.create_vcpu(0)
    with pytest.raises(UsageError, match="vCPU 100000"):
        vm.create_vcpu(100000)


def test_capabilities_say_why(subject: Subject) -> None:
    """Each feature that is missing has a sentence, and using it raises UnsupportedError with that."""
    found = subject.make([()]).probe()
    assert found.present and subject.guest in found.capabilities.guests
    from polyvm.vcpu.capabilities import FEATURES

    for feature in FEATURES:
        assert found.capabilities.has(feature) == (found.capabilities.why_not(feature) == "")
        if not found.capabilities.has(feature):
            with pytest.raises(UnsupportedError):
                found.capabilities.require(feature)


# -- helpers ----------------------------------------------------------------------------------------------------------


def ports(subject: Subject) -> None:
    if subject.guest != "x86_64":
        pytest.skip(f"{subject.guest} has no ports")


def drive(subject: Subject, vcpu: Any, loop: str) -> RecordingBus:
    """Run until the guest halts, by either interface."""
    bus = RecordingBus()
    if loop == "run_with":
        halted(subject, vcpu, bus)
        return bus
    while True:
        found = vcpu.run()
        if subject.ended(vcpu, found):
            return bus
        assert isinstance(found, (PortIo, Mmio)), found
        answered(found, bus)


assert CODE
