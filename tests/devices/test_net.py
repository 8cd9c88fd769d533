"""The network device and the host's wires."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from polyvm.devices.network import Passt, Stream, Tap
from polyvm.devices.virtio.net import Net, mac_address
from polyvm.errors import UsageError
from tests.devices.driver import Driver, attached, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = bytes.fromhex("525400123456")


class Card:
    """A driver with buffers for frames."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver.start()
        self.receive, self.transmit = driver.queues
        self.places: dict[int, int] = {}

    def fill(self, count: int, size: int = 2048) -> None:
        for i in range(count):
            at = self.driver.buffers + 0x1000 * (len(self.places) % 64)
            self.places[self.receive.add((at, size, True))] = at
        self.receive.notify()

    def next(self) -> bytes:
        head, written = self.receive.wait()
        data = self.driver.memory.read(self.places.pop(head), written)
        assert data[:12] == struct.pack("<BBHHHHH", 0, 0, 0, 0, 0, 0, 1)
        return data[12:]

    def send(self, frame: bytes) -> None:
        at = self.driver.buffers + 0x80000
        self.driver.memory.write(at, bytes(12) + frame)
        self.transmit.add((at, 12, False), (at + 12, len(frame), False))
        self.transmit.notify()
        self.transmit.wait()


@pytest.fixture
def wire() -> Iterator[tuple[Card, socket.socket]]:
    ours, theirs = socket.socketpair()
    with attached(lambda memory, loop: Net(memory, loop, Stream(ours), OURS)) as driver, theirs:
        theirs.settimeout(10)
        yield Card(driver), theirs


def read_frame(other: socket.socket) -> bytes:
    size = int.from_bytes(other.recv(4, socket.MSG_WAITALL), "big")
    return other.recv(size, socket.MSG_WAITALL)


def test_frames_go_both_ways(wire: tuple[Card, socket.socket]) -> None:
    """What the driver sends leaves with its length before it; what arrives fills its buffers, in order."""
    card, other = wire
    assert card.driver.config(0, 4) | card.driver.config(4, 2) << 32 == int.from_bytes(OURS, "little")
    assert card.driver.config(6, 2) == 1
    for size in (14, 60, 1514, 9000):
        frame = os.urandom(size)
        card.send(frame)
        assert read_frame(other) == frame
    frames = [os.urandom(60 + i) for i in range(10)]
    other.sendall(b"".join(len(f).to_bytes(4, "big") + f for f in frames))
    card.fill(10)
    assert [card.next() for _ in frames] == frames


def test_frames_wait_for_buffers(wire: tuple[Card, socket.socket]) -> None:
    """Without buffers nothing is taken from the wire, and nothing is lost, though they are given one at a time."""
    card, other = wire
    for i in range(5):
        other.sendall(struct.pack(">I", 60) + bytes((i,)) * 60)
        card.fill(1)
        assert card.next() == bytes((i,)) * 60
    other.sendall(b"".join(struct.pack(">I", 60) + bytes((i,)) * 60 for i in range(20)))
    for i in range(20):
        card.fill(1)
        assert card.next() == bytes((i,)) * 60


def test_a_frame_too_long_for_its_buffer_is_dropped(wire: tuple[Card, socket.socket]) -> None:
    """The frame after it takes the buffer."""
    card, other = wire
    card.fill(1, size=100)
    other.sendall(struct.pack(">I", 200) + bytes(200) + struct.pack(">I", 64) + b"x" * 64)
    assert card.next() == b"x" * 64
    device = card.driver.device
    assert isinstance(device, Net)
    assert device.dropped == 1


def test_a_wire_out_of_step_is_left(wire: tuple[Card, socket.socket]) -> None:
    """A length that cannot be ends reception, not the device."""
    card, other = wire
    card.fill(2)
    other.sendall(b"\xff" * 100)
    card.send(bytes(60))
    assert read_frame(other) == bytes(60)


@pytest.mark.parametrize("text", ["1", "52:54:00:12:34", "53:54:00:12:34:56", "52-54-00-12-34-56", "zz:54:00:12:34:56"])
def test_addresses_that_are_none(text: str) -> None:
    """A card has a unicast address of six bytes."""
    with pytest.raises(UsageError, match="six bytes"):
        mac_address(text)


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_passt_answers_dhcp() -> None:
    """The guest's DHCP discover through a real passt is answered with an offer for its address."""
    if shutil.which("passt") is None:
        pytest.skip("passt is not installed")
    options = bytes.fromhex("63825363") + b"\x35\x01\x01\xff"
    dhcp = struct.pack("!BBBBIHH16x", 1, 1, 6, 0, 0x1234, 0, 0x8000) + OURS + bytes(202) + options.ljust(64, b"\0")
    udp = struct.pack("!HHHH", 68, 67, 8 + len(dhcp), 0) + dhcp
    head = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, 0, 0xFFFFFFFF)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    with attached(lambda memory, loop: Net(memory, loop, Passt(), OURS)) as driver:
        card = Card(driver)
        card.fill(16)
        for _ in range(3):
            card.send(b"\xff" * 6 + OURS + b"\x08\x00" + head + udp)
        for _ in range(10):
            answer = card.next()
            if answer[12:14] == b"\x08\x00" and answer[23] == 17 and answer[34:38] == struct.pack("!HH", 67, 68):
                break
        assert answer[:6] in (OURS, b"\xff" * 6)
        assert answer[42 + 28 : 42 + 34] == OURS


def test_tap() -> None:
    """Frames reach an interface of the host and come from it."""
    try:
        tap = Tap("polyvmtest0")
    except UsageError as error:
        pytest.skip(str(error))
    with attached(lambda memory, loop: Net(memory, loop, tap, OURS)) as driver:
        subprocess.run(["ip", "link", "set", "polyvmtest0", "up"], check=True)
        card = Card(driver)
        card.fill(32)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)) as host:
            host.bind(("polyvmtest0", 0x88B5))
            host.settimeout(5)
            card.send(b"\xff" * 6 + OURS + b"\x88\xb5" + b"from the guest".ljust(50))
            assert host.recv(2000)[14:28] == b"from the guest"
            host.send(OURS + bytes(6) + b"\x88\xb5" + b"from the host".ljust(50))
            wait_for(lambda: card.next()[14:27] == b"from the host")


def test_an_interface_that_cannot_be() -> None:
    """A name that is none is explained."""
    with pytest.raises(UsageError, match="1 to 15 bytes"):
        Tap("a" * 16)
