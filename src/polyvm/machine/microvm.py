"""The board "microvm": an x86-64 machine without firmware, PCI or ACPI, that boots a kernel directly.

    0..d0000000          RAM (640 KiB to 1 MiB is not the kernel's), with MultiProcessor tables at 9fc00
    d0000000 + n·1000    virtio-mmio devices, interrupts 5 6 7 9 10 11 12 14 15 16…23
    fec00000, fee00000   I/O APIC and local APICs (the accelerator's)
    100000000…           the rest of the RAM
    port 20 a0 40        8259s and i8254 (the accelerator's)
    port 60 64 92        keyboard controller (reset), port 92h
    port 70              clock, interrupt 8
    port 3f8             COM1, interrupt 4
    port 501             exit port
    port 600             sleep control, with ACPI

Linux learns of the virtio devices from its command line (virtio_mmio.device=SIZE@ADDRESS:INTERRUPT), or from ACPI tables.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from polyvm.boot.kernel import load_kernel
from polyvm.boot.x86_start import start
from polyvm.devices import Loop
from polyvm.devices.disk import open_disk
from polyvm.devices.virtio import Blk, Console, Rng, VirtioDevice, VirtioMmio
from polyvm.errors import UsageError
from polyvm.machine import acpi, mptable
from polyvm.machine.board import Buses, Host, PcDevices, memory_map, memory_ranges
from polyvm.mem.guest import GuestMemory

if TYPE_CHECKING:
    from polyvm.machine.config import MachineConfig
    from polyvm.machine.console import Console as MachineConsole
    from polyvm.vcpu.contract import Vm, X86Vcpu

MMIO, STRIDE = 0xD000_0000, 0x1000
IRQS = (5, 6, 7, 9, 10, 11, 12, 14, 15, *range(16, mptable.PINS))
CMDLINE = "reboot=k panic=-1 pci=off i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd"
"""What Linux needs to know of the board: that only the keyboard controller can reset it, and what is not there to look for."""
CMDLINE_ACPI = "panic=-1 pci=off"
_LEAST = 16 << 20


class Microvm:
    """See the module's text."""

    def __init__(self, config: MachineConfig, console: MachineConsole, host: Host) -> None:
        if config.kernel is None:
            raise UsageError("the board microvm boots a kernel: say which with --kernel FILE")
        if config.memory < _LEAST:
            raise UsageError(f"a microvm has at least {_LEAST >> 20} MiB of memory, not {config.memory >> 10} KiB")
        if config.firmware is not None:
            raise UsageError("the board microvm has no firmware; --firmware goes with --board=bios")
        self.config = config
        self.kernel = load_kernel(config.kernel)
        self.initrd = b""
        if config.initrd is not None:
            with open(config.initrd, "rb") as file:
                self.initrd = file.read()
        self.memory = GuestMemory(memory_ranges(config.memory))
        self.buses = Buses()
        self.host = host
        self.transports: list[VirtioMmio] = []
        self._places: list[tuple[int, int]] = []
        self._events: list[tuple[int, VirtioMmio]] = []
        self._vm: Vm | None = None
        self.loop = Loop(failed=self._failed)
        self.loops = [self.loop]
        if config.acpi:
            self.buses.ports.add(acpi.SLEEP_PORT, acpi.SleepPort.SIZE, acpi.SleepPort(host.guest_off), "sleep control")
        serial = config.console == "serial"
        self.pc = PcDevices(self.buses, self.loop, console if serial else None, host, lambda data: None)
        if serial:
            console.attach(self.pc.uart.feed)
        try:
            self._add_devices(console, serial)
        except BaseException:
            self.close()
            raise

    def _failed(self, error: BaseException) -> None:
        self.host.warn(f"a device failed: {type(error).__name__}: {error}")

    def _add_devices(self, console: MachineConsole, serial: bool) -> None:
        memory = self.memory
        if not serial:
            device = Console(memory, self.loop, console.put, room=lambda: self.loop.call(console.pump))
            self._add(device)
            console.attach(device.feed)
        for disk in self.config.disks:
            loop = Loop("disk", failed=self._failed)
            self.loops.append(loop)
            self._add(Blk(memory, loop, open_disk(disk.path, disk.readonly, disk.overlay), disk.serial))
        for net in self.config.nets:
            from polyvm.devices.network import Passt, Tap
            from polyvm.devices.virtio.net import Net, mac_address

            mac = mac_address(net.mac)
            self._add(Net(memory, self.loop, Tap(net.name) if net.kind == "tap" else Passt(), mac))
        if self.config.vsock is not None:
            from polyvm.devices.virtio.vsock import Vsock

            self._add(Vsock(memory, self.loop, *self.config.vsock))
        if self.config.rng:
            self._add(Rng(memory, self.loop))

    def _add(self, device: VirtioDevice) -> None:
        number = len(self.transports)
        if number >= len(IRQS):
            device.close()
            raise UsageError(f"a microvm has room for {len(IRQS)} virtio devices")
        irq, base = IRQS[number], MMIO + STRIDE * number
        transport = VirtioMmio(device, self.pc.line(irq), self.host.warn)
        self.buses.mmio.add(base, VirtioMmio.SIZE, transport, f"{device.NAME} {number}")
        self.transports.append(transport)
        self._places.append((base, irq))

    @property
    def cmdline(self) -> str:
        """The command line: what the board needs, the console unless the user names one, the user's, and the devices."""
        own = self.config.cmdline
        words = [CMDLINE_ACPI if self.config.acpi else CMDLINE]
        if not any(word.startswith("console=") for word in own.split()):
            words.append("console=ttyS0" if self.config.console == "serial" else "console=hvc0")
        devices = [] if self.config.acpi else [t.command_line(base, irq) for t, (base, irq) in zip(self.transports, self._places)]
        head, sep, tail = own.partition(" -- ")  # what follows is for init
        return " ".join([*words, *([head] if head else []), *devices]) + (sep + tail if sep else "")

    def connect(self, vm: Vm) -> None:
        """Lines, and event descriptors for the queues where the accelerator has them."""
        self.pc.connect(vm)
        self._vm = vm
        if vm.capabilities.ioeventfd:
            for transport, (base, _) in zip(self.transports, self._places):
                event = transport.event()
                vm.add_ioeventfd(event, base + transport.NOTIFY, 4)
                self._events.append((base, transport))

    def prepare(self, vcpus: list[X86Vcpu]) -> None:
        """Kernel, command line, tables; the first vCPU at the kernel's entry. The others wait for INIT and SIPI."""
        self.memory.write(mptable.FLOATING, mptable.tables(len(vcpus)))
        rsdp = 0
        if self.config.acpi:
            places = [(base, VirtioMmio.SIZE, irq) for base, irq in self._places]
            self.memory.write(rsdp := acpi.RSDP, acpi.tables(len(vcpus), places))
        where = memory_map(self.config.memory)
        regs, special = start(self.memory, self.kernel, where, self.cmdline, self.initrd, os.urandom(32), rsdp)
        first = vcpus[0]
        was = first.get_special_regs()
        special.apic_base = was.apic_base
        first.set_special_regs(special)
        first.set_regs(regs)

    def start(self) -> None:
        """Begin."""
        for loop in self.loops:
            loop.start()

    def resize(self, columns: int, rows: int) -> None:
        """Virtio consoles have a size."""
        for transport in self.transports:
            if isinstance(transport.device, Console):
                transport.device.resize(columns, rows)

    def close(self) -> None:
        """End the work, close the disks."""
        for loop in self.loops:
            loop.stop()
        self.pc.close()
        if self._vm is not None:
            for base, transport in self._events:
                self._vm.remove_ioeventfd(transport.event(), base + transport.NOTIFY, 4)
        for transport in self.transports:
            transport.close()
        self.memory.close()
