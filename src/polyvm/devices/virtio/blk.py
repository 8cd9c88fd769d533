"""Block device (Virtio 1.2, section 5.2).

    queue 0  requestq: header (type u32, reserved u32, sector u64), data, status u8

    type 0 in    1 out    4 flush    8 get id    11 discard    13 write zeroes
    status 0 ok    1 I/O error    2 unsupported

    configuration   0 capacity u64, in sectors of 512 bytes     8 size_max u32      12 seg_max u32
                    16 geometry     20 blk_size u32     24 topology     32 writeback u8     34 num_queues u16
                    36 max_discard_sectors u32          40 max_discard_seg u32              44 discard_sector_alignment u32
                    48 max_write_zeroes_sectors u32     52 max_write_zeroes_seg u32         56 write_zeroes_may_unmap u8

    feature  2 SEG_MAX   5 RO   6 BLK_SIZE   9 FLUSH   13 DISCARD   14 WRITE_ZEROES
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from polyvm.devices.disk import SECTOR, Disk
from polyvm.devices.virtio.device import VirtioDevice
from polyvm.devices.virtio.queue import MAX_BYTES, Chain, GuestRam, RingError, slices

if TYPE_CHECKING:
    from polyvm.devices.loop import Loop

SEG_MAX, RO, BLK_SIZE, FLUSH, DISCARD, WRITE_ZEROES = 1 << 2, 1 << 5, 1 << 6, 1 << 9, 1 << 13, 1 << 14
IN, OUT, T_FLUSH, GET_ID, T_DISCARD, T_WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IOERR, UNSUPP = 0, 1, 2

_HEADER = struct.Struct("<IIQ")
_RANGE = struct.Struct("<QII")
_CONFIG = struct.Struct("<QIIIIIIBxHIIIIIB3x")
_ID_SIZE = 20
_MOST_RANGES = 16
_MOST_SECTORS = MAX_BYTES // SECTOR  # of one discard or write-zeroes range: they take time where the host must write


class Blk(VirtioDevice):
    """The disk `disk`, with up to 20 bytes of ASCII as `serial`. Its loop should be its own: reads and writes take place
    there."""

    NAME = "virtio-blk"
    ID = 2
    QUEUES = (256,)

    def __init__(self, memory: GuestRam, loop: Loop, disk: Disk, serial: str = "") -> None:
        super().__init__(memory, loop)
        self.disk = disk
        self._serial = serial.encode("ascii", "replace")[:_ID_SIZE].ljust(_ID_SIZE, b"\0")
        self.features |= SEG_MAX | BLK_SIZE | FLUSH
        self.features |= RO if disk.readonly else DISCARD | WRITE_ZEROES

    def config(self) -> bytes:
        """Capacity and limits."""
        writable = not self.disk.readonly
        return _CONFIG.pack(
            self.disk.size // SECTOR, 0, self.QUEUES[0] - 2, 0, SECTOR, 0, 0, 0, 1,
            _MOST_SECTORS if writable else 0, _MOST_RANGES if writable else 0, 8,
            _MOST_SECTORS if writable else 0, _MOST_RANGES if writable else 0, 1,
        )  # fmt: skip

    def process(self, index: int) -> None:
        """Do all requests."""
        self.drain(index, self._request)

    def close(self) -> None:
        """Flush and close the disk."""
        self.disk.close()

    def _request(self, chain: Chain) -> int:
        room = chain.writable_size
        if chain.readable_size < _HEADER.size or not room:
            raise RingError("a request without header or status")
        kind, _, sector = _HEADER.unpack(chain.read(_HEADER.size))
        try:
            status, written = self._do(kind, sector, chain, room - 1)
        except OSError:
            status, written = IOERR, 0
        chain.write(bytes((status,)), room - 1)
        return written + 1 if written == room - 1 else written

    def _do(self, kind: int, sector: int, chain: Chain, room: int) -> tuple[int, int]:
        """The status, and how many bytes of data were written to the driver's buffers."""
        if kind == IN:
            if not self._inside(sector, room):
                return IOERR, 0
            self.disk.read(sector * SECTOR, slices(chain.writable, 0, room))
            return OK, room
        if kind == GET_ID:
            return OK, chain.write(self._serial[:room])
        if kind == T_FLUSH:
            self.disk.flush()
            return OK, 0
        if kind not in (OUT, T_DISCARD, T_WRITE_ZEROES):
            return UNSUPP, 0
        if self.disk.readonly:
            return IOERR, 0
        size = chain.readable_size - _HEADER.size
        if kind != OUT:
            return self._ranges(kind, slices(chain.readable, _HEADER.size, size), size), 0
        if not self._inside(sector, size):
            return IOERR, 0
        self.disk.write(sector * SECTOR, slices(chain.readable, _HEADER.size, size))
        if not self.has(FLUSH):
            self.disk.flush()  # section 5.2.5.2: a driver that cannot ask for it relies on it
        return OK, 0

    def _ranges(self, kind: int, parts: list[memoryview], size: int) -> int:
        if not 0 < size <= _MOST_RANGES * _RANGE.size or size % _RANGE.size:
            return IOERR
        ranges = list(_RANGE.iter_unpack(b"".join(parts)))
        for first, count, flags in ranges:
            if flags & ~(1 if kind == T_WRITE_ZEROES else 0):
                return UNSUPP
            if count > _MOST_SECTORS or not self._inside(first, count * SECTOR):
                return IOERR
        for first, count, flags in ranges:
            if count:
                self.disk.zero(first * SECTOR, count * SECTOR, kind == T_DISCARD or bool(flags & 1))
        return OK

    def _inside(self, sector: int, size: int) -> bool:
        return size % SECTOR == 0 and sector * SECTOR + size <= self.disk.size
