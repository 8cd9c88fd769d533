"""`Builder`: makes IR, folding constants as it goes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from polyvm.errors import EvaluationError, IrError
from polyvm.ir.fold import fold
from polyvm.ir.ops import OPS
from polyvm.ir.rules import simplify
from polyvm.ir.types import I1, I8, I32, I64, Type
from polyvm.ir.value import Region, Value

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from polyvm.ir.state import StateLayout

NO_VALUE = I1  # the type that operations without a result carry


class Local:
    """A mutable variable of a body; its value may differ from path to path."""

    __slots__ = ("_builder", "_node")

    def __init__(self, builder: Builder, node: Value) -> None:
        self._builder = builder
        self._node = node

    def get(self) -> Value:
        """Its value here."""
        return self._builder.emit("local_get", self._node.type, (self._node,))

    def set(self, value: Value | int) -> None:
        """Give it a new value."""
        value = self._builder.coerce(value, self._node.type)
        self._builder.emit("local_set", NO_VALUE, (self._node, value))


class Builder:
    """Makes the IR of one body.

    `layout` names the guest's registers. After the build, `body` holds the operations.
    """

    def __init__(self, layout: StateLayout) -> None:
        self.layout = layout
        self.body = Region()
        self.place: tuple[int, int] | None = None  # the instruction's address and the next one's, where they are known
        self.fp_rules = ""  # of floating-point operations (`ops.py`)
        self.fast = False  # staging for a handler that may hand over to a slow twin
        self._region: Region | None = self.body
        self._last_if: tuple[Region | None, Value | None, bool | None] | None = None

    def follow(self, before: Builder) -> None:
        """The instruction comes right after the one of `before`, in the same native code: it may use values from there."""

    # -- making operations ------------------------------------------------------------------------------------

    def emit(self, op: str, type_: Type, args: tuple[Value, ...] = (), **attrs: Any) -> Value:
        """Append operation `op`; in a branch that is known not to be taken it goes nowhere."""
        value = Value(self, op, type_, args, attrs)
        if op not in ("const", "operand", "param"):
            if self._region is not None:
                self._region.ops.append(value)
            if op != "if":
                self._last_if = None
        return value

    def const(self, type_: Type, value: int) -> Value:
        """The constant `value`, taken modulo 2**bits (a float by its bits)."""
        mask = type_.mask if type_.lanes == 1 else (1 << type_.total_bits) - 1
        return Value(self, "const", type_, (), {"value": value & mask})

    def true(self) -> Value:
        """The i1 one."""
        return self.const(I1, 1)

    def false(self) -> Value:
        """The i1 zero."""
        return self.const(I1, 0)

    def coerce(self, value: Value | int, type_: Type) -> Value:
        """`value` as a Value of `type_` (a plain number: each of its lanes); raises IrError if it is one of another type."""
        if isinstance(value, int):
            return self.const(type_, type_.splat(value))
        if value.type is not type_:
            raise IrError(f"{value.op} has type {value.type} where {type_} is needed")
        return value

    def _pure(self, op: str, type_: Type, args: tuple[Value, ...], **attrs: Any) -> Value:
        if args:
            if all(a.op == "const" for a in args):
                try:
                    folded = fold(op, type_, [a.type for a in args], [a.bits for a in args])
                except EvaluationError:
                    folded = None  # undefined here; it may sit on a path that is not taken
                if folded is not None:
                    return self.const(type_, folded)
            simpler = simplify(self, op, type_, args)
            if simpler is not None:
                return simpler
        return self.emit(op, type_, args, **attrs)

    def binary(self, op: str, a: Value, b: Value | int) -> Value:
        """A two-argument integer operation or comparison."""
        b = self.coerce(b, a.type)
        if not a.type.is_int:
            raise IrError(f"{op} needs integers, not {a.type}")
        return self._pure(op, a.type.compared if OPS[op].result == "bool" else a.type, (a, b))

    def unary(self, op: str, a: Value) -> Value:
        """A one-argument integer operation."""
        return self._pure(op, a.type, (a,))

    def convert(self, op: str, a: Value, type_: Type) -> Value:
        """zext, sext, trunc or bitcast; nothing where the type is right already."""
        if a.type is type_:
            return a
        narrow, wide = a.type.bits, type_.bits
        good = {"zext": narrow < wide, "sext": narrow < wide, "trunc": narrow > wide}.get(
            op, a.type.total_bits == type_.total_bits
        )
        if not good or (op != "bitcast" and a.type.lanes != type_.lanes):
            raise IrError(f"cannot {op} {a.type} to {type_}")
        return self._pure(op, type_, (a,))

    def select(self, cond: Value, a: Value | int, b: Value | int) -> Value:
        """`a` where `cond` (an i1, or one for each lane) holds, else `b`; both are computed."""
        if isinstance(a, int):
            if isinstance(b, int):
                raise IrError("select between two plain numbers has no type; make one a const")
            a = self.coerce(a, b.type)
        b = self.coerce(b, a.type)
        if cond.type.lanes not in (1, a.type.lanes):
            raise IrError(f"select by {cond.type} between values of type {a.type}")
        return self._pure("select", a.type, (cond, a, b))

    # -- vectors ----------------------------------------------------------------------------------------------

    def splat(self, x: Value, lanes: int) -> Value:
        """A vector whose `lanes` lanes are all `x`."""
        type_ = x.type.vector(lanes)
        return self.const(type_, type_.splat(x.bits)) if x.is_const else self.emit("splat", type_, (x,))

    def lane(self, v: Value, index: Value | int) -> Value:
        """Lane `index` of `v`; lane 0 is the lowest."""
        index = self._lane_index(v, index)
        if v.is_const and index.is_const:
            return self.const(v.type.element, v.type.split(v.bits)[index.bits])
        return self.emit("lane", v.type.element, (v, index))

    def with_lane(self, v: Value, index: Value | int, x: Value | int) -> Value:
        """`v` with `x` as lane `index`."""
        index, x = self._lane_index(v, index), self.coerce(x, v.type.element)
        if v.is_const and index.is_const and x.is_const:
            lanes = v.type.split(v.bits)
            lanes[index.bits] = x.bits
            return self.const(v.type, v.type.join(lanes))
        return self.emit("with_lane", v.type, (v, x, index))

    def _lane_index(self, v: Value, index: Value | int) -> Value:
        if isinstance(index, int):
            index = self.const(I64, index)
        if index.is_const and index.bits >= v.type.lanes:
            raise IrError(f"{v.type} has no lane {index.bits}")
        return index

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """The vector of those `lanes` of `a` and `b`; numbers count through both."""
        b = self.coerce(b, a.type)
        type_ = a.type.element.vector(len(lanes))
        if not all(0 <= lane < 2 * a.type.lanes for lane in lanes):
            raise IrError(f"two values of type {a.type} do not have all lanes of {[*lanes]}")
        if len(lanes) == 1:
            return self.lane((a, b)[lanes[0] // a.type.lanes], lanes[0] % a.type.lanes)
        if a.is_const and b.is_const:
            both = a.type.split(a.bits) + b.type.split(b.bits)
            return self.const(type_, type_.join(both[lane] for lane in lanes))
        return self.emit("shuffle", type_, (a, b), lanes=tuple(lanes))

    def tbl(self, table: Value, indices: Value) -> Value:
        """The bytes of `table` (v16i8) that `indices` (v16i8) name; 0 for 16 and more."""
        return self.binary("tbl", table, indices)

    # -- control inside a body --------------------------------------------------------------------------------

    @contextmanager
    def _inside(self, region: Region | None) -> Generator[None, None, None]:
        saved = self._region
        self._region = region
        try:
            yield
        finally:
            self._region = saved

    @contextmanager
    def if_(self, cond: Value) -> Generator[None, None, None]:
        """What is built inside happens only if `cond` (i1) holds; a constant leaves no test behind."""
        outer = self._region
        if cond.op == "const":
            taken = bool(cond.bits)
            with self._inside(outer if taken else None):
                yield
            self._last_if = (outer, None, taken)
            return
        then = Region()
        with self._inside(then if outer is not None else None):
            yield
        node = self.emit("if", NO_VALUE, (cond,), then=then, **{"else": Region()})
        self._last_if = (outer, node, None)

    @contextmanager
    def else_(self) -> Generator[None, None, None]:
        """The other side of the `if_` just before."""
        if self._last_if is None or self._last_if[0] is not self._region:
            raise IrError("else_ does not follow an if_")
        outer, node, taken = self._last_if
        if node is None:
            region = None if taken else outer
        else:
            region = node.attrs["else"] if outer is not None else None
        with self._inside(region):
            yield
        self._last_if = None

    @contextmanager
    def loop(self) -> Generator[None, None, None]:
        """What is built inside happens again and again until `break_if` leaves it."""
        body = Region()
        outer = self._region
        with self._inside(body if outer is not None else None):
            yield
        self.emit("loop", NO_VALUE, (), body=body)

    def break_if(self, cond: Value) -> None:
        """Leave the innermost loop if `cond` holds."""
        self.emit("break_if", NO_VALUE, (cond,))

    def local(self, init: Value, name: str = "") -> Local:
        """A mutable variable that starts as `init`."""
        return Local(self, self.emit("local", init.type, (init,), name=name))

    # -- guest state ------------------------------------------------------------------------------------------

    def get(self, slot: str, index: Value | int | None = None) -> Value:
        """A register of file `slot`."""
        args = () if index is None else (self.coerce(index, I64) if isinstance(index, int) else index,)
        return self.emit("get", self.layout[slot].type, args, slot=slot)

    def set(self, slot: str, value: Value | int, index: Value | int | None = None) -> None:
        """Write a register of file `slot`."""
        value = self.coerce(value, self.layout[slot].type)
        if index is None:
            self.emit("set", NO_VALUE, (value,), slot=slot)
        else:
            index = self.coerce(index, I64) if isinstance(index, int) else index
            self.emit("set", NO_VALUE, (index, value), slot=slot)

    def pc(self) -> Value:
        """The address of this instruction (i64)."""
        return self.emit("pc", I64) if self.place is None else self.const(I64, self.place[0])

    def next_pc(self) -> Value:
        """The address of the next instruction in memory (i64)."""
        return self.emit("next_pc", I64) if self.place is None else self.const(I64, self.place[1])

    def instret(self) -> Value:
        """Instructions completed before this one (i64)."""
        return self.emit("instret", I64)

    def ticks(self) -> Value:
        """Nanoseconds of a clock that only goes forward (i64)."""
        return self.emit("ticks", I64)

    # -- guest memory -----------------------------------------------------------------------------------------

    def load(self, address: Value, type_: Type, order: str = "none") -> Value:
        """Guest memory at `address` as `type_`, little-endian."""
        return self.emit("load", type_, (address,), order=order)

    def store(self, address: Value, value: Value, order: str = "none") -> None:
        """Write `value` to guest memory."""
        self.emit("store", NO_VALUE, (address, value), order=order)

    def amo(self, rmw: str, address: Value, value: Value, order: str = "none") -> Value:
        """Atomic read-modify-write; the old value."""
        return self.emit("amo", value.type, (address, value), rmw=rmw, order=order)

    def cmpxchg(self, address: Value, expected: Value, new: Value, order: str = "none") -> Value:
        """Atomic compare-and-exchange; the old value."""
        return self.emit("cmpxchg", expected.type, (address, expected, new), order=order)

    def fence(self, order: str = "seqcst") -> None:
        """Order memory accesses before and after."""
        self.emit("fence", NO_VALUE, order=order)

    def probe(self, address: Value, size: int, access: str) -> None:
        """Fault as an access of `size` bytes and kind ``"r"`` or ``"w"`` would."""
        self.emit("probe", NO_VALUE, (address,), size=size, access=access)

    # -- floating point ---------------------------------------------------------------------------------------

    def _mode(self, mode: Value | int) -> Value:
        return self.const(I8, mode) if isinstance(mode, int) else mode

    def fp(self, op: str, *args: Value, rm: Value | int) -> Value:
        """fadd, fsub, fmul, fdiv, fsqrt, fma, fmin or fmax with rounding mode `rm`."""
        return self.emit(op, args[0].type, (*args, self._mode(rm)), rules=self.fp_rules)

    def frint(self, a: Value, rm: Value | int, *, exact: bool) -> Value:
        """`a` rounded to an integral value; `exact` raises inexact where it differs."""
        return self.emit("frint", a.type, (a, self._mode(rm)), exact=exact, rules=self.fp_rules)

    def fcompare(self, op: str, a: Value, b: Value, *, signaling: bool, silent: bool = False) -> Value:
        """feq, flt or fle; false if unordered. `silent`: what it may raise has been raised by another comparison of the two."""
        attrs = {"silent": True} if silent else {}
        return self.emit(op, a.type.compared, (a, b), signaling=signaling, rules=self.fp_rules, **attrs)

    def fconvert(self, op: str, a: Value, type_: Type, rm: Value | int, *, inner: bool = False) -> Value:
        """f2f, f2si, f2ui, si2f or ui2f. `inner`: an f2f that is part of something else (`ops.py`)."""
        attrs = {"inner": True} if inner else {}
        return self.emit(op, type_, (a, self._mode(rm)), rules=self.fp_rules, **attrs)

    def fp_flags(self) -> Value:
        """The accrued exception flags (i32)."""
        return self.emit("fp_flags", I32)

    def fp_set_flags(self, flags: Value) -> None:
        """Replace the accrued exception flags."""
        self.emit("fp_setflags", NO_VALUE, (flags,))

    def fp_raise(self, flags: Value | int) -> None:
        """Raise exception flags."""
        self.emit("fp_raise", NO_VALUE, (self.coerce(flags, I32),))

    def fp_rm(self) -> Value:
        """The environment's rounding mode as it was written (i32)."""
        return self.emit("fp_rm", I32)

    def fp_set_rm(self, mode: Value) -> None:
        """Set the environment's rounding mode."""
        self.emit("fp_setrm", NO_VALUE, (mode,))

    def rounding(self, mode: Value) -> Value:
        """Make `mode` (i8, checked to be 0–4) the one of the arithmetic that follows; what to pass to it as `rm`."""
        return self.emit("rounding", I8, (mode,))

    # -- where the guest goes next ----------------------------------------------------------------------------

    def jump(self, target: Value) -> None:
        """Go to an address that the instruction alone determines."""
        self.emit("jump", NO_VALUE, (target,))

    def branch(self, cond: Value, target: Value) -> None:
        """The same if `cond` holds, else to the next instruction."""
        self.emit("branch", NO_VALUE, (cond, target))

    def indirect(self, target: Value, hint: str = "none") -> None:
        """Go to a computed address; `hint` says if it calls or returns."""
        self.emit("indirect", NO_VALUE, (target,), hint=hint)

    def exit(self, code: int, *args: Value) -> None:
        """Leave to the runtime at this instruction."""
        self.emit("exit", NO_VALUE, args, code=code)

    # -- native functions -------------------------------------------------------------------------------------

    def hload(self, pointer: Value, type_: Type, offset: int = 0) -> Value:
        """Host memory."""
        return self.emit("hload", type_, (pointer,), offset=offset)

    def hstore(self, pointer: Value, value: Value, offset: int = 0) -> None:
        """Write host memory."""
        self.emit("hstore", NO_VALUE, (pointer, value), offset=offset)

    def hamo(self, rmw: str, pointer: Value, value: Value, offset: int = 0) -> Value:
        """Atomic read-modify-write of host memory; the old value."""
        return self.emit("hamo", value.type, (pointer, value), rmw=rmw, offset=offset)

    def call(self, callee: str, type_: Type, *args: Value) -> Value:
        """Call a native function."""
        return self.emit("call", type_, args, callee=callee)

    def tailcall(self, callee: str, *args: Value) -> None:
        """Go on in another native function of the same signature."""
        self.emit("tailcall", NO_VALUE, args, callee=callee)

    def ret(self, *args: Value) -> None:
        """Return from a native function."""
        self.emit("ret", NO_VALUE, args)
