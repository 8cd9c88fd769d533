"""The condition flags, computed where something reads them (Arm ARM, C1.2.4).

An instruction that sets them leaves its operands in the registers cc_x and cc_y, and in cc_k what they mean:

    CC_ADD, CC_ADD32   the flags of cc_x + cc_y, of 64 bits or of the low 32
    CC_SUB, CC_SUB32   the flags of cc_x - cc_y
    CC_RAW             N, Z, C, V are bits 31 to 28 of cc_x
    CC_DOUBLE …        the flags of a comparison of floating-point numbers, whose bits are the low ones of cc_x and cc_y

A reader that comes in the same native code as the setter knows more: the builder has the setter's values as `Flags`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I64
from polyvm.isa.aarch64.state import CC_HALF, CC_RAW, CC_SINGLE, FZ

if TYPE_CHECKING:
    from polyvm.ir import Builder, Value

EQ, NE, CS, CC, MI, PL, VS, VC, HI, LS, GE, LT, GT, LE, AL, NV = range(16)
NAMES = "eq ne cs cc mi pl vs vc hi ls ge lt gt le al nv".split()


class Flags:
    """Where flags come from. The methods build with the builder of the values that it has."""

    def holds(self, condition: int) -> Value:
        """i1: the condition holds; odd ones are the others' opposites."""
        value = self.even(condition & 14)
        return value ^ 1 if condition & 1 and condition < AL else value

    def even(self, condition: int) -> Value:
        """The same for an even condition but AL."""
        raise NotImplementedError

    def nzcv(self) -> Value:
        """The flags as bits 31 to 28 of an i64."""
        n, z, c, v = (self.holds(condition).zext(I64) for condition in (MI, EQ, CS, VS))
        return n << 31 | z << 30 | c << 29 | v << 28

    def carry(self) -> Value:
        """i1: C."""
        return self.holds(CS)

    def values(self) -> list[Value]:
        """What it is made of."""
        raise NotImplementedError

    def move(self, b: Builder) -> None:
        """From here on, build with `b`."""
        for value in self.values():
            value.builder = b


class Bits(Flags):
    """Flags as four i1."""

    def __init__(self, n: Value, z: Value, c: Value, v: Value) -> None:
        self.n, self.z, self.c, self.v = n, z, c, v

    def values(self) -> list[Value]:
        """The four."""
        return [self.n, self.z, self.c, self.v]

    def even(self, condition: int) -> Value:
        """C1.2.4."""
        n, z, c, v = self.n, self.z, self.c, self.v
        if condition == HI:
            return c & (z ^ 1)
        if condition == GE:
            return n.eq(v)
        if condition == GT:
            return n.eq(v) & (z ^ 1)
        return {EQ: z, CS: c, MI: n, VS: v}[condition]


class Raw(Bits):
    """Flags as bits 31 to 28 of an i64."""

    def __init__(self, nzcv: Value) -> None:
        self.raw = nzcv

    def values(self) -> list[Value]:
        """The one."""
        return [self.raw]

    def even(self, condition: int) -> Value:
        """Only the bits that matter."""
        raw = self.raw
        if condition == HI:
            return (raw & 3 << 29).eq(1 << 29)
        self.n, self.z, self.c, self.v = raw.bit(31), raw.bit(30), raw.bit(29), raw.bit(28)
        return super().even(condition)

    def nzcv(self) -> Value:
        """As it is."""
        return self.raw


class Sum(Flags):
    """The flags of x + y, both i32 or i64."""

    def __init__(self, x: Value, y: Value) -> None:
        self.x, self.y = x, y

    def values(self) -> list[Value]:
        """The two."""
        return [self.x, self.y]

    @property
    def result(self) -> Value:
        """The sum."""
        return self.x + self.y

    def _overflow(self) -> Value:
        result = self.result
        return ((self.x ^ result) & (self.y ^ result)).slt(0)

    def even(self, condition: int) -> Value:
        """Where y is 0, of a logical instruction, most are known."""
        x, result = self.x, self.result
        if condition == EQ:
            return result.eq(0)
        if condition == MI:
            return result.slt(0)
        if condition == CS:
            return result.ult(x)
        if condition == VS:
            return self._overflow()
        if condition == HI:
            return result.ult(x) & result.ne(0)
        if self.y.is_const and self.y.bits == 0:
            return x.sge(0) if condition == GE else x.sgt(0)
        no_less = result.slt(0).eq(self._overflow())
        return no_less if condition == GE else no_less & result.ne(0)


class Difference(Flags):
    """The flags of x - y, both i32 or i64."""

    def __init__(self, x: Value, y: Value) -> None:
        self.x, self.y = x, y

    def values(self) -> list[Value]:
        """The two."""
        return [self.x, self.y]

    def even(self, condition: int) -> Value:
        """As comparisons."""
        x, y = self.x, self.y
        if condition == VS:
            return ((x ^ y) & (x ^ (x - y))).slt(0)
        return {
            EQ: lambda: x.eq(y), CS: lambda: x.uge(y), MI: lambda: (x - y).slt(0), HI: lambda: x.ugt(y),
            GE: lambda: x.sge(y), GT: lambda: x.sgt(y),
        }[condition]()  # fmt: skip

    def holds(self, condition: int) -> Value:
        """Opposites of comparisons are comparisons."""
        x, y = self.x, self.y
        if condition == NE:
            return x.ne(y)
        if condition == CC:
            return x.ult(y)
        if condition == LS:
            return x.ule(y)
        if condition == LT:
            return x.slt(y)
        if condition == LE:
            return x.sle(y)
        return super().holds(condition)


class Compared(Flags):
    """The flags of a comparison of floating-point numbers, which has raised its flags already. Unordered is 0011."""

    def __init__(self, x: Value, y: Value) -> None:
        self.x, self.y = x, y

    def values(self) -> list[Value]:
        """The two."""
        return [self.x, self.y]

    def _is(self, op: str, x: Value, y: Value) -> Value:
        b = x.builder
        return b.fcompare(op, x, y, signaling=False, silent=True)

    def even(self, condition: int) -> Value:
        """As comparisons that raise nothing."""
        x, y = self.x, self.y
        return {
            EQ: lambda: self._is("feq", x, y), MI: lambda: self._is("flt", x, y), CS: lambda: self._is("flt", x, y) ^ 1,
            VS: lambda: (self._is("fle", x, y) | self._is("flt", y, x)) ^ 1, HI: lambda: self._is("fle", x, y) ^ 1,
            GE: lambda: self._is("fle", y, x), GT: lambda: self._is("flt", y, x),
        }[condition]()  # fmt: skip


class Choice(Flags):
    """`yes` where `condition` (i1) holds, else `no`."""

    def __init__(self, condition: Value, yes: Flags, no: Flags) -> None:
        self.condition, self.yes, self.no = condition, yes, no

    def values(self) -> list[Value]:
        """Of all three."""
        return [self.condition, *self.yes.values(), *self.no.values()]

    def holds(self, condition: int) -> Value:
        """Of either."""
        return self.condition.builder.select(self.condition, self.yes.holds(condition), self.no.holds(condition))

    def nzcv(self) -> Value:
        """Of either."""
        return self.condition.builder.select(self.condition, self.yes.nzcv(), self.no.nzcv())


def stored(b: Builder) -> Flags:
    """The flags from the registers, of any meaning."""
    x, y, k = b.get("cc_x"), b.get("cc_y"), b.get("cc_k")
    return _Stored(x, y, k)


class _Stored(Flags):
    """Where all that is known is in the registers. Of 32 bits the operands are shifted to the top, where they give the same
    flags."""

    def __init__(self, x: Value, y: Value, k: Value) -> None:
        self.x, self.y, self.k = x, y, k
        self._whole: Bits | None = None

    def values(self) -> list[Value]:
        """The three."""
        return [self.x, self.y, self.k]

    def move(self, b: Builder) -> None:
        """Nothing that was built is kept."""
        self._whole = None
        super().move(b)

    def even(self, condition: int) -> Value:
        """From all four."""
        if self._whole is None:
            self._whole = self._bits()
        return self._whole.even(condition)

    def _compared(self) -> Value:
        """The flags of a comparison of floating-point numbers, as Raw has them. Moved to the top, the numbers order
        as sign and magnitude in all formats. The comparison has raised what it has to raise already; one of half precision is not
        stored so where FPCR makes subnormal ones zero."""
        x, y, k = self.x, self.y, self.k
        b = x.builder
        single, half = k.eq(CC_SINGLE), k.eq(CC_HALF)
        shift = b.select(single, b.const(I64, 32), b.select(half, b.const(I64, 48), 0))
        infinity = b.select(single, b.const(I64, 0x7F80 << 48), b.select(half, b.const(I64, 0x7C00 << 48), 0x7FF0 << 48))
        p, q = x << shift, y << shift
        sizes = [v & (1 << 63) - 1 for v in (p, q)]
        flushes = (b.fp_rm() & FZ).ne(0) & ~half
        least = b.select(flushes, infinity & -infinity, 0)
        sizes = [b.select(size.ult(least), 0, size) for size in sizes]
        unordered = sizes[0].ugt(infinity) | sizes[1].ugt(infinity)
        first, second = (b.select(v.slt(0), -size, size) for v, size in zip((p, q), sizes, strict=True))
        ordered = b.select(first.slt(second), b.const(I64, 8), b.select(first.eq(second), b.const(I64, 6), 2))
        return b.select(unordered, b.const(I64, 3), ordered) << 28

    def _bits(self) -> Bits:
        b = self.x.builder
        number, meaning = b.local(self.x), b.local(self.k)
        with b.if_(self.k.ugt(CC_RAW)):
            number.set(self._compared())
            meaning.set(CC_RAW)
        x, y, k = number.get(), self.y, meaning.get()
        shift = (k & 2) << 4
        p, q = x << shift, y << shift
        subtracts = (k & 1).ne(0)
        result = b.select(subtracts, p - q, p + q)
        carry = b.select(subtracts, p.uge(q), result.ult(p))
        other = b.select(subtracts, ~q, q)
        overflow = ((p ^ result) & (other ^ result)).slt(0)
        raw = k.eq(4)
        return Bits(
            b.select(raw, x.bit(31), result.slt(0)),
            b.select(raw, x.bit(30), result.eq(0)),
            b.select(raw, x.bit(29), carry),
            b.select(raw, x.bit(28), overflow),
        )
