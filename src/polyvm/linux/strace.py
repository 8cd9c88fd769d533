"""`--strace`: system calls as text, in the manner of strace(1), from the signatures that drive dispatch."""

from __future__ import annotations

import errno
import signal

from polyvm.errors import MemoryFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.linux.process import Thread
    from polyvm.linux.syscalls import Argument, Signature

_OPEN = (
    (0o1, "O_WRONLY"), (0o2, "O_RDWR"), (0o100, "O_CREAT"), (0o200, "O_EXCL"), (0o400, "O_NOCTTY"), (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"), (0o4000, "O_NONBLOCK"), (0o200000, "O_DIRECTORY"), (0o400000, "O_NOFOLLOW"),
    (0o2000000, "O_CLOEXEC"), (0o10000000, "O_PATH"),
)  # fmt: skip
_PROT = ((1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC"))
_MAP = ((1, "MAP_SHARED"), (2, "MAP_PRIVATE"), (0x10, "MAP_FIXED"), (0x20, "MAP_ANONYMOUS"), (0x800, "MAP_DENYWRITE"),
        (0x4000, "MAP_NORESERVE"), (0x20000, "MAP_STACK"), (0x100000, "MAP_FIXED_NOREPLACE"))  # fmt: skip
_WHENCE = {0: "SEEK_SET", 1: "SEEK_CUR", 2: "SEEK_END"}
_CLOCKS = {0: "CLOCK_REALTIME", 1: "CLOCK_MONOTONIC", 2: "CLOCK_PROCESS_CPUTIME_ID", 3: "CLOCK_THREAD_CPUTIME_ID"}
_SHOWN = 32


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _flags(value: int, table: tuple[tuple[int, str], ...], zero: str) -> str:
    names = [name for bit, name in table if value & bit]
    rest = value & ~sum(bit for bit, _ in table)
    if rest:
        names.append(f"{rest:#x}")
    return "|".join(names) or zero


def _quoted(data: bytes) -> str:
    text = data[:_SHOWN].decode("latin-1").encode("unicode_escape").decode().replace('"', '\\"')
    return f'"{text}"' + ("..." if len(data) > _SHOWN else "")


def _signal(value: int) -> str:
    try:
        return signal.Signals(value & 0xFFFFFFFF).name
    except ValueError:
        return str(_signed(value, 32))


def _argument(thread: Thread, argument: Argument, values: list[int], sizes: dict[str, int], value: int) -> str:
    kind = argument.type
    if kind in ("path", "lpath", "str") or (kind == "addr" and argument.name == "path"):
        if not value:
            return "NULL"
        return _quoted_text(thread, value)
    if kind == "in" and argument.name in ("buf", "value"):
        size = sizes.get(argument.size, 0)
        try:
            return _quoted(thread.arena.read(value, min(size, _SHOWN + 1)))
        except MemoryFault:
            return f"{value:#x}"
    if kind in ("in", "out", "io", "addr"):
        return f"{value:#x}" if value else "NULL"
    simple = {"uint": lambda: str(value & 0xFFFFFFFF), "ulong": lambda: str(value), "long": lambda: str(_signed(value, 64))}
    if kind in simple:
        return simple[kind]()
    if kind == "dirfd" and _signed(value, 32) == -100:
        return "AT_FDCWD"
    if kind == "mode":
        return f"{value & 0xFFFFFFFF:#o}".replace("0o", "0")
    if kind == "oflags":
        return _flags(thread.process.arch.host_flags(value & 0xFFFFFFFF), _OPEN, "O_RDONLY")
    if kind == "prot":
        return _flags(value & 0xFFFFFFFF, _PROT, "PROT_NONE")
    if kind == "mapflags":
        return _flags(value & 0xFFFFFFFF, _MAP, "0")
    if kind == "signal":
        return _signal(value)
    if kind == "whence":
        return _WHENCE.get(value, str(value))
    if kind == "clock":
        return _CLOCKS.get(value, str(_signed(value, 32)))
    return str(_signed(value, 32))


def _quoted_text(thread: Thread, address: int) -> str:
    try:
        text = thread.arena.read_cstring(address, 4097).decode("utf-8", "backslashreplace")
        return '"' + text.replace('"', '\\"') + '"'
    except MemoryFault:
        return f"{address:#x}"


def entry(thread: Thread, signature: Signature, values: list[int]) -> str:
    """The call with its arguments, before it is made."""
    sizes = {argument.name: value for argument, value in zip(signature.arguments, values, strict=False)}
    shown = [
        _argument(thread, argument, values, sizes, value)
        for argument, value in zip(signature.arguments, values, strict=False)
    ]
    return f"{thread.tid} {signature.name}({', '.join(shown)})"


def result(thread: Thread, signature: Signature, values: list[int], value: int) -> str:
    """What follows the call once it has returned."""
    if value == -512:
        return " = ? ERESTARTSYS (interrupted by a signal)"
    if -4096 < value < 0:
        import os

        return f" = -1 {errno.errorcode.get(-value, -value)} ({os.strerror(-value)})"
    if signature.name in ("mmap", "brk", "mremap"):
        return f" = {value:#x}"
    return f" = {value}"
