"""Guests that break every rule: devices stay within bounds, raise nothing, and come back after a reset."""

from __future__ import annotations

import random
import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from polyvm.devices import I8042, Bus, Loop, Port92, Registers, Rtc, Uart16550, Wire
from polyvm.devices.disk import open_disk
from polyvm.devices.network import Stream
from polyvm.devices.virtio import Blk, Console, Rng, VirtioDevice
from polyvm.devices.virtio.net import Net
from polyvm.devices.virtio.vsock import Vsock
from polyvm.mem.guest import GuestMemory
from tests.devices.driver import INDIRECT, NEXT, RAM, RAM_SIZE, WRITE, Driver, attached, wait_for

NEEDS_RESET = 64
Maker = Callable[[GuestMemory, Loop, Path], VirtioDevice]


def make_blk(memory: GuestMemory, loop: Loop, tmp: Path) -> Blk:
    image = tmp / "disk.img"
    if not image.exists():
        image.write_bytes(bytes(1 << 20))
    return Blk(memory, loop, open_disk(str(image)))


def make_net(memory: GuestMemory, loop: Loop, tmp: Path) -> Net:
    ours, theirs = socket.socketpair()
    for _ in range(20):
        theirs.send(struct.pack(">I", 100) + bytes(100))
    theirs.close()
    return Net(memory, loop, Stream(ours), bytes.fromhex("525400123456"))


MAKERS: dict[str, Maker] = {
    "vsock": lambda memory, loop, tmp: Vsock(memory, loop, 3, str(tmp / "sock")),
    "net": make_net,
    "rng": lambda memory, loop, tmp: Rng(memory, loop),
    "console": lambda memory, loop, tmp: Console(memory, loop, len),
    "blk": make_blk,
}


@pytest.fixture(params=MAKERS)
def maker(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[GuestMemory, Loop], VirtioDevice]:
    make = MAKERS[request.param]
    return lambda memory, loop: make(memory, loop, tmp_path)


def descriptor(driver: Driver, number: int, address: int, length: int, flags: int, following: int) -> None:
    driver.memory.write(driver.queues[0].table + 16 * number, struct.pack("<QIHH", address, length, flags, following))


def offer(driver: Driver, head: int) -> None:
    queue = driver.queues[0]
    driver.memory.write(queue.avail + 4, struct.pack("<H", head))
    driver.memory.write(queue.avail + 2, struct.pack("<H", 1))
    queue.notify()


@pytest.mark.parametrize(
    ("what", "chain"),
    [
        ("a loop of one", [(RAM, 1, NEXT, 0)]),
        ("a loop of two", [(RAM, 1, NEXT, 1), (RAM, 1, NEXT, 0)]),
        ("a descriptor beyond the table", [(RAM, 1, NEXT, 0xFFFF)]),
        ("an address beyond memory", [(1 << 63, 16, WRITE, 0)]),
        ("an address that wraps", [((1 << 64) - 8, 16, WRITE, 0)]),
        ("a length beyond memory", [(RAM, 0xFFFFFFFF, WRITE, 0)]),
        ("a buffer over the end", [(RAM + RAM_SIZE - 8, 16, WRITE, 0)]),
        ("a buffer over a hole", [(0xFFF8, 16, WRITE, 0)]),
        ("an indirect table of odd size", [(RAM, 24, INDIRECT, 0)]),
        ("an empty indirect table", [(RAM, 0, INDIRECT, 0)]),
        ("a huge indirect table", [(RAM, 16 << 20, INDIRECT, 0)]),
        ("an indirect table that goes on", [(RAM, 16, INDIRECT | NEXT, 1)]),
        ("an indirect table beyond memory", [(1 << 40, 16, INDIRECT, 0)]),
        ("a table in a table", [(RAM + 0x10000, 16, INDIRECT, 0)]),
        ("a buffer to read after one to write", [(RAM, 1, WRITE | NEXT, 1), (RAM, 1, 0, 0)]),
    ],
)
def test_a_broken_chain_makes_the_device_need_a_reset(what: str, chain: list[tuple[int, int, int, int]]) -> None:
    """The device stops, says so in Status and by an interrupt, and works again after a reset."""
    with attached(Rng) as driver:
        driver.start()
        if what == "a table in a table":
            chain = [(driver.queues[0].table, 16, INDIRECT, 0)]
        for number, entry in enumerate(chain):
            descriptor(driver, number, *entry)
        offer(driver, 0)
        wait_for(lambda: driver.mmio.read(0x70, 4) & NEEDS_RESET)
        assert driver.mmio.read(0x60, 4) & 2
        assert len(driver.reports) == 1
        queue = driver.start().queues[0]
        assert not driver.mmio.read(0x70, 4) & NEEDS_RESET
        queue.add((driver.buffers, 8, True))
        queue.notify()
        queue.wait()


@pytest.mark.parametrize("index", [300, 0x8000, 0xFFFF])
def test_an_available_index_that_jumps_is_refused(index: int) -> None:
    """More requests than the ring has places is no request."""
    with attached(Rng) as driver:
        queue = driver.start().queues[0]
        driver.memory.write(queue.avail + 2, struct.pack("<H", index))
        queue.notify()
        wait_for(lambda: driver.mmio.read(0x70, 4) & NEEDS_RESET)


@pytest.mark.parametrize(
    ("register", "value"),
    [(0x38, 0), (0x38, 3), (0x38, 0xFFFFFFFF), (0x38, 1 << 20), (0x80, 1), (0x84, 0xFFFFFFFF), (0x90, 0xFFFFFFFF), (0x94, 1 << 31), (0xA0, 2), (0xA4, 5)],
)  # fmt: skip
def test_a_queue_that_cannot_be_is_refused(register: int, value: int) -> None:
    """Sizes that are 0, no power of two or too large, and rings that lie nowhere, never become ready."""
    with attached(Rng) as driver:
        driver.start()
        mmio = driver.mmio
        mmio.write(0x44, 4, 0)
        assert mmio.read(0x44, 4) == 0
        for at, good in ((0x38, 16), (0x80, RAM), (0x84, 0), (0x90, RAM + 0x1000), (0x94, 0), (0xA0, RAM + 0x2000), (0xA4, 0), (register, value)):
            mmio.write(at, 4, good)
        mmio.write(0x44, 4, 1)
        assert mmio.read(0x44, 4) == 0
        assert mmio.read(0x70, 4) & NEEDS_RESET


def test_buffers_that_overlap_rings_harm_only_the_guest() -> None:
    """A device that is told to write its own rings does so, and at worst needs a reset."""
    with attached(lambda memory, loop: Rng(memory, loop, lambda n: b"\xff" * n)) as driver:
        for target in ("table", "avail", "used"):
            queue = driver.start().queues[0]
            queue.add((getattr(queue, target), 4096, True))
            queue.notify()
            wait_for(lambda: driver.device.queues[0]._done or driver.mmio.read(0x70, 4) & NEEDS_RESET)


def test_random_rings(maker: Callable[[GuestMemory, Loop], VirtioDevice]) -> None:
    """Whole rings of random bytes, and of nearly right ones, changed while the device reads: nothing fails, reset always helps."""
    rng = random.Random(5)
    with attached(maker) as driver:
        stop = threading.Event()

        def scribble() -> None:
            own = random.Random(6)
            while not stop.is_set():
                driver.memory.write(RAM + 0x10000 + own.randrange(0x30000), own.randbytes(own.choice((1, 2, 8))))

        thread = threading.Thread(target=scribble)
        thread.start()
        try:
            for _ in range(120):
                driver.start(size=rng.choice((1, 2, 16, 64)))
                for queue in driver.queues:
                    for number in range(queue.size):
                        address = rng.choice((RAM + rng.randrange(RAM_SIZE), rng.randrange(1 << 64), queue.table, RAM))
                        length = rng.choice((0, 1, 16, 512, 4096, rng.randrange(1 << 32)))
                        data = struct.pack("<QIHH", address, length, rng.randrange(8), rng.randrange(queue.size + 1))
                        driver.memory.write(queue.table + 16 * number, data)
                    driver.memory.write(queue.avail, struct.pack("<HH", 0, rng.randrange(queue.size + 1)) + rng.randbytes(2 * queue.size))
                    queue.notify()
                done = threading.Event()
                driver.device.loop.call(done.set)
                assert done.wait(20), "the device's thread hangs"
        finally:
            stop.set()
            thread.join()
        assert driver.start().mmio.read(0x70, 4) & 4


def test_random_registers(maker: Callable[[GuestMemory, Loop], VirtioDevice]) -> None:
    """Random accesses of every size to the registers and the configuration space raise nothing, and memory stays bounded."""
    rng = random.Random(7)
    with attached(maker) as driver:
        driver.start()
        tracemalloc.start()
        for _ in range(20000):
            offset, size = rng.choice((rng.randrange(0x200), 4 * rng.randrange(64))), rng.choice((1, 2, 4, 8))
            if rng.random() < 0.5:
                assert driver.mmio.read(offset, size) >= 0
            else:
                driver.mmio.write(offset, size, rng.choice((0, 1, 15, rng.randrange(1 << 8 * size))) & (1 << 8 * size) - 1)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8 << 20
        wait_for(lambda: not driver.mmio._kicked)
        driver.start()


def test_random_ports() -> None:
    """Random accesses to the devices of a PC's ports raise nothing and stay bounded."""
    rng = random.Random(8)
    loop = Loop(failed=lambda error: pytest.fail(str(error)))
    loop.start()
    bus = Bus("port", 16)
    rtc = Rtc(Wire(), loop)
    devices: list[tuple[int, int, Registers]] = [
        (0x3F8, 8, Uart16550(len, Wire())), (0x70, 2, rtc), (0x60, 5, I8042(lambda: None)), (0x92, 1, Port92(lambda: None)),
    ]  # fmt: skip
    for start, size, device in devices:
        bus.add(start, size, device, type(device).__name__)
    tracemalloc.start()
    for _ in range(40000):
        start, length, _ = rng.choice(devices)
        size = rng.choice((1, 2, 4))
        address = start + rng.randrange(length)
        if rng.random() < 0.5:
            assert 0 <= bus.read(address, size) < 1 << 8 * size
        else:
            bus.write(address, size, rng.randrange(1 << 8 * size))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    rtc.close()
    loop.stop()
