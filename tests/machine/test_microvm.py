"""The board microvm, with a guest that drives its devices."""

from __future__ import annotations

import os
import random
import resource
import threading
import time
from typing import TYPE_CHECKING

import pytest

from polyvm.errors import ConsoleTimeout, UsageError
from polyvm.machine import DiskConfig, Machine, MachineConfig

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("accelerator")


@pytest.fixture
def guest(guests: dict[str, Path]) -> str:
    return str(guests["linux"])


@pytest.mark.parametrize("entry", ["linux", "pvh"])
def test_a_kernel_finds_what_it_is_given(guests: dict[str, Path], entry: str, tmp_path: Path) -> None:
    """Memory map, command line and initrd arrive through boot_params and through hvm_start_info."""
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"content of the initrd\0")
    config = MachineConfig(kernel=str(guests[entry]), initrd=str(initrd), cmdline="one two", memory=96 << 20)
    with Machine(config) as machine:
        text = machine.console.expect("ready\n")
        assert f"entry {entry}\n" in text
        assert "initrd 16\ncontent of the initrd\n" in text
        assert f"memory {0x9FC00 + (95 << 20):x}\n" in text
        line = next(line for line in text.splitlines() if line.startswith("cmdline "))
        assert " console=ttyS0 one two virtio_mmio.device=512@0xd0000000:5" in line
        assert "timer ticks" in text
        if entry == "linux":
            assert "setup data 9\n" in text


def test_virtio_devices_with_interrupts(guest: str, tmp_path: Path) -> None:
    """The guest's own drivers use console, disk and entropy device; each raises interrupts, and the disk's file is read and
    written."""
    image = tmp_path / "disk"
    image.write_bytes(b"first sector\n".ljust(64 << 10, b"\0"))
    config = MachineConfig(kernel=guest, console="virtio", disks=(DiskConfig(str(image)),), cmdline="console=none")
    machine = Machine(config)
    serial = bytearray()
    board = machine._board
    board.pc.uart._sink = serial.extend  # type: ignore[union-attr]  # the guest speaks on both
    with machine:
        machine.console.expect("hello on the virtio console\n")
        end = time.monotonic() + 20
        while b"ready" not in serial and time.monotonic() < end:
            time.sleep(0.01)
        board.pc.uart.feed(b"w")  # type: ignore[union-attr]
        while b"disk flush" not in serial and time.monotonic() < end:
            time.sleep(0.01)
    text = serial.decode()
    assert "console done\nvirtio interrupts 1\n" in text
    assert "disk sectors 80\ndisk read 0\ndisk says first sector\nvirtio interrupts 1\n" in text
    assert "rng bytes 20\nrng random\nvirtio interrupts 1\n" in text
    assert "disk write 0\ndisk flush 0\n" in text
    assert image.read_bytes()[3 * 512 : 4 * 512] == bytes(ord("a") + i % 26 for i in range(512))


def test_a_second_processor_starts(guest: str) -> None:
    """INIT and SIPI bring another vCPU up, which runs on a thread of its own."""
    with Machine(MachineConfig(kernel=guest, vcpus=2, cmdline="smp")) as machine:
        assert "second processor 2\nit summed 79f2c\n" in machine.console.expect("ready\n")


def test_typing_arrives_by_interrupt(guest: str) -> None:
    """What `send` types reaches the guest through COM1 and its interrupt."""
    with Machine(MachineConfig(kernel=guest)) as machine:
        machine.console.expect("ready\n")
        machine.console.send("ab")
        machine.console.expect("you typed a by interrupt 1")
        machine.console.expect("you typed b by interrupt 1")
        with pytest.raises(ConsoleTimeout, match="waited for 'nothing'"):
            machine.console.expect("nothing", timeout=0.05)


@pytest.mark.parametrize(
    ("key", "reason", "code", "detail"),
    [("x", "exit", 42, ""), ("r", "reset", 0, "by the keyboard controller"), ("t", "reset", 0, "a triple fault")],
)
def test_how_a_guest_ends_its_machine(guest: str, key: str, reason: str, code: int, detail: str) -> None:
    """The exit port, the keyboard controller's reset and a triple fault end the machine, each with its reason."""
    with Machine(MachineConfig(kernel=guest)) as machine:
        machine.console.expect("ready\n")
        machine.console.send(key)
        ending = machine.wait(10)
        assert ending is not None
        assert (ending.reason, ending.code, ending.detail) == (reason, code, detail)
    with pytest.raises(UsageError):
        machine.start()


def test_a_reset_starts_again_where_that_is_asked_for(guest: str) -> None:
    """With `restart` the kernel boots anew, with fresh memory and devices, as often as it resets."""
    with Machine(MachineConfig(kernel=guest, restart=True)) as machine:
        for _ in range(3):
            machine.console.expect("entry linux\n")
            machine.console.expect("ready\n")
            machine.console.send("r")
        machine.console.expect("ready\n")
        assert machine.stop().reason == "stopped"


@pytest.mark.skipif(not os.path.isdir("/sys/module/kvm_pvm"), reason="this host's KVM executes all instructions")
def test_an_instruction_that_cannot_be_executed_is_explained(guest: str) -> None:
    """The message says which instruction, where, why, and what to use instead."""
    with Machine(MachineConfig(kernel=guest)) as machine:
        machine.console.expect("ready\n")
        machine.console.send("p")
        ending = machine.wait(10)
        assert ending is not None
        assert ending.reason == "unsupported"
        for part in ("cannot execute the instruction at 0x20", "kvm_pvm", "vmx or svm"):
            assert part in ending.detail


def test_stop_ends_a_guest_that_spins_with_interrupts_off(guest: str) -> None:
    """`stop` needs no help of the guest."""
    with Machine(MachineConfig(kernel=guest, vcpus=2)) as machine:
        machine.console.expect("ready\n")
        machine.console.send("s")
        machine.console.expect("spinning")
        began = time.monotonic()
        assert machine.stop().reason == "stopped"
        assert time.monotonic() - began < 5


def test_stop_works_at_any_time_and_leaves_nothing(guest: str, tmp_path: Path) -> None:
    """Machines that are stopped at random moments leave no thread and no descriptor."""
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    rng = random.Random(1)
    config = MachineConfig(kernel=guest, vcpus=2, cmdline="smp", disks=(DiskConfig(str(image)),), memory=32 << 20)
    Machine(config).stop()
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(12):
        machine = Machine(config)
        machine.start()
        time.sleep(rng.random() * 0.1)
        assert machine.stop().reason == "stopped"
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (descriptors, threads)


def test_random_accesses_of_a_guest(guest: str, tmp_path: Path) -> None:
    """Twenty thousand random accesses to registers of devices end no machine, and the host's memory stays bounded."""
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    config = MachineConfig(kernel=guest, disks=(DiskConfig(str(image)),), vsock=(3, str(tmp_path / "sock")), memory=32 << 20)
    with Machine(config) as machine:
        machine.console.expect("ready\n")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(2):
            machine.console.send("f")
            machine.console.expect("fuzzed\n", timeout=60)
        machine.console.send("q")
        machine.console.expect("you typed q")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
        assert len(machine.warnings) <= 100
    assert not any("a device failed" in text for text in machine.warnings)


def test_stop_works_between_restarts(guest: str, tmp_path: Path) -> None:
    """A machine that restarts without end is stopped at whatever moment `stop` comes."""
    rng = random.Random(2)
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    for _ in range(8):
        machine = Machine(MachineConfig(kernel=guest, restart=True, memory=32 << 20, disks=(DiskConfig(str(image)),)))
        resets: list[bytes] = []
        machine.console.listen(lambda data, machine=machine: machine.guest_reset("by the test") if b"r" in data else resets.append(data))
        machine.start()
        time.sleep(rng.random() * 0.3)
        began = time.monotonic()
        assert machine.stop().reason == "stopped"
        assert time.monotonic() - began < 10


def test_a_machine_has_room_for_seventeen_virtio_devices(guest: str, tmp_path: Path) -> None:
    """More are refused, and what was opened for them is closed."""
    descriptors = len(os.listdir("/proc/self/fd"))
    disks = []
    for i in range(18):
        path = tmp_path / f"disk{i}"
        path.write_bytes(bytes(4096))
        disks.append(DiskConfig(str(path)))
    with pytest.raises(UsageError, match="room for 17"):
        Machine(MachineConfig(kernel=guest, disks=tuple(disks)))
    assert len(os.listdir("/proc/self/fd")) == descriptors
    with Machine(MachineConfig(kernel=guest, disks=tuple(disks[:13]), rng=False)) as machine:
        text = machine.console.expect("ready\n", timeout=60)
        assert text.count("disk read 0\n") == 13


def test_a_disk_is_used_by_one_machine(guest: str, tmp_path: Path) -> None:
    """A second machine on the same writable disk is refused, with the way out."""
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    first = Machine(MachineConfig(kernel=guest, disks=(DiskConfig(str(image)),)))
    with pytest.raises(UsageError, match="another machine uses it; give each one an overlay"):
        Machine(MachineConfig(kernel=guest, disks=(DiskConfig(str(image)),)))
    first.stop()
    overlays = [DiskConfig(str(image), overlay=str(tmp_path / name)) for name in ("a", "b")]
    machines = [Machine(MachineConfig(kernel=guest, disks=(disk,))) for disk in overlays]
    for machine in machines:
        machine.stop()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": None}, "say which with --kernel"), ({"memory": 1 << 20}, "at least 16 MiB"), ({"vcpus": 0}, "1 to 64"),
        ({"board": "toaster"}, "there are microvm and bios"), ({"firmware": "x"}, "no firmware"), ({"cmdline": "x" * 70000}, "command line has"),
    ],
)  # fmt: skip
def test_configurations_that_cannot_be(guest: str, change: dict[str, object], message: str) -> None:
    """Each mistake is one sentence."""
    from polyvm.errors import PolyvmError

    with pytest.raises(PolyvmError, match=message), Machine(MachineConfig(**{"kernel": guest, **change})):  # type: ignore[arg-type]
        pass
