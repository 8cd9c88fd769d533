"""What CPUID tells a guest (SDM volume 2, CPUID): the host's leaves, made right for each vCPU, with features hidden or held to
a level."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from polyvm.errors import UsageError
from polyvm.vcpu.contract import CpuidLeaf

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Feature → (leaf, subleaf, register, bit). Names as /proc/cpuinfo has them.
FEATURES: dict[str, tuple[int, int, str, int]] = {
    **{name: (1, 0, "edx", bit) for name, bit in {
        "fpu": 0, "vme": 1, "de": 2, "pse": 3, "tsc": 4, "msr": 5, "pae": 6, "mce": 7, "cx8": 8, "apic": 9, "sep": 11, "mtrr": 12,
        "pge": 13, "mca": 14, "cmov": 15, "pat": 16, "pse36": 17, "clflush": 19, "mmx": 23, "fxsr": 24, "sse": 25, "sse2": 26,
        "ht": 28,
    }.items()},
    **{name: (1, 0, "ecx", bit) for name, bit in {
        "pni": 0, "pclmulqdq": 1, "monitor": 3, "vmx": 5, "ssse3": 9, "fma": 12, "cx16": 13, "pcid": 17, "sse4_1": 19, "sse4_2":
        20,
        "x2apic": 21, "movbe": 22, "popcnt": 23, "tsc_deadline_timer": 24, "aes": 25, "xsave": 26, "osxsave": 27, "avx": 28,
        "f16c": 29,
        "rdrand": 30, "hypervisor": 31,
    }.items()},
    **{name: (7, 0, "ebx", bit) for name, bit in {
        "fsgsbase": 0, "tsc_adjust": 1, "sgx": 2, "bmi1": 3, "hle": 4, "avx2": 5, "smep": 7, "bmi2": 8, "erms": 9, "invpcid":
        10, "rtm": 11,
        "mpx": 14, "avx512f": 16, "avx512dq": 17, "rdseed": 18, "adx": 19, "smap": 20, "avx512ifma": 21, "clflushopt": 23,
        "clwb": 24,
        "avx512cd": 28, "sha_ni": 29, "avx512bw": 30, "avx512vl": 31,
    }.items()},
    **{name: (7, 0, "ecx", bit) for name, bit in {
        "avx512vbmi": 1, "umip": 2, "pku": 3, "waitpkg": 5, "avx512_vbmi2": 6, "gfni": 8, "vaes": 9, "vpclmulqdq": 10,
        "avx512_vnni": 11,
        "avx512_bitalg": 12, "avx512_vpopcntdq": 14, "la57": 16, "rdpid": 22,
    }.items()},
    **{name: (7, 0, "edx", bit) for name, bit in {
        "fsrm": 4, "serialize": 14, "amx_bf16": 22, "avx512_fp16": 23, "amx_tile": 24, "amx_int8": 25,
    }.items()},
    **{name: (0x8000_0001, 0, "ecx", bit) for name, bit in {"lahf_lm": 0, "svm": 2, "abm": 5, "sse4a": 6, "3dnowprefetch":
    8}.items()},
    **{name: (0x8000_0001, 0, "edx", bit) for name, bit in {"syscall": 11, "nx": 20, "pdpe1gb": 26, "rdtscp": 27, "lm":
    29}.items()},
}  # fmt: skip

# What each level of the x86-64 psABI has; a template is a level and those below it, of what the host has.
_V1 = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx lm lahf_lm "
    "x2apic hypervisor tsc_deadline_timer tsc_adjust rdtscp xsave osxsave"
).split()
_V2 = "pni ssse3 sse4_1 sse4_2 cx16 popcnt".split()
_V3 = "avx avx2 bmi1 bmi2 f16c fma abm movbe".split()
_V4 = "avx512f avx512bw avx512cd avx512dq avx512vl".split()
TEMPLATES: dict[str, tuple[str, ...]] = {
    "x86-64": tuple(_V1),
    "x86-64-v2": (*_V1, *_V2),
    "x86-64-v3": (*_V1, *_V2, *_V3),
    "x86-64-v4": (*_V1, *_V2, *_V3, *_V4),
}


def has(leaves: Sequence[CpuidLeaf], feature: str) -> bool:
    """Whether a guest with these leaves sees the feature."""
    leaf, subleaf, register, bit = _place(feature)
    return any(
        bool(getattr(entry, register) >> bit & 1)
        for entry in leaves
        if entry.function == leaf and (not entry.indexed or entry.subleaf == subleaf)
    )


def hide(leaves: Sequence[CpuidLeaf], features: Iterable[str]) -> list[CpuidLeaf]:
    """The leaves without these features."""
    return _without(leaves, [_place(feature) for feature in features])


def template(leaves: Sequence[CpuidLeaf], name: str) -> list[CpuidLeaf]:
    """The leaves with no more than a level of the x86-64 psABI has ("x86-64-v2" …), so that a guest sees the same on other hosts;
    "host" is all. Features that polyvm has no name for go, too."""
    if name == "host":
        return list(leaves)
    if name not in TEMPLATES:
        raise UsageError(f"there is no processor {name!r}; there are host, {', '.join(TEMPLATES)}")
    allowed: dict[tuple[int, int, str], int] = {}
    for feature in TEMPLATES[name]:
        leaf, subleaf, register, bit = _place(feature)
        allowed[leaf, subleaf, register] = allowed.get((leaf, subleaf, register), 0) | 1 << bit
    found: list[CpuidLeaf] = []
    for entry in leaves:
        for register in ("eax", "ebx", "ecx", "edx"):
            if entry.function in (1, 7, 0x8000_0001) and not (entry.function != 7 and register in ("eax", "ebx")):
                if entry.function == 7 and entry.subleaf == 0 and register == "eax":
                    continue  # the number of subleaves
                mask = allowed.get((entry.function, entry.subleaf if entry.indexed else 0, register), 0)
                entry = replace(entry, **{register: getattr(entry, register) & mask})
        found.append(entry)
    return found


def _place(feature: str) -> tuple[int, int, str, int]:
    try:
        return FEATURES[feature]
    except KeyError:
        raise UsageError(f"there is no processor feature {feature!r}; names are those of /proc/cpuinfo") from None


def _without(leaves: Sequence[CpuidLeaf], places: Sequence[tuple[int, int, str, int]]) -> list[CpuidLeaf]:
    found: list[CpuidLeaf] = []
    for entry in leaves:
        for leaf, subleaf, register, bit in places:
            if entry.function == leaf and (not entry.indexed or entry.subleaf == subleaf):
                entry = replace(entry, **{register: getattr(entry, register) & ~(1 << bit)})
        found.append(entry)
    return found


def for_vcpu(leaves: Sequence[CpuidLeaf], number: int, count: int = 1) -> list[CpuidLeaf]:
    """The leaves for the vCPU with this APIC number in a machine of one package of `count` cores: leaves 1, 4, 0xB and 0x1F."""
    shift = max(count - 1, 0).bit_length()
    found: list[CpuidLeaf] = []
    for entry in leaves:
        if entry.function == 1:
            ebx = entry.ebx & 0xFF00 | min(count, 255) << 16 | (number & 0xFF) << 24
            edx = entry.edx & ~(1 << 28) | (1 << 28 if count > 1 else 0)
            entry = replace(entry, ebx=ebx, edx=edx, ecx=entry.ecx | 1 << 31)
        elif entry.function == 4 and entry.eax & 0x1F:
            sharing = min(count, 1 << 12) - 1 if entry.eax >> 5 & 7 >= 3 else 0
            entry = replace(entry, eax=entry.eax & 0x3FFF | sharing << 14 | min(count - 1, 63) << 26)
        elif entry.function in (0xB, 0x1F):
            continue
        found.append(entry)
    if any(entry.function == 0 and entry.eax >= 0xB for entry in leaves):
        found.append(CpuidLeaf(0xB, 0, 0, 1, 0x100, number, indexed=True))
        found.append(CpuidLeaf(0xB, 1, shift, max(count, 1), 0x201, number, indexed=True))
        found.append(CpuidLeaf(0xB, 2, 0, 0, 2, number, indexed=True))
    return found
