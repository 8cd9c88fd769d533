"""`Process` and `Thread`: a guest program in this host process.

The guest process *is* the host process, as far as the kernel is concerned: its pid, its descriptors, its children. A guest
thread is a host thread. So this class may be used once in a process; `polyvm.Process` starts a host process for each guest.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import struct

from polyvm import isa
from polyvm.boot.elf import ElfFile
from polyvm.engine import Core, JitSource
from polyvm.errors import MemoryFault, MissingInterpreter, NotElf
from polyvm.linux import arch, host, signals
from polyvm.linux.loader import Image, Program, load
from polyvm.linux.paths import Paths
from polyvm.mem import Arena
from polyvm.vcpu import exits

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import NoReturn

    from polyvm.engine.statistics import Statistics
    from polyvm.linux.arch import Arch
    from polyvm.linux.policy import Policy

_NATIVE_STACK = 1 << 20
_SHEBANG_DEPTH = 5
_RLIMIT_STACK = 3


class ProcessExit(BaseException):
    """The guest process has ended; `status` as of `Process.run`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Arrived(BaseException):
    """A thread is where somebody wanted it to stop, before a hooked instruction (`Core.set_hooks`)."""


class ThreadExit(BaseException):
    """The guest thread has ended."""


class Thread:
    """One guest thread."""

    def __init__(self, process: Process, core: Core) -> None:
        self.process = process
        self.core = core
        self.arena = process.arena
        self.tid = 0
        self.host = host.HostThread(core.stop_word, core.host_fault_record(), process.arena)
        self.blocked = 0
        self.saved_mask: int | None = None
        self.mask_stale = False
        self.pending: list[tuple[int, bytes]] = []
        self.fault = arch.Fault()
        self.alternate: tuple[int, int, int] = (0, 0, signals.SS_DISABLE)
        self.clear_child_tid = 0
        self.robust_list = 0
        self.parked = False
        self.scratch = ctypes.create_string_buffer(4096)

    def enter(self) -> None:
        """Become the calling host thread."""
        self.host.enter()
        self.tid = host.raw("gettid")

    def loop(self) -> NoReturn:
        """Run until the thread or the process ends, by exception."""
        process = self.process
        while True:
            self._loop(self.core, process.dispatch, process.arch)

    def _loop(self, core: Core, dispatch: Callable[[Thread], int | None], arch: Arch) -> None:
        """Run until there is another core, as execve makes one for a program of another architecture."""
        process = self.process
        x, place, size = core.x, arch.result, arch.syscall_size
        while True:
            code = core.run(process.remaining(core)) if process.max_instructions is not None else core.run()
            if code == exits.SYSCALL:
                first = x[place]
                result = dispatch(self)
                if result is None:  # the call has set the registers
                    if core is not self.core:
                        return
                    continue
                if result == -host.ERESTARTSYS:
                    process.check(self)
                    signals.deliver(self, first)
                    continue
                x[place] = result & 0xFFFFFFFFFFFFFFFF
                core.pc += size
                if self.saved_mask is not None or self.pending:
                    signals.deliver(self, None)
            else:
                self._event(code)

    def _event(self, code: int) -> None:
        core, process = self.core, self.process
        if code == exits.STOPPED:
            process.check(self)
            signals.deliver(self, None)
        elif code == exits.FAULT:
            address = core.exit_address
            mask = process.arch.address_mask
            if address & ~mask:
                if self._masked(mask):
                    return
                address &= mask
            inside = self.arena.inside(address, 1) and self.arena.find(address) is not None
            wrong = not self._allowed(address, core.exit_access)
            if inside and not wrong and address % max(1, core.exit_size):
                signals.fault(self, signals.SIGBUS, signals.BUS_ADRALN, address, core.exit_access)
            else:
                reason = signals.SEGV_ACCERR if inside else signals.SEGV_MAPERR
                signals.fault(self, signals.SIGSEGV, reason, address, core.exit_access)
        elif code == exits.HOSTFAULT:
            signals.fault(self, signals.SIGBUS, signals.BUS_ADRERR, core.exit_address - self.arena.base, exits.READ)
        elif code == exits.ILLEGAL:
            signals.fault(self, signals.SIGILL, signals.ILL_ILLOPC, core.pc)
        elif code == exits.BREAKPOINT:
            signals.fault(self, signals.SIGTRAP, signals.TRAP_BRKPT, core.pc)
        elif code == exits.HOOK:
            raise Arrived
        elif code == exits.BUDGET:
            if process.remaining(core) <= 0:
                process.exhausted = True
                process.exit(0)
        else:
            raise AssertionError(f"the core stopped with {exits.NAMES[code]}")

    def _masked(self, mask: int) -> bool:
        """Do an instruction that accesses an address with a tag; False if it faults without, too."""
        core = self.core
        if core.exit_access == exits.EXECUTE:
            core.pc &= mask
            return True
        try:
            return core.execute_masked(mask) == exits.NONE
        except MemoryFault:
            return False

    def _allowed(self, address: int, access: int) -> bool:
        letter = exits.ACCESS_LETTERS.get(access, "rw")
        return self.arena.check(address, max(1, self.core.exit_size), letter)

    def release(self) -> None:
        """What the kernel does when a thread ends: futexes that it held, and the word that others wait on."""
        if self.robust_list:
            self._release_robust()
            self.robust_list = 0
        if self.clear_child_tid:
            try:
                self.arena.write(self.clear_child_tid, bytes(4))
                self.futex_wake(self.clear_child_tid)
            except MemoryFault:
                pass
            self.clear_child_tid = 0

    def futex_wake(self, address: int, shared: bool = True) -> None:
        """Wake one waiter."""
        host.raw("futex", self.arena.host(address, 4, "r"), 1 if shared else 129, 1, 0, 0, 0)

    def _release_robust(self) -> None:
        """Mark the futexes of the robust list as left by a dead owner (Documentation/locking/robust-futexes)."""
        read = self.arena.read
        try:
            entry, offset, pending = struct.unpack("<QqQ", read(self.robust_list, 24))
            seen = 0
            entries: list[int] = []
            while entry != self.robust_list and seen < 2048:
                entries.append(entry)
                entry = struct.unpack("<Q", read(entry & ~1, 8))[0]
                seen += 1
            if pending:
                entries.append(pending)
            for item in entries:
                self._abandon((item & ~1) + offset)
        except MemoryFault:
            return

    def _abandon(self, address: int) -> None:
        word = struct.unpack("<I", self.arena.read(address, 4))[0]
        if word & 0x3FFFFFFF == self.tid:
            self.arena.write(address, struct.pack("<I", word & 0x80000000 | 0x40000000))
            if word & 0x80000000:
                self.futex_wake(address)


class Process:
    """A guest program, loaded and ready to `run`.

    `program` is a path of the host (and, with a sysroot, of the guest); its header says which guest it is for. Raises OSError or
    ElfError where it cannot be loaded.
    """

    def __init__(
        self, program: str, argv: list[str], env: dict[str, str], *, sysroot: str | None = None,
        policy: Policy | None = None, strace: bool = False, max_instructions: int | None = None,
        jit: str | JitSource | None = None,
    ) -> None:  # fmt: skip
        self.policy = policy
        self.paths = Paths(sysroot, policy.root if policy is not None else None)
        self.max_instructions = max_instructions
        self.exhausted = False
        self.exit_status: int | None = None
        self.lock = _thread.RLock()
        self.actions = [signals.Action() for _ in range(65)]
        self.threads: list[Thread] = []
        self.thread_count = 1
        self.leader: Thread | None = None
        self.forked = False
        self.arena = Arena(guarded=True)
        self.image = Image()
        self.argv: list[bytes] = []
        self.brk = self.brk_start = 0
        self.vfork_fd = -1
        self._finished: Statistics | None = None
        self._pausing = False
        self._condition: threading.Condition | None = None
        self.strace_fd = -1
        self.own_descriptors: list[int] = []  # polyvm's, which the guest's execve does not close
        if strace:
            import fcntl

            self.strace_fd = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, 900)
        words = [os.fsencode(word) for word in argv]
        variables = [os.fsencode(f"{name}={value}") for name, value in env.items()]
        path = os.fsencode(program)
        self._loading = self._find(path, words, 0)
        mode = jit if jit is not None else os.environ.get("POLYVM_JIT", "auto")
        self.jit = mode if isinstance(mode, JitSource) else JitSource.parse(mode)
        self._use(self._loading[0].elf.architecture)
        self._core = Core(self.architecture, self.arena)
        self._core.address_mask = self.arch.address_mask
        self._core.use_jit(self.jit)
        self._load(self._core, *self._loading, variables)

    def _use(self, architecture: str) -> None:
        """Serve programs of this architecture."""
        from polyvm.linux.syscalls import Table

        self.architecture = architecture
        self.arch = arch.get(architecture)
        self.isa = isa.get(architecture)
        self.table = Table(self)
        self.dispatch: Callable[[Thread], int | None] = self.table.dispatch

    # -- loading ----------------------------------------------------------------------------------------------

    def _open(self, path: bytes) -> int:
        import stat

        resolved = self.paths.resolve(path)
        if self.paths.jail is not None:
            from polyvm.linux import jail

            inside = os.fsencode(self.paths.to_guest(resolved))
            fd = jail.of(self.paths.jail).open(-100, inside, os.O_RDONLY | os.O_CLOEXEC)
        else:
            fd = os.open(resolved, os.O_RDONLY | os.O_CLOEXEC)
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            os.close(fd)
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(21, "Is a directory", os.fsdecode(path))
            raise PermissionError(13, "not a regular file", os.fsdecode(path))
        return fd

    def _find(self, path: bytes, argv: list[bytes], depth: int) -> tuple[Program, Program | None, list[bytes]]:
        """The program behind `path`, through scripts' first lines, and its interpreter."""
        name = os.fsdecode(path)
        fd = self._open(path)
        try:
            if not os.access(f"/proc/self/fd/{fd}", os.X_OK):
                raise PermissionError(13, "Permission denied", name)
            head = os.pread(fd, 256, 0)
            if head[:2] == b"#!":
                line = head[2:].split(b"\n")[0].strip(b" \t")
                words = line.split(None, 1)
                if not words or depth >= _SHEBANG_DEPTH:
                    raise NotElf(f"{name}: its first line names no interpreter")
                rest = [words[1].strip(b" \t")] if len(words) > 1 else []
                os.close(fd)
                fd = -1
                return self._find(words[0], [words[0], *rest, path, *argv[1:]], depth + 1)
            program = Program(fd, name, isa.NAMES)
        except BaseException:
            if fd >= 0:
                os.close(fd)
            raise
        program.path = self.paths.guest_absolute(path)
        interpreter = None
        if program.elf.interpreter is not None:
            wanted = program.elf.interpreter
            try:
                other = self._open(os.fsencode(wanted))
            except FileNotFoundError:
                os.close(fd)
                missing = f"{name} needs the interpreter {wanted}, which is not there"
                raise MissingInterpreter(missing, program.elf.architecture) from None
            try:
                interpreter = Program(other, wanted, (program.elf.architecture,))
            except BaseException:
                os.close(other)
                os.close(fd)
                raise
        return program, interpreter, argv

    def _load(
        self, core: Core, program: Program, interpreter: Program | None, argv: list[bytes], variables: list[bytes]
    ) -> None:
        limit = (ctypes.c_int64 * 2)()
        host.raw("prlimit64", 0, _RLIMIT_STACK, 0, ctypes.addressof(limit))
        soft = limit[0]
        stack = 8 << 20 if soft < 0 else min(max(soft, 1 << 20), 1 << 30)
        own = self.arch
        hardware = {**own.hardware(core.isa), "MINSIGSTKSZ": own.smallest_frame}
        try:
            self.image = load(
                self.arena, program, interpreter, argv, variables,
                stack_size=stack, hardware=hardware, platform=own.platform, trampoline=own.trampoline,
            )  # fmt: skip
        finally:
            for item in (program, interpreter):
                if item is not None:
                    os.close(item.fd)
        self.argv = argv
        self.jit.program = program.path
        self.brk = self.brk_start = self.image.brk
        own.start(core)
        core.pc = self.image.entry
        core.x[own.stack] = self.image.stack_pointer

    def execute(self, thread: Thread, path: bytes, argv: list[bytes], variables: list[bytes]) -> None:
        """execve(2) in place; raises OSError or ElfError while the old program can still go on."""
        found = self._find(path, argv, 0)
        self.end_others(thread)
        thread.release()
        mask = thread.blocked
        thread.host.set_mask(-1)
        old = self.arena
        self.arena = Arena(guarded=True)
        thread.arena = self.arena
        thread.host.use(self.arena)
        wanted = found[0].elf.architecture
        if wanted == self.architecture:
            core = thread.core
            executed = core.instructions
            core.reset(self.arena)
            core.instructions = executed
        else:
            core = self._change(thread, wanted)
        old.close()
        signals.reset_for_exec(self)
        thread.alternate = (0, 0, signals.SS_DISABLE)
        self._close_on_exec([item.fd for item in found[:2] if item is not None])
        if self.vfork_fd >= 0:
            host.raw("close", self.vfork_fd)  # unless the guest has closed it
            self.vfork_fd = -1
        name = os.fsencode(os.path.basename(found[0].path))[:15]
        buffer = ctypes.create_string_buffer(name)
        host.raw("prctl", 15, ctypes.addressof(buffer))
        try:
            self._load(core, *found, variables)
        except (OSError, MemoryFault):
            self.die(signals.SIGKILL)
        thread.blocked = mask
        thread.host.set_mask(mask)

    def _change(self, thread: Thread, architecture: str) -> Core:
        """Another core for the one thread that there is, of another architecture."""
        before = thread.core
        with self.lock:
            done = before.statistics()
            self._finished = done if self._finished is None else self._finished + done
            before.close()
            self.jit.finish()
            self.jit.close()
            self.jit = self.jit.again()
            self._use(architecture)
            core = thread.core = Core(architecture, self.arena)
            core.address_mask = self.arch.address_mask
            if before is self._core:
                self._core = core
            core.use_jit(self.jit)
            thread.host.attach(core.stop_word, core.host_fault_record())
        return core

    def _close_on_exec(self, but: list[int]) -> None:
        import fcntl

        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            if fd in (self.strace_fd, self.vfork_fd, *self.own_descriptors, *self.jit.descriptors, *but):
                continue
            try:
                if fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                    os.close(fd)
            except OSError:
                continue

    def elf(self, path: str) -> ElfFile:
        """The headers of a program of the guest."""
        fd = self._open(os.fsencode(path))
        try:
            return ElfFile(fd, path, isa.NAMES)
        finally:
            os.close(fd)

    # -- running ----------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run to the end: the exit status, or minus the number of the signal that ended the guest."""
        if self.policy is not None:
            self.policy.apply()
        thread = Thread(self, self._core)
        self.leader = thread
        thread.enter()
        self.threads.append(thread)
        thread.blocked = host.get_mask()
        signals.start(self)
        try:
            thread.loop()
        except ThreadExit:
            self._leave(thread)
            status = self._wait_for_others(thread)
        except ProcessExit as end:
            status = end.status
        if self.forked:
            self._end_child(status)
        host.set_mask(-1)
        for number in (signals.SIGSEGV, signals.SIGBUS):
            host.set_action(number, 0)
        return status

    def _wait_for_others(self, thread: Thread) -> int:
        """The first thread has ended: the process goes on until the last one has."""
        host.set_mask(-1)
        with self.lock:
            while self.exit_status is None and self.threads:
                self._resumed.wait()
        return self.exit_status if self.exit_status is not None else 0

    def spawn(self, core: Core, prepare: Callable[[Thread], None], mask: int) -> int:
        """Start a guest thread on `core`; its tid."""
        thread = Thread(self, core)
        thread.blocked = mask
        ready = _thread.allocate_lock()
        ready.acquire()
        before = host.get_mask()
        host.set_mask(-1)
        try:
            _thread.stack_size(_NATIVE_STACK)
            _thread.start_new_thread(self._thread_main, (thread, prepare, ready))
            ready.acquire()
        finally:
            host.set_mask(before)
        return thread.tid

    def _thread_main(self, thread: Thread, prepare: Callable[[Thread], None], ready: _thread.LockType) -> None:
        thread.enter()
        with self.lock:
            self.threads.append(thread)
            self.thread_count += 1
        prepare(thread)
        ready.release()
        thread.host.set_mask(thread.blocked)
        try:
            thread.loop()
        except ThreadExit:
            self._leave(thread)
        except ProcessExit as end:
            if self.leader is thread:  # after fork this is the only thread
                self._end_child(end.status)
            self._leave(thread)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(70)

    def _leave(self, thread: Thread) -> None:
        host.set_mask(-1)
        thread.release()
        with self.lock:
            if thread in self.threads:
                self.threads.remove(thread)
            done = thread.core.statistics()
            self._finished = done if self._finished is None else self._finished + done
            if thread is not self.leader:
                thread.core.close()
            self._notify()

    def _end_child(self, status: int) -> NoReturn:
        """End a forked host process as the guest ended."""
        from polyvm.linux.ending import end_as

        self.linger()
        self.jit.finish()
        end_as(status)

    def linger(self) -> None:
        """To be called before this host process ends: what is hot is compiled for the next one."""
        if self.policy is None and self.leader is not None:
            self.jit.linger(self.leader.core)

    def fork(self, thread: Thread) -> int:
        """fork(2): 0 in the child, which has this thread only."""
        import sys

        sys.stdout.flush()
        before = host.get_mask()
        host.set_mask(-1)
        # The child must not find a lock taken by a thread that it does not have.
        with self.lock, self.jit.lock, self.arena.lock:
            pid = os.fork()
        if pid == 0:
            self.forked = True
            self.jit.after_fork()
            self.lock = _thread.RLock()
            self._condition = None
            self.threads = [thread]
            self.leader = thread
            self._finished = None
            thread.enter()
            thread.pending = []
        host.set_mask(before)
        return pid

    # -- ending and stopping ----------------------------------------------------------------------------------

    @property
    def _resumed(self) -> threading.Condition:
        """What `_notify` wakes, for those who hold the lock. Made when somebody waits: most programs have one thread."""
        if self._condition is None:
            import threading

            self._condition = threading.Condition(self.lock)
        return self._condition

    def _notify(self) -> None:
        """Tell those who wait for a change of this process; the lock is held."""
        if self._condition is not None:
            self._condition.notify_all()

    def exit(self, status: int) -> NoReturn:
        """End the process."""
        with self.lock:
            if self.exit_status is None:
                self.exit_status = status
            self._notify()
            self._kick_all()
        raise ProcessExit(self.exit_status)

    def die(self, number: int) -> NoReturn:
        """End the process by a signal."""
        self.exit(-number)

    def _kick_all(self, but: Thread | None = None) -> None:
        pid, me = os.getpid(), host.raw("gettid")
        for thread in self.threads:
            if thread is not but:
                thread.core.request_stop()
                if thread.tid != me:
                    host.kick(pid, thread.tid)

    def check(self, thread: Thread) -> None:
        """A thread asks whether it may go on."""
        if self.exit_status is not None:
            raise ProcessExit(self.exit_status)
        if self._ending is not None and self._ending is not thread:
            raise ThreadExit
        if self._pausing:
            with self.lock:
                thread.parked = True
                self._notify()
                while self._pausing and self.exit_status is None:
                    self._resumed.wait()
                thread.parked = False

    _ending: Thread | None = None

    def end_others(self, thread: Thread) -> None:
        """End all threads but this one, as execve does."""
        if len(self.threads) == 1:
            return
        with self.lock:
            self._ending = thread
            while len(self.threads) > 1:
                self._kick_all(thread)
                self._resumed.wait(0.01)
            self._ending = None

    def pause(self) -> None:
        """Stop all threads before their next instruction; returns when those that run have stopped."""
        with self.lock:
            self._pausing = True
            if not self.threads:
                self._core.request_stop()
                return
            for _ in range(100):
                if self.exit_status is not None:
                    return
                self._kick_all()
                if all(thread.parked for thread in self.threads):
                    return
                self._resumed.wait(0.01)

    def stop_before(self, address: int) -> None:
        """Let `run` raise `Arrived` before the instruction at `address`; to be called before it."""
        self._core.set_hooks(instructions=[(address, address + 1)])

    def resume(self) -> None:
        """Go on after `pause`."""
        with self.lock:
            self._pausing = False
            self._notify()

    def remaining(self, core: Core) -> int:
        """Instructions that `core` may execute still."""
        limit = self.max_instructions or 0
        others = sum(t.core.instructions for t in self.threads if t.core is not core)
        finished = 0 if self._finished is None else self._finished.instructions
        return max(0, limit - finished - others - core.instructions)

    def statistics(self) -> Statistics:
        """Counters of all threads, added up."""
        from polyvm.engine.statistics import Statistics

        with self.lock:
            total = self._finished or Statistics()
            for thread in self.threads:
                total += thread.core.statistics()
        return self.jit.add_to(total)



