"""Loads and stores of registers (Arm ARM, C4.1.94), but for the atomic ones and structures.

An access may be unaligned. The base register is written after all accesses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from polyvm.ir import I8, I16, I32, I64, I128, Type
from polyvm.isa.aarch64.operands import XD, XSP, SImm, UImm, X, expand, insn

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.ir import Value
    from polyvm.isa.aarch64.builder import A64

    Access = Callable[[A64, Value, Value], None]


class Form(NamedTuple):
    """A kind of access: size and opc fields, mnemonic, letter of the register's name, what is accessed, how."""

    size: str
    opc: str
    name: str
    r: str
    type: Type
    access: Access
    loads: bool
    vector: bool = False

    @property
    def scale(self) -> int:
        """log2 of the bytes."""
        return (self.type.bits // 8).bit_length() - 1

    @property
    def label(self) -> str:
        """A name of its own."""
        return f"{self.name}_{self.r}"


def _load(type_: Type) -> Access:
    return lambda b, rt, address: b.set_x(rt, b.load(address, type_).zext(I64))


def _load_signed(type_: Type, to: Type) -> Access:
    return lambda b, rt, address: b.set_r(rt, b.load(address, type_).sext(to))


def _store(type_: Type) -> Access:
    return lambda b, rt, address: b.store(address, b.r(rt, type_))


FORMS = [
    *(
        form
        for size, suffix, type_, r in (
            ("00", "b", I8, "w"), ("01", "h", I16, "w"), ("10", "", I32, "w"), ("11", "", I64, "x")
        )
        for form in (
            Form(size, "00", f"str{suffix}", r, type_, _store(type_), loads=False),
            Form(size, "01", f"ldr{suffix}", r, type_, _load(type_), loads=True),
        )
    ),
    Form("00", "11", "ldrsb", "w", I8, _load_signed(I8, I32), loads=True),
    Form("00", "10", "ldrsb", "x", I8, _load_signed(I8, I64), loads=True),
    Form("01", "11", "ldrsh", "w", I16, _load_signed(I16, I32), loads=True),
    Form("01", "10", "ldrsh", "x", I16, _load_signed(I16, I64), loads=True),
    Form("10", "10", "ldrsw", "x", I32, _load_signed(I32, I64), loads=True),
]  # fmt: skip


def _forms(form: Form) -> None:
    r, bits, name = f"{{rt:{form.r}}}", f"{form.size} 111 {int(form.vector)}", form.name
    kinds = {"rt": ("VD" if form.loads else "V") if form.vector else "XD" if form.loads else "X"}
    unscaled = name.replace("ldr", "ldur").replace("str", "stur")
    unprivileged = name.replace("ldr", "ldtr").replace("str", "sttr")

    @insn(f"{bits} 01 {form.opc} imm[{11 + form.scale}:{form.scale}] rn:5 rt:5", ext="A64", name=f"{form.label}_imm",
          asm=f"{name} {r}, [{{rn}}{{imm:offset}}]", kinds=kinds)  # fmt: skip
    def unsigned(b: A64, rt: X, rn: XSP, imm: UImm) -> None:
        form.access(b, rt, b.x(rn) + imm)

    for mode, called in (("00", unscaled), ("10", unprivileged))[: 1 if form.vector else 2]:
        expand(f"{bits} 00 {form.opc} 0 imm:9 {mode} rn:5 rt:5", unsigned, ext="A64", name=f"{called}_{form.r}",
               asm=f"{called} {r}, [{{rn}}{{imm:offset}}]", rt="rt", rn="rn", imm="SImm imm")  # fmt: skip

    @insn(f"{bits} 00 {form.opc} 0 imm:9 11 rn:5 rt:5", ext="A64", name=f"{form.label}_pre",
          asm=f"{name} {r}, [{{rn}}, {{imm}}]!", kinds=kinds)  # fmt: skip
    def before(b: A64, rt: X, rn: XSP, imm: SImm) -> None:
        address = b.x(rn) + imm
        form.access(b, rt, address)
        b.set_x(rn, address)

    @insn(f"{bits} 00 {form.opc} 0 imm:9 01 rn:5 rt:5", ext="A64", name=f"{form.label}_post",
          asm=f"{name} {r}, [{{rn}}], {{imm}}", kinds=kinds)  # fmt: skip
    def after(b: A64, rt: X, rn: XSP, imm: SImm) -> None:
        address = b.x(rn)
        form.access(b, rt, address)
        b.set_x(rn, address + imm)

    for option, extension in (("010", "uxtw"), ("011", "lsl"), ("110", "sxtw"), ("111", "sxtx")):
        _by_register(form, option, extension, bits, r, kinds)


def extended(b: A64, rm: Value, extension: str) -> Value:
    """Register `rm` as an index."""
    if extension in ("lsl", "sxtx", "uxtx"):
        return b.x(rm)
    low = b.r(rm, I32)
    return low.sext(I64) if extension == "sxtw" else low.zext(I64)


def _by_register(form: Form, option: str, extension: str, bits: str, r: str, kinds: dict[str, str]) -> None:
    """The index is shifted, or not, by the size of what is accessed."""
    index = "w" if extension[-1] == "w" else "x"
    plain = f"{form.name} {r}, [{{rn}}, {{rm:{index}}}" + ("" if extension == "lsl" else f", {extension}") + "]"
    shifted = plain.replace("]", f"{',' if extension == 'lsl' else ''} {'lsl ' if extension == 'lsl' else ''}#{form.scale}]")

    @insn(f"{bits} 00 {form.opc} 1 rm:5 {option} 0 10 rn:5 rt:5", ext="A64", name=f"{form.label}_{extension}", asm=plain,
          kinds=kinds)  # fmt: skip
    def by_index(b: A64, rt: X, rn: XSP, rm: X) -> None:
        form.access(b, rt, b.x(rn) + extended(b, rm, extension))

    pattern = f"{bits} 00 {form.opc} 1 rm:5 {option} 1 10 rn:5 rt:5"
    called = f"{form.label}_{extension}_shifted"
    if form.scale == 0:
        expand(pattern, by_index, ext="A64", name=called, asm=shifted, rt="rt", rn="rn", rm="rm")
        return

    @insn(pattern, ext="A64", name=called, asm=shifted, kinds=kinds)
    def by_shifted(b: A64, rt: X, rn: XSP, rm: X) -> None:
        form.access(b, rt, b.x(rn) + (extended(b, rm, extension) << form.scale))


# SIMD and floating-point registers.


def _load_vector(type_: Type) -> Access:
    return lambda b, rt, address: b.set_v(rt, b.load(address, type_))


def _store_vector(type_: Type) -> Access:
    return lambda b, rt, address: b.store(address, b.v(rt, type_))


VECTORS = (("00", "0", "b", I8), ("01", "0", "h", I16), ("10", "0", "s", I32), ("11", "0", "d", I64), ("00", "1", "q", I128))
VECTOR_FORMS = [
    form
    for size, high, r, type_ in VECTORS
    for form in (
        Form(size, f"{high}0", "str", r, type_, _store_vector(type_), loads=False, vector=True),
        Form(size, f"{high}1", "ldr", r, type_, _load_vector(type_), loads=True, vector=True),
    )
]

for _form in (*FORMS, *VECTOR_FORMS):
    _forms(_form)


# Literals.


def _literal(opc: str, name: str, r: str, access: Access, *, vector: bool = False) -> None:
    @insn(f"{opc} 011 {int(vector)} 00 imm[20:2] rt:5", ext="A64", name=f"{name}_{r}_literal",
          asm=f"{name} {{rt:{r}}}, {{imm:pc}}", kinds={"rt": "VD" if vector else "XD"})  # fmt: skip
    def literal(b: A64, rt: XD, imm: SImm) -> None:
        access(b, rt, b.pc() + imm)


_literal("00", "ldr", "w", _load(I32))
_literal("01", "ldr", "x", _load(I64))
_literal("10", "ldrsw", "x", _load_signed(I32, I64))
for _opc, (_, _, _r, _type) in zip(("00", "01", "10"), VECTORS[2:], strict=True):
    _literal(_opc, "ldr", _r, _load_vector(_type), vector=True)


# Pairs.


def _pair(opc: str, name: str, r: str, type_: Type, *, signed: bool = False, vector: bool = False) -> None:
    low = (type_.bits // 8).bit_length() - 1
    imm = f"imm[{6 + low}:{low}]"
    loads = name.startswith("ld")
    kind = ("VD" if loads else "V") if vector else "XD" if loads else "X"
    kinds = {"rt": kind, "rt2": kind}
    bits, asm = f"{opc} 101 {int(vector)}", f"{name} {{rt:{r}}}, {{rt2:{r}}}, "
    load_bit = "1" if loads else "0"

    def access(b: A64, rt: Value, rt2: Value, address: Value) -> None:
        second = address + type_.bits // 8
        if loads:
            values = [b.load(address, type_), b.load(second, type_)]
            for register, value in zip((rt, rt2), values, strict=True):
                if vector:
                    b.set_v(register, value)
                else:
                    b.set_x(register, value.sext(I64) if signed else value.zext(I64))
        else:
            values = [b.v(r, type_) if vector else b.r(r, type_) for r in (rt, rt2)]
            b.store(address, values[0])
            b.store(second, values[1])

    @insn(f"{bits} 010 {load_bit} {imm} rt2:5 rn:5 rt:5", ext="A64", name=f"{name}_{r}", asm=f"{asm}[{{rn}}{{imm:offset}}]",
          kinds=kinds)  # fmt: skip
    def offset(b: A64, rt: X, rt2: X, rn: XSP, imm: SImm) -> None:
        access(b, rt, rt2, b.x(rn) + imm)

    if not signed:
        called = f"{name[:2]}n{name[2:]}"
        expand(f"{bits} 000 {load_bit} {imm} rt2:5 rn:5 rt:5", offset, ext="A64", name=f"{called}_{r}",
               asm=f"{called} {{rt:{r}}}, {{rt2:{r}}}, [{{rn}}{{imm:offset}}]", rt="rt", rt2="rt2", rn="rn",
               imm="imm")  # fmt: skip

    # A load may well write its base; then that is what counts.
    @insn(f"{bits} 011 {load_bit} {imm} rt2:5 rn:5 rt:5", ext="A64", name=f"{name}_{r}_pre", asm=f"{asm}[{{rn}}, {{imm}}]!",
          kinds=kinds)  # fmt: skip
    def before(b: A64, rt: X, rt2: X, rn: XSP, imm: SImm) -> None:
        address = b.x(rn) + imm
        access(b, rt, rt2, address)
        b.set_x(rn, address)

    @insn(f"{bits} 001 {load_bit} {imm} rt2:5 rn:5 rt:5", ext="A64", name=f"{name}_{r}_post", asm=f"{asm}[{{rn}}], {{imm}}",
          kinds=kinds)  # fmt: skip
    def after(b: A64, rt: X, rt2: X, rn: XSP, imm: SImm) -> None:
        address = b.x(rn)
        access(b, rt, rt2, address)
        b.set_x(rn, address + imm)


for _opc, _r, _type in (("00", "w", I32), ("10", "x", I64)):
    _pair(_opc, "stp", _r, _type)
    _pair(_opc, "ldp", _r, _type)
_pair("01", "ldpsw", "x", I32, signed=True)
for _opc, (_, _, _r, _type) in zip(("00", "01", "10"), VECTORS[2:], strict=True):
    _pair(_opc, "stp", _r, _type, vector=True)
    _pair(_opc, "ldp", _r, _type, vector=True)


# Prefetches do nothing: an address that is wrong is no fault.


@insn("11 111 0 01 10 imm[14:3] rn:5 op:5", ext="A64", name="prfm_imm", asm="prfm {op:prfop}, [{rn:spf}{imm:offset}]")
def prfm(b: A64) -> None:
    pass


expand("11 111 0 00 10 0 imm:9 00 rn:5 op:5", prfm, ext="A64", name="prfum", asm="prfum {op:prfop}, [{rn:spf}{imm:offset9}]")
expand("11 011 0 00 imm[20:2] op:5", prfm, ext="A64", name="prfm_literal", asm="prfm {op:prfop}, {imm:pc21}")
for _option, _text in (("010", "{rm:wf}, uxtw"), ("011", "{rm:xf}"), ("110", "{rm:wf}, sxtw"), ("111", "{rm:xf}, sxtx")):
    expand(f"11 111 0 00 10 1 rm:5 {_option} 0 10 rn:5 op:5", prfm, ext="A64", name=f"prfm_{_option}",
           asm=f"prfm {{op:prfop}}, [{{rn:spf}}, {_text}]")  # fmt: skip
    expand(f"11 111 0 00 10 1 rm:5 {_option} 1 10 rn:5 op:5", prfm, ext="A64", name=f"prfm_{_option}_shifted",
           asm=f"prfm {{op:prfop}}, [{{rn:spf}}, {_text}{', lsl' if _option == '011' else ''} #3]")  # fmt: skip
