"""`A64`: the builder that A64 instruction bodies are written with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I8, I32, I64, I128, Builder, Value
from polyvm.ir.ops import ENV
from polyvm.isa.aarch64.flags import AL, Compared, Difference, Flags, Raw, Sum, stored
from polyvm.isa.aarch64.state import (
    CC_ADD,
    CC_ADD32,
    CC_DOUBLE,
    CC_HALF,
    CC_RAW,
    CC_SINGLE,
    CC_SUB,
    CC_SUB32,
    LAYOUT,
    X_SINK,
    X_ZERO,
)
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from polyvm.ir import Type


_COMPARISONS = {64: CC_DOUBLE, 32: CC_SINGLE, 16: CC_HALF}


class A64(Builder):
    """Builder with the registers of aarch64."""

    def __init__(self) -> None:
        super().__init__(LAYOUT)
        self.fp_rules = "propagate"
        self.source: Flags | None = None  # of the flags, where an earlier instruction of the same native code has set them

    def follow(self, before: Builder) -> None:
        """The flags are those of the instruction before."""
        if isinstance(before, A64) and before.source is not None:
            self.source = before.source
            self.source.move(self)

    def x(self, index: Value | int) -> Value:
        """General register `index` of file x (i64)."""
        number = index if isinstance(index, int) else index.bits if index.is_const else -1
        return self.const(I64, 0) if number == X_ZERO else self.get("x", index)

    def set_x(self, index: Value | int, value: Value | int) -> None:
        """Write general register `index` (i64)."""
        number = index if isinstance(index, int) else index.bits if index.is_const else -1
        if number not in (X_ZERO, X_SINK):
            self.set("x", value, index)

    def r(self, index: Value | int, type_: Type) -> Value:
        """General register `index` as an i32 or i64, or narrower."""
        return self.x(index).trunc(type_)

    def set_r(self, index: Value | int, value: Value) -> None:
        """Write general register `index` from an i32 or i64: what is above is zeroed."""
        self.set_x(index, value.zext(I64))

    # -- SIMD and floating point ----------------------------------------------------------------------------------

    def v(self, index: Value, type_: Type) -> Value:
        """The low bits of a vector register as an integer."""
        return self.get("v", index).trunc(type_)

    def set_v(self, index: Value, value: Value) -> None:
        """Write a vector register from an integer: what is above is zeroed."""
        self.set("v", value.zext(I128), index)

    def f(self, index: Value, type_: Type) -> Value:
        """The low bits of a vector register as a floating-point number."""
        return self.v(index, type_.with_kind("int")).bitcast(type_)

    def set_f(self, index: Value, value: Value) -> None:
        """Write a vector register from a floating-point number: what is above is zeroed."""
        self.set_v(index, value.bitcast(value.type.with_kind("int")))

    def fp_mode(self) -> Value:
        """What to pass to floating-point operations as their rounding mode: that of FPCR. An instruction with such operations
        asks for it first, even if it rounds otherwise: the host may not have FPCR's other modes."""
        return self.rounding(self.const(I8, ENV))

    # -- flags --------------------------------------------------------------------------------------------------

    def flags(self) -> Flags:
        """The condition flags."""
        if self.source is None:
            self.source = stored(self)
        return self.source

    def condition(self, number: int | Value) -> Value:
        """i1: condition `number` (C1.2.4; a value: i8) holds."""
        if isinstance(number, Value):
            if not number.is_const:
                return self._any_condition(number)
            number = number.bits
        return self.true() if number >= AL else self.flags().holds(number)

    def _any_condition(self, number: Value) -> Value:
        flags = self.flags()
        even = number & 14
        held = self.true()
        for condition in range(0, AL, 2):
            held = self.select(even.eq(condition), flags.holds(condition), held)
        return held ^ ((number & 1).ne(0) & number.ult(AL))

    def _set_flags(self, source: Flags, x: Value, y: Value, meaning: int) -> None:
        self.source = source
        self.set("cc_x", x.zext(I64))
        self.set("cc_y", y.zext(I64))
        self.set("cc_k", meaning)

    def set_flags_add(self, x: Value, y: Value) -> None:
        """The flags become those of x + y, both i32 or i64."""
        self._set_flags(Sum(x, y), x, y, CC_ADD32 if x.type is I32 else CC_ADD)

    def set_flags_sub(self, x: Value, y: Value) -> None:
        """The flags become those of x - y."""
        self._set_flags(Difference(x, y), x, y, CC_SUB32 if x.type is I32 else CC_SUB)

    def set_flags_logic(self, result: Value) -> None:
        """N and Z say what `result` is, C and V become 0."""
        self.set_flags_add(result, self.const(result.type, 0))

    def set_flags_compare(self, x: Value, y: Value) -> None:
        """The flags become those of a comparison of floating-point numbers, which has raised what it has to raise."""
        source = Compared(x, y)
        if not self.fast:  # where the evaluator does it, modes of FPCR may count
            self.set_nzcv(source.nzcv(), source)
            return
        integer = x.type.with_kind("int")
        self._set_flags(source, x.bitcast(integer), y.bitcast(integer), _COMPARISONS[x.type.bits])

    def set_nzcv(self, nzcv: Value, source: Flags | None = None) -> None:
        """The flags become bits 31 to 28 of an i64, of which the others are 0; `source` says the same otherwise."""
        self.source = source or Raw(nzcv)
        self.set("cc_x", nzcv)
        self.set("cc_k", CC_RAW)

    # -- faults -------------------------------------------------------------------------------------------------

    def illegal(self) -> None:
        """This is not an instruction."""
        self.exit(exits.ILLEGAL)

    def require_aligned(self, address: Value, size: int, access: int) -> None:
        """Fault where `address` is no multiple of `size`, a power of two. A fast handler's access is aligned or not made. Both
        the page attributes allow the access and it faults: that is how the operating system tells an alignment fault from the
        others."""
        if size > 1 and not self.fast:
            with self.if_((address & (size - 1)).ne(0)):
                self.exit(exits.FAULT, address, self.const(I64, access), self.const(I64, size))
