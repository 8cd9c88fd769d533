"""Floating point as LLVM: host instructions under the host's sticky flags and rounding control.

The environment's rounding mode is kept in the host's control register while native code runs, so arithmetic needs no
test; `rounding` (made by the stage) takes care of instructions that bring a mode of their own. Constrained intrinsics
keep LLVM from moving arithmetic across reads of the flags. Results that are NaN become the canonical NaN, as the IR
defines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.codegen.llvm_module import FunctionText
from polyvm.errors import EngineError
from polyvm.ir.ops import ENV, INEXACT, INVALID, RMM, RNE, RTZ
from polyvm.ir.types import F32, F64, I1, I32, I64, Type

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.ir.value import Value

_STRICT = 'metadata !"fpexcept.strict"'
_ROUND = 'metadata !"round.dynamic", ' + _STRICT
_MANTISSA = {16: 10, 32: 23, 64: 52}


def canonical_nan(type_: Type) -> int:
    """The bits of the positive quiet NaN without payload."""
    mantissa = _MANTISSA[type_.bits]
    return ((1 << (type_.bits - mantissa)) - 1) << (mantissa - 1)


def power_of_two(type_: Type, exponent: int) -> int:
    """The bits of 2**exponent, which must be normal in `type_`."""
    mantissa = _MANTISSA[type_.bits]
    bias = (1 << (type_.bits - mantissa - 2)) - 1
    return (exponent + bias) << mantissa


class FpEmitter(FunctionText):
    """The floating-point operations."""

    # -- the host's control and status register; x86-64's MXCSR (Intel SDM vol. 1, 10.2.3) ----------------------

    def fp_scratch(self) -> str:
        """A pointer to four bytes of host memory for stmxcsr and ldmxcsr."""
        return self.alloca(I32)

    def read_mxcsr(self) -> str:
        """The register as an i32."""
        slot = self.fp_scratch()
        self.module.declare("llvm.x86.sse.stmxcsr", "declare void @llvm.x86.sse.stmxcsr(ptr)")
        self.line(f"call void @llvm.x86.sse.stmxcsr(ptr {slot}) #0")
        return self.temp(f"load i32, ptr {slot}")

    def write_mxcsr(self, value: str) -> None:
        """Load the register from an i32."""
        slot = self.fp_scratch()
        self.module.declare("llvm.x86.sse.ldmxcsr", "declare void @llvm.x86.sse.ldmxcsr(ptr)")
        self.line(f"store i32 {value}, ptr {slot}")
        self.line(f"call void @llvm.x86.sse.ldmxcsr(ptr {slot}) #0")

    def op_host_fp(self, v: Value) -> None:
        """Save the register at one offset of a host record and load it from another."""
        for name, offset in (("stmxcsr", v.attrs["save"]), ("ldmxcsr", v.attrs["load"])):
            self.module.declare(f"llvm.x86.sse.{name}", f"declare void @llvm.x86.sse.{name}(ptr)")
            self.line(f"call void @llvm.x86.sse.{name}(ptr {self.pointer(self.ref(v.args[0]), offset)}) #0")

    def _bits(self, source: str, pairs: tuple[tuple[int, int], ...]) -> str:
        """An i32 whose bits are those of `source`, moved from the first to the second place of each pair."""
        result = "0"
        for old, new in pairs:
            bit = self.temp(f"and i32 {source}, {1 << old}")
            moved = self.temp(f"{'shl' if new > old else 'lshr'} i32 {bit}, {abs(new - old)}") if new != old else bit
            result = self.temp(f"or i32 {result}, {moved}")
        return result

    # IR flag ↔ MXCSR: inexact 0↔5, underflow 1↔4, overflow 2↔3, divide 3↔2, invalid 4↔0 (1 is the denormal flag)
    _TO_HOST = ((0, 5), (1, 4), (2, 3), (3, 2), (4, 0))
    _FROM_HOST = tuple((host, ir) for ir, host in _TO_HOST)

    def op_fp_flags(self, v: Value) -> None:
        table = ", ".join(f"i32 {sum((host >> a & 1) << b for a, b in self._FROM_HOST)}" for host in range(64))
        self.module.declare("fp_flags", f"@fp_flags = internal constant [64 x i32] [{table}]")
        index = self.temp(f"zext i32 {self.temp(f'and i32 {self.read_mxcsr()}, 63')} to i64")
        self.define(v, f"load i32, ptr {self.temp(f'getelementptr i32, ptr @fp_flags, i64 {index}')}")

    def op_fp_setflags(self, v: Value) -> None:
        old = self.read_mxcsr()
        kept = self.temp(f"and i32 {old}, {~0x3F}")
        flags = self._bits(self.ref(v.args[0]), self._TO_HOST)
        self._change_mxcsr(old, self.temp(f"or i32 {kept}, {flags}"))

    def raise_flags(self, flags: str) -> None:
        """Or IR `flags` (an i32) into the register."""
        old = self.read_mxcsr()
        self._change_mxcsr(old, self.temp(f"or i32 {old}, {self._bits(flags, self._TO_HOST)}"))

    def _change_mxcsr(self, old: str, new: str) -> None:
        """Writing the register stops the host's pipeline, and mostly the flags are set already."""
        self._unless_zero(self.temp(f"xor i32 {old}, {new}"), lambda: self.write_mxcsr(new))

    def op_fp_raise(self, v: Value) -> None:
        flags = v.args[0]
        if flags.op == "const":
            self.raise_flags(self.ref(flags))
            return
        # Reading and writing the register costs tens of cycles, and mostly there is nothing to raise.
        self._unless_zero(self.ref(flags), lambda: self.raise_flags(self.ref(flags)))

    def _unless_zero(self, value: str, then: Callable[[], None]) -> None:
        work, end = self.label(), self.label()
        self.branch_to(self.temp(f"icmp ne i32 {value}, 0"), work, end, unlikely=True)
        self.place(work)
        then()
        self.jump_to(end)
        self.place(end)

    # -- arithmetic -------------------------------------------------------------------------------------------

    def _mode(self, v: Value) -> int:
        mode = v.args[-1]
        if mode.op == "rounding":
            return ENV
        if mode.op != "const":
            raise EngineError(f"{v.op} needs a rounding mode that went through `rounding`")
        return mode.bits

    def _constrained(self, name: str, type_: Type, args: list[tuple[Type, str]], *, rounds: bool = True) -> str:
        types = [type_] + ([args[0][0]] if name in ("fptrunc", "fpext", "sitofp", "uitofp", "fptosi", "fptoui") else [])
        suffix = ".".join(str(t) for t in types)
        full = f"experimental.constrained.{name}.{suffix}"
        return self.intrinsic(full, type_, args, _ROUND if rounds else _STRICT)

    def is_nan(self, type_: Type, value: str) -> str:
        """i1: `value` is a NaN; raises nothing."""
        name = f"is.fpclass.{type_}"
        text = self.llvm_type(type_)
        self.module.declare(f"llvm.{name}", f"declare i1 @llvm.{name}({text}, i32 immarg)")
        return self.temp(f"call i1 @llvm.{name}({text} {value}, i32 3) #0")

    def unordered(self, type_: Type, value: str, other: str = "") -> str:
        """i1: the result `value`, or `other`, is a NaN; a quiet comparison, since a result is never a signaling NaN."""
        name = f"experimental.constrained.fcmp.{type_}"
        return self.intrinsic(name, I1, [(type_, value), (type_, other or value)], f'metadata !"uno", {_STRICT}')

    def rounded(self, v: Value, value: str, and_then: Callable[[], None] | None = None) -> None:
        """`value` is what the operation `v` gives, but for NaNs; `and_then` is for results that are NaN."""
        self.set(v, self._canonical(v.type, value, and_then or (lambda: None)))

    def _canonical(self, type_: Type, value: str, and_then: Callable[[], None] = lambda: None) -> str:
        """`value`, or the canonical NaN; `and_then` is for results that are NaN."""
        text = self.llvm_type(type_)
        if type_.bits == 16:
            and_then()
            nan = self.constant(type_, canonical_nan(type_))
            return self.temp(f"select i1 {self.is_nan(type_, value)}, {text} {nan}, {text} {value}")
        # A branch, not a select: results that are NaN are rare, and this keeps the test off the way of the result.
        slot = self.alloca(type_)
        replace, end = self.label(), self.label()
        self.line(f"store {text} {value}, ptr {slot}")
        self.branch_to(self.unordered(type_, value), replace, end, unlikely=True)
        self.place(replace)
        and_then()
        self.line(f"store {text} {self.constant(type_, canonical_nan(type_))}, ptr {slot}")
        self.jump_to(end)
        self.place(end)
        return self.temp(f"load {text}, ptr {slot}")

    def narrow(self, source: Type, target: Type, value: str) -> str:
        """`value` rounded to a narrower type.

        The host cannot go from double to half: the bits that single precision has no room for become one sticky bit
        (round to odd), after which rounding twice gives what rounding once would.
        """
        if (source.bits, target.bits) == (64, 16):
            bits = self.temp(f"bitcast double {value} to i64")
            lost = self.temp(f"and i64 {bits}, {(1 << 29) - 1}")
            sticky = self.temp(f"zext i1 {self.temp(f'icmp ne i64 {lost}, 0')} to i64")
            kept = self.temp(f"and i64 {bits}, {-(1 << 29)}")
            kept = self.temp(f"or i64 {kept}, {self.temp(f'shl i64 {sticky}, 29')}")
            # Far below half precision's smallest number the size does not matter, and single's would be subnormal.
            size = self.temp(f"and i64 {kept}, {(1 << 63) - 1}")
            small = self.temp(f"icmp ult i64 {size}, {power_of_two(F64, -100)}")
            tiny = self.temp(f"and i1 {small}, {self.temp(f'icmp ne i64 {size}, 0')}")
            sign = self.temp(f"and i64 {bits}, {-(1 << 63)}")
            least = self.temp(f"or i64 {sign}, {power_of_two(F64, -100)}")
            value = self.temp(f"bitcast i64 {self.temp(f'select i1 {tiny}, i64 {least}, i64 {kept}')} to double")
            value = self._constrained("fptrunc", F32, [(F64, value)])
            source = F32
        return self._constrained("fptrunc", target, [(source, value)])

    def _arithmetic(self, v: Value) -> None:
        mode = self._mode(v)
        if mode != ENV:
            raise EngineError(f"{v.op} with a fixed rounding mode needs `rounding` first")
        type_ = v.type
        name = "sqrt" if v.op == "fsqrt" else v.op
        args = [self.ref(a) for a in v.args[:-1]]
        if type_.bits == 16:
            # The host has no half-precision arithmetic: single precision, rounded again, gives the same, since
            # 24 >= 2 * 11 + 2; fused it takes double, which holds every result that is near a tie exactly.
            work = F64 if v.op == "fma" else F32
            wide = [self._constrained("fpext", work, [(type_, a)], rounds=False) for a in args]
            result = self._constrained(name, work, [(work, a) for a in wide])
            result = self.narrow(work, type_, result)
        else:
            result = self._constrained(name, type_, [(type_, a) for a in args])
        if v.op == "fma":
            self.rounded(v, result, lambda: self._fma_invalid(type_, args, result))
        else:
            self.rounded(v, result)

    op_fadd = _arithmetic
    op_fsub = _arithmetic
    op_fmul = _arithmetic
    op_fdiv = _arithmetic
    op_fsqrt = _arithmetic
    op_fma = _arithmetic

    def _fma_invalid(self, type_: Type, args: list[str], result: str) -> None:
        """inf * 0 + quiet NaN is invalid in the IR; x86's FMA leaves the flag alone (IEEE 754-2019, 7.2 lets it)."""
        check, end = self.label(), self.label()
        self.branch_to(self.is_nan(type_, result), check, end, unlikely=True)
        self.place(check)
        text = self.llvm_type(type_)
        name = f"is.fpclass.{type_}"

        def is_class(value: str, mask: int) -> str:
            return self.temp(f"call i1 @llvm.{name}({text} {value}, i32 {mask}) #0")

        infinite, zero = 0x204, 0x60
        one = self.temp(f"and i1 {is_class(args[0], infinite)}, {is_class(args[1], zero)}")
        other = self.temp(f"and i1 {is_class(args[1], infinite)}, {is_class(args[0], zero)}")
        both = self.temp(f"or i1 {one}, {other}")
        flag = self.temp(f"select i1 {both}, i32 {INVALID}, i32 0")
        self.raise_flags(flag)
        self.jump_to(end)
        self.place(end)

    def op_frint(self, v: Value) -> None:
        self.rounded(v, self.integral(v))

    def integral(self, v: Value) -> str:
        """The argument of `v` rounded to an integral value."""
        return self.to_integral(v.type, self.ref(v.args[0]), self._mode(v), exact=v.attrs["exact"])

    def to_integral(self, type_: Type, a: str, mode: int, *, exact: bool) -> str:
        """`a` rounded to an integral value; of vectors `exact` needs the environment's mode."""
        names = {RNE: "roundeven", RTZ: "trunc", 2: "floor", 3: "ceil", ENV: "rint" if exact else "nearbyint"}
        work = F32.vector(type_.lanes) if type_.bits == 16 else type_
        if type_.bits == 16:
            a = self._constrained("fpext", work, [(type_, a)], rounds=False)
        if mode == RMM:
            result = self._half_away(work, a)
        else:
            result = self._constrained(names[mode], work, [(work, a)], rounds=mode == ENV)
        if exact and mode != ENV:
            differs = self.intrinsic(f"experimental.constrained.fcmp.{work}", I1, [(work, result), (work, a)],
                                     f'metadata !"one", {_STRICT}')  # fmt: skip
            self._unless_zero(self.temp(f"zext i1 {differs} to i32"), lambda: self.raise_flags(str(INEXACT)))
        if type_.bits == 16:
            result = self.narrow(work, type_, result)
        return result

    def _half_away(self, type_: Type, a: str) -> str:
        """`a` rounded to the nearest integral value, halves away from zero; raises nothing but for signaling NaNs."""
        text = self.llvm_type(type_)
        even = self._constrained("roundeven", type_, [(type_, a)], rounds=False)
        # What is left is exact; nothing is, for large numbers, infinities and NaNs.
        size = self.intrinsic(f"fabs.{type_}", type_, [(type_, a)])
        chosen, compare = self.llvm_type(type_.compared), f"experimental.constrained.fcmp.{type_}"

        def power(exponent: int) -> str:
            return self.constant(type_, type_.splat(power_of_two(type_.element, exponent)))

        small = self.intrinsic(compare, type_.compared, [(type_, size), (type_, power(_MANTISSA[type_.bits]))],
                               f'metadata !"olt", {_STRICT}')  # fmt: skip
        zero = self.constant(type_, 0)
        from_, to = (self.temp(f"select {chosen} {small}, {text} {x}, {text} {zero}") for x in (a, even))
        left = self._constrained("fsub", type_, [(type_, from_), (type_, to)])
        half = self.intrinsic(f"copysign.{type_}", type_, [(type_, power(-1)), (type_, a)])
        tie = self.intrinsic(compare, type_.compared, [(type_, left), (type_, half)], f'metadata !"oeq", {_STRICT}')
        one = self.intrinsic(f"copysign.{type_}", type_, [(type_, power(0)), (type_, a)])
        step = self.temp(f"select {chosen} {tie}, {text} {one}, {text} {zero}")
        away = self._constrained("fadd", type_, [(type_, to), (type_, step)])
        away = self.intrinsic(f"copysign.{type_}", type_, [(type_, away), (type_, a)])
        return self.temp(f"select {chosen} {small}, {text} {away}, {text} {even}")

    def _fcompare(self, v: Value) -> None:
        predicate = {"feq": "oeq", "flt": "olt", "fle": "ole"}[v.op]
        kind = "fcmps" if v.attrs["signaling"] else "fcmp"
        args = [(a.type, self.ref(a)) for a in v.args]
        type_ = v.args[0].type
        if type_.bits == 16:
            args = [(F32, self._constrained("fpext", F32, [a], rounds=False)) for a in args]
            type_ = F32
        full = f"experimental.constrained.{kind}.{type_}"
        self.set(v, self.intrinsic(full, I1, args, f'metadata !"{predicate}", {_STRICT}'))

    op_feq = _fcompare
    op_flt = _fcompare
    op_fle = _fcompare

    # -- conversions ------------------------------------------------------------------------------------------

    def op_f2f(self, v: Value) -> None:
        source, target = v.args[0].type, v.type
        if target.bits > source.bits:
            result = self._constrained("fpext", target, [(source, self.ref(v.args[0]))], rounds=False)
        else:
            result = self.narrow(source, target, self.ref(v.args[0]))
        self.rounded(v, result)

    def _to_float(self, v: Value) -> None:
        name = "sitofp" if v.op == "si2f" else "uitofp"
        source, target = v.args[0].type, v.type
        arg = self.ref(v.args[0])
        work = F32 if target.bits == 16 else target
        if name == "uitofp" and source.bits == 64 and target.bits != 16:
            result = self._unsigned_to_float(arg, work)
        elif target.bits == 16 and source.bits > 24:
            result = self._constrained("sitofp", F64, [(I64, self._halved(arg, source, name))])
            self.set(v, self.narrow(F64, target, result))
            return
        else:
            result = self._constrained(name, work, [(source, arg)])
        if target.bits == 16:
            result = self.narrow(work, target, result)
        self.set(v, result)

    op_si2f = _to_float
    op_ui2f = _to_float

    def _halved(self, arg: str, source: Type, name: str) -> str:
        """`arg` with bits that cannot change a half-precision result folded into a sticky one, so that it converts
        to double exactly: anything beyond 2**17 overflows whatever its low bits are."""
        if source.bits < 64:
            return self.temp(f"{'sext' if name == 'sitofp' else 'zext'} {source} {arg} to i64")
        limit = 1 << 40
        low = self.intrinsic("smin.i64" if name == "sitofp" else "umin.i64", I64, [(I64, arg), (I64, str(limit + 1))])
        if name == "uitofp":
            return low
        return self.intrinsic("smax.i64", I64, [(I64, low), (I64, str(-limit - 1))])

    def _unsigned_to_float(self, arg: str, target: Type) -> str:
        """An unsigned 64-bit integer: above 2**63, half of it with the lost bit kept as a sticky one, doubled."""
        slot = self.alloca(target)
        text = self.llvm_type(target)
        big, small, end = self.label(), self.label(), self.label()
        self.branch_to(self.temp(f"icmp slt i64 {arg}, 0"), big, small, unlikely=True)
        self.place(big)
        half = self.temp(f"lshr i64 {arg}, 1")
        half = self.temp(f"or i64 {half}, {self.temp(f'and i64 {arg}, 1')}")
        converted = self._constrained("sitofp", target, [(I64, half)])
        doubled = self._constrained("fadd", target, [(target, converted), (target, converted)])
        self.line(f"store {text} {doubled}, ptr {slot}")
        self.jump_to(end)
        self.place(small)
        self.line(f"store {text} {self._constrained('sitofp', target, [(I64, arg)])}, ptr {slot}")
        self.jump_to(end)
        self.place(end)
        return self.temp(f"load {text}, ptr {slot}")

    def _to_int(self, v: Value) -> None:
        """Round first, quietly; then the range decides between an exact conversion and saturation."""
        signed = v.op == "f2si"
        source, target = v.args[0].type, v.type
        mode = self._mode(v)
        x = self.ref(v.args[0])
        if source.bits == 16:
            # An SNaN's invalid flag is raised by the widening, as it would be below.
            x = self._constrained("fpext", F32, [(source, x)], rounds=False)
            source = F32
        text = self.llvm_type(source)
        names = {RNE: "roundeven", RTZ: "trunc", 2: "floor", 3: "ceil", ENV: "nearbyint"}
        if mode == RMM:
            rounded = self._half_away(source, x)
        else:
            rounded = self._constrained(names[mode], source, [(source, x)], rounds=mode == ENV)
        top = power_of_two(source, target.bits - (1 if signed else 0))
        sign = 1 << (source.bits - 1)
        bottom = (top | sign) if signed else sign
        result = self.alloca(target)
        good, bad, end = self.label(), self.label(), self.label()
        compare = f"experimental.constrained.fcmp.{source}"
        over = self.intrinsic(compare, I1, [(source, rounded), (source, self.constant(source, top))],
                              f'metadata !"olt", {_STRICT}')  # fmt: skip
        under = self.intrinsic(compare, I1, [(source, rounded), (source, self.constant(source, bottom))],
                               f'metadata !"oge", {_STRICT}')  # fmt: skip
        inside = self.temp(f"and i1 {over}, {under}")
        self.branch_to(self.temp(f"xor i1 {inside}, true"), bad, good, unlikely=True)
        self.place(good)
        if signed and mode in (RTZ, ENV) and target.bits in (32, 64):
            # The host's own conversion raises inexact at no cost; the value is known to be in range.
            if mode == RTZ:
                value = self._constrained("fptosi", target, [(source, x)], rounds=False)
            else:
                integral = self._constrained("rint", source, [(source, x)])
                value = self._constrained("fptosi", target, [(source, integral)], rounds=False)
        else:
            value = self._exact_to_int(signed, source, target, rounded)
            differs = self.intrinsic(compare, I1, [(source, rounded), (source, x)], f'metadata !"une", {_STRICT}')
            flag = self.temp(f"select i1 {differs}, i32 {INEXACT}, i32 0")
            self._unless_zero(flag, lambda: self.raise_flags(flag))
        self.line(f"store {target} {value}, ptr {result}")
        self.jump_to(end)
        self.place(bad)
        self.raise_flags(str(INVALID))
        largest = target.mask >> 1 if signed else target.mask
        smallest = largest + 1 if signed else 0
        bits = self.temp(f"bitcast {text} {x} to i{source.bits}")
        negative = self.temp(f"icmp slt i{source.bits} {bits}, 0")
        limit = self.temp(f"select i1 {negative}, {target} {self.constant(target, smallest)}, "
                          f"{target} {self.constant(target, largest)}")  # fmt: skip
        final = self.temp(f"select i1 {self.is_nan(source, x)}, {target} 0, {target} {limit}")
        self.line(f"store {target} {final}, ptr {result}")
        self.jump_to(end)
        self.place(end)
        self.define(v, f"load {target}, ptr {result}")

    op_f2si = _to_int
    op_f2ui = _to_int

    def _exact_to_int(self, signed: bool, source: Type, target: Type, value: str) -> str:
        """An integral `value` inside the range, so that no flag is raised."""
        if signed or target.bits < 64:
            wide = self._constrained("fptosi", I64, [(source, value)], rounds=False)
            return wide if target.bits == 64 else self.temp(f"trunc i64 {wide} to {target}")
        half = self.constant(source, power_of_two(source, 63))
        text = self.llvm_type(source)
        big = self.intrinsic(f"experimental.constrained.fcmp.{source}", I1, [(source, value), (source, half)],
                             f'metadata !"oge", {_STRICT}')  # fmt: skip
        offset = self.temp(f"select i1 {big}, {text} {half}, {text} {self.constant(source, 0)}")
        low = self._constrained("fsub", source, [(source, value), (source, offset)])
        converted = self._constrained("fptosi", I64, [(source, low)], rounds=False)
        top = self.temp(f"select i1 {big}, i64 {-(1 << 63)}, i64 0")
        return self.temp(f"xor i64 {converted}, {top}")
