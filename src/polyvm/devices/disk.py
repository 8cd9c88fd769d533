"""What disks are made of: raw files, and overlays that keep what is written apart from a file that stays as it is.

An overlay file, little-endian:

    0     magic "PLYVMOVL"     8 version u32, 1     12 cluster bits u32, 16     16 size of the disk u64
    24    size of the base u64     32 its modification time, ns, u64     40 length of its path u32     44 its path, UTF-8
    4096  the table: for each cluster of 64 KiB a u64: 0 as in the base, 1 zeroes, else the cluster's place in this file
    then  clusters, each at a multiple of 4096

Clusters that are written for the first time go to the end of the file. The table follows at a flush, after what it points to:
whatever ends between two flushes, the file has the disk as of the first or later.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
from array import array
from typing import Protocol

from polyvm.errors import UsageError

SECTOR = 512
_PUNCH_HOLE, _ZERO_RANGE, _KEEP_SIZE = 2, 16, 1  # fallocate(2)
_IOV_MAX = 1024

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class Disk(Protocol):
    """`size` bytes, a multiple of 512, that survive. Offsets are checked by the caller; an OSError is an error of the disk."""

    size: int
    readonly: bool

    def read(self, offset: int, parts: list[memoryview]) -> None:
        """Fill `parts` with what lies at `offset`."""
        ...

    def write(self, offset: int, parts: list[memoryview]) -> None:
        """Write `parts`, one after the other, to `offset`."""
        ...

    def zero(self, offset: int, size: int, unmap: bool) -> None:
        """Make `size` bytes zeroes; `unmap` lets go of their room where that can be done."""
        ...

    def flush(self) -> None:
        """Come back when all that was written will survive."""
        ...

    def close(self) -> None:
        """Flush, and give back the files."""
        ...


def open_disk(path: str, readonly: bool = False, overlay: str | None = None) -> Disk:
    """The disk in the raw file (or block device) `path`; with `overlay` that stays as it is and changes go to the file
    `overlay`."""
    if overlay is not None:
        return Overlay(path, overlay, readonly)
    return RawDisk(path, readonly)


def _open(path: str, readonly: bool, what: str) -> int:
    try:
        fd = os.open(path, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as error:
        hint = "; to only read it add ,ro" if not readonly and isinstance(error, PermissionError) else ""
        raise UsageError(f"{what} {path}: {error.strerror}{hint}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) and not stat.S_ISBLK(os.fstat(fd).st_mode):
            raise UsageError(f"{what} {path}: not a file or a block device")
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if readonly else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{what} {path}: another machine uses it; give each one an overlay, or add ,ro to all") from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _read(fd: int, offset: int, parts: list[memoryview]) -> None:
    """Fill `parts`; what lies beyond the end of the file is zeroes."""
    for first in range(0, len(parts), _IOV_MAX):
        group = parts[first : first + _IOV_MAX]
        while group:
            done = os.preadv(fd, group, offset)
            if done == 0:
                for part in group:
                    part[:] = bytes(len(part))
                break
            offset += done
            group = _after(group, done)


def _write(fd: int, offset: int, parts: list[memoryview]) -> None:
    for first in range(0, len(parts), _IOV_MAX):
        group = parts[first : first + _IOV_MAX]
        while group:
            done = os.pwritev(fd, group, offset)
            offset += done
            group = _after(group, done)


def _after(parts: list[memoryview], done: int) -> list[memoryview]:
    for i, part in enumerate(parts):
        if done < len(part):
            return [part[done:], *parts[i + 1 :]]
        done -= len(part)
    return []


class RawDisk:
    """A file that holds the disk's bytes and nothing else; the bytes of a last sector that is not whole are not part of the
    disk."""

    def __init__(self, path: str, readonly: bool = False) -> None:
        self.readonly = readonly
        self._fd = _open(path, readonly, "disk")
        self.size = os.lseek(self._fd, 0, os.SEEK_END) // SECTOR * SECTOR
        if self.size == 0:
            os.close(self._fd)
            raise UsageError(f"disk {path}: it is empty; truncate -s 1G {path} makes it 1 GiB large")

    def read(self, offset: int, parts: list[memoryview]) -> None:
        """See `Disk`."""
        _read(self._fd, offset, parts)

    def write(self, offset: int, parts: list[memoryview]) -> None:
        """See `Disk`."""
        _write(self._fd, offset, parts)

    def zero(self, offset: int, size: int, unmap: bool) -> None:
        """See `Disk`."""
        for mode in (_PUNCH_HOLE, _ZERO_RANGE) if unmap else (_ZERO_RANGE,):
            if _fallocate is not None and _fallocate(self._fd, mode | _KEEP_SIZE, offset, size) == 0:
                return
        zeroes = memoryview(bytes(min(size, 1 << 20)))
        while size:
            count = min(size, len(zeroes))
            _write(self._fd, offset, [zeroes[:count]])
            offset, size = offset + count, size - count

    def flush(self) -> None:
        """See `Disk`."""
        if not self.readonly:
            os.fdatasync(self._fd)

    def close(self) -> None:
        """See `Disk`."""
        if self._fd >= 0:
            self.flush()
            os.close(self._fd)
            self._fd = -1


class Overlay:
    """A raw file `base` that is only read, and the file `path` with what differs; `path` is made where it does not exist."""

    CLUSTER = 1 << 16
    _MAGIC = b"PLYVMOVL"
    _HEADER = struct.Struct("<8sIIQQQI")
    _TABLE = 4096

    def __init__(self, base: str, path: str, readonly: bool = False) -> None:
        self.readonly = readonly
        self._path = path
        self._base = RawDisk(base, readonly=True)
        self.size = self._base.size
        self._fd = -1
        try:
            if not os.path.exists(path) and not readonly:
                self._create(base, path)
            self._fd = _open(path, readonly, "overlay")
            self._load(base)
        except BaseException:
            self._base.close()
            if self._fd >= 0:
                os.close(self._fd)
            raise

    def _identity(self, base: str) -> bytes:
        found = os.stat(base)
        name = os.path.abspath(base).encode()
        return self._HEADER.pack(self._MAGIC, 1, 16, self.size, found.st_size, found.st_mtime_ns, len(name)) + name

    def _create(self, base: str, path: str) -> None:
        head = self._identity(base)
        if len(head) > self._TABLE:
            raise UsageError(f"overlay {path}: the path of the disk {base} is too long")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(f"overlay {path}: {error.strerror}") from None
        try:
            os.pwrite(fd, head, 0)
            os.ftruncate(fd, self._clusters_at())
        finally:
            os.close(fd)

    def _clusters_at(self) -> int:
        count = -(-self.size // self.CLUSTER)
        return self._TABLE + -(-8 * count // 4096) * 4096

    def _load(self, base: str) -> None:
        head = os.pread(self._fd, self._TABLE, 0)
        wanted = self._identity(base)
        if len(head) < self._HEADER.size or head[:8] != self._MAGIC:
            raise UsageError(f"overlay {self._path}: not an overlay file of polyvm; a file that does not exist is made")
        _, version, bits, size, base_size, modified, length = self._HEADER.unpack_from(head)
        if version != 1 or bits != 16:
            raise UsageError(f"overlay {self._path}: version {version} with {bits} cluster bits; known is version 1 with 16")
        if (size, base_size, modified) != self._HEADER.unpack_from(wanted)[3:6]:
            name = head[self._HEADER.size : self._HEADER.size + length].decode(errors="replace")
            raise UsageError(
                f"overlay {self._path}: it was made over {name} when that was another file or had other content; "
                f"what it holds does not fit {base}"
            )
        count = -(-self.size // self.CLUSTER)
        raw = os.pread(self._fd, 8 * count, self._TABLE)
        end = os.lseek(self._fd, 0, os.SEEK_END)
        self._table = array("Q", raw.ljust(8 * count, b"\0")[: 8 * count])
        if any(place > 1 and (place < self._clusters_at() or place + self.CLUSTER > end) for place in self._table):
            raise UsageError(f"overlay {self._path}: damaged, its table points outside of the file")
        self._end = -(-max(end, self._clusters_at()) // 4096) * 4096
        self._changed: set[int] = set()

    def read(self, offset: int, parts: list[memoryview]) -> None:
        """See `Disk`."""
        for index, inside, pieces in self._split(offset, parts):
            place = self._table[index]
            if place == 0:
                self._base.read(index * self.CLUSTER + inside, pieces)
            elif place == 1:
                for piece in pieces:
                    piece[:] = bytes(len(piece))
            else:
                _read(self._fd, place + inside, pieces)

    def write(self, offset: int, parts: list[memoryview]) -> None:
        """See `Disk`."""
        for index, inside, pieces in self._split(offset, parts):
            if self._table[index] <= 1:
                self._allocate(index, whole=sum(map(len, pieces)) == self.CLUSTER)
            _write(self._fd, self._table[index] + inside, pieces)

    def zero(self, offset: int, size: int, unmap: bool) -> None:
        """See `Disk`."""
        end = offset + size
        while offset < end:
            index, inside = divmod(offset, self.CLUSTER)
            count = min(end - offset, self.CLUSTER - inside)
            place = self._table[index]
            if count == self.CLUSTER and place <= 1:
                self._table[index] = 1
                self._changed.add(index)
            elif place != 1:
                self.write(offset, [memoryview(bytes(count))])
            offset += count

    def flush(self) -> None:
        """See `Disk`."""
        if self.readonly:
            return
        os.fdatasync(self._fd)
        if self._changed:
            for index in sorted(self._changed):
                os.pwrite(self._fd, struct.pack("<Q", self._table[index]), self._TABLE + 8 * index)
            os.fdatasync(self._fd)
            self._changed.clear()

    def close(self) -> None:
        """See `Disk`."""
        if self._fd >= 0:
            self.flush()
            os.close(self._fd)
            self._fd = -1
            self._base.close()

    def _allocate(self, index: int, whole: bool) -> None:
        place = self._end
        if self._table[index] == 1 or whole:
            os.ftruncate(self._fd, place + self.CLUSTER)
        else:
            content = bytearray(self.CLUSTER)
            _read_within(self._base, index * self.CLUSTER, memoryview(content))
            _write(self._fd, place, [memoryview(content)])
        self._end = place + self.CLUSTER
        self._table[index] = place
        self._changed.add(index)

    def _split(self, offset: int, parts: list[memoryview]) -> list[tuple[int, int, list[memoryview]]]:
        """`parts` by cluster: the cluster's number, the offset inside of it, the pieces."""
        found: list[tuple[int, int, list[memoryview]]] = []
        room = 0
        for part in parts:
            while len(part):
                if room == 0:
                    index, inside = divmod(offset, self.CLUSTER)
                    room = self.CLUSTER - inside
                    found.append((index, inside, []))
                piece, part = part[:room], part[room:]
                found[-1][2].append(piece)
                room -= len(piece)
                offset += len(piece)
        return found


def _read_within(disk: RawDisk, offset: int, part: memoryview) -> None:
    count = min(len(part), disk.size - offset)
    disk.read(offset, [part[:count]])
