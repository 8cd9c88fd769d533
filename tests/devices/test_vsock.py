"""The socket device, with a driver that speaks its protocol, and programs on the host."""

from __future__ import annotations

import os
import random
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from polyvm.devices.virtio.vsock import CREDIT_REQUEST, CREDIT_UPDATE, REQUEST, RESPONSE, RST, RW, SHUTDOWN, Vsock
from polyvm.errors import UsageError
from tests.devices.driver import Driver, attached, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADER = struct.Struct("<QQIIIHHIII")
CID = 7


class Guest:
    """The guest's end: packets."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver.start()
        self.rx, self.tx, _ = driver.queues
        self.places: dict[int, int] = {}
        self.alloc, self.taken = 1 << 20, 0
        for i in range(32):
            self._offer(driver.buffers + 0x10000 + 0x2000 * i)
        self.rx.notify()

    def _offer(self, at: int) -> None:
        self.places[self.rx.add((at, 44, True), (at + 44, 4096, True))] = at

    def send(self, op: int, guest_port: int, host_port: int, data: bytes = b"", flags: int = 0, cid: int = CID, kind: int = 1) -> None:
        head = HEADER.pack(cid, 2, guest_port, host_port, len(data), kind, op, flags, self.alloc, self.taken & 0xFFFFFFFF)
        self.driver.memory.write(self.driver.buffers, head + data)
        self.tx.add((self.driver.buffers, 44 + len(data), False))
        self.tx.notify()
        self.tx.wait()

    def next(self) -> tuple[int, int, int, int, int, bytes]:
        """op, guest port, host port, flags, forwarded, data"""
        head, written = self.rx.wait()
        at = self.places.pop(head)
        raw = self.driver.memory.read(at, written)
        source, target, host_port, guest_port, length, kind, op, flags, _, forwarded = HEADER.unpack_from(raw)
        assert (source, target, kind) == (2, CID, 1)
        assert written == 44 + length
        self.taken += length
        self._offer(at)
        self.rx.notify()
        return op, guest_port, host_port, flags, forwarded, raw[44:]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "v.sock")


@pytest.fixture
def guest(path: str) -> Iterator[Guest]:
    with attached(lambda memory, loop: Vsock(memory, loop, CID, path)) as driver:
        yield Guest(driver)
    assert not os.path.exists(path)


def listen(path: str) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.settimeout(10)
    server.bind(path)
    server.listen()
    return server


def test_the_guest_connects_to_a_program(guest: Guest, path: str) -> None:
    """A request is answered, bytes go both ways, and each side's shutdown arrives at the other."""
    assert guest.driver.config(0, 8) == CID
    with listen(path + "_52") as server:
        guest.send(REQUEST, 1000, 52)
        assert guest.next()[:3] == (RESPONSE, 1000, 52)
        program, _ = server.accept()
        program.settimeout(10)
        guest.send(RW, 1000, 52, b"hello from the guest")
        assert program.recv(100) == b"hello from the guest"
        program.sendall(b"hello from the host")
        op, _, _, _, forwarded, data = guest.next()
        assert (op, data, forwarded) == (RW, b"hello from the host", 20)
        program.shutdown(socket.SHUT_WR)
        assert guest.next()[:4] == (SHUTDOWN, 1000, 52, 2)
        guest.send(RW, 1000, 52, b"last")
        guest.send(SHUTDOWN, 1000, 52, flags=3)
        assert program.recv(100, socket.MSG_WAITALL) == b"last"
        assert guest.next()[0] == RST
        program.close()


def test_a_program_connects_to_the_guest(guest: Guest, path: str) -> None:
    """CONNECT becomes a request; the guest's answer becomes OK; a refusal closes the socket."""
    with socket.socket(socket.AF_UNIX) as program:
        program.settimeout(10)
        program.connect(path)
        program.sendall(b"CONNECT 22\n")
        op, guest_port, host_port, *_ = guest.next()
        assert (op, guest_port) == (REQUEST, 22)
        guest.send(RESPONSE, 22, host_port)
        assert program.recv(100) == f"OK {host_port}\n".encode()
        program.sendall(b"ping")
        op, _, _, _, forwarded, data = guest.next()
        assert (op, data, forwarded) == (RW, b"ping", 0)
        guest.send(RW, 22, host_port, b"pong")
        assert program.recv(100) == b"pong"
        guest.send(RST, 22, host_port)
        assert program.recv(100) == b""
    for words in (b"HELLO\n", b"CONNECT x\n", b"CONNECT 99999999999\n", b"x" * 100):
        with socket.socket(socket.AF_UNIX) as program:
            program.settimeout(10)
            program.connect(path)
            try:
                program.sendall(words)
                assert program.recv(100) == b""
            except ConnectionError:
                pass


def test_much_data_with_credit(guest: Guest, path: str) -> None:
    """Neither side sends more than the other has room for; all arrives."""
    data = os.urandom(300_000)
    with listen(path + "_1") as server:
        guest.alloc = 8192
        guest.send(REQUEST, 5, 1)
        guest.next()
        program, _ = server.accept()
        program.settimeout(10)
        program.setblocking(False)
        sent, got = 0, b""
        while len(got) < len(data):
            try:
                sent += program.send(data[sent : sent + 65536])
            except BlockingIOError:
                pass
            op, *_, piece = guest.next()
            assert op == RW
            assert len(piece) <= 8192
            got += piece
            guest.send(CREDIT_UPDATE, 5, 1)
        assert got == data
        program.setblocking(True)
        guest.send(CREDIT_REQUEST, 5, 1)
        assert guest.next()[0] == CREDIT_UPDATE
        for _ in range(300):  # a program that does not read: more than the room that was promised resets the connection
            guest.send(RW, 5, 1, bytes(4000))
            if guest.driver.device._connections == {}:  # type: ignore[attr-defined]
                break
        assert guest.driver.device._connections == {}  # type: ignore[attr-defined]
        program.close()


def test_what_nobody_waits_for_is_reset(guest: Guest) -> None:
    """A port without a program, a packet of no connection, of another context or type."""
    guest.send(REQUEST, 1, 99)
    assert guest.next()[:3] == (RST, 1, 99)
    guest.send(RW, 1, 98, b"x")
    assert guest.next()[:3] == (RST, 1, 98)
    guest.send(REQUEST, 1, 97, cid=9)
    assert guest.next()[:3] == (RST, 1, 97)


def test_reset_ends_connections(guest: Guest, path: str) -> None:
    """When the driver goes away, programs see the end of their streams."""
    with listen(path + "_3") as server:
        guest.send(REQUEST, 4, 3)
        guest.next()
        program, _ = server.accept()
        program.settimeout(10)
        guest.driver.mmio.write(0x70, 4, 0)
        assert program.recv(10) == b""
        program.close()
    wait_for(lambda: not guest.driver.device._connections)  # type: ignore[attr-defined]


def test_mistakes_are_explained(path: str) -> None:
    """A context id that is none, and a name that is taken."""
    for cid, where, message in ((2, path, "go from 3"), (5, "/absent/x", "No such file")):
        with pytest.raises(UsageError, match=message), attached(lambda memory, loop: Vsock(memory, loop, cid, where)):
            pass


def test_random_packets(guest: Guest, path: str) -> None:
    """Packets with random fields, for a few ports that programs listen at, fail nothing; connections stay bounded."""
    rng = random.Random(9)
    programs: list[socket.socket] = []
    with listen(path + "_1") as server:
        server.setblocking(False)
        for _ in range(1500):
            guest.alloc = rng.choice((0, 1, 4096, 0xFFFFFFFF))
            guest.taken = rng.choice((0, rng.randrange(1 << 32)))
            data = rng.randbytes(rng.choice((0, 1, 500, 4000)))
            guest.send(rng.randrange(10), rng.randrange(4), rng.choice((0, 1, 2, 1 << 30)), data, rng.randrange(4), rng.choice((CID, CID, 2)), 1)
            try:
                programs.append(server.accept()[0])
                programs[-1].send(rng.randbytes(100))
            except OSError:
                pass
            while taken := guest.rx.take():
                guest._offer(guest.places.pop(taken[0]))
            guest.rx.notify()
            device = guest.driver.device
            assert isinstance(device, Vsock)
            assert len(device._connections) <= 256
            assert len(device._replies) <= 1100
        for program in programs:
            program.close()
