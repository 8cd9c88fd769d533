"""System calls for signals."""

from __future__ import annotations

import ctypes
import struct

from polyvm.linux import host, signals
from polyvm.linux.numbers import HOST
from polyvm.linux.syscalls import EINTR, EINVAL, EPERM, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.linux.process import Thread

EAGAIN, ENOMEM = 11, 12
SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2


def read_mask(thread: Thread, address: int, size: int) -> int | None:
    """A sigset_t of the guest; None for NULL."""
    if not address:
        return None
    if size != 8:
        raise OSError(EINVAL, "bad sigset size")
    return int.from_bytes(thread.arena.read(address, 8), "little") & ~signals.UNMASKABLE


def use_mask(thread: Thread, mask: int | None) -> int:
    """Make `mask` the thread's for the time of one system call; the host address of a sigset that the host may take, 0 for
    None. The mask that was returns when signals have been dealt with."""
    if mask is None:
        return 0
    thread.saved_mask = thread.blocked
    thread.blocked = mask
    ctypes.c_uint64.from_buffer(thread.scratch, 0).value = mask & ~(host.SYNCHRONOUS | 1 << host.KICK - 1)
    return ctypes.addressof(thread.scratch)


@syscall("rt_sigaction(signal: signal, new: addr, old: addr, size: ulong)")
def rt_sigaction(thread: Thread, number: int, new: int, old: int, size: int) -> int:
    number &= 0xFFFFFFFF
    if size != 8 or not 1 <= number <= 64:
        return -EINVAL
    process = thread.process
    with process.lock:
        before = process.actions[number]
        restorer = process.arch.restorer
        fields = (before.handler, before.flags, before.restorer, before.mask) if restorer else (
            before.handler, before.flags, before.mask)  # fmt: skip
        record = struct.pack(f"<{len(fields)}Q", *fields)
        if new:
            if number in (signals.SIGKILL, signals.SIGSTOP):
                return -EINVAL
            handler, flags, *rest = struct.unpack(f"<{len(fields)}Q", thread.arena.read(new, len(record)))
            process.actions[number] = signals.Action(handler, flags, rest[-1], rest[0] if restorer else 0)
            signals.install(process, number)
            if process.actions[number].handler == signals.SIG_IGN:
                thread.pending = [item for item in thread.pending if item[0] != number]
        if old:
            thread.arena.write(old, record)
    return 0


@syscall("rt_sigprocmask(how: int, new: addr, old: addr, size: ulong)")
def rt_sigprocmask(thread: Thread, how: int, new: int, old: int, size: int) -> int:
    if size != 8:
        return -EINVAL
    before = thread.blocked
    mask = read_mask(thread, new, size)
    if mask is not None:
        how &= 0xFFFFFFFF
        if how == SIG_BLOCK:
            mask |= before
        elif how == SIG_UNBLOCK:
            mask = before & ~mask
        elif how != SIG_SETMASK:
            return -EINVAL
    if old:
        thread.arena.write(old, before.to_bytes(8, "little"))
    if mask is not None and mask != before:
        thread.blocked = mask
        if not thread.host.noted:
            thread.host.set_mask(mask)
    return 0


@syscall("rt_sigpending(set: addr, size: ulong)")
def rt_sigpending(thread: Thread, address: int, size: int) -> int:
    if size > 8:
        return -EINVAL
    word = ctypes.c_uint64()
    host.raw("rt_sigpending", ctypes.addressof(word), 8)
    for number, _ in thread.pending:
        word.value |= 1 << number - 1
    thread.arena.write(address, (word.value & thread.blocked).to_bytes(8, "little")[:size])
    return 0


@syscall("rt_sigsuspend(mask: addr, size: ulong)")
def rt_sigsuspend(thread: Thread, address: int, size: int) -> int | None:
    mask = read_mask(thread, address, size)
    place = use_mask(thread, mask)
    if any(not thread.blocked >> number - 1 & 1 for number, _ in thread.pending):
        result = -EINTR
    else:
        result = thread.host.call(HOST["rt_sigsuspend"], place, 8)
    if result == -host.ERESTARTSYS or thread.host.noted:
        signals.collect(thread)
        number = thread.pending[-1][0] if thread.pending else 0
        if number == 0 or thread.process.actions[number].handler == signals.SIG_IGN:
            # Woken by polyvm itself: wait on.
            thread.process.check(thread)
            thread.blocked, thread.saved_mask = thread.saved_mask or 0, None
            thread.host.set_mask(thread.blocked)
            return -host.ERESTARTSYS
        result = -EINTR
    thread.process.arch.finish(thread.core, result)
    signals.deliver(thread, None)
    return None


@syscall("rt_sigtimedwait(set: in(8), info: out(128), timeout: in(16), size: ulong)")
def rt_sigtimedwait(thread: Thread, wanted: int, info: int, timeout: int, size: int) -> int:
    if size != 8 or not wanted:
        return -EINVAL
    mask = ctypes.c_uint64.from_address(wanted).value
    for index, (number, data) in enumerate(thread.pending):
        if mask >> number - 1 & 1:
            del thread.pending[index]
            if info:
                ctypes.memmove(info, data, 128)
            return number
    return thread.host.call(HOST["rt_sigtimedwait"], wanted, info, timeout, size)


@syscall("rt_sigreturn()")
def rt_sigreturn(thread: Thread) -> None:
    signals.sigreturn(thread)


@syscall("sigaltstack(new: addr, old: addr)")
def sigaltstack(thread: Thread, new: int, old: int) -> int:
    arch = thread.process.arch
    sp = thread.core.x[arch.stack]
    base, size, flags = thread.alternate
    busy = signals.on_alternate(thread, sp)
    if old:
        shown = flags | signals.SS_ONSTACK if busy else flags
        record = struct.pack("<QiIQ", base, shown if shown < 1 << 31 else shown - (1 << 32), 0, size)
    else:
        record = b""
    if new:
        base, raw, _, size = struct.unpack("<QiIQ", thread.arena.read(new, 24))
        raw &= 0xFFFFFFFF
        mode = raw & ~signals.SS_AUTODISARM
        if busy:
            return -EPERM
        if mode not in (0, signals.SS_ONSTACK, signals.SS_DISABLE):
            return -EINVAL
        if mode == signals.SS_DISABLE:
            thread.alternate = (0, 0, signals.SS_DISABLE)
        elif size < arch.smallest_stack:
            return -ENOMEM
        else:
            thread.alternate = (base, size, raw & signals.SS_AUTODISARM)
    if old:
        thread.arena.write(old, record)
    return 0


@syscall("restart_syscall()")
def restart_syscall(thread: Thread) -> int:
    return -EINTR
