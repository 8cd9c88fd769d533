"""The IR in plain Python: the executable definition that every other stage is tested against.

`evaluate` runs the operations of a region on a `Machine`, which holds the guest's registers, memory and floating-point
environment. Vectors are integers with lane 0 lowest; operations on them go lane by lane. Operations that only native
functions use work where the machine has the `HostMachine` methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from polyvm.errors import EvaluationError
from polyvm.ir import softfloat
from polyvm.ir.aes import STEPS
from polyvm.ir.fold import BINARY, LANEWISE, fold
from polyvm.ir.ops import ENV, RMM, ROUNDING
from polyvm.ir.softfloat import FORMATS
from polyvm.ir.value import Region, Value

if TYPE_CHECKING:
    from polyvm.ir.types import Type


class Machine(Protocol):
    """What a body works on. A machine may have ``probe(address, size, access)`` as well; without it, a probe reads
    (and for ``"w"`` writes back) the bytes."""

    @property
    def pc(self) -> int:
        """The address of this instruction."""
        ...

    @property
    def next_pc(self) -> int:
        """The address of the next one in memory."""
        ...

    @property
    def instret(self) -> int:
        """Instructions completed before this one."""
        ...

    @property
    def ticks(self) -> int:
        """Nanoseconds of a clock that only goes forward."""
        ...

    @property
    def fp_flags(self) -> int:
        """Accrued exceptions, as the IR numbers them."""
        ...

    @fp_flags.setter
    def fp_flags(self, flags: int) -> None: ...

    @property
    def fp_rm(self) -> int:
        """The environment's rounding mode as it was written."""
        ...

    @fp_rm.setter
    def fp_rm(self, mode: int) -> None: ...

    def get(self, slot: str, index: int, /) -> int:
        """A register."""
        ...

    def set(self, slot: str, index: int, value: int, /) -> None:
        """Write a register."""
        ...

    def load(self, address: int, size: int) -> int:
        """`size` bytes of guest memory, little-endian; raises MemoryFault."""
        ...

    def store(self, address: int, size: int, value: int) -> None:
        """Write `size` bytes of guest memory; raises MemoryFault."""
        ...


class HostMachine(Machine, Protocol):
    """A machine for native functions; it may have any of these methods."""

    def param(self, index: int) -> int:
        """A parameter of the function."""
        ...

    def hload(self, address: int, size: int) -> int:
        """Host memory."""
        ...

    def hstore(self, address: int, size: int, value: int) -> None:
        """Write host memory."""
        ...

    def call(self, callee: str, args: list[int]) -> int:
        """The result of another function, 0 if it has none."""
        ...

    def address_of(self, name: str) -> int:
        """The address of a function or table."""
        ...


class Outcome:
    """How a body ended.

    `next_pc` is where the guest goes, None where the body does not say (the next instruction in memory). `code` is that
    of an `exit`, else None; `args` are the arguments of an `exit` or `ret`.
    """

    __slots__ = ("args", "code", "next_pc")

    def __init__(self, next_pc: int | None = None, code: int | None = None, args: tuple[int, ...] = ()) -> None:
        self.next_pc = next_pc
        self.code = code
        self.args = args

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcome):
            return NotImplemented
        return (self.next_pc, self.code, self.args) == (other.next_pc, other.code, other.args)

    def __hash__(self) -> int:
        return hash((self.next_pc, self.code, self.args))

    def __repr__(self) -> str:
        return f"Outcome(next_pc={self.next_pc}, code={self.code}, args={self.args})"


def evaluate(region: Region, machine: Machine, operands: Mapping[str, int]) -> Outcome:
    """Run `region`; `operands` gives the value of each operand by name.

    Raises EvaluationError where the IR leaves the result undefined, and lets the machine's MemoryFault through.
    """
    outcome = _Run(machine, operands).region(region)
    return outcome if isinstance(outcome, Outcome) else Outcome()


class _Break:
    """The innermost loop is left."""


_BREAK = _Break()


def _rmw(kind: str, type_: Type, old: int, new: int) -> int:
    if kind == "xchg":
        return new
    if kind in ("add", "and", "or", "xor"):
        return BINARY[kind](type_, old, new) & type_.mask
    signed = kind in ("max", "min")
    a, b = (type_.signed(old), type_.signed(new)) if signed else (old, new)
    keep = a >= b if kind in ("max", "umax") else a <= b
    return old if keep else new


_FP_ARITHMETIC: dict[str, Callable[..., softfloat.Result]] = {
    "fadd": softfloat.add,
    "fsub": softfloat.sub,
    "fmul": softfloat.mul,
    "fdiv": softfloat.div,
    "fsqrt": softfloat.sqrt,
    "fma": softfloat.fma,
    "fmin": softfloat.minimum,
    "fmax": softfloat.maximum,
}
_FP_COMPARE = {"feq": softfloat.eq, "flt": softfloat.lt, "fle": softfloat.le}
_FP_TO_INT = {"f2si": softfloat.f2si, "f2ui": softfloat.f2ui}
_INT_TO_FP = {"si2f": softfloat.si2f, "ui2f": softfloat.ui2f}
_FP = {*_FP_ARITHMETIC, *_FP_COMPARE, *_FP_TO_INT, *_INT_TO_FP, "frint", "f2f"}
_FOLDED = {*LANEWISE, "bitcast", "tbl", *STEPS}


class _Run:
    """One run: the machine, and the value of each operation so far."""

    def __init__(self, machine: Machine, operands: Mapping[str, int]) -> None:
        self.machine = machine
        self.operands = operands
        self.values: dict[Value, int] = {}
        self.locals: dict[Value, int] = {}

    def value(self, v: Value) -> int:
        """The bits of `v`."""
        if v.op == "const":
            return v.bits
        if v.op == "operand":
            name: str = v.attrs["name"]
            if name not in self.operands:
                raise EvaluationError(f"operand {name} has no value")
            return self.operands[name] & (1 << v.type.total_bits) - 1
        if v.op == "param":
            return self.host("param")(v.attrs["index"]) & (1 << v.type.total_bits) - 1
        if v not in self.values:
            raise EvaluationError(f"{v.op} is used before it is computed")
        return self.values[v]

    def region(self, region: Region) -> Outcome | _Break | None:
        """Run `region`; None if it goes on at its end."""
        for v in region.ops:
            if v.op in _CONTROL:
                ended = _CONTROL[v.op](self, v, [self.value(a) for a in v.args])
                if ended is not None:
                    return ended
            else:
                self.values[v] = self.operation(v)
        return None

    def operation(self, v: Value) -> int:
        """The result of an operation that the next one follows; 0 where it has none."""
        if v.op == "local_get":
            return self.locals[v.args[0]]
        if v.op == "local_set":
            self.locals[v.args[0]] = self.value(v.args[1])
            return 0
        args = [self.value(a) for a in v.args]
        if v.op in _FOLDED:
            return cast(int, fold(v.op, v.type, [a.type for a in v.args], args))
        if v.op in _FP:
            return self._lanewise(v, args, lambda *lanes: self._fp(v, [*lanes]))
        if v.op not in _OTHER:
            raise EvaluationError(f"the evaluator does not know the operation {v.op}")
        return _OTHER[v.op](self, v, args)

    @staticmethod
    def _lanewise(v: Value, args: list[int], one: Callable[..., int]) -> int:
        """`one` on each lane; an argument that is a scalar beside vectors (the rounding mode) serves all of them."""
        lanes = v.type.lanes
        columns = [
            a.type.split(bits) if a.type.lanes == lanes else [bits] * lanes
            for a, bits in zip(v.args, args, strict=True)
        ]
        return v.type.join([one(*row) for row in zip(*columns, strict=True)])

    # -- floating point ---------------------------------------------------------------------------------------

    def _fp(self, v: Value, args: list[int]) -> int:
        rules = softfloat.rules_of(self.machine.fp_rm) if v.attrs.get("rules") else softfloat.CANONICAL
        flags = 0
        if v.op == "f2f":
            rules = rules._replace(alternative=False) if v.attrs.get("inner") else rules._replace(flush_half=False)
        if v.args[0].type.is_float:
            count = len(args) if v.op in _FP_COMPARE else len(args) - 1
            for i in range(count):
                args[i], raised = softfloat.flushed(FORMATS[v.args[0].type.bits], args[i], rules)
                flags |= raised
        result, raised = self._fp_result(v, v.args[0].type.bits, v.type.bits, args, rules)
        if flags | raised and not v.attrs.get("silent"):
            self.machine.fp_flags |= flags | raised
        return result

    def _fp_result(self, v: Value, source: int, target: int, args: list[int], rules: softfloat.Rules) -> softfloat.Result:
        if v.op in _FP_COMPARE:
            return _FP_COMPARE[v.op](FORMATS[source], args[0], args[1], v.attrs["signaling"])
        rm = self._mode(args.pop())
        if v.op in _FP_TO_INT:
            return _FP_TO_INT[v.op](FORMATS[source], target, args[0], rm)
        if v.op in _INT_TO_FP:
            return _INT_TO_FP[v.op](FORMATS[target], source, args[0], rm, rules)
        if v.op == "f2f":
            return softfloat.f2f(FORMATS[source], FORMATS[target], args[0], rm, rules)
        if v.op == "frint":
            return softfloat.rint(FORMATS[source], args[0], rm, v.attrs["exact"], rules)
        return _FP_ARITHMETIC[v.op](FORMATS[source], *args, rm, rules)

    def _mode(self, mode: int) -> int:
        rm = self.machine.fp_rm & ROUNDING if mode == ENV else mode
        if rm > RMM:
            raise EvaluationError(f"there is no rounding mode {rm}")
        return rm

    def op_fp_setflags(self, v: Value, args: list[int]) -> int:
        self.machine.fp_flags = args[0]
        return 0

    def op_fp_raise(self, v: Value, args: list[int]) -> int:
        self.machine.fp_flags |= args[0]
        return 0

    def op_fp_setrm(self, v: Value, args: list[int]) -> int:
        self.machine.fp_rm = args[0]
        return 0

    # -- vectors ----------------------------------------------------------------------------------------------

    def op_lane(self, v: Value, args: list[int]) -> int:
        return v.args[0].type.split(args[0])[self._index(v, args[1])]

    def op_with_lane(self, v: Value, args: list[int]) -> int:
        lanes = v.type.split(args[0])
        lanes[self._index(v, args[2])] = args[1]
        return v.type.join(lanes)

    @staticmethod
    def _index(v: Value, index: int) -> int:
        if index >= v.args[0].type.lanes:
            raise EvaluationError(f"{v.args[0].type} has no lane {index}")
        return index

    def op_shuffle(self, v: Value, args: list[int]) -> int:
        both = v.args[0].type.split(args[0]) + v.args[1].type.split(args[1])
        return v.type.join(both[i] for i in v.attrs["lanes"])

    # -- guest state and memory -------------------------------------------------------------------------------

    def op_set(self, v: Value, args: list[int]) -> int:
        self.machine.set(v.attrs["slot"], args[0] if len(args) == 2 else 0, args[-1])
        return 0

    def _probe_bytes(self, address: int, size: int, access: str) -> None:
        probe = getattr(self.machine, "probe", None)
        if probe is not None:
            probe(address, size, access)
            return
        found = self.machine.load(address, size)
        if access == "w":
            self.machine.store(address, size, found)

    def op_load(self, v: Value, args: list[int]) -> int:
        return self.machine.load(args[0], v.type.total_bits // 8)

    def op_store(self, v: Value, args: list[int]) -> int:
        self.machine.store(args[0], v.args[1].type.total_bits // 8, args[1])
        return 0

    def op_amo(self, v: Value, args: list[int]) -> int:
        size = v.type.bits // 8
        self._probe_bytes(args[0], size, "w")
        old = self.machine.load(args[0], size)
        self.machine.store(args[0], size, _rmw(v.attrs["rmw"], v.type, old, args[1]))
        return old

    def op_cmpxchg(self, v: Value, args: list[int]) -> int:
        size = v.type.bits // 8
        self._probe_bytes(args[0], size, "w")
        old = self.machine.load(args[0], size)
        if old == args[1]:
            self.machine.store(args[0], size, args[2])
        return old

    def op_probe(self, v: Value, args: list[int]) -> int:
        self._probe_bytes(args[0], v.attrs["size"], v.attrs["access"])
        return 0

    # -- control ----------------------------------------------------------------------------------------------

    def op_local(self, v: Value, args: list[int]) -> int:
        self.locals[v] = args[0]
        return 0

    def op_if(self, v: Value, args: list[int]) -> Outcome | _Break | None:
        return self.region(v.attrs["then" if args[0] else "else"])

    def op_loop(self, v: Value, args: list[int]) -> Outcome | _Break | None:
        while True:
            ended = self.region(v.attrs["body"])
            if ended is not None:
                return None if isinstance(ended, _Break) else ended

    def op_branch(self, v: Value, args: list[int]) -> Outcome:
        return Outcome(args[1] if args[0] else self.machine.next_pc)

    def op_exit(self, v: Value, args: list[int]) -> Outcome:
        return Outcome(code=v.attrs["code"], args=tuple(args))

    def op_tailcall(self, v: Value, args: list[int]) -> Outcome:
        return Outcome(args=(self.op_call(v, args),))

    # -- native functions -------------------------------------------------------------------------------------

    def host(self, method: str) -> Callable[..., int]:
        found: Callable[..., int] | None = getattr(self.machine, method, None)
        if found is None:
            raise EvaluationError(f"this machine has no {method}")
        return found

    def op_address_of(self, v: Value, args: list[int]) -> int:
        return self.host("address_of")(v.attrs["name"])

    def op_call(self, v: Value, args: list[int]) -> int:
        return self.host("call")(v.attrs["callee"], args)

    def op_hload(self, v: Value, args: list[int]) -> int:
        return self.host("hload")(args[0] + v.attrs["offset"], v.type.total_bits // 8)

    def op_hstore(self, v: Value, args: list[int]) -> int:
        self.host("hstore")(args[0] + v.attrs["offset"], v.args[1].type.total_bits // 8, args[1])
        return 0

    def op_hamo(self, v: Value, args: list[int]) -> int:
        address, size = args[0] + v.attrs["offset"], v.type.bits // 8
        old = self.host("hload")(address, size)
        self.host("hstore")(address, size, _rmw(v.attrs["rmw"], v.type, old, args[1]))
        return old


_Operation = Callable[[_Run, Value, list[int]], int]
_Control = Callable[[_Run, Value, list[int]], Outcome | _Break | None]

_OTHER: dict[str, _Operation] = {
    "splat": lambda run, v, args: v.type.splat(args[0]),
    "lane": _Run.op_lane,
    "with_lane": _Run.op_with_lane,
    "shuffle": _Run.op_shuffle,
    "fp_flags": lambda run, v, args: run.machine.fp_flags,
    "fp_setflags": _Run.op_fp_setflags,
    "fp_raise": _Run.op_fp_raise,
    "fp_rm": lambda run, v, args: run.machine.fp_rm,
    "fp_setrm": _Run.op_fp_setrm,
    "rounding": lambda run, v, args: run.machine.fp_rm & ROUNDING if args[0] == ENV else args[0],
    "get": lambda run, v, args: run.machine.get(v.attrs["slot"], args[0] if args else 0),
    "set": _Run.op_set,
    "pc": lambda run, v, args: run.machine.pc,
    "next_pc": lambda run, v, args: run.machine.next_pc,
    "instret": lambda run, v, args: run.machine.instret,
    "ticks": lambda run, v, args: run.machine.ticks,
    "load": _Run.op_load,
    "store": _Run.op_store,
    "amo": _Run.op_amo,
    "cmpxchg": _Run.op_cmpxchg,
    "fence": lambda run, v, args: 0,
    "probe": _Run.op_probe,
    "local": _Run.op_local,
    "hload": _Run.op_hload,
    "hstore": _Run.op_hstore,
    "hamo": _Run.op_hamo,
    "address_of": _Run.op_address_of,
    "call": _Run.op_call,
}

_CONTROL: dict[str, _Control] = {
    "if": _Run.op_if,
    "loop": _Run.op_loop,
    "break_if": lambda run, v, args: _BREAK if args[0] else None,
    "jump": lambda run, v, args: Outcome(args[0]),
    "branch": _Run.op_branch,
    "indirect": lambda run, v, args: Outcome(args[0]),
    "exit": _Run.op_exit,
    "tailcall": _Run.op_tailcall,
    "ret": lambda run, v, args: Outcome(args=tuple(args)),
}
