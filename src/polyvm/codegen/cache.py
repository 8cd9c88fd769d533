"""The on-disk object cache.

An entry is a file named by the hash of all that shapes its content. It starts with a magic number and a hash of the rest, so a
torn, truncated or foreign file is recognised, ignored and rewritten. Writers make a temporary file and rename it, which is
atomic, so concurrent processes never see half an entry.
"""

from __future__ import annotations

import os

try:
    from _blake2 import blake2b  # hashlib would load OpenSSL, which takes longer than all that is hashed
except ImportError:
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC = b"polyvm-object-1\n"
_DIGEST = 16


def directory() -> str:
    """Where entries live: ``$POLYVM_CACHE``, else ``$XDG_CACHE_HOME/polyvm``, else ``~/.cache/polyvm``."""
    explicit = os.environ.get("POLYVM_CACHE")
    if explicit:
        return explicit
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "polyvm")


def key(*parts: str | bytes) -> str:
    """The name of the entry that `parts` shape."""
    digest = blake2b(digest_size=_DIGEST)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _used(path: str) -> bytes:
    """A file's content; raises OSError. Being in use, it is not what `trim` removes first."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a run begins with thousands of them: `open` takes twice as long
    try:
        try:
            os.utime(file)
        except OSError:
            pass  # not ours to touch
        data = b""
        while more := os.read(file, max(os.fstat(file).st_size - len(data), 0) + 1):
            data += more
        return data
    finally:
        os.close(file)


def load(name: str, folder: str = "") -> bytes | None:
    """The content of entry `name`, in `directory` or another folder, or None if it is missing or damaged."""
    try:
        data = _used(os.path.join(folder or directory(), name))
    except OSError:
        return None
    head = len(_MAGIC) + _DIGEST
    if not data.startswith(_MAGIC) or len(data) < head:
        return None
    payload = data[head:]
    if blake2b(payload, digest_size=_DIGEST).digest() != data[len(_MAGIC) : head]:
        return None
    return payload


def store(name: str, payload: bytes, folder: str = "") -> bool:
    """Write entry `name`; False where the file system does not allow it (a cache is never required)."""
    folder = folder or directory()
    path = os.path.join(folder, name)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(_MAGIC + blake2b(payload, digest_size=_DIGEST).digest() + payload)
        os.replace(temporary, path)
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        return False
    return True


class making:  # noqa: N801
    """While an entry that takes long is made: other processes that want the same wait here, and then find it, or where they do
    not want to `wait` find that `busy` is true."""

    def __init__(self, name: str, folder: str = "", *, wait: bool = True) -> None:
        self._folder = folder or directory()
        self._path = os.path.join(self._folder, f"{name}.lock")
        self._fd = -1
        self._wait = wait
        self.busy = False

    def __enter__(self) -> making:
        try:
            import fcntl

            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX if self._wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.busy = True
        except OSError:
            pass  # a cache is never required
        return self

    @property
    def descriptor(self) -> int:
        """That of the lock, or -1."""
        return self._fd

    def leave(self) -> None:
        """After a fork: the other process goes on making it."""
        if self._fd >= 0:
            os.close(self._fd)

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            if not self.busy:
                try:
                    os.unlink(self._path)
                except OSError:
                    pass
            os.close(self._fd)


def append(name: str, line: str) -> None:
    """Add a line to list `name`; what other processes add at the same time is kept."""
    try:
        with open(os.path.join(directory(), name), "ab", buffering=0) as file:
            file.write(f"{line}\n".encode())
    except OSError:
        pass  # a cache is never required


def rewrite(name: str, content: list[str]) -> None:
    """Make list `name` have these lines."""
    path = os.path.join(directory(), name)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="ascii") as file:
            file.writelines(f"{line}\n" for line in content)
        os.replace(temporary, path)
    except OSError:
        pass  # a cache is never required


def lines(name: str) -> list[str]:
    """The names of entries in list `name`, each once; whatever else is in it is left out."""
    try:
        found = _used(os.path.join(directory(), name)).decode("ascii", "replace").splitlines()
    except OSError:
        return []
    return [line for line in dict.fromkeys(found) if len(line) == 2 * _DIGEST and line.isalnum()]


def names() -> set[str]:
    """The names of all entries, which is quicker to know than more about them."""
    try:
        return set(os.listdir(directory()))
    except OSError:
        return set()


def _files() -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(directory()) as found:
            for entry in found:
                if entry.is_file(follow_symlinks=False):
                    yield entry.name, entry.stat(follow_symlinks=False)
    except OSError:
        return


def entries() -> Iterator[tuple[str, int]]:
    """Name and size in bytes of each entry."""
    for name, status in _files():
        yield name, status.st_size


def budget() -> int:
    """Bytes that entries may take together: ``$POLYVM_CACHE_SIZE`` MiB, or 1024."""
    try:
        return max(0, int(os.environ.get("POLYVM_CACHE_SIZE", "1024"))) << 20
    except ValueError:
        return 1024 << 20


def trim(most: int) -> int:
    """Remove the entries that nobody has used for longest, until the others take `most` bytes at most; how many were removed."""
    found = [(status.st_mtime, status.st_size, name) for name, status in _files()]
    total = sum(size for _, size, _ in found)
    removed = 0
    for _, size, name in sorted(found):
        if total <= most:
            break
        try:
            os.unlink(os.path.join(directory(), name))
        except OSError:
            continue
        total -= size
        removed += 1
    return removed


def clear() -> int:
    """Remove all entries; how many there were."""
    count = 0
    for name, _ in list(entries()):
        try:
            os.unlink(os.path.join(directory(), name))
            count += 1
        except OSError:
            continue
    return count
