"""ACPI tables of a microvm (ACPI 6.5: 5.2 tables, 20 AML, 4.1 hardware-reduced ACPI), for kernels that find devices by nothing
else.

    f0000  RSDP → XSDT → FADT (hardware-reduced; reset by port 64, sleep by port 600) → DSDT
                       → MADT (local APICs, one I/O APIC)

The DSDT has each virtio-mmio device as LNRO0005 with its registers and its level-triggered interrupt, COM1, the clock, and
\\_S5 for powering off.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RSDP = 0xF0000
SLEEP_PORT = 0x600
_SLP_TYP_S5, _SLP_EN = 5, 0x20
_HW_REDUCED, _RESET_REG = 1 << 20, 1 << 10
_NO_VGA, _NO_MSI, _HAS_8042, _LEGACY = 4, 8, 2, 1


class SleepPort:
    """SLEEP_CONTROL_REG and SLEEP_STATUS_REG (4.8.3.7): writing the type of S5 with SLP_EN powers off."""

    SIZE = 2

    def __init__(self, off: Callable[[], None]) -> None:
        self._off = off

    def read(self, offset: int, size: int) -> int:
        """Nothing is there."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Power off."""
        if offset == 0 and value & 0x1C == _SLP_TYP_S5 << 2 and value & _SLP_EN:
            self._off()


def tables(vcpus: int, devices: Sequence[tuple[int, int, int]]) -> bytes:
    """All tables, to lie at `RSDP`. `devices` are virtio-mmio devices as (address, size, interrupt)."""
    dsdt = _table(b"DSDT", 2, _dsdt(devices))
    at = RSDP + 64
    where = {"dsdt": at}
    at += len(dsdt) + 15 & ~15
    fadt = _table(b"FACP", 6, _fadt(where["dsdt"]))
    where["fadt"] = at
    at += len(fadt) + 15 & ~15
    madt = _table(b"APIC", 5, _madt(vcpus))
    where["madt"] = at
    at += len(madt) + 15 & ~15
    xsdt = _table(b"XSDT", 1, struct.pack("<QQ", where["fadt"], where["madt"]))
    rsdp = bytearray(struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, b"POLYVM", 2, 0, 36, at, 0))
    rsdp[8] = -sum(rsdp[:20]) & 0xFF
    rsdp[32] = -sum(rsdp) & 0xFF
    out = bytearray(rsdp).ljust(64, b"\0")
    for table in (dsdt, fadt, madt, xsdt):
        out += table.ljust(len(table) + 15 & ~15, b"\0")
    return bytes(out)


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    size = 36 + len(body)
    out = bytearray(struct.pack("<4sIBB6s8sI4sI", signature, size, revision, 0, b"POLYVM", b"MICROVM ", 1, b"PLVM", 1) + body)
    out[9] = -sum(out) & 0xFF
    return bytes(out)


def _fadt(dsdt: int) -> bytes:
    out = bytearray(276)
    struct.pack_into("<I", out, 40, dsdt)
    struct.pack_into("<H", out, 109, _LEGACY | _HAS_8042 | _NO_VGA | _NO_MSI)
    struct.pack_into("<I", out, 112, _HW_REDUCED | _RESET_REG)
    out[116:128] = _port(0x64)
    out[128] = 0xFE
    struct.pack_into("<Q", out, 140, dsdt)
    out[244:256] = _port(SLEEP_PORT)
    out[256:268] = _port(SLEEP_PORT + 1)
    return bytes(out[36:])


def _port(number: int) -> bytes:
    return struct.pack("<BBBBQ", 1, 8, 0, 1, number)


def _madt(vcpus: int) -> bytes:
    out = struct.pack("<II", 0xFEE00000, 0)
    for i in range(vcpus):
        out += struct.pack("<BBBBI", 0, 8, i, i, 1)
    return out + struct.pack("<BBBBII", 1, 12, vcpus, 0, 0xFEC00000, 0)


# --- AML (section 20)


def _length(body: bytes) -> bytes:
    """PkgLength and what follows it."""
    size = len(body) + 1
    if size < 64:
        return bytes((size,)) + body
    count = 1 if size + 1 < 1 << 12 else 2
    size += count
    return bytes((count << 6 | size & 15,)) + (size >> 4).to_bytes(count, "little") + body


def _integer(value: int) -> bytes:
    if value < 2:
        return bytes((value,))
    return b"\x0a" + bytes((value,)) if value < 256 else b"\x0c" + value.to_bytes(4, "little")


def _name(name: str, value: bytes) -> bytes:
    return b"\x08" + name.encode() + value


def _device(name: str, *parts: bytes) -> bytes:
    return b"\x5b\x82" + _length(name.encode() + b"".join(parts))


def _eisa(text: str) -> bytes:
    """EISAID (section 19.6.37)."""
    letters = [ord(c) - 0x40 for c in text[:3]]
    value = letters[0] << 26 | letters[1] << 21 | letters[2] << 16 | int(text[3:], 16)
    return b"\x0c" + value.to_bytes(4, "big")


def _resources(*parts: bytes) -> bytes:
    body = b"".join(parts) + b"\x79\x00"
    return _name("_CRS", b"\x11" + _length(_integer(len(body)) + body))


def _interrupt(number: int, edge: bool) -> bytes:
    return struct.pack("<BHBBI", 0x89, 6, 1 | (2 if edge else 0), 1, number)


def _ports(first: int, count: int) -> bytes:
    return struct.pack("<BBHHBB", 0x47, 1, first, first, 1, count)


def _dsdt(devices: Sequence[tuple[int, int, int]]) -> bytes:
    com1 = _resources(_ports(0x3F8, 8), _interrupt(4, True))
    body = _device("COM1", _name("_HID", _eisa("PNP0501")), _name("_UID", _integer(1)), com1)
    body += _device("RTC0", _name("_HID", _eisa("PNP0B00")), _resources(_ports(0x70, 2), _interrupt(8, True)))
    for i, (address, size, irq) in enumerate(devices):
        memory = struct.pack("<BHBII", 0x86, 9, 1, address, size)
        parts = (_name("_HID", b"\x0dLNRO0005\0"), _name("_UID", _integer(i)), _name("_CCA", _integer(1)))
        body += _device(f"VR{i:02}", *parts, _resources(memory, _interrupt(irq, False)))
    scope = b"\x10" + _length(b"\\_SB_" + body)
    return scope + _name("\\_S5_", b"\x12" + _length(b"\x04" + _integer(_SLP_TYP_S5) + b"\0\0\0"))
