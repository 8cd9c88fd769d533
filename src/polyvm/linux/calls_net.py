"""System calls for sockets whose structures hold pointers or whose lengths come back."""

from __future__ import annotations

import ctypes
import struct

from polyvm.linux.calls_files import vector
from polyvm.linux.numbers import HOST
from polyvm.linux.syscalls import EINVAL, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.linux.process import Thread

_MOST = 1 << 20
_MSGHDR = struct.Struct("<QIIQQQQII")


def _lengthed(thread: Thread, name: str, before: tuple[int, ...], address: int, length: int, *after: int) -> int:
    """A call that fills in an address (or option value) and its length."""
    if not length:
        return thread.host.call(HOST[name], *before, 0, 0, *after)
    place = thread.arena.host(length, 4, "rw")
    room = ctypes.c_uint32.from_address(place).value
    if room > _MOST:
        return -EINVAL
    target = thread.arena.host(address, room, "w") if address and room else 0
    return thread.host.call(HOST[name], *before, target, place, *after)


@syscall("accept(fd: fd, address: addr, length: addr)")
def accept(thread: Thread, fd: int, address: int, length: int) -> int:
    return _lengthed(thread, "accept", (fd,), address, length)


@syscall("accept4(fd: fd, address: addr, length: addr, flags: oflags)")
def accept4(thread: Thread, fd: int, address: int, length: int, flags: int) -> int:
    return _lengthed(thread, "accept4", (fd,), address, length, flags)


@syscall("getsockname(fd: fd, address: addr, length: addr)")
def getsockname(thread: Thread, fd: int, address: int, length: int) -> int:
    return _lengthed(thread, "getsockname", (fd,), address, length)


@syscall("getpeername(fd: fd, address: addr, length: addr)")
def getpeername(thread: Thread, fd: int, address: int, length: int) -> int:
    return _lengthed(thread, "getpeername", (fd,), address, length)


@syscall("getsockopt(fd: fd, level: int, option: int, value: addr, length: addr)")
def getsockopt(thread: Thread, fd: int, level: int, option: int, value: int, length: int) -> int:
    return _lengthed(thread, "getsockopt", (fd, level, option), value, length)


@syscall("recvfrom(fd: fd, buf: out(count), count: ulong, flags: int, address: addr, length: addr)")
def recvfrom(thread: Thread, fd: int, buf: int, count: int, flags: int, address: int, length: int) -> int:
    return _lengthed(thread, "recvfrom", (fd, buf, count, flags), address, length)


class _Message:
    """A struct msghdr for the host, made from the guest's."""

    def __init__(self, thread: Thread, address: int, access: str) -> None:
        arena = thread.arena
        self.header = ctypes.create_string_buffer(_MSGHDR.size)
        name, name_size, _, parts, count, control, control_size, flags, _ = _MSGHDR.unpack(arena.read(address, 56))
        if name_size > _MOST or control_size > _MOST:
            raise OSError(EINVAL, "message too large")
        self.parts, used = vector(thread, parts, count, access)
        name = arena.host(name, name_size, access) if name and name_size else 0
        control = arena.host(control, control_size, access) if control and control_size else 0
        _MSGHDR.pack_into(
            self.header, 0, name, name_size if name else 0, 0, ctypes.addressof(self.parts), used,
            control, control_size if control else 0, flags, 0,
        )  # fmt: skip

    @property
    def address(self) -> int:
        """Where the host's struct lies."""
        return ctypes.addressof(self.header)

    def give_back(self, thread: Thread, address: int) -> None:
        """Lengths and flags that the call has set."""
        _, name_size, _, _, _, _, control_size, flags, _ = _MSGHDR.unpack(self.header)
        thread.arena.write(address + 8, struct.pack("<I", name_size))
        thread.arena.write(address + 40, struct.pack("<QI", control_size, flags))


@syscall("sendmsg(fd: fd, message: addr, flags: int)")
def sendmsg(thread: Thread, fd: int, address: int, flags: int) -> int:
    message = _Message(thread, address, "r")
    return thread.host.call(HOST["sendmsg"], fd, message.address, flags)


@syscall("recvmsg(fd: fd, message: addr, flags: int)")
def recvmsg(thread: Thread, fd: int, address: int, flags: int) -> int:
    message = _Message(thread, address, "w")
    result = thread.host.call(HOST["recvmsg"], fd, message.address, flags)
    if result >= 0:
        message.give_back(thread, address)
    return result


def _many(thread: Thread, name: str, fd: int, address: int, count: int, access: str, *rest: int) -> int:
    count = min(count & 0xFFFFFFFF, 1024)
    messages = [_Message(thread, address + 64 * i, access) for i in range(count)]
    array = ctypes.create_string_buffer(64 * max(1, count))
    for i, message in enumerate(messages):
        ctypes.memmove(ctypes.addressof(array) + 64 * i, message.header, 56)
    result = thread.host.call(HOST[name], fd, ctypes.addressof(array), count, *rest)
    for i in range(max(0, result)):
        ctypes.memmove(messages[i].header, ctypes.addressof(array) + 64 * i, 56)
        if access == "w":
            messages[i].give_back(thread, address + 64 * i)
        thread.arena.write(address + 64 * i + 56, array.raw[64 * i + 56 : 64 * i + 60])
    return result


@syscall("sendmmsg(fd: fd, messages: addr, count: uint, flags: int)")
def sendmmsg(thread: Thread, fd: int, address: int, count: int, flags: int) -> int:
    return _many(thread, "sendmmsg", fd, address, count, "r", flags)


@syscall("recvmmsg(fd: fd, messages: addr, count: uint, flags: int, timeout: io(16))")
def recvmmsg(thread: Thread, fd: int, address: int, count: int, flags: int, timeout: int) -> int:
    return _many(thread, "recvmmsg", fd, address, count, "w", flags, timeout)
