"""The MultiProcessor tables (Intel MultiProcessor Specification 1.4, chapter 4): processors and interrupts, for kernels without
ACPI."""

from __future__ import annotations

import struct

FLOATING = 0x9FC00
"""Where the floating pointer lies: the start of the last KiB of base memory, one of the places that are searched (section 4)."""
_CONFIG = FLOATING + 16
_LAPIC, _IOAPIC = 0xFEE00000, 0xFEC00000
_PROCESSOR, _BUS, _IO_APIC, _IO_INTERRUPT, _LOCAL_INTERRUPT = range(5)
_INT, _NMI, _EXTINT = 0, 1, 3
PINS = 24


def tables(vcpus: int) -> bytes:
    """Floating pointer and configuration table, to lie at `FLOATING`. Interrupt lines 0 to 23 are the I/O APIC's inputs of
    these numbers."""
    entries: list[bytes] = []
    for i in range(vcpus):
        flags = 1 | (2 if i == 0 else 0)  # enabled, bootstrap processor
        entries.append(struct.pack("<BBBBIIQ", _PROCESSOR, i, 0x14, flags, 0x600, 0x201, 0))
    entries.append(struct.pack("<BB6s", _BUS, 0, b"ISA   "))
    entries.append(struct.pack("<BBBBI", _IO_APIC, vcpus, 0x11, 1, _IOAPIC))
    for pin in range(PINS):
        entries.append(struct.pack("<BBHBBBB", _IO_INTERRUPT, _INT, 0, 0, pin, vcpus, pin))
    entries.append(struct.pack("<BBHBBBB", _LOCAL_INTERRUPT, _EXTINT, 0, 0, 0, 0, 0))
    entries.append(struct.pack("<BBHBBBB", _LOCAL_INTERRUPT, _NMI, 0, 0, 0, 0xFF, 1))
    body = b"".join(entries)
    head = struct.pack(
        "<4sHBB8s12sIHHIHBB", b"PCMP", 44 + len(body), 4, 0, b"POLYVM  ", b"MICROVM     ", 0, 0, len(entries), _LAPIC, 0, 0, 0
    )
    config = _summed(head + body, 7)
    floating = _summed(struct.pack("<4sIBBB5s", b"_MP_", _CONFIG, 1, 4, 0, bytes(5)), 10)
    return floating + config


def _summed(data: bytes, at: int) -> bytes:
    out = bytearray(data)
    out[at] = -sum(out) & 0xFF
    return bytes(out)
