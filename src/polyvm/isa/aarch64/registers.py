"""The aarch64 guest's registers by name (DDI 0487, B1.2, C5.2)."""

from __future__ import annotations

from polyvm.isa.aarch64.state import (
    CC_ADD,
    CC_DOUBLE,
    CC_HALF,
    CC_RAW,
    CC_SINGLE,
    CC_SUB32,
    CUMULATIVE,
    FZ,
    MODES,
    QC,
    RMODE,
    ROUNDING,
    X_NAMES,
    X_ZERO,
)
from polyvm.isa.registers import RegisterTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.isa.registers import State

_NZCV = 0xF << 28


class Registers(RegisterTable):
    """x0…x30, sp, the flags, pc, vectors and their parts, the floating-point environment, the thread pointer."""

    names = {
        **{name: ("x", i, 64) for i, name in enumerate(X_NAMES)},
        "pc": ("pc", 0, 64),
        "nzcv": ("nzcv", 0, 32),
        **{f"v{i}": ("v", i, 128) for i in range(32)},
        "fpsr": ("fpsr", 0, 32),
        "fpcr": ("fpcr", 0, 32),
        "tpidr_el0": ("tpidr", 0, 64),
        "pstate": ("nzcv", 0, 32),
        "fp": ("x", 29, 64),
        "lr": ("x", 30, 64),
        "xzr": ("x", X_ZERO, 64),
        "wzr": ("x", X_ZERO, 32),
        "wsp": ("x", 31, 32),
        **{f"w{i}": ("x", i, 32) for i in range(31)},
        **{f"{letter}{i}": ("v", i, bits) for letter, bits in (("q", 128), ("d", 64), ("s", 32), ("h", 16), ("b", 8))
           for i in range(32)},
    }  # fmt: skip
    floating = "v"
    integers = 31
    constant = frozenset({("x", X_ZERO)})

    def get(self, state: State, file: str, index: int) -> int:
        """What is kept in another form: the flags, FPSR, FPCR."""
        if file == "nzcv":
            return _flags(state.get("cc_x"), state.get("cc_y"), state.get("cc_k"), state.fp_rm & FZ != 0)
        if file == "fpsr":
            accrued = state.fp_flags
            return sum(bit for bit, flag in CUMULATIVE if accrued & flag) | (QC if state.get("qc") else 0)
        if file == "fpcr":
            return state.fp_rm & MODES | ROUNDING.index(state.fp_rm & 3) << RMODE
        return super().get(state, file, index)

    def set(self, state: State, file: str, index: int, value: int) -> None:
        """The other way round."""
        if file == "nzcv":
            state.set("cc_x", 0, value & _NZCV)
            state.set("cc_y", 0, 0)
            state.set("cc_k", 0, CC_RAW)
        elif file == "fpsr":
            state.fp_flags = sum(flag for bit, flag in CUMULATIVE if value & bit)
            state.set("qc", 0, 1 if value & QC else 0)
        elif file == "fpcr":
            self.set(state, "nzcv", 0, self.get(state, "nzcv", 0))  # a comparison has been in the mode before
            state.fp_rm = value & MODES | ROUNDING[value >> RMODE & 3]
        else:
            super().set(state, file, index, value)


def _compared(x: int, y: int, meaning: int, flushes: bool) -> int:
    """The flags of a comparison of floating-point numbers, of which subnormal ones count as 0 if `flushes`."""
    bits, infinity = {CC_DOUBLE: (64, 0x7FF << 52), CC_SINGLE: (32, 0x7F8 << 20), CC_HALF: (16, 0x7C00)}[meaning]
    top = 1 << bits - 1
    sizes = [v & top - 1 for v in (x, y)]
    least = infinity & -infinity
    if flushes and meaning != CC_HALF:
        sizes = [size if size >= least else 0 for size in sizes]
    if max(sizes) > infinity:
        return 3 << 28
    first, second = (-size if v & top else size for v, size in zip((x, y), sizes, strict=True))
    return (8 if first < second else 6 if first == second else 2) << 28


def _flags(x: int, y: int, meaning: int, flushes: bool) -> int:
    """N, Z, C and V in bits 31 to 28 from the flags as they are kept (flags.py)."""
    if meaning > CC_RAW:
        return _compared(x, y, meaning, flushes)
    if not CC_ADD <= meaning <= CC_SUB32:
        return x & _NZCV
    bits = 32 if meaning & 2 else 64
    mask = (1 << bits) - 1
    x, y = x & mask, y & mask
    if meaning & 1:
        y ^= mask
    total = x + y + (meaning & 1)
    result = total & mask
    overflow = (x ^ result) & (y ^ result)
    negative, signed = result >> bits - 1, overflow >> bits - 1
    return negative << 31 | (result == 0) << 30 | total >> bits << 29 | signed << 28


TABLE = Registers()
