"""KVM's structures and numbers against the kernel's headers, for each architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from polyvm.accel.ffi import kvm, kvm_aarch64, kvm_x86_64
from tests.accel.c_values import evaluate, layout, snake, structures

if TYPE_CHECKING:
    from pathlib import Path

PRELUDE = "#include <stddef.h>\n#include <linux/kvm.h>\n#include <asm/kvm.h>\n"
TOOLS = {"x86_64": ("gcc", "objcopy"), "aarch64": ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-objcopy")}
# Fields that the header has inside of anonymous unions or structures.
NOT_NAMED = {"Run": ("exit",), "IrqRoutingEntry": (), "VcpuEvents": ()}



def expected(module: object, arch: str) -> dict[str, int]:
    values: dict[str, int] = {}
    for structure in structures(module):
        name = structure.__name__
        if name == "Run" and arch == "aarch64":
            continue
        values |= layout(structure, f"struct kvm_{snake(name)}", NOT_NAMED.get(name, ()))
    for name, value in vars(module).items():
        if name.isupper() and name != "TYPE_CHECKING" and not name.startswith("_") and isinstance(value, int) and not (name == "NR_INTERRUPTS" and arch != "x86_64"):
            values[f"KVM_{name}"] = value
    return {text: value & (1 << 64) - 1 for text, value in values.items()}


@pytest.mark.parametrize("arch,modules", [("x86_64", (kvm, kvm_x86_64)), ("aarch64", (kvm, kvm_aarch64))])
def test_structures_and_numbers_are_the_headers(arch: str, modules: tuple[object, ...], tmp_path: Path) -> None:
    """Each structure's size and offsets, each constant and each ioctl's number are what the C compiler says."""
    values: dict[str, int] = {}
    for module in modules:
        values |= expected(module, arch)
    if arch == "aarch64":
        values = {text: value for text, value in values.items() if "X86_USER" not in text}
    for name, offset, form in (value for key, value in vars(kvm).items() if key.startswith("RUN_")):
        values[f"__builtin_offsetof(struct kvm_run, {name})"] = offset
        assert form == "" or form[0] == "<"
    assert len(values) > 250
    found = evaluate(*TOOLS[arch], PRELUDE, list(values), tmp_path)
    assert {text: (value, found[text]) for text, value in values.items() if found[text] != value} == {}


def test_register_numbers_of_aarch64_are_the_headers(tmp_path: Path) -> None:
    """The numbers of core registers come from offsets in struct kvm_regs, those of system registers from their encodings."""
    from polyvm.accel.kvm_aarch64 import CORE, SYSTEM, VECTOR

    core = {f"KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG({name})": number for name, number in
    CORE.items()}
    core |= {f"KVM_REG_ARM64 | KVM_REG_SIZE_U128 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(fp_regs.vregs[{i}])": number for i,
    number in enumerate(VECTOR)}
    system = {f"ARM64_SYS_REG({', '.join(map(str, encoding))})": number for encoding, number in SYSTEM.items()}
    found = evaluate(*TOOLS["aarch64"], PRELUDE, [*core, *system], tmp_path)
    assert found == core | system


def test_members_of_the_run_page_lie_where_their_formats_say(tmp_path: Path) -> None:
    """The struct formats for exits have each member at its offset."""
    import struct

    members = {
        "io": ("RUN_IO", ("direction", "size", "port", "count", "data_offset")),
        "mmio": ("RUN_MMIO", ("phys_addr", "data", "len", "is_write")),
        "msr": ("RUN_MSR", ("error", "reason", "index", "data")),
        "fail_entry": ("RUN_FAIL_ENTRY", ("hardware_entry_failure_reason", "cpu")),
        "arm_nisv": ("RUN_NISV", ("esr_iss", "fault_ipa")),
        "internal": ("RUN_INTERNAL", ("suberror", "ndata", "data[0]")),
        "system_event": ("RUN_SYSTEM_EVENT", ("type", "ndata", "data[0]")),
        "hypercall": ("RUN_HYPERCALL", ("nr", "args[0]", "args[1]", "args[2]", "args[3]", "args[4]", "args[5]", "ret",
        "longmode")),
    }
    expressions = {}
    for union, (name, fields) in members.items():
        _, offset, form = getattr(kvm, name)
        codes = [code for code in __import__("re").findall(r"\d*[a-zA-Z]", form) if not code.endswith("x")]
        flat = [c for code in codes for c in ([code] if code.endswith("s") else [code[-1]] * int(code[:-1] or 1))]
        for index, field in enumerate(fields):
            # Each value's place, by packing it alone with all bits set.
            values = [b"\xff" * 8 if code.endswith("s") and i == index else b"" if code.endswith("s") else (1 << 8 *
            struct.calcsize("<" + code)) - 1 if i == index else 0 for i, code in enumerate(flat)]
            place = struct.pack(form, *values).index(b"\xff")
            expressions[f"__builtin_offsetof(struct kvm_run, {union}.{field})"] = offset + place
    assert evaluate(*TOOLS["x86_64"], PRELUDE, list(expressions), tmp_path) == expressions
