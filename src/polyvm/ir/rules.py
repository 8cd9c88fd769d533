"""Rewrite rules as rows: the builder applies them as it goes.

Each row: operation, pattern of the second argument, result. The equation stands above it. ``x`` is the first
argument, ``y`` the second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from polyvm.ir.value import Value

if TYPE_CHECKING:
    from polyvm.ir.builder import Builder
    from polyvm.ir.types import Type

Rule = tuple[str, str, Callable[["Builder", Value, Value], Value]]

COMMUTATIVE = frozenset({"add", "mul", "and", "or", "xor", "eq", "ne", "clmul"})


def _always(b: Builder, x: Value) -> Value:
    return b.const(x.type.compared, -1)


def _never(b: Builder, x: Value) -> Value:
    return b.const(x.type.compared, 0)


ROWS: list[Rule] = [
    # x + 0 = x
    ("add", "0", lambda b, x, y: x),
    # x - 0 = x
    ("sub", "0", lambda b, x, y: x),
    # x - x = 0
    ("sub", "x", lambda b, x, y: b.const(x.type, 0)),
    # x * 0 = 0
    ("mul", "0", lambda b, x, y: y),
    # x * 1 = x
    ("mul", "1", lambda b, x, y: x),
    # x & 0 = 0
    ("and", "0", lambda b, x, y: y),
    # x & ~0 = x
    ("and", "-1", lambda b, x, y: x),
    # x & x = x
    ("and", "x", lambda b, x, y: x),
    # x | 0 = x
    ("or", "0", lambda b, x, y: x),
    # x | ~0 = ~0
    ("or", "-1", lambda b, x, y: y),
    # x | x = x
    ("or", "x", lambda b, x, y: x),
    # x ^ 0 = x
    ("xor", "0", lambda b, x, y: x),
    # x ^ x = 0
    ("xor", "x", lambda b, x, y: b.const(x.type, 0)),
    # x << 0 = x
    ("shl", "0", lambda b, x, y: x),
    # x >> 0 = x, unsigned
    ("lshr", "0", lambda b, x, y: x),
    # x >> 0 = x, signed
    ("ashr", "0", lambda b, x, y: x),
    # x = x
    ("eq", "x", lambda b, x, y: _always(b, x)),
    # x != x never
    ("ne", "x", lambda b, x, y: _never(b, x)),
    # x < x never
    ("ult", "x", lambda b, x, y: _never(b, x)),
    # x < x never, signed
    ("slt", "x", lambda b, x, y: _never(b, x)),
    # x <= x always
    ("ule", "x", lambda b, x, y: _always(b, x)),
    # x <= x always, signed
    ("sle", "x", lambda b, x, y: _always(b, x)),
    # x < 0 never, unsigned
    ("ult", "0", lambda b, x, y: _never(b, x)),
]

_BY_OP: dict[str, list[tuple[str, Callable[[Builder, Value, Value], Value]]]] = {}
for _op, _pattern, _result in ROWS:
    _BY_OP.setdefault(_op, []).append((_pattern, _result))


def _matches(pattern: str, x: Value, y: Value) -> bool:
    if pattern == "x":
        return x is y
    return y.op == "const" and y.bits == y.type.splat(int(pattern))


def simplify(b: Builder, op: str, type_: Type, args: tuple[Value, ...]) -> Value | None:
    """A simpler value equal to ``op(*args)``, or None."""
    if op == "select":
        cond, x, y = args
        # select(1, x, y) = x; select(0, x, y) = y; select(c, x, x) = x
        if cond.op == "const" and cond.bits in (0, cond.type.splat(1)):
            return x if cond.bits else y
        return x if x is y else None
    if op in ("trunc", "bitcast") and args[0].op in ("zext", "sext", "bitcast"):
        inner, outer = args[0].args[0], args[0].op
        # trunc(extend(x)) = x at the same width, extend(x) or trunc(x) at another; bitcast(bitcast(x)) = x or bitcast(x)
        if op == "bitcast":
            return b.convert("bitcast", inner, type_) if outer == "bitcast" else None
        if outer == "bitcast":
            return None
        return b.convert("trunc" if inner.type.bits > type_.bits else outer, inner, type_)
    if len(args) != 2:
        return None
    x, y = args
    if op in COMMUTATIVE and x.op == "const" and y.op != "const":
        return b.binary(op, y, x)
    for pattern, result in _BY_OP.get(op, ()):
        if _matches(pattern, x, y):
            return result(b, x, y)
    return None
