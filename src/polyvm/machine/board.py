"""What the boards for x86-64 share: buses, lines, and the devices that both have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from polyvm.devices import I8042, Bus, Line, Loop, Port92, Rtc, Uart16550
from polyvm.devices.exitport import ExitPort

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.machine.console import Console
    from polyvm.mem.guest import GuestMemory
    from polyvm.vcpu.contract import IrqLine, Vm, X86Vcpu

RTC_IRQ, COM1_IRQ = 8, 4
EXIT_PORT = 0x501
LOW_END, HIGH_START = 0xD000_0000, 1 << 32
"""Memory lies below the first and from the second on; between them are devices and firmware."""


class Buses:
    """Both address spaces of a PC, in the shape that `Vcpu.run_with` wants."""

    def __init__(self) -> None:
        self.mmio = Bus("MMIO")
        self.ports = Bus("port", 16)

    def mmio_read(self, address: int, size: int) -> int:
        """A read of memory-mapped registers."""
        return self.mmio.read(address, size)

    def mmio_write(self, address: int, size: int, value: int) -> None:
        """A write to memory-mapped registers."""
        self.mmio.write(address, size, value)

    def port_read(self, port: int, size: int) -> int:
        """IN."""
        return self.ports.read(port, size)

    def port_write(self, port: int, size: int, value: int) -> None:
        """OUT."""
        self.ports.write(port, size, value)


class LateLine:
    """An interrupt line that exists before the virtual machine: it drives the accelerator's once there is one."""

    __slots__ = ("_target",)

    def __init__(self) -> None:
        self._target: IrqLine | None = None

    def connect(self, target: IrqLine | None) -> None:
        """What to drive from now on."""
        self._target = target

    def set_level(self, high: bool) -> None:
        """Drive the line."""
        target = self._target
        if target is not None:
            target.set_level(high)


class Host(Protocol):
    """What a board tells its machine."""

    def guest_reset(self, why: str) -> None:
        """The guest asked for a reset."""
        ...

    def guest_off(self) -> None:
        """The guest powered the machine off."""
        ...

    def guest_exit(self, code: int) -> None:
        """The guest ended the machine."""
        ...

    def warn(self, text: str) -> None:
        """Something that the user may want to know."""
        ...


class Board(Protocol):
    """A kind of machine."""

    memory: GuestMemory
    buses: Buses

    def connect(self, vm: Vm) -> None:
        """Wire the lines to the accelerator's interrupt controllers."""
        ...

    def prepare(self, vcpus: list[X86Vcpu]) -> None:
        """Put what is booted into memory, and the first vCPU to its start."""
        ...

    def start(self) -> None:
        """Let the devices begin."""
        ...

    def resize(self, columns: int, rows: int) -> None:
        """The console's terminal has this size."""
        ...

    def close(self) -> None:
        """End the devices' work and give back what they hold. Called once no vCPU runs any more."""
        ...


class PcDevices:
    """COM1, clock, i8042, port 92h and the exit port at their places on a PC."""

    def __init__(self, buses: Buses, loop: Loop, console: Console | None, host: Host, extra: Callable[[bytes], object]) -> None:
        self.lines: dict[int, LateLine] = {}
        serial_sink: Callable[[bytes], object] = console.put if console is not None else extra
        pump = (lambda: loop.call(console.pump)) if console is not None else None
        self.uart = Uart16550(serial_sink, self.line(COM1_IRQ), pump)
        self.rtc = Rtc(self.line(RTC_IRQ), loop)
        ports = buses.ports
        ports.add(0x3F8, Uart16550.SIZE, self.uart, "COM1")
        ports.add(0x70, Rtc.SIZE, self.rtc, "clock")
        ports.add(0x60, I8042.SIZE, I8042(lambda: host.guest_reset("by the keyboard controller")), "keyboard controller")
        ports.add(0x92, Port92.SIZE, Port92(lambda: host.guest_reset("by port 92h")), "port 92h")
        ports.add(EXIT_PORT, ExitPort.SIZE, ExitPort(host.guest_exit), "exit port")

    def line(self, irq: int) -> Line:
        """The line `irq`, made at its first use."""
        return self.lines.setdefault(irq, LateLine())

    def connect(self, vm: Vm) -> None:
        """Connect all lines that are used."""
        for irq, line in self.lines.items():
            line.connect(vm.irq_line(irq))

    def close(self) -> None:
        """No more interrupts."""
        self.rtc.close()
        for line in self.lines.values():
            line.connect(None)


def memory_ranges(size: int) -> list[tuple[int, int]]:
    """RAM of `size` bytes around the hole below 4 GiB, as (address, size)."""
    low = min(size, LOW_END)
    return [(0, low)] + ([(HIGH_START, size - low)] if size > low else [])


def memory_map(size: int) -> list[tuple[int, int, int]]:
    """The same for a kernel, as (address, size, type of ACPI), without what firmware has in the first MiB."""
    low = min(size, LOW_END)
    found = [(0, 0x9FC00, 1), (0x9FC00, 0x400, 2), (0xF0000, 0x10000, 2), (0x100000, low - 0x100000, 1)]
    return found + ([(HIGH_START, size - low, 1)] if size > low else [])

