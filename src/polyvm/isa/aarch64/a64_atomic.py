"""Atomic and ordered loads and stores of general registers (Arm ARM, C4.1.94): exclusives, LSE, LRCPC.

An exclusive monitor is the address and the value that were loaded; a store-exclusive compares and exchanges. Read-modify-writes
are sequentially consistent, which satisfies every ordering. Addresses must be aligned (there is no LSE2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I8, I16, I32, I64, I128, Type
from polyvm.isa.aarch64.operands import XD, XSP, SImm, X, expand, insn
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.insn import Alias

# size field, suffix, letter of the register names, type
WIDTHS: tuple[tuple[str, str, str, Type], ...] = (
    ("00", "b", "w", I8),
    ("01", "h", "w", I16),
    ("10", "", "w", I32),
    ("11", "", "x", I64),
)
NO_MONITOR = -1


def _address(b: A64, rn: Value, type_: Type, access: int) -> Value:
    address = b.x(rn)
    b.require_aligned(address, type_.bits // 8, access)
    return address


# Exclusives.


def _monitor(b: A64, address: Value, *values: Value) -> None:
    b.set("res_addr", address)
    for index, value in enumerate(values):
        b.set("res_value", value, index)


def _exchange(b: A64, rs: Value, address: Value, new: Value) -> None:
    """Store `new` where the monitor has `address`, and memory what was loaded; `rs` becomes 0 if so, else 1."""
    type_ = new.type
    failed = b.local(b.const(I64, 1))
    with b.if_(b.get("res_addr").eq(address)):
        if type_ is I128:
            expected = _joined(b.get("res_value", 0), b.get("res_value", 1))
        else:
            expected = b.get("res_value", 0).trunc(type_)
        failed.set(b.cmpxchg(address, expected, new, "seqcst").ne(expected).zext(I64))
    b.set("res_addr", NO_MONITOR)
    b.set_x(rs, failed.get())


def _joined(low: Value, high: Value) -> Value:
    """Two registers of the same type as one of twice the width."""
    wide = I128 if low.type is I64 else I64
    return low.zext(wide) | high.zext(wide) << low.type.bits


def _exclusives(size: str, suffix: str, r: str, type_: Type) -> None:
    head = f"{size} 001000"
    for o0, load, store in (("0", "ldxr", "stxr"), ("1", "ldaxr", "stlxr")):
        _exclusive(head, o0, load + suffix, store + suffix, r, type_)


def _exclusive(head: str, o0: str, load: str, store: str, r: str, type_: Type) -> None:
    @insn(f"{head} 0 1 0 _:5 {o0} _:5 rn:5 rt:5", ext="A64", name=f"{load}_{r}", asm=f"{load} {{rt:{r}}}, [{{rn}}]")
    def load_exclusive(b: A64, rt: XD, rn: XSP) -> None:
        address = _address(b, rn, type_, exits.READ)
        value = b.load(address, type_, "seqcst").zext(I64)
        _monitor(b, address, value)
        b.set_x(rt, value)

    @insn(f"{head} 0 0 0 rs:5 {o0} _:5 rn:5 rt:5", ext="A64", name=f"{store}_{r}", asm=f"{store} {{rs:w}}, {{rt:{r}}}, [{{rn}}]")
    def store_exclusive(b: A64, rs: XD, rt: X, rn: XSP) -> None:
        _exchange(b, rs, _address(b, rn, type_, exits.WRITE), b.r(rt, type_))


def _exclusive_pair(sz: str, o0: str, load: str, store: str, r: str, type_: Type) -> None:
    head = f"1 {sz} 001000"
    size = type_.bits // 4

    @insn(f"{head} 0 1 1 _:5 {o0} rt2:5 rn:5 rt:5", ext="A64", name=f"{load}_{r}",
          asm=f"{load} {{rt:{r}}}, {{rt2:{r}}}, [{{rn}}]")  # fmt: skip
    def load_pair(b: A64, rt: XD, rt2: XD, rn: XSP) -> None:
        address = b.x(rn)
        b.require_aligned(address, size, exits.READ)
        if type_ is I32:
            both = b.load(address, I64, "seqcst")
            _monitor(b, address, both)
            low, high = both & 0xFFFF_FFFF, both >> 32
        else:
            b.probe(address, size, "r")  # which is what fast handlers see the alignment by
            low, high = b.load(address, I64, "seqcst"), b.load(address + 8, I64, "seqcst")
            _monitor(b, address, low, high)
        b.set_x(rt, low)
        b.set_x(rt2, high)

    @insn(f"{head} 0 0 1 rs:5 {o0} rt2:5 rn:5 rt:5", ext="A64", name=f"{store}_{r}",
          asm=f"{store} {{rs:w}}, {{rt:{r}}}, {{rt2:{r}}}, [{{rn}}]")  # fmt: skip
    def store_pair(b: A64, rs: XD, rt: X, rt2: X, rn: XSP) -> None:
        address = b.x(rn)
        b.require_aligned(address, size, exits.WRITE)
        _exchange(b, rs, address, _joined(b.r(rt, type_), b.r(rt2, type_)))


# Ordered loads and stores.


def _ordered(size: str, suffix: str, r: str, type_: Type) -> None:
    head = f"{size} 001000"

    @insn(f"{head} 1 1 0 _:5 1 _:5 rn:5 rt:5", ext="A64", name=f"ldar{suffix}_{r}", asm=f"ldar{suffix} {{rt:{r}}}, [{{rn}}]")
    def ldar(b: A64, rt: XD, rn: XSP) -> None:
        b.set_x(rt, b.load(_address(b, rn, type_, exits.READ), type_, "seqcst").zext(I64))

    @insn(f"{head} 1 0 0 _:5 1 _:5 rn:5 rt:5", ext="A64", name=f"stlr{suffix}_{r}", asm=f"stlr{suffix} {{rt:{r}}}, [{{rn}}]")
    def stlr(b: A64, rt: X, rn: XSP) -> None:
        b.store(_address(b, rn, type_, exits.WRITE), b.r(rt, type_), "seqcst")

    expand(f"{head} 1 1 0 _:5 0 _:5 rn:5 rt:5", ldar, ext="LOR", name=f"ldlar{suffix}_{r}",
           asm=f"ldlar{suffix} {{rt:{r}}}, [{{rn}}]", rt="rt", rn="rn")  # fmt: skip
    expand(f"{head} 1 0 0 _:5 0 _:5 rn:5 rt:5", stlr, ext="LOR", name=f"stllr{suffix}_{r}",
           asm=f"stllr{suffix} {{rt:{r}}}, [{{rn}}]", rt="rt", rn="rn")  # fmt: skip

    @insn(f"{size} 111 0 00 101 11111 1 100 00 rn:5 rt:5", ext="LRCPC", name=f"ldapr{suffix}_{r}",
          asm=f"ldapr{suffix} {{rt:{r}}}, [{{rn}}]")  # fmt: skip
    def ldapr(b: A64, rt: XD, rn: XSP) -> None:
        b.set_x(rt, b.load(_address(b, rn, type_, exits.READ), type_, "acq").zext(I64))

    @insn(f"{size} 011001 00 0 imm:9 00 rn:5 rt:5", ext="LRCPC2", name=f"stlur{suffix}_{r}",
          asm=f"stlur{suffix} {{rt:{r}}}, [{{rn}}{{imm:offset}}]")  # fmt: skip
    def stlur(b: A64, rt: X, rn: XSP, imm: SImm) -> None:
        address = b.x(rn) + imm
        b.require_aligned(address, type_.bits // 8, exits.WRITE)
        b.store(address, b.r(rt, type_), "rel")

    _unscaled(size, "01", f"ldapur{suffix}", r, type_, None)
    if type_.bits < 64:
        _unscaled(size, "10", f"ldapurs{suffix or 'w'}", "x", type_, I64)
    if type_.bits < 32:
        _unscaled(size, "11", f"ldapurs{suffix}", "w", type_, I32)


def _unscaled(size: str, opc: str, name: str, r: str, type_: Type, signed: Type | None) -> None:
    @insn(f"{size} 011001 {opc} 0 imm:9 00 rn:5 rt:5", ext="LRCPC2", name=f"{name}_{r}",
          asm=f"{name} {{rt:{r}}}, [{{rn}}{{imm:offset}}]")  # fmt: skip
    def ldapur(b: A64, rt: XD, rn: XSP, imm: SImm) -> None:
        address = b.x(rn) + imm
        b.require_aligned(address, type_.bits // 8, exits.READ)
        value = b.load(address, type_, "acq")
        b.set_r(rt, value.sext(signed) if signed is not None else value)


# LSE: read-modify-writes. What is called a store has no use for the old value.

_ROWS = (
    ("0000", "add", "add"), ("0001", "clr", "and"), ("0010", "eor", "xor"), ("0011", "set", "or"), ("0100", "smax", "max"),
    ("0101", "smin", "min"), ("0110", "umax", "umax"), ("0111", "umin", "umin"), ("1000", "swp", "xchg"),
)  # fmt: skip


def _read_modify_write(bits: str, name: str, rmw: str, size: str, suffix: str, r: str, type_: Type) -> None:
    full = name if name == "swp" else f"ld{name}"
    store: Alias = (f"st{name}{{ar:order}}{suffix} {{rs:{r}}}, [{{rn}}]", lambda w: w & 31 == 31 and not w >> 23 & 1)

    @insn(f"{size} 111 0 00 ar:2 1 rs:5 {bits} 00 rn:5 rt:5", ext="LSE", name=f"{full}{suffix}_{r}",
          asm=f"{full}{{ar:order}}{suffix} {{rs:{r}}}, {{rt:{r}}}, [{{rn}}]",
          aliases=[] if name == "swp" else [store])  # fmt: skip
    def amo(b: A64, rs: X, rt: XD, rn: XSP) -> None:
        value = b.r(rs, type_)
        address = _address(b, rn, type_, exits.WRITE)
        b.set_x(rt, b.amo(rmw, address, ~value if name == "clr" else value, "seqcst").zext(I64))


def _compare_and_swap(size: str, suffix: str, r: str, type_: Type) -> None:
    @insn(f"{size} 001000 1 l:1 1 rs:5 o0:1 11111 rn:5 rt:5", ext="LSE", name=f"cas{suffix}_{r}", bind={"old": "rs"},
          asm=f"cas{{l:acquire}}{{o0:release}}{suffix} {{rs:{r}}}, {{rt:{r}}}, [{{rn}}]")  # fmt: skip
    def cas(b: A64, rs: X, old: XD, rt: X, rn: XSP) -> None:
        address = _address(b, rn, type_, exits.WRITE)
        b.set_x(old, b.cmpxchg(address, b.r(rs, type_), b.r(rt, type_), "seqcst").zext(I64))


def _compare_and_swap_pair(sz: str, r: str, type_: Type) -> None:
    @insn(f"0 {sz} 001000 0 l:1 1 rs[4:1] 0 o0:1 11111 rn:5 rt[4:1] 0", ext="LSE", name=f"casp_{r}",
          bind={"rs2": "rs+1", "old": "rs", "old2": "rs+1", "rt2": "rt+1"},
          asm=f"casp{{l:acquire}}{{o0:release}} {{rs:{r}}}, {{rs2:{r}}}, {{rt:{r}}}, {{rt2:{r}}}, [{{rn}}]")  # fmt: skip
    def casp(b: A64, rs: X, rs2: X, old: XD, old2: XD, rt: X, rt2: X, rn: XSP) -> None:
        address = b.x(rn)
        b.require_aligned(address, type_.bits // 4, exits.WRITE)
        expected = _joined(b.r(rs, type_), b.r(rs2, type_))
        found = b.cmpxchg(address, expected, _joined(b.r(rt, type_), b.r(rt2, type_)), "seqcst")
        b.set_r(old, found.trunc(type_))
        b.set_r(old2, (found >> type_.bits).trunc(type_))


for _size, _suffix, _r, _type in WIDTHS:
    _exclusives(_size, _suffix, _r, _type)
    _ordered(_size, _suffix, _r, _type)
    for _bits, _name, _rmw in _ROWS:
        _read_modify_write(_bits, _name, _rmw, _size, _suffix, _r, _type)
    _compare_and_swap(_size, _suffix, _r, _type)
for _sz, _r, _type in (("0", "w", I32), ("1", "x", I64)):
    _exclusive_pair(_sz, "0", "ldxp", "stxp", _r, _type)
    _exclusive_pair(_sz, "1", "ldaxp", "stlxp", _r, _type)
    _compare_and_swap_pair(_sz, _r, _type)
