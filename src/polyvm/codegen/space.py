"""One range of host addresses for all code that is compiled while the guest runs, so that a signal handler can tell it.

Pieces of code lie close together, since where each began on a page of its own, all would compete for the same few lines of the
host's caches. So pages that are executable already get more code: the kernel writes it (proc(5), /proc/pid/mem), to which what
the process itself may do with its pages does not apply. No page is ever writable and executable for the process. Where the kernel
refuses that, each piece of code gets pages that are made executable after it was written.
"""

from __future__ import annotations

import _thread
import ctypes
import mmap
import os

from polyvm.errors import EngineError
from polyvm.mem.host import HUGE_PAGES, MAP_FIXED, MAP_NORESERVE, host_advise, host_mmap, host_mprotect

_SIZE = 1 << 27  # of the code, and of the data
_PAGE = 4096
_CHUNK = 1 << 20
LINE = 64  # what pieces are aligned to
_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
_NEW, _READY = mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_READ | mmap.PROT_EXEC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class CodeSpace:
    """A range for code, from `start` to `end`, and after it one for the data that code writes. What was handed out is not handed
    out again until `clear`."""

    def __init__(self) -> None:
        self.limit = budget()  # bytes of the code, and of the data
        self.start = host_mmap(0, 2 * _SIZE, _NEW, _FLAGS, -1, 0)
        self.end = self.start + _SIZE
        host_mprotect(self.start, _SIZE, _READY)
        host_advise(self.start, 2 * _SIZE, HUGE_PAGES)
        # For each line of the code's range the address of a table (`objects.py`), or 0: which accesses in the code there the host
        # may refuse, and where the code goes on then. The signal handler looks there.
        self.faults = host_mmap(0, 8 * (_SIZE // LINE), _NEW, _FLAGS, -1, 0)
        self._code = self.start
        self._data = self.end
        self._lock = _thread.allocate_lock()
        self._stubs: dict[str, int] = {}
        self._closely = False  # as long as it is not known

    @property
    def used(self) -> int:
        """Bytes handed out."""
        return self._code - self.start + self._data - self.end

    @property
    def crowded(self) -> bool:
        """True if little is left."""
        return max(self._code - self.start, self._data - self.end) > self.limit - self.limit // 8

    def take(self, code: int, data: int) -> tuple[int, int]:
        """Addresses of so many bytes for `put`, and of so many of writable memory, which is zero; raises EngineError when all is
        used."""
        with self._lock:
            if self._code == self.start:
                self._closely = self._write(self.start, b"\xcc")
            align = LINE if self._closely else _PAGE
            at, place = -(-(self._code + 1) // align) * align, self._data
            if at + code > self.start + self.limit or place + data > self.end + self.limit:
                raise EngineError(f"the {self.limit / (1 << 20):g} MiB for compiled code are used up")
            self._code = at + code
            self._data = -(-(place + data) // LINE) * LINE
            return at, place

    def put(self, at: int, code: bytes) -> None:
        """Make a copy of `code` at the address `at`, which `take` gave; raises EngineError, OSError."""
        if self._closely:
            if not self._write(at, code):
                raise EngineError("the kernel does not write compiled code any more")
            return
        size = -(-len(code) // _PAGE) * _PAGE
        host_mprotect(at, size, _NEW)
        ctypes.memmove(at, code, len(code))
        host_mprotect(at, size, _READY)

    def clear(self) -> None:
        """Everything may be handed out again: nothing refers to it any more. What goes there nevertheless is stopped."""
        with self._lock:
            used = self._code - self.start
            for at in range(self.start, self.start + used, _CHUNK):
                self.put(at, b"\xcc" * min(_CHUNK, self.start + used - at))
            for at, size in ((self.end, self._data - self.end), (self.faults, 8 * (used // LINE + 1))):
                host_mmap(at, -(-size // _PAGE) * _PAGE or _PAGE, _NEW, _FLAGS | MAP_FIXED, -1, 0)
            host_advise(self.end, _SIZE, HUGE_PAGES)
            self._stubs.clear()
            self._code, self._data = self.start + 1, self.end

    @staticmethod
    def _write(at: int, code: bytes) -> bool:
        """Let the kernel write."""
        try:
            # Each time anew: after a fork, the file would still be the parent's memory.
            memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return os.pwrite(memory, code, at) == len(code)
        except OSError:
            return False
        finally:
            os.close(memory)

    def stub(self, name: str, make: Callable[[], bytes]) -> int:
        """The address of a piece of machine code, made and placed at the first call."""
        if name not in self._stubs:
            code = make()
            self._stubs[name], _ = self.take(len(code), 0)
            self.put(self._stubs[name], code)
        return self._stubs[name]

    def expect_faults(self, start: int, size: int, table: int) -> None:
        """Code of `size` bytes, whole lines, at `start` has its `table` of refused accesses at that address."""
        count = -(-size // LINE)
        entries = (ctypes.c_uint64 * count).from_address(self.faults + 8 * ((start - self.start) // LINE))
        entries[:] = [table] * count


def budget() -> int:
    """Bytes that compiled code may take, and again what it writes: ``$POLYVM_CODE_SIZE`` MiB, or 128, which is most."""
    try:
        return min(_SIZE, max(_PAGE, int(float(os.environ.get("POLYVM_CODE_SIZE", "128")) * (1 << 20))))
    except (ValueError, OverflowError):
        return _SIZE


_space: list[CodeSpace] = []


def code_space() -> CodeSpace:
    """The process's; reserved at the first use."""
    if not _space:
        _space.append(CodeSpace())
    return _space[0]
