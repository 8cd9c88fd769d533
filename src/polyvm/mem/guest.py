"""Guest physical memory: one shared mapping of the host, shown to the guest in regions.

The mapping is a memfd where the host has them, so that accelerators, other processes (vhost-user) and copy-on-write snapshots can
share it. Whatever address a guest gives a device, reads and writes here stay inside of one region, or raise MemoryFault.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import threading
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from polyvm.errors import MemoryFault, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE_BITS = 12
PAGE_SIZE = 1 << PAGE_BITS
_HUGE = 2 << 20
_F_ADD_SEALS, _SEALS = 1033, 0x1 | 0x2 | 0x4  # fcntl(2): no more seals, neither shorter nor longer
_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Region:
    """`size` bytes of guest physical memory at `address`; they lie at `offset` in the mapping, and at `host` in this process.

    The guest cannot write to a read-only region; polyvm can (that is how firmware comes in).
    """

    address: int
    size: int
    offset: int
    host: int
    readonly: bool = False
    name: str = "ram"

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + self.size


class GuestMemory:
    """All memory of one machine.

    >>> memory = GuestMemory([(0, 0xA0000), (0x100000, 16 << 20)])
    >>> memory.write_u32(0x1000, 0x12345678)
    >>> memory.read(0x1000, 2).hex()
    '7856'

    `ranges` are (address, size), in whole pages; `readonly` are the addresses of those that the guest cannot write to. Pages
    come into
    being when they are first touched.
    """

    def __init__(
        self, ranges: Iterable[tuple[int, int]], *, readonly: Iterable[int] = (), names: dict[int, str] | None = None
    ) -> None:
        wanted = sorted(ranges)
        if not wanted:
            raise UsageError("guest memory needs at least one range")
        for (address, size), following in zip(wanted, [*wanted[1:], None]):
            if size <= 0 or address < 0 or (address | size) & (PAGE_SIZE - 1) or address + size > 1 << 52:
                raise UsageError(f"guest memory comes in pages of 4096 bytes below 2**52, not {size:#x} bytes at {address:#x}")
            if following is not None and address + size > following[0]:
                raise UsageError(f"the ranges of guest memory at {address:#x} and {following[0]:#x} overlap")
        firm, names = set(readonly), names or {}
        # Large ranges begin at a multiple of 2 MiB in the mapping if they do so for the guest: huge pages on both sides then.
        offsets: list[int] = []
        total = 0
        for address, size in wanted:
            if size >= _HUGE:
                total += (address - total) % _HUGE
            offsets.append(total)
            total += size
        self.size = total
        self.fd = _memory_file(total)
        self._map = mmap.mmap(self.fd, total) if self.fd >= 0 else mmap.mmap(-1, total)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._view = memoryview(self._map)
        self.host = base
        self.regions = tuple(
            Region(address, size, offset, base + offset, address in firm, names.get(address, "rom" if address in firm else "ram"))
            for (address, size), offset in zip(wanted, offsets)
        )
        self._starts = [region.address for region in self.regions]
        first = self.regions[0]
        self._last = (first.address, first.end, first.offset - first.address)
        self._dirty: bytearray | None = None
        self._pins = 0
        self._lock = threading.Lock()
        self._closed = False

    # -- places -----------------------------------------------------------------------------------------------

    def find(self, address: int) -> Region | None:
        """The region that has `address`."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        region = self.regions[index]
        return region if address < region.end else None

    def _place(self, address: int, size: int, access: str) -> int:
        """The offset of an access in the mapping."""
        begin, end, delta = self._last
        if not begin <= address <= address + size <= end:
            region = self.find(address)
            if region is None or size < 0:
                raise MemoryFault(address, access, size)
            if address + size > region.end:
                raise MemoryFault(region.end, access, size)
            self._last = (region.address, region.end, delta := region.offset - region.address)
        return address + delta

    def contains(self, address: int, size: int) -> bool:
        """Whether all `size` bytes lie in one region."""
        region = self.find(address)
        return region is not None and 0 <= size <= region.end - address

    def host_address(self, address: int, size: int = 1) -> int:
        """Where `size` bytes lie in this process; raises MemoryFault unless they are in one region."""
        return self.host + self._place(address, size, "r")

    # -- bytes ------------------------------------------------------------------------------------------------

    def read(self, address: int, size: int) -> bytes:
        """A copy of `size` bytes."""
        at = self._place(address, size, "r")
        return self._map[at : at + size]

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes, to read-only regions too."""
        size = len(data)
        at = self._place(address, size, "w")
        self._map[at : at + size] = data
        if self._dirty is not None and size:
            self._mark(at, size)

    def view(self, address: int, size: int, *, write: bool = True) -> memoryview:
        """`size` bytes without a copy. With `write` the pages count as written to. To be let go before `close`."""
        at = self._place(address, size, "w" if write else "r")
        if write and self._dirty is not None and size:
            self._mark(at, size)
        found = self._view[at : at + size]
        return found if write else found.toreadonly()

    def fill(self, address: int, size: int, value: int = 0) -> None:
        """Set all of a range to one byte."""
        view = self.view(address, size)
        chunk = bytes([value]) * min(size, 1 << 20)
        for at in range(0, size, 1 << 20):
            view[at : at + (1 << 20)] = chunk[: size - at]
        view.release()

    # -- integers, little-endian ------------------------------------------------------------------------------

    def read_u8(self, address: int) -> int:
        """One byte."""
        return self._map[self._place(address, 1, "r")]

    def read_u16(self, address: int) -> int:
        """Two bytes, at any alignment."""
        found: int = _U16.unpack_from(self._map, self._place(address, 2, "r"))[0]
        return found

    def read_u32(self, address: int) -> int:
        """Four bytes, at any alignment."""
        found: int = _U32.unpack_from(self._map, self._place(address, 4, "r"))[0]
        return found

    def read_u64(self, address: int) -> int:
        """Eight bytes, at any alignment."""
        found: int = _U64.unpack_from(self._map, self._place(address, 8, "r"))[0]
        return found

    def write_u8(self, address: int, value: int) -> None:
        """One byte; what does not fit is cut off, here and below."""
        self.write(address, (value & 0xFF).to_bytes(1, "little"))

    def write_u16(self, address: int, value: int) -> None:
        """Two bytes."""
        self._pack(_U16, address, 2, value & 0xFFFF)

    def write_u32(self, address: int, value: int) -> None:
        """Four bytes."""
        self._pack(_U32, address, 4, value & 0xFFFF_FFFF)

    def write_u64(self, address: int, value: int) -> None:
        """Eight bytes."""
        self._pack(_U64, address, 8, value & 0xFFFF_FFFF_FFFF_FFFF)

    def _pack(self, form: struct.Struct, address: int, size: int, value: int) -> None:
        at = self._place(address, size, "w")
        form.pack_into(self._map, at, value)
        if self._dirty is not None:
            self._mark(at, size)

    # -- dirty pages ------------------------------------------------------------------------------------------

    def track_dirty(self, wanted: bool) -> None:
        """Begin (with nothing dirty) or end noting what is written here; for what the guest writes see `merge_dirty`."""
        self._dirty = bytearray(-(-(self.size >> PAGE_BITS) // 8)) if wanted else None

    def _mark(self, at: int, size: int) -> None:
        with self._lock:
            dirty = self._dirty
            if dirty is not None:
                for page in range(at >> PAGE_BITS, (at + size - 1 >> PAGE_BITS) + 1):
                    dirty[page >> 3] |= 1 << (page & 7)

    def merge_dirty(self, address: int, bitmap: bytes) -> None:
        """Note pages from `address` on that the guest wrote to, a bit for each, lowest bit first."""
        if self._dirty is None or not any(bitmap):
            return
        pages = int.from_bytes(bitmap, "little")
        first = self._place(address, 1, "w") >> PAGE_BITS
        with self._lock:
            have = int.from_bytes(self._dirty, "little") | pages << first
            self._dirty[:] = (have & (1 << 8 * len(self._dirty)) - 1).to_bytes(len(self._dirty), "little")

    def take_dirty(self) -> list[int]:
        """The guest addresses of all pages written to since the last call, in order."""
        with self._lock:
            if self._dirty is None:
                raise UsageError("writes to guest memory are not being noted: call track_dirty(True) first")
            taken = bytes(self._dirty)
            self._dirty[:] = bytes(len(taken))
        return list(self._pages(taken))

    def _pages(self, bitmap: bytes) -> Iterator[int]:
        for region in self.regions:
            first = region.offset >> PAGE_BITS
            for page in range(region.size >> PAGE_BITS):
                at = first + page
                if bitmap[at >> 3] >> (at & 7) & 1:
                    yield region.address + (page << PAGE_BITS)

    # -- life -------------------------------------------------------------------------------------------------

    def pin(self) -> None:
        """Keep the mapping although `close` is called: an accelerator uses its addresses."""
        with self._lock:
            if self._closed:
                raise UsageError("this guest memory is closed")
            self._pins += 1

    def unpin(self) -> None:
        """The reverse of `pin`."""
        with self._lock:
            self._pins -= 1
        if self._closed:
            self._free()

    def close(self) -> None:
        """Give the memory back, as soon as nothing uses it any more."""
        self._closed = True
        self._free()

    def _free(self) -> None:
        with self._lock:
            if self._pins > 0:
                return
            fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        self._view.release()
        try:
            self._map.close()
        except BufferError:
            pass  # someone still has a view; the mapping goes with the last one

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        ranges = ", ".join(f"{region.address:#x}+{region.size:#x}" for region in self.regions)
        return f"<GuestMemory {ranges}{', closed' if self._closed else ''}>"


def _memory_file(size: int) -> int:
    """A sealed memfd (memfd_create(2)) of `size` bytes; -1 where the host has none."""
    create = getattr(os, "memfd_create", None)
    if create is None:
        return -1
    fd: int = create("polyvm-guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        import fcntl

        fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd
