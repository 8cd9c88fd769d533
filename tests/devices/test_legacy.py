"""Clock and keyboard controller."""

from __future__ import annotations

import calendar
import time

import pytest

from polyvm.devices import I8042, Loop, Port92, Rtc, Wire
from tests.devices.driver import wait_for


def cmos(rtc: Rtc, index: int) -> int:
    rtc.write(0, 1, index)
    return rtc.read(1, 1)


def cmos_write(rtc: Rtc, index: int, value: int) -> None:
    rtc.write(0, 1, index)
    rtc.write(1, 1, value)


@pytest.mark.parametrize("moment", [0, 951827696, 1735689599, 1764036000, 4102444800])
def test_clock_shows_the_time_in_bcd_and_binary(moment: int) -> None:
    """The registers agree with the C library's calendar, in every format."""
    t = time.gmtime(moment)
    fields = [t.tm_sec, t.tm_min, t.tm_hour, (t.tm_wday + 1) % 7 + 1, t.tm_mday, t.tm_mon, t.tm_year % 100, t.tm_year // 100]
    rtc = Rtc(Wire(), clock=lambda: moment + 0.5)
    assert [int(f"{cmos(rtc, i):x}") for i in (0, 2, 4, 6, 7, 8, 9, 0x32)] == fields
    cmos_write(rtc, 0x0B, 4)
    hour = cmos(rtc, 4)
    assert (hour & 0x7F) % 12 + (12 if hour & 0x80 else 0) == t.tm_hour
    cmos_write(rtc, 0x0B, 6)
    assert [cmos(rtc, i) for i in (0, 2, 4, 6, 7, 8, 9, 0x32)] == fields


def test_clock_can_be_set() -> None:
    """With SET the registers stand still; without it the clock goes on from them, as hwclock does it."""
    now = [1000000000.25]
    rtc = Rtc(Wire(), clock=lambda: now[0])
    cmos_write(rtc, 0x0B, 0x86)
    for index, value in zip((0, 2, 4, 7, 8, 9, 0x32), (30, 59, 23, 31, 12, 29, 20)):
        cmos_write(rtc, index, value)
    now[0] += 5
    assert cmos(rtc, 0) == 30
    cmos_write(rtc, 0x0B, 0x06)
    now[0] += 30
    assert [cmos(rtc, i) for i in (0, 2, 4, 7, 8, 9, 0x32)] == [0, 0, 0, 1, 1, 30, 20]
    assert calendar.timegm((2030, 1, 1, 0, 0, 0)) > 0


def test_periodic_and_update_interrupts() -> None:
    """An enabled periodic interrupt comes again and again, and register C acknowledges it."""
    loop, line = Loop(), Wire()
    rtc = Rtc(line, loop)
    loop.start()
    try:
        cmos_write(rtc, 0x0A, 0x2A)  # 64 Hz
        cmos_write(rtc, 0x0B, 0x42)
        for _ in range(3):
            wait_for(lambda: line.level)
            assert cmos(rtc, 0x0C) & 0xC0 == 0xC0
        cmos_write(rtc, 0x0B, 0x12)
        cmos(rtc, 0x0C)
        wait_for(lambda: line.level)
        assert cmos(rtc, 0x0C) & 0x90 == 0x90
    finally:
        rtc.close()
        loop.stop()


def test_i8042_resets_the_machine() -> None:
    """Command FEh, and bit 0 of the output port, ask for a reset; as does port 92h."""
    resets: list[int] = []
    controller = I8042(lambda: resets.append(1))
    controller.write(4, 1, 0xAA)
    assert controller.read(4, 1) & 1
    assert controller.read(0, 1) == 0x55
    assert not controller.read(4, 1) & 1
    controller.write(4, 1, 0xFE)
    assert len(resets) == 1
    controller.write(4, 1, 0xD1)
    controller.write(0, 1, 0xDD)
    assert (len(resets), controller.a20) == (1, False)
    controller.write(4, 1, 0xD1)
    controller.write(0, 1, 0x02)
    assert (len(resets), controller.a20) == (2, True)
    port = Port92(lambda: resets.append(1))
    port.write(0, 1, 2)
    assert len(resets) == 2
    port.write(0, 1, 3)
    assert (len(resets), port.read(0, 1)) == (3, 2)
