"""KVM on x86-64, as this host has it: interrupts, event descriptors, MSRs, CPUID, debugging, life and death."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from polyvm.accel import cpuid, get
from polyvm.accel.kvm_x86_64 import set_msr_filter, supported_cpuid
from polyvm.devices import Loop, Wire
from polyvm.devices.virtio import Rng, VirtioMmio
from polyvm.errors import UsageError
from polyvm.machine.board import Buses
from polyvm.mem.guest import GuestMemory
from polyvm.vcpu.contract import DebugControl, MsiRoute, PinRoute, VmConfig
from polyvm.vcpu.machine_exits import Debug, EmulationFailure, Halt, Interrupted, InterruptWindow, Msr, PortIo, Shutdown
from tests.accel.guests import CODE, assemble
from tests.accel.paging import identity
from tests.accel.subjects import RecordingBus

KVM = get("kvm").probe()
pytestmark = pytest.mark.skipif(not KVM.present, reason=f"KVM: {KVM.reason}")


def needs(feature: str) -> Any:
    return pytest.mark.skipif(not KVM.capabilities.has(feature), reason=f"KVM: {feature}: {KVM.capabilities.why_not(feature)}")


@pytest.fixture
def start():
    """Start real-mode code: returns VM, memory and vCPU."""
    made: list[Any] = []

    def starter(source: str, **config: Any) -> tuple[Any, GuestMemory, Any]:
        memory = GuestMemory([(0, 0xA0000), (0x100000, 0x100000)])
        memory.write(CODE, assemble(source))
        vm = get("kvm").create_vm(VmConfig(memory=memory, **config))
        made.extend((vm, memory))
        vcpu = vm.create_vcpu(0)
        special, regs = vcpu.get_special_regs(), vcpu.get_regs()
        special.real_mode(0)
        regs.rip, regs.rsp, regs.rflags = CODE, 0x9000, 2
        vcpu.set_special_regs(special)
        vcpu.set_regs(regs)
        return vm, memory, vcpu

    yield starter
    for thing in made:
        thing.close()


class Stop(Exception):
    """A bus has seen enough."""


class Until(RecordingBus):
    """Stops at a write to a port or address."""

    def __init__(self, *places: int, answers: int = 0) -> None:
        super().__init__(answers)
        self.places = places

    def port_write(self, port: int, size: int, value: int) -> None:
        super().port_write(port, size, value)
        if port in self.places:
            raise Stop

    def mmio_write(self, address: int, size: int, value: int) -> None:
        super().mmio_write(address, size, value)
        if address in self.places:
            raise Stop


def until(vcpu: Any, bus: Until, seconds: float = 20) -> None:
    """Run until the bus stops it; kicked when that takes too long."""
    timer = threading.Timer(seconds, vcpu.kick)
    timer.start()
    try:
        found = vcpu.run_with(bus)
        raise AssertionError(f"{found}, {vcpu.get_regs()}")
    except Stop:
        pass
    finally:
        timer.cancel()


# -- interrupts -------------------------------------------------------------------------------------------------------

# 8259s with their interrupts from vector 0x20 on, the handler of vector 0x24 at 0x2000: it writes to port 0x80.
PICS = """
    mov ax, 0; mov ds, ax
    mov word ptr [0x24*4], 0x2000; mov word ptr [0x24*4+2], 0
    mov al, 0x11; out 0x20, al; mov al, 0x20; out 0x21, al; mov al, 4; out 0x21, al; mov al, 1; out 0x21, al
    mov al, 0xef; out 0x21, al
    out 0x81, al
    sti
1:  jmp 1b
"""
HANDLER = "push ax; mov al, 0x20; out 0x20, al; out 0x80, al; pop ax; iret"


def test_an_interrupt_line_reaches_the_guests_handler(start: Any) -> None:
    """Pulses of line 4 come through the 8259 in the kernel as vector 0x24, each once."""
    vm, memory, vcpu = start(PICS, irqchip="full")
    memory.write(0x2000, assemble(HANDLER, origin=0x2000))
    line = vm.irq_line(4)
    until(vcpu, Until(0x81))
    for _ in range(3):
        line.pulse()
        bus = Until(0x80)
        until(vcpu, bus)
        assert bus.log == [("out", 0x80, 1, 0x20)]


@needs("irqfd")
def test_an_irqfd_raises_its_interrupt(start: Any) -> None:
    """Writing to the descriptor is enough."""
    vm, memory, vcpu = start(PICS, irqchip="full")
    memory.write(0x2000, assemble(HANDLER, origin=0x2000))
    until(vcpu, Until(0x81))
    fd = os.eventfd(0)
    vm.add_irqfd(fd, 4)
    os.eventfd_write(fd, 1)
    until(vcpu, Until(0x80))
    vm.remove_irqfd(fd, 4)
    os.close(fd)


@needs("pit")
def test_the_pit_ticks(start: Any) -> None:
    """The i8254 in the kernel raises line 0 periodically."""
    source = PICS.replace("0x24*4", "0x20*4").replace("0xef", "0xfe").replace("out 0x81, al", "mov al, 0x34; out 0x43, al; mov al, 0xff; out 0x40, al; mov al, 0x10; out 0x40, al")
    _, memory, vcpu = start(source, irqchip="full", pit=True)
    memory.write(0x2000, assemble(HANDLER, origin=0x2000))
    began = time.monotonic()
    for _ in range(5):
        until(vcpu, Until(0x80))
    assert time.monotonic() - began < 10


def test_interrupts_are_injected_without_an_irqchip(start: Any) -> None:
    """After an `InterruptWindow` exit the guest takes the vector that is given to it."""
    _, memory, vcpu = start("mov word ptr [0x30*4], 0x2000; mov word ptr [0x30*4+2], 0; out 0x81, al; sti; 1: nop; jmp 1b")
    memory.write(0x2000, assemble("out 0x80, al; iret", origin=0x2000))
    until(vcpu, Until(0x81))
    assert not vcpu.can_inject()
    vcpu.request_interrupt_window(True)
    assert vcpu.run_with(RecordingBus()) == InterruptWindow()
    assert vcpu.can_inject()
    vcpu.request_interrupt_window(False)
    vcpu.inject(0x30)
    until(vcpu, Until(0x80))


def test_routes_may_be_replaced(start: Any) -> None:
    """Pins and messages; a VM without an irqchip has no lines."""
    vm, _, _ = start("hlt", irqchip="full")
    vm.set_routes([PinRoute(4, 4, "pic-master"), PinRoute(4, 4, "ioapic"), MsiRoute(30, 0xFEE0_0000, 0x41)])
    with pytest.raises(UsageError, match="line 99"):
        vm.irq_line(99)


@needs("ioeventfd")
def test_an_ioeventfd_takes_the_place_of_an_exit(start: Any) -> None:
    """Writes of the matching value signal it; others are exits."""
    vm, _, vcpu = start("mov dx, 0x500; mov ax, 7; out dx, ax; out dx, ax; mov ax, 8; out dx, ax; hlt")
    fd = os.eventfd(0)
    vm.add_ioeventfd(fd, 0x500, 2, port=True, match=7)
    bus = RecordingBus()
    assert vcpu.run_with(bus) == Halt()
    assert bus.log == [("out", 0x500, 2, 8)] and os.eventfd_read(fd) == 2
    vm.remove_ioeventfd(fd, 0x500, 2, port=True, match=7)
    os.close(fd)


@needs("coalesced_mmio")
def test_coalesced_writes_come_in_order_before_the_next_exit(start: Any) -> None:
    """Writes to the range cause no exit and none is lost, however many there are."""
    vm, _, vcpu = start("mov ax, 0xd000; mov es, ax; xor bx, bx; 1: mov es:[0x10], bx; inc bx; cmp bx, 1000; jne 1b; out 0x80, al; hlt")
    vm.coalesce(0xD0000, 0x100)
    bus = Until(0x80)
    until(vcpu, bus)
    assert bus.log == [*(("write", 0xD0010, 2, value) for value in range(1000)), ("out", 0x80, 1, 0)]


def test_string_instructions_give_all_their_items(start: Any) -> None:
    """REP OUTSB and REP INSB, by `run_with` and by `run`."""
    _, memory, vcpu = start("cld; mov si, 0x3000; mov cx, 5; mov dx, 0x3f8; rep outsb; mov di, 0x4000; mov cx, 3; xor ax, ax; mov es, ax; rep insb; hlt")
    memory.write(0x3000, b"hello")
    bus = RecordingBus(answers=0x5A)
    assert vcpu.run_with(bus) == Halt()
    assert bytes(entry[3] for entry in bus.log if entry[0] == "out") == b"hello"  # type: ignore[misc]
    assert memory.read(0x4000, 4) == b"ZZZ\0"
    regs = vcpu.get_regs()
    regs.rip = CODE
    vcpu.set_regs(regs)
    sent = b""
    while isinstance(found := vcpu.run(), PortIo):
        if found.write:
            sent += found.data if found.count > 1 else bytes([found.value])
        else:
            found.answer(b"abc"[: found.count])
    assert sent == b"hello" and memory.read(0x4000, 3) in (b"abc", b"aaa") and found == Halt()


# -- MSRs, CPUID, debugging -------------------------------------------------------------------------------------------


def test_msrs_round_trip(start: Any) -> None:
    """Those that exist; others are left out, and refused with their number."""
    _, _, vcpu = start("hlt")
    vcpu.set_msrs({0xC000_0082: 0x1234_5678, 0xC000_0084: 0x4700})
    assert vcpu.get_msrs([0xC000_0082, 0x4000_9999, 0xC000_0084]) == {0xC000_0082: 0x1234_5678, 0xC000_0084: 0x4700}


@needs("msr_exits")
def test_unknown_msrs_are_left_to_us(start: Any) -> None:
    """RDMSR gets our answer, WRMSR gives us the value, a refusal is a general protection fault."""
    _, memory, vcpu = start(
        "mov word ptr [13*4], 0x2000; mov word ptr [13*4+2], 0; mov ecx, 0x9999; rdmsr; mov [0x5000], eax; mov [0x5004], edx;"
        "mov eax, 5; mov edx, 6; wrmsr; rdmsr; hlt",
        msr_exits=True,
    )
    memory.write(0x2000, assemble("out 0x80, al; hlt", origin=0x2000))
    found = vcpu.run()
    assert isinstance(found, Msr) and (found.index, found.write, found.reason) == (0x9999, False, "unknown")
    found.answer(0x1122334455667788)
    found = vcpu.run()
    assert isinstance(found, Msr) and found.write and found.value == 0x6_0000_0005
    assert memory.read_u64(0x5000) == 0x1122334455667788
    found = vcpu.run()
    assert isinstance(found, Msr)
    found.refuse()
    until(vcpu, Until(0x80))


@needs("msr_filter")
def test_filtered_msrs_are_left_to_us(start: Any) -> None:
    """An MSR that KVM knows comes to us once it is filtered."""
    vm, _, vcpu = start("mov ecx, 0xc0000082; rdmsr; hlt", msr_exits=True)
    set_msr_filter(vm, [0xC000_0082, 0x10A])
    found = vcpu.run()
    assert isinstance(found, Msr) and (found.index, found.reason) == (0xC000_0082, "filter")


@needs("hide_features")
def test_cpuid_is_what_was_set(start: Any) -> None:
    """The guest sees the template's features and its own APIC number."""
    vm, memory, vcpu = start("mov eax, 1; cpuid; mov [0x5000], ecx; mov [0x5004], ebx; mov eax, 7; xor ecx, ecx; cpuid; mov [0x5008], ebx; hlt")
    host = supported_cpuid(vm)
    leaves = cpuid.for_vcpu(cpuid.template(host, "x86-64-v2"), 0)
    assert not cpuid.has(leaves, "avx") and not cpuid.has(cpuid.hide(host, ["sse4_2"]), "sse4_2")
    vcpu.set_cpuid(leaves)
    assert vcpu.run() == Halt()
    assert memory.read_u32(0x5000) >> 28 & 1 == 0 and memory.read_u32(0x5000) >> 31 == 1
    assert memory.read_u32(0x5004) >> 24 == 0
    assert memory.read_u32(0x5008) >> 5 & 1 == 0


@needs("single_step")
def test_single_steps(start: Any) -> None:
    """One instruction each."""
    _, _, vcpu = start("nop; nop; mov ax, 5; hlt")
    vcpu.set_debug(DebugControl(step=True))
    for pc in (CODE + 1, CODE + 2, CODE + 5):
        found = vcpu.run()
        assert isinstance(found, Debug) and (found.pc, found.kind) == (pc, "step")
    vcpu.set_debug(DebugControl())
    assert vcpu.run() == Halt() and vcpu.get_regs().rax & 0xFFFF == 5


@needs("hardware_breakpoints")
def test_a_hardware_breakpoint_stops_before_its_instruction(start: Any) -> None:
    """And tells its address."""
    _, _, vcpu = start("nop; nop; mov ax, 5; hlt")
    vcpu.set_debug(DebugControl(breakpoints=(CODE + 2,)))
    found = vcpu.run()
    assert isinstance(found, Debug) and (found.pc, found.kind, found.address) == (CODE + 2, "hardware", CODE + 2)
    assert vcpu.get_regs().rax & 0xFFFF != 5
    with pytest.raises(UsageError, match="four"):
        vcpu.set_debug(DebugControl(breakpoints=(1, 2, 3, 4, 5)))


def test_a_triple_fault_is_a_shutdown(start: Any) -> None:
    """A page fault without page tables, and so without handlers, ends in `Shutdown`."""
    _, _, vcpu = start("hlt")
    special = vcpu.get_special_regs()
    special.long_mode(0x60000)
    special.idt.limit = 0
    vcpu.set_special_regs(special)
    assert vcpu.run() == Shutdown()


@pytest.mark.skipif("kvm_pvm" not in KVM.version, reason="KVM with virtualisation in hardware executes this instruction")
def test_an_emulation_failure_has_the_bytes_and_can_be_passed(start: Any) -> None:
    """The instruction had no effect; with the pc moved on, the guest continues."""
    _, _, vcpu = start("popcnt ax, bx; hlt")
    found = vcpu.run()
    assert isinstance(found, EmulationFailure) and found.pc == CODE and found.code.startswith(bytes.fromhex("f30fb8c3"))
    regs = vcpu.get_regs()
    regs.rip += 4
    vcpu.set_regs(regs)
    assert vcpu.run() == Halt()


def test_state_that_has_calls_of_its_own(start: Any) -> None:
    """Events, debug registers, XCR0, extended state, local APIC, clock: what is set is what is got."""
    vm, _, vcpu = start("hlt", irqchip="full")
    events = vcpu.get_events()
    events.nmi_masked = True
    vcpu.set_events(events)
    assert vcpu.get_events() == events
    debug = vcpu.get_debug_regs()
    debug.dr0, debug.dr7 = 0x1234, 0x401
    vcpu.set_debug_regs(debug)
    assert vcpu.get_debug_regs() == debug
    vcpu.set_xcr0(3)
    assert vcpu.get_xcr0() == 3
    image = vcpu.get_xsave()
    vcpu.set_xsave(image)
    assert len(image) >= 4096 and vcpu.get_xsave()[:24] == image[:24]
    vcpu.set_lapic(vcpu.get_lapic())
    vm.set_clock(10**12)
    assert 10**12 <= vm.get_clock() < 10**12 + 10**10
    vcpu.pause_clock()
    vcpu.set_mp_state(vcpu.get_mp_state())
    vcpu.inject_nmi()


# -- a kernel ---------------------------------------------------------------------------------------------------------


def kernel(place: Path) -> bytes:
    source = Path(__file__).with_name("programs") / "kernel64.c"
    flags = "-O1 -ffreestanding -fno-pic -fno-stack-protector -mno-red-zone -mgeneral-regs-only -nostdlib -static -mcmodel=small".split()
    subprocess.run(["gcc", *flags, "-Wl,--section-start=.first=0x100000,-Ttext=0x101000,--build-id=none,-N,--oformat=binary,-e,first", "-o", place / "kernel", source], check=True)
    return (place / "kernel").read_bytes()


def test_a_64_bit_kernel_with_timer_second_processor_ring_3_and_a_device(tmp_path: Path) -> None:
    """Paging, local APIC timer interrupts, INIT and SIPI, interrupts taken in ring 3, and a device's registers from both
    rings."""
    memory = GuestMemory([(0, 0xA0000), (0x100000, 0x100000)])
    memory.write(0x100000, kernel(tmp_path))
    memory.write(0x8000, assemble("xor ax, ax; mov ds, ax; mov byte ptr [0x5030], 1; 1: hlt; jmp 1b", origin=0x8000))
    with get("kvm").create_vm(VmConfig(memory=memory, irqchip="full", vcpus=2)) as vm:
        first, second = vm.create_vcpu(0), vm.create_vcpu(1)
        special, regs = first.get_special_regs(), first.get_regs()
        special.long_mode(identity(memory))
        regs.rip, regs.rflags = 0x100000, 2
        first.set_special_regs(special)
        first.set_regs(regs)
        thread = threading.Thread(target=second.run)
        thread.start()
        device = 0xD000_0000
        bus = Until(device + 0x54, device + 0x7C, answers=0x74726976)
        until(first, bus)
        second.kick()
        thread.join(10)
        ticks, user_ticks, user_cs, fault, fault_rip, magic, started = (memory.read_u64(0x5000 + 8 * i) for i in range(7))
    memory.close()
    assert (fault, fault_rip) == (0, 0)
    assert ticks >= 8 and user_ticks >= 3 and user_cs == 0x23 and magic == 0x74726976 and started & 1
    assert ("read", device, 4) in bus.log and ("write", device + 0x50, 4, 0x33) in bus.log
    assert bus.log[-1] == ("write", device + 0x54, 4, 0x600D)


def test_a_kernel_drives_a_virtio_device(tmp_path: Path) -> None:
    """Its driver negotiates, fills a queue and gets random bytes, all through virtio-mmio's registers."""
    memory = GuestMemory([(0, 0xA0000), (0x100000, 0x100000)])
    memory.write(0x100000, kernel(tmp_path))
    memory.write(0x8000, assemble("xor ax, ax; mov ds, ax; mov byte ptr [0x5030], 1; 1: hlt; jmp 1b", origin=0x8000))
    loop = Loop()
    device = VirtioMmio(Rng(memory, loop), Wire())
    buses = Buses()
    buses.mmio.add(0xD000_0000, device.SIZE, device, "entropy")
    loop.start()
    with get("kvm").create_vm(VmConfig(memory=memory, irqchip="full", vcpus=2)) as vm:
        first, second = vm.create_vcpu(0), vm.create_vcpu(1)
        special, regs = first.get_special_regs(), first.get_regs()
        special.long_mode(identity(memory))
        regs.rip, regs.rflags = 0x100000, 2
        first.set_special_regs(special)
        first.set_regs(regs)
        thread = threading.Thread(target=second.run)
        thread.start()
        end = time.monotonic() + 20
        while memory.read_u64(0x5008) < 3 and time.monotonic() < end:  # interrupts taken in ring 3: it has come to its end
            timer = threading.Timer(0.05, first.kick)
            timer.start()
            assert first.run_with(buses) == Interrupted()
            timer.cancel()
        second.kick()
        thread.join(10)
    assert memory.read_u64(0x5028) == 0x74726976
    assert memory.read_u64(0x5038) != 0
    loop.stop()
    device.close()
    memory.close()


def test_64_bit_mmio_and_dirty_log(start: Any) -> None:
    """Accesses of 8 bytes come whole, and the dirty log sees writes through page tables."""
    vm, memory, vcpu = start("nop")
    memory.write(CODE, assemble("mov rax, 0xd0000000; mov rbx, 0x1122334455667788; mov [rax], rbx; mov rcx, [rax+8]; mov [0x30000], rcx; hlt", 64))
    special, regs = vcpu.get_special_regs(), vcpu.get_regs()
    special.long_mode(identity(memory))
    vcpu.set_special_regs(special)
    slot = vm.slot_of(0)
    vm.set_memory_flags(slot, readonly=False, log_dirty=True)
    bus = RecordingBus()
    assert vcpu.run_with(bus) == Halt(), regs
    assert bus.log == [("write", 0xD000_0000, 8, 0x1122334455667788), ("read", 0xD000_0008, 8)]
    assert memory.read_u64(0x30000) == bus.answer
    dirty = int.from_bytes(vm.dirty_log(slot), "little")
    assert dirty >> 0x30 & 1
    assert vcpu.translate(0x30123) == 0x30123


# -- life -------------------------------------------------------------------------------------------------------------


def test_a_thousand_vms_leak_nothing() -> None:
    """Neither descriptors nor memory, after a thousand VMs were made, run and closed."""

    def cycle() -> None:
        memory = GuestMemory([(0, 0x10000)])
        memory.write(CODE, b"\xf4")
        vm = get("kvm").create_vm(VmConfig(memory=memory))
        vcpu = vm.create_vcpu(0)
        special, regs = vcpu.get_special_regs(), vcpu.get_regs()
        special.real_mode(0)
        regs.rip = CODE
        vcpu.set_special_regs(special)
        vcpu.set_regs(regs)
        assert vcpu.run() == Halt()
        vm.close()
        memory.close()

    def mapped() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0])

    for _ in range(50):
        cycle()
    descriptors, pages = len(os.listdir("/proc/self/fd")), mapped()
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        cycle()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert mapped() - pages < 256
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size < 4096  # KiB


def test_kicks_are_quick(start: Any) -> None:
    """The median of a hundred is below 20 ms even on a busy host."""
    _, _, vcpu = start("1: jmp 1b")
    took = []
    for _ in range(100):
        sent = [0.0]

        def send() -> None:
            time.sleep(0.001)
            sent[0] = time.perf_counter()
            vcpu.kick()

        thread = threading.Thread(target=send)
        thread.start()
        vcpu.run()
        took.append(time.perf_counter() - sent[0])
        thread.join()
    assert sorted(took)[50] < 0.02


def test_hostile_code_harms_nothing() -> None:
    """Some seconds of random code in all modes with random devices: the VMM survives, stops when told, and keeps its size."""
    from tests.accel.hostile import hostile

    counts, descriptors, size = hostile(5, seed=int(os.environ.get("POLYVM_SEED", "3")))
    assert counts["rounds"] > 0 and descriptors == 0 and size < 64 << 10


def test_a_vm_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    """No device, no permission, no KVM: one sentence each."""
    from polyvm.accel.kvm import Kvm

    assert "there is no" in Kvm(device=str(tmp_path / "nothing")).probe().reason
    assert "not a KVM" in Kvm(device="/dev/null").probe().reason
    assert "not on mips" in Kvm(machine="mips").probe().reason


def test_the_example_of_the_docs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/accelerators.md's machine prints its letter."""
    text = (Path(__file__).parents[2] / "docs" / "accelerators.md").read_text()
    exec(text.split("```python\n")[1].split("```")[0], {})
    assert capsys.readouterr().out == "A\n"
