"""`Value`, one node of the IR, and `Region`, a list of them in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from polyvm.ir.types import Type

if TYPE_CHECKING:
    from polyvm.ir.builder import Builder


class Region:
    """Operations in the order in which they happen."""

    __slots__ = ("ops",)

    def __init__(self) -> None:
        self.ops: list[Value] = []


class Value:
    """The result of one operation (or the operation itself, where it has none).

    Operators build more operations through the builder that made the value; a plain int beside a value takes the
    value's type. Comparison is by method (`eq`, `ult`, …), since ``==`` between nodes would say nothing about the
    guest; `__bool__` raises, since a body must not branch in Python on what the guest computes.
    """

    __slots__ = ("args", "attrs", "builder", "op", "type")

    def __init__(
        self, builder: Builder, op: str, type_: Type, args: tuple[Value, ...], attrs: dict[str, Any]
    ) -> None:
        self.builder = builder
        self.op = op
        self.type = type_
        self.args = args
        self.attrs = attrs

    @property
    def is_const(self) -> bool:
        """True if the value is known now."""
        return self.op == "const"

    @property
    def bits(self) -> int:
        """The bits of a constant."""
        value: int = self.attrs["value"]
        return value

    def __bool__(self) -> NoReturn:
        raise TypeError("a guest value has no truth in Python; use b.if_(cond) or b.select(cond, x, y)")

    def _binary(self, op: str, other: Value | int) -> Value:
        return self.builder.binary(op, self, other)

    def _reverse(self, op: str, other: int) -> Value:
        return self.builder.binary(op, self.builder.coerce(other, self.type), self)

    def __add__(self, other: Value | int) -> Value:
        return self._binary("add", other)

    def __radd__(self, other: int) -> Value:
        return self._reverse("add", other)

    def __sub__(self, other: Value | int) -> Value:
        return self._binary("sub", other)

    def __rsub__(self, other: int) -> Value:
        return self._reverse("sub", other)

    def __mul__(self, other: Value | int) -> Value:
        return self._binary("mul", other)

    def __and__(self, other: Value | int) -> Value:
        return self._binary("and", other)

    def __or__(self, other: Value | int) -> Value:
        return self._binary("or", other)

    def __xor__(self, other: Value | int) -> Value:
        return self._binary("xor", other)

    def __invert__(self) -> Value:
        return self._binary("xor", -1)

    def __neg__(self) -> Value:
        return self._reverse("sub", 0)

    def __lshift__(self, other: Value | int) -> Value:
        return self._binary("shl", other)

    def __rshift__(self, other: Value | int) -> Value:
        return self._binary("lshr", other)

    def asr(self, other: Value | int) -> Value:
        """Arithmetic shift right."""
        return self._binary("ashr", other)

    def rotl(self, other: Value | int) -> Value:
        """Rotate left."""
        return self._binary("rotl", other)

    def rotr(self, other: Value | int) -> Value:
        """Rotate right."""
        return self._binary("rotr", other)

    def udiv(self, other: Value | int) -> Value:
        """Unsigned quotient; undefined for zero."""
        return self._binary("udiv", other)

    def sdiv(self, other: Value | int) -> Value:
        """Signed quotient, truncated; undefined for zero and overflow."""
        return self._binary("sdiv", other)

    def urem(self, other: Value | int) -> Value:
        """Unsigned remainder; undefined for zero."""
        return self._binary("urem", other)

    def srem(self, other: Value | int) -> Value:
        """Signed remainder with the dividend's sign; undefined for zero and overflow."""
        return self._binary("srem", other)

    def clmul(self, other: Value | int) -> Value:
        """Low half of the carry-less product."""
        return self._binary("clmul", other)

    def clmulh(self, other: Value | int) -> Value:
        """High half of the carry-less product."""
        return self._binary("clmulh", other)

    def uadd_sat(self, other: Value | int) -> Value:
        """Unsigned sum, saturated."""
        return self._binary("uadd_sat", other)

    def sadd_sat(self, other: Value | int) -> Value:
        """Signed sum, saturated."""
        return self._binary("sadd_sat", other)

    def usub_sat(self, other: Value | int) -> Value:
        """Unsigned difference, saturated."""
        return self._binary("usub_sat", other)

    def ssub_sat(self, other: Value | int) -> Value:
        """Signed difference, saturated."""
        return self._binary("ssub_sat", other)

    def abs(self) -> Value:
        """The absolute value of a signed number, modulo 2**bits."""
        return self.builder.select(self.slt(0), -self, self)

    def eq(self, other: Value | int) -> Value:
        """Equal."""
        return self._binary("eq", other)

    def ne(self, other: Value | int) -> Value:
        """Not equal."""
        return self._binary("ne", other)

    def ult(self, other: Value | int) -> Value:
        """Unsigned less than."""
        return self._binary("ult", other)

    def ule(self, other: Value | int) -> Value:
        """Unsigned at most."""
        return self._binary("ule", other)

    def ugt(self, other: Value | int) -> Value:
        """Unsigned greater than."""
        return self.builder.coerce(other, self.type).ult(self)

    def uge(self, other: Value | int) -> Value:
        """Unsigned at least."""
        return self.builder.coerce(other, self.type).ule(self)

    def slt(self, other: Value | int) -> Value:
        """Signed less than."""
        return self._binary("slt", other)

    def sle(self, other: Value | int) -> Value:
        """Signed at most."""
        return self._binary("sle", other)

    def sgt(self, other: Value | int) -> Value:
        """Signed greater than."""
        return self.builder.coerce(other, self.type).slt(self)

    def sge(self, other: Value | int) -> Value:
        """Signed at least."""
        return self.builder.coerce(other, self.type).sle(self)

    def umin(self, other: Value | int) -> Value:
        """Unsigned minimum."""
        rhs = self.builder.coerce(other, self.type)
        return self.builder.select(self.ult(rhs), self, rhs)

    def umax(self, other: Value | int) -> Value:
        """Unsigned maximum."""
        rhs = self.builder.coerce(other, self.type)
        return self.builder.select(self.ult(rhs), rhs, self)

    def smin(self, other: Value | int) -> Value:
        """Signed minimum."""
        rhs = self.builder.coerce(other, self.type)
        return self.builder.select(self.slt(rhs), self, rhs)

    def smax(self, other: Value | int) -> Value:
        """Signed maximum."""
        rhs = self.builder.coerce(other, self.type)
        return self.builder.select(self.slt(rhs), rhs, self)

    def clz(self) -> Value:
        """Leading zero bits."""
        return self.builder.unary("clz", self)

    def ctz(self) -> Value:
        """Trailing zero bits."""
        return self.builder.unary("ctz", self)

    def popcount(self) -> Value:
        """Number of one bits."""
        return self.builder.unary("popcount", self)

    def bswap(self) -> Value:
        """Bytes in reverse order."""
        return self.builder.unary("bswap", self)

    def bitreverse(self) -> Value:
        """Bits in reverse order."""
        return self.builder.unary("bitreverse", self)

    def zext(self, type_: Type) -> Value:
        """Zero-extended to `type_` (itself if it has that type already)."""
        return self.builder.convert("zext", self, type_)

    def sext(self, type_: Type) -> Value:
        """Sign-extended to `type_`."""
        return self.builder.convert("sext", self, type_)

    def trunc(self, type_: Type) -> Value:
        """The low bits as `type_`."""
        return self.builder.convert("trunc", self, type_)

    def bitcast(self, type_: Type) -> Value:
        """The same bits as `type_`."""
        return self.builder.convert("bitcast", self, type_)

    def field(self, high: int, low: int) -> Value:
        """Bits `high` to `low`, inclusive, as an integer of just that many bits (of each lane)."""
        shifted = self >> low if low else self
        return shifted.trunc(Type("int", high - low + 1, self.type.lanes))

    def bit(self, index: int) -> Value:
        """Bit `index` as an i1."""
        return self.field(index, index)

    def lane(self, index: Value | int) -> Value:
        """Lane `index` of a vector; lane 0 is the lowest."""
        return self.builder.lane(self, index)

    def with_lane(self, index: Value | int, x: Value | int) -> Value:
        """This vector with `x` as lane `index`."""
        return self.builder.with_lane(self, index, x)
