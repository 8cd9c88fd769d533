"""System calls for files whose structures or paths need care."""

from __future__ import annotations

import ctypes
import os
import struct

from polyvm.linux import procfs
from polyvm.linux.numbers import HOST
from polyvm.linux.syscalls import EBADF, EFAULT, EINVAL, ENOENT, host_path, syscall, usable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.linux.process import Thread

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = 0x100, 0x1000
O_ACCMODE, O_CREAT, O_NOFOLLOW, O_CLOEXEC, O_PATH = 3, 0o100, 0o400000, 0o2000000, 0o10000000
ENOTTY, ERANGE, ELOOP, EACCES = 25, 34, 40, 13
IOV_MAX = 1024
# struct stat of x86-64 and of asm-generic (include/uapi/asm-generic/stat.h).
_HOST_STAT = struct.Struct("<QQQIIIiQqqq6Q")
_GUEST_STAT = struct.Struct("<QQIIIIQQqiiq6QII")


def signed32(value: int) -> int:
    """The low 32 bits, signed."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def with_text(thread: Thread, name: str, before: tuple[int, ...], text: bytes, *after: int) -> int:
    """The host's call `name` with a text among its arguments."""
    buffer = ctypes.create_string_buffer(text)
    return thread.host.call(HOST[name], *before, ctypes.addressof(buffer), *after)


def _anonymous(data: bytes, flags: int) -> int:
    fd = os.memfd_create("proc", os.MFD_CLOEXEC if flags & O_CLOEXEC else 0)
    os.set_inheritable(fd, not flags & O_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def open_file(thread: Thread, dirfd: int, address: int, flags: int, mode: int) -> int:
    """openat(2)."""
    raw = thread.arena.read_cstring(address, 4097)
    if raw.startswith(b"/proc/"):
        name = procfs.own(raw)
        if name == b"exe":
            path = thread.process.paths.resolve(os.fsencode(thread.process.image.program))
            return with_text(thread, "openat", (AT_FDCWD,), path, flags, mode)
        data = procfs.content(thread.process, name) if name is not None else None
        if data is not None:
            return _anonymous(data, flags) if not flags & O_ACCMODE else -EACCES
    path = host_path(thread, address, follow=not flags & O_NOFOLLOW)
    return with_text(thread, "openat", (dirfd,), path, flags, mode)


@syscall("openat(dirfd: dirfd, path: addr, flags: oflags, mode: mode)")
def openat(thread: Thread, dirfd: int, path: int, flags: int, mode: int) -> int:
    return open_file(thread, dirfd, path, flags, mode)


@syscall("openat2(dirfd: dirfd, path: addr, how: in(size), size: ulong)")
def openat2(thread: Thread, dirfd: int, path: int, how: int, size: int) -> int:
    if size < 24:
        return -EINVAL
    text = thread.arena.read_cstring(path, 4097)
    record = ctypes.create_string_buffer(ctypes.string_at(how, size), size)
    flags = ctypes.c_uint64.from_buffer(record)
    flags.value = thread.process.arch.host_flags(flags.value)
    return with_text(thread, "openat2", (dirfd,), thread.process.paths.resolve(text), ctypes.addressof(record), size)


@syscall("readlinkat(dirfd: dirfd, path: addr, buf: out(size), size: int)")
def readlinkat(thread: Thread, dirfd: int, address: int, buffer: int, size: int) -> int:
    raw = thread.arena.read_cstring(address, 4097)
    if procfs.own(raw) == b"exe":
        if signed32(size) <= 0:
            return -EINVAL
        data = os.fsencode(thread.process.image.program)[:size]
        ctypes.memmove(buffer, data, len(data))
        return len(data)
    path = host_path(thread, address, follow=False)
    return with_text(thread, "readlinkat", (dirfd,), path, buffer, size)


def _put_stat(thread: Thread, address: int) -> None:
    (dev, ino, nlink, mode, uid, gid, _, rdev, size, blksize, blocks, *times) = _HOST_STAT.unpack_from(thread.scratch)
    thread.arena.write(address, _GUEST_STAT.pack(
        dev, ino, mode, nlink & 0xFFFFFFFF, uid, gid, rdev, 0, size, blksize, 0, blocks, *times, 0, 0,
    ))  # fmt: skip


@syscall("newfstatat(dirfd: dirfd, path: addr, buf: addr, flags: int)")
def newfstatat(thread: Thread, dirfd: int, address: int, buf: int, flags: int) -> int:
    place = ctypes.addressof(thread.scratch)
    if not address and flags & AT_EMPTY_PATH:
        result = thread.host.call(HOST["fstat"], dirfd, place)
    else:
        raw = thread.arena.read_cstring(address, 4097)
        if raw.startswith(b"/proc/") and procfs.own(raw) == b"exe" and not flags & AT_SYMLINK_NOFOLLOW:
            path = thread.process.paths.resolve(os.fsencode(thread.process.image.program))
        else:
            path = host_path(thread, address, follow=not flags & AT_SYMLINK_NOFOLLOW)
        result = with_text(thread, "newfstatat", (dirfd,), path, place, flags)
    if result == 0:
        _put_stat(thread, buf)
    return result


@syscall("fstat(fd: fd, buf: addr)")
def fstat(thread: Thread, fd: int, buf: int) -> int:
    result = thread.host.call(HOST["fstat"], fd, ctypes.addressof(thread.scratch))
    if result == 0:
        _put_stat(thread, buf)
    return result


@syscall("getcwd(buf: addr, size: ulong)")
def getcwd(thread: Thread, buf: int, size: int) -> int:
    path = os.fsencode(thread.process.paths.to_guest(os.getcwdb())) + b"\0"
    if len(path) > size:
        return -ERANGE
    thread.arena.write(buf, path)
    return len(path)


@syscall("chroot(path: str)")
def chroot(thread: Thread, path: bytes) -> int:
    os.chroot(thread.process.paths.resolve(path))
    return 0


_F_LOCKS = frozenset((5, 6, 7, 36, 37, 38))  # F_GETLK … F_OFD_SETLKW: struct flock is the host's
_F_OWNER = frozenset((15, 16))  # F_SETOWN_EX, F_GETOWN_EX
_F_HINTS = frozenset((1035, 1036, 1037, 1038))


_F_GETFL, _F_SETFL = 3, 4


@syscall("fcntl(fd: fd, command: int, argument: ulong)")
def fcntl(thread: Thread, fd: int, command: int, argument: int) -> int:
    command &= 0xFFFFFFFF
    if command == _F_GETFL:
        result = thread.host.call(HOST["fcntl"], fd, command, argument)
        return thread.process.arch.guest_flags(result) if result >= 0 else result
    if command == _F_SETFL:
        argument = thread.process.arch.host_flags(argument)
    if command in _F_LOCKS:
        argument = thread.arena.host(argument, 32, "rw" if command in (5, 36) else "r")
    elif command in _F_OWNER or command in _F_HINTS:
        argument = thread.arena.host(argument, 8, "rw")
    return thread.host.call(HOST["fcntl"], fd, command, argument)


# Requests from before their number told the size of the argument: size, 0 for a plain number.
_IOCTLS = {
    0x5401: 36, 0x5402: 36, 0x5403: 36, 0x5404: 36, 0x5405: 18, 0x5406: 18, 0x5407: 18, 0x5408: 18,
    0x5409: 0, 0x540A: 0, 0x540B: 0, 0x540C: 0, 0x540D: 0, 0x540E: 0, 0x540F: 4, 0x5410: 4, 0x5411: 4, 0x5412: 1,
    0x5413: 8, 0x5414: 8, 0x5415: 4, 0x5416: 4, 0x5417: 4, 0x5418: 4, 0x541B: 4, 0x5420: 4, 0x5421: 4, 0x5422: 0,
    0x5423: 4, 0x5424: 4, 0x5425: 0, 0x5429: 4, 0x5450: 0, 0x5451: 0, 0x5452: 4, 0x5460: 4,
    0x8901: 4, 0x8902: 4, 0x8903: 4, 0x8904: 4, 0x8905: 4, 0x8906: 16, 0x8907: 16,
    0x8910: 40, 0x8913: 40, 0x8915: 40, 0x8919: 40, 0x891B: 40, 0x891D: 40, 0x8921: 40, 0x8927: 40, 0x8933: 40,
    0x8942: 40, 0x0301: 28, 0x1260: 8, 0x1268: 4, 0x127B: 4, 0x2000_5400: 0,
}  # fmt: skip


@syscall("ioctl(fd: fd, request: uint, argument: addr)")
def ioctl(thread: Thread, fd: int, request: int, argument: int) -> int:
    request &= 0xFFFFFFFF
    size = _IOCTLS.get(request)
    if size is None:
        direction, size = request >> 30, request >> 16 & 0x3FFF
        if not direction or not size:
            size = 0
            if request not in (0x40049409,):  # FICLONE takes a descriptor
                return -ENOTTY
    if size and argument:
        argument = thread.arena.host(argument, size, "rw" if request >> 30 != 1 or request < 0x10000 else "r")
    elif size:
        return -EFAULT
    return thread.host.call(HOST["ioctl"], fd, request, argument)


def vector(thread: Thread, address: int, count: int, access: str) -> tuple[ctypes.Array[ctypes.c_uint64], int]:
    """A struct iovec array with host addresses, and its length. Where the guest may access less than it says, it ends
    early."""
    if not 0 <= count <= IOV_MAX:
        raise OSError(EINVAL, "too many buffers")
    raw = struct.unpack(f"<{2 * count}Q", thread.arena.read(address, 16 * count))
    made = (ctypes.c_uint64 * max(2, 2 * count))()
    for i in range(count):
        base, size = raw[2 * i], raw[2 * i + 1]
        if not size:
            continue
        if size >> 63:
            raise OSError(EINVAL, "negative length")
        try:
            made[2 * i], made[2 * i + 1] = usable(thread, base, size, access)
        except Exception:
            if i == 0:
                raise
            return made, i
        if made[2 * i + 1] < size:
            return made, i + 1
    return made, count


def _vectored(name: str, access: str) -> None:
    extra = {"readv": "", "writev": "", "preadv": ", low: ulong, high: ulong", "pwritev": ", low: ulong, high: ulong"}.get(
        name, ", low: ulong, high: ulong, flags: int"
    )

    @syscall(f"{name}(fd: fd, vector: addr, count: ulong{extra})")
    def call(thread: Thread, fd: int, address: int, count: int, *rest: int) -> int:
        made, used = vector(thread, address, count, access)
        return thread.host.call(HOST[name], fd, ctypes.addressof(made), used, *rest)


for _name, _access in (
    ("readv", "w"), ("writev", "r"), ("preadv", "w"), ("pwritev", "r"), ("preadv2", "w"), ("pwritev2", "r"),
):  # fmt: skip
    _vectored(_name, _access)


@syscall("vmsplice(fd: fd, vector: addr, count: ulong, flags: uint)")
def vmsplice(thread: Thread, fd: int, address: int, count: int, flags: int) -> int:
    made, used = vector(thread, address, count, "r")
    return thread.host.call(HOST["vmsplice"], fd, ctypes.addressof(made), used, flags)


@syscall("execveat(dirfd: dirfd, path: str, argv: addr, envp: addr, flags: int)")
def execveat(thread: Thread, dirfd: int, path: bytes, argv: int, envp: int, flags: int) -> int | None:
    from polyvm.linux.calls_process import replace

    dirfd = signed32(dirfd)
    if not path and flags & AT_EMPTY_PATH:
        path = f"/proc/self/fd/{dirfd}".encode()
    elif not path:
        return -ENOENT
    elif not path.startswith(b"/") and dirfd != AT_FDCWD:
        if dirfd < 0:
            return -EBADF
        path = os.readlink(f"/proc/self/fd/{dirfd}".encode()) + b"/" + path
    return replace(thread, path, argv, envp)
