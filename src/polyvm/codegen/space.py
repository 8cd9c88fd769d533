"""One range of host addresses for all code that is compiled while the guest runs, so that a signal handler can tell it."""

from __future__ import annotations

import _thread
import mmap

from polyvm.errors import EngineError
from polyvm.mem.host import MAP_NORESERVE, host_mmap

_SIZE = 1 << 28
_PAGE = 4096
_NO_ACCESS = 0  # PROT_NONE


class CodeSpace:
    """A reserved range; `take` hands out pages of it, which are never handed out again: other threads may be in them."""

    def __init__(self) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        self.start = host_mmap(0, _SIZE, _NO_ACCESS, flags, -1, 0)
        self.end = self.start + _SIZE
        self._next = self.start
        self._lock = _thread.allocate_lock()

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


_space: list[CodeSpace] = []


def code_space() -> CodeSpace:
    """The process's; reserved at the first use."""
    if not _space:
        _space.append(CodeSpace())
    return _space[0]
