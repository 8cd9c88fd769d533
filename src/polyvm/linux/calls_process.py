"""System calls for processes and threads."""

from __future__ import annotations

import ctypes
import os
import struct

from polyvm.errors import ElfError
from polyvm.linux import host
from polyvm.linux.numbers import HOST
from polyvm.linux.syscalls import EINVAL, ENOSYS, EPERM, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.linux.process import Thread

ENOEXEC, E2BIG, EAGAIN, EACCES = 8, 7, 11, 13
CSIGNAL = 0xFF
CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_VFORK, CLONE_PARENT = 0x100, 0x200, 0x400, 0x800, 0x4000, 0x8000
CLONE_THREAD, CLONE_SYSVSEM, CLONE_SETTLS, CLONE_PARENT_SETTID = 0x10000, 0x40000, 0x80000, 0x100000
CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, CLONE_CLEAR_SIGHAND = 0x200000, 0x1000000, 1 << 32
CLONE_PIDFD = 0x1000
_THREAD_FLAGS = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD
_NEW_NAMESPACES = 0x7E020000
_MOST_WORDS = 1 << 20


@syscall("exit(status: int)")
def exit_(thread: Thread, status: int) -> int:
    from polyvm.linux.process import ThreadExit

    process = thread.process
    with process.lock:
        last = len(process.threads) == 1
    if last:
        process.exit(status & 0xFF)
    raise ThreadExit


@syscall("exit_group(status: int)")
def exit_group(thread: Thread, status: int) -> int:
    thread.process.exit(status & 0xFF)


# All guests pass clone's arguments in the order of CONFIG_CLONE_BACKWARDS.
@syscall("clone(flags: ulong, stack: addr, parent_tid: addr, tls: addr, child_tid: addr)")
def clone(thread: Thread, flags: int, stack: int, parent_tid: int, tls: int, child_tid: int) -> int:
    return _clone(thread, flags & ~CSIGNAL, flags & CSIGNAL, stack, parent_tid, tls, child_tid, parent_tid)


@syscall("clone3(arguments: addr, size: ulong)")
def clone3(thread: Thread, address: int, size: int) -> int:
    if size < 64:
        return -EINVAL
    data = thread.arena.read(address, min(size, 88)).ljust(88, b"\0")
    flags, pidfd, child, parent, signal, stack, stack_size, tls, tids, _, _ = struct.unpack("<11Q", data)
    if tids or flags & CSIGNAL or bool(stack) != bool(stack_size):
        return -EINVAL
    return _clone(thread, flags, signal, stack + stack_size, parent, tls, child, pidfd)


def _clone(
    thread: Thread, flags: int, signal: int, stack: int, parent_tid: int, tls: int, child_tid: int, pidfd: int
) -> int:
    if flags & _NEW_NAMESPACES:
        return -EPERM
    for wanted, address in ((CLONE_PARENT_SETTID, parent_tid), (CLONE_CHILD_SETTID, child_tid), (CLONE_PIDFD, pidfd)):
        if flags & wanted:
            thread.arena.host(address, 4, "w")
    if flags & CLONE_THREAD:
        if flags & _THREAD_FLAGS != _THREAD_FLAGS:
            return -EINVAL
        return _thread(thread, flags, stack, parent_tid, tls, child_tid)
    policy = thread.process.policy
    if policy is not None and not policy.processes:
        return -EPERM
    if flags & CLONE_VM and not flags & CLONE_VFORK:
        return -EINVAL  # two processes in one memory, without waiting for each other
    return _process(thread, flags, signal, stack, parent_tid, tls, child_tid, pidfd)


def _thread(thread: Thread, flags: int, stack: int, parent_tid: int, tls: int, child_tid: int) -> int:
    core = thread.core.clone()
    arch = thread.process.arch
    core.set("res_addr", 0, -1)
    arch.finish(core, 0)
    if stack:
        core.x[arch.stack] = stack
    if flags & CLONE_SETTLS:
        core.set(*arch.thread_pointer, tls)
    arena = thread.arena

    def prepare(child: Thread) -> None:
        tid = struct.pack("<I", child.tid)
        if flags & CLONE_PARENT_SETTID:
            arena.write(parent_tid, tid)
        if flags & CLONE_CHILD_SETTID:
            arena.write(child_tid, tid)
        if flags & CLONE_CHILD_CLEARTID:
            child.clear_child_tid = child_tid

    try:
        return thread.process.spawn(core, prepare, thread.blocked)
    except RuntimeError:  # the host cannot start one more
        core.close()
        return -EAGAIN


def _process(
    thread: Thread, flags: int, signal: int, stack: int, parent_tid: int, tls: int, child_tid: int, pidfd: int
) -> int:
    process = thread.process
    waiting = reading = -1
    if flags & CLONE_VFORK:
        import fcntl

        first, second = os.pipe()
        reading = fcntl.fcntl(first, fcntl.F_DUPFD_CLOEXEC, 900)
        waiting = fcntl.fcntl(second, fcntl.F_DUPFD_CLOEXEC, 900)
        os.close(first)
        os.close(second)
    pid = process.fork(thread)
    core = thread.core
    if pid == 0:
        if reading >= 0:
            os.close(reading)
            process.vfork_fd = waiting
        if stack:
            core.x[process.arch.stack] = stack
        if flags & CLONE_SETTLS:
            core.set(*process.arch.thread_pointer, tls)
        if flags & CLONE_CHILD_SETTID:
            thread.arena.write(child_tid, struct.pack("<I", thread.tid))
        thread.clear_child_tid = child_tid if flags & CLONE_CHILD_CLEARTID else 0
        thread.robust_list = 0
        if flags & CLONE_CLEAR_SIGHAND:
            from polyvm.linux import signals

            signals.reset_for_exec(process)
        return 0
    if waiting >= 0:
        os.close(waiting)
        buffer = ctypes.create_string_buffer(1)
        # Ends when the child executes another program or ends; a signal must wait, as with vfork.
        host.raw("read", reading, ctypes.addressof(buffer), 1)
        os.close(reading)
    if flags & CLONE_PARENT_SETTID:
        thread.arena.write(parent_tid, struct.pack("<I", pid))
    if flags & CLONE_PIDFD:
        thread.arena.write(pidfd, struct.pack("<i", os.pidfd_open(pid)))
    return pid


def _words(thread: Thread, address: int) -> list[bytes]:
    """The strings of a NULL-terminated array of pointers."""
    found: list[bytes] = []
    total = 0
    while address:
        pointer = int.from_bytes(thread.arena.read(address, 8), "little")
        if not pointer:
            break
        word = thread.arena.read_cstring(pointer, 1 << 21)
        total += len(word) + 9
        if total > 32 << 20 or len(found) > _MOST_WORDS:
            raise OSError(E2BIG, "Argument list too long")
        found.append(word)
        address += 8
    return found


@syscall("execve(path: addr, argv: addr, envp: addr)")
def execve(thread: Thread, path: int, argv: int, envp: int) -> int | None:
    return replace(thread, thread.arena.read_cstring(path, 4097), argv, envp)


def replace(thread: Thread, path: bytes, argv: int, envp: int) -> int | None:
    """execve(2) of `path`, a guest's path."""
    from polyvm.errors import WrongArchitecture
    from polyvm.linux import procfs

    process = thread.process
    words, variables = _words(thread, argv), _words(thread, envp)
    if procfs.own(path) == b"exe":
        path = os.fsencode(process.image.program)
    try:
        process.execute(thread, path, words or [b""], variables)
    except WrongArchitecture:
        if process.policy is not None:
            return -ENOEXEC
        return _host_program(thread, process.paths.resolve(path), words, variables)
    except ElfError:
        return -ENOEXEC
    except IsADirectoryError:
        return -EACCES
    return None


def _host_program(thread: Thread, path: bytes, words: list[bytes], variables: list[bytes]) -> int:
    """A program for the host itself: the host's execve, which ends polyvm in this process."""
    host.set_mask(thread.blocked)
    environment = dict(variable.split(b"=", 1) for variable in variables if b"=" in variable)
    try:
        os.execve(path, words, environment)
    except OSError as error:
        return -(error.errno or ENOEXEC)


@syscall("wait4(pid: pid, status: out(4), options: int, usage: out(144))")
def wait4(thread: Thread, pid: int, status: int, options: int, usage: int) -> int:
    return thread.host.call(HOST["wait4"], pid, status, options, usage)


@syscall("waitid(which: int, id: pid, info: out(128), options: int, usage: out(144))")
def waitid(thread: Thread, which: int, pid: int, info: int, options: int, usage: int) -> int:
    return thread.host.call(HOST["waitid"], which, pid, info, options, usage)


@syscall("set_tid_address(word: addr)")
def set_tid_address(thread: Thread, word: int) -> int:
    thread.clear_child_tid = word
    return thread.tid


@syscall("set_robust_list(head: addr, size: ulong)")
def set_robust_list(thread: Thread, head: int, size: int) -> int:
    if size != 24:
        return -EINVAL
    thread.robust_list = head
    return 0


@syscall("get_robust_list(pid: pid, head: addr, size: addr)")
def get_robust_list(thread: Thread, pid: int, head: int, size: int) -> int:
    if pid not in (0, thread.tid):
        return -EPERM
    thread.arena.write(head, struct.pack("<Q", thread.robust_list))
    thread.arena.write(size, struct.pack("<Q", 24))
    return 0


@syscall("uname(buf: addr)")
def uname(thread: Thread, buf: int) -> int:
    found = os.uname()
    fields = (found.sysname, found.nodename, found.release, found.version, thread.process.arch.name, "(none)")
    thread.arena.write(buf, b"".join(field.encode()[:64].ljust(65, b"\0") for field in fields))
    return 0


# Options of prctl(2) that the host serves: how the second argument is passed.
_PRCTL = {
    1: "value", 2: "out4", 3: "value", 4: "value", 7: "value", 8: "value", 15: "name", 16: "out16", 21: "value",
    23: "value", 24: "value", 27: "value", 28: "value", 29: "value", 30: "value", 36: "value", 37: "out4", 38: "value",
    39: "value", 40: "out4", 41: "value", 42: "value", 47: "value",
}  # fmt: skip


@syscall("prctl(option: int, a: ulong, b: ulong, c: ulong, d: ulong)")
def prctl(thread: Thread, option: int, a: int, b: int, c: int, d: int) -> int:
    kind = _PRCTL.get(option & 0xFFFFFFFF)
    if kind is None:
        return -EINVAL
    if kind == "name":
        ctypes.memmove(thread.scratch, thread.arena.read_cstring(a)[:15].ljust(16, b"\0"), 16)
        a = ctypes.addressof(thread.scratch)
    elif kind != "value":
        a = thread.arena.host(a, int(kind[3:]), "w")
    return thread.host.call(HOST["prctl"], option, a, b, c, d)


_RLIMIT_STACK, _RLIMIT_DATA, _RLIMIT_AS = 3, 2, 9


@syscall("prlimit64(pid: pid, resource: int, new: in(16), old: out(16))")
def prlimit64(thread: Thread, pid: int, resource: int, new: int, old: int) -> int:
    # Limits on memory would hit polyvm, which reserves address space by the hundred gigabytes.
    if resource in (_RLIMIT_STACK, _RLIMIT_DATA, _RLIMIT_AS) and pid in (0, os.getpid()):
        new = 0
    return thread.host.call(HOST["prlimit64"], pid, resource, new, old)


@syscall("getrlimit(resource: int, limit: out(16))")
def getrlimit(thread: Thread, resource: int, limit: int) -> int:
    return thread.host.call(HOST["prlimit64"], 0, resource, 0, limit)


@syscall("setrlimit(resource: int, limit: in(16))")
def setrlimit(thread: Thread, resource: int, limit: int) -> int:
    return prlimit64(thread, 0, resource, limit, 0) or 0


@syscall("timer_create(clock: clock, event: addr, timer: out(4))")
def timer_create(thread: Thread, clock: int, event: int, timer: int) -> int:
    place = 0
    if event:
        data = thread.arena.read(event, 64)
        if struct.unpack_from("<i", data, 12)[0] not in (0, 1, 4):  # SIGEV_SIGNAL, NONE, THREAD_ID
            return -EINVAL
        ctypes.memmove(thread.scratch, data, 64)
        place = ctypes.addressof(thread.scratch)
    return thread.host.call(HOST["timer_create"], clock, place, timer)


@syscall("rseq(area: addr, size: uint, flags: int, signature: uint)")
def rseq(thread: Thread, area: int, size: int, flags: int, signature: int) -> int:
    return -ENOSYS


@syscall("seccomp(operation: uint, flags: uint, arguments: addr)")
def seccomp(thread: Thread, operation: int, flags: int, arguments: int) -> int:
    return -ENOSYS


