"""The sandbox's view of files: every path is resolved by the kernel below one directory (openat2(2), RESOLVE_IN_ROOT).

A path of a system call is opened as a handle first, or the directory that it lies in, and the call is made on
/proc/self/fd/HANDLE: whatever the guest does to links meanwhile, the handle is inside.
"""

from __future__ import annotations

import ctypes
import os

from polyvm.errors import MemoryFault
from polyvm.linux import host, procfs
from polyvm.linux.syscalls import EFAULT, EINVAL, EPERM, error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.linux.process import Thread
    from polyvm.linux.syscalls import Signature

_RESOLVE_IN_ROOT, _RESOLVE_NO_MAGICLINKS = 0x10, 0x02
_O_PATH, _O_CREAT, _O_NOFOLLOW, _O_CLOEXEC, _O_TMPFILE, _O_EXCL = 0o10000000, 0o100, 0o400000, 0o2000000, 0o20000000, 0o200
_AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH = 0x100, 0x1000
_HIGH = 1000


class Jail:
    """Opens what is below `root`."""

    def __init__(self, root: bytes) -> None:
        import fcntl

        first = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.root = fcntl.fcntl(first, fcntl.F_DUPFD_CLOEXEC, _HIGH)
        os.close(first)
        self.path = root

    def open(self, directory: int, path: bytes, flags: int, mode: int = 0) -> int:
        """A new descriptor; raises OSError. `directory` is where relative paths start, a descriptor or -100."""
        if not path.startswith(b"/"):
            where = os.getcwdb() if directory == -100 else os.readlink(f"/proc/self/fd/{directory}".encode())
            if where != self.path and not where.startswith(self.path + b"/"):
                raise PermissionError(EPERM, "outside of the sandbox")
            path = where[len(self.path) :] + b"/" + path
        how = (ctypes.c_uint64 * 3)(flags, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        text = ctypes.create_string_buffer(path)
        fd = host.raw("openat2", self.root, ctypes.addressof(text), ctypes.addressof(how), 24)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd))
        return fd


_jails: dict[bytes, Jail] = {}


def of(root: bytes) -> Jail:
    """The jail for a directory."""
    found = _jails.get(root)
    if found is None:
        found = _jails[root] = Jail(root)
    return found



def _signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _handle(jail: Jail, directory: int, path: bytes, *, follow: bool, opened: list[int]) -> bytes:
    """A host path for a file of the guest: of a handle on it, or of its directory and its name."""
    if follow:
        fd = jail.open(directory, path, _O_PATH | _O_CLOEXEC)
        opened.append(fd)
        return f"/proc/self/fd/{fd}".encode()
    head, _, name = path.rstrip(b"/").rpartition(b"/")
    if name in (b"", b".", b".."):
        fd = jail.open(directory, path, _O_PATH | _O_CLOEXEC)
        opened.append(fd)
        return f"/proc/self/fd/{fd}".encode()
    parent = head or (b"/" if path.startswith(b"/") else b".")
    fd = jail.open(directory, parent, _O_PATH | _O_CLOEXEC | os.O_DIRECTORY)
    opened.append(fd)
    return f"/proc/self/fd/{fd}/".encode() + name


# Calls that take paths: (index of the directory, index of the path, follow links?) for each; -1: the working directory.
_PATHS: dict[str, tuple[tuple[int, int, bool], ...]] = {
    "truncate": ((-1, 0, True),), "statfs": ((-1, 0, True),), "chdir": ((-1, 0, True),),
    "fchmodat": ((0, 1, True),), "fchmodat2": ((0, 1, True),), "fchownat": ((0, 1, True),),
    "faccessat": ((0, 1, True),), "faccessat2": ((0, 1, True),), "mkdirat": ((0, 1, False),),
    "unlinkat": ((0, 1, False),), "symlinkat": ((1, 2, False),), "linkat": ((0, 1, False), (2, 3, False)),
    "renameat": ((0, 1, False), (2, 3, False)), "renameat2": ((0, 1, False), (2, 3, False)),
    "utimensat": ((0, 1, True),), "statx": ((0, 1, True),), "newfstatat": ((0, 1, True),), "readlinkat": ((0, 1, False),),
    "getxattr": ((-1, 0, True),), "lgetxattr": ((-1, 0, False),), "setxattr": ((-1, 0, True),),
    "lsetxattr": ((-1, 0, False),), "listxattr": ((-1, 0, True),), "llistxattr": ((-1, 0, False),),
    "removexattr": ((-1, 0, True),), "lremovexattr": ((-1, 0, False),),
}  # fmt: skip
_FLAG_INDEX = {"newfstatat": 3, "statx": 2, "utimensat": 3, "fchownat": 4}


def dispatch(thread: Thread, signature: Signature, go_on: Callable[[], int | None]) -> int | None:
    """Make the system call of the thread's registers inside the jail."""
    jail = of(thread.process.paths.jail or b"/")
    name = signature.name
    try:
        if name in ("openat", "openat2"):
            return _open(thread, jail, name)
        places = _PATHS.get(name)
        if places is None:
            if any(a.type in ("path", "lpath") for a in signature.arguments):
                return -EPERM
            return go_on()
        return _with_handles(thread, jail, name, places, go_on)
    except MemoryFault:
        return -EFAULT
    except OSError as failure:
        return error(failure)


def _open(thread: Thread, jail: Jail, name: str) -> int:
    arena, arch = thread.arena, thread.process.arch
    at, place, third, fourth, *_ = arch.arguments(thread.core)
    path = arena.read_cstring(place, 4097)
    if name == "openat2":
        flags = int.from_bytes(arena.read(third, 8), "little")
        mode = int.from_bytes(arena.read(third + 8, 8), "little")
    else:
        flags, mode = third & 0xFFFFFFFF, fourth & 0o7777
    flags = arch.host_flags(flags)
    own = procfs.own(path)
    if own is not None:
        from polyvm.linux.calls_files import open_file

        if procfs.content(thread.process, own) is not None:
            return open_file(thread, -100, place, flags, 0)
        return -2
    creates = flags & _O_CREAT or flags & _O_TMPFILE == _O_TMPFILE
    known = 0o37777777 & ~_O_TMPFILE | _O_TMPFILE
    return jail.open(_signed(at), path, flags & known, mode if creates else 0)


def _with_handles(
    thread: Thread, jail: Jail, name: str, places: tuple[tuple[int, int, bool], ...], go_on: Callable[[], int | None]
) -> int | None:
    """Put paths of handles below the stack pointer, where the call finds them, and undo that."""
    x, arena, arch = thread.core.x, thread.arena, thread.process.arch
    first = arch.first
    before = arch.arguments(thread.core)
    flags = before[_FLAG_INDEX[name]] if name in _FLAG_INDEX else 0
    opened: list[int] = []
    kept: list[tuple[int, bytes]] = []
    room = (x[arch.stack] - 512) & ~15
    try:
        for directory, index, follow in places:
            if not before[index]:
                continue
            path = arena.read_cstring(before[index], 4097)
            if not path and flags & _AT_EMPTY_PATH:
                continue
            if not path:
                return -2
            if name == "readlinkat" and procfs.own(path) == b"exe":
                continue
            at = _signed(before[directory]) if directory >= 0 else -100
            follow = follow and not flags & _AT_SYMLINK_NOFOLLOW
            text = _handle(jail, at, path, follow=follow, opened=opened)
            if not follow and name in ("linkat",) and index == 1 and before[4] & 0x400:
                return -EINVAL
            room -= 512
            kept.append((room, arena.read(room, len(text) + 1)))
            arena.write(room, text + b"\0")
            x[first + index] = room
            if name in _FLAG_INDEX and follow and text.count(b"/") == 4:
                x[first + _FLAG_INDEX[name]] = flags & ~_AT_SYMLINK_NOFOLLOW
        return go_on()
    finally:
        for address, data in reversed(kept):
            arena.poke(address, data)
        for i, value in enumerate(before):
            x[first + i] = value
        for fd in opened:
            os.close(fd)
