"""Floating point as A64 has it: formats, comparisons as flags, FPCR and FPSR (Arm ARM, A1.5, C5.2.8, C5.2.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import F16, F32, F64, I32, I64, I128
from polyvm.isa.aarch64.state import CUMULATIVE, MODES, QC, RMODE

if TYPE_CHECKING:
    from polyvm.ir import Type, Value
    from polyvm.isa.aarch64.builder import A64


class Format:
    """A format: `letter` of registers, `code` in the field ftype."""

    __slots__ = ("bias", "bits", "code", "ext", "integer", "letter", "mantissa", "nan", "sign", "type")

    def __init__(self, letter: str, code: str, ext: str, type_: Type, mantissa: int) -> None:
        self.letter = letter
        self.code = code
        self.ext = ext
        self.type = type_
        self.bits = type_.bits
        self.integer = type_.with_kind("int")
        self.mantissa = mantissa
        self.sign = 1 << (type_.bits - 1)
        self.bias = (1 << (type_.bits - mantissa - 2)) - 1
        self.nan = (2 * self.bias + 1) << mantissa | 1 << (mantissa - 1)

    def __str__(self) -> str:
        return self.letter


H = Format("h", "11", "FP16", F16, 10)
S = Format("s", "00", "FP", F32, 23)
D = Format("d", "01", "FP", F64, 52)
ALL = (S, D, H)
BY_BITS = {fmt.bits: fmt for fmt in ALL}


def number_or(b: A64, op: str, x: Value, y: Value) -> tuple[Value, Value]:
    """The operands of fminnm or fmaxnm (`op`: fmin, fmax) as those of fmin or fmax: a quiet NaN beside something else becomes
    what never is the result. Lane by lane."""
    fmt = BY_BITS[x.type.bits]
    integer = x.type.with_kind("int")
    p, q = x.bitcast(integer), y.bitcast(integer)
    quiet_p, quiet_q = ((z & fmt.sign - 1).uge(fmt.nan) for z in (p, q))
    infinity = fmt.nan & ~(1 << fmt.mantissa - 1)
    neutral = b.const(integer, integer.splat(infinity | (fmt.sign if op == "fmax" else 0)))
    p, q = b.select(quiet_p & ~quiet_q, neutral, p), b.select(quiet_q & ~quiet_p, neutral, q)
    return p.bitcast(x.type), q.bitcast(x.type)



def _mirrored(b: A64, mode: Value) -> Value:
    """Between the two ways to number rounding modes (`state.ROUNDING`): 1 and 3 change places."""
    return b.select((mode & 1).ne(0), mode ^ 2, mode)


def fpcr(b: A64) -> Value:
    """FPCR, an i64."""
    mode = b.fp_rm()
    return (mode & MODES | _mirrored(b, mode & 3) << RMODE).zext(I64)


def set_fpcr(b: A64, value: Value) -> None:
    """Write FPCR: what is not implemented stays 0. What an earlier comparison has found does not depend on it."""
    b.set_nzcv(b.flags().nzcv())
    low = value.trunc(I32)
    b.fp_set_rm(low & MODES | _mirrored(b, low >> RMODE & 3))


def _moved(b: A64, value: Value, pairs: list[tuple[int, int]]) -> Value:
    result = b.const(I32, 0)
    for old, new in pairs:
        result = result | b.select((value & old).ne(0), b.const(I32, new), 0)
    return result


def fpsr(b: A64) -> Value:
    """FPSR, an i64."""
    flags = _moved(b, b.fp_flags(), [(flag, bit) for bit, flag in CUMULATIVE])
    saturated = b.get("qc").ne(0)
    return (flags | b.select(saturated, b.const(I32, QC), 0)).zext(I64)


def set_fpsr(b: A64, value: Value) -> None:
    """Write FPSR: what is not implemented stays 0."""
    low = value.trunc(I32)
    b.set("qc", (low >> 27 & 1).zext(I128))
    b.fp_set_flags(_moved(b, low, [*CUMULATIVE]))
