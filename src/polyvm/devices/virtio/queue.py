"""Split virtqueues, the device's side (Virtio 1.2, section 2.7).

    descriptor table   16 bytes an entry: address u64, length u32, flags u16 (1 next, 2 device writes, 4 indirect), next u16
    available ring     flags u16 (1 no interrupt), index u16, head u16 × size, used_event u16
    used ring          flags u16 (1 no notification), index u16, (head u32, written u32) × size, avail_event u16

The guest may write to all of it at any time. Each field is read once and checked as read; a chain is bounded in its descriptors
and in its bytes, and every buffer is a view of guest memory that was checked to be wholly inside of it. What breaks the rules
is a `RingError`, which puts the device into the state "needs reset".
"""

from __future__ import annotations

import struct
import threading
from typing import Protocol

from polyvm.errors import MemoryFault

NEXT, WRITE, INDIRECT = 1, 2, 4
_NO_INTERRUPT = 1
_NO_NOTIFY = 1
MAX_SIZE = 1024
"""Descriptors of the largest queue; a chain may not be longer, indirect ones included."""
MAX_BYTES = 64 << 20
"""Bytes that one chain may have."""

_DESCRIPTOR = struct.Struct("<QIHH")
_USED = struct.Struct("<II")
_U16 = struct.Struct("<H")


class GuestRam(Protocol):
    """What devices need of guest-physical memory."""

    def view(self, address: int, size: int, *, write: bool = True) -> memoryview:
        """Bytes of guest memory without a copy; MemoryFault where not all of them are in one region of it."""
        ...


class RingError(Exception):
    """The driver broke the rules; the message says how."""


class Chain:
    """One request: the buffers that the device reads, then those that it writes, in the driver's order."""

    __slots__ = ("head", "readable", "writable")

    def __init__(self, head: int) -> None:
        self.head = head
        self.readable: list[memoryview] = []
        self.writable: list[memoryview] = []

    @property
    def readable_size(self) -> int:
        """Bytes of all buffers that the device reads."""
        return sum(map(len, self.readable))

    @property
    def writable_size(self) -> int:
        """Bytes of all buffers that the device may write."""
        return sum(map(len, self.writable))

    def read(self, limit: int = MAX_BYTES) -> bytes:
        """A copy of the first `limit` bytes that the driver gave."""
        if len(self.readable) == 1:
            return bytes(self.readable[0][:limit])
        out = bytearray()
        for part in self.readable:
            out += part[: limit - len(out)]
            if len(out) >= limit:
                break
        return bytes(out)

    def write(self, data: bytes | bytearray | memoryview, at: int = 0) -> int:
        """Put `data` into the driver's buffers from byte `at` on; how many bytes fitted."""
        rest = memoryview(data)
        written = 0
        for part in self.writable:
            if at >= len(part):
                at -= len(part)
                continue
            count = min(len(part) - at, len(rest))
            part[at : at + count] = rest[:count]
            rest = rest[count:]
            written += count
            at = 0
            if not rest:
                break
        return written


def slices(parts: list[memoryview], start: int, size: int) -> list[memoryview]:
    """The pieces of `parts`, laid end to end, from byte `start` on, `size` bytes or what there is."""
    found: list[memoryview] = []
    for part in parts:
        if size <= 0:
            break
        if start >= len(part):
            start -= len(part)
            continue
        piece = part[start : start + size]
        found.append(piece)
        size -= len(piece)
        start = 0
    return found


class Queue:
    """One virtqueue of at most `max_size` descriptors. The transport sets what the driver chose and calls `enable`."""

    def __init__(self, memory: GuestRam, max_size: int = 256) -> None:
        self._memory = memory
        self.max_size = max_size
        self._fence = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """As before the driver set it up."""
        self.size = self.max_size
        self.descriptors = self.available = self.used = 0  # addresses
        self.ready = False
        self.event_index = self.indirect = False
        self._next = 0  # of the available ring
        self._done = 0  # of the used ring
        self._signalled = 0  # what _done was at the last interrupt
        self._table = self._avail = self._ring = memoryview(b"")

    def enable(self, event_index: bool, indirect: bool) -> None:
        """Begin to use it. Raises RingError where size or addresses cannot be."""
        if not 0 < self.size <= self.max_size or self.size & (self.size - 1):
            raise RingError(f"a queue cannot have {self.size} descriptors")
        for name, address, align in (
            ("descriptor table", self.descriptors, 16),
            ("available ring", self.available, 2),
            ("used ring", self.used, 4),
        ):
            if address % align:
                raise RingError(f"the {name} at {address:#x} is not aligned to {align} bytes")
        self.event_index, self.indirect = event_index, indirect
        try:
            self._table = self._memory.view(self.descriptors, 16 * self.size, write=False)
            self._avail = self._memory.view(self.available, 6 + 2 * self.size, write=False)
            self._ring = self._memory.view(self.used, 6 + 8 * self.size)
        except MemoryFault as error:
            raise RingError(f"a ring is not in guest memory: {error}") from None
        self.ready = True

    def pop(self) -> Chain | None:
        """The next request, or None."""
        if not self.ready:
            return None
        index: int = _U16.unpack_from(self._avail, 2)[0]
        waiting = index - self._next & 0xFFFF
        if waiting == 0:
            return None
        if waiting > self.size:
            raise RingError(f"the available index jumps from {self._next} to {index} in a queue of {self.size}")
        head: int = _U16.unpack_from(self._avail, 4 + 2 * (self._next & self.size - 1))[0]
        chain = self._walk(head)
        self._next = self._next + 1 & 0xFFFF
        return chain

    def unpop(self) -> None:
        """Give the last chain back to the available ring: `pop` will return it again."""
        self._next = self._next - 1 & 0xFFFF

    def pending(self) -> bool:
        """Whether there is a request."""
        return self.ready and bool(_U16.unpack_from(self._avail, 2)[0] != self._next)

    def push(self, chain: Chain, written: int) -> None:
        """Give a request back; the device wrote its first `written` bytes."""
        if not self.ready:
            return  # reset while the device was at it
        _USED.pack_into(self._ring, 4 + 8 * (self._done & self.size - 1), chain.head, written)
        self._done = self._done + 1 & 0xFFFF
        # A store of two bytes through struct is one store of the host; x86 and the lock below keep the order.
        with self._fence:
            _U16.pack_into(self._ring, 2, self._done)

    def needs_interrupt(self) -> bool:
        """Whether the driver wants to hear of what was pushed since it was last told (sections 2.7.7, 2.7.10)."""
        if not self.ready or self._done == self._signalled:
            return False
        with self._fence:  # the used index is visible before what the driver wants is read
            if self.event_index:
                event: int = _U16.unpack_from(self._avail, 4 + 2 * self.size)[0]
                wanted = self._done - event - 1 & 0xFFFF < self._done - self._signalled & 0xFFFF
            else:
                wanted = not _U16.unpack_from(self._avail, 0)[0] & _NO_INTERRUPT
        self._signalled = self._done
        return wanted

    def notifications(self, on: bool) -> None:
        """Ask the driver to notify of new requests, or not to (sections 2.7.7, 2.7.10). After asking, look once more."""
        if not self.ready:
            return
        with self._fence:
            if self.event_index:
                if on:
                    _U16.pack_into(self._ring, 4 + 8 * self.size, self._next)
            else:
                _U16.pack_into(self._ring, 0, 0 if on else _NO_NOTIFY)

    def _walk(self, head: int) -> Chain:
        chain = Chain(head)
        table, count = self._table, self.size
        at, seen, total = head, 0, 0
        inside = False
        while True:
            if at >= count:
                raise RingError(f"descriptor {at} of a table of {count}")
            address, length, flags, following = _DESCRIPTOR.unpack_from(table, 16 * at)
            if flags & INDIRECT:
                if inside or flags & NEXT or not self.indirect:
                    raise RingError("an indirect descriptor where none may be")
                count = length // 16
                if length % 16 or not 0 < count <= MAX_SIZE:
                    raise RingError(f"an indirect table of {length} bytes")
                table, at, inside = self._view(address, length, write=False), 0, True
                continue
            seen += 1
            total += length
            if seen > (MAX_SIZE if inside else self.size):
                raise RingError("a chain that does not end")
            if total > MAX_BYTES:
                raise RingError(f"a chain of more than {MAX_BYTES} bytes")
            if flags & WRITE:
                if length:
                    chain.writable.append(self._view(address, length))
            elif chain.writable:
                raise RingError("a buffer to read after one to write")
            elif length:
                chain.readable.append(self._view(address, length, write=False))
            if not flags & NEXT:
                return chain
            at = following

    def _view(self, address: int, length: int, *, write: bool = True) -> memoryview:
        try:
            return self._memory.view(address, length, write=write)
        except MemoryFault as error:
            raise RingError(f"a buffer is not in guest memory: {error}") from None
