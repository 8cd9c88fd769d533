"""System calls for memory."""

from __future__ import annotations

import os

from polyvm.linux import host
from polyvm.linux.syscalls import EBADF, EINVAL, syscall
from polyvm.mem import EXEC, PAGE_MASK, READ, WRITE, page_ceil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.linux.process import Thread

ENOMEM, EEXIST = 12, 17
MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE, MAP_FIXED, MAP_ANONYMOUS = 1, 2, 3, 0x10, 0x20
MAP_FIXED_NOREPLACE = 0x100000
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4
_PROT = READ | WRITE | EXEC
_PROT_SEM, _PROT_GROWSDOWN, _PROT_GROWSUP = 8, 0x01000000, 0x02000000


def _signed(value: int, bits: int = 32) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _within_limit(thread: Thread, more: int) -> bool:
    policy = thread.process.policy
    if policy is None or policy.memory is None:
        return True
    used = sum(m.end - m.start for m in thread.arena.regions() if m.path != "[stack]")
    return used + more <= policy.memory


@syscall("brk(end: addr)")
def brk(thread: Thread, end: int) -> int:
    process, arena = thread.process, thread.arena
    with process.lock:
        if end < process.brk_start or end >= arena.top:
            return process.brk
        old, new = page_ceil(process.brk), page_ceil(end)
        if new > old:
            if not arena.free(old, new - old) or not _within_limit(thread, new - old):
                return process.brk
            arena.map(old, new - old, READ | WRITE)
        elif new < old:
            arena.unmap(new, old - new)
        process.brk = end
        return end


@syscall("mmap(address: addr, length: ulong, prot: prot, flags: mapflags, fd: fd, offset: long)")
def mmap(thread: Thread, address: int, length: int, prot: int, flags: int, fd: int, offset: int) -> int:
    arena = thread.arena
    kind = flags & 15
    if length == 0 or offset & PAGE_MASK or kind not in (MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE):
        return -EINVAL
    if length >= arena.size or not _within_limit(thread, length):
        return -ENOMEM
    shared = kind != MAP_PRIVATE
    # Writable and executable imply readable, as the page tables of all guests have it.
    prot = prot & _PROT | (READ if prot & (WRITE | EXEC) else 0)
    where: int | None = None
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
        if address & PAGE_MASK:
            return -EINVAL
        if address < arena.low or not arena.inside(address, length):
            return -ENOMEM
        if flags & MAP_FIXED_NOREPLACE and not arena.free(address, page_ceil(length)):
            return -EEXIST
        where = address
    if flags & MAP_ANONYMOUS:
        return arena.map(where, length, prot, shared=shared, hint=address)
    fd = _signed(fd)
    if fd < 0:
        return -EBADF
    path = ""
    try:
        path = thread.process.paths.to_guest(os.readlink(f"/proc/self/fd/{fd}".encode()))
    except OSError:
        return -EBADF
    return arena.map(where, length, prot, fd=fd, offset=offset, shared=shared, path=path, hint=address)


@syscall("munmap(address: addr, length: ulong)")
def munmap(thread: Thread, address: int, length: int) -> int:
    thread.arena.unmap(address, length)
    return 0


@syscall("mprotect(address: addr, length: ulong, prot: prot)")
def mprotect(thread: Thread, address: int, length: int, prot: int) -> int:
    known = _PROT | _PROT_SEM | _PROT_GROWSDOWN | _PROT_GROWSUP | thread.process.arch.protections
    if prot & 0xFFFFFFFF & ~known:
        return -EINVAL
    prot = prot & _PROT | (READ if prot & (WRITE | EXEC) else 0)
    if prot & WRITE:
        found = thread.arena.find(address)
        if found is not None and found.shared and found.path.startswith("/") and not found.prot & WRITE:
            # The host decides whether the file behind it may be written.
            failed = host.raw("mprotect", thread.arena.base + address, page_ceil(length), 3)
            if failed:
                return failed
    thread.arena.protect(address, length, prot)
    return 0


@syscall("mremap(old: addr, old_size: ulong, new_size: ulong, flags: int, new: addr)")
def mremap(thread: Thread, old: int, old_size: int, new_size: int, flags: int, new: int) -> int:
    if flags & ~3 or (flags & MREMAP_FIXED and not flags & MREMAP_MAYMOVE) or old_size == 0:
        return -EINVAL
    if new_size > old_size and not _within_limit(thread, new_size - old_size):
        return -ENOMEM
    fixed = new if flags & MREMAP_FIXED else None
    if fixed is not None and fixed < thread.arena.low:
        return -EINVAL
    return thread.arena.remap(old, old_size, new_size, may_move=bool(flags & MREMAP_MAYMOVE), fixed=fixed)


def _mapped(thread: Thread, address: int, length: int) -> bool:
    end = address + page_ceil(length)
    while address < end:
        found = thread.arena.find(address)
        if found is None:
            return False
        address = found.end
    return True


@syscall("madvise(address: addr, length: ulong, advice: int)")
def madvise(thread: Thread, address: int, length: int, advice: int) -> int:
    if address & PAGE_MASK:
        return -EINVAL
    if not thread.arena.inside(address, length) or not _mapped(thread, address, length):
        return -ENOMEM
    if advice in (4, 8):  # MADV_DONTNEED and MADV_FREE: the pages are zero (or the file's) afterwards
        return host.raw("madvise", thread.arena.base + address, page_ceil(length), 4)
    return 0


@syscall("msync(address: addr, length: ulong, flags: int)")
def msync(thread: Thread, address: int, length: int, flags: int) -> int:
    if address & PAGE_MASK:
        return -EINVAL
    if not thread.arena.inside(address, length) or not _mapped(thread, address, length):
        return -ENOMEM
    return host.raw("msync", thread.arena.base + address, page_ceil(length), flags)


@syscall("mincore(address: addr, length: ulong, vector: addr)")
def mincore(thread: Thread, address: int, length: int, vector: int) -> int:
    if address & PAGE_MASK:
        return -EINVAL
    if not thread.arena.inside(address, length) or not _mapped(thread, address, length):
        return -ENOMEM
    pages = page_ceil(length) >> 12
    return host.raw("mincore", thread.arena.base + address, length, thread.arena.host(vector, pages, "w"))


def _lock(thread: Thread, address: int, length: int, *flags: int) -> int:
    ok = thread.arena.inside(address, length) and _mapped(thread, address & ~PAGE_MASK, length)
    return 0 if ok else -ENOMEM


syscall("mlock(address: addr, length: ulong)")(_lock)
syscall("munlock(address: addr, length: ulong)")(_lock)
syscall("mlock2(address: addr, length: ulong, flags: int)")(_lock)
syscall("mbind(address: addr, length: ulong, mode: int, mask: addr, nodes: ulong, flags: int)")(_lock)


@syscall("mlockall(flags: int)")
def mlockall(thread: Thread, flags: int) -> int:
    return 0


@syscall("munlockall()")
def munlockall(thread: Thread) -> int:
    return 0
