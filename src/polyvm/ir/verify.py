"""Checks that IR is well formed: what the operation table says of arguments, results and attributes, and that values are
computed before they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.errors import VerifyError
from polyvm.ir.aes import STEPS
from polyvm.ir.ops import OPS
from polyvm.ir.types import I1, I8, I64

if TYPE_CHECKING:
    from polyvm.ir.state import StateLayout
    from polyvm.ir.value import Region, Value

_TERMINATORS = frozenset(("jump", "branch", "indirect", "exit", "ret", "tailcall"))
_INPUTS = frozenset(("const", "operand", "param"))
_LANES = frozenset((
    "select", "splat", "lane", "with_lane", "shuffle", "tbl", *STEPS, "zext", "sext", "trunc",
    "f2f", "f2si", "f2ui", "si2f", "ui2f",
))  # fmt: skip
_OPTIONAL = frozenset(("name", "hint", "callee", "rules", "silent", "inner"))


def verify(region: Region, layout: StateLayout) -> None:
    """Raise VerifyError at the first defect of `region`, whose registers are those of `layout`."""
    _Verifier(layout).region(region, set(), in_loop=False)


class _Verifier:
    def __init__(self, layout: StateLayout) -> None:
        self.layout = layout

    def region(self, region: Region, known: set[int], *, in_loop: bool) -> None:
        """`known` are the values that are computed before."""
        ended = ""
        for value in region.ops:
            if ended:
                raise VerifyError(f"{value.op} follows {ended}, which ends the body")
            if value.op in _INPUTS:
                raise VerifyError(f"{value.op} is an input, not an operation in order")
            self._operation(value, known, in_loop=in_loop)
            if OPS[value.op].result != "none":
                known.add(id(value))
            if value.op in _TERMINATORS:
                ended = value.op

    def _operation(self, value: Value, known: set[int], *, in_loop: bool) -> None:
        spec = OPS.get(value.op)
        if spec is None:
            raise VerifyError(f"there is no operation {value.op}")
        for attr in spec.attrs:
            if attr not in value.attrs and attr not in _OPTIONAL:
                raise VerifyError(f"{value.op} lacks the attribute {attr}")
        for arg in value.args:
            if arg.op not in _INPUTS and id(arg) not in known:
                raise VerifyError(f"{value.op} uses a {arg.op} that is not computed before it")
        self._arguments(value, spec.args)
        self._result(value, spec.result)
        if spec.touches == "s" and "slot" in spec.attrs:
            self._slot(value)
        if value.op == "if":
            for key in ("then", "else"):
                self.region(value.attrs[key], set(known), in_loop=in_loop)
        elif value.op == "loop":
            self.region(value.attrs["body"], set(known), in_loop=True)
        elif value.op == "break_if" and not in_loop:
            raise VerifyError("break_if is not inside a loop")
        elif value.op in ("local_get", "local_set") and (not value.args or value.args[0].op != "local"):
            raise VerifyError(f"{value.op} needs a local")

    def _arguments(self, value: Value, kinds: str) -> None:
        if kinds == "*":
            return
        if len(value.args) != len(kinds):
            raise VerifyError(f"{value.op} takes {len(kinds)} arguments, not {len(value.args)}")
        first = value.args[0].type if value.args else I64
        previous = first
        for kind, arg in zip(kinds, value.args, strict=True):
            type_ = arg.type
            good = {
                "i": type_.is_int, "f": type_.is_float, "a": True, "c": type_.element is I1, "p": type_ is I64,
                "m": type_ is I8,
            }.get(kind)  # fmt: skip
            if good is None:  # a capital: the type of the argument that has the small letter
                good = type_ is (previous if value.op in ("select", "cmpxchg") else first)
            if not good:
                raise VerifyError(f"{value.op} does not take an argument of type {type_}")
            previous = type_

    def _lanes(self, value: Value) -> None:
        """What the table cannot say of operations on vectors."""
        first, types = value.args[0].type, [a.type for a in value.args]
        if value.op == "select":
            good = first.lanes in (1, value.type.lanes)
        elif value.op == "splat":
            good = first.lanes == 1 and value.type.element is first
        elif value.op in ("lane", "with_lane"):
            index = value.args[-1]
            good = first.lanes > 1 and index.type.lanes == 1 and (not index.is_const or index.bits < first.lanes)
            good = good and (value.type if value.op == "lane" else types[1]) is first.element
        elif value.op == "shuffle":
            lanes: tuple[int, ...] = value.attrs["lanes"]
            good = value.type is first.element.vector(len(lanes)) and all(0 <= lane < 2 * first.lanes for lane in lanes)
        elif value.op == "tbl" or value.op in STEPS:
            good = first.lanes == 16 and first.bits == 8
        else:
            good = value.type.lanes == first.lanes
        if not good:
            raise VerifyError(f"{value.op} of {', '.join(str(t) for t in types)} cannot have type {value.type}")

    def _result(self, value: Value, rule: str) -> None:
        if rule == "same" and value.type is not value.args[0].type:
            raise VerifyError(f"{value.op} of {value.args[0].type} cannot have type {value.type}")
        if rule == "arg1" and value.type is not value.args[1].type:
            raise VerifyError(f"{value.op} of {value.args[1].type} cannot have type {value.type}")
        if rule == "bool" and (value.type.element is not I1 or value.type.lanes != value.args[0].type.lanes):
            raise VerifyError(f"{value.op} has one i1 for each lane, not {value.type}")
        if value.op in _LANES:
            self._lanes(value)
        if value.op in ("zext", "sext", "trunc", "bitcast"):
            self._conversion(value)

    def _conversion(self, value: Value) -> None:
        old, new = value.args[0].type, value.type
        good = {"trunc": new.bits < old.bits, "bitcast": new.total_bits == old.total_bits}.get(value.op, new.bits > old.bits)
        if not good:
            raise VerifyError(f"cannot {value.op} {old} to {new}")

    def _slot(self, value: Value) -> None:
        name = value.attrs["slot"]
        if name not in self.layout.slots:
            raise VerifyError(f"{self.layout.name} has no register file {name}")
        slot = self.layout[name]
        type_ = value.type if value.op == "get" else value.args[-1].type
        if type_ is not slot.type:
            raise VerifyError(f"{value.op} of {name} has type {type_}, the registers are {slot.type}")
        index = value.args[0] if len(value.args) == (1 if value.op == "get" else 2) else None
        if index is not None and index.is_const and index.bits >= slot.count:
            raise VerifyError(f"{name} has {slot.count} registers, there is none {index.bits}")
