"""One range of host addresses for all code that is compiled while the guest runs, so that a signal handler can tell it."""

from __future__ import annotations

import _thread
import ctypes
import mmap

from polyvm.errors import EngineError
from polyvm.mem.host import MAP_FIXED, MAP_NORESERVE, host_mmap, host_mprotect

_SIZE = 1 << 28
_PAGE = 4096
_NO_ACCESS = 0  # PROT_NONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class CodeSpace:
    """A reserved range; `take` hands out pages of it, which are never handed out again: other threads may be in them."""

    def __init__(self) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        self.start = host_mmap(0, _SIZE, _NO_ACCESS, flags, -1, 0)
        self.end = self.start + _SIZE
        # For each page of the range the address of a table (`objects.py`), or 0: which accesses in the code on it the host may
        # refuse, and where the code goes on then. The signal handler looks there.
        self.faults = host_mmap(0, 8 * (_SIZE // _PAGE), mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        self._next = self.start
        self._lock = _thread.allocate_lock()
        self._stubs: dict[str, int] = {}

    @property
    def used(self) -> int:
        """Bytes handed out."""
        return self._next - self.start

    def take(self, size: int) -> int:
        """The address of `size` bytes, in whole pages, without access; raises EngineError when all is used."""
        size = -(-size // _PAGE) * _PAGE
        with self._lock:
            if self._next + size > self.end:
                raise EngineError(f"the {_SIZE >> 20} MiB for compiled code are used up")
            self._next += size
            return self._next - size

    def place(self, data: bytes) -> int:
        """The address of a copy of `data` that native code may read and write."""
        at = self.take(len(data))
        host_mmap(at, len(data), mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED, -1, 0)
        ctypes.memmove(at, data, len(data))
        return at

    def stub(self, name: str, make: Callable[[], bytes]) -> int:
        """The address of a piece of machine code, made and placed at the first call."""
        if name not in self._stubs:
            code = make()
            at = self.place(code)
            host_mprotect(at, len(code), mmap.PROT_READ | mmap.PROT_EXEC)
            self._stubs[name] = at
        return self._stubs[name]

    def expect_faults(self, start: int, end: int, table: int) -> None:
        """Code in [start, end), whole pages, has its `table` of refused accesses at that address."""
        first, last = (start - self.start) // _PAGE, (end - self.start) // _PAGE
        entries = (ctypes.c_uint64 * (last - first)).from_address(self.faults + 8 * first)
        entries[:] = [table] * (last - first)


_space: list[CodeSpace] = []


def code_space() -> CodeSpace:
    """The process's; reserved at the first use."""
    if not _space:
        _space.append(CodeSpace())
    return _space[0]
