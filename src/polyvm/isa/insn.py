"""What describes an instruction set: operand kinds, instructions, encodings, and the set that collects them.

    SET = InstructionSet("riscv64", KINDS)

    @SET.insn("0000000 rs2:5 rs1:5 000 rd:5 0110011", ext="I", asm="add {rd}, {rs1}, {rs2}")
    def add(b: Rv, rd: XD, rs1: X, rs2: X) -> None:
        b.set_x(rd, b.x(rs1) + b.x(rs2))

    SET.expand("1001 rd:5 rs2:5 10", add, ext="C", asm="c.add {rd}, {rs2}", rd="rd", rs1="rd", rs2="rs2")

The annotation of a parameter names the operand's kind. The name of the instruction is the mnemonic in `asm`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.errors import EncodingError
from polyvm.ir import I8, I32, Builder, StateLayout
from polyvm.isa.pattern import Constraint, Field, Pattern, parse_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from polyvm.ir import Type, Value

    Body = Callable[..., None]
    Show = Callable[[int, int], str]
    Transform = Callable[[Builder, Value], Value]
    Alias = tuple[str, Callable[[int], bool]]

_NO_STATE = StateLayout("none", [])


class _Memo(dict[int, int]):
    """The values of a transformation that have been asked for."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self._kind = kind

    def __missing__(self, raw: int) -> int:
        b = Builder(_NO_STATE)
        value = self._kind.build(b, b.const(I32, raw), 32)
        if not value.is_const:
            raise EncodingError(f"operand kind {self._kind.name} does not fold for {raw:#x}")
        kind = self._kind
        result = kind.type.signed(value.bits) if kind.signed else value.bits
        self[raw] = result
        return result


class Kind:
    """How a field of an encoding becomes an operand.

    `type` is the operand's type in a body, `slot` its room in a decoded slot: ``"reg"`` (a byte) or ``"imm"`` (32 bits,
    signed). The field is sign-extended from its top bit if `signed`. `transform` builds the operand from the field (an
    i32) where it is more than that; it is the only definition, for native and for Python decoding. `show` writes the
    operand as text, given its value and the address of the instruction.
    """

    __slots__ = ("memo", "name", "show", "signed", "slot", "transform", "type")

    def __init__(
        self, name: str, type_: Type, slot: str, show: Show, *, signed: bool = False, transform: Transform | None = None
    ) -> None:
        self.name = name
        self.type = type_
        self.slot = slot
        self.show = show
        self.signed = signed
        self.transform = transform
        self.memo: dict[int, int] = _Memo(self)

    def build(self, b: Builder, field: Value, width: int) -> Value:
        """The operand from a `field` of `width` bits, an i32."""
        if self.transform is not None:
            value = self.transform(b, field)
            if value.type is not self.type:
                raise EncodingError(f"operand kind {self.name} builds {value.type}, not {self.type}")
            return value
        if self.signed and width < 32:
            field = (field << (32 - width)).asr(32 - width)
        if self.type.bits > 32:
            return field.sext(self.type) if self.signed else field.zext(self.type)
        return field.trunc(self.type)

    def convert(self, raw: int, width: int) -> int:
        """The operand from a field's value, in Python."""
        if self.transform is not None:
            return self.memo[raw]
        return raw - (1 << width) if self.signed and raw >> (width - 1) else raw

    def source(self, raw: str, width: int) -> str:
        """The same as Python source, where ``kind_<name>`` is the memo."""
        if self.transform is not None:
            return f"kind_{self.name}[{raw}]"
        return f"({raw} ^ {1 << (width - 1)}) - {1 << (width - 1)}" if self.signed else raw


class OperandSpec:
    """One operand of an instruction."""

    __slots__ = ("kind", "name", "slot", "type")

    def __init__(self, name: str, kind: Kind) -> None:
        self.name = name
        self.kind = kind
        self.type = kind.type
        self.slot = kind.slot


class Insn:
    """One instruction: what it does. `index` numbers the instructions of a set from 0."""

    __slots__ = ("body", "ext", "index", "name", "operands")

    def __init__(self, name: str, ext: str, index: int, operands: list[OperandSpec], body: Body) -> None:
        self.name = name
        self.ext = ext
        self.index = index
        self.operands = operands
        self.body = body

    def __repr__(self) -> str:
        return f"<Insn {self.name}>"


class Binding:
    """Where an encoding takes an operand from: field `field` plus `bias`, or the constant `bias` if there is none, read
    as `kind`."""

    __slots__ = ("bias", "field", "kind")

    def __init__(self, field: Field | None, bias: int, kind: Kind) -> None:
        self.field = field
        self.bias = bias
        self.kind = kind

    @property
    def width(self) -> int:
        """Bits of the field."""
        return 32 if self.field is None else self.field.width


class Encoding:
    """A bit pattern that stands for an instruction, with how to find its operands.

    `overrides` names encodings that this one takes precedence over where both match. `aliases` are templates that go before
    `asm` for the words that the function beside them says yes to.
    """

    __slots__ = ("aliases", "asm", "bindings", "constraints", "ext", "insn", "name", "overrides", "pattern")

    def __init__(
        self, insn: Insn, pattern: Pattern, asm: str, ext: str, bindings: dict[str, Binding],
        constraints: list[Constraint], overrides: tuple[str, ...], name: str, aliases: Sequence[Alias],
    ) -> None:  # fmt: skip
        self.insn = insn
        self.pattern = pattern
        self.asm = asm
        self.aliases = aliases
        self.name = name
        self.ext = ext
        self.bindings = bindings
        self.constraints = constraints
        self.overrides = overrides

    @property
    def mask(self) -> int:
        """The bits that are fixed."""
        return self.pattern.mask

    @property
    def value(self) -> int:
        """Their values."""
        return self.pattern.value

    @property
    def length(self) -> int:
        """Bytes."""
        return self.pattern.length

    def matches(self, word: int) -> bool:
        """True if `word` is this encoding, precedence aside."""
        if word & self.pattern.mask != self.pattern.value:
            return False
        return all(constraint.holds(word) for constraint in self.constraints)

    def build_operands(self, b: Builder, word: Value) -> dict[str, Value]:
        """The operands from `word`, an i32, by builder."""
        operands: dict[str, Value] = {}
        for operand in self.insn.operands:
            binding = self.bindings[operand.name]
            if binding.field is None:
                raw = b.const(I32, binding.bias)
            else:
                raw = binding.field.build(b, word) + binding.bias
            operands[operand.name] = binding.kind.build(b, raw, binding.width)
        return operands

    def __repr__(self) -> str:
        return f"<Encoding {self.name}>"


class Decoded:
    """An instruction word taken apart."""

    __slots__ = ("encoding", "insn", "length", "operands")

    def __init__(self, encoding: Encoding, operands: dict[str, int]) -> None:
        self.encoding = encoding
        self.insn = encoding.insn
        self.length = encoding.pattern.length
        self.operands = operands

    def __repr__(self) -> str:
        operands = ", ".join(f"{name}={value}" for name, value in self.operands.items())
        return f"<Decoded {self.insn.name} {operands}>"


def mnemonic(asm: str) -> str:
    """The instruction's name in an assembly template."""
    return asm.split(" ", 1)[0].split("{", 1)[0].rstrip(".")


def asm_names(asm: str) -> set[str]:
    """The operands and fields that an assembly template mentions."""
    return {part.split("}", 1)[0].split(":", 1)[0] for part in asm.split("{")[1:]}


class InstructionSet:
    """Collects the instructions and encodings of one guest. `kinds` are its operand kinds, `formats` the texts that
    a template can ask for as ``{name:format}``."""

    def __init__(self, name: str, kinds: Mapping[str, Kind], formats: Mapping[str, Show]) -> None:
        self.name = name
        self.kinds = kinds
        self.formats = formats
        self.instructions: list[Insn] = []
        self.encodings: list[Encoding] = []
        self._names: set[str] = set()

    def insn(
        self, pattern: str, *, ext: str, asm: str, where: Mapping[str, str] | None = None, overrides: str = "",
        name: str = "", bind: Mapping[str, str | int] | None = None, kinds: Mapping[str, str] | None = None,
        aliases: Sequence[Alias] = (),
    ) -> Callable[[Body], Insn]:  # fmt: skip
        """Decorator: the function is the body of the instruction that `pattern` encodes.

        `where` restricts fields, e.g. ``{"rd": "!= 0 2"}``; `overrides` lists names, separated by spaces. The name is the
        mnemonic unless `name` says otherwise. `bind` says where operands come from whose field is called otherwise, as
        `expand` does, `kinds` of which kind operands are whose annotation says otherwise. `aliases`: see `Encoding`.
        """

        def register(body: Body) -> Insn:
            operands = self._operands(body, asm, kinds or {})
            called = name or mnemonic(asm)
            made = Insn(called, ext, len(self.instructions), operands, body)
            self.instructions.append(made)
            sources: dict[str, str | int] = {o.name: o.name for o in operands}
            self._encode(pattern, made, asm, ext, sources | dict(bind or {}), where or {}, overrides, called, aliases)
            return made

        return register

    def expand(
        self, pattern: str, base: Insn, *, ext: str, asm: str, where: Mapping[str, str] | None = None,
        overrides: str = "", name: str = "", aliases: Sequence[Alias] = (), **operands: str | int,
    ) -> Encoding:  # fmt: skip
        """Another encoding of `base`. `operands` gives each of its operands as a field, ``"field+8"``, a field of another
        kind, ``"Kind field"``, or a constant."""
        return self._encode(pattern, base, asm, ext, operands, where or {}, overrides, name or mnemonic(asm), aliases)

    def _operands(self, body: Body, asm: str, kinds: Mapping[str, str]) -> list[OperandSpec]:
        operands: list[OperandSpec] = []
        annotations: dict[str, str] = body.__annotations__
        for name, annotation in list(annotations.items())[1:]:
            if name == "return":
                continue
            kind = self.kinds.get(kinds.get(name, annotation))
            if kind is None:
                raise EncodingError(f"{asm}: operand {name} has the unknown kind {annotation}")
            operands.append(OperandSpec(name, kind))
        return operands

    def _encode(
        self, pattern: str, insn: Insn, asm: str, ext: str, sources: Mapping[str, str | int],
        where: Mapping[str, str], overrides: str, called: str, aliases: Sequence[Alias],
    ) -> Encoding:  # fmt: skip
        parsed = parse_pattern(pattern)
        fields = parsed.fields
        names = {o.name: o.kind for o in insn.operands}
        if missing := names.keys() ^ sources.keys():
            raise EncodingError(f"{asm}: operands and bindings differ in {', '.join(sorted(missing))}")
        bindings: dict[str, Binding] = {}
        used = asm_names(asm).union(where, *(asm_names(template) for template, _ in aliases))
        for name, source in sources.items():
            kind = names[name]
            if isinstance(source, int):
                bindings[name] = Binding(None, source, kind)
                continue
            other, _, place = source.rpartition(" ")
            if other:
                kind = self._same_shape(kind, other)
            field, _, bias = place.partition("+")
            if field not in fields:
                raise EncodingError(f"{asm}: operand {name} needs a field {field}, which {pattern!r} does not have")
            used.add(field)
            bindings[name] = Binding(fields[field], int(bias or 0), kind)
        if unused := fields.keys() - used:
            raise EncodingError(f"{asm}: nothing uses the fields {', '.join(sorted(unused))} of {pattern!r}")
        if unknown := used - fields.keys() - names.keys():
            raise EncodingError(f"{asm}: {', '.join(sorted(unknown))} is neither a field nor an operand")
        constraints = [Constraint(fields[name], rule) for name, rule in where.items()]
        made = Encoding(insn, parsed, asm, ext, bindings, constraints, tuple(overrides.split()), called, aliases)
        if made.name in self._names:
            raise EncodingError(f"{made.name} is encoded twice")
        self._names.add(made.name)
        self.encodings.append(made)
        return made

    def _same_shape(self, kind: Kind, other: str) -> Kind:
        found = self.kinds.get(other)
        if found is None or found.type is not kind.type or found.slot != kind.slot:
            raise EncodingError(f"a field of kind {other} cannot stand for an operand of kind {kind.name}")
        return found


def register_kind(name: str, names: Sequence[str], transform: Transform | None = None) -> Kind:
    """A register number, shown by name."""
    return Kind(name, I8, "reg", lambda value, pc: names[value], transform=transform)
