"""Floating-point operations whose NaNs come from operands and whose tiny results count before rounding (`ir/ops.py`: rules).

The host differs in which NaN it takes, and finds tiny results after rounding. Both show in the result, which is a NaN or the
smallest normal number: one comparison, and a function of the module's own for the rare case, which works lane by lane. There the
operation is done once more, rounding to zero, if the result is the smallest normal number: that raises underflow where the exact
result lies below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.codegen.llvm_fp import _MANTISSA, _STRICT, FpEmitter, canonical_nan
from polyvm.errors import EngineError
from polyvm.ir.ops import DEFAULT_NAN, ENV, FLUSH, INVALID, RDN, RMM, RNE, RTZ, RUP
from polyvm.ir.types import F32, F64, I32, Type

if TYPE_CHECKING:
    from polyvm.codegen.llvm_module import ModuleText
    from polyvm.ir.value import Value

# What can have a result that is below the normal numbers and is one of them once it is rounded. A quotient cannot: if it is
# below a power of two, then by half a unit in the last place at least, since its operands have no more digits than it has.
_TINY = frozenset({"fmul", "fma", "narrow"})
_COMPARE = {"feq": "oeq", "flt": "olt", "fle": "ole"}
_COLD = "preserve_allcc"


class RulesEmitter(FpEmitter):
    """The operations that have rules."""

    def __init__(self, module: ModuleText) -> None:
        super().__init__(module)
        self._cold_slots: dict[tuple[Type, int], str] = {}

    def environment(self) -> str:
        """The environment's mode, an i32; stages that have one override this."""
        return "0"

    def with_rules(self, v: Value) -> None:
        """Write an operation that has rules."""
        source, op = v.args[0].type, v.op
        if op in _COMPARE:
            self._compare_lanes(v)
        elif op in ("f2f", "frint"):
            if source.lanes > 1 and {source.bits, v.type.bits} == {16, 64}:
                self.lane_by_lane(v)
            else:
                self._unary_with_rules(v)
        elif op in ("f2si", "f2ui", "si2f", "ui2f"):
            self._convert_lanes(v)
        else:
            self._arithmetic_with_rules(v)

    def lane_by_lane(self, v: Value) -> None:
        """What the host has no vectors for."""
        raise NotImplementedError

    def plain(self, v: Value) -> None:
        """The operation as if it had no rules: where they make no difference."""
        getattr(self, f"op_{v.op}")(v)

    # -- arithmetic -------------------------------------------------------------------------------------------

    def _arithmetic_with_rules(self, v: Value) -> None:
        if self._mode(v) != ENV:
            raise EngineError(f"{v.op} with a fixed rounding mode needs `rounding` first")
        type_, args = v.type, [self.ref(a) for a in v.args[:-1]]
        if type_.lanes > 1 and type_.bits == 16 and v.op == "fma":
            self.lane_by_lane(v)
            return
        if type_.lanes > 1 and type_.total_bits == 64 and type_.bits > 16:
            # The upper half is a copy of the lower one, so that it raises nothing else.
            half, type_ = type_, type_.element.vector(2 * type_.lanes)
            result = self._ruled(v.op, type_, [self._doubled(half, a) for a in args])
            self.set(v, self._lower(half, result))
            return
        self.set(v, self._ruled(v.op, type_, args))

    def _doubled(self, type_: Type, value: str) -> str:
        lanes = ", ".join(f"i32 {i % type_.lanes}" for i in range(2 * type_.lanes))
        text = self.llvm_type(type_)
        return self.temp(f"shufflevector {text} {value}, {text} poison, <{2 * type_.lanes} x i32> <{lanes}>")

    def _lower(self, half: Type, value: str) -> str:
        """The lower half of a vector, which is of type `half`."""
        kept = ", ".join(f"i32 {i}" for i in range(half.lanes))
        text = self.llvm_type(half.element.vector(2 * half.lanes))
        return self.temp(f"shufflevector {text} {value}, {text} poison, <{half.lanes} x i32> <{kept}>")

    def _ruled(self, op: str, type_: Type, args: list[str]) -> str:
        result = self.compute(op, type_, args)
        if op in ("fmin", "fmax"):
            special = self._any(type_, self._unordered_lanes(type_, args[0], args[1]))
        else:
            special = self._special(type_, result, tiny=op in _TINY)
        return self._unless_special(op, [type_] * len(args), type_, args, result, special)

    def compute(self, op: str, type_: Type, args: list[str]) -> str:
        """What the host gives."""
        if op in ("fmin", "fmax"):
            return self._extreme(op, type_, args)
        name = "sqrt" if op == "fsqrt" else op
        if type_.bits > 16:
            return self._constrained(name, type_, [(type_, a) for a in args])
        # As without rules: single precision rounded again, double for fma.
        work = (F64 if op == "fma" else F32).vector(type_.lanes)
        wide = [self._constrained("fpext", work, [(type_, a)], rounds=False) for a in args]
        result = self._constrained(name, work, [(work, a) for a in wide])
        return self.narrow(work, type_, result)

    def _extreme(self, op: str, type_: Type, args: list[str]) -> str:
        """-0 is below +0: equal numbers are the same bits but for that."""
        integer, text = type_.with_kind("int"), self.llvm_type(type_)
        pair = args if op == "fmin" else args[::-1]
        less, same = (self._lanes_compared(type_, predicate, *pair) for predicate in ("olt", "oeq"))
        bits = [self.temp(f"bitcast {text} {a} to {self.llvm_type(integer)}") for a in args]
        both = self.temp(f"{'or' if op == 'fmin' else 'and'} {self.llvm_type(integer)} {bits[0]}, {bits[1]}")
        merged = self.temp(f"bitcast {self.llvm_type(integer)} {both} to {text}")
        condition = self.llvm_type(type_.compared)
        inner = self.temp(f"select {condition} {same}, {text} {merged}, {text} {args[1]}")
        return self.temp(f"select {condition} {less}, {text} {args[0]}, {text} {inner}")

    # -- the rare case ----------------------------------------------------------------------------------------

    def _lanes_compared(self, type_: Type, predicate: str, a: str, b: str, *, signaling: bool = False) -> str:
        """A comparison, an i1 for each lane; quiet unless `signaling`."""
        if type_.bits == 16:
            wide = F32.vector(type_.lanes)
            a, b = (self._constrained("fpext", wide, [(type_, x)], rounds=False) for x in (a, b))
            type_ = wide
        name = f"experimental.constrained.{'fcmps' if signaling else 'fcmp'}.{type_}"
        return self.intrinsic(name, type_.compared, [(type_, a), (type_, b)], f'metadata !"{predicate}", {_STRICT}')

    def _unordered_lanes(self, type_: Type, a: str, b: str) -> str:
        return self._lanes_compared(type_, "uno", a, b)

    def _any(self, type_: Type, lanes: str) -> str:
        """i1: one of a vector's i1 holds."""
        if type_.lanes == 1:
            return lanes
        mask = self.temp(f"bitcast <{type_.lanes} x i1> {lanes} to i{type_.lanes}")
        return self.temp(f"icmp ne i{type_.lanes} {mask}, 0")

    def _special(self, type_: Type, value: str, *, tiny: bool) -> str:
        """i1: a lane is a NaN, or (`tiny`) of the size of the smallest normal number."""
        least = 1 << _MANTISSA[type_.bits]
        if type_.bits == 16:
            integer = type_.with_kind("int")
            text = self.llvm_type(integer)
            bits = self.temp(f"bitcast {self.llvm_type(type_)} {value} to {text}")
            size = self.temp(f"and {text} {bits}, {self.constant(integer, integer.splat(0x7FFF))}")
            found = self.temp(f"icmp ugt {text} {size}, {self.constant(integer, integer.splat(0x7C00))}")
            if tiny:
                same = self.temp(f"icmp eq {text} {size}, {self.constant(integer, integer.splat(least))}")
                found = self.temp(f"or {self.llvm_type(type_.compared)} {found}, {same}")
            return self._any(type_, found)
        if not tiny:
            return self._any(type_, self._unordered_lanes(type_, value, value))
        size = self.intrinsic(f"fabs.{type_}", type_, [(type_, value)])
        return self._any(type_, self._lanes_compared(type_, "ueq", size, self.constant(type_, type_.splat(least))))

    def _unless_special(self, op: str, types: list[Type], type_: Type, args: list[str], result: str, special: str) -> str:
        text = self.llvm_type(type_)
        slot = self.alloca(type_)
        rare, end = self.label(), self.label()
        self.line(f"store {text} {result}, ptr {slot}")
        self.branch_to(special, rare, end, unlikely=True)
        self.place(rare)
        passed: list[str] = []
        for i, (t, value) in enumerate(zip((*types, type_), (*args, result), strict=True)):
            place = self._cold_slots.get((t, i)) or self.alloca(t)
            self._cold_slots[t, i] = place
            self.line(f"store {self.llvm_type(t)} {value}, ptr {place}")
            passed.append(f"ptr {place}")
        function = self._rare_function(op, types, type_)
        self.line(f"call {_COLD} void @{function}({', '.join(passed)}, i32 {self.environment()}) #0")
        again = self.temp(f"load {text}, ptr {passed[-1].split()[1]}")
        self.line(f"store {text} {again}, ptr {slot}")
        self.jump_to(end)
        self.place(end)
        return self.temp(f"load {text}, ptr {slot}")

    def _rare_function(self, op: str, types: list[Type], type_: Type) -> str:
        """The name of the function that puts a result right: its parameters are pointers to the operands and to the result, and
        the environment's mode."""
        name = f"rare_{op}_{types[0]}_{type_}"
        if name not in self.module.declared:
            self.module.declare(name, "")
            body = RulesEmitter(self.module)
            body.rare(op, types, type_)
            params = [*(f"ptr %p{i}" for i in range(len(types) + 1)), "i32 %mode"]
            self.module.rare_function(f"{_COLD} void", name, params, "\n".join(body.allocas + body.lines))
        return name

    def rare(self, op: str, types: list[Type], type_: Type) -> None:
        """The body of such a function."""
        for lane in range(type_.lanes):
            self._rare_lane(op, [t.element for t in types], type_.element, lane)
        self.line("ret void")

    def _rare_lane(self, op: str, types: list[Type], type_: Type, lane: int) -> None:
        places = [self.temp(f"getelementptr i8, ptr %p{i}, i64 {lane * t.bits // 8}") for i, t in enumerate((*types, type_))]
        args = [self.temp(f"load {self.llvm_type(t)}, ptr {p}, align 1") for t, p in zip(types, places, strict=False)]
        n = f"i{type_.bits}"
        result = self.temp(f"load {n}, ptr {places[-1]}, align 1")
        nan, other, end = self.label(), self.label(), self.label()
        if op in ("fmin", "fmax"):
            is_nan = self.temp(f"or i1 {self._nan_bits(types[0], args[0])}, {self._nan_bits(types[1], args[1])}")
        else:
            is_nan = self._above(type_, result, self._infinity(type_))
        self.branch_to(is_nan, nan, other)
        self.place(nan)
        self.line(f"store {n} {self._chosen(op, types, type_, args, result)}, ptr {places[-1]}, align 1")
        self.jump_to(end)
        self.place(other)
        if op in _TINY:
            again = self.label()
            size = self.temp(f"and {n} {result}, {type_.mask >> 1}")
            self.branch_to(self.temp(f"icmp eq {n} {size}, {1 << _MANTISSA[type_.bits]}"), again, end)
            self.place(again)
            old = self.read_mxcsr()
            self.write_mxcsr(self.temp(f"or i32 {self.temp(f'and i32 {old}, {~63}')}, {0x6000}"))
            if op == "narrow":
                self.narrow(types[0], type_, args[0])
            else:
                self.compute(op, type_, args)
            flags = self.temp(f"and i32 {self.read_mxcsr()}, 63")
            self.write_mxcsr(self.temp(f"or i32 {old}, {flags}"))
            if type_.bits > 16:
                self._flush_lane(n, result, flags, places[-1])
        self.jump_to(end)
        self.place(end)

    def _flush_lane(self, n: str, result: str, flags: str, place: str) -> None:
        """A result that is tiny before rounding is zero, if those are flushed."""
        tiny = self.temp(f"icmp ne i32 {self.temp(f'and i32 {flags}, 16')}, 0")
        flushes = self.temp(f"icmp ne i32 {self.temp(f'and i32 %mode, {FLUSH}')}, 0")
        zero = self.temp(f"and {n} {result}, {1 << int(n[1:]) - 1}")
        both = self.temp(f"and i1 {tiny}, {flushes}")
        self.line(f"store {n} {self.temp(f'select i1 {both}, {n} {zero}, {n} {result}')}, ptr {place}, align 1")

    @staticmethod
    def _infinity(type_: Type) -> int:
        mantissa = _MANTISSA[type_.bits]
        return ((1 << (type_.bits - 1 - mantissa)) - 1) << mantissa

    def _above(self, type_: Type, bits: str, limit: int) -> str:
        size = self.temp(f"and i{type_.bits} {bits}, {type_.mask >> 1}")
        return self.temp(f"icmp ugt i{type_.bits} {size}, {limit}")

    def _nan_bits(self, type_: Type, value: str) -> str:
        bits = self.temp(f"bitcast {self.llvm_type(type_)} {value} to i{type_.bits}")
        return self._above(type_, bits, self._infinity(type_))

    def _chosen(self, op: str, types: list[Type], type_: Type, args: list[str], result: str) -> str:
        """The NaN that is the result."""
        n, default = f"i{type_.bits}", canonical_nan(type_)
        wanted = self.temp(f"and i32 %mode, {DEFAULT_NAN}")
        plain = self.temp(f"icmp ne i32 {wanted}, 0")
        if op in ("frint", "f2f", "narrow"):  # the host's, which is the operand
            return self.temp(f"select i1 {plain}, {n} {default}, {n} {result}")
        quiet = 1 << (_MANTISSA[type_.bits] - 1)
        order = [args[2], args[0], args[1]] if op == "fma" else args
        found = [self.temp(f"bitcast {self.llvm_type(type_)} {a} to {n}") for a in order]
        chosen = str(default)
        nans = [self._above(type_, a, self._infinity(type_)) for a in found]
        made = [self.temp(f"or {n} {a}, {quiet}") for a in found]
        for is_nan, value in [*zip(nans, made, strict=True)][::-1]:
            chosen = self.temp(f"select i1 {is_nan}, {n} {value}, {n} {chosen}")
        if op == "fma":
            chosen = self._invalid_product(type_, found, chosen)
        for is_nan, value, bits in [*zip(nans, made, found, strict=True)][::-1]:
            signaling = self.temp(f"icmp ne {n} {bits}, {value}")
            signaling = self.temp(f"and i1 {signaling}, {is_nan}")
            chosen = self.temp(f"select i1 {signaling}, {n} {value}, {n} {chosen}")
        return self.temp(f"select i1 {plain}, {n} {default}, {n} {chosen}")

    def _invalid_product(self, type_: Type, found: list[str], chosen: str) -> str:
        """inf * 0 + quiet NaN is invalid, which the host leaves open, and gives the canonical NaN."""
        n, mask = f"i{type_.bits}", type_.mask >> 1
        sizes = [self.temp(f"and {n} {a}, {mask}") for a in found[1:]]
        infinite = [self.temp(f"icmp eq {n} {s}, {self._infinity(type_)}") for s in sizes]
        least = "1"
        if type_.bits > 16:
            flushes = self.temp(f"icmp ne i32 {self.temp(f'and i32 %mode, {FLUSH}')}, 0")
            least = self.temp(f"select i1 {flushes}, {n} {1 << _MANTISSA[type_.bits]}, {n} 1")
        zero = [self.temp(f"icmp ult {n} {s}, {least}") for s in sizes]
        one, other = self.temp(f"and i1 {infinite[0]}, {zero[1]}"), self.temp(f"and i1 {infinite[1]}, {zero[0]}")
        either = self.temp(f"or i1 {one}, {other}")
        self.raise_flags(self.temp(f"select i1 {either}, i32 {INVALID}, i32 0"))
        return self.temp(f"select i1 {either}, {n} {canonical_nan(type_)}, {n} {chosen}")

    # -- the others -------------------------------------------------------------------------------------------

    def _compare_lanes(self, v: Value) -> None:
        a, b = v.args
        if v.attrs.get("silent"):
            values = [self.ref(a), self.ref(b)]
            text = self.llvm_type(a.type)
            if a.type.bits == 16:
                wide = F32.vector(a.type.lanes)
                text = self.llvm_type(wide)
                values = [self._constrained("fpext", wide, [(a.type, x)], rounds=False) for x in values]
            self.define(v, f"fcmp {_COMPARE[v.op]} {text} {values[0]}, {values[1]}")
            return
        if a.type.lanes == 1:
            self.plain(v)
            return
        values, type_ = [self.ref(a), self.ref(b)], a.type
        if type_.total_bits == 64 and type_.bits > 16:
            values = [self._doubled(type_, x) for x in values]
            wide = type_.element.vector(2 * type_.lanes)
            lanes = self._lanes_compared(wide, _COMPARE[v.op], *values, signaling=v.attrs["signaling"])
            self.set(v, self._lower(type_.compared, lanes))
            return
        self.set(v, self._lanes_compared(type_, _COMPARE[v.op], *values, signaling=v.attrs["signaling"]))

    def _unary_with_rules(self, v: Value) -> None:
        """Conversions between formats, and to integral values."""
        source, type_ = v.args[0].type, v.type
        a = self.ref(v.args[0])
        op = v.op
        if op == "frint" and type_.lanes > 1 and type_.total_bits == 64 and type_.bits > 16:
            half, source = type_, type_.element.vector(2 * type_.lanes)
            a = self._doubled(half, a)
            result = self.to_integral(source, a, self._mode(v), exact=v.attrs["exact"])
            special = self._special(source, result, tiny=False)
            result = self._unless_special(op, [source], source, [a], result, special)
            self.set(v, self._lower(half, result))
            return
        if op == "frint":
            result = self.integral(v)
        elif type_.bits > source.bits:
            result = self._constrained("fpext", type_, [(source, a)], rounds=False)
        else:
            op = "narrow"
            self._mode(v)
            result = self.narrow(source, type_, a)
        special = self._special(type_, result, tiny=op in _TINY)
        self.set(v, self._unless_special(op, [source], type_, [a], result, special))

    def _convert_lanes(self, v: Value) -> None:
        source, type_ = v.args[0].type, v.type
        if source.lanes == 1:
            self.plain(v)
        elif v.op == "si2f" and source.bits == type_.bits == 32:
            self._mode(v)
            a, wide = self.ref(v.args[0]), I32.vector(4)
            a = self._doubled(source, a) if source.lanes == 2 else a
            result = self._constrained("sitofp", F32.vector(4), [(wide, a)])
            self.set(v, self._lower(type_, result) if source.lanes == 2 else result)
        elif v.op == "f2si" and source.bits == type_.bits == 32:
            a = self.ref(v.args[0])
            result = self._single_to_int(self._doubled(source, a) if source.lanes == 2 else a, self._mode(v))
            self.set(v, self._lower(type_, result) if source.lanes == 2 else result)
        else:
            self.lane_by_lane(v)

    def _single_to_int(self, a: str, mode: int) -> str:
        """Four numbers as integers. What is out of range is so after rounding, too, and integral: the host's instructions raise
        what they should. They answer with the least integer there."""
        single, integer = F32.vector(4), I32.vector(4)
        text, ints = self.llvm_type(single), self.llvm_type(integer)
        rounded = a
        if mode == RMM:
            self.temp(f'call {text} asm sideeffect "vroundps $$0, $1, $0", "=x,x"({text} {a})')  # raises inexact
            rounded = self._half_away(single, a)
        elif mode != RTZ:
            control = {RNE: 0, RDN: 1, RUP: 2, ENV: 4}[mode]
            rounded = self.temp(f'call {text} asm sideeffect "vroundps $${control}, $1, $0", "=x,x"({text} {a})')
        result = self.temp(f'call {ints} asm sideeffect "vcvttps2dq $1, $0", "=x,x"({text} {rounded})')
        limit = self.constant(single, single.splat(0x4F00_0000))
        large = self._lanes_compared(single, "oge", rounded, limit)
        result = self.temp(f"xor {ints} {result}, {self.temp(f'sext <4 x i1> {large} to {ints}')}")
        nan = self._unordered_lanes(single, rounded, rounded)
        return self.temp(f"select <4 x i1> {nan}, {ints} zeroinitializer, {ints} {result}")
