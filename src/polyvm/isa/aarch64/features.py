"""What is implemented beyond Armv8.0-A's integer instructions, and how programs can tell: a row for each feature.

Linux tells by bits of AT_HWCAP and AT_HWCAP2 (arch/arm64/include/uapi/asm/hwcap.h), and by the fields of the identification
registers, which it lets programs read (Documentation/arch/arm64/cpu-feature-registers.rst).
"""

from __future__ import annotations

# Name; bits of AT_HWCAP, of AT_HWCAP2; fields of identification registers as "register:lowest bit=value". Where a feature
# extends another, its value is the larger one.
_ROWS = """
FP       0       -    pfr0:16=0
AdvSIMD  1       -    pfr0:20=0
FP16     9,10    -    pfr0:16=1,pfr0:20=1
AES      3       -    isar0:4=1
PMULL    4       -    isar0:4=2
SHA1     5       -    isar0:8=1
SHA2     6       -    isar0:12=1
SHA512   21      -    isar0:12=2
SHA3     17      -    isar0:32=1
SM3      18      -    isar0:36=1
SM4      19      -    isar0:40=1
RDM      12      -    isar0:28=1
DotProd  20      -    isar0:44=1
FHM      23      -    isar0:48=1
FCMA     14      -    isar1:16=1
I8MM     -       13   isar1:52=1
BF16     -       14   isar1:44=1
JSCVT    13      -    isar1:12=1
FRINTTS  -       8    isar1:32=1
LSE      8       -    isar0:20=2
CRC32    7       -    isar0:16=1
FlagM    27      -    isar0:52=1
FlagM2   -       7    isar0:52=2
LRCPC    15      -    isar1:20=1
LRCPC2   26      -    isar1:20=2
DPB      16      -    isar1:0=1
DPB2     -       0    isar1:0=2
SB       29      -    isar1:36=1
CPUID    11      -    -
"""

# Register: crm, op2, what it is without features: EL0 and EL1 are AArch64, no floating point.
_REGISTERS = {
    "midr_el1": (0, 0, 0x000F_0510),  # no implementer that exists
    "mpidr_el1": (0, 5, 1 << 31),
    "revidr_el1": (0, 6, 0),
    "id_aa64pfr0_el1": (4, 0, 0xFF_0011),
    "id_aa64pfr1_el1": (4, 1, 0),
    "id_aa64zfr0_el1": (4, 4, 0),
    "id_aa64dfr0_el1": (5, 0, 6),
    "id_aa64dfr1_el1": (5, 1, 0),
    "id_aa64isar0_el1": (6, 0, 0),
    "id_aa64isar1_el1": (6, 1, 0),
    "id_aa64isar2_el1": (6, 2, 0),
    "id_aa64mmfr0_el1": (7, 0, 0xFF00_0000),
    "id_aa64mmfr1_el1": (7, 1, 0),
    "id_aa64mmfr2_el1": (7, 2, 0),
}


def _parse() -> tuple[tuple[str, ...], int, int, dict[str, tuple[int, int, int]]]:
    names: list[str] = []
    hwcap = hwcap2 = 0
    registers = dict(_REGISTERS)
    for line in _ROWS.split("\n"):
        if not line:
            continue
        name, first, second, fields = line.split()
        names.append(name)
        hwcap |= sum(1 << int(bit) for bit in first.split(",") if bit != "-")
        hwcap2 |= sum(1 << int(bit) for bit in second.split(",") if bit != "-")
        for field in fields.split(","):
            if field == "-":
                continue
            place, _, value = field.partition("=")
            register, _, low = place.partition(":")
            full = f"id_aa64{register}_el1"
            crm, op2, bits = registers[full]
            have = bits >> int(low) & 15
            if int(value) > have or have == 15:
                bits = (bits & ~(15 << int(low))) | int(value) << int(low)
            registers[full] = crm, op2, bits
    return tuple(names), hwcap, hwcap2, registers


FEATURES, HWCAP, HWCAP2, ID_REGISTERS = _parse()
