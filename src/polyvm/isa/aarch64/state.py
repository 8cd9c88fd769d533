"""The aarch64 guest's registers: names and layout (Arm ARM, DDI 0487, B1.2)."""

from __future__ import annotations

from polyvm.ir import I64, I128, StateLayout

X_SP, X_ZERO, X_SINK = 31, 32, 33  # in file x: the stack pointer, what reads as 0, where writes to xzr go

# What the condition flags are (see flags.py).
CC_ADD, CC_SUB, CC_ADD32, CC_SUB32, CC_RAW, CC_DOUBLE, CC_SINGLE, CC_HALF = range(8)

# FPCR: the place of the rounding mode, the IR's numbers of nearest, up, down, to zero; AHP, DN, FZ and FZ16, which are the IR's.
RMODE, ROUNDING, MODES = 22, (0, 3, 2, 1), 0x0708_0000
FZ = 1 << 24
# FPSR: IOC, DZC, OFC, UFC, IXC, IDC and the same as the IR numbers exceptions; QC.
CUMULATIVE = ((1 << 0, 16), (1 << 1, 8), (1 << 2, 4), (1 << 3, 2), (1 << 4, 1), (1 << 7, 32))
QC = 1 << 27

LAYOUT = StateLayout(
    "aarch64",
    [
        ("x", I64, 34),
        ("cc_x", I64, 1),  # the flags: two operands, and what they mean
        ("cc_y", I64, 1),
        ("cc_k", I64, 1),
        ("pc", I64, 1),
        ("v", I128, 32),  # raw bits; writing a narrower register zeroes the rest
        ("qc", I128, 1),  # FPSR.QC is set if this is not 0
        ("tpidr", I64, 1),
        ("res_addr", I64, 1),  # address of the last load-exclusive, or all ones
        ("res_value", I64, 2),  # what it loaded
    ],
)

X_NAMES = (*(f"x{i}" for i in range(31)), "sp")
V_NAMES = tuple(f"v{i}" for i in range(32))
