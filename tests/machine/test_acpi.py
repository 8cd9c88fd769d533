"""ACPI and MultiProcessor tables."""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from polyvm.machine import DiskConfig, Machine, MachineConfig, acpi, mptable

if TYPE_CHECKING:
    from pathlib import Path

DEVICES = [(0xD0000000 + 0x1000 * i, 0x200, 5 + i) for i in range(17)]


def found(memory: bytes, at: int) -> bytes:
    """The table at guest address `at`, whose checksum is right."""
    begin = at - acpi.RSDP
    table = memory[begin : begin + struct.unpack_from("<I", memory, begin + 4)[0]]
    assert sum(table) & 0xFF == 0
    return table


def chain(memory: bytes) -> dict[bytes, bytes]:
    """All tables by signature, as a kernel goes from one to the next."""
    assert memory[:8] == b"RSD PTR "
    assert sum(memory[:20]) & 0xFF == sum(memory[:36]) & 0xFF == 0
    xsdt = found(memory, struct.unpack_from("<Q", memory, 24)[0])
    tables = {xsdt[:4]: xsdt}
    for (at,) in struct.iter_unpack("<Q", xsdt[36:]):
        table = found(memory, at)
        tables[table[:4]] = table
    dsdt = found(memory, struct.unpack_from("<Q", tables[b"FACP"], 140)[0])
    return tables | {dsdt[:4]: dsdt}


def test_tables_lead_to_each_other() -> None:
    """From the RSDP all tables are reached, with checksums, within the range that is not the kernel's."""
    memory = acpi.tables(4, DEVICES)
    assert len(memory) <= 0x10000
    tables = chain(memory)
    assert set(tables) == {b"XSDT", b"FACP", b"APIC", b"DSDT"}
    assert tables[b"APIC"].count(struct.pack("<BB", 0, 8)) >= 4
    assert len(tables[b"FACP"]) == 276


def test_the_dsdt_is_what_iasl_reads(tmp_path: Path) -> None:
    """The disassembler of ACPICA finds every device with its registers and interrupt, and the tables' flags."""
    if shutil.which("iasl") is None:
        pytest.skip("iasl (package acpica-tools) is not installed")
    for signature, table in chain(acpi.tables(2, DEVICES)).items():
        (tmp_path / f"{signature.decode()}.dat").write_bytes(table)
    names = ["DSDT.dat", "FACP.dat", "APIC.dat"]
    done = subprocess.run(["iasl", "-d", *names], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "incorrect checksum" not in done.stdout + done.stderr
    text = (tmp_path / "DSDT.dsl").read_text()
    assert text.count('"LNRO0005"') == len(DEVICES)
    for address, _, irq in DEVICES:
        assert f"0x{address:08X},         // Address Base" in text
        assert f"0x{irq:08X},\n" in text
    assert 'EisaId ("PNP0501")' in text
    assert "Name (_S5" in text or "Name (\\_S5" in text
    facp = (tmp_path / "FACP.dsl").read_text()
    assert "Hardware Reduced (V5) : 1" in facp
    assert "Reset Register Supported (V2) : 1" in facp


def test_multiprocessor_tables_have_their_checksums() -> None:
    """Floating pointer and configuration table add up to 0, and count their entries (specification, 4.1 and 4.2)."""
    for vcpus in (1, 2, 16):
        data = mptable.tables(vcpus)
        assert len(data) <= 0x400
        floating, config = data[:16], data[16:]
        assert floating[:4] == b"_MP_"
        assert struct.unpack_from("<I", floating, 4)[0] == mptable.FLOATING + 16
        size, count = struct.unpack_from("<H", config, 4)[0], struct.unpack_from("<H", config, 34)[0]
        assert sum(floating) & 0xFF == sum(config[:size]) & 0xFF == 0
        at = 44
        for _ in range(count):
            at += 20 if config[at] == 0 else 8
        assert at == size == len(config)


@pytest.mark.parametrize("entry", ["linux", "pvh"])
def test_a_guest_finds_the_tables_and_powers_off(guests: dict[str, Path], entry: str, accelerator: str, tmp_path: Path) -> None:
    """Both protocols hand over where the tables are; writing S5 to the sleep control port is a shutdown."""
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    config = MachineConfig(kernel=str(guests[entry]), acpi=True, disks=(DiskConfig(str(image)),), accelerator=accelerator)
    with Machine(config) as machine:
        text = machine.console.expect("ready\n")
        assert "rsdp f0000\n" in text
        assert "virtio_mmio" not in text
        machine.console.send("o")
        ending = machine.wait(10)
        assert ending is not None
        assert ending.reason == "shutdown"
