"""Advanced SIMD: three registers, floating point (Arm ARM, C4.1.96), with the scalar forms, pairs, and what goes across lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.isa.aarch64.operands import VD, Small, V, insn
from polyvm.isa.aarch64.simd import D2, H4, H8, S2, S4, even, mask, odd, read
from polyvm.isa.aarch64.simd_float import (
    FLOATS,
    SCALARS,
    arithmetic,
    as_integers,
    as_numbers,
    extended_product,
    extension,
    integers,
    magnitude,
    negated,
    number,
    numbers,
    put,
    reciprocal_step,
    root_step,
    sign,
    wide_halves,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.aarch64.simd import Arrangement
    from polyvm.isa.aarch64.simd_float import Binary


def pattern(a: Arrangement, u: str, o: str, opcode: str) -> str:
    """The encoding of three same; half precision has its own."""
    head = f"01 {u} 11110" if a.scalar else f"0 {a.q} {u} 01110"
    if a.bits == 16:
        return f"{head} {o} 10 vm:5 00 {opcode[2:]} 1 vn:5 vd:5"
    return f"{head} {o} {a.size[1]} 1 vm:5 {opcode} 1 vn:5 vd:5"


def text(name: str, a: Arrangement) -> str:
    """The assembly template of three registers."""
    return f"{name} {a.register('vd')}, {a.register('vn')}, {a.register('vm')}"


def _three(name: str, u: str, o: str, opcode: str, op: Binary, scalars: Iterable[Arrangement] = ()) -> None:
    for a in (*FLOATS, *scalars):
        _same(name, pattern(a, u, o, opcode), a, op)


def _same(name: str, bits: str, a: Arrangement, op: Binary) -> None:
    @insn(bits, ext=extension(a), name=f"{name}_{a}_vector", asm=text(name, a))
    def same(b: A64, vd: VD, vn: V, vm: V) -> None:
        mode = b.fp_mode()
        put(b, vd, op(b, numbers(b, vn, a), numbers(b, vm, a), mode))


def _difference(b: A64, n: Value, m: Value, mode: Value) -> Value:
    return as_numbers(magnitude(b.fp("fsub", n, m, rm=mode)))


def _comparison(op: str, *, signaling: bool, swap: bool, sizes: bool = False) -> Binary:
    """All ones where it holds; `swap` compares m to n, `sizes` the absolute values."""

    def compare(b: A64, n: Value, m: Value, mode: Value) -> Value:
        x, y = (m, n) if swap else (n, m)
        if sizes:
            x, y = as_numbers(magnitude(x)), as_numbers(magnitude(y))
        found = b.fcompare(op, x, y, signaling=signaling)
        return as_numbers(mask(b, found, n.type.with_kind("int")))

    return compare


_three("fmaxnm", "0", "0", "11000", number("fmax"))
_three("fminnm", "0", "1", "11000", number("fmin"))
_three("fadd", "0", "0", "11010", arithmetic("fadd"))
_three("fsub", "0", "1", "11010", arithmetic("fsub"))
_three("fmulx", "0", "0", "11011", extended_product, SCALARS)
_three("fmax", "0", "0", "11110", arithmetic("fmax"))
_three("fmin", "0", "1", "11110", arithmetic("fmin"))
_three("frecps", "0", "0", "11111", reciprocal_step, SCALARS)
_three("frsqrts", "0", "1", "11111", root_step, SCALARS)
_three("fmul", "1", "0", "11011", arithmetic("fmul"))
_three("fdiv", "1", "0", "11111", arithmetic("fdiv"))
_three("fabd", "1", "1", "11010", _difference, SCALARS)
_three("fcmeq", "0", "0", "11100", _comparison("feq", signaling=False, swap=False), SCALARS)
_three("fcmge", "1", "0", "11100", _comparison("fle", signaling=True, swap=True), SCALARS)
_three("fcmgt", "1", "1", "11100", _comparison("flt", signaling=True, swap=True), SCALARS)
_three("facge", "1", "0", "11101", _comparison("fle", signaling=True, swap=True, sizes=True), SCALARS)
_three("facgt", "1", "1", "11101", _comparison("flt", signaling=True, swap=True, sizes=True), SCALARS)


# Sums of products.


def _fused(name: str, o: str, a: Arrangement, *, subtract: bool) -> None:
    @insn(pattern(a, "0", o, "11001"), ext=extension(a), name=f"{name}_{a}_vector", asm=text(name, a))
    def fused(b: A64, vd: VD, vn: V, vm: V) -> None:
        mode = b.fp_mode()
        n = numbers(b, vn, a)
        put(b, vd, b.fp("fma", negated(n) if subtract else n, numbers(b, vm, a), numbers(b, vd, a), rm=mode))


# Pairs of neighbours, of both registers or of one.


def _pairs(name: str, o: str, opcode: str, op: Binary) -> None:
    for a in FLOATS:
        _pairwise(name, pattern(a, "1", o, opcode), a, op)
    for a, source, u in ((H4, "2h", "0"), (S2, "2s", "1"), (D2, "2d", "1")):
        _pair(name, o, opcode, a, source, u, op)


def _pairwise(name: str, bits: str, a: Arrangement, op: Binary) -> None:
    @insn(bits, ext=extension(a), name=f"{name}_{a}_vector", asm=text(name, a))
    def pairwise(b: A64, vd: VD, vn: V, vm: V) -> None:
        mode = b.fp_mode()
        n, m = integers(b, vn, a), integers(b, vm, a)
        put(b, vd, op(b, as_numbers(even(b, n, m)), as_numbers(odd(b, n, m)), mode))


def _pair(name: str, o: str, opcode: str, a: Arrangement, source: str, u: str, op: Binary) -> None:
    letter = source[1]
    size = "0" if a.bits == 16 else a.size[1]
    # Of the opcode only the additions differ from those of vectors.
    code = {"11010": "01101", "11000": "01100", "11110": "01111"}[opcode]

    @insn(f"01 {u} 11110 {o} {size} 11000 {code} 10 vn:5 vd:5", ext=extension(a), name=f"{name}_{letter}_pair",
          asm=f"{name} {{vd:{letter}}}, {{vn}}.{source}")  # fmt: skip
    def pair(b: A64, vd: VD, vn: V) -> None:
        mode = b.fp_mode()
        n = as_numbers(read(b, vn, a.type))
        put(b, vd, op(b, b.lane(n, 0), b.lane(n, 1), mode))


_pairs("faddp", "0", "11010", arithmetic("fadd"))
_pairs("fmaxnmp", "0", "11000", number("fmax"))
_pairs("fminnmp", "1", "11000", number("fmin"))
_pairs("fmaxp", "0", "11110", arithmetic("fmax"))
_pairs("fminp", "1", "11110", arithmetic("fmin"))


def _across(name: str, o: str, opcode: str, op: Binary) -> None:
    for a in (H4, H8, S4):
        _reduction(name, o, opcode, a, op)


def _reduction(name: str, o: str, opcode: str, a: Arrangement, op: Binary) -> None:
    u = "0" if a.bits == 16 else "1"

    @insn(f"0 {a.q} {u} 01110 {o} 0 11000 {opcode} 10 vn:5 vd:5", ext=extension(a), name=f"{name}_{a}",
          asm=f"{name} {{vd:{a.text[-1]}}}, {{vn}}.{a}")  # fmt: skip
    def across(b: A64, vd: VD, vn: V) -> None:
        mode = b.fp_mode()
        n = integers(b, vn, a)
        while n.type.lanes > 1:
            n = as_integers(op(b, as_numbers(even(b, n)), as_numbers(odd(b, n)), mode))
        put(b, vd, n)


_across("fmaxnmv", "0", "01100", number("fmax"))
_across("fminnmv", "1", "01100", number("fmin"))
_across("fmaxv", "0", "01111", arithmetic("fmax"))
_across("fminv", "1", "01111", arithmetic("fmin"))


# By an element.


def indexed(a: Arrangement, u: str, opcode: str) -> str:
    """The encoding: the number of an element and its register share bits."""
    head = f"01 {u} 11111" if a.scalar else f"0 {a.q} {u} 01111"
    size, where = {
        16: ("00", f"place[1:0] vm:4 {opcode} place[2]"),
        32: ("10", f"place[0] vm:5 {opcode} place[1]"),
        64: ("11", f"0 vm:5 {opcode} place:1"),
    }[a.bits]
    return f"{head} {size} {where} 0 vn:5 vd:5"


def template(name: str, a: Arrangement) -> str:
    """The assembly template."""
    return f"{name} {a.register('vd')}, {a.register('vn')}, {{vm}}.{'hsd'[(16, 32, 64).index(a.bits)]}[{{place:index}}]"


def number_element(b: A64, register: Value, place: Value, a: Arrangement) -> Value:
    """An element, in all lanes."""
    found = b.lane(read(b, register, a.type), place)
    return as_numbers(found if a.scalar else b.splat(found, a.lanes))


def _product(name: str, u: str, a: Arrangement, op: Binary) -> None:
    @insn(indexed(a, u, "1001"), ext=extension(a), name=f"{name}_{a}_element", asm=template(name, a))
    def product(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
        mode = b.fp_mode()
        put(b, vd, op(b, numbers(b, vn, a), number_element(b, vm, place, a), mode))


def _fused_element(name: str, opcode: str, a: Arrangement, *, subtract: bool) -> None:
    @insn(indexed(a, "0", opcode), ext=extension(a), name=f"{name}_{a}_element", asm=template(name, a))
    def fused(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
        mode = b.fp_mode()
        n, m = numbers(b, vn, a), number_element(b, vm, place, a)
        put(b, vd, b.fp("fma", negated(n) if subtract else n, m, numbers(b, vd, a), rm=mode))


for _a in FLOATS:
    _fused("fmla", "0", _a, subtract=False)
    _fused("fmls", "1", _a, subtract=True)
for _a in (*FLOATS, *SCALARS):
    _product("fmul", "0", _a, arithmetic("fmul"))
    _product("fmulx", "1", _a, extended_product)
    _fused_element("fmla", "0001", _a, subtract=False)
    _fused_element("fmls", "0101", _a, subtract=True)


# FEAT_FHM: halves, multiplied and added in single precision.


def _half_products(name: str, bits: str, a: Arrangement, upper: bool, subtract: bool) -> None:
    step = f"{2 * int(a.q) + 2}h"

    @insn(bits, ext="FHM", name=f"{name}_{a}", asm=f"{name} {{vd}}.{a}, {{vn}}.{step}, {{vm}}.{step}")
    def products(b: A64, vd: VD, vn: V, vm: V) -> None:
        mode = b.fp_mode()
        n, m = _part(b, vn, a, upper), _part(b, vm, a, upper)
        put(b, vd, b.fp("fma", negated(n) if subtract else n, m, numbers(b, vd, a), rm=mode))


def _part(b: A64, register: Value, a: Arrangement, upper: bool) -> Value:
    halves = read(b, register, H8.type)
    return wide_halves(b, b.shuffle(halves, halves, range(a.lanes * upper, a.lanes * upper + a.lanes)))


def _half_products_element(name: str, bits: str, a: Arrangement, upper: bool, subtract: bool) -> None:
    step = f"{2 * int(a.q) + 2}h"

    @insn(bits, ext="FHM", name=f"{name}_{a}_element", asm=f"{name} {{vd}}.{a}, {{vn}}.{step}, {{vm}}.h[{{place:index}}]")
    def products(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
        mode = b.fp_mode()
        n = _part(b, vn, a, upper)
        m = wide_halves(b, b.splat(b.lane(read(b, vm, H8.type), place), a.lanes))
        put(b, vd, b.fp("fma", negated(n) if subtract else n, m, numbers(b, vd, a), rm=mode))


for _a in (S2, S4):
    for _upper, _u, _opcode in ((False, "0", "11101"), (True, "1", "11001")):
        for _subtract, _name in ((False, "fmlal"), (True, "fmlsl")):
            _called = _name + ("2" if _upper else "")
            _o = str(int(_subtract))
            _half_products(_called, f"0 {_a.q} {_u} 01110 {_o} 0 1 vm:5 {_opcode} 1 vn:5 vd:5", _a, _upper, _subtract)
            _bits = f"0 {_a.q} {_u} 01111 10 place[1:0] vm:4 {_u}{_o}00 place[2] 0 vn:5 vd:5"
            _half_products_element(_called, _bits, _a, _upper, _subtract)


# FEAT_FCMA: pairs of lanes as complex numbers, turned by a multiple of 90 degrees.


def _signs(a: Arrangement, even_lanes: bool, odd_lanes: bool) -> int:
    lane = sign(a.type)
    return a.kept.join(lane if (odd_lanes if i % 2 else even_lanes) else 0 for i in range(a.lanes))


def _swapped(b: A64, n: Value) -> Value:
    return b.shuffle(n, n, [i ^ 1 for i in range(n.type.lanes)])


def _turned_sum(a: Arrangement) -> None:
    @insn(f"0 {a.q} 1 01110 {a.size} 0 vm:5 1 11 turn:1 0 1 vn:5 vd:5", ext="FCMA", name=f"fcadd_{a}",
          asm=f"{text('fcadd', a)}, {{turn:turn180}}")  # fmt: skip
    def fcadd(b: A64, vd: VD, vn: V, vm: V, turn: Small) -> None:
        mode = b.fp_mode()
        m = _swapped(b, integers(b, vm, a))
        by90, by270 = (b.const(m.type, _signs(a, *which)) for which in ((True, False), (False, True)))
        m = m ^ b.select(turn.ne(0), by270, by90)
        put(b, vd, b.fp("fadd", numbers(b, vn, a), as_numbers(m), rm=mode))


def _turned_product(b: A64, d: Value, n: Value, m: Value, turn: Value, a: Arrangement, mode: Value) -> Value:
    """d plus one part of n, of each pair, times m, turned: as integers but for d."""
    lanes = n.type.lanes
    odd_turn = (turn & 1).ne(0)
    part = b.select(odd_turn, b.shuffle(n, n, [i | 1 for i in range(lanes)]), b.shuffle(n, n, [i & ~1 for i in range(lanes)]))
    m = b.select(odd_turn, _swapped(b, m), m)
    none, all_, first, second = (
        b.const(m.type, _signs(a, *which)) for which in ((False, False), (True, True), (True, False), (False, True))
    )
    # 0: none; 90: the first; 180: both; 270: the second.
    signs = b.select(odd_turn, b.select(turn.eq(1), first, second), b.select(turn.eq(2), all_, none))
    return b.fp("fma", as_numbers(part), as_numbers(m ^ signs), d, rm=mode)


def _complex(a: Arrangement) -> None:
    @insn(f"0 {a.q} 1 01110 {a.size} 0 vm:5 1 10 turn:2 1 vn:5 vd:5", ext="FCMA", name=f"fcmla_{a}",
          asm=f"{text('fcmla', a)}, {{turn:turn90}}")  # fmt: skip
    def fcmla(b: A64, vd: VD, vn: V, vm: V, turn: Small) -> None:
        mode = b.fp_mode()
        put(b, vd, _turned_product(b, numbers(b, vd, a), integers(b, vn, a), integers(b, vm, a), turn, a, mode))


def _complex_element(a: Arrangement, bits: str) -> None:
    @insn(bits, ext="FCMA", name=f"fcmla_{a}_element",
          asm=f"fcmla {{vd}}.{a}, {{vn}}.{a}, {{vm}}.{a.text[-1]}[{{place:index}}], {{turn:turn90}}")  # fmt: skip
    def fcmla(b: A64, vd: VD, vn: V, vm: V, place: Small, turn: Small) -> None:
        mode = b.fp_mode()
        pairs = read(b, vm, S4.type if a.bits == 16 else D2.type)
        m = b.splat(b.lane(pairs, place), pairs.type.lanes).bitcast(a.type)
        m = m if a.keep == 128 else b.shuffle(m, m, range(a.lanes))
        put(b, vd, _turned_product(b, numbers(b, vd, a), integers(b, vn, a), m, turn, a, mode))


for _a in FLOATS:
    _turned_sum(_a)
    _complex(_a)
_complex_element(H4, "0 0 1 01111 01 place:1 vm:5 0 turn:2 1 0 0 vn:5 vd:5")
_complex_element(H8, "0 1 1 01111 01 place[0] vm:5 0 turn:2 1 place[1] 0 vn:5 vd:5")
_complex_element(S4, "0 1 1 01111 10 0 vm:5 0 turn:2 1 place:1 0 vn:5 vd:5")
