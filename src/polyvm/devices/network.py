"""What networks are made of on the host: an interface (tap), or passt, which gives a guest the host's network without
privileges."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
from typing import TYPE_CHECKING, Protocol

from polyvm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.devices.loop import Loop

LONGEST = 65535 + 14
"""Bytes of the longest Ethernet frame that is taken from either side."""
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 2, 0x1000  # linux/if_tun.h
_AHEAD = 1 << 20  # bytes that wait for a socket that takes none; frames beyond are lost, as on a wire


class Network(Protocol):
    """A wire of the host. Everything happens on the loop's thread."""

    def start(self, loop: Loop, arrived: Callable[[], None]) -> None:
        """Have `arrived` called when there may be a frame, until `pause`."""
        ...

    def pause(self, paused: bool) -> None:
        """The guest has no room for frames (or has again): they wait on the host."""
        ...

    def receive(self) -> bytes | None:
        """A frame, or None where there is none now."""
        ...

    def send(self, frame: bytes) -> None:
        """Send a frame, or lose it."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class _Waiting:
    """A descriptor that is watched except when the guest has no room."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._loop: Loop | None = None
        self._arrived: Callable[[], None] | None = None
        self._paused = False

    def start(self, loop: Loop, arrived: Callable[[], None]) -> None:
        self._loop, self._arrived = loop, arrived
        if not self._paused:
            loop.watch(self.fd, arrived)

    def pause(self, paused: bool) -> None:
        if paused == self._paused:
            return
        self._paused = paused
        if self._loop is not None and self._arrived is not None:
            if paused:
                self._loop.unwatch(self.fd)
            else:
                self._loop.watch(self.fd, self._arrived)

    def end(self) -> None:
        """Never again."""
        if self._loop is not None:
            self._loop.unwatch(self.fd)
            self._loop = None


class Tap(_Waiting):
    """The tap interface `name` (Linux, Documentation/networking/tuntap.rst)."""

    def __init__(self, name: str) -> None:
        if not 0 < len(name.encode()) < 16 or "/" in name:
            raise UsageError(f"network tap={name}: a name of an interface has 1 to 15 bytes")
        try:
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"network tap={name}: /dev/net/tun: {error.strerror}; --net user needs no interface") from None
        try:
            fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        except OSError as error:
            os.close(fd)
            hint = f"ip tuntap add dev {name} mode tap user $USER, as root, makes one that you may use"
            raise UsageError(f"network tap={name}: {error.strerror}; {hint}") from None
        super().__init__(fd)

    def receive(self) -> bytes | None:
        """See `Network`."""
        try:
            return os.read(self.fd, LONGEST)
        except OSError:
            return None

    def send(self, frame: bytes) -> None:
        """See `Network`."""
        try:
            os.write(self.fd, frame)
        except OSError:
            pass  # the interface is down or full: lost

    def close(self) -> None:
        """See `Network`."""
        self.end()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Stream(_Waiting):
    """Frames over a connected stream socket, each after its length as four bytes, big-endian: what passt(1) and QEMU's -netdev
    stream speak."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection.fileno())
        connection.setblocking(False)
        self._socket = connection
        self._writer = os.dup(self.fd)  # of its own, to be watched for writing
        self._in, self._out = bytearray(), bytearray()
        self._writing = False

    def receive(self) -> bytes | None:
        """See `Network`."""
        while True:
            if len(self._in) >= 4:
                size = int.from_bytes(self._in[:4], "big")
                if size > LONGEST:
                    self.end()  # the other side is out of step: nothing can be understood any more
                    return None
                if len(self._in) >= 4 + size:
                    frame = bytes(self._in[4 : 4 + size])
                    del self._in[: 4 + size]
                    return frame
            try:
                data = self._socket.recv(1 << 18)
            except OSError:
                return None
            if not data:
                self.end()
                return None
            self._in += data

    def send(self, frame: bytes) -> None:
        """See `Network`."""
        if len(self._out) < _AHEAD:
            self._out += len(frame).to_bytes(4, "big") + frame
            self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self._out.clear()
        if bool(self._out) != self._writing and self._loop is not None:
            self._writing = bool(self._out)
            if self._writing:
                self._loop.watch(self._writer, self._flush, write=True)
            else:
                self._loop.unwatch(self._writer)

    def close(self) -> None:
        """See `Network`."""
        if self._loop is not None:
            self._loop.unwatch(self._writer)
        self.end()
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1
        self._socket.close()


class Passt(Stream):
    """A passt process (https://passt.top) of our own, which ends when the connection does."""

    def __init__(self) -> None:
        program = shutil.which("passt")
        if program is None:
            raise UsageError("network user: passt is not installed (Debian's package passt); --net tap=NAME does not need it")
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [program, "--foreground", "--quiet", "--fd", str(theirs.fileno())], pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        super().__init__(ours)

    def close(self) -> None:
        """See `Network`."""
        super().close()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
