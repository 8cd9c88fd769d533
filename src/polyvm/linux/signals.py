"""Guest signals: dispositions, masks, and the frame on the guest's stack (kernel/signal.c, and each
architecture's signal.c)."""

from __future__ import annotations

import struct

from polyvm.errors import MemoryFault
from polyvm.linux import host
from polyvm.linux.arch import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.linux.process import Process, Thread

SIGHUP, SIGINT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGSEGV = 1, 2, 4, 5, 6, 7, 8, 9, 11
SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH, SIGSYS = 17, 18, 19, 20, 21, 22, 23, 28, 31
SIG_DFL, SIG_IGN = 0, 1
SA_NOCLDSTOP, SA_NOCLDWAIT, SA_SIGINFO = 1, 2, 4
SA_ONSTACK, SA_RESTART, SA_NODEFER, SA_RESETHAND = 0x08000000, 0x10000000, 0x40000000, 0x80000000
SS_ONSTACK, SS_DISABLE, SS_AUTODISARM = 1, 2, 1 << 31
SEGV_MAPERR, SEGV_ACCERR, BUS_ADRALN, BUS_ADRERR, ILL_ILLOPC, TRAP_BRKPT = 1, 2, 1, 2, 1, 1
IGNORED_BY_DEFAULT = frozenset((SIGCHLD, SIGCONT, SIGURG, SIGWINCH))
STOPS_BY_DEFAULT = frozenset((SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU))
UNMASKABLE = 1 << SIGKILL - 1 | 1 << SIGSTOP - 1
M64 = (1 << 64) - 1

# struct rt_sigframe: siginfo, ucontext (flags, link, stack, mask, padding), then the architecture's struct sigcontext.
_INFO = 128
_STACK = _INFO + 16
_MASK = _INFO + 40
_CONTEXT = _INFO + 176
SA_RESTORER = 0x04000000


class Action:
    """A guest's struct sigaction."""

    __slots__ = ("flags", "handler", "mask", "restorer")

    def __init__(self, handler: int = SIG_DFL, flags: int = 0, mask: int = 0, restorer: int = 0) -> None:
        self.handler = handler
        self.flags = flags
        self.mask = mask
        self.restorer = restorer


def make_info(number: int, code: int, address: int = 0) -> bytes:
    """A siginfo_t for a fault."""
    return struct.pack("<iiiiQ", number, 0, code, 0, address & M64).ljust(128, b"\0")


def install(process: Process, number: int) -> None:
    """Make the host treat signal `number` as the guest's action wants."""
    action = process.actions[number]
    if number in (SIGSEGV, SIGBUS, host.KICK):
        host.set_action(number, None)
        return
    flags = action.flags & (SA_NOCLDSTOP | SA_NOCLDWAIT)
    if action.handler in (SIG_DFL, SIG_IGN):
        host.set_action(number, action.handler, flags)
    else:
        host.set_action(number, None, flags)


def start(process: Process) -> None:
    """Take over the host's signals. Python's own handlers go; what this process inherited as ignored stays so."""
    for number in range(1, 65):
        if number in (SIGKILL, SIGSTOP):
            continue
        found = host.get_action(number)
        # Python ignores SIGPIPE and SIGXFSZ for itself.
        ignored = found == SIG_IGN and number not in (13, 25)
        process.actions[number] = Action(SIG_IGN if ignored else SIG_DFL)
        if found not in (SIG_DFL, SIG_IGN) or number in (13, 25, SIGSEGV, SIGBUS, host.KICK):
            install(process, number)


def reset_for_exec(process: Process) -> None:
    """execve: handlers become default, ignored stays ignored."""
    for number in range(1, 65):
        if process.actions[number].handler not in (SIG_DFL, SIG_IGN):
            process.actions[number] = Action()
            install(process, number)


def collect(thread: Thread) -> None:
    """Move what the host has noted into the thread's list."""
    if thread.host.noted:
        number, info = thread.host.take()
        if not host.is_kick(number, info):
            thread.pending.append((number, info))
        thread.mask_stale = True
    thread.host.reguard(thread.arena)
    thread.core.clear_stop()


def deliverable(thread: Thread) -> tuple[int, bytes] | None:
    """Take the next pending signal that is not blocked; faults go first."""
    best = -1
    for index, (number, _) in enumerate(thread.pending):
        if not thread.blocked >> number - 1 & 1 and (best < 0 or number < thread.pending[best][0]):
            best = index
    return thread.pending.pop(best) if best >= 0 else None


def deliver(thread: Thread, restart: int | None) -> None:
    """Handle pending signals. `restart` is the first argument of an interrupted system call at the pc, None if there is none:
    the call is made again unless a handler without SA_RESTART runs."""
    while True:
        collect(thread)
        found = deliverable(thread)
        if found is None:
            break
        number, info = found
        action = thread.process.actions[number]
        if action.handler == SIG_IGN:
            continue
        if action.handler == SIG_DFL:
            _default(thread, number)
            continue
        if restart is not None and not action.flags & SA_RESTART:
            thread.process.arch.finish(thread.core, -4)
        restart = None
        _call_handler(thread, number, info, action)
    if thread.saved_mask is not None:
        thread.blocked = thread.saved_mask
        thread.saved_mask = None
        thread.mask_stale = True
    if thread.mask_stale:
        thread.mask_stale = False
        thread.host.set_mask(thread.blocked)


def _default(thread: Thread, number: int) -> None:
    if number in IGNORED_BY_DEFAULT:
        return
    if number in STOPS_BY_DEFAULT:
        host.raw("kill", host.raw("getpid"), SIGSTOP)
        return
    thread.process.die(number)


def fault(thread: Thread, number: int, code: int, address: int, access: int = 0) -> None:
    """A signal that the guest's own instruction causes: blocked or ignored, it kills. `access`: what it did at `address`, if
    that was it."""
    action = thread.process.actions[number]
    bit = 1 << number - 1
    if thread.blocked & bit or action.handler == SIG_IGN:
        thread.blocked &= ~bit
        thread.process.actions[number] = Action()
    if number != SIGTRAP:
        thread.fault = Fault(address, access, code != SEGV_MAPERR) if access else Fault()
    thread.pending.insert(0, (number, make_info(number, code, address)))
    deliver(thread, None)


def on_alternate(thread: Thread, sp: int) -> bool:
    """True if `sp` is on the alternate stack (sigaltstack(2))."""
    base, size, flags = thread.alternate
    return not flags & SS_DISABLE and base < sp <= base + size


def _call_handler(thread: Thread, number: int, info: bytes, action: Action) -> None:
    core, arch = thread.core, thread.process.arch
    sp = core.x[arch.stack]
    base, size, flags = thread.alternate
    state = SS_DISABLE if flags & SS_DISABLE else (SS_ONSTACK if on_alternate(thread, sp) else 0)
    if action.flags & SA_ONSTACK and not state:
        sp = base + size
    saved = thread.blocked if thread.saved_mask is None else thread.saved_mask
    thread.saved_mask = None
    data = b"".join((
        info,
        struct.pack("<QQ", 0, 0),
        struct.pack("<QiIQ", base, state | flags & SS_AUTODISARM, 0, size),
        struct.pack("<Q", saved).ljust(136, b"\0"),
        arch.save(core, thread.fault),
    ))  # fmt: skip
    above = arch.record(core)
    frame = (sp - len(data) - len(above)) & ~15
    try:
        thread.arena.write(frame, data + above)
    except MemoryFault:
        thread.process.die(SIGSEGV)
    if flags & SS_AUTODISARM:
        thread.alternate = (0, 0, SS_DISABLE)
    core.pc = action.handler
    core.x[arch.link] = action.restorer if action.flags & SA_RESTORER and arch.restorer else thread.process.image.trampoline
    core.x[arch.stack] = frame
    core.x[arch.first] = number
    if arch.info_always or action.flags & SA_SIGINFO:
        core.x[arch.first + 1] = frame
        core.x[arch.first + 2] = frame + _INFO
    arch.enter(core, frame + len(data))
    thread.blocked |= action.mask & ~UNMASKABLE
    if not action.flags & SA_NODEFER:
        thread.blocked |= 1 << number - 1
    if action.flags & SA_RESETHAND:
        thread.process.actions[number] = Action()
        install(thread.process, number)
    thread.mask_stale = True


def sigreturn(thread: Thread) -> None:
    """rt_sigreturn(2): the state that the frame at sp holds."""
    core, arch = thread.core, thread.process.arch
    frame = core.x[arch.stack]
    try:
        data = thread.arena.read(frame, _CONTEXT + arch.context_size)
    except MemoryFault:
        thread.process.die(SIGSEGV)
    if not arch.restore(core, data[_CONTEXT:]):
        fault(thread, SIGSEGV, SEGV_MAPERR, frame)
        return
    base, flags, _, size = struct.unpack_from("<QiIQ", data, _STACK)
    if not on_alternate(thread, core.x[arch.stack]):
        thread.alternate = (base, size, flags & 0xFFFFFFFF & ~SS_ONSTACK)
    thread.blocked = struct.unpack_from("<Q", data, _MASK)[0] & ~UNMASKABLE
    thread.mask_stale = True
    deliver(thread, None)
