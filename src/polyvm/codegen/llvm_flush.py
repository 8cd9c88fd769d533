"""Floating-point operations while subnormal numbers become zero (`ir/ops.py`: FLUSH), on a host that does so itself.

The host's control register says the same: x86-64's DAZ takes subnormal operands for zero, FTZ makes tiny results zero (Intel SDM
vol. 1, 10.2.3.3, 10.2.3.4). What differs: the host notes no subnormal operand; it says that a flushed result is inexact; and
it finds tiny results after rounding. The first is tested before an operation. The second shows only until something was inexact
otherwise, which the accrued flags that the host's register does not have (`more_flags`) repeat; until then, and where an operand
is subnormal, an operation is a call of a function that does it lane by lane with flags of its own. The third shows in the
result (`llvm_rules.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.codegen.llvm_fp import _MANTISSA
from polyvm.codegen.llvm_rules import _COLD, RulesEmitter
from polyvm.ir.ops import INEXACT, SUBNORMAL

if TYPE_CHECKING:
    from polyvm.ir.types import Type
    from polyvm.ir.value import Value

_ROUNDS = frozenset({"fadd", "fsub", "fmul", "fdiv", "fma"})  # what can have a tiny result, beside conversions
_SELECTS = frozenset({"fmin", "fmax", "frint", "f2si", "f2ui"})  # what the host makes with more than arithmetic
_HOST_UNDERFLOW, _HOST_INEXACT = 16, 32  # in the host's register


class FlushEmitter(RulesEmitter):
    """The operations that have rules, where `flushing`."""

    flushing = False
    inexact = False  # it is known that the flag is set …
    relies = False  # … and an operation relies on it

    def more_flags(self) -> str:
        """A pointer to the flags that the host's register does not have."""
        raise NotImplementedError

    def with_rules(self, v: Value) -> None:
        source = v.args[0].type
        if not self.flushing or not source.is_float or source.bits == 16:
            super().with_rules(v)
        elif v.attrs.get("silent"):
            # What raises nothing is no instruction of the host's to LLVM: it makes a choice by it something that flushes.
            self._with_flushed(v)
        elif v.op in _ROUNDS or (v.op == "f2f" and source.bits > v.type.bits == 32):
            self._watched(v)
        else:
            self._noted(v)
            if v.op in _SELECTS or (v.op == "f2f" and v.type.bits == 16):
                self._with_flushed(v)
            else:
                super().with_rules(v)

    def examined(self, v: Value) -> bool:
        """True if it is known that `v` is not subnormal, or noted if it is. Asked once before the operation that looks."""
        return v.op == "const"

    def note(self, flags: str) -> None:
        """Or an i32 into `more_flags`."""
        place = self.more_flags()
        have = self.temp(f"load i32, ptr {place}")
        self.line(f"store i32 {self.temp(f'or i32 {have}, {flags}')}, ptr {place}")

    def subnormal_lanes(self, type_: Type, value: str) -> str:
        """A number is subnormal: an i1 for each lane."""
        integer = type_.with_kind("int")
        text = self.llvm_type(integer)
        bits = self.temp(f"bitcast {self.llvm_type(type_)} {value} to {text}")
        # Without the sign, and counted from the smallest one: what is 0 comes last.
        two = self.constant(integer, integer.splat(2))
        size = self.temp(f"sub {text} {self.temp(f'add {text} {bits}, {bits}')}, {two}")
        least = self.constant(integer, integer.splat((2 << _MANTISSA[type_.bits]) - 2))
        return self.temp(f"icmp ult {text} {size}, {least}")

    def _any_subnormal(self, v: Value) -> str:
        found = ""
        for arg in dict.fromkeys(a for a in v.args if a.type.is_float and a.op != "const"):
            lanes = self.subnormal_lanes(arg.type, self.ref(arg))
            found = self.temp(f"or {self.llvm_type(arg.type.compared)} {found}, {lanes}") if found else lanes
        return self._any(v.args[0].type, found) if found else "false"

    def _unless_subnormal(self, v: Value, rare: str, good: str) -> bool:
        """Go to `good` if no operand is subnormal, else to `rare`; False if none can be. To the host, that is 0 now: one
        comparison for what mostly is not."""
        unknown = [a for a in dict.fromkeys(v.args) if a.type.is_float and not self.examined(a)]
        if not unknown:
            self.jump_to(good)
            return False
        look = self.label()
        merged = ""
        for i, arg in enumerate(unknown):
            type_, value = arg.type, self.ref(arg)
            if type_.total_bits == 64 and type_.lanes > 1:
                value, type_ = self._doubled(type_, value), type_.element.vector(2 * type_.lanes)
            lanes = self._lanes_compared(type_, "ueq", value, self.constant(type_, 0))
            merged = self.temp(f"or {self.llvm_type(type_.compared)} {merged}, {lanes}") if merged else lanes
            if type_.lanes > 1 and i < len(unknown) - 1:
                continue
            following = self.label()
            self.branch_to(self._any(type_, merged), look, following, unlikely=True)
            self.place(following)
            merged = ""
        self.jump_to(good)
        self.place(look)
        self.branch_to(self._any_subnormal(v), rare, good)
        return True

    def _noted(self, v: Value) -> None:
        """Note subnormal operands, of an operation that cannot have a tiny result."""
        rare, end = self.label(), self.label()
        if self._unless_subnormal(v, rare, end):
            self.place(rare)
            self.note(str(SUBNORMAL))
            self.jump_to(end)
        self.place(end)

    def _with_flushed(self, v: Value) -> None:
        """The operation where the host may not take subnormal operands for zero."""
        before = dict(self.refs)
        for arg in dict.fromkeys(a for a in v.args if a.type.is_float):
            integer = arg.type.with_kind("int")
            text, ints = self.llvm_type(arg.type), self.llvm_type(integer)
            bits = self.temp(f"bitcast {text} {self.ref(arg)} to {ints}")
            sign = self.temp(f"and {ints} {bits}, {self.constant(integer, integer.splat(1 << arg.type.bits - 1))}")
            lanes = self.subnormal_lanes(arg.type, self.ref(arg))
            kept = self.temp(f"select {self.llvm_type(arg.type.compared)} {lanes}, {ints} {sign}, {ints} {bits}")
            self.set(arg, self.temp(f"bitcast {ints} {kept} to {text}"))
        super().with_rules(v)
        name = self.ref(v)
        self.refs = before
        self.set(v, name)

    def _watched(self, v: Value) -> None:
        """An operation that may have a tiny result."""
        type_ = v.type
        text = self.llvm_type(type_)
        slot = self.alloca(type_)
        careful, plain, end = self.label(), self.label(), self.label()
        if not self.inexact:
            known = self.label()
            have = self.temp(f"and i32 {self.temp(f'load i32, ptr {self.more_flags()}')}, {INEXACT}")
            self.branch_to(self.temp(f"icmp eq i32 {have}, 0"), careful, known, unlikely=True)
            self.place(known)
        self.relies = True
        if self._unless_subnormal(v, careful, plain) or not self.inexact:
            self.place(careful)
            self.line(f"store {text} {self._carefully(v)}, ptr {slot}")
            self.jump_to(end)
        self.place(plain)
        super().with_rules(v)
        self.line(f"store {text} {self.ref(v)}, ptr {slot}")
        self.jump_to(end)
        self.place(end)
        self.set(v, self.temp(f"load {text}, ptr {slot}"))

    def _carefully(self, v: Value) -> str:
        """The operation by a function, with what it raises."""
        op = "narrow" if v.op == "f2f" else v.op
        types = [a.type for a in v.args[:-1]]
        places: list[str] = []
        for i, arg in enumerate(v.args[:-1]):
            place = self._cold_slots.get((arg.type, i)) or self.alloca(arg.type)
            self._cold_slots[arg.type, i] = place
            self.line(f"store {self.typed(arg)}, ptr {place}")
            places.append(f"ptr {place}")
        result = self._cold_slots.get((v.type, len(types))) or self.alloca(v.type)
        self._cold_slots[v.type, len(types)] = result
        name = f"careful_{op}_{types[0]}_{v.type}"
        if name not in self.module.declared:
            self.module.declare(name, "")
            body = _Careful(self.module)
            body.write(op, types, v.type)
            params = [*(f"ptr %p{i}" for i in range(len(types) + 1)), "i32 %mode"]
            self.module.rare_function(f"{_COLD} i32", name, params, "\n".join(body.allocas + body.lines))
        arguments = ", ".join([*places, f"ptr {result}", f"i32 {self.environment()}"])
        self.note(self.temp(f"call {_COLD} i32 @{name}({arguments}) #0"))
        return self.temp(f"load {self.llvm_type(v.type)}, ptr {result}")


class _Careful(FlushEmitter):
    """Writes such a function: its parameters are pointers to the operands and to the result, and the environment's mode; it
    answers flags for `more_flags`."""

    def write(self, op: str, types: list[Type], type_: Type) -> None:
        """The body."""
        before = self.read_mxcsr()
        raised, noted = "0", "0"
        for lane in range(type_.lanes):
            flags, subnormal = self._lane(op, [t.element for t in types], type_.element, lane, before)
            raised = self.temp(f"or i32 {raised}, {flags}")
            noted = self.temp(f"or i32 {noted}, {subnormal}")
        after = self.temp(f"or i32 {before}, {raised}")
        self.write_mxcsr(after)
        inexact = self.temp(f"icmp ne i32 {self.temp(f'and i32 {after}, {_HOST_INEXACT}')}, 0")
        more = self.temp(f"select i1 {inexact}, i32 {INEXACT}, i32 0")
        self.line(f"ret i32 {self.temp(f'or i32 {noted}, {more}')}")

    def _lane(self, op: str, types: list[Type], type_: Type, lane: int, before: str) -> tuple[str, str]:
        """What a lane raises in the host's register, and SUBNORMAL where an operand is."""
        args: list[str] = []
        subnormal = "false"
        for i, t in enumerate(types):
            place = self.temp(f"getelementptr i8, ptr %p{i}, i64 {lane * t.bits // 8}")
            args.append(self.temp(f"load {self.llvm_type(t)}, ptr {place}, align 1"))
            subnormal = self.temp(f"or i1 {subnormal}, {self.subnormal_lanes(t, args[-1])}")
        self.write_mxcsr(self.temp(f"and i32 {before}, {~63}"))
        if op == "narrow":
            result = self.narrow(types[0], type_, args[0])
        else:
            result = self.compute(op, type_, args)
        place = self.temp(f"getelementptr i8, ptr %p{len(types)}, i64 {lane * type_.bits // 8}")
        self.line(f"store {self.llvm_type(type_)} {result}, ptr {place}, align 1")
        self._rare_lane(op, types, type_, lane)
        flags = self.temp(f"and i32 {self.read_mxcsr()}, 63")
        # A result that was flushed is not inexact.
        flushed = self.temp(f"icmp ne i32 {self.temp(f'and i32 {flags}, {_HOST_UNDERFLOW}')}, 0")
        flags = self.temp(f"select i1 {flushed}, i32 {self.temp(f'and i32 {flags}, {~_HOST_INEXACT}')}, i32 {flags}")
        return flags, self.temp(f"select i1 {subnormal}, i32 {SUBNORMAL}, i32 0")
