"""Socket device, streams (Virtio 1.2, section 5.10), over Unix sockets on the host.

    queue 0  rx: packets for the guest     queue 1  tx: packets of the guest     queue 2  events, unused

    header, 44 bytes   0 src_cid u64   8 dst_cid u64   16 src_port u32   20 dst_port u32   24 len u32   28 type u16 (1 stream)
    30 op u16
                       32 flags u32   36 buf_alloc u32   40 fwd_cnt u32
    op                 1 request   2 response   3 reset   4 shutdown   5 data   6 credit update   7 credit request
    configuration      0 guest_cid u64

What the guest connects to port P of the host (context 2) arrives at the Unix socket PATH_P. A program on the host connects to
PATH, writes "CONNECT P" and a newline, and reads "OK" and its own port once the guest has accepted (the protocol of
Firecracker, docs/vsock.md).
"""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING

from polyvm.devices.virtio.device import VirtioDevice
from polyvm.errors import UsageError

if TYPE_CHECKING:
    from polyvm.devices.loop import Loop
    from polyvm.devices.virtio.queue import Chain, GuestRam

REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST = range(1, 8)
HOST = 2
_HEADER = struct.Struct("<QQIIIHHIII")
_STREAM = 1
_ROOM = 1 << 18  # bytes that a connection holds for a program that does not read
_CONNECTIONS = 256
_REPLIES = 512  # that may wait; the guest's packets wait then
_PIECE = 1 << 16
_FIRST_PORT = 1 << 30


class Connection:
    """A stream between `host_port` and `guest_port`, and the host's socket that it ends in."""

    __slots__ = (
        "delivered", "established", "fd", "greeting", "guest_port", "host_port", "out", "peer_alloc", "peer_forwarded", "sent",
        "socket", "told", "write_end", "writer",
    )  # fmt: skip

    def __init__(self, connection: socket.socket, host_port: int, guest_port: int) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.fd = connection.fileno()
        self.writer = -1  # a descriptor of its own, to be watched for writing
        self.host_port, self.guest_port = host_port, guest_port
        self.established = False
        self.greeting: bytearray | None = None  # what a program on the host asked for so far
        self.out = bytearray()  # for the socket
        self.delivered = self.told = 0  # bytes from the guest that the socket took; what the guest knows of that
        self.sent = self.peer_alloc = self.peer_forwarded = 0  # bytes to the guest, its room, what it took
        self.write_end = False  # the guest sends no more: shut the socket down once all is written

    @property
    def credit(self) -> int:
        """Bytes that the guest has room for."""
        return max(0, self.peer_alloc - (self.sent - self.peer_forwarded & 0xFFFF_FFFF))


class Vsock(VirtioDevice):
    """The guest is context `cid`; `path` is the Unix socket for connections to it. What is there under that name must not be in
    use."""

    NAME = "virtio-vsock"
    ID = 19
    QUEUES = (128, 128, 8)

    def __init__(self, memory: GuestRam, loop: Loop, cid: int, path: str) -> None:
        super().__init__(memory, loop)
        if not 3 <= cid < 0xFFFF_FFFF:
            raise UsageError(f"vsock: {cid} is no context id of a guest; they go from 3 to 4294967294")
        self.cid, self.path = cid, path
        self._connections: dict[tuple[int, int], Connection] = {}
        self._greeting: set[Connection] = set()
        self._paused: set[Connection] = set()  # read no further: no credit or no buffers
        self._replies: deque[bytes] = deque()
        self._held = False  # the guest's packets wait for replies to be taken
        self._next_port = _FIRST_PORT
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(path)
        except OSError as error:
            self._listener.close()
            raise UsageError(f"vsock {path}: {error.strerror}") from None
        self._listener.listen(16)
        self._listener.setblocking(False)
        loop.call(lambda: loop.watch(self._listener.fileno(), self._accept))

    def config(self) -> bytes:
        """The guest's context id."""
        return struct.pack("<Q", self.cid)

    def reset(self) -> None:
        """All connections end."""
        connections, self._connections = self._connections, {}
        self._replies.clear()
        self._held = False
        self._paused.clear()
        if connections:
            ending = list(connections.values())
            if self.loop.here:
                self._discard(ending)
            else:
                self.loop.call(lambda: self._discard(ending))

    def close(self) -> None:
        """Close all sockets; the name goes away."""
        self._discard([*self._connections.values(), *self._greeting])
        self._connections.clear()
        self._greeting.clear()
        if self._listener.fileno() >= 0:
            self.loop.unwatch(self._listener.fileno())
            self._listener.close()
            try:
                os.unlink(self.path)
            except OSError:
                pass

    def process(self, index: int) -> None:
        """Take the guest's packets, or give it some."""
        if index == 1:
            self._take()
        elif index == 0:
            self._give()

    # -- from the guest

    def _take(self) -> None:
        self._held = len(self._replies) >= _REPLIES
        if not self._held:
            self.drain(1, self._packet)
            self._give()

    def _packet(self, chain: Chain) -> int:
        size = chain.readable_size
        if size < _HEADER.size or len(self._replies) >= 2 * _REPLIES:
            return 0
        raw = chain.read(_HEADER.size + _ROOM)
        source, target, guest_port, host_port, length, kind, op, flags, alloc, forwarded = _HEADER.unpack_from(raw)
        connection = self._connections.get((host_port, guest_port))
        if kind != _STREAM or source != self.cid or target != HOST:
            if op != RST:
                self._reply(RST, host_port, guest_port, kind=kind)
            return 0
        if connection is not None:
            connection.peer_alloc, connection.peer_forwarded = alloc, forwarded
            self._of_connection(connection, op, flags, memoryview(raw)[_HEADER.size : _HEADER.size + length])
        elif op == REQUEST:
            self._connect(host_port, guest_port, alloc, forwarded)
        elif op != RST:
            self._reply(RST, host_port, guest_port)
        return 0

    def _of_connection(self, connection: Connection, op: int, flags: int, data: memoryview) -> None:
        if op == RW and connection.established:
            if len(connection.out) + len(data) > _ROOM:
                self._end(connection)  # more than it had credit for
                return
            connection.out += data
            self._write(connection)
        elif op == RESPONSE and not connection.established:
            connection.established = True
            connection.out += f"OK {connection.host_port}\n".encode()
            connection.delivered -= len(connection.out)  # not the guest's bytes
            self._write(connection)
            self._resume(connection)
        elif op == SHUTDOWN:
            if flags & 2:
                connection.write_end = True
                self._write(connection)
            if flags & 3 == 3:
                self._end(connection)
        elif op == CREDIT_REQUEST:
            self._reply(CREDIT_UPDATE, connection.host_port, connection.guest_port, connection)
        elif op == CREDIT_UPDATE:
            self._resume(connection)
        elif op == RST:
            self._forget(connection)
        else:
            self._end(connection)

    def _connect(self, host_port: int, guest_port: int, alloc: int, forwarded: int) -> None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.setblocking(False)
        try:
            if len(self._connections) >= _CONNECTIONS:
                raise BlockingIOError
            made.connect(f"{self.path}_{host_port}")
        except OSError:
            made.close()
            self._reply(RST, host_port, guest_port)
            return
        connection = Connection(made, host_port, guest_port)
        connection.established = True
        connection.peer_alloc, connection.peer_forwarded = alloc, forwarded
        self._connections[host_port, guest_port] = connection
        self._reply(RESPONSE, host_port, guest_port, connection)
        self._resume(connection)

    def _write(self, connection: Connection) -> None:
        """Hand `out` to the socket, as much as it takes."""
        before = connection.delivered
        try:
            while connection.out:
                done = connection.socket.send(connection.out)
                del connection.out[:done]
                connection.delivered += done
        except BlockingIOError:
            if connection.writer < 0:
                connection.writer = os.dup(connection.fd)
                self.loop.watch(connection.writer, lambda: self.enter(lambda: self._writable(connection)), write=True)
        except OSError:
            self._end(connection)
            return
        if not connection.out:
            self._stop_writing(connection)
            if connection.write_end:
                try:
                    connection.socket.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
        if connection.delivered > before and connection.delivered - connection.told >= _ROOM // 4:
            self._reply(CREDIT_UPDATE, connection.host_port, connection.guest_port, connection)

    def _writable(self, connection: Connection) -> None:
        if self._connections.get((connection.host_port, connection.guest_port)) is connection:
            self._write(connection)
            self._give()

    # -- to the guest

    def _reply(self, op: int, host_port: int, guest_port: int, connection: Connection | None = None, kind: int = _STREAM) -> None:
        self._replies.append(self._header(op, host_port, guest_port, connection, kind=kind))

    def _header(
        self, op: int, host_port: int, guest_port: int, connection: Connection | None, flags: int = 0, size: int = 0,
        kind: int = _STREAM,
    ) -> bytes:  # fmt: skip
        forwarded = 0
        if connection is not None:
            connection.told = connection.delivered
            forwarded = connection.delivered & 0xFFFF_FFFF
        return _HEADER.pack(HOST, self.cid, host_port, guest_port, size, kind, op, flags, _ROOM, forwarded)

    def _give(self) -> None:
        """Give the guest the replies that wait; then let connections go on for which there was no room."""
        queue = self.queues[0]
        while self._replies:
            chain = queue.pop()
            if chain is None:
                break
            queue.push(chain, chain.write(self._replies.popleft()))
        queue.notifications(True)
        if self._replies and queue.pending():
            self.again(0)
        if queue.needs_interrupt():
            self.interrupt()
        if self._held and len(self._replies) < _REPLIES // 2:
            self.again(1)
        if not self._replies and queue.pending():
            for connection in [c for c in self._paused if c.credit]:
                self._resume(connection)

    def _resume(self, connection: Connection) -> None:
        self._paused.discard(connection)
        self.loop.watch(connection.fd, lambda: self.enter(lambda: self._read(connection)))

    def _pause(self, connection: Connection) -> None:
        self._paused.add(connection)
        self.loop.unwatch(connection.fd)

    def _read(self, connection: Connection) -> None:
        """The socket has something for the guest."""
        if self._connections.get((connection.host_port, connection.guest_port)) is not connection:
            return
        queue = self.queues[0]
        if self._replies or not connection.credit or not queue.pending():
            self._pause(connection)
            self._give()
            return
        chain = queue.pop()
        if chain is None:
            return
        room = min(chain.writable_size - _HEADER.size, connection.credit, _PIECE)
        try:
            data = connection.socket.recv(max(room, 0)) if room > 0 else b""
        except BlockingIOError:
            queue.unpop()
            return
        except OSError:
            data = b""
        if data:
            head = self._header(RW, connection.host_port, connection.guest_port, connection, 0, len(data))
            connection.sent += len(data)
            queue.push(chain, chain.write(head + data))
        else:
            self._pause(connection)
            self._paused.discard(connection)  # for good: the program on the host sends no more
            queue.push(chain, chain.write(self._header(SHUTDOWN, connection.host_port, connection.guest_port, connection, 2)))
        if queue.needs_interrupt():
            self.interrupt()

    # -- programs on the host

    def _accept(self) -> None:
        try:
            made, _ = self._listener.accept()
        except OSError:
            return
        if len(self._greeting) + len(self._connections) >= _CONNECTIONS:
            made.close()
            return
        connection = Connection(made, 0, 0)
        connection.greeting = bytearray()
        self._greeting.add(connection)
        self.loop.watch(connection.fd, lambda: self._greet(connection))

    def _greet(self, connection: Connection) -> None:
        greeting = connection.greeting
        assert greeting is not None
        while not greeting.endswith(b"\n"):
            try:
                byte = connection.socket.recv(1)
            except BlockingIOError:
                return
            except OSError:
                byte = b""
            greeting += byte
            if not byte or len(greeting) > 32:
                greeting[:] = b"?\n"
        words = greeting.split()
        self.loop.unwatch(connection.fd)
        self._greeting.discard(connection)
        good = len(words) == 2 and words[0].upper() == b"CONNECT" and words[1].isdigit() and int(words[1]) <= 0xFFFF_FFFF
        if not good or not self.active:
            self._discard([connection])
            return
        connection.greeting = None
        self.enter(lambda: self._ask(connection, int(words[1])))

    def _ask(self, connection: Connection, guest_port: int) -> None:
        while (self._next_port, guest_port) in self._connections:
            self._next_port += 1
        connection.host_port, connection.guest_port = self._next_port, guest_port
        self._next_port = _FIRST_PORT + (self._next_port + 1) % _FIRST_PORT
        self._connections[connection.host_port, guest_port] = connection
        self._reply(REQUEST, connection.host_port, guest_port, connection)
        self._give()

    # -- ends

    def _end(self, connection: Connection) -> None:
        """Reset a connection: the guest is told."""
        self._reply(RST, connection.host_port, connection.guest_port, connection)
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self._connections.pop((connection.host_port, connection.guest_port), None)
        self._discard([connection])

    def _discard(self, connections: list[Connection]) -> None:
        for connection in connections:
            self._paused.discard(connection)
            self._stop_writing(connection)
            if connection.socket.fileno() >= 0:
                self.loop.unwatch(connection.fd)
                connection.socket.close()

    def _stop_writing(self, connection: Connection) -> None:
        if connection.writer >= 0:
            self.loop.unwatch(connection.writer)
            os.close(connection.writer)
            connection.writer = -1
