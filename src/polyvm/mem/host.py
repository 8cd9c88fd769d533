"""Host memory calls by address (mmap(2), munmap(2), mremap(2) of the C library)."""

from __future__ import annotations

import ctypes
import os
import time

CLOCK = time.CLOCK_MONOTONIC  # of those that `clock_address` reads
_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_munmap = _libc.munmap
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_mprotect = _libc.mprotect
_mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_madvise = _libc.madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_mremap = _libc.mremap
_mremap.restype = ctypes.c_void_p
_mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]

MAP_FIXED = 0x10
MAP_NORESERVE = 0x4000
HUGE_PAGES, COLLAPSE, DONT_NEED = 14, 25, 4  # advice: MADV_HUGEPAGE, MADV_COLLAPSE (since Linux 6.1), MADV_DONTNEED
_MREMAP_MAYMOVE, _MREMAP_FIXED, _MREMAP_DONTUNMAP = 1, 2, 4
_FAILED = (1 << 64) - 1
_PAGE, LARGE_PAGE = 1 << 12, 2 << 20


def clock_address() -> int:
    """Where native code finds clock_gettime."""
    return ctypes.cast(_libc.clock_gettime, ctypes.c_void_p).value or 0


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def host_mmap(address: int, length: int, protection: int, flags: int, fd: int, offset: int) -> int:
    """mmap(2); raises OSError."""
    result: int | None = _mmap(address, length, protection, flags, fd, offset)
    if result is None or result == _FAILED:
        raise _error("mmap")
    return result


def host_munmap(address: int, length: int) -> None:
    """munmap(2); raises OSError."""
    if _munmap(address, length):
        raise _error("munmap")


def host_mprotect(address: int, length: int, protection: int) -> None:
    """mprotect(2); raises OSError."""
    if _mprotect(address, length, protection):
        raise _error("mprotect")


def host_advise(address: int, length: int, advice: int) -> None:
    """madvise(2) of something that helps and need not be heard."""
    _madvise(address, length, advice)


def host_mremap(address: int, old: int, new: int, target: int | None) -> int:
    """mremap(2), in place or to the fixed address `target`; raises OSError."""
    return _remap(address, old, new, 0 if target is None else _MREMAP_MAYMOVE | _MREMAP_FIXED, target)


def host_move(address: int, length: int, target: int) -> None:
    """Move pages to `target`. Where the kernel can do it, something stays mapped at their old place, so that no other mapping of
    this process can come there; raises OSError."""
    flags = _MREMAP_MAYMOVE | _MREMAP_FIXED
    try:
        _remap(address, length, length, flags | _MREMAP_DONTUNMAP, target)
    except OSError:
        _remap(address, length, length, flags, target)


def host_grow(address: int, length: int, grow: int, *, shared: bool) -> None:
    """Make a mapping of a file, of whole pages, longer where it is, in place of what is mapped behind it. At no moment is
    anything there unmapped, so that no other mapping of this process can come there; raises OSError."""
    end = address + length
    if shared:
        # "Old size" zero is a second mapping of the same file (mremap(2)): from the last page on.
        copy = _remap(end - _PAGE, 0, _PAGE + grow, _MREMAP_MAYMOVE, None)
        _remap(copy + _PAGE, grow, grow, _MREMAP_MAYMOVE | _MREMAP_FIXED, end)
        host_munmap(copy, _PAGE)
        return
    last = _remap(end - _PAGE, _PAGE, _PAGE, _MREMAP_MAYMOVE | _MREMAP_DONTUNMAP, None)
    try:
        longer = _remap(last, _PAGE, _PAGE + grow, _MREMAP_MAYMOVE, None)
    except OSError:
        _remap(last, _PAGE, _PAGE, _MREMAP_MAYMOVE | _MREMAP_FIXED, end - _PAGE)
        raise
    _remap(longer, _PAGE + grow, _PAGE + grow, _MREMAP_MAYMOVE | _MREMAP_FIXED, end - _PAGE)


def _remap(address: int, old: int, new: int, flags: int, target: int | None) -> int:
    result: int | None = _mremap(address, old, new, flags, target)
    if result is None or result == _FAILED:
        raise _error("mremap")
    return result
