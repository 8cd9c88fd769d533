"""Register tables, CPUID templates, the choice of an accelerator: what needs no hypervisor."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from polyvm.accel import ACCELERATORS, available, best, cpuid, fxsave, get
from polyvm.accel.kvm_x86_64 import debug_registers
from polyvm.accel.registers import checked
from polyvm.errors import EncodingError, UnsupportedError, UsageError
from polyvm.vcpu.contract import CpuidLeaf, DebugControl
from polyvm.vcpu.x86_64 import X86Fpu


@dataclass
class Two:
    a: int = 0
    b: int = 0


@pytest.mark.parametrize(
    "rows,message",
    [
        ([("a", 1)], "b missing"),
        ([("a", 1), ("b", 2), ("a", 3)], "a is there twice"),
        ([("a", 1), ("b", 1)], "same place"),
        ([("a", 1), ("b", 2), ("c", 3)], "no register c"),
    ],
)
def test_a_register_table_that_is_wrong_is_an_error(rows: list[tuple[str, int]], message: str) -> None:
    """Missing, doubled, at the same place, unknown: each is named."""
    with pytest.raises(EncodingError, match=message):
        checked(Two, rows)


def test_a_register_table_is_in_the_order_of_its_record() -> None:
    """Whatever order the rows have."""
    assert list(checked(Two, [("b", 2), ("a", 1)]).items()) == [("a", 1), ("b", 2)]


ALL = (1 << 32) - 1
HOST = [
    CpuidLeaf(0, 0, 0x1F),
    CpuidLeaf(1, 0, 0x50654, 0x0910_0800, ALL, ALL),
    CpuidLeaf(4, 0, 0x7C00_4121, indexed=True),
    CpuidLeaf(7, 0, 2, ALL, ALL, ALL, indexed=True),
    CpuidLeaf(0xB, 0, 1, 2, 0x100, 9, indexed=True),
    CpuidLeaf(0x8000_0001, 0, 0, 0, ALL, ALL),
]


def test_templates_hold_to_their_level() -> None:
    """x86-64-v2 has no AVX, v3 has, v4 has AVX-512; what the host lacks stays away."""
    levels = {name: cpuid.template(HOST, name) for name in ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4")}
    table = {name: [cpuid.has(leaves, feature) for feature in ("sse2", "sse4_2", "avx2", "avx512f")] for name, leaves in levels.items()}
    assert table == {
        "x86-64": [True, False, False, False], "x86-64-v2": [True, True, False, False],
        "x86-64-v3": [True, True, True, False], "x86-64-v4": [True, True, True, True],
    }  # fmt: skip
    assert not cpuid.has(cpuid.template(cpuid.hide(HOST, ["avx2"]), "x86-64-v3"), "avx2")
    assert cpuid.template(HOST, "host") == HOST
    assert levels["x86-64"][1].eax == 0x50654 and levels["x86-64"][3].eax == 2
    with pytest.raises(UsageError, match="x86-64-v9"):
        cpuid.template(HOST, "x86-64-v9")
    with pytest.raises(UsageError, match="warp"):
        cpuid.hide(HOST, ["warp"])


def test_each_vcpu_has_its_own_numbers() -> None:
    """APIC numbers in leaves 1 and 0xB, and how many cores there are."""
    leaves = cpuid.for_vcpu(HOST, 3, 4)
    (one,) = (leaf for leaf in leaves if leaf.function == 1)
    assert (one.ebx >> 24, one.ebx >> 16 & 0xFF, one.ecx >> 31) == (3, 4, 1)
    topology = [leaf for leaf in leaves if leaf.function == 0xB]
    assert [(leaf.subleaf, leaf.eax, leaf.ebx, leaf.edx) for leaf in topology] == [(0, 0, 1, 3), (1, 2, 4, 3), (2, 0, 0, 3)]


def test_xsave_images_keep_what_is_put_in() -> None:
    """x87 and SSE come out as they went in; a component that is marked absent is in its initial state."""
    regs = X86Fpu(tuple(range(1, 9)), 0x27F, 0x3800, 0xFF, 5, 6, 7, 0x1FA0, tuple(1 << i for i in range(16)))
    image = bytearray(4096)
    fxsave.pack(image, regs)
    assert fxsave.unpack(image) == regs
    image[512] = 0
    assert fxsave.unpack(image) == X86Fpu(mxcsr=0x1FA0)


def test_debug_registers_are_the_manuals() -> None:
    """DR7's fields (SDM volume 3, 17.2.4)."""
    found = debug_registers(DebugControl(breakpoints=(0x1000,), watchpoints=((0x2000, 4, "w"), (0x3000, 8, "rw"))))
    assert found[:3] == [0x1000, 0x2000, 0x3000]
    assert found[7] == 0x400 | 0b101010 | 0b1101 << 20 | 0b1011 << 24
    with pytest.raises(UsageError, match="aligned"):
        debug_registers(DebugControl(watchpoints=((0x1001, 4, "w"),)))


def test_each_accelerator_says_whether_it_is_here() -> None:
    """In the order of preference; one that is missing has a reason."""
    found = available()
    assert [entry.name for entry in found] == list(ACCELERATORS)
    assert all(entry.present or entry.reason for entry in found)
    with pytest.raises(UsageError, match="there is no accelerator"):
        get("xen")


def test_best_explains_itself() -> None:
    """Where nothing runs a guest's kernels, each accelerator's reason is told; user code has the software engine."""
    with pytest.raises(UnsupportedError, match=r"kvm: .*; hvf: .*; whpx: .*; vz: .*; soft: .*privileged"):
        best("riscv64")
    assert best("riscv64", full_system=False).name == "soft"
