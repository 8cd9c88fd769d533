"""ATA disk behind ISA ports, programmed input and output (ATA/ATAPI-6, sections 7 and 8): what firmware without PCI reads disks
by.

    port    read             write                 port     read                 write
    1f0     data (16 or 32 bits)                   1f4      LBA 15:8             (the same)
    1f1     error            features              1f5      LBA 23:16            (the same)
    1f2     sector count     (the same)            1f6      device, LBA 27:24    (the same)
    1f3     LBA 7:0          (the same)            1f7      status               command
    3f6     alternate status                                                     device control

    command   20 21 read sectors   24 read sectors ext   30 31 write sectors   34 write sectors ext   c4 c5 c6 multiple
              40 verify   91 initialize parameters   e7 ea flush   ec identify   ef set features

Requests are carried out on the thread that asks: firmware waits for them anyway. Device 1 is not there.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from polyvm.devices.disk import SECTOR, Disk

if TYPE_CHECKING:
    from polyvm.devices.bus import Line

ERR, DRQ, DSC, DRDY = 1, 8, 16, 64
ABRT, IDNF = 4, 16
_HEADS, _SECTORS = 16, 63


class AtaDisk:
    """Ports 1f0 to 1f7; `control` has 3f6. `disk` is read and written; `line` is the interrupt (14)."""

    SIZE = 8

    def __init__(self, disk: Disk, line: Line, serial: str = "") -> None:
        self.disk = disk
        self._line = line
        self._serial = serial
        self.control = AtaControl(self)
        self.nien = False
        self.reset()

    def reset(self) -> None:
        """A software or power-on reset: the signature of an ATA device (section 9.12)."""
        self._registers = [0] * 8
        self._previous = [0] * 8  # what a 48-bit command takes its upper halves from
        self._registers[2] = self._registers[3] = 1
        self._status, self._error = DRDY | DSC, 1
        self._buffer = bytearray()
        self._at = 0
        self._writing = False
        self._lba = self._left = 0
        self._multiple = 1
        self._interrupt(False)

    def read(self, offset: int, size: int) -> int:
        """Read a register, or data."""
        if offset == 0:
            return self._read_data(size)
        if self._absent:
            return 0
        if offset == 1:
            return self._error
        if offset == 7:
            self._interrupt(False)
            return self._status
        return self._registers[offset] if size == 1 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register, data or a command."""
        if offset == 0:
            self._write_data(size, value)
        elif offset == 7:
            if not self._absent:
                self._command(value & 0xFF)
        elif size == 1:
            self._previous[offset], self._registers[offset] = self._registers[offset], value & 0xFF

    @property
    def status(self) -> int:
        """The status, without acknowledging the interrupt."""
        return 0 if self._absent else self._status

    @property
    def _absent(self) -> bool:
        return bool(self._registers[6] & 0x10)

    def _interrupt(self, level: bool) -> None:
        self._line.set_level(level and not self.nien)

    def _read_data(self, size: int) -> int:
        if self._writing or self._at >= len(self._buffer):
            return 0
        value = int.from_bytes(self._buffer[self._at : self._at + size], "little")
        self._at += size
        if self._at >= len(self._buffer):
            self._next_read()
        return value

    def _next_read(self) -> None:
        self._buffer, self._at = bytearray(), 0
        if self._left:
            self._fill()
        else:
            self._status &= ~DRQ

    def _write_data(self, size: int, value: int) -> None:
        if not self._writing or not self._status & DRQ:
            return
        self._buffer += value.to_bytes(8, "little")[:size]
        if len(self._buffer) < self._at:
            return
        data, self._buffer = self._buffer, bytearray()
        try:
            self.disk.write(self._lba * SECTOR, [memoryview(bytes(data[: self._at]))])
        except OSError:
            self._fail(IDNF)
            return
        self._lba += self._at // SECTOR
        if self._left:
            self._at = min(self._left, self._multiple) * SECTOR
            self._left -= self._at // SECTOR
        else:
            self._writing = False
            self._status &= ~DRQ
        self._interrupt(True)

    def _command(self, command: int) -> None:
        self._status, self._error = DRDY | DSC, 0
        self._buffer, self._at, self._writing, self._left = bytearray(), 0, False, 0
        if command == 0xEC:
            self._buffer = bytearray(self._identify())
            self._status |= DRQ
            self._interrupt(True)
        elif command in (0x20, 0x21, 0x24, 0xC4, 0x40):
            self._transfer(command == 0x24, command == 0xC4)
            if command == 0x40:
                self._left = 0
                if not self._status & ERR:
                    self._interrupt(True)
            elif not self._status & ERR:
                self._fill()
        elif command in (0x30, 0x31, 0x34, 0xC5):
            self._transfer(command == 0x34, command == 0xC5)
            if self.disk.readonly and not self._status & ERR:
                self._fail(ABRT)
            elif not self._status & ERR:
                self._writing = True
                self._at = min(self._left, self._block) * SECTOR
                self._left -= self._at // SECTOR
                self._status |= DRQ
        elif command == 0xC6:
            self._multiple = min(max(self._registers[2], 1), 16)
            self._interrupt(True)
        elif command in (0xE7, 0xEA):
            try:
                self.disk.flush()
            except OSError:
                self._fail(ABRT)
            self._interrupt(True)
        elif command in (0x91, 0xEF, 0x10, 0x70):
            self._interrupt(True)
        elif command == 0x90:
            self._error = 1
            self._interrupt(True)
        else:
            self._fail(ABRT)

    def _transfer(self, extended: bool, multiple: bool) -> None:
        """Where a command begins and how much it moves."""
        self._block = self._multiple if multiple else 1
        r, p = self._registers, self._previous
        count = r[2] | (p[2] << 8 if extended else 0)
        if extended:
            self._lba = r[3] | r[4] << 8 | r[5] << 16 | p[3] << 24 | p[4] << 32 | p[5] << 40
        elif r[6] & 0x40:
            self._lba = r[3] | r[4] << 8 | r[5] << 16 | (r[6] & 15) << 24
        else:
            self._lba = ((r[4] | r[5] << 8) * _HEADS + (r[6] & 15)) * _SECTORS + r[3] - 1
        self._left = count or (65536 if extended else 256)
        if self._lba < 0 or (self._lba + self._left) * SECTOR > self.disk.size:
            self._left = 0
            self._fail(IDNF)

    def _fill(self) -> None:
        count = min(self._left, self._block)
        data = bytearray(count * SECTOR)
        try:
            self.disk.read(self._lba * SECTOR, [memoryview(data)])
        except OSError:
            self._fail(IDNF)
            return
        self._buffer, self._at = data, 0
        self._lba += count
        self._left -= count
        self._status |= DRQ
        self._interrupt(True)

    def _fail(self, error: int) -> None:
        self._status, self._error = DRDY | DSC | ERR, error
        self._buffer, self._at, self._writing, self._left = bytearray(), 0, False, 0
        self._interrupt(True)

    def _identify(self) -> bytes:
        sectors = self.disk.size // SECTOR
        words = [0] * 256
        cylinders = min(sectors // (_HEADS * _SECTORS), 16383)
        words[0], words[1], words[3], words[6] = 0x0040, cylinders, _HEADS, _SECTORS
        words[10:20] = _text(self._serial, 20)
        words[23:27] = _text("1", 8)
        words[27:47] = _text("POLYVM DISK", 40)
        words[47], words[49], words[53] = 0x8010, 0x0200, 1
        words[54:57] = [cylinders, _HEADS, _SECTORS]
        words[57:59] = struct.unpack("<2H", struct.pack("<I", cylinders * _HEADS * _SECTORS))
        words[60:62] = struct.unpack("<2H", struct.pack("<I", min(sectors, 0x0FFFFFFF)))
        words[80], words[83], words[86] = 0x7E, 0x7400, 0x3400
        words[100:104] = struct.unpack("<4H", struct.pack("<Q", sectors))
        return struct.pack("<256H", *words)


class AtaControl:
    """Port 3f6."""

    SIZE = 1

    def __init__(self, ata: AtaDisk) -> None:
        self._ata = ata

    def read(self, offset: int, size: int) -> int:
        """The alternate status."""
        return self._ata.status

    def write(self, offset: int, size: int, value: int) -> None:
        """Device control: bit 1 masks the interrupt, bit 2 resets."""
        self._ata.nien = bool(value & 2)
        if value & 4:
            self._ata.reset()


def _text(text: str, size: int) -> tuple[int, ...]:
    raw = text.encode("ascii", "replace")[:size].ljust(size)
    return struct.unpack(f">{size // 2}H", raw)
