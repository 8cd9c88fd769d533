"""Floating point with rules, as machine code: results and flags are those of the arithmetic in integers."""

from __future__ import annotations

import ctypes
import random
from functools import lru_cache
from typing import TYPE_CHECKING

import pytest

from polyvm.codegen.evaluator import evaluate
from polyvm.codegen.llvm import Emitter
from polyvm.codegen.llvm_module import ModuleText
from polyvm.codegen.native import compile_object
from polyvm.codegen.objects import LoadedObject
from polyvm.ir import F16, F32, F64, I8, I64, Builder, StateLayout, Type
from polyvm.ir.ops import DEFAULT_NAN
from polyvm.ir.softfloat import FORMATS, Format
from tests.ir.floats import specials

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.ir import Value

LAYOUT = StateLayout("test", [("v", I64, 1)])
SHAPES = [F16, F32, F64, F16.vector(4), F16.vector(8), F32.vector(2), F32.vector(4), F64.vector(2)]
_CONTROL = (0, 3, 1, 2)  # the host's rounding control for IR modes
_HOST_FLAGS = ((1, 5), (2, 4), (4, 3), (8, 2), (16, 0))

Make = "Callable[[Builder, list[Value], Value], Value]"
CASES: dict[str, tuple[Type, int, Make]] = {}
for _t in SHAPES:
    for _op, _n in (("fadd", 2), ("fsub", 2), ("fmul", 2), ("fdiv", 2), ("fsqrt", 1), ("fma", 3), ("fmin", 2), ("fmax", 2)):
        CASES[f"{_op}_{_t}"] = _t, _n, lambda b, x, rm, op=_op: b.fp(op, *x, rm=rm)
    for _mode in (0, 1, 2, 3, 4, 7):
        CASES[f"frint{_mode}_{_t}"] = _t, 1, lambda b, x, rm, m=_mode: b.frint(x[0], rm if m == 7 else m, exact=m == 7)
        for _bits in (32, 64):
            _to = Type("int", _bits, _t.lanes)
            for _op in ("f2si", "f2ui"):
                CASES[f"{_op}{_mode}_{_t}_{_bits}"] = _t, 1, lambda b, x, rm, op=_op, to=_to, m=_mode: b.fconvert(
                    op, x[0], to, rm if m == 7 else m)  # fmt: skip
    for _to in (F16, F32, F64):
        if _to.bits != _t.bits:
            CASES[f"f2f_{_t}_{_to}"] = _t, 1, lambda b, x, rm, to=_to: b.fconvert("f2f", x[0], Type("float", to.bits, x[0].type.lanes), rm)
    for _op in ("feq", "flt", "fle"):
        for _signaling in (False, True):
            CASES[f"{_op}{int(_signaling)}_{_t}"] = _t, 2, lambda b, x, rm, op=_op, s=_signaling: b.fcompare(
                op, x[0], x[1], signaling=s)  # fmt: skip


class _Native(Emitter):
    """Parameters: addresses of three operands, of the result, of the status register, and the environment's mode."""

    def environment(self) -> str:
        return self.temp("trunc i64 %p5 to i32")

    def op_rounding(self, v: Value) -> None:
        self.set(v, "7")
        self.line("call void @llvm.x86.sse.ldmxcsr(ptr %status) #0")

    def finish(self) -> None:
        self.module.declare("llvm.x86.sse.ldmxcsr", "declare void @llvm.x86.sse.ldmxcsr(ptr)")
        self.module.declare("llvm.x86.sse.stmxcsr", "declare void @llvm.x86.sse.stmxcsr(ptr)")
        self.allocas.append("  %status = inttoptr i64 %p4 to ptr")
        self.lines.insert(-1, "  call void @llvm.x86.sse.stmxcsr(ptr %status) #0")
        super().finish()


def _body(name: str) -> Builder:
    type_, count, make = CASES[name]
    b = Builder(LAYOUT)
    b.fp_rules = "propagate"
    places = [b.emit("param", I64, index=i) for i in range(4)]
    rm = b.rounding(b.const(I8, 7))
    integer = type_.with_kind("int")
    args = [b.hload(p, integer).bitcast(type_) for p in places[:count]]
    result = make(b, args, rm)
    if result.type.bits == 1:
        result = result.zext(Type("int", 8, result.type.lanes))
    b.hstore(places[3], result.bitcast(result.type.with_kind("int")))
    b.ret(b.const(I64, result.type.total_bits))
    return b


@lru_cache(maxsize=1)
def _compiled() -> tuple[LoadedObject, dict[str, Callable[..., int]]]:
    module = ModuleText()
    for name in CASES:
        emitter = _Native(module, f"t_{name}", [I64] * 6, I64)
        emitter.region(_body(name).body)
        emitter.finish()
    loaded = LoadedObject(compile_object(module.text()))
    prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 6)
    return loaded, {name[2:]: prototype(address) for name, address in loaded.symbols.items() if name.startswith("t_")}


class _Machine:
    pc = next_pc = instret = ticks = fp_flags = 0

    def __init__(self, args: list[int], mode: int) -> None:
        self.places = [*args, *[0] * (4 - len(args))]
        self.fp_rm = mode

    def param(self, index: int) -> int:
        return index

    def hload(self, address: int, size: int) -> int:
        return self.places[address] & (1 << 8 * size) - 1

    def hstore(self, address: int, size: int, value: int) -> None:
        self.places[3] = value


def _operand(f: Format, rng: random.Random) -> int:
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(specials(f))
    if kind < 0.6:  # products and quotients near the smallest normal number
        exponent = rng.choice([f.exponents // 2 // 2, f.exponents // 2 * 3 // 2, f.exponents // 2, 1, 2]) + rng.randrange(-2, 3)
        return max(exponent, 0) << f.mantissa | rng.choice([0, 1, 2, (1 << f.mantissa) - 1, (1 << f.mantissa) - 2]) | rng.choice([0, f.sign])
    return rng.getrandbits(f.bits)


@pytest.mark.parametrize("name", CASES)
def test_machine_code_follows_the_rules(name: str) -> None:
    """NaNs, flags and results are those of the evaluator, in all rounding modes, with and without default NaNs."""
    _, functions = _compiled()
    type_, count, _ = CASES[name]
    rng = random.Random(name)
    f = FORMATS[type_.bits]
    for round_ in range(60):
        args = [type_.join(_operand(f, rng) for _ in range(type_.lanes)) for _ in range(count)]
        for mode in (0, 1, 2, 3, DEFAULT_NAN):
            if mode in (1, 2) and round_ % 3:
                continue
            machine = _Machine(args, mode)
            evaluate(_body(name).body if round_ == 0 and mode == 0 else _cached(name), machine, {})  # type: ignore[arg-type]
            places = [ctypes.create_string_buffer(a.to_bytes(64, "little"), 64) for a in (*args, *[0] * (4 - count))]
            status = ctypes.c_uint32(0x1F80 | _CONTROL[mode & 3] << 13)
            addresses = [*map(ctypes.addressof, places), ctypes.addressof(status)]
            functions[name](*addresses, mode)
            flags = sum(ir for ir, host in _HOST_FLAGS if status.value >> host & 1)
            got = int.from_bytes(places[3].raw, "little")
            assert (hex(got), flags) == (hex(machine.places[3]), machine.fp_flags), (name, mode, [hex(a) for a in args])


@lru_cache
def _cached(name: str) -> object:
    return _body(name).body
