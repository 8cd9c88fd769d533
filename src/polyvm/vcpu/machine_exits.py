"""Why a virtual CPU came back from the guest, as values to match on: the tagged union `VmExit`.

    match vcpu.run():
        case PortIo(port=0x3F8, write=True) as io:
            print(chr(io.value))
        case Mmio(write=False) as access:
            access.answer(0)
        case Halt():
            ...

A vCPU uses its `PortIo` and `Mmio` again for the next exit of the kind, since allocating them would cost more than the rest of
an exit: they are good until its next `run`; `dataclasses.replace` copies one. Reads are answered with `answer`; one that is
not answered reads as all ones, as a bus without a device does.

The software engine adds the reasons of `polyvm.vcpu.exit_types`: it runs user code, where a system call is an exit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from polyvm.vcpu.exit_types import Breakpoint, Budget, Fault, Illegal, Syscall, Unsupported

ALL_ONES = (0, 0xFF, 0xFFFF, 0xFF_FFFF, 0xFFFF_FFFF, 0, 0, 0, 0xFFFF_FFFF_FFFF_FFFF)  # by size in bytes


@dataclass(slots=True)
class PortIo:
    """An x86 port access of `size` (1, 2, 4) bytes.

    `value` is what is written. A string instruction gives several at once: `count` is how many, and `data` has them all (or
    takes them all: ``size * count`` bytes), little-endian, one after the other.
    """

    port: int = 0
    size: int = 1
    write: bool = False
    value: int = 0
    count: int = 1
    data: bytes = b""

    def answer(self, value: int | bytes) -> None:
        """What a read gets: an integer, or ``size * count`` bytes for all of a string instruction."""
        if isinstance(value, int):
            self.value = value
            if self.count != 1:
                self.data = (value & ALL_ONES[self.size]).to_bytes(self.size, "little") * self.count
        else:
            self.data = value
            self.value = int.from_bytes(value[: self.size], "little")


@dataclass(slots=True)
class Mmio:
    """An access of `size` (1, 2, 4, 8) bytes to a guest physical address without memory, or a write to read-only memory."""

    address: int = 0
    size: int = 4
    write: bool = False
    value: int = 0

    def answer(self, value: int) -> None:
        """What a read gets."""
        self.value = value


@dataclass(slots=True)
class Msr:
    """An access to a model specific register that is left to us; `reason` is "unknown", "invalid" or "filter"."""

    index: int
    write: bool
    value: int = 0
    reason: str = "unknown"
    refused: bool = False

    def answer(self, value: int) -> None:
        """What RDMSR reads."""
        self.value = value

    def refuse(self) -> None:
        """The guest gets a general protection fault."""
        self.refused = True


@dataclass(slots=True)
class Hypercall:
    """The guest calls its hypervisor (VMCALL, HVC, SMC): `number` and up to six arguments."""

    number: int
    arguments: tuple[int, ...] = ()
    result: int = 0

    def answer(self, value: int) -> None:
        """What the call returns."""
        self.result = value


@dataclass(frozen=True, slots=True)
class Halt:
    """The vCPU waits for an interrupt (HLT, WFI), and the accelerator does not wait for it itself."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """A triple fault: the vCPU cannot go on without a reset."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """`kick` was called, or a signal came; nothing is wrong, call `run` again."""


@dataclass(frozen=True, slots=True)
class InterruptWindow:
    """The guest can take an interrupt now, as `request_interrupt_window` asked to be told."""


@dataclass(frozen=True, slots=True)
class EndOfInterrupt:
    """The guest ended interrupt `vector` of an I/O APIC that lies outside of the accelerator (split irqchip)."""

    vector: int


@dataclass(frozen=True, slots=True)
class Debug:
    """Something that `set_debug` asked for: `kind` is "step", "breakpoint" (an instruction), "hardware" or "watch".

    `pc` is the address of the next instruction, `address` what a watchpoint saw; `detail` is the accelerator's own word (DR6,
    ESR_EL2).
    """

    pc: int
    kind: str
    address: int = 0
    detail: int = 0


@dataclass(frozen=True, slots=True)
class EmulationFailure:
    """The accelerator met an instruction at `pc` that it cannot execute; it had no effect. `code` are its bytes, where known."""

    pc: int
    code: bytes = b""


@dataclass(frozen=True, slots=True)
class SystemEvent:
    """The guest asks for something about the whole machine: `kind` is "shutdown", "reset", "crash", "suspend", "wakeup",
    "s2idle" or "timer" (its virtual timer has fired, and the interrupt is left to us)
    (PSCI, SBI, Hyper-V); `data` is what comes with it."""

    kind: str
    data: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FailEntry:
    """The processor refused the guest's state; `reason` is the hardware's code, `cpu` the host's processor."""

    reason: int
    cpu: int = 0


@dataclass(frozen=True, slots=True)
class InternalError:
    """The accelerator gave up; `code` and `data` are its own."""

    code: int
    data: tuple[int, ...] = field(default=())


VmExit = (
    PortIo | Mmio | Msr | Hypercall | Halt | Shutdown | Interrupted | InterruptWindow | EndOfInterrupt | Debug | EmulationFailure
    | SystemEvent | FailEntry | InternalError | Syscall | Breakpoint | Illegal | Fault | Budget | Unsupported
)  # fmt: skip
