"""Instruction sets: what guest instructions look like and what they do.

`get(name)` is the way in. An `Isa` is light: its instructions are imported when something asks for them.
"""

from __future__ import annotations

from polyvm.errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from polyvm.ir import Builder, StateLayout, Value
    from polyvm.isa.decode import Decoder
    from polyvm.isa.disasm import Disassembler
    from polyvm.isa.insn import Decoded, Encoding, Insn, InstructionSet, OperandSpec
    from polyvm.isa.registers import RegisterTable

__all__ = ["NAMES", "Decoded", "Encoding", "Insn", "Isa", "OperandSpec", "get"]

NAMES = ("riscv64", "aarch64")


class Isa:
    """One guest architecture.

    `layout` are its registers, `register_names` their names by file, `extensions` what it implements. A subclass says where the
    instructions are.
    """

    name: str
    layout: StateLayout
    register_names: Mapping[str, Sequence[str]]
    extensions: tuple[str, ...]
    floating_files: tuple[str, ...] = ()  # register files that hold floating-point numbers, raw
    vector_files: tuple[str, ...] = ()  # … that hold vectors of 128 bits, raw; narrow values there are zero-extended
    unit = 4  # bytes: the lengths of instructions are one or two of these, their addresses multiples of it

    def __init__(self) -> None:
        self._set: InstructionSet | None = None
        self._by_name: dict[str, Insn] = {}
        self._decoder: Decoder | None = None
        self._disassembler: Disassembler | None = None
        self._registers: RegisterTable | None = None

    @property
    def registers(self) -> RegisterTable:
        """The registers by name: `TABLE` of the guest's module ``registers``."""
        found = self._registers
        if found is None:
            from importlib import import_module

            found = self._registers = import_module(f"polyvm.isa.{self.name}.registers").TABLE
        assert found is not None
        return found

    def builder(self) -> Builder:
        """A builder for instruction bodies."""
        raise NotImplementedError

    def length(self, start: int) -> int:
        """Bytes of the instruction whose first two bytes are `start`."""
        return self.unit

    def emit_longer(self, b: Builder, start: Value) -> Value | None:
        """Build an i1: an instruction whose first unit is `start` (i32) has two; None where all have one."""
        return None

    def load(self) -> InstructionSet:
        """Import all instructions."""
        raise NotImplementedError

    @property
    def fusion(self) -> list[list[str]]:
        """Sequences of instructions that follow each other often enough for a handler of their own; "name:operand" where the
        operand is the register that the instruction before writes. Each but the pairs continues an earlier one."""
        return []

    def forwards(self, first: Insn, second: Insn) -> list[tuple[str, str]]:
        """Operands of two instructions in a row: a register that the first writes, one that the second reads, of the same
        file."""
        return []

    @property
    def instruction_set(self) -> InstructionSet:
        """All instructions and encodings."""
        if self._set is None:
            self._set = self.load()
        return self._set

    @property
    def instructions(self) -> list[Insn]:
        """All instructions, in the order of their numbers."""
        return self.instruction_set.instructions

    def instruction(self, name: str) -> Insn:
        """The instruction called `name`; KeyError if there is none."""
        if not self._by_name:
            self._by_name = {insn.name: insn for insn in self.instructions}
        return self._by_name[name]

    @property
    def encodings(self) -> list[Encoding]:
        """All encodings."""
        return self.instruction_set.encodings

    @property
    def decoder(self) -> Decoder:
        """The decoder in Python."""
        if self._decoder is None:
            from polyvm.isa.decode import Decoder

            self._decoder = Decoder(self.encodings)
        return self._decoder

    def decode(self, word: int) -> Decoded | None:
        """The instruction that starts with the bytes of `word`, least significant first; None if there is none."""
        return self.decoder.decode(word)

    def disassemble(self, word: int, pc: int = 0) -> str:
        """The instruction as assembly text, as binutils would write it."""
        if self._disassembler is None:
            from polyvm.isa.disasm import Disassembler

            self._disassembler = Disassembler(self.instruction_set, self.decoder)
        return self._disassembler.text(word, pc, self.length(word & 0xFFFF))

    def emit_decode(
        self, b: Builder, word: Value, leaf: Callable[[Encoding], None], illegal: Callable[[], None]
    ) -> None:
        """Build the decoder: `leaf` builds what happens for an instruction, `illegal` for words that are none."""
        from polyvm.isa.decode import emit_tree

        emit_tree(b, self.decoder.tree, word, leaf, illegal)


_loaded: dict[str, Isa] = {}


def get(name: str) -> Isa:
    """The guest architecture `name`; raises UnsupportedError."""
    found = _loaded.get(name)
    if found is None:
        if name == "riscv64":
            from polyvm.isa.riscv64 import Riscv64

            found = Riscv64()
        elif name == "aarch64":
            from polyvm.isa.aarch64 import Aarch64

            found = Aarch64()
        else:
            raise UnsupportedError(f"there is no guest architecture {name!r}; there is {', '.join(NAMES)}")
        _loaded[name] = found
    return found


def __getattr__(name: str) -> object:
    if name not in ("Decoded", "Encoding", "Insn", "OperandSpec"):
        raise AttributeError(f"module 'polyvm.isa' has no attribute {name!r}")
    from polyvm.isa import insn

    value: object = getattr(insn, name)
    globals()[name] = value
    return value
