"""System calls by typed signature: one line each drives dispatch, translation of arguments, `--strace` and policy.

    openat(dirfd: dirfd, path: path, flags: oflags, mode: mode)

Types of arguments:

    int, uint, long, ulong, fd, dirfd, mode, oflags, …   a number; the name says how strace shows it
    path, lpath       a file name: followed, or not if it is a symbolic link; translated to the host's name
    str               another text
    in(N), out(N), io(N)   a pointer to N bytes that are read, written, both; N is a number, another argument, or ``arg*8``
    addr              a guest address that the call itself deals with

A signature alone goes to the host's system call of that name. Functions in the ``calls_…`` modules that are registered with
`syscall` do more. Pointers may be NULL. What the guest may not access gives EFAULT.
"""

from __future__ import annotations

import os

from polyvm.errors import MemoryFault
from polyvm.linux.numbers import HOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.linux.arch import Arch
    from polyvm.linux.process import Process, Thread

    Handler = Callable[..., int | None]
    Call = Callable[[Thread], int | None]

EPERM, ENOENT, EINTR, EBADF, EFAULT, EINVAL, ENOSYS = 1, 2, 4, 9, 14, 22, 38


class Argument:
    """One argument: its name, type, and for a buffer the size."""

    __slots__ = ("name", "size", "type")

    def __init__(self, name: str, type_: str, size: str) -> None:
        self.name = name
        self.type = type_
        self.size = size


class Signature:
    """A parsed signature."""

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, arguments: tuple[Argument, ...]) -> None:
        self.name = name
        self.arguments = arguments


def parse_signature(text: str) -> Signature:
    """``name(arg: type, …)``."""
    name, _, rest = text.partition("(")
    arguments: list[Argument] = []
    for part in rest.rsplit(")", 1)[0].split(", "):
        if part:
            label, _, type_ = part.partition(": ")
            kind, _, size = type_.partition("(")
            arguments.append(Argument(label, kind, size.rstrip(")")))
    return Signature(name.strip(), tuple(arguments))


# Registered by the calls_ modules: name → (signature, function). A text here is parsed at the call's first use.
FUNCTIONS: dict[str, tuple[str, Handler]] = {}


def syscall(signature: str) -> Callable[[Handler], Handler]:
    """Register a function for a system call. It gets the thread and the arguments: numbers as the guest gave them, paths as
    bytes of the host, buffers as host addresses."""

    def register(function: Handler) -> Handler:
        FUNCTIONS[signature.partition("(")[0]] = (signature, function)
        return function

    return register


def error(exception: OSError) -> int:
    """The system call result for an exception."""
    return -(exception.errno or EINVAL)


def _size(spec: str, names: list[str]) -> Callable[[list[int]], int]:
    """How to compute a buffer's size from the arguments."""
    base, _, factor = spec.partition("*")
    scale = int(factor or 1)
    if base.isdigit():
        fixed = int(base) * scale
        return lambda values: fixed
    index = names.index(base)
    return lambda values: values[index] * scale


_ACCESS = {"in": "r", "out": "w", "io": "rw"}
_NUMBERS = frozenset(
    "int uint long ulong fd dirfd mode oflags signal pid addr clock prot mapflags whence op".split()
)


def usable(thread: Thread, address: int, size: int, access: str) -> tuple[int, int]:
    """Host address and size of the part of a buffer that the guest may access: calls such as read(2) with a size beyond the
    mapping work as far as it goes. Raises MemoryFault if that is nothing."""
    arena = thread.arena
    try:
        return arena.host(address, size, access), size
    except MemoryFault as fault:
        good = fault.address - address
        if good <= 0 or good >= size:
            raise
        return arena.host(address, good, access), good


def host_path(thread: Thread, address: int, *, follow: bool = True) -> bytes:
    """A path of the guest, as the host knows it."""
    path = thread.arena.read_cstring(address, 4097)
    if len(path) > 4095:
        raise OSError(36, "File name too long")
    paths = thread.process.paths
    if paths.root is None or not path.startswith(b"/"):
        return path
    return paths.resolve(path, follow=follow)


def compile_call(signature: Signature, function: Handler | None, arch: Arch) -> Call:
    """A closure that does one system call: reads the registers, translates, calls."""
    import ctypes

    first = arch.first
    last = first + len(signature.arguments)
    names = [argument.name for argument in signature.arguments]
    buffers: list[tuple[int, str, Callable[[list[int]], int]]] = []
    texts: list[tuple[int, str]] = []
    flags: list[int] = []
    for index, argument in enumerate(signature.arguments):
        if argument.type in _ACCESS:
            buffers.append((index, _ACCESS[argument.type], _size(argument.size, names)))
        elif argument.type in ("path", "lpath", "str"):
            texts.append((index, argument.type))
        elif argument.type == "oflags" and arch.open_flags:
            flags.append(index)
        elif argument.type not in _NUMBERS:
            raise AssertionError(f"{signature.name}: type {argument.type}")
    number = HOST.get(signature.name, -1)
    sizes = [names.index(a.size) if a.size in names else -1 for a in signature.arguments]

    def plain(thread: Thread) -> int | None:
        x = thread.core.x
        return thread.host.call(number, *x[first:last])

    def general(thread: Thread) -> int | None:
        values: list[int] = thread.core.x[first:last]
        arguments: list[int | bytes] = [*values]
        for index in flags:
            arguments[index] = arch.host_flags(values[index])
        for index, access, size in buffers:
            if values[index]:
                wanted = size(values)
                if wanted > 4096 and function is None and sizes[index] >= 0:
                    host, usable_size = usable(thread, values[index], wanted, access)
                    arguments[sizes[index]] = usable_size
                    arguments[index] = host
                else:
                    arguments[index] = thread.arena.host(values[index], wanted, access)
        keep: list[object] = []
        for index, kind in texts:
            if values[index]:
                if kind == "str":
                    text = thread.arena.read_cstring(values[index])
                else:
                    text = host_path(thread, values[index], follow=kind == "path")
                if function is None:
                    buffer = ctypes.create_string_buffer(text)
                    keep.append(buffer)
                    arguments[index] = ctypes.addressof(buffer)
                else:
                    arguments[index] = text
        if function is None:
            return thread.host.call(number, *arguments)  # type: ignore[arg-type]  # all texts have become addresses
        return function(thread, *arguments)

    if buffers or texts or flags:
        return general
    if function is None:
        return plain

    def direct(thread: Thread) -> int | None:
        return function(thread, *thread.core.x[first:last])

    return direct


class Table:
    """The system calls of one process, by number."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.arch = process.arch
        self._number = self.arch.number
        self.names = self.arch.names()
        self._calls: dict[int, Call] = {}
        self._signatures: dict[int, Signature] = {}
        guarded = process.strace_fd >= 0 or (process.policy is not None and process.policy.root is not None)
        self.dispatch: Call = self._guarded if guarded else self._dispatch

    def _dispatch(self, thread: Thread) -> int | None:
        """Do the system call that the thread's registers ask for."""
        number = thread.core.x[self._number]
        call = self._calls.get(number)
        try:
            if call is None:
                call = self._find(number)
            return call(thread)
        except MemoryFault:
            return -EFAULT
        except OSError as failure:
            return error(failure)

    def signature(self, number: int) -> Signature:
        """The signature of a call."""
        self._find(number)
        return self._signatures[number]

    def _find(self, number: int) -> Call:
        from polyvm.linux import registry

        found = self._calls.get(number)
        if found is None:
            name = self.names.get(number, "")
            text, function = registry.lookup(name, self.arch)
            signature = parse_signature(text) if text else Signature(name or f"syscall_{number}", ())
            policy = self.process.policy
            if policy is not None and policy.denies(name):
                found = _refuse
            elif not text:
                found = _missing
            else:
                found = compile_call(signature, function, self.arch)
            self._signatures[number] = signature
            self._calls[number] = found
        return found

    def _guarded(self, thread: Thread) -> int | None:
        """The same with policy and tracing."""
        number = thread.core.x[self._number]
        values = self.arch.arguments(thread.core)
        signature = self.signature(number)
        process = self.process
        tracer, entry = None, ""
        if process.strace_fd >= 0:
            from polyvm.linux import strace

            tracer = strace
            entry = strace.entry(thread, signature, values)
            if signature.name in ("exit", "exit_group", "rt_sigreturn", "execve"):
                _print(process, f"{entry} = ?\n")
        if process.paths.jail is not None:
            from polyvm.linux import jail

            result = jail.dispatch(thread, signature, lambda: self._dispatch(thread))
        else:
            result = self._dispatch(thread)
        if tracer is not None and result is not None:
            _print(process, f"{entry}{tracer.result(thread, signature, values, result)}\n")
        return result


def _print(process: Process, text: str) -> None:
    try:
        os.write(process.strace_fd, text.encode())
    except OSError:
        process.strace_fd = -1  # the guest has closed it, or its reader has gone


def _missing(thread: Thread) -> int:
    return -ENOSYS


def _refuse(thread: Thread) -> int:
    return -EPERM
