"""Advanced SIMD: permutations, extracts, table lookups (Arm ARM, C4.1.96)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.isa.aarch64.operands import VD, Small, V, insn
from polyvm.isa.aarch64.simd import B16, BHSD, B, lanes_of, read, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.aarch64.simd import Arrangement

    # the lanes of the result, of which the second register's count from `step`
    Order = Callable[[int, int], list[int]]


def _permutation(name: str, opcode: str, a: Arrangement, order: Order) -> None:
    lanes = order(a.lanes, a.type.lanes)
    lanes += lanes[: a.type.lanes - len(lanes)]  # of those that do not count

    @insn(f"0 {a.q} 001110 {a.size} 0 vm:5 0 {opcode} 10 vn:5 vd:5", ext="AdvSIMD", name=f"{name}_{a}",
          asm=f"{name} {{vd}}.{a}, {{vn}}.{a}, {{vm}}.{a}")  # fmt: skip
    def permute(b: A64, vd: VD, vn: V, vm: V) -> None:
        write(b, vd, b.shuffle(read(b, vn, a.type), read(b, vm, a.type), lanes), a.keep)


def _unzip(start: int) -> Order:
    return lambda n, step: [*range(start, n, 2), *range(step + start, step + n, 2)]


def _transpose(start: int) -> Order:
    return lambda n, step: [i + start + j for i in range(0, n, 2) for j in (0, step)]


def _zip(upper: int) -> Order:
    return lambda n, step: [i + upper * (n // 2) + j for i in range(n // 2) for j in (0, step)]


for _a in BHSD:
    for _part in (0, 1):
        _permutation(f"uzp{_part + 1}", f"{_part}01", _a, _unzip(_part))
        _permutation(f"trn{_part + 1}", f"{_part}10", _a, _transpose(_part))
        _permutation(f"zip{_part + 1}", f"{_part}11", _a, _zip(_part))


_BYTES = sum(i << 8 * i for i in range(16))


@insn("0 0 101110 00 0 vm:5 0 0 place:3 0 vn:5 vd:5", ext="AdvSIMD", name="ext_8b",
      asm="ext {vd}.8b, {vn}.8b, {vm}.8b, {place}")  # fmt: skip
def ext_8b(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
    both = b.shuffle(read(b, vn, lanes_of(64)), read(b, vm, lanes_of(64)), [0, 2]).bitcast(B16.type)
    write(b, vd, b.tbl(both, b.const(B16.type, _BYTES) + b.splat(place, 16)), 64)


@insn("0 1 101110 00 0 vm:5 0 place:4 0 vn:5 vd:5", ext="AdvSIMD", name="ext_16b",
      asm="ext {vd}.16b, {vn}.16b, {vm}.16b, {place}")  # fmt: skip
def ext_16b(b: A64, vd: VD, vn: V, vm: V, place: Small) -> None:
    n, m = read(b, vn, B16.type), read(b, vm, B16.type)
    if place.is_const:
        result = b.shuffle(n, m, range(place.bits, place.bits + 16))
    else:
        index = b.const(B16.type, _BYTES) + b.splat(place, 16)
        result = b.tbl(n, index) | b.tbl(m, index - 16)
    write(b, vd, result)


def _lookup(name: str, count: int, op: str, a: Arrangement) -> None:
    registers = f"{{vn:list{count}_16b}}"

    @insn(f"0 {a.q} 001110 00 0 vm:5 0 {count - 1:02b} {op} 00 vn:5 vd:5", ext="AdvSIMD", name=f"{name}_{count}_{a}",
          asm=f"{name} {{vd}}.{a}, {registers}, {{vm}}.{a}")  # fmt: skip
    def lookup(b: A64, vd: VD, vn: V, vm: V) -> None:
        index = read(b, vm, B16.type)
        found = None
        for i in range(count):
            register = vn if i == 0 else (vn + i) & 31
            entry = b.tbl(read(b, register, B16.type), index - 16 * i)
            found = entry if found is None else found | entry
        assert found is not None
        if name == "tbx":
            found = b.select(index.ult(16 * count), found, read(b, vd, B16.type))
        write(b, vd, found, a.keep)


for _a in B:
    for _count in range(1, 5):
        _lookup("tbl", _count, "0", _a)
        _lookup("tbx", _count, "1", _a)

