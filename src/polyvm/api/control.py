"""The channel between a `Process` object and the host process that runs its guest.

It is a page of shared memory with two semaphores in it, so that nothing of it shows in the guest's file descriptors: a guest
program may close or reuse any of them. The parent makes it as an anonymous file that the child inherits, maps and closes.

    offset  0  sem_t    asked       the parent has written a request
           64  sem_t    answered    the child has written its answer
          128  u32      state       of the child, one of the constants below
          132  u32      sequence    number of the request; the answer carries the same
          136  u32      length      bytes at `payload`
          140  u32      failed      1 if the answer is an error
          144  u64      instructions, f64 seconds: final counts
          192           payload     JSON: {"op": …}, or raw bytes
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

from polyvm import errors
from polyvm.errors import EngineError, PolyvmError

if TYPE_CHECKING:
    from collections.abc import Callable

STARTING, RUNNING, FAILED, EXHAUSTED = range(4)

_PAYLOAD = 192
SIZE = 1 << 20
ROOM = SIZE - _PAYLOAD
_STATE, _SEQUENCE, _LENGTH, _FAILED, _COUNTS = 128, 132, 136, 140, 144
_POLL = 0.05  # how often a waiting parent looks whether its child still lives


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Gone(EngineError):
    """The other side has ended."""


class Channel:
    """The shared page, from either side."""

    def __init__(self, descriptor: int, *, create: bool) -> None:
        self._map = mmap.mmap(descriptor, SIZE)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._anchor = ctypes.c_char.from_buffer(self._map)
        base = ctypes.addressof(self._anchor)
        self._asked = ctypes.c_void_p(base)
        self._answered = ctypes.c_void_p(base + 64)
        self._lock = threading.Lock()
        if create:
            for semaphore in (self._asked, self._answered):
                if self._libc.sem_init(semaphore, 1, 0):
                    raise OSError(ctypes.get_errno(), "sem_init")

    # -- the page ---------------------------------------------------------------------------------------------

    def _get(self, offset: int) -> int:
        return int.from_bytes(self._map[offset : offset + 4], "little")

    def _put(self, offset: int, value: int) -> None:
        self._map[offset : offset + 4] = value.to_bytes(4, "little")

    @property
    def state(self) -> int:
        """STARTING, RUNNING, FAILED or EXHAUSTED."""
        return self._get(_STATE)

    @property
    def payload(self) -> bytes:
        """The bytes that the other side has left."""
        return self._map[_PAYLOAD : _PAYLOAD + min(self._get(_LENGTH), ROOM)]

    @payload.setter
    def payload(self, data: bytes) -> None:
        if len(data) > ROOM:
            raise EngineError(f"a message of {len(data)} bytes does not fit; the most is {ROOM}")
        self._map[_PAYLOAD : _PAYLOAD + len(data)] = data
        self._put(_LENGTH, len(data))

    @property
    def counts(self) -> tuple[int, float]:
        """Instructions executed and seconds of wall time, as the child left them."""
        instructions, seconds = struct.unpack_from("<Qd", self._map, _COUNTS)
        return int(instructions), float(seconds)

    def set_counts(self, instructions: int, seconds: float) -> None:
        """Leave the final counts for the parent."""
        struct.pack_into("<Qd", self._map, _COUNTS, instructions & (1 << 64) - 1, seconds)

    # -- parent -----------------------------------------------------------------------------------------------

    def call(self, alive: Callable[[], bool], op: str, *, data: bytes = b"", **arguments: int | str) -> bytes:
        """Have the child do `op`; its answer. Raises the child's error, or Gone once `alive` says that it has ended."""
        with self._lock:
            sequence = self._get(_SEQUENCE) + 1 & 0xFFFF_FFFF
            request = json.dumps({"op": op, **arguments}).encode()
            self.payload = struct.pack("<I", len(request)) + request + data
            self._put(_SEQUENCE, sequence)
            self._libc.sem_post(self._asked)
            self.await_answer(alive)
            answer = self.payload
            if self._get(_FAILED):
                raise unpack_error(answer)
            return answer

    def await_answer(self, alive: Callable[[], bool]) -> None:
        """Wait until the child has answered; raises Gone if it ends before."""
        while True:
            living = alive()
            deadline = time.time() + (_POLL if living else 0)
            until = _Timespec(int(deadline), int(deadline % 1 * 1e9))
            if self._libc.sem_timedwait(self._answered, ctypes.byref(until)) == 0:
                return
            if not living:
                raise Gone("the process has ended")

    # -- child ------------------------------------------------------------------------------------------------

    def announce(self, state: int, data: bytes = b"") -> None:
        """Tell the parent the outcome of the start."""
        self.payload = data
        self._put(_STATE, state)
        self._libc.sem_post(self._answered)

    def set_state(self, state: int) -> None:
        """Change the state without telling."""
        self._put(_STATE, state)

    def serve_one(self, answer: Callable[[dict[str, Any], bytes], bytes]) -> None:
        """Wait for one request and answer it."""
        while self._libc.sem_wait(self._asked):
            pass  # interrupted
        with self._lock:
            message = self.payload
            size = struct.unpack_from("<I", message)[0]
            try:
                result = answer(json.loads(message[4 : 4 + size]), message[4 + size :])
                failed = 0
            except Exception as error:  # it is the parent's request that failed
                result, failed = pack_error(error), 1
            self.payload = result
            self._put(_FAILED, failed)
            self._libc.sem_post(self._answered)

    def finish(self) -> None:
        """Wait until the request that is being served, if any, is answered; serve no more."""
        self._lock.acquire()


def memory_file() -> int:
    """A new anonymous file of the channel's size; its descriptor."""
    descriptor = os.memfd_create("polyvm-control", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, SIZE)
    return descriptor


def pack_error(error: BaseException) -> bytes:
    """An error as bytes for the other side."""
    record: dict[str, Any] = {"type": type(error).__name__, "text": str(error)}
    if isinstance(error, OSError):
        name = error.filename
        record |= {"errno": error.errno, "text": error.strerror or str(error)}
        record["filename"] = os.fsdecode(name) if isinstance(name, str | bytes) else None
    if isinstance(error, errors.MemoryFault):
        record |= {"address": error.address, "access": error.access, "size": error.size}
    return json.dumps(record).encode()


def unpack_error(data: bytes) -> Exception:
    """The error that `pack_error` has packed: the same type where it is one of polyvm's or an OSError."""
    record: dict[str, Any] = json.loads(data)
    if "errno" in record:
        return OSError(record["errno"], record["text"], record["filename"])
    if "address" in record:
        return errors.MemoryFault(record["address"], record["access"], record["size"])
    kind = getattr(errors, record["type"], None)
    if isinstance(kind, type) and issubclass(kind, PolyvmError):
        return kind(record["text"])
    return EngineError(f"{record['type']}: {record['text']}")
