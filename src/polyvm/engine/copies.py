"""Stencils at run time: the cached bytes (`stencils.py`), and the range of memory in which a core has its copies.

Code is written while it is not executable: the core, the only one that executes it, is in Python then. Many blocks are done at
once.
"""

from __future__ import annotations

import ctypes
import mmap
import struct

from polyvm.errors import EngineError
from polyvm.mem.host import HUGE_PAGES, LARGE_PAGE, MAP_NORESERVE, host_advise, host_mmap, host_mprotect, host_munmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.engine.interpreter import NativeInterpreter

MAGIC = b"PVCOPY01"
HEAD = struct.Struct("<8s6I")  # magic, functions, bytes of their names, of entries, holes, code, of what a range begins with
RANGE = 1 << 26
_STEP = 1 << 18  # bytes made writable at a time, while large pages would be a waste
_PAGE = 4096
ROOM = 4096  # what most blocks take
_RX, _RW = mmap.PROT_READ | mmap.PROT_EXEC, mmap.PROT_READ | mmap.PROT_WRITE


class Stencils:
    """An instruction set's stencils: the addresses of their entries, holes and code, and what a core's range begins with."""

    __slots__ = ("_entries", "_keep", "_size", "code", "holes", "start")

    def __init__(self, data: bytes, native: NativeInterpreter) -> None:
        try:
            magic, count, names, entries, holes, code, start = HEAD.unpack_from(data)
        except struct.error:
            raise EngineError("the cache has damaged stencils") from None
        if magic != MAGIC or len(data) != HEAD.size + names + entries + holes + code + start:
            raise EngineError("the cache has damaged stencils")
        at = HEAD.size + names
        targets = data[HEAD.size : at].decode().split()
        self._keep = ctypes.create_string_buffer(data[at : at + entries + holes + code], entries + holes + code + 8)
        self._entries, self._size = ctypes.addressof(self._keep), entries // 2
        self.holes = self._entries + entries
        self.code = self.holes + holes
        addresses = struct.pack(f"<{count}Q", *map(native.object.address, targets))
        self.start = addresses + data[len(data) - start + len(addresses) :]


    def entries(self, *, guarded: bool) -> int:
        """The address of the entries for such memory."""
        return self._entries + (self._size if guarded else 0)


class Copies:
    """A core's range; its record says how far it is used."""

    __slots__ = ("_reserved", "address", "stencils")

    def __init__(self) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        self.stencils: Stencils | None = None
        self._reserved = host_mmap(0, RANGE + LARGE_PAGE, 0, flags, -1, 0)
        self.address = -(-self._reserved // LARGE_PAGE) * LARGE_PAGE

    def begin(self, stencils: Stencils) -> int:
        """Put there what stencils refer to; where copies may begin."""
        self.stencils = stencils
        start = stencils.start
        size = -(-len(start) // _PAGE) * _PAGE
        host_advise(self.address + LARGE_PAGE, RANGE - LARGE_PAGE, HUGE_PAGES)
        host_mprotect(self.address, size, _RW)
        ctypes.memmove(self.address, start, len(start))
        host_mprotect(self.address, size, _RX)
        return self.address + -(-len(start) // 64) * 64

    def open(self, at: int, room: int) -> int:
        """Make what follows `at` writable, `room` bytes or more; up to where, or 0 if nothing is left."""
        first = self._first(at)
        step = _STEP if first < self.address + LARGE_PAGE else LARGE_PAGE
        end = first + -(-(at + room - first) // step) * step
        if end > self.address + RANGE:
            return 0
        host_mprotect(first, end - first, _RW)
        return end

    def _first(self, at: int) -> int:
        """The start of the page, or from some size on of the large page: code that is spread over many small ones executes
        slowly."""
        return at & (-_PAGE if at < self.address + LARGE_PAGE else -LARGE_PAGE)

    def close(self, at: int, end: int) -> None:
        """Make it executable again."""
        host_mprotect(self._first(at), end - self._first(at), _RX)

    def free_all(self) -> None:
        """Give the range back."""
        host_munmap(self._reserved, RANGE + LARGE_PAGE)
