"""The board bios: SeaBIOS, and a boot sector of our own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from polyvm.devices import Wire
from polyvm.devices.ata import AtaDisk
from polyvm.devices.disk import RawDisk
from polyvm.errors import UsageError
from polyvm.machine import DiskConfig, Machine, MachineConfig
from polyvm.machine.bios import FIRMWARE

if TYPE_CHECKING:
    from pathlib import Path

# 16-bit code at 7c00h: reads sector 2 by INT 13h, function 42h, to 8000h, prints what is there on COM1, ends by the exit port.
BOOT = bytes.fromhex(
    "31c0 8ed8 8ec0 b442 be407c cd13 721b be0080 ac 84c0 7406 baf803 ee ebf5 ba0105 b007 ee f4 ba0105 b001 ee f4"
)  # fmt: skip


def boot_image(path: Path, text: bytes) -> None:
    code = bytearray(512)
    code[: len(BOOT)] = BOOT
    code[0x40:0x50] = bytes.fromhex("10000100 00800000 0200000000000000")  # one sector, LBA 2, to 0000:8000
    code[510:] = b"\x55\xaa"
    path.write_bytes(bytes(code) + bytes(512) + text.ljust(512, b"\0") + bytes(1 << 20))


@pytest.mark.skipif(not any(map(os.path.exists, FIRMWARE)), reason="SeaBIOS (package seabios) is not installed")
def test_seabios_boots_from_a_disk(tmp_path: Path, accelerator: str) -> None:
    """Firmware finds the ATA disk, loads the boot sector, and reads more for it through INT 13h."""
    image = tmp_path / "disk"
    boot_image(image, b"sector two says hello\r\n")
    config = MachineConfig(board="bios", memory=64 << 20, disks=(DiskConfig(str(image), readonly=True),), accelerator=accelerator)
    with Machine(config) as machine:
        ending = machine.wait(100)
        assert ending is not None
        assert "sector two says hello" in machine.console.text
        assert (ending.reason, ending.code) == ("exit", 7)


def test_mistakes_are_explained(tmp_path: Path, accelerator: str) -> None:
    """What the board does not have is refused in a sentence."""
    bad = tmp_path / "bios"
    bad.write_bytes(b"x" * 100)
    with pytest.raises(UsageError, match="boots from its disk"):
        Machine(MachineConfig(board="bios", kernel="vmlinuz"))
    with pytest.raises(UsageError, match="are no firmware image"):
        Machine(MachineConfig(board="bios", firmware=str(bad)))


class Ata:
    def __init__(self, path: Path) -> None:
        self.line = Wire()
        self.ata = AtaDisk(RawDisk(str(path)), self.line, "serial")

    def command(self, command: int, lba: int = 0, count: int = 1) -> int:
        for register, value in ((2, count), (3, lba & 255), (4, lba >> 8 & 255), (5, lba >> 16 & 255), (6, 0xE0 | lba >> 24 & 15)):
            self.ata.write(register, 1, value)
        self.ata.write(7, 1, command)
        return self.ata.read(7, 1)

    def data(self, size: int) -> bytes:
        return b"".join(self.ata.read(0, 2).to_bytes(2, "little") for _ in range(size // 2))


def test_ata_reads_writes_and_identifies(tmp_path: Path) -> None:
    """IDENTIFY tells the size, sectors are read and written over the data port, each sector with an interrupt."""
    path = tmp_path / "disk"
    path.write_bytes(b"".join(bytes((i,)) * 512 for i in range(200)))
    disk = Ata(path)
    assert disk.command(0xEC) & 0x89 == 8
    identify = disk.data(512)
    assert int.from_bytes(identify[120:124], "little") == 200
    assert b"esirla" in identify
    assert disk.command(0x20, 10, 3) & 8
    assert disk.data(1536) == bytes((10,)) * 512 + bytes((11,)) * 512 + bytes((12,)) * 512
    assert not disk.ata.read(7, 1) & 8
    assert disk.command(0x30, 20, 2) & 8
    for _ in range(256):
        disk.ata.write(0, 4, 0x44434241)
    assert not disk.ata.read(7, 1) & 9
    assert disk.command(0xE7) & 1 == 0
    assert path.read_bytes()[20 * 512 : 22 * 512] == b"ABCD" * 256
    assert disk.command(0x20, 199, 2) & 1
    assert disk.command(0x99) & 1
    assert disk.line.rises > 5


def test_ata_survives_random_accesses(tmp_path: Path) -> None:
    """Random registers and commands raise nothing."""
    import random

    path = tmp_path / "disk"
    path.write_bytes(bytes(200 * 512))
    disk, rng = Ata(path), random.Random(4)
    for _ in range(30000):
        register, size = rng.randrange(8), rng.choice((1, 2, 4))
        if rng.random() < 0.4:
            assert disk.ata.read(register, size) >= 0
        elif rng.random() < 0.05:
            disk.ata.control.write(0, 1, rng.randrange(8))
        else:
            value = rng.choice((0x20, 0x24, 0x30, 0xC4, 0xC5, 0xC6, 0xEC, rng.randrange(256)))
            disk.ata.write(register, size, value)
        assert len(disk.ata._buffer) <= 16 * 512
