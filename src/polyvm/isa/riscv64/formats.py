"""The floating-point formats of RISC-V (unprivileged specification, chapters 20 to 22)."""

from __future__ import annotations

from typing import NamedTuple

from polyvm.ir import F16, F32, F64, I16, I32, I64, Type


class Format(NamedTuple):
    """A format: its `fmt` field, IR types, and the extension that brings its instructions."""

    suffix: str
    code: str
    ext: str
    type: Type
    integer: Type
    mantissa: int

    @property
    def bits(self) -> int:
        """The width of a value."""
        return self.integer.bits

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.bits - 1)

    @property
    def infinity(self) -> int:
        """The bits of plus infinity."""
        return ((1 << (self.bits - 1 - self.mantissa)) - 1) << self.mantissa

    @property
    def quiet(self) -> int:
        """The bit that tells a quiet NaN from a signaling one."""
        return 1 << (self.mantissa - 1)

    @property
    def nan(self) -> int:
        """The canonical NaN (20.3)."""
        return self.infinity | self.quiet


S = Format("s", "00", "F", F32, I32, 23)
D = Format("d", "01", "D", F64, I64, 52)
H = Format("h", "10", "Zfh", F16, I16, 10)
ALL = (S, D, H)
