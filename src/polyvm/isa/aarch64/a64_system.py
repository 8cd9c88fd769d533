"""Hints, barriers, cache maintenance and system registers at EL0 (Arm ARM, C4.1.93).

Pointer authentication and branch targets are not implemented: their hints do nothing, as on a processor without them, and the
instructions that are no hints are illegal. Memory is coherent and code decoded anew where it changes: cache maintenance only
has to fault where the line cannot be accessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.ir import I64
from polyvm.isa.aarch64.features import ID_REGISTERS
from polyvm.isa.aarch64.flags import Bits
from polyvm.isa.aarch64.operands import XD, X, expand, insn
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64

LINE = 64  # bytes that dc zva zeroes
CTR = 0xB444_C004  # lines of 64 bytes, coherent without maintenance (IDC, DIC)
DCZID = 4  # log2 of dc zva's words


@insn("1101010100 0 00 011 0010 hint:7 11111", ext="A64", asm="{hint:hint}", name="hint")
def hint(b: A64) -> None:
    pass


# Barriers. The domain does not matter.


@insn("1101010100 0 00 011 0011 crm:4 101 11111", ext="A64", asm="dmb {crm:barrier}")
def dmb(b: A64) -> None:
    b.fence()


@insn("1101010100 0 00 011 0011 crm:4 101 11111", ext="A64", name="dmb_load", asm="dmb {crm:barrier}",
      where={"crm": "& 3 == 1"}, overrides="dmb")  # fmt: skip
def dmb_load(b: A64) -> None:
    b.fence("acq")


@insn("1101010100 0 00 011 0011 crm:4 101 11111", ext="A64", name="dmb_store", asm="dmb {crm:barrier}",
      where={"crm": "& 3 == 2"}, overrides="dmb")  # fmt: skip
def dmb_store(b: A64) -> None:
    b.fence("rel")


expand("1101010100 0 00 011 0011 crm:4 100 11111", dmb, ext="A64", name="dsb", asm="dsb {crm:barrier}",
       aliases=[("ssbb", lambda w: w >> 8 & 15 == 0), ("pssbb", lambda w: w >> 8 & 15 == 4)])  # fmt: skip
expand("1101010100 0 00 011 0011 0000 111 11111", hint, ext="SB", asm="sb")


@insn("1101010100 0 00 011 0011 crm:4 110 11111", ext="A64", name="isb", asm="isb {crm:hex}",
      aliases=[("isb", lambda w: w >> 8 & 15 == 15)])  # fmt: skip
def isb(b: A64) -> None:
    b.exit(exits.FENCE_I)


@insn("1101010100 0 00 011 0011 crm:4 010 11111", ext="A64", name="clrex", asm="clrex {crm:hex}",
      aliases=[("clrex", lambda w: w >> 8 & 15 == 15)])  # fmt: skip
def clrex(b: A64) -> None:
    b.set("res_addr", -1)


# Flags in another format.


@insn("1101010100 0 00 000 0100 0000 000 11111", ext="FlagM", asm="cfinv")
def cfinv(b: A64) -> None:
    b.set_nzcv(b.flags().nzcv() ^ 1 << 29)


def _bits(b: A64) -> tuple[Value, Value, Value]:
    flags = b.flags()
    return flags.holds(0), flags.holds(2), flags.holds(6)


@insn("1101010100 0 00 000 0100 0000 001 11111", ext="FlagM2", asm="xaflag")
def xaflag(b: A64) -> None:
    z, c, _ = _bits(b)
    flags = Bits((c | z) ^ 1, z & c, c | z, (c ^ 1) & z)
    b.set_nzcv(flags.nzcv(), flags)


@insn("1101010100 0 00 000 0100 0000 010 11111", ext="FlagM2", asm="axflag")
def axflag(b: A64) -> None:
    z, c, v = _bits(b)
    flags = Bits(b.false(), z | v, c & (v ^ 1), b.false())
    b.set_nzcv(flags.nzcv(), flags)


# Cache maintenance.


@insn("1101010100 0 01 011 0111 0100 001 rt:5", ext="A64", name="dc_zva", asm="dc zva, {rt}")
def dc_zva(b: A64, rt: X) -> None:
    address = b.x(rt) & -LINE
    for offset in range(0, LINE, 8):
        b.store(address + offset, b.const(I64, 0))


@insn("1101010100 0 01 011 0111 1010 001 rt:5", ext="A64", name="dc_cvac", asm="dc cvac, {rt}")
def dc_cvac(b: A64, rt: X) -> None:
    b.probe(b.x(rt), 1, "r")


for _name, _crm, _ext in (("cvau", "1011", "A64"), ("civac", "1110", "A64"), ("cvap", "1100", "DPB"), ("cvadp", "1101", "DPB2")):
    expand(f"1101010100 0 01 011 0111 {_crm} 001 rt:5", dc_cvac, ext=_ext, name=f"dc_{_name}", asm=f"dc {_name}, {{rt}}", rt="rt")
expand("1101010100 0 01 011 0111 0101 001 rt:5", dc_cvac, ext="A64", name="ic_ivau", asm="ic ivau, {rt}", rt="rt")


# System registers.


def _register(name: str, op1: int, crn: int, crm: int, op2: int, read: Callable[[A64], Value] | None,
              write: Callable[[A64, Value], None] | None = None, ext: str = "A64") -> None:  # fmt: skip
    """System register S3_op1_crn_crm_op2."""
    place = f"1 1 {op1:03b} {crn:04b} {crm:04b} {op2:03b}"
    if read is not None:

        @insn(f"1101010100 1 {place} rt:5", ext=ext, name=f"mrs_{name}", asm=f"mrs {{rt}}, {name}",
              overrides="mrs_id" if name.startswith("id_") else "")  # fmt: skip
        def mrs(b: A64, rt: XD) -> None:
            b.set_x(rt, read(b))

    if write is not None:

        @insn(f"1101010100 0 {place} rt:5", ext=ext, name=f"msr_{name}", asm=f"msr {name}, {{rt}}")
        def msr(b: A64, rt: X) -> None:
            write(b, b.x(rt))


def _constant(value: int) -> Callable[[A64], Value]:
    return lambda b: b.const(I64, value)


_register("nzcv", 3, 4, 2, 0, lambda b: b.flags().nzcv(), lambda b, value: b.set_nzcv(value & 0xF000_0000))
_register("tpidr_el0", 3, 13, 0, 2, lambda b: b.get("tpidr"), lambda b, value: b.set("tpidr", value))
_register("tpidrro_el0", 3, 13, 0, 3, _constant(0))
_register("ctr_el0", 3, 0, 0, 1, _constant(CTR))
_register("dczid_el0", 3, 0, 0, 7, _constant(DCZID))
# The counter counts every 16 nanoseconds.
_register("cntfrq_el0", 3, 14, 0, 0, _constant(62_500_000))
_register("cntvct_el0", 3, 14, 0, 2, lambda b: b.ticks() >> 4)

# The identification registers as Linux shows them (Documentation/arch/arm64/cpu-feature-registers.rst): those without a use read
# as 0.
for _id, (_field, _op2, _value) in ID_REGISTERS.items():
    _register(_id, 0, 0, _field, _op2, _constant(_value))


@insn("1101010100 1 1 1 000 0000 crm:4 op2:3 rt:5", ext="A64", name="mrs_id", asm="mrs {rt}, s3_0_c0_c{crm}_{op2}",
      where={"crm": "== 2 3 4 5 6 7"})  # fmt: skip
def mrs_id(b: A64, rt: XD) -> None:
    b.set_x(rt, 0)
