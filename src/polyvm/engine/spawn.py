"""Starting a process that the guest cannot see.

A guest that waits for any child must not find polyvm's own. Its starter is made with `clone` and no exit signal: `wait4(-1)` does
not answer that one, and no SIGCHLD comes (clone(2), wait(2) on __WCLONE). With `execve` a process becomes a child like any other,
so the starter only starts the process proper, whose parent is then the system's, or the nearest one that takes in orphans
(prctl(2), PR_SET_CHILD_SUBREAPER). It holds none of the guest's descriptors.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys

import polyvm
from polyvm.errors import EngineError
from polyvm.mem.host import host_mmap, host_mprotect

# The child goes on with the same memory and stack, the caller when that has ended or executes another program.
_CLONE = (
    "bf 00 41 00 00"        # mov edi, CLONE_VM | CLONE_VFORK
    "31 f6"                 # xor esi, esi             the same stack
    "31 d2"                 # xor edx, edx
    "45 31 d2"              # xor r10d, r10d
    "45 31 c0"              # xor r8d, r8d
    "b8 38 00 00 00"        # mov eax, clone
    "0f 05"                 # syscall
    "85 c0"                 # test eax, eax
)  # fmt: skip

# int start(path, argv, envp, fd): the process's id; fd becomes descriptor 0, all others are closed
_START = bytes.fromhex(
    "49 89 f8"              # mov r8, rdi
    "49 89 f1"              # mov r9, rsi
    "49 89 d2"              # mov r10, rdx             kept apart: clone takes its arguments from here
    "41 52"                 # push r10
    "41 51"                 # push r9
    "41 50"                 # push r8
    "51"                    # push rcx
    "6a 00"                 # push 0                   the process's id
    + _CLONE +
    "75 69"                 # jnz parent
    + _CLONE +
    "74 0c"                 # jz process
    "89 04 24"              # mov [rsp], eax
    "31 ff"                 # xor edi, edi
    "b8 3c 00 00 00"        # mov eax, exit
    "0f 05"                 # syscall
    "48 8b 7c 24 08"        # process: mov rdi, [rsp + 8]   the descriptor
    "31 f6"                 # xor esi, esi
    "b8 21 00 00 00"        # mov eax, dup2
    "0f 05"                 # syscall
    "bf 01 00 00 00"        # mov edi, 1
    "be ff ff ff ff"        # mov esi, -1
    "31 d2"                 # xor edx, edx
    "b8 b4 01 00 00"        # mov eax, close_range
    "0f 05"                 # syscall
    "48 8b 7c 24 10"        # mov rdi, [rsp + 16]
    "48 8b 74 24 18"        # mov rsi, [rsp + 24]
    "48 8b 54 24 20"        # mov rdx, [rsp + 32]
    "b8 3b 00 00 00"        # mov eax, execve
    "0f 05"                 # syscall
    "bf 7f 00 00 00"        # mov edi, 127
    "b8 3c 00 00 00"        # mov eax, exit
    "0f 05"                 # syscall
    "78 1b"                 # parent: js out
    "89 c7"                 # mov edi, eax
    "31 f6"                 # again: xor esi, esi
    "ba 00 00 00 80"        # mov edx, __WCLONE
    "45 31 d2"              # xor r10d, r10d
    "b8 3d 00 00 00"        # mov eax, wait4
    "0f 05"                 # syscall
    "83 f8 fc"              # cmp eax, -EINTR
    "74 ea"                 # je again
    "8b 04 24"              # mov eax, [rsp]
    "48 83 c4 28"           # out: add rsp, 40
    "c3"                    # ret
)  # fmt: skip


def start_hidden(path: str, argv: list[str], environment: dict[str, str], fd: int) -> int:
    """Start program `path` with `fd` as its descriptor 0 and no other; its process id. Raises EngineError."""
    place = host_mmap(0, 4096, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    ctypes.memmove(place, _START, len(_START))
    host_mprotect(place, 4096, mmap.PROT_READ | mmap.PROT_EXEC)
    words = [os.fsencode(word) for word in argv]
    variables = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
    arguments = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    strings = (ctypes.c_char_p * (len(variables) + 1))(*variables, None)
    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)(place)
    pid: int = function(os.fsencode(path), ctypes.addressof(arguments), ctypes.addressof(strings), fd)
    if pid < 0:
        raise EngineError(f"cannot start {path}: {os.strerror(-pid)}")
    return pid


def start_python(code: str, fd: int) -> int:
    """Start a process that executes `code`, with this polyvm; its id. Raises EngineError."""
    root = os.path.dirname(os.path.dirname(polyvm.__file__))
    code = f"import sys; sys.path.insert(0, {root!r}); {code}"
    return start_hidden(sys.executable, [sys.executable, "-c", code], dict(os.environ), fd)


def stand_back(nice: int) -> None:
    """In such a process: whatever happens to the guest's, this one ends by itself, and lets others go first."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTOU, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    sink = os.open(os.devnull, os.O_RDWR)
    while sink < 2:
        sink = os.dup(sink)
    try:
        os.setsid()
        os.nice(nice)
    except OSError:
        pass  # not allowed here, and not needed
