"""System calls that wait: poll and its kin, epoll, signalfd, futex."""

from __future__ import annotations

import ctypes
import struct

from polyvm.linux.calls_signal import read_mask, use_mask
from polyvm.linux.numbers import HOST
from polyvm.linux.syscalls import EFAULT, EINVAL, ENOSYS, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.linux.process import Thread


def _restore_unless_noted(thread: Thread, result: int) -> int:
    """The mask comes back here if no signal is to be handled under the temporary one."""
    if thread.saved_mask is not None and not thread.host.noted and not thread.pending:
        thread.blocked, thread.saved_mask = thread.saved_mask, None
    return result


@syscall("ppoll(fds: io(count*8), count: ulong, timeout: in(16), mask: addr, size: ulong)")
def ppoll(thread: Thread, fds: int, count: int, timeout: int, mask: int, size: int) -> int:
    if timeout:
        # The host writes the time that is left; the guest's kernel does, too, but not for const memory.
        words = (ctypes.c_uint64 * 2).from_address(timeout)
        copy = (ctypes.c_uint64 * 2)(*words)
        timeout = ctypes.addressof(copy)
    place = use_mask(thread, read_mask(thread, mask, size))
    return _restore_unless_noted(thread, thread.host.call(HOST["ppoll"], fds, count, timeout, place, 8 if place else 0))


@syscall("pselect6(count: int, read: addr, write: addr, except: addr, timeout: in(16), mask: addr)")
def pselect6(thread: Thread, count: int, read: int, write: int, other: int, timeout: int, mask: int) -> int:
    if not 0 <= count <= 1 << 20:
        return -EINVAL
    size = (count + 63) // 64 * 8
    sets = [thread.arena.host(address, size, "rw") if address else 0 for address in (read, write, other)]
    place = 0
    if mask:
        address, length = struct.unpack("<QQ", thread.arena.read(mask, 16))
        place = use_mask(thread, read_mask(thread, address, length))
    if timeout:
        words = (ctypes.c_uint64 * 2).from_address(timeout)
        copy = (ctypes.c_uint64 * 2)(*words)
        timeout = ctypes.addressof(copy)
    pair = (ctypes.c_uint64 * 2)(place, 8)
    result = thread.host.call(HOST["pselect6"], count, *sets, timeout, ctypes.addressof(pair) if place else 0)
    return _restore_unless_noted(thread, result)


# struct epoll_event is packed on x86-64 only: 12 bytes there, 16 elsewhere.


@syscall("epoll_ctl(epfd: fd, op: int, fd: fd, event: addr)")
def epoll_ctl(thread: Thread, epfd: int, op: int, fd: int, event: int) -> int:
    record = 0
    if event:
        events, data = struct.unpack("<I4xQ", thread.arena.read(event, 16))
        struct.pack_into("<IQ", thread.scratch, 0, events, data)
        record = ctypes.addressof(thread.scratch)
    elif op != 2:
        return -EFAULT
    return thread.host.call(HOST["epoll_ctl"], epfd, op, fd, record)


def _epoll(thread: Thread, name: str, epfd: int, events: int, most: int, timeout: int, mask: int, size: int) -> int:
    if not 0 < most <= 1 << 20:
        return -EINVAL
    most = min(most, 4096)
    thread.arena.host(events, 16 * most, "w")
    place = use_mask(thread, read_mask(thread, mask, size))
    buffer = ctypes.create_string_buffer(12 * most)
    result = thread.host.call(HOST[name], epfd, ctypes.addressof(buffer), most, timeout, place, 8 if place else 0)
    if result > 0:
        found = struct.iter_unpack("<IQ", buffer.raw[: 12 * result])
        thread.arena.write(events, b"".join(struct.pack("<I4xQ", *item) for item in found))
    return _restore_unless_noted(thread, result)


@syscall("epoll_pwait(epfd: fd, events: addr, most: int, timeout: int, mask: addr, size: ulong)")
def epoll_pwait(thread: Thread, epfd: int, events: int, most: int, timeout: int, mask: int, size: int) -> int:
    return _epoll(thread, "epoll_pwait", epfd, events, most & 0xFFFFFFFF, timeout, mask, size)


@syscall("epoll_pwait2(epfd: fd, events: addr, most: int, timeout: in(16), mask: addr, size: ulong)")
def epoll_pwait2(thread: Thread, epfd: int, events: int, most: int, timeout: int, mask: int, size: int) -> int:
    return _epoll(thread, "epoll_pwait2", epfd, events, most & 0xFFFFFFFF, timeout, mask, size)


@syscall("signalfd4(fd: fd, mask: in(8), size: ulong, flags: oflags)")
def signalfd4(thread: Thread, fd: int, mask: int, size: int, flags: int) -> int:
    return thread.host.call(HOST["signalfd4"], fd, mask, size, flags)


_WAIT, _WAKE, _FD, _REQUEUE, _CMP_REQUEUE, _WAKE_OP, _LOCK_PI, _UNLOCK_PI = range(8)
_TRYLOCK_PI, _WAIT_BITSET, _WAKE_BITSET, _WAIT_REQUEUE_PI, _CMP_REQUEUE_PI, _LOCK_PI2 = range(8, 14)
_TIMED = frozenset((_WAIT, _LOCK_PI, _WAIT_BITSET, _WAIT_REQUEUE_PI, _LOCK_PI2))
_TWO = frozenset((_REQUEUE, _CMP_REQUEUE, _WAKE_OP, _WAIT_REQUEUE_PI, _CMP_REQUEUE_PI))


@syscall("futex(word: addr, op: int, value: uint, timeout: addr, word2: addr, value3: uint)")
def futex(thread: Thread, word: int, op: int, value: int, timeout: int, word2: int, value3: int) -> int:
    command = op & 0x7F
    if command > _LOCK_PI2 or command == _FD:
        return -ENOSYS
    if word & 3:
        return -EINVAL
    arena = thread.arena
    first = arena.host(word, 4, "r")
    if command in _TIMED and timeout:
        timeout = arena.host(timeout, 16, "r")
    second = arena.host(word2, 4, "r") if command in _TWO else 0
    return thread.host.call(HOST["futex"], first, op, value, timeout, second, value3)


@syscall("futex_waitv(waiters: in(count*24), count: uint, flags: uint, timeout: in(16), clock: clock)")
def futex_waitv(thread: Thread, waiters: int, count: int, flags: int, timeout: int, clock: int) -> int:
    if not 0 < count <= 128:
        return -EINVAL
    made = (ctypes.c_uint64 * (3 * count))()
    ctypes.memmove(made, waiters, 24 * count)
    for i in range(count):
        made[3 * i + 1] = thread.arena.host(made[3 * i + 1], 4, "r")
    return thread.host.call(HOST["futex_waitv"], ctypes.addressof(made), count, flags, timeout, clock)
