"""Real-time clock and CMOS memory MC146818 (Motorola data sheet, "Registers").

    port   read            write
    0      (all ones)      index; bit 7 masks NMI on a PC and is ignored
    1      data            data

    index  0 seconds     1 seconds alarm   2 minutes       3 minutes alarm   4 hours   5 hours alarm
           6 weekday     7 day             8 month         9 year            32h century
    0a     A: bit 7 update in progress, 6:4 divider (2 runs), 3:0 periodic rate
    0b     B: 7 set, 6 periodic, 5 alarm, 4 update-ended interrupt, 2 binary, 1 24 hours
    0c     C: 7 interrupt, 6 periodic, 5 alarm, 4 update-ended; a read clears it
    0d     D: bit 7 the memory is valid
    0e..7f CMOS memory

The clock follows the host's, in UTC, plus what the guest set it to differ by.
"""

from __future__ import annotations

import threading
import time
from calendar import timegm
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.devices.bus import Line
    from polyvm.devices.loop import Loop, Timer

A_UIP, B_SET, B_PIE, B_AIE, B_UIE, B_BINARY, B_24H = 0x80, 0x80, 0x40, 0x20, 0x10, 4, 2
C_IRQF, C_PF, C_AF, C_UF = 0x80, 0x40, 0x20, 0x10
CENTURY = 0x32
_TIME = (0, 2, 4, 6, 7, 8, 9, CENTURY)
_FASTEST = 1 / 1024  # seconds between periodic interrupts, at least: a guest asks for up to 8,192 a second


class Rtc:
    """Two ports. `clock` gives seconds since 1970; with `loop`, interrupts come on `line`."""

    SIZE = 2

    def __init__(self, line: Line, loop: Loop | None = None, clock: Callable[[], float] = time.time) -> None:
        self._line = line
        self._loop = loop
        self._clock = clock
        self._lock = threading.RLock()
        self._index = 0
        self._offset = 0.0  # seconds by which the guest's clock is ahead of the host's
        self._frozen: dict[int, int] | None = None  # the registers of the time while B_SET stops the clock
        self._timer: Timer | None = None
        self._tick = 0.0
        self.cmos = bytearray(128)
        self.cmos[0x0A], self.cmos[0x0B], self.cmos[0x0D] = 0x26, B_24H, 0x80

    def read(self, offset: int, size: int) -> int:
        """Read the register that the index names."""
        if offset != 1:
            return 0xFF
        with self._lock:
            return self._read(self._index)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write the index, or the register that it names."""
        with self._lock:
            if offset == 0:
                self._index = value & 0x7F
            elif offset == 1:
                self._write(self._index, value & 0xFF)

    def close(self) -> None:
        """No more interrupts."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _read(self, index: int) -> int:
        if index in _TIME:
            return (self._frozen or self._registers())[index]
        if index == 0x0A:
            running = not self.cmos[0x0B] & B_SET
            near = self._now() % 1 > 1 - 244e-6  # UIP is set 244 µs before an update (data sheet, "Update Cycle")
            return self.cmos[0x0A] & 0x7F | (A_UIP if running and near else 0)
        if index == 0x0C:
            value = self.cmos[0x0C]
            self.cmos[0x0C] = 0
            self._line.set_level(False)
            return value
        return self.cmos[index]

    def _write(self, index: int, value: int) -> None:
        if index in _TIME:
            stopped = self._frozen is not None
            registers = self._frozen if self._frozen is not None else self._registers()
            registers[index] = value
            if not stopped:
                self._set_time(registers)
        elif index == 0x0B:
            before = self.cmos[0x0B]
            if value & B_SET and not before & B_SET:
                self._frozen = self._registers()
            self.cmos[0x0B] = value
            if before & B_SET and not value & B_SET and self._frozen is not None:
                self._set_time(self._frozen)
                self._frozen = None
            self._schedule()
        elif index == 0x0A:
            self.cmos[0x0A] = value & 0x7F
            self._schedule()
        elif index not in (0x0C, 0x0D):
            self.cmos[index] = value

    def _now(self) -> float:
        return self._clock() + self._offset

    def _coded(self, value: int) -> int:
        return value if self.cmos[0x0B] & B_BINARY else value // 10 % 10 << 4 | value % 10

    def _decoded(self, value: int) -> int:
        return value if self.cmos[0x0B] & B_BINARY else (value >> 4) * 10 + (value & 15)

    def _hour(self, hour: int) -> int:
        if self.cmos[0x0B] & B_24H:
            return self._coded(hour)
        return self._coded((hour + 11) % 12 + 1) | (0x80 if hour >= 12 else 0)

    def _registers(self) -> dict[int, int]:
        seconds = min(max(self._now(), 0.0), 253402300799.0)  # the year 9999
        t = time.gmtime(seconds)
        plain = {0: t.tm_sec, 2: t.tm_min, 6: (t.tm_wday + 1) % 7 + 1, 7: t.tm_mday, 8: t.tm_mon}
        plain |= {9: t.tm_year % 100, CENTURY: t.tm_year // 100}
        coded = {index: self._coded(value) for index, value in plain.items()}
        coded[4] = self._hour(t.tm_hour)
        return coded

    def _set_time(self, registers: dict[int, int]) -> None:
        hour = self._decoded(registers[4] & 0x7F)
        if not self.cmos[0x0B] & B_24H:
            hour = hour % 12 + (12 if registers[4] & 0x80 else 0)
        year = self._decoded(registers[CENTURY]) * 100 + self._decoded(registers[9])
        month, day = self._decoded(registers[8]), self._decoded(registers[7])
        if not (1 <= month <= 12 and 1970 <= year <= 9999):
            return  # half a date: the rest follows
        minute, second = self._decoded(registers[2]), self._decoded(registers[0])
        self._offset = timegm((year, month, day, hour, minute, second)) + self._now() % 1 - self._clock()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        b = self.cmos[0x0B]
        if self._loop is None or b & B_SET or not b & (B_PIE | B_AIE | B_UIE):
            return
        now = self._now()
        rate = self.cmos[0x0A] & 15
        delay = 1 - now % 1
        if b & B_PIE and rate:
            delay = min(delay, max(_FASTEST, (1 << (rate + 6 if rate < 3 else rate - 1)) / 32768))
        self._tick = now
        self._timer = self._loop.call_later(delay, self._due)

    def _due(self) -> None:
        with self._lock:
            b = self.cmos[0x0B]
            flags = C_PF if b & B_PIE and self.cmos[0x0A] & 15 else 0
            if int(self._now()) != int(self._tick):
                flags |= C_UF | (C_AF if self._alarm() else 0)
            pending = self.cmos[0x0C] & 0x70 | flags
            if pending & b & 0x70:
                pending |= C_IRQF
                self._line.set_level(True)
            self.cmos[0x0C] = pending
            self._schedule()

    def _alarm(self) -> bool:
        registers = self._registers()
        return all(self.cmos[at] >= 0xC0 or self.cmos[at] == registers[at - 1] for at in (1, 3, 5))
