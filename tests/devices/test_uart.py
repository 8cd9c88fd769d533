"""The 16550A, as its data sheet has it and as drivers probe it."""

from __future__ import annotations

import pytest

from polyvm.devices import Uart16550, Wire


class Serial:
    def __init__(self) -> None:
        self.out = bytearray()
        self.line = Wire()
        self.rooms = 0
        self.uart = Uart16550(self.out.extend, self.line, self._room)

    def _room(self) -> None:
        self.rooms += 1

    def get(self, register: int) -> int:
        return self.uart.read(register, 1)

    def put(self, register: int, value: int) -> None:
        self.uart.write(register, 1, value)


@pytest.fixture
def serial() -> Serial:
    return Serial()


def test_after_reset_the_transmitter_is_empty(serial: Serial) -> None:
    """Table I of the data sheet."""
    assert [serial.get(r) for r in range(1, 8)] == [0, 1, 0, 0, 0x60, 0xB0, 0]


def test_linux_probe_finds_a_16550a(serial: Serial) -> None:
    """autoconfig() of Linux's 8250 driver: IER has four bits, the scratch register works, loopback turns modem lines around, and
    enabled FIFOs show in IIR."""
    serial.put(1, 0xFF)
    assert serial.get(1) == 0x0F
    serial.put(1, 0)
    serial.put(4, 0x10 | 0x0A)
    assert serial.get(6) & 0xF0 == 0x90
    serial.put(4, 0)
    serial.put(2, 1)
    assert serial.get(2) >> 6 == 3
    serial.put(7, 0x5A)
    assert serial.get(7) == 0x5A


def test_divisor_latch(serial: Serial) -> None:
    """With DLAB set, registers 0 and 1 are the divisor; 1 is 115,200 baud."""
    serial.put(3, 0x83)
    serial.put(0, 1)
    serial.put(1, 0)
    assert (serial.get(0), serial.get(1), serial.uart.baud) == (1, 0, 115200)
    serial.put(3, 0x03)
    serial.put(0, ord("A"))
    assert serial.out == b"A"


def test_receiver_interrupt_and_its_trigger(serial: Serial) -> None:
    """Below the trigger level IIR says time-out, from it on data available; reading all drops the line."""
    serial.put(2, 0x81)  # 8 bytes
    serial.put(1, 1)
    serial.uart.feed(b"abc")
    assert (serial.line.level, serial.get(2) & 15) == (True, 12)
    serial.uart.feed(b"defgh")
    assert serial.get(2) & 15 == 4
    assert bytes(serial.get(0) for _ in range(8)) == b"abcdefgh"
    assert (serial.line.level, serial.get(2) & 15, serial.get(5) & 1) == (False, 1, 0)


def test_transmitter_interrupt_comes_when_enabled_and_goes_when_identified(serial: Serial) -> None:
    """Section 8.6: THRE is reset by reading IIR, and comes again after a write."""
    serial.put(1, 2)
    assert serial.line.level
    assert serial.get(2) == 2
    assert (serial.line.level, serial.get(2)) == (False, 1)
    serial.put(0, 0x41)
    assert serial.get(2) == 2


def test_input_waits_behind_the_fifo_and_is_not_lost(serial: Serial) -> None:
    """More than the FIFO holds arrives in order; a full backlog refuses, and says when there is room."""
    serial.put(2, 1)
    data = bytes(i * 7 & 0xFF for i in range(70000))
    taken = serial.uart.feed(data)
    assert taken == 65536
    assert serial.get(5) & 2 == 0
    got = bytes(serial.get(0) for _ in range(taken))
    assert got == data[:taken]
    assert serial.rooms >= 1


def test_loopback_keeps_bytes_inside(serial: Serial) -> None:
    """What is transmitted in loopback is received, and does not leave; too much of it overruns."""
    serial.put(2, 1)
    serial.put(4, 0x10)
    for value in range(17):
        serial.put(0, value)
    assert serial.get(5) & 2
    assert [serial.get(0) for _ in range(16)] == list(range(16))
    assert serial.out == b""


def test_wide_accesses_are_those_of_bytes(serial: Serial) -> None:
    """A 16-bit write to the divisor latch sets both halves."""
    serial.put(3, 0x80)
    serial.uart.write(0, 2, 0x0180)
    assert (serial.uart.read(0, 2), serial.uart.baud) == (0x0180, 115200 // 0x180)
