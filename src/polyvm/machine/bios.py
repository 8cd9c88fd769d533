"""The board "bios": a PC without PCI, whose firmware (SeaBIOS) boots from an ATA disk. For boot sectors and old systems.

    0..d0000000          RAM; the firmware's last 128 KiB are at e0000
    100000000 - size     the firmware, read-only
    port 1f0, 3f6        ATA disk, interrupt 14
    port 402             the firmware's messages
    otherwise as the board microvm, without virtio

The firmware learns the size of memory from the clock's CMOS memory (34h, 35h: 64 KiB blocks above 16 MiB; 5bh to 5dh: above 4
GiB).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.devices import Loop
from polyvm.devices.ata import AtaControl, AtaDisk
from polyvm.devices.disk import Disk, open_disk
from polyvm.errors import UsageError
from polyvm.machine.board import Buses, Host, PcDevices, memory_ranges
from polyvm.mem.guest import GuestMemory

if TYPE_CHECKING:
    from polyvm.machine.config import MachineConfig
    from polyvm.machine.console import Console
    from polyvm.vcpu.contract import Vm, X86Vcpu

FIRMWARE = ("/usr/share/seabios/bios.bin", "/usr/share/qemu/bios.bin")
_LEAST = 32 << 20


class _DebugPort:
    """SeaBIOS's debug console (src/hw/serialio.c, "QEMU debug port"): e9h says that it is there."""

    SIZE = 1

    def __init__(self, board: Bios) -> None:
        self._board = board

    def read(self, offset: int, size: int) -> int:
        return 0xE9

    def write(self, offset: int, size: int, value: int) -> None:
        log = self._board.log
        if len(log) < 1 << 20:
            log.append(value & 0xFF)


class Bios:
    """See the module's text. `log` is what the firmware said of itself."""

    def __init__(self, config: MachineConfig, console: Console, host: Host) -> None:
        if config.kernel is not None or config.initrd is not None or config.cmdline:
            raise UsageError("the board bios boots from its disk; kernel, initrd and command line go with the board microvm")
        if config.acpi:
            raise UsageError("the board bios has no ACPI; --acpi goes with the board microvm")
        if config.nets or config.vsock or config.console != "serial" or len(config.disks) > 1:
            raise UsageError("the board bios has COM1 and one disk; network, vsock and virtio consoles go with the board microvm")
        if config.memory < _LEAST:
            raise UsageError(f"the board bios has at least {_LEAST >> 20} MiB of memory, not {config.memory >> 10} KiB")
        self.config = config
        image = _firmware(config.firmware)
        top = 1 << 32
        self.memory = GuestMemory([*memory_ranges(config.memory), (top - len(image), len(image))], readonly=[top - len(image)])
        self.memory.write(top - len(image), image)
        self.memory.write(0x100000 - min(len(image), 0x20000), image[-0x20000:])
        self.log = bytearray()
        self.buses = Buses()
        self.loop = Loop(failed=lambda error: host.warn(f"a device failed: {type(error).__name__}: {error}"))
        self.pc = PcDevices(self.buses, self.loop, console, host, lambda data: None)
        console.attach(self.pc.uart.feed)
        self.buses.ports.add(0x402, 1, _DebugPort(self), "firmware messages")
        self._disk: Disk | None = None
        self._fill_cmos()
        if config.disks:
            disk = config.disks[0]
            self._disk = open_disk(disk.path, disk.readonly, disk.overlay)
            ata = AtaDisk(self._disk, self.pc.line(14), disk.serial or "1")
            self.buses.ports.add(0x1F0, AtaDisk.SIZE, ata, "ATA disk")
            self.buses.ports.add(0x3F6, AtaControl.SIZE, ata.control, "ATA control")

    def _fill_cmos(self) -> None:
        low = min(self.config.memory, 0xD000_0000)
        cmos = self.pc.rtc.cmos
        cmos[0x15:0x17] = (640).to_bytes(2, "little")
        cmos[0x17:0x19] = cmos[0x30:0x32] = min(low // 1024 - 1024, 0xFFFF).to_bytes(2, "little")
        cmos[0x34:0x36] = (max(low - (16 << 20), 0) >> 16).to_bytes(2, "little")
        cmos[0x5B:0x5E] = (self.config.memory - low >> 16).to_bytes(3, "little")
        cmos[0x5F] = self.config.vcpus - 1
        cmos[0x3D] = 0x02  # boot from the first disk
        cmos[0x38] = 1  # without looking for the signature of a floppy

    def connect(self, vm: Vm) -> None:
        """Wire the lines."""
        self.pc.connect(vm)

    def prepare(self, vcpus: list[X86Vcpu]) -> None:
        """Nothing: processors start at the reset vector, fffffff0."""
        first = vcpus[0]
        special = first.get_special_regs()
        special.real_mode(0xF000, 0xFFFF0000)
        first.set_special_regs(special)
        regs = first.get_regs()
        regs.rip = 0xFFF0
        first.set_regs(regs)

    def start(self) -> None:
        """Begin."""
        self.loop.start()

    def resize(self, columns: int, rows: int) -> None:
        """COM1 has no size."""

    def close(self) -> None:
        """Close the disk."""
        self.loop.stop()
        self.pc.close()
        if self._disk is not None:
            self._disk.close()
        self.memory.close()


def _firmware(path: str | None) -> bytes:
    for name in (path,) if path is not None else FIRMWARE:
        try:
            with open(name, "rb") as file:
                data = file.read()
        except OSError as error:
            if path is not None:
                raise UsageError(f"firmware {path}: {error.strerror}") from None
            continue
        if not data or len(data) % 4096 or len(data) > 16 << 20:
            raise UsageError(f"firmware {name}: {len(data)} bytes are no firmware image: a multiple of 4096, at most 16 MiB")
        return data
    raise UsageError("there is no SeaBIOS on this host: install the package seabios, or name an image with --firmware FILE")
