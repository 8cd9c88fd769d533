"""virtio devices, driven as a guest's kernel drives them."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from polyvm.devices.disk import open_disk
from polyvm.devices.virtio import Blk, Console, Rng
from tests.devices.driver import Driver, attached, wait_for

if TYPE_CHECKING:
    from pathlib import Path

NO_EVENT, NO_INDIRECT, VERSION_1 = 1 << 29, 1 << 28, 1 << 32


@pytest.mark.parametrize("without", [0, NO_EVENT, NO_INDIRECT, NO_EVENT | NO_INDIRECT])
def test_rng_fills_what_the_driver_gives(without: int) -> None:
    """Requests of several sizes come back filled, in order, with interrupts, whatever ring features are taken."""
    with attached(lambda memory, loop: Rng(memory, loop, lambda n: bytes(i & 0xFF for i in range(n)))) as driver:
        queue = driver.start(without).queues[0]
        at = driver.buffers
        for size in (1, 64, 4096, 70000):
            head = queue.add((at, size // 2, True), (at + size // 2, size - size // 2, True))
            queue.notify()
            assert queue.wait() == (head, min(size, 65536))
            assert driver.memory.read(at, min(size, 300)) == bytes(i & 0xFF for i in range(min(size, 300)))
        assert driver.line.rises >= 4


def test_many_requests_go_around_the_ring() -> None:
    """Indices wrap at 65536: more requests than that come back, each once."""
    with attached(lambda memory, loop: Rng(memory, loop, bytes)) as driver:
        queue = driver.start(size=64).queues[0]
        done = 0
        while done < 66000:
            while queue.free:
                queue.add((driver.buffers, 1, True))
            queue.notify()
            wait_for(lambda: driver.memory.read_u16(queue.used + 2) == queue.next_avail)
            driver.acknowledge()
            while queue.take():
                done += 1


def test_no_interrupt_where_the_driver_wants_none() -> None:
    """With the flag of the available ring set, requests come back silently."""
    with attached(Rng) as driver:
        queue = driver.start(NO_EVENT).queues[0]
        driver.memory.write(queue.avail, b"\x01\0")
        queue.add((driver.buffers, 8, True))
        queue.notify()
        wait_for(queue.take)
        assert driver.line.rises == 0


def test_features_that_were_not_offered_are_refused() -> None:
    """FEATURES_OK does not stay set for unknown features, nor without VERSION_1 (section 3.1.1)."""
    for wanted in (1 << 40 | VERSION_1, 1 << 3 | VERSION_1, 0):
        with attached(Rng) as driver:
            for select in (0, 1):
                driver.mmio.write(0x24, 4, select)
                driver.mmio.write(0x20, 4, wanted >> 32 * select & 0xFFFFFFFF)
            driver.mmio.write(0x70, 4, 11)
            assert driver.mmio.read(0x70, 4) == 3


def test_reset_brings_a_device_back() -> None:
    """After a write of 0 to Status all queues are gone, no interrupt is pending, and the device can be set up again."""
    with attached(Rng) as driver:
        for _ in range(3):
            queue = driver.start().queues[0]
            queue.add((driver.buffers, 8, True))
            queue.notify()
            queue.wait()
            driver.mmio.write(0x70, 4, 0)
            assert (driver.mmio.read(0x70, 4), driver.mmio.read(0x60, 4), driver.mmio.read(0x44, 4)) == (0, 0, 0)
            assert not driver.line.level


def test_console_output_and_input() -> None:
    """What the driver transmits comes out in order; what is typed fills its buffers, however small."""
    out = bytearray()
    with attached(lambda memory, loop: Console(memory, loop, out.extend, (100, 30))) as driver:
        console = driver.device
        assert isinstance(console, Console)
        receive, transmit = driver.start().queues
        assert (driver.config(0, 2), driver.config(2, 2)) == (100, 30)
        at = driver.buffers
        driver.memory.write(at, b"hello, world\n")
        transmit.add((at, 7, False), (at + 7, 6, False))
        transmit.notify()
        transmit.wait()
        assert bytes(out) == b"hello, world\n"
        for i in range(3):
            receive.add((at + 16 * i, 4, True))
        receive.notify()
        assert console.feed(b"0123456789") == 10
        got = b""
        for i, size in enumerate((4, 4, 2)):
            assert receive.wait()[1] == size
            got += driver.memory.read(at + 16 * i, size)
        assert got == b"0123456789"
        console.resize(120, 40)
        assert driver.mmio.read(0x60, 4) & 2
        assert driver.config(0, 4) == 120 | 40 << 16
        driver.mmio.write(0x108, 4, ord("!"))
        assert out.endswith(b"!")


def test_console_backlog_is_bounded_and_tells_of_room() -> None:
    """A driver that reads nothing makes `feed` take less; `room` is called once it reads again."""
    freed: list[bool] = []
    with attached(lambda memory, loop: Console(memory, loop, bytes, room=lambda: freed.append(True))) as driver:
        console = driver.device
        assert isinstance(console, Console)
        receive = driver.start().queues[0]
        assert console.feed(bytes(100000)) == 65536
        assert console.feed(b"x") == 0
        receive.add((driver.buffers, 4096, True))
        receive.notify()
        assert receive.wait()[1] == 4096
        wait_for(lambda: freed)


def request(driver: Driver, kind: int, sector: int, data: bytes = b"", room: int = 0, indirect: bool = False) -> tuple[int, bytes]:
    """One request of a block device: its status, and what was read."""
    at = driver.buffers
    driver.memory.write(at, struct.pack("<IIQ", kind, 0, sector) + data)
    driver.memory.write(at + 0x80000, b"\xee" * (room + 1))
    parts = [(at, 16, False)]
    if data:
        parts.append((at + 16, len(data), False))
    if room:
        parts.append((at + 0x80000, room, True))
    parts.append((at + 0x80000 + room, 1, True))
    queue = driver.queues[0]
    queue.add(*parts, indirect=at + 0x180000 if indirect else None)
    queue.notify()
    queue.wait()
    return driver.memory.read(at + 0x80000 + room, 1)[0], driver.memory.read(at + 0x80000, room)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(struct.pack("<Q", i) * 64 for i in range(1000)))
    return path


@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize("indirect", [False, True])
def test_blk_reads_and_writes(image: Path, tmp_path: Path, overlay: bool, indirect: bool) -> None:
    """Sectors read are the file's; what is written is read again, and reaches the file, or only the overlay."""
    before = image.read_bytes()
    over = str(tmp_path / "over") if overlay else None
    with attached(lambda memory, loop: Blk(memory, loop, open_disk(str(image), overlay=over), "serial-1")) as driver:
        driver.start()
        assert driver.config(0, 8) == 1000
        assert request(driver, 0, 7, room=1024, indirect=indirect) == (0, before[7 * 512 : 9 * 512])
        data = os.urandom(512 * 300)
        assert request(driver, 1, 100, data, indirect=indirect) == (0, b"")
        assert request(driver, 0, 99, room=512 * 302) == (0, before[99 * 512 : 100 * 512] + data + before[400 * 512 : 401 * 512])
        assert request(driver, 4, 0) == (0, b"")
        status, serial = request(driver, 8, 0, room=20)
        assert (status, serial) == (0, b"serial-1".ljust(20, b"\0"))
        zero = struct.pack("<QII", 120, 50, 1)
        assert request(driver, 13, 0, zero)[0] == 0
        assert request(driver, 11, 0, struct.pack("<QII", 200, 130, 0))[0] == 0
        data = data[: 20 * 512] + bytes(50 * 512) + data[70 * 512 : 100 * 512] + bytes(130 * 512) + data[230 * 512 :]
        assert request(driver, 0, 100, room=512 * 300) == (0, data)
    wanted = before[: 100 * 512] + data + before[400 * 512 :]
    assert image.read_bytes() == (before if overlay else wanted)
    with attached(lambda memory, loop: Blk(memory, loop, open_disk(str(image), overlay=over))) as driver:
        driver.start()
        assert request(driver, 0, 0, room=512 * 500) == (0, wanted[: 512 * 500])


@pytest.mark.parametrize(
    ("kind", "sector", "data", "room"),
    [(0, 1000, b"", 512), (0, 999, b"", 1024), (0, 1 << 63, b"", 512), (0, (1 << 64) - 1, b"", 512), (0, 0, b"", 100), (1, 999, bytes(1024), 0),
     (11, 0, struct.pack("<QII", 990, 11, 0), 0), (11, 0, struct.pack("<QII", (1 << 64) - 1, 1, 0), 0), (11, 0, b"x", 0),
     (13, 0, struct.pack("<QII", 0, 0xFFFFFFFF, 0), 0)],
)  # fmt: skip
def test_blk_refuses_what_is_not_on_the_disk(image: Path, kind: int, sector: int, data: bytes, room: int) -> None:
    """A request beyond the end, or of half a sector, is an I/O error, and nothing is changed."""
    before = image.read_bytes()
    with attached(lambda memory, loop: Blk(memory, loop, open_disk(str(image)))) as driver:
        driver.start()
        status, got = request(driver, kind, sector, data, room)
        assert status == 1
        assert got == b"\xee" * room
        assert request(driver, 99, 0)[0] == 2
    assert image.read_bytes() == before


def test_blk_read_only(image: Path) -> None:
    """A read-only disk says so and refuses writes."""
    with attached(lambda memory, loop: Blk(memory, loop, open_disk(str(image), readonly=True))) as driver:
        driver.start()
        assert driver.features() & 1 << 5
        assert request(driver, 1, 0, bytes(512))[0] == 1
        assert request(driver, 13, 0, struct.pack("<QII", 0, 1, 0))[0] == 1
