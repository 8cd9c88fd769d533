"""`Arena`: the memory of a user-mode guest.

One reserved host mapping; guest address a lies at host address base + a. What the guest may do with a page is in the attribute
table. File mappings are real host mappings at their place.

In a guarded arena the host protects its pages as the table says, so that native code may access them without a look at it,
where a signal handler takes care of what the host refuses (`linux/host.py`). The table is never less strict than the host.
Otherwise the host's pages stay readable and writable, and every access checks the table. So it does, too, once a guest has kept
writing to pages that it executes code from (`traps`): protecting a page takes much longer than a look at the table.
"""

from __future__ import annotations

import _thread
import ctypes
import mmap as _mmap
from bisect import bisect_right

from polyvm.errors import MemoryFault
from polyvm.mem.attributes import (
    CODE,
    EXEC,
    FAST_TABLE,
    GUARD,
    HOST_TABLE,
    OPEN_TABLE,
    PAGE_BITS,
    PAGE_MASK,
    PAGE_SIZE,
    READ,
    SIZE_BITS,
    WATCH_R,
    WATCH_W,
    WRITE,
)
from polyvm.mem.host import MAP_FIXED, MAP_NORESERVE, host_grow, host_mmap, host_move, host_mprotect, host_mremap, host_munmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_NEED = {"r": READ, "w": WRITE, "x": EXEC, "rw": READ | WRITE}
_PROT_RW = _mmap.PROT_READ | _mmap.PROT_WRITE
_MOST_TURNS = 400
_ANON = _mmap.MAP_PRIVATE | _mmap.MAP_ANONYMOUS | MAP_NORESERVE


def page_ceil(value: int) -> int:
    """`value` rounded up to a whole number of pages."""
    return (value + PAGE_MASK) & ~PAGE_MASK


class Mapping:
    """One entry of the guest's memory map: [start, end), protection bits as in attributes, what backs it."""

    __slots__ = ("end", "offset", "path", "prot", "shared", "start")

    def __init__(self, start: int, end: int, prot: int, shared: bool, offset: int, path: str) -> None:
        self.start = start
        self.end = end
        self.prot = prot
        self.shared = shared
        self.offset = offset
        self.path = path

    def piece(self, start: int, end: int, prot: int | None = None) -> Mapping:
        """The part [start, end) of it, perhaps with another protection."""
        offset = self.offset + (start - self.start) if self.path.startswith("/") else self.offset
        return Mapping(start, end, self.prot if prot is None else prot, self.shared, offset, self.path)

    def joins(self, other: Mapping) -> bool:
        """True if `other` goes on where this ends, alike in everything."""
        return (
            self.end == other.start
            and self.prot == other.prot
            and self.shared == other.shared
            and self.path == other.path
            and (not self.path.startswith("/") or self.offset + self.end - self.start == other.offset)
        )


class Arena:
    """Guest memory of 2**SIZE_BITS bytes.

    `base` is the host address of guest address 0, `attributes` that of the attribute table, `epoch` that of a 64-bit number
    that changes with pages with decoded code: generated code counts in its lower half, this class in the upper one. Safe
    to use from several threads.
    """

    def __init__(self, *, guarded: bool = False) -> None:
        self.size = 1 << SIZE_BITS
        self._pages = self.size >> PAGE_BITS
        self.guarded = guarded
        self.traps = guarded  # the host refuses what the table does not allow fast, stores to code included
        self._turns = 0  # how often pages were protected for code, and opened for stores
        self._spare = 0 if guarded else _PROT_RW  # the host's protection of what is not mapped
        self._reserve = host_mmap(0, self.size + 2 * GUARD, self._spare, _ANON, -1, 0)
        self.base = self._reserve + GUARD
        # One more page holds the epoch, beside the table so that both live as long.
        self.attributes = host_mmap(0, self._pages + PAGE_SIZE, _PROT_RW, _ANON, -1, 0)
        self.epoch = self.attributes + self._pages
        self._table = (ctypes.c_uint8 * self._pages).from_address(self.attributes)
        self._view = memoryview(self._table).cast("B")
        self._changes = ctypes.c_uint32.from_address(self.epoch + 4)
        self._changes.value = 1
        self._mappings: list[Mapping] = []
        self._starts: list[int] = []
        self.lock = _thread.RLock()
        self.low = 0x10000  # mappings without a wished address stay above this
        self.top = self.size - (1 << 30)  # and below this

    def close(self) -> None:
        """Give the host memory back; no access may follow."""
        if self.base:
            host_munmap(self._reserve, self.size + 2 * GUARD)
            host_munmap(self.attributes, self._pages + PAGE_SIZE)
            self.base = 0

    # -- checked access ---------------------------------------------------------------------------------------

    def _refuse(self, address: int, size: int, access: str) -> MemoryFault:
        need = _NEED[access]
        if 0 <= address < self.size:
            page = address >> PAGE_BITS
            last = min(address + size - 1, self.size - 1) >> PAGE_BITS
            while page <= last and self._table[page] & need == need:
                page += 1
            address = max(address, page << PAGE_BITS)
        return MemoryFault(address, "w" if access == "rw" else access, size)

    def check(self, address: int, size: int, access: str = "r") -> bool:
        """True if the guest may access all of [address, address + size)."""
        if size <= 0:
            return size == 0
        if address < 0 or address + size > self.size:
            return False
        need = _NEED[access]
        first, last = address >> PAGE_BITS, (address + size - 1) >> PAGE_BITS
        table = self._table
        if first == last:
            return table[first] & need == need
        return all(value & need == need for value in set(ctypes.string_at(self.attributes + first, last - first + 1)))

    def host(self, address: int, size: int, access: str = "r") -> int:
        """Host address of guest memory that the guest may access; raises MemoryFault.

        With access ``"w"`` decoded code on these pages is invalidated, since the host is about to write there.
        """
        if not self.check(address, size, access):
            raise self._refuse(address, size, access)
        if access != "r" and size:
            self._written(address, size)
        return self.base + address

    def _written(self, address: int, size: int) -> None:
        first, last = address >> PAGE_BITS, (address + size - 1) >> PAGE_BITS
        for page in range(first, last + 1):
            if self._table[page] & CODE:
                with self.lock:
                    self._touch_code(first, last + 1)
                return

    def _touch_code(self, first: int, end: int) -> None:
        """Pages [first, end) change: where code was decoded from them, it is void."""
        start = self.attributes + first
        old = ctypes.string_at(start, end - first)
        new = bytes(FAST_TABLE[value & ~CODE] for value in old) if len(old) < 64 else old.translate(_UNCODE)
        if new != old:
            if self.guarded:
                self._protect_as(first, new)
            self._enter(first, new)

    def _enter(self, first: int, attributes: bytes) -> None:
        """Set the `attributes` of pages from `first` on; what was decoded is void. In this order, and without a moment in which
        another thread has the interpreter lock: native code may have marked a page as one with code since the table was read."""
        self._view[first : first + len(attributes)] = attributes
        self._void()

    def _void(self) -> None:
        """All decoded code is void. Native code adds to the epoch's lower half meanwhile, so this counts in the upper one; under
        the lock."""
        self._changes.value += 1

    def mark_code(self, address: int) -> None:
        """From here on the host, too, refuses stores to the page of `address`: code is about to be decoded from it."""
        page = address >> PAGE_BITS
        with self.lock:
            self._table[page] = FAST_TABLE[self._table[page] | CODE]
            if self.guarded:
                self._protect_as(page, bytes([self._table[page]]))
            self._turn()

    def unmark_code(self, address: int, size: int) -> None:
        """A store to [address, address + size) is about to be made: what was decoded there is void."""
        with self.lock:
            self._touch_code(address >> PAGE_BITS, (address + size - 1 >> PAGE_BITS) + 1)
            self._turn()

    def _turn(self) -> None:
        self._turns += 1
        if self._turns > _MOST_TURNS and self.traps:
            self.traps = False
            self._void()

    def _protect_as(self, first: int, attributes: bytes) -> None:
        """Protect pages from `first` on, on the host, as their `attributes` say."""
        at, whole = 0, attributes.translate(HOST_TABLE if self.traps else OPEN_TABLE)
        while at < len(whole):
            length = len(whole) - at - len(whole[at:].lstrip(whole[at : at + 1]))
            host_mprotect(self.base + (first + at << PAGE_BITS), length << PAGE_BITS, whole[at])
            at += length

    def reguard(self, address: int, end: int) -> None:
        """Protect [address, end) again, where the signal handler has let native code go on with an access that raced with a
        change of the map. If that was a page with code, the code is void."""
        first, last = max(0, address) >> PAGE_BITS, min(end - 1, self.size - 1) >> PAGE_BITS
        with self.lock:
            self._touch_code(first, last + 1)
            self._protect_as(first, ctypes.string_at(self.attributes + first, last + 1 - first))

    def read(self, address: int, size: int) -> bytes:
        """Guest memory as bytes; raises MemoryFault."""
        if size <= 0:
            return b""
        return ctypes.string_at(self.host(address, size, "r"), size)

    def write(self, address: int, data: bytes) -> None:
        """Write guest memory; raises MemoryFault and then nothing is written."""
        if data:
            ctypes.memmove(self.host(address, len(data), "w"), data, len(data))

    def poke(self, address: int, data: bytes) -> None:
        """Write guest memory whatever its protection, as a loader or debugger does; raises MemoryFault outside the arena."""
        if address < 0 or address + len(data) > self.size:
            raise MemoryFault(address, "w", len(data))
        if data:
            opened = self._open(address, len(data), _PROT_RW)
            ctypes.memmove(self.base + address, data, len(data))
            if opened:
                self._shut(address, len(data))
            self._written(address, len(data))

    def peek(self, address: int, size: int) -> bytes:
        """Guest memory whatever its protection; raises MemoryFault outside the arena."""
        if address < 0 or address + size > self.size:
            raise MemoryFault(address, "r", size)
        if size <= 0:
            return b""
        opened = self._open(address, size, _mmap.PROT_READ)
        data = ctypes.string_at(self.base + address, size)
        if opened:
            self._shut(address, size)
        return data

    def _open(self, address: int, size: int, protection: int) -> bool:
        """Let the host access [address, address + size), whatever the guest may; True if `_shut` has to undo it."""
        first, last = address >> PAGE_BITS, (address + size - 1) >> PAGE_BITS
        attributes = ctypes.string_at(self.attributes + first, last + 1 - first)
        if not self.guarded or all(value & protection == protection for value in set(attributes.translate(HOST_TABLE))):
            return False
        self.lock.acquire()
        try:
            host_mprotect(self.base + (first << PAGE_BITS), last + 1 - first << PAGE_BITS, protection)
        except OSError:
            self.lock.release()
            raise MemoryFault(address, "w", size) from None
        return True

    def _shut(self, address: int, size: int) -> None:
        first, last = address >> PAGE_BITS, (address + size - 1) >> PAGE_BITS
        self._protect_as(first, ctypes.string_at(self.attributes + first, last + 1 - first))
        self.lock.release()

    def read_cstring(self, address: int, limit: int = 1 << 20) -> bytes:
        """The bytes before the next NUL; raises MemoryFault, also where none comes within `limit`."""
        parts: list[bytes] = []
        length = 0
        while length < limit:
            chunk = PAGE_SIZE - (address & PAGE_MASK)
            data = self.read(address, chunk)
            end = data.find(0)
            if end >= 0:
                parts.append(data[:end])
                return b"".join(parts)
            parts.append(data)
            length += chunk
            address += chunk
        raise MemoryFault(address, "r", 1)

    # -- the map ----------------------------------------------------------------------------------------------

    def _set_attributes(self, start: int, end: int, prot: int) -> None:
        first, last = start >> PAGE_BITS, end >> PAGE_BITS
        old = bytes(self._view[first:last])
        watch = WATCH_R | WATCH_W
        if prot and any(value & watch for value in set(old)):
            new = bytes(FAST_TABLE[value & watch | prot] for value in old)
        else:
            new = FAST_TABLE[prot : prot + 1] * len(old)
        old = bytes(self._view[first:last])  # native code may have marked some meanwhile
        self._view[first:last] = new
        if any(value & CODE for value in set(old)):
            self._void()

    def _cut(self, start: int, end: int) -> list[Mapping]:
        """Take [start, end) out of the list; what was there, in pieces."""
        index = max(0, bisect_right(self._starts, start) - 1)
        taken: list[Mapping] = []
        kept: list[Mapping] = []
        first = index
        while index < len(self._mappings) and self._mappings[index].start < end:
            mapping = self._mappings[index]
            if mapping.end <= start:
                kept.append(mapping)
            else:
                if mapping.start < start:
                    kept.append(mapping.piece(mapping.start, start))
                taken.append(mapping.piece(max(start, mapping.start), min(end, mapping.end)))
                if mapping.end > end:
                    kept.append(mapping.piece(end, mapping.end))
            index += 1
        self._mappings[first:index] = kept
        self._starts[first:index] = [m.start for m in kept]
        return taken

    def _insert(self, mapping: Mapping) -> None:
        index = bisect_right(self._starts, mapping.start)
        if index < len(self._mappings) and mapping.joins(self._mappings[index]):
            mapping = Mapping(mapping.start, self._mappings[index].end, mapping.prot, mapping.shared, mapping.offset,
                              mapping.path)  # fmt: skip
            del self._mappings[index], self._starts[index]
        if index and self._mappings[index - 1].joins(mapping):
            self._mappings[index - 1].end = mapping.end
            return
        self._mappings.insert(index, mapping)
        self._starts.insert(index, mapping.start)

    def inside(self, address: int, length: int) -> bool:
        """True if [address, address + length) lies in the arena."""
        return address >= 0 and length >= 0 and address + length <= self.size

    def free(self, address: int, length: int) -> bool:
        """True if nothing is mapped in [address, address + length)."""
        with self.lock:
            index = bisect_right(self._starts, address)
            if index and self._mappings[index - 1].end > address:
                return False
            return index >= len(self._starts) or self._starts[index] >= address + length

    def find_free(self, length: int, hint: int = 0) -> int | None:
        """An address for `length` bytes: `hint` if it is free, else the highest place below `top`; None if there is none."""
        with self.lock:
            hint &= ~PAGE_MASK
            if hint >= self.low and self.inside(hint, length) and self.free(hint, length):
                return hint
            end = self.top
            for mapping in reversed(self._mappings):
                if mapping.start >= end:
                    continue
                if end - mapping.end >= length:
                    return end - length
                end = mapping.start
            return end - length if end - length >= self.low else None

    def map(
        self, address: int | None, length: int, prot: int, *, fd: int = -1, offset: int = 0, shared: bool = False,
        path: str = "", hint: int = 0,
    ) -> int:  # fmt: skip
        """Map `length` bytes (rounded up to pages) at `address`, replacing what is there, or at a free place.

        `prot` is a combination of READ, WRITE, EXEC. With `fd` the file's content from `offset` on, shared or private. Raises
        OSError as mmap(2) does.
        """
        length = page_ceil(length)
        with self.lock:
            if address is None:
                address = self.find_free(length, hint)
                if address is None:
                    raise OSError(12, "guest address space exhausted")
            elif address & PAGE_MASK or length == 0 or not self.inside(address, length):
                raise OSError(22 if address & PAGE_MASK or length == 0 else 12, "bad guest address or length")
            host = self.base + address
            self._set_attributes(address, address + length, 0)
            if fd >= 0:
                self._map_file(host, length, prot, fd, offset, shared)
            else:
                kind = _mmap.MAP_SHARED | _mmap.MAP_ANONYMOUS if shared else _ANON
                host_mmap(host, length, self._protection(prot), kind | MAP_FIXED, -1, 0)
            self._cut(address, address + length)
            self._insert(Mapping(address, address + length, prot, shared, offset, path))
            self._set_attributes(address, address + length, prot)
            return address

    def _protection(self, prot: int) -> int:
        """The host's protection of pages that the guest may access as `prot` says."""
        return HOST_TABLE[prot] if self.guarded else _PROT_RW

    def _map_file(self, host: int, length: int, prot: int, fd: int, offset: int, shared: bool) -> None:
        flags = (_mmap.MAP_SHARED if shared else _mmap.MAP_PRIVATE | MAP_NORESERVE) | MAP_FIXED
        try:
            host_mmap(host, length, self._protection(prot), flags, fd, offset)
        except PermissionError:
            # A shared mapping of a file that is open for reading only cannot be writable, on the host either.
            if not shared or prot & WRITE:
                raise
            host_mmap(host, length, _mmap.PROT_READ, flags, fd, offset)

    def unmap(self, address: int, length: int) -> None:
        """Take [address, address + length) away from the guest; what was there is gone."""
        length = page_ceil(length)
        with self.lock:
            if address & PAGE_MASK or length == 0 or not self.inside(address, length):
                raise OSError(22, "bad guest address or length")
            taken = self._cut(address, address + length)
            for mapping in taken:
                self._set_attributes(mapping.start, mapping.end, 0)
                host_mmap(self.base + mapping.start, mapping.end - mapping.start, self._spare, _ANON | MAP_FIXED, -1, 0)

    def protect(self, address: int, length: int, prot: int) -> None:
        """Change the protection of mapped pages; raises OSError ENOMEM where nothing is mapped."""
        length = page_ceil(length)
        with self.lock:
            if address & PAGE_MASK:
                raise OSError(22, "bad guest address")
            if length == 0:
                return
            if not self.inside(address, length):
                raise OSError(12, "bad guest address or length")
            taken = self._cut(address, address + length)
            covered = 0
            for mapping in taken:
                if self.guarded:
                    self._set_attributes(mapping.start, mapping.end, mapping.prot & prot)
                    host_mprotect(self.base + mapping.start, mapping.end - mapping.start, HOST_TABLE[prot])
                self._set_attributes(mapping.start, mapping.end, prot)
                self._insert(mapping.piece(mapping.start, mapping.end, prot))
                covered += mapping.end - mapping.start
            if covered != length:
                raise OSError(12, "not all of the range is mapped")

    def remap(self, old: int, old_length: int, new_length: int, *, may_move: bool, fixed: int | None = None) -> int:
        """mremap(2): resize or move one mapping; the new address."""
        old_length, new_length = page_ceil(old_length), page_ceil(new_length)
        with self.lock:
            if old & PAGE_MASK or not new_length or not self.inside(old, old_length):
                raise OSError(22, "bad guest address or length")
            found = self.find(old)
            if found is None or found.end < old + old_length:
                raise OSError(14, "nothing is mapped there")
            if fixed is None:
                if new_length <= old_length:
                    if new_length < old_length:
                        self.unmap(old + new_length, old_length - new_length)
                    return old
                grow = new_length - old_length
                end = old + old_length
                if found.end == end and self.inside(end, grow) and self.free(end, grow):
                    return self._move(found, old, old_length, old, new_length)
                if not may_move:
                    raise OSError(12, "no room to grow")
                target = self.find_free(new_length)
                if target is None:
                    raise OSError(12, "guest address space exhausted")
            else:
                target = fixed
                if target & PAGE_MASK or not self.inside(target, new_length) or (
                    target < old + old_length and old < target + new_length
                ):
                    raise OSError(22, "bad guest address or length")
            return self._move(found, old, old_length, target, new_length)

    def _move(self, found: Mapping, old: int, old_length: int, new: int, new_length: int) -> int:
        prot, shared, path = found.prot, found.shared, found.path
        offset = found.piece(old, old + 1).offset
        self._set_attributes(old, old + old_length, 0)
        keep = min(old_length, new_length)
        # No part of the arena is left unmapped for a moment, in which another thread's mapping could come there.
        if shared or path.startswith("/"):
            if not keep:
                host_mremap(self.base + old, 0, new_length, self.base + new)  # a second mapping of the same
            elif new != old:
                host_move(self.base + old, keep, self.base + new)
            if new_length > keep > 0:
                host_grow(self.base + new, keep, new_length - keep, shared=shared)
        else:
            if new != old:
                host_move(self.base + old, keep, self.base + new)
            if new_length > keep:
                host_mmap(self.base + new + keep, new_length - keep, self._protection(prot), _ANON | MAP_FIXED, -1, 0)
        if new != old:
            host_mmap(self.base + old, old_length, self._spare, _ANON | MAP_FIXED, -1, 0)
        self._cut(old, old + old_length)
        self._cut(new, new + new_length)
        self._insert(Mapping(new, new + new_length, prot, shared, offset, path))
        if self.guarded:
            host_mprotect(self.base + new, new_length, HOST_TABLE[prot])
        self._set_attributes(new, new + new_length, prot)
        return new

    def find(self, address: int) -> Mapping | None:
        """The mapping that holds `address`."""
        with self.lock:
            index = bisect_right(self._starts, address)
            if index and self._mappings[index - 1].end > address:
                return self._mappings[index - 1]
            return None

    def regions(self) -> Iterator[Mapping]:
        """The mappings in order of address."""
        with self.lock:
            return iter([m.piece(m.start, m.end) for m in self._mappings])

    # -- watching ---------------------------------------------------------------------------------------------

    def watch(self, address: int, length: int, access: str = "rw") -> None:
        """Accesses to the pages of [address, address + length) leave the fast path (see engine: exits.WATCH)."""
        self._change_watch(address, length, access, on=True)

    def unwatch(self, address: int, length: int, access: str = "rw") -> None:
        """Undo `watch`."""
        self._change_watch(address, length, access, on=False)

    def _change_watch(self, address: int, length: int, access: str, *, on: bool) -> None:
        bits = (WATCH_R if "r" in access else 0) | (WATCH_W if "w" in access else 0)
        with self.lock:
            for page in range(address >> PAGE_BITS, (address + max(1, length) - 1 >> PAGE_BITS) + 1):
                old = self._table[page]
                self._table[page] = FAST_TABLE[old | bits if on else old & ~bits]
            self._void()


_UNCODE = bytes(FAST_TABLE[value & ~CODE] for value in range(256))
