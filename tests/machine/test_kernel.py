"""Kernel images: what is recognised, and what is wrong with the rest."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from polyvm.boot.kernel import LINUX64, PVH, load_kernel
from polyvm.boot.payload import unpack, unpack_lz4
from polyvm.errors import KernelError
from polyvm.machine import Machine, MachineConfig

if TYPE_CHECKING:
    from pathlib import Path

Packer = Callable[[bytes], bytes]


def lz4_legacy(data: bytes) -> bytes:
    """LZ4's legacy frame of literals only."""
    out = b"\x02\x21\x4c\x18"
    for at in range(0, len(data), 8 << 20):
        piece = data[at : at + (8 << 20)]
        rest = len(piece) - 15
        block = b"\xf0" + b"\xff" * (rest // 255) + bytes((rest % 255,)) + piece
        out += struct.pack("<I", len(block)) + block
    return out


PACKERS: dict[str, Packer] = {
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "lz4": lz4_legacy,
}


def bzimage(body: bytes, payload: bytes, address: int, version: int = 0x20F, flags: int = 1) -> bytes:
    """A bzImage with one setup sector more than it must have: `body`, then `payload`."""
    image = bytearray(3 * 512)
    image[0x1F1] = 2
    struct.pack_into("<H", image, 0x1FE, 0xAA55)
    image[0x200:0x206] = b"\xeb\x6aHdrS"
    struct.pack_into("<H", image, 0x206, version)
    struct.pack_into("<II", image, 0x22C, 0x7FFFFFFF, 0x1000000)
    struct.pack_into("<H", image, 0x236, flags)
    struct.pack_into("<I", image, 0x238, 1000)
    struct.pack_into("<II", image, 0x248, len(body), len(payload) + 4)
    struct.pack_into("<QI", image, 0x258, address, 0x100000)
    return bytes(image) + body + payload + struct.pack("<I", 12345678)


@pytest.mark.parametrize("packer", PACKERS)
def test_payloads_are_unpacked(packer: str) -> None:
    """Every format gives the bytes back, and ignores the size behind."""
    data = bytes(i * i >> 3 & 0xFF for i in range(100000))
    packed = PACKERS[packer](data) + b"\x10\x27\0\0"
    assert (unpack(packed) or unpack_lz4(packed)) == data
    assert not unpack(packed[:4] + b"garbage" * 3)
    assert not unpack_lz4(b"\x02\x21\x4c\x18" + struct.pack("<I", 9) + b"\x10a\xff\xff" + bytes(5))


def test_lz4_matches_overlap_and_reach_back() -> None:
    """A match longer than its distance repeats what it makes (lz4_Block_format.md)."""
    block = b"\x34abc\x03\x00" + b"\x10Y"  # three literals, a match of 8 from 3 bytes back, one literal
    packed = b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block + bytes(4)
    assert unpack_lz4(packed) == b"abcabcabcab" + b"Y"


@pytest.mark.parametrize("packer", PACKERS)
def test_a_bzimage_boots_from_its_payload(guests: dict[str, Path], tmp_path: Path, packer: str, accelerator: str) -> None:
    """The ELF file inside of a bzImage is unpacked on the host and entered directly, with the setup header of the image."""
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(bytes(1024), PACKERS[packer](guests["linux"].read_bytes()), 0x200000))
    kernel = load_kernel(str(path))
    assert (kernel.protocol, kernel.entry, kernel.cmdline_max) == (LINUX64, 0x200000, 1000)
    with Machine(MachineConfig(kernel=str(path), accelerator=accelerator)) as machine:
        machine.console.expect("entry linux\n")
        machine.console.expect("ready\n")


def test_a_bzimage_of_another_format_unpacks_itself(guests: dict[str, Path], tmp_path: Path, accelerator: str) -> None:
    """Where the payload is unknown, the image's own 64-bit entry point, 200h into it, is used."""
    flat = tmp_path / "flat"
    subprocess.run(["objcopy", "-O", "binary", guests["linux"], flat], check=True)
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(bytes(0x200) + flat.read_bytes(), b"unknown", 0x1FFE00))
    assert load_kernel(str(path)).entry == 0x200000
    with Machine(MachineConfig(kernel=str(path), accelerator=accelerator)) as machine:
        machine.console.expect("entry linux\n")
        machine.console.expect("ready\n")


def test_entries(guests: dict[str, Path]) -> None:
    """A PVH note is found, and its entry point is not the ELF file's."""
    with_note, without = load_kernel(str(guests["pvh"])), load_kernel(str(guests["linux"]))
    assert (with_note.protocol, without.protocol) == (PVH, LINUX64)
    symbols = subprocess.run(["nm", guests["pvh"]], capture_output=True, text=True, check=True).stdout
    assert f"{with_note.entry:016x} t start32" in symbols.lower()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda elf: b"", "neither an ELF file nor a bzImage"),
        (lambda elf: b"\x1f\x8b" + bytes(1000), "compressed with gzip: unpack it first"),
        (lambda elf: bytes(0x38) + b"ARM\x64" + bytes(1000), "an arm64 or riscv64 Image"),
        (lambda elf: elf[:40], "ends within its ELF header"),
        (lambda elf: elf[:4] + b"\x01" + elf[5:], "not for x86-64"),
        (lambda elf: elf[:18] + b"\xb7\0" + elf[20:], "not for x86-64"),
        (lambda elf: elf[:5000], "is truncated"),
        (lambda elf: elf[:56] + b"\0\0" + elf[58:], "nothing to load"),
        (lambda elf: elf[:24] + bytes(8) + elf[32:], "no entry point inside"),
        (lambda elf: bzimage(bytes(600), b"", 0x100000, version=0x20B), "boot protocol 2.11; needed is 2.12"),
        (lambda elf: bzimage(bytes(600), b"", 0x100000, flags=0), "a 32-bit kernel"),
        (lambda elf: bzimage(bytes(600), b"", 0x1000), "wants to be loaded at 0x1000"),
        (lambda elf: bzimage(b"", b"", 0x100000)[:1500], "is truncated"),
        (lambda elf: bzimage(b"", b"", 0x100000)[:0x220], "ends within its setup header"),
    ],
)
def test_images_that_cannot_be_booted(guests: dict[str, Path], tmp_path: Path, make: Packer, message: str) -> None:
    """One sentence says what is wrong and names the file."""
    path = tmp_path / "image"
    path.write_bytes(make(guests["linux"].read_bytes()))
    with pytest.raises(KernelError, match=message) as caught:
        load_kernel(str(path))
    assert str(path) in str(caught.value)


def test_what_does_not_fit_into_memory(guests: dict[str, Path], tmp_path: Path, accelerator: str) -> None:
    """Kernel and initrd say how much they need."""
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(bytes(1024), b"x", 32 << 20))
    with pytest.raises(KernelError, match="give more with --memory"), Machine(MachineConfig(kernel=str(path), memory=16 << 20)):
        pass
    initrd = tmp_path / "initrd"
    initrd.write_bytes(bytes(20 << 20))
    config = MachineConfig(kernel=str(guests["linux"]), initrd=str(initrd), memory=16 << 20)
    with pytest.raises(KernelError, match="the initrd of 20,480 KiB does not fit"), Machine(config):
        pass


def test_random_images_are_refused_or_loaded(guests: dict[str, Path], tmp_path: Path) -> None:
    """Whatever bytes of an image are changed, there is a kernel or a KernelError."""
    import random

    rng = random.Random(3)
    for source in (guests["pvh"].read_bytes(), bzimage(bytes(600), gzip.compress(guests["linux"].read_bytes()), 0x200000)):
        for _ in range(150):
            data = bytearray(source)
            for _ in range(rng.randrange(1, 8)):
                data[rng.randrange(0x300)] = rng.randrange(256)
            path = tmp_path / "image"
            path.write_bytes(bytes(data[: rng.choice((len(data), rng.randrange(len(data))))]))
            try:
                load_kernel(str(path))
            except KernelError:
                pass
