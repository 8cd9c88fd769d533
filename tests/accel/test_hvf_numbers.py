"""Hypervisor.framework's numbers against what they are made of: the encodings of MRS."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from typing import TYPE_CHECKING

from polyvm.accel.ffi import hvf

if TYPE_CHECKING:
    from pathlib import Path


def test_system_registers_are_numbered_as_mrs_encodes_them(tmp_path: Path) -> None:
    """hv_sys_reg_t holds the fields of the instruction that reads the register, as the GNU assembler writes it."""
    source = "\n".join(f"mrs x0, {name.lower()}" for name in hvf.SYSTEM_REGISTERS)
    (tmp_path / "mrs.s").write_text(source + "\n")
    subprocess.run(["aarch64-linux-gnu-as", "-march=armv8.5-a", "-o", tmp_path / "mrs.o", tmp_path / "mrs.s"], check=True)
    subprocess.run(["aarch64-linux-gnu-objcopy", "-O", "binary", tmp_path / "mrs.o", tmp_path / "mrs"], check=True)
    words = struct.unpack(f"<{len(hvf.SYSTEM_REGISTERS)}I", (tmp_path / "mrs").read_bytes())
    assert [word >> 5 & 0xFFFF for word in words] == list(hvf.SYSTEM_REGISTERS.values())


def test_the_exit_record_is_laid_out_as_c_does() -> None:
    """A u32, then three u64, each aligned to its size."""
    assert ctypes.sizeof(hvf.hv_vcpu_exit_t) == 32
    assert hvf.hv_vcpu_exit_t.exception.offset == 8


def test_vmcs_encodings_tell_width_and_kind() -> None:
    """A field's encoding has its width in bits 14:13 and its kind in bits 11:10 (Intel SDM, volume 3, 25.11.2)."""
    kinds = {"CTRL": 0, "RO": 1, "GUEST": 2}
    for name, encoding in hvf.VMCS.items():
        kind = 1 if name == "GUEST_PHYSICAL_ADDRESS" else kinds[name.partition("_")[0]]
        assert encoding >> 10 & 3 == kind, name
        assert encoding & 1 == 0, name
        plain = name.removeprefix("GUEST_")
        if plain in ("ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"):
            assert encoding >> 13 == 0, name
        if name.endswith("_BASE") or plain in ("RIP", "RSP", "RFLAGS", "CR0", "CR3", "CR4"):
            assert encoding >> 13 == 3, name


def test_the_routine_that_passes_a_vector_is_what_its_comment_says(tmp_path: Path) -> None:
    """Two instructions, as the GNU assembler writes them."""
    (tmp_path / "set.s").write_text("ldr q0, [x2]\nbr x3\n")
    subprocess.run(["aarch64-linux-gnu-as", "-o", tmp_path / "set.o", tmp_path / "set.s"], check=True)
    subprocess.run(["aarch64-linux-gnu-objcopy", "-O", "binary", tmp_path / "set.o", tmp_path / "set"], check=True)
    assert (tmp_path / "set").read_bytes() == hvf.SET_SIMD_CODE
