"""Vectors: the builder's folding, the evaluator and LLVM agree with lanes worked out one by one."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyvm.codegen.evaluator import evaluate
from polyvm.codegen.llvm import Emitter
from polyvm.codegen.llvm_module import ModuleText
from polyvm.codegen.native import compile_object
from polyvm.codegen.objects import LoadedObject
from polyvm.errors import IrError, VerifyError
from polyvm.ir import F32, I1, I8, I16, I32, I64, I128, Builder, StateLayout, Type
from polyvm.ir.text import parse_region, print_region
from polyvm.ir.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.ir import Value

LAYOUT = StateLayout("test", [("v", I128, 4)])
VECTORS = [t.vector(total // t.bits) for total in (64, 128) for t in (I8, I16, I32, I64) if t.bits < total]


def _signed(bits: int, x: int) -> int:
    return x - (1 << bits) if x >> (bits - 1) else x


def _clamp(x: int, low: int, high: int) -> int:
    return low if x < low else high if x > high else x


# What each operation does to lanes of `n` bits, as the Arm and Intel manuals describe such instructions.
BINARY: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda n, x, y: x + y,
    "sub": lambda n, x, y: x - y,
    "mul": lambda n, x, y: x * y,
    "and": lambda n, x, y: x & y,
    "or": lambda n, x, y: x | y,
    "xor": lambda n, x, y: x ^ y,
    "shl": lambda n, x, y: x << y % n,
    "lshr": lambda n, x, y: x >> y % n,
    "ashr": lambda n, x, y: _signed(n, x) >> y % n,
    "rotl": lambda n, x, y: x << y % n | x >> n - y % n,
    "rotr": lambda n, x, y: x >> y % n | x << n - y % n,
    "uadd_sat": lambda n, x, y: _clamp(x + y, 0, (1 << n) - 1),
    "usub_sat": lambda n, x, y: _clamp(x - y, 0, (1 << n) - 1),
    "sadd_sat": lambda n, x, y: _clamp(_signed(n, x) + _signed(n, y), -(1 << n - 1), (1 << n - 1) - 1),
    "ssub_sat": lambda n, x, y: _clamp(_signed(n, x) - _signed(n, y), -(1 << n - 1), (1 << n - 1) - 1),
    "clmul": lambda n, x, y: _carryless(x, y),
    "clmulh": lambda n, x, y: _carryless(x, y) >> n,
    "eq": lambda n, x, y: -(x == y),
    "ne": lambda n, x, y: -(x != y),
    "ult": lambda n, x, y: -(x < y),
    "ule": lambda n, x, y: -(x <= y),
    "slt": lambda n, x, y: -(_signed(n, x) < _signed(n, y)),
    "sle": lambda n, x, y: -(_signed(n, x) <= _signed(n, y)),
    "umax": lambda n, x, y: max(x, y),
    "smin": lambda n, x, y: min(x, y, key=lambda z: _signed(n, z)),
}
UNARY: dict[str, Callable[[int, int], int]] = {
    "clz": lambda n, x: n - len(f"{x:b}") if x else n,
    "ctz": lambda n, x: f"{x:0{n}b}"[::-1].find("1") if x else n,
    "popcount": lambda n, x: f"{x:b}".count("1"),
    "bitreverse": lambda n, x: int(f"{x:0{n}b}"[::-1], 2),
    "bswap": lambda n, x: int.from_bytes(x.to_bytes(n // 8, "big"), "little"),
    "abs": lambda n, x: abs(_signed(n, x)),
    "neg": lambda n, x: -x,
    "not": lambda n, x: ~x,
}


def _carryless(x: int, y: int) -> int:
    return sum(1 << k for k in range(128) if sum(x >> i & y >> k - i & 1 for i in range(k + 1)) & 1)


def _masked(b: Builder, op: str, x: Value, y: Value) -> Value:
    if op in ("shl", "lshr", "ashr"):
        y = y & (x.type.bits - 1)
    result: Value = getattr(x, op)(y) if op in ("umax", "smin") else b.binary(op, x, y)
    return result.sext(x.type) if result.type.element is I1 else result


def _one(b: Builder, op: str, x: Value) -> Value:
    return {"abs": x.abs, "neg": x.__neg__, "not": x.__invert__}.get(op, lambda: b.unary(op, x))()


Build = "Callable[[Builder, Value, Value], Value]"
CASES: dict[str, tuple[Type, Build, Callable[[list[int], list[int]], list[int]], Type]] = {}


def _case(name: str, type_: Type, build: Build, meaning: Callable[[list[int], list[int]], list[int]], out: Type | None = None) -> None:
    CASES[f"{name}_{type_}"] = type_, build, meaning, out or type_


def _cases() -> None:
    for t in VECTORS:
        n = t.bits
        for op, lane in BINARY.items():
            _case(op, t, lambda b, x, y, op=op: _masked(b, op, x, y),
                  lambda x, y, n=n, lane=lane: [lane(n, i, j) for i, j in zip(x, y, strict=True)])  # fmt: skip
        for op, single in UNARY.items():
            if (op, n) != ("bswap", 8):
                _case(op, t, lambda b, x, y, op=op: _one(b, op, x), lambda x, y, n=n, single=single: [single(n, i) for i in x])
        _case("splat", t, lambda b, x, y, t=t: b.splat(x.lane(1), t.lanes), lambda x, y: [x[1]] * len(x))
        _case("pick", t, lambda b, x, y, t=t: x.with_lane(y.lane(0).trunc(I8) & (t.lanes - 1) if t.bits > 8 else y.lane(0) & (t.lanes - 1), y.lane(1)),
              lambda x, y: [y[1] if i == y[0] % len(x) else x[i] for i in range(len(x))])  # fmt: skip
        _case("at", t, lambda b, x, y, t=t: b.splat(x.lane(y.lane(0).zext(I64) & (t.lanes - 1) if t.bits < 64 else y.lane(0) & (t.lanes - 1)), t.lanes),
              lambda x, y: [x[y[0] % len(x)]] * len(x))  # fmt: skip
        zipped = [i // 2 + (t.lanes if i & 1 else 0) for i in range(t.lanes)]
        _case("zip", t, lambda b, x, y, zipped=zipped: b.shuffle(x, y, zipped), lambda x, y, zipped=zipped: [(x + y)[i] for i in zipped])
        _case("choose", t, lambda b, x, y: b.select(x.ult(y), y ^ 5, x + 1),
              lambda x, y: [j ^ 5 if i < j else i + 1 for i, j in zip(x, y, strict=True)])  # fmt: skip
        _case("whole", t, lambda b, x, y: b.select(x.lane(0).ult(y.lane(0)), x, y), lambda x, y: x if x[0] < y[0] else y)
        if n < 64:
            wide = Type("int", 2 * n, t.lanes)
            if wide.total_bits <= 128:
                _case("zext", t, lambda b, x, y, w=wide: x.zext(w), lambda x, y: x, wide)
                _case("sext", t, lambda b, x, y, w=wide: x.sext(w), lambda x, y, n=n: [_signed(n, i) for i in x], wide)
        if n > 8:
            half = Type("int", n // 2, t.lanes)
            _case("trunc", t, lambda b, x, y, h=half: x.trunc(h), lambda x, y: x, half)
        scalar = Type("int", t.total_bits)
        _case("bits", t, lambda b, x, y, t=t, s=scalar: (x.bitcast(s) + 1).bitcast(t), lambda x, y, t=t: t.split(t.join(x) + 1))
    bytes_ = I8.vector(16)
    _case("tbl", bytes_, lambda b, x, y: b.tbl(x, y), lambda x, y: [x[i] if i < 16 else 0 for i in y])


_cases()


def _function(name: str) -> Builder:
    type_, build, _, out = CASES[name]
    b = Builder(LAYOUT)
    x, y, place = (b.emit("param", I64, index=i) for i in range(3))
    b.hstore(place, build(b, b.hload(x, type_), b.hload(y, type_)))
    b.ret(b.const(I64, out.total_bits))
    return b


@lru_cache(maxsize=1)
def _compiled() -> tuple[LoadedObject, dict[str, Callable[[int, int, int], int]]]:
    module = ModuleText()
    for name in CASES:
        emitter = Emitter(module, f"t_{name}", [I64, I64, I64], I64)
        emitter.region(_function(name).body)
        emitter.finish()
    loaded = LoadedObject(compile_object(module.text()))
    prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 3)
    return loaded, {name[2:]: prototype(address) for name, address in loaded.symbols.items() if name.startswith("t_")}


class _Memory:
    """A machine with three places of host memory, 0, 1 and 2, which are the parameters."""

    pc = next_pc = instret = ticks = fp_flags = fp_rm = 0

    def __init__(self, x: int, y: int) -> None:
        self.places = [x, y, 0]

    def param(self, index: int) -> int:
        return index

    def hload(self, address: int, size: int) -> int:
        return self.places[address] & (1 << 8 * size) - 1

    def hstore(self, address: int, size: int, value: int) -> None:
        self.places[address] = value


_BYTE = st.one_of(st.sampled_from([0, 0, 1, 2, 7, 15, 16, 0x7F, 0x80, 0x81, 0xFF, 0xFF]), st.integers(0, 255))
_VALUE = st.lists(_BYTE, min_size=16, max_size=16).map(lambda b: int.from_bytes(bytes(b), "little"))


@settings(max_examples=40, deadline=None)
@given(x=_VALUE, y=_VALUE)
def test_lanes(x: int, y: int) -> None:
    """Folding, evaluator and machine code give each lane what the manuals say."""
    _, functions = _compiled()
    for name, (type_, build, meaning, out) in CASES.items():
        total = (1 << type_.total_bits) - 1
        a, c = x & total, y & total
        expected = out.join(meaning(type_.split(a), type_.split(c)))
        b = Builder(LAYOUT)
        folded = build(b, b.const(type_, a), b.const(type_, c))
        assert folded.is_const, name
        assert folded.bits == expected, (name, hex(a), hex(c))
        machine = _Memory(a, c)
        evaluate(_function(name).body, machine, {})  # type: ignore[arg-type]
        assert machine.places[2] == expected, (name, hex(a), hex(c))
        places = [ctypes.create_string_buffer(p.to_bytes(16, "little"), 16) for p in (a, c, 0)]
        functions[name](*[ctypes.addressof(p) for p in places])
        assert int.from_bytes(places[2].raw, "little") == expected, (name, hex(a), hex(c))


@pytest.mark.parametrize("name", CASES)
def test_text(name: str) -> None:
    """Vector operations verify, and survive printing and parsing."""
    region = _function(name).body
    verify(region, LAYOUT)
    again = parse_region(print_region(region), LAYOUT)
    verify(again, LAYOUT)
    assert print_region(again) == print_region(region)


def test_numbers_beside_vectors_are_splats() -> None:
    """A plain number beside a vector stands in each lane."""
    b = Builder(LAYOUT)
    assert (b.const(I16.vector(4), 0) + 3).bits == 0x0003_0003_0003_0003
    assert (7 - b.const(I32.vector(2), 0)).bits == 0x0000_0007_0000_0007


@pytest.mark.parametrize(
    "make",
    [
        lambda b: b.lane(b.const(I8.vector(8), 0), 8),
        lambda b: b.shuffle(b.const(I8.vector(8), 0), 0, [16]),
        lambda b: b.const(I8.vector(8), 0).zext(I16),
        lambda b: b.const(I32.vector(4), 0) + b.const(I32, 0),
        lambda b: b.select(b.const(I1.vector(2), 0), b.const(I32.vector(4), 0), 0),
    ],
)
def test_shapes_are_checked_as_they_are_built(make: Callable[[Builder], Value]) -> None:
    """Lanes that are not there and shapes that do not fit are refused."""
    with pytest.raises(IrError):
        make(Builder(LAYOUT))


@pytest.mark.parametrize(
    ("op", "type_", "args", "attrs"),
    [
        ("lane", I8, (I8.vector(4), I64), {}),
        ("splat", I8.vector(4), (I16,), {}),
        ("with_lane", I8.vector(4), (I8.vector(4), I16, I64), {}),
        ("shuffle", I8.vector(4), (I8.vector(4), I8.vector(4)), {"lanes": (0, 8, 1, 2)}),
        ("tbl", I8.vector(8), (I8.vector(8), I8.vector(8)), {}),
        ("f2si", I32, (F32.vector(2), I8), {}),
    ],
)
def test_verifier_knows_shapes(op: str, type_: Type, args: tuple[Type, ...], attrs: dict[str, object]) -> None:
    """The verifier refuses vector operations whose types or lane numbers do not fit."""
    b = Builder(LAYOUT)
    b.emit(op, type_, tuple(b.const(t, 9 if t is I64 else 0) for t in args), **attrs)
    with pytest.raises(VerifyError):
        verify(b.body, LAYOUT)
