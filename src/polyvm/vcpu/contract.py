"""The contract between accelerators and what drives them: `Accelerator` makes a `Vm`, a `Vm` has memory, interrupts and `Vcpu`s.

A vCPU belongs to the thread that calls `run`; only `kick` and interrupt lines may be used from others. A `Vm` outlives its vCPUs;
`close` of either is allowed in every state, also while another thread is in `run`: that returns `Interrupted` first.
What an accelerator lacks raises UnsupportedError with the reason; `Capabilities` tells beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from polyvm.vcpu.aarch64 import A64Fpu, A64Regs, A64Special
from polyvm.vcpu.riscv64 import RvFpu, RvRegs, RvSpecial
from polyvm.vcpu.x86_64 import X86Events, X86Fpu, X86Regs, X86Special

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from polyvm.mem.guest import GuestMemory
    from polyvm.vcpu.capabilities import Availability, Capabilities
    from polyvm.vcpu.machine_exits import VmExit

R = TypeVar("R")
F = TypeVar("F")
S = TypeVar("S")


class Bus(Protocol):
    """What answers a guest's accesses: little-endian unsigned integers of `size` bytes (1, 2, 4, 8; ports up to 4)."""

    def port_read(self, port: int, size: int) -> int: ...

    def port_write(self, port: int, size: int, value: int) -> None: ...

    def mmio_read(self, address: int, size: int) -> int: ...

    def mmio_write(self, address: int, size: int, value: int) -> None: ...


class IrqLine(Protocol):
    """One input of an interrupt controller. May be used from any thread."""

    def set_level(self, high: bool) -> None:
        """Raise or lower the line (level-triggered)."""
        ...

    def pulse(self) -> None:
        """Raise and lower it (edge-triggered)."""
        ...


@dataclass(frozen=True, slots=True)
class DebugControl:
    """What `Vcpu.set_debug` asks to come back for. `breakpoints` are addresses of instructions, for debug registers;
    `watchpoints` are (address, size, "w" or "rw"); `software`: breakpoint instructions in the guest's code end in an exit."""

    step: bool = False
    software: bool = False
    breakpoints: tuple[int, ...] = ()
    watchpoints: tuple[tuple[int, int, str], ...] = ()


class Vcpu(Protocol[R, F, S]):
    """One virtual CPU with general (R), floating and vector (F) and special (S) registers."""

    @property
    def id(self) -> int: ...

    @property
    def guest(self) -> str:
        """The architecture: "x86_64", "aarch64", "riscv64"."""
        ...

    def run(self) -> VmExit:
        """Enter the guest; come back with the first thing that it cannot do alone."""
        ...

    def run_with(self, bus: Bus) -> VmExit:
        """As `run`, but port I/O and MMIO are answered by `bus`; comes back with the first exit that is something else.

        An exception in a handler comes out of here; the read that it was for gets all ones.
        """
        ...

    def kick(self) -> None:
        """Make the `run` under way, or else the next one, return `Interrupted`. From any thread."""
        ...

    def get_regs(self) -> R: ...

    def set_regs(self, regs: R, /) -> None: ...

    def get_fpu_regs(self) -> F: ...

    def set_fpu_regs(self, regs: F, /) -> None: ...

    def get_special_regs(self) -> S: ...

    def set_special_regs(self, regs: S, /) -> None: ...

    def set_debug(self, control: DebugControl) -> None: ...

    def close(self) -> None: ...


class X86Vcpu(Vcpu[X86Regs, X86Fpu, X86Special], Protocol):
    """What an x86-64 vCPU has besides."""

    def get_msrs(self, indices: Iterable[int]) -> dict[int, int]:
        """Model specific registers; those that do not exist are left out."""
        ...

    def set_msrs(self, values: Mapping[int, int]) -> None:
        """Raises UnsupportedError naming the first that was refused."""
        ...

    def set_cpuid(self, leaves: Sequence[CpuidLeaf]) -> None:
        """Before the first `run`."""
        ...

    def get_events(self) -> X86Events: ...

    def set_events(self, events: X86Events) -> None: ...

    def can_inject(self) -> bool:
        """Whether `inject` may be called now: IF is set, no shadow, nothing else is pending. For VMs without an irqchip."""
        ...

    def inject(self, vector: int) -> None:
        """Deliver an external interrupt before the next instruction. For VMs without an irqchip."""
        ...

    def inject_nmi(self) -> None: ...

    def request_interrupt_window(self, wanted: bool) -> None:
        """Come back with `InterruptWindow` as soon as `inject` may be called."""
        ...

    def translate(self, address: int) -> int | None:
        """The guest physical address of a virtual one under the present page tables; None where nothing is mapped."""
        ...


A64Vcpu = Vcpu[A64Regs, A64Fpu, A64Special]
RvVcpu = Vcpu[RvRegs, RvFpu, RvSpecial]
AnyVcpu = Vcpu[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class CpuidLeaf:
    """One answer of CPUID; `subleaf` counts only where `indexed`."""

    function: int
    subleaf: int = 0
    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0
    indexed: bool = False


@dataclass(frozen=True, slots=True)
class VmConfig:
    """What a virtual machine has inside of the accelerator.

    `irqchip`: "full" (x86-64: local APICs, I/O APIC and 8259s; aarch64: a GICv3), "split" (local APICs only), "none". `pit`: an
    i8254 (with "full").
    `memory` is mapped into the guest when the VM is made. `gic` are the guest physical addresses of an aarch64 distributor and
    of the redistributors.
    """

    guest: str = "x86_64"
    memory: GuestMemory | None = None
    irqchip: str = "none"
    pit: bool = False
    vcpus: int = 1
    gic: tuple[int, int] = (0x800_0000, 0x80A_0000)
    msr_exits: bool = False
    options: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class MsiRoute:
    """A message signalled interrupt as a global interrupt number: routing for irqfd and split irqchips."""

    gsi: int
    address: int
    data: int


@dataclass(frozen=True, slots=True)
class PinRoute:
    """Input `pin` of interrupt controller `chip` ("ioapic", "pic-master", "pic-slave", "gic") as a global interrupt number."""

    gsi: int
    pin: int
    chip: str = "ioapic"


class Vm(Protocol):
    """A virtual machine."""

    @property
    def guest(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def vcpus(self) -> Sequence[AnyVcpu]: ...

    def add_memory(self, address: int, host: int, size: int, *, readonly: bool = False, log_dirty: bool = False) -> int:
        """Show `size` bytes at address `host` of this process to the guest at `address` (whole pages); returns the slot's
        number."""
        ...

    def set_memory_flags(self, slot: int, *, readonly: bool, log_dirty: bool) -> None: ...

    def remove_memory(self, slot: int) -> None: ...

    def dirty_log(self, slot: int) -> bytes:
        """A bit for each page of the slot that the guest wrote to since the last call, lowest bit first."""
        ...

    def create_vcpu(self, number: int) -> AnyVcpu: ...

    def irq_line(self, gsi: int) -> IrqLine: ...

    def signal_msi(self, address: int, data: int) -> bool:
        """Deliver a message signalled interrupt; False if the guest has it masked."""
        ...

    def set_routes(self, routes: Iterable[MsiRoute | PinRoute]) -> None:
        """Replace the whole routing table."""
        ...

    def add_irqfd(self, fd: int, gsi: int, resample: int | None = None) -> None:
        """Raise interrupt `gsi` whenever the event descriptor `fd` is written to; `resample` is signalled when the guest has
        acknowledged it."""
        ...

    def remove_irqfd(self, fd: int, gsi: int) -> None: ...

    def add_ioeventfd(self, fd: int, address: int, size: int, *, port: bool = False, match: int | None = None) -> None:
        """Signal `fd` in place of an exit when the guest writes `size` bytes (0: any) to `address` (the value `match`, if
        given)."""
        ...

    def remove_ioeventfd(self, fd: int, address: int, size: int, *, port: bool = False, match: int | None = None) -> None: ...

    def coalesce(self, address: int, size: int, *, port: bool = False) -> None:
        """Collect the guest's writes to this range; the bus of `run_with` gets them, in order, at the next exit."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Accelerator(Protocol):
    """A way to run guests; a module of `polyvm.accel` for each."""

    @property
    def name(self) -> str: ...

    def probe(self) -> Availability:
        """Whether it can be used here. Never raises."""
        ...

    def create_vm(self, config: VmConfig) -> Vm:
        """Raises UnsupportedError where the accelerator or what `config` asks for is missing."""
        ...
