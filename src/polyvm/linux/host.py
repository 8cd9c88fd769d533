"""What the host's kernel calls in polyvm, and how polyvm calls it: a few hand-assembled functions for x86-64.

`safe_syscall` makes a system call unless a signal for the guest came first, without a window between the test and the call. The
signal handler notes one signal for the thread that it hits, asks that thread's core to stop, and blocks all others until the
thread has dealt with it, so that the kernel queues them. Neither runs Python.

It also deals with accesses to guest memory that the host refuses:

- In a stencil: the thread goes on in the interpreter, at the same instruction.
- In a compiled region, where the access may be refused: the thread goes on where the region says (`CodeSpace.faults`).
- Elsewhere (the interpreter, a copy of a loop without checks, polyvm's own code) another thread must have changed the map
  meanwhile. The page is made accessible, so that it is as if that came later; the core is asked to stop, and the thread protects
  the page again.
- What stays impossible (a file mapping that has become shorter) is an exit of the core.

Each guest thread has a record, which the host's GS base points to:

    0   u64  address of the core's stop word    8   u32  a signal is noted       12  u32  its number
   16   u64  native code: start                24   u64  end                     32  u64  where a fault goes on
   40   u64  address of rsp, and rbp           48   u64  address of the word that takes the faulting address
   80   u64  compiled regions: start           88   u64  end                    104  u64  where a fault goes on
  112   u64  address of the CPU record       120   u64  table of accesses in regions
   56   u64  safe_syscall: start               64   u64  end                     72  u64  where it gives up
    96   u64  address of this record            128  the signal's siginfo_t, 128 bytes
  256   u64  guest memory: start              264   u64  its size
  272   u64  made accessible: start           280   u64  end, of all such pages
  288   u64  stencils: start                  296   u64  end                    304  u64  where a fault goes on, its pc in r13
"""

from __future__ import annotations

import ctypes
import mmap
import os

from polyvm.errors import EngineError
from polyvm.linux.numbers import HOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.mem import Arena

ERESTARTSYS = 512
_RECORD_SIZE = 4096
_SIGINFO = 128
_NOWHERE = (1 << 64) - 1
_ARCH_SET_GS = 0x1001
SA_SIGINFO, SA_RESTORER, SA_RESTART, SA_ONSTACK = 4, 0x04000000, 0x10000000, 0x08000000
KICK = 64  # wakes a guest thread for polyvm's own reasons; the guest may use the signal, too
_KICK_COOKIE = 0x706F6C79766D  # in si_value, tells a kick from the guest's own use
SYNCHRONOUS = 1 << 10 | 1 << 6  # SIGSEGV and SIGBUS, which stay unblocked

_SAFE_SYSCALL = bytes.fromhex(
    "49 89 fb"              # mov r11, rdi             the record's flag
    "48 8b 06"              # mov rax, [rsi]           number and arguments
    "48 8b 56 18"           # mov rdx, [rsi + 24]
    "4c 8b 56 20"           # mov r10, [rsi + 32]
    "4c 8b 46 28"           # mov r8, [rsi + 40]
    "4c 8b 4e 30"           # mov r9, [rsi + 48]
    "48 8b 7e 08"           # mov rdi, [rsi + 8]
    "48 8b 76 10"           # mov rsi, [rsi + 16]
    "41 83 3b 00"           # cmp dword [r11], 0       start of the window
    "75 03"                 # jne out
    "0f 05"                 # syscall
    "c3"                    # ret                      end of the window
    "48 c7 c0 00 fe ff ff"  # out: mov rax, -512
    "c3"                    # ret
)  # fmt: skip
_WINDOW, _WINDOW_END, _WINDOW_OUT = 30, 38, 39

class _Assembler:
    """Joins pieces of machine code with short jumps between labels."""

    def __init__(self) -> None:
        self.code = bytearray()
        self.labels: dict[str, int] = {}
        self.jumps: list[tuple[int, str, int]] = []

    def put(self, text: str) -> None:
        """Bytes in hexadecimal."""
        self.code += bytes.fromhex(text)

    def jump(self, opcode: str, label: str) -> None:
        """A jump with an 8-bit distance, or one of 32 bits where the opcode takes that."""
        self.put(opcode)
        size = 4 if opcode.startswith(("0f", "e9")) else 1
        self.jumps.append((len(self.code), label, size))
        self.code += bytes(size)

    def label(self, name: str) -> None:
        """Name this place."""
        self.labels[name] = len(self.code)

    def finish(self) -> bytes:
        """The code with its distances."""
        for at, label, size in self.jumps:
            distance = self.labels[label] - at - size
            try:
                self.code[at : at + size] = distance.to_bytes(size, "little", signed=True)
            except OverflowError:
                raise EngineError(f"jump to {label} is too long") from None
        return bytes(self.code)


def assemble_handler() -> bytes:
    """void handler(int signal, siginfo_t *info, ucontext_t *context)"""
    a = _Assembler()
    a.put("83 ff 0b")  # cmp edi, SIGSEGV
    a.jump("0f 84", "fault")
    a.put("83 ff 07")  # cmp edi, SIGBUS
    a.jump("0f 84", "fault")
    a.label("note")
    a.put("65 48 8b 04 25 60 00 00 00")  # mov rax, gs:[96]         the record's own address
    a.put("83 78 08 00")  # cmp dword [rax + 8], 0
    a.jump("75", "done")
    a.put("89 78 0c")  # mov [rax + 12], edi
    a.put("48 8d b8 80 00 00 00")  # lea rdi, [rax + 128]
    a.put("b9 10 00 00 00")  # mov ecx, 16
    a.put("f3 48 a5")  # rep movsq                  siginfo
    a.put("c7 40 08 01 00 00 00")  # mov dword [rax + 8], 1
    a.put("48 8b 08")  # mov rcx, [rax]
    a.put("c7 01 01 00 00 00")  # mov dword [rcx], 1         stop the core
    a.put("48 c7 c1 bf fb ff ff")  # mov rcx, ~(SIGSEGV | SIGBUS)
    a.put("48 89 8a 28 01 00 00")  # mov [rdx + 296], rcx       uc_sigmask
    a.put("48 8b 8a a8 00 00 00")  # mov rcx, [rdx + 168]       rip
    a.put("48 3b 48 38")  # cmp rcx, [rax + 56]
    a.jump("72", "done")
    a.put("48 3b 48 40")  # cmp rcx, [rax + 64]
    a.jump("73", "done")
    a.put("48 8b 48 48")  # mov rcx, [rax + 72]
    a.put("48 89 8a a8 00 00 00")  # mov [rdx + 168], rcx
    a.label("done")
    a.put("c3")  # ret
    a.label("fault")
    a.put("83 7e 08 00")  # cmp dword [rsi + 8], 0     si_code: sent by somebody?
    a.jump("0f 8e", "note")
    a.put("65 48 8b 04 25 60 00 00 00")  # mov rax, gs:[96]
    a.put("48 8b 8a a8 00 00 00")  # mov rcx, [rdx + 168]       rip
    a.put("48 3b 88 20 01 00 00")  # cmp rcx, [rax + 288]
    a.jump("72", "other")
    a.put("48 3b 88 28 01 00 00")  # cmp rcx, [rax + 296]
    a.jump("73", "other")
    a.put("48 89 4a 50")  # mov [rdx + 80], rcx        r13
    a.put("4c 8b 88 30 01 00 00")  # mov r9, [rax + 304]
    a.jump("e9", "guest")
    a.label("other")
    a.put("4c 8b 48 20")  # mov r9, [rax + 32]
    a.put("48 3b 48 10")  # cmp rcx, [rax + 16]
    a.jump("72", "region")
    a.put("48 3b 48 18")  # cmp rcx, [rax + 24]
    a.jump("0f 82", "interpreter")
    a.label("region")
    a.put("48 3b 48 50")  # cmp rcx, [rax + 80]
    a.jump("0f 82", "elsewhere")
    a.put("48 3b 48 58")  # cmp rcx, [rax + 88]
    a.jump("0f 83", "elsewhere")
    a.put("48 2b 48 50")  # sub rcx, [rax + 80]
    a.put("41 89 c9")  # mov r9d, ecx
    a.put("c1 e9 06")  # shr ecx, 6                LINE
    a.put("4c 8b 40 78")  # mov r8, [rax + 120]
    a.put("4d 8b 04 c8")  # mov r8, [r8 + rcx * 8]
    a.put("4d 85 c0")  # test r8, r8
    a.jump("74", "lost")
    a.put("45 8b 10")  # mov r10d, [r8]
    a.put("45 29 d1")  # sub r9d, r10d
    a.put("49 83 c0 04")  # add r8, 4
    a.label("next")
    a.put("41 8b 08")  # mov ecx, [r8]
    a.put("85 c9")  # test ecx, ecx
    a.jump("74", "lost")
    a.put("49 83 c0 08")  # add r8, 8
    a.put("44 39 c9")  # cmp ecx, r9d
    a.jump("75", "next")
    a.put("41 8b 48 fc")  # mov ecx, [r8 - 4]
    a.put("4c 01 d1")  # add rcx, r10
    a.put("48 03 48 50")  # add rcx, [rax + 80]
    a.put("48 89 8a a8 00 00 00")  # mov [rdx + 168], rcx       rip
    a.put("c3")  # ret
    a.label("lost")
    a.put("83 ff 0b")  # cmp edi, SIGSEGV
    a.jump("74", "open")
    a.label("leave")
    a.put("4c 8b 48 68")  # mov r9, [rax + 104]
    a.jump("eb", "guest")
    a.label("interpreter")
    a.put("83 ff 0b")  # cmp edi, SIGSEGV
    a.jump("74", "open")
    a.label("guest")
    a.put("48 8b 48 70")  # mov rcx, [rax + 112]
    a.put("48 89 4a 48")  # mov [rdx + 72], rcx        r12
    a.put("48 8b 4e 10")  # mov rcx, [rsi + 16]        si_addr
    a.put("4c 8b 40 30")  # mov r8, [rax + 48]
    a.put("49 89 08")  # mov [r8], rcx
    a.put("4c 8b 40 28")  # mov r8, [rax + 40]
    a.put("49 8b 48 08")  # mov rcx, [r8 + 8]
    a.put("48 89 4a 78")  # mov [rdx + 120], rcx       rbp
    a.put("4d 8b 00")  # mov r8, [r8]
    a.put("4c 89 82 a0 00 00 00")  # mov [rdx + 160], r8        rsp
    a.put("4c 89 8a a8 00 00 00")  # mov [rdx + 168], r9        rip
    a.put("c3")  # ret
    a.label("elsewhere")
    a.put("83 ff 0b")  # cmp edi, SIGSEGV
    a.jump("0f 85", "die")
    a.label("open")
    a.put("48 8b 7e 10")  # mov rdi, [rsi + 16]        si_addr
    a.put("48 81 e7 00 f0 ff ff")  # and rdi, -4096
    a.put("48 89 f9")  # mov rcx, rdi
    a.put("48 2b 88 00 01 00 00")  # sub rcx, [rax + 256]
    a.put("48 3b 88 08 01 00 00")  # cmp rcx, [rax + 264]
    a.jump("0f 83", "refuse")
    a.put("48 3b b8 10 01 00 00")  # cmp rdi, [rax + 272]
    a.jump("73", "low")
    a.put("48 89 b8 10 01 00 00")  # mov [rax + 272], rdi
    a.label("low")
    a.put("48 8d 8f 00 10 00 00")  # lea rcx, [rdi + 4096]
    a.put("48 3b 88 18 01 00 00")  # cmp rcx, [rax + 280]
    a.jump("76", "high")
    a.put("48 89 88 18 01 00 00")  # mov [rax + 280], rcx
    a.label("high")
    a.put("50 52 56")  # push rax; push rdx; push rsi
    a.put("be 00 10 00 00")  # mov esi, 4096
    a.put("ba 03 00 00 00")  # mov edx, PROT_READ | PROT_WRITE
    a.put("b8 0a 00 00 00")  # mov eax, mprotect
    a.put("0f 05")  # syscall
    a.put("48 89 c1")  # mov rcx, rax
    a.put("5e 5a 58")  # pop rsi; pop rdx; pop rax
    a.put("85 c9")  # test ecx, ecx
    a.jump("75", "refuse")
    a.put("48 8b 08")  # mov rcx, [rax]
    a.put("c7 01 01 00 00 00")  # mov dword [rcx], 1         stop the core
    a.put("c3")  # ret
    a.label("refuse")
    a.put("48 8b 8a a8 00 00 00")  # mov rcx, [rdx + 168]       rip
    a.put("4c 8b 48 20")  # mov r9, [rax + 32]
    a.put("48 3b 48 10")  # cmp rcx, [rax + 16]
    a.jump("72", "compiled")
    a.put("48 3b 48 18")  # cmp rcx, [rax + 24]
    a.jump("0f 82", "guest")
    a.label("compiled")
    a.put("48 3b 48 50")  # cmp rcx, [rax + 80]
    a.jump("72", "die")
    a.put("48 3b 48 58")  # cmp rcx, [rax + 88]
    a.jump("0f 82", "leave")
    a.label("die")  # not the guest's doing: the default action, on the way back
    a.put("48 83 ec 28")  # sub rsp, 40
    a.put("31 c0")  # xor eax, eax
    for offset in (0, 8, 16, 24):
        a.put(f"48 89 44 24 {offset:02x}")  # mov [rsp + offset], rax
    a.put("48 89 e6")  # mov rsi, rsp               struct sigaction: SIG_DFL
    a.put("31 d2")  # xor edx, edx
    a.put("41 ba 08 00 00 00")  # mov r10d, 8
    a.put("b8 0d 00 00 00")  # mov eax, rt_sigaction
    a.put("0f 05")  # syscall
    a.put("48 83 c4 28")  # add rsp, 40
    a.put("c3")  # ret
    return a.finish()


_RESTORER = bytes.fromhex("b8 0f 00 00 00 0f 05")  # mov eax, rt_sigreturn; syscall

_libc = ctypes.CDLL(None, use_errno=True)
_Safe = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


class _Native:
    """The functions, in executable memory of their own."""

    def __init__(self) -> None:
        pieces = {"safe": _SAFE_SYSCALL, "handler": assemble_handler(), "restorer": _RESTORER}
        size = sum(-(-len(code) // 64) * 64 for code in pieces.values())
        self.memory = mmap.mmap(-1, -(-size // 4096) * 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.address: dict[str, int] = {}
        at = 0
        for name, code in pieces.items():
            self.memory[at : at + len(code)] = code
            self.address[name] = start + at
            at += -(-len(code) // 64) * 64
        if _libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(len(self.memory)), 5):
            raise EngineError(f"cannot make code executable: {os.strerror(ctypes.get_errno())}")
        self.safe = _Safe(self.address["safe"])


_native: list[_Native] = []


def native() -> _Native:
    """The native functions; made at the first use."""
    if not _native:
        _native.append(_Native())
    return _native[0]


class HostThread:
    """The host's side of one guest thread: its record and its way to make system calls."""

    def __init__(self, stop_word: int, faults: tuple[int, ...], arena: Arena) -> None:
        functions = native()
        self._memory = mmap.mmap(-1, _RECORD_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.record = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        words = (ctypes.c_uint64 * 64).from_address(self.record)
        self._words = words
        self._noted = ctypes.c_uint32.from_address(self.record + 8)
        self._number = ctypes.c_uint32.from_address(self.record + 12)
        safe = functions.address["safe"]
        words[12] = self.record
        words[7], words[8], words[9] = safe + _WINDOW, safe + _WINDOW_END, safe + _WINDOW_OUT
        self.attach(stop_word, faults)
        self.use(arena)
        self._arguments = (ctypes.c_uint64 * 7)()
        self._pointer = ctypes.addressof(self._arguments)
        self._flag = self.record + 8
        self._safe = functions.safe

    def attach(self, stop_word: int, faults: tuple[int, ...]) -> None:
        """The core that the thread runs."""
        words = self._words
        words[0] = stop_word
        words[2:7] = list(faults[:5])
        words[10], words[11], words[13], words[14], words[15] = faults[5:10]
        words[36:39] = list(faults[10:])

    def use(self, arena: Arena) -> None:
        """The guest's memory."""
        self._words[32], self._words[33] = arena.base, arena.size
        self._words[34], self._words[35] = _NOWHERE, 0

    def reguard(self, arena: Arena) -> None:
        """Protect the pages again that the signal handler has made accessible."""
        words = self._words
        if words[35]:
            start, end = words[34] - arena.base, words[35] - arena.base
            words[34], words[35] = _NOWHERE, 0
            arena.reguard(start, end)

    def enter(self) -> None:
        """Make this the record of the calling host thread."""
        self.raw("arch_prctl", _ARCH_SET_GS, self.record)

    def call(self, number: int, *arguments: int) -> int:
        """The host's system call `number`: its result, -errno, or -ERESTARTSYS if a signal for the guest came first."""
        words = self._arguments
        words[0] = number
        at = 1
        for value in arguments:
            words[at] = value & 0xFFFFFFFFFFFFFFFF
            at += 1
        result: int = self._safe(self._flag, self._pointer)
        return result

    def raw(self, name: str, *arguments: int) -> int:
        """A system call of polyvm's own, signals or not; the result or -errno."""
        return raw(name, *arguments)

    @property
    def noted(self) -> bool:
        """True if a signal is noted."""
        return self._noted.value != 0

    def take(self) -> tuple[int, bytes]:
        """The noted signal and its siginfo; the others stay blocked until the mask is set."""
        number, info = self._number.value, ctypes.string_at(self.record + _SIGINFO, 128)
        self._noted.value = 0
        return number, info

    def set_mask(self, mask: int) -> None:
        """Block these signals on the host (bit n - 1 for signal n)."""
        set_mask(mask & ~(SYNCHRONOUS | 1 << KICK - 1))


_ZEROS = (ctypes.c_uint64 * 1)(0)
_NEVER = ctypes.addressof(_ZEROS)


def raw(name: str, *arguments: int) -> int:
    """A system call on the host, without regard to signals; the result or -errno."""
    words = (ctypes.c_uint64 * 7)(HOST[name], *(value & 0xFFFFFFFFFFFFFFFF for value in arguments))
    result: int = native().safe(_NEVER, ctypes.addressof(words))
    return result


def set_mask(mask: int) -> None:
    """The host thread's signal mask, all 64 signals."""
    word = ctypes.c_uint64(mask & 0xFFFFFFFFFFFFFFFF)
    raw("rt_sigprocmask", 2, ctypes.addressof(word), 0, 8)


def get_mask() -> int:
    """The host thread's signal mask."""
    word = ctypes.c_uint64()
    raw("rt_sigprocmask", 0, 0, ctypes.addressof(word), 8)
    return word.value


def set_action(signal: int, handler: int | None, flags: int = 0) -> int:
    """How the host treats `signal`: 0 default, 1 ignore, None polyvm's handler."""
    functions = native()
    if handler is None:
        words = (functions.address["handler"], SA_SIGINFO | SA_RESTORER | SA_RESTART | flags,
                 functions.address["restorer"], 0xFFFFFFFFFFFFFFFF & ~SYNCHRONOUS)  # fmt: skip
    else:
        words = (handler, SA_RESTORER | flags, functions.address["restorer"], 0)
    action = (ctypes.c_uint64 * 4)(*words)
    return raw("rt_sigaction", signal, ctypes.addressof(action), 0, 8)


def get_action(signal: int) -> int:
    """The host's handler for `signal`: 0 default, 1 ignore, else an address."""
    action = (ctypes.c_uint64 * 4)()
    raw("rt_sigaction", signal, 0, ctypes.addressof(action), 8)
    return action[0]


def kick(pid: int, tid: int) -> None:
    """Wake a guest thread: out of native code, out of a system call."""
    info = (ctypes.c_uint32 * 32)()
    info[0], info[2] = KICK, 0xFFFFFFFF  # si_signo, si_code = SI_QUEUE
    ctypes.c_uint64.from_buffer(info, 24).value = _KICK_COOKIE
    raw("rt_tgsigqueueinfo", pid, tid, KICK, ctypes.addressof(info))


def is_kick(number: int, info: bytes) -> bool:
    """True for a signal that `kick` sent."""
    return number == KICK and int.from_bytes(info[24:32], "little") == _KICK_COOKIE
