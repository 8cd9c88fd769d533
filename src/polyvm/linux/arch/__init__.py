"""What Linux has of its own on each architecture: a record for each, `get(name)`.

All else in this package is the same for all guests and asks the record. Registers are told by file and number.
"""

from __future__ import annotations

from polyvm.errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from polyvm.engine import Core
    from polyvm.isa import Isa


class Fault:
    """The last fault that a thread's instruction caused: `address` it accessed, `access` as of `exits` (0: no access), and
    whether something was mapped there, so that it was the rights that were missing."""

    __slots__ = ("access", "address", "mapped")

    def __init__(self, address: int = 0, access: int = 0, mapped: bool = False) -> None:
        self.address = address
        self.access = access
        self.mapped = mapped


class Arch:
    """One architecture. A subclass fills this in."""

    name: str  # as uname(2) says it
    platform = ""  # AT_PLATFORM; none if empty
    calls = ""  # system calls beyond the generic table: "name=number …"
    modules: Mapping[str, str] = {}  # where those are that only this architecture has

    # System calls: the registers of file x for the number, the first of six arguments, the result; bytes of the instruction.
    number: int
    first: int
    result: int
    syscall_size = 4

    # Registers of file x.
    stack: int
    link: int
    thread_pointer: tuple[str, int]

    # Signals. `context_size` bytes of struct sigcontext follow the generic head of struct ucontext.
    context_size: int
    smallest_stack = 2048  # MINSIGSTKSZ
    smallest_frame = 2048  # AT_MINSIGSTKSZ
    trampoline: bytes  # makes the system call rt_sigreturn; unwinders know the bytes
    restorer = False  # struct sigaction has sa_restorer
    info_always = True  # handlers get siginfo and context without SA_SIGINFO, too

    # Flags of open(2) whose values are not asm-generic's: (this architecture's, asm-generic's).
    open_flags: tuple[tuple[int, int], ...] = ()
    address_mask = (1 << 64) - 1  # the bits of addresses that the processor looks at
    protections = 0  # PROT_ flags beyond those of all architectures

    def hardware(self, isa: Isa) -> dict[str, int]:
        """What the auxiliary vector says about the processor, by name without AT_."""
        raise NotImplementedError

    def cpuinfo(self, isa: Isa, processors: int) -> str:
        """/proc/cpuinfo."""
        raise NotImplementedError

    def start(self, core: Core) -> None:
        """Registers as a new program finds them; all are zero before."""
        core.set("res_addr", 0, -1)

    def save(self, core: Core, fault: Fault) -> bytes:
        """The registers as struct sigcontext, `context_size` bytes."""
        raise NotImplementedError

    def restore(self, core: Core, data: bytes) -> bool:
        """The registers from struct sigcontext; False if it is none."""
        raise NotImplementedError

    def record(self, core: Core) -> bytes:
        """What lies above a signal's frame, for unwinders."""
        return b""

    def enter(self, core: Core, above: int) -> None:
        """Further registers that a signal handler finds; `above` is where the frame ends."""

    # -- what follows from these ------------------------------------------------------------------------------

    def finish(self, core: Core, result: int) -> None:
        """End a system call."""
        core.x[self.result] = result & 0xFFFFFFFFFFFFFFFF
        core.pc += self.syscall_size

    def arguments(self, core: Core) -> list[int]:
        """The six arguments of a system call."""
        found: list[int] = core.x[self.first : self.first + 6]
        return found

    def host_flags(self, flags: int) -> int:
        """Flags of open(2) as asm-generic numbers them, which is how the host does."""
        return _exchange(flags, self.open_flags)

    def guest_flags(self, flags: int) -> int:
        """The other way round."""
        return _exchange(flags, tuple((host, guest) for guest, host in self.open_flags))

    def names(self) -> dict[int, str]:
        """System calls by number."""
        from polyvm.linux.numbers import GENERIC, parse

        return {number: name for name, number in parse(GENERIC + self.calls).items()}


def _exchange(flags: int, table: tuple[tuple[int, int], ...]) -> int:
    left = flags
    made = 0
    for here, there in table:
        if flags & here:
            left &= ~here
            made |= there
    return left | made


_records: dict[str, Arch] = {}


def get(name: str) -> Arch:
    """The record of the guest architecture `name`; raises UnsupportedError."""
    found = _records.get(name)
    if found is None:
        if name == "riscv64":
            from polyvm.linux.arch.riscv64 import Riscv64

            found = Riscv64()
        elif name == "aarch64":
            from polyvm.linux.arch.aarch64 import Aarch64

            found = Aarch64()
        else:
            raise UnsupportedError(f"Linux programs for {name!r} are not known")
        _records[name] = found
    return found
