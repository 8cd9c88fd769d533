"""`Rv`: the builder that RISC-V instruction bodies are written with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I8, I32, I64, Builder, Value
from polyvm.isa.riscv64.state import LAYOUT, X_SINK
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from polyvm.ir import Type
    from polyvm.isa.riscv64.formats import Format

DYNAMIC = 7  # the rounding-mode field that asks for frm (20.2)


class Rv(Builder):
    """Builder with the registers of riscv64."""

    def __init__(self) -> None:
        super().__init__(LAYOUT)

    def x(self, index: Value | int) -> Value:
        """Integer register `index` (i64)."""
        number = index if isinstance(index, int) else index.bits if index.is_const else -1
        return self.const(I64, 0) if number == 0 else self.get("x", index)

    def set_x(self, index: Value, value: Value | int) -> None:
        """Write integer register `index`, in which the decoder has put the sink for x0."""
        if not (index.is_const and index.bits in (0, X_SINK)):
            self.set("x", value, index)

    def w(self, index: Value | int) -> Value:
        """The low half of an integer register (i32)."""
        return self.x(index).trunc(I32)

    def set_w(self, index: Value, value: Value) -> None:
        """Write the result (i32) of a W instruction, sign-extended."""
        self.set_x(index, value.sext(I64))

    def flag(self, condition: Value) -> Value:
        """An i1 as 0 or 1 in a register (i64)."""
        return condition.zext(I64)

    def f_bits(self, index: Value, fmt: Format) -> Value:
        """Floating-point register `index` as an integer of the format's width; what is not NaN-boxed is the canonical
        NaN (21.2)."""
        raw = self.get("f", index)
        if fmt.bits == 64:
            return raw
        boxed = raw.asr(fmt.bits).eq(-1)
        return self.select(boxed, raw.trunc(fmt.integer), fmt.nan)

    def f(self, index: Value, fmt: Format) -> Value:
        """Floating-point register `index`."""
        return self.f_bits(index, fmt).bitcast(fmt.type)

    def set_f_bits(self, index: Value, bits: Value, fmt: Format) -> None:
        """Write a floating-point register from an integer, NaN-boxed."""
        if fmt.bits < 64:
            bits = bits.zext(I64) | (-1 << fmt.bits)
        self.set("f", bits, index)

    def set_f(self, index: Value, value: Value, fmt: Format) -> None:
        """Write a floating-point register, NaN-boxed."""
        self.set_f_bits(index, value.bitcast(fmt.integer), fmt)

    def round_mode(self, rm: Value) -> Value:
        """What to pass to floating-point operations for the rounding-mode field `rm`; modes 5 and 6, also in frm, are
        illegal (20.2)."""
        if rm.is_const and rm.bits < 5:
            return rm
        if self.fast:
            return self.rounding(rm)
        mode = self.select(rm.eq(DYNAMIC), self.fp_rm().trunc(I8), rm)
        with self.if_(mode.ugt(4)):
            self.illegal()
        return self.rounding(mode)

    def illegal(self) -> None:
        """This is not an instruction."""
        self.exit(exits.ILLEGAL)

    def require_aligned(self, address: Value, type_: Type, access: int) -> None:
        """Fault where `address` is no multiple of the size of `type_`. Both the page attributes allow the access and it
        faults: that is how the operating system tells an alignment fault from the others."""
        size = type_.bits // 8
        if size > 1:
            with self.if_((address & (size - 1)).ne(0)):
                self.exit(exits.FAULT, address, self.const(I64, access), self.const(I64, size))
