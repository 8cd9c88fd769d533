"""Instruction words as assembly text, from the `asm` templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.isa.decode import Decoder
    from polyvm.isa.insn import Decoded, Encoding, InstructionSet, Show

    Part = Callable[[Decoded, int, int], str]


def _literal(text: str) -> Part:
    return lambda decoded, word, pc: text


def _operand(name: str, show: Show) -> Part:
    return lambda decoded, word, pc: show(decoded.operands[name], pc)


def _field(extract: Callable[[int], int], show: Show) -> Part:
    return lambda decoded, word, pc: show(extract(word), pc)


def _decimal(value: int, pc: int) -> str:
    return str(value)


class Disassembler:
    """Writes the instructions of one set as text."""

    def __init__(self, instruction_set: InstructionSet, decoder: Decoder) -> None:
        self._set = instruction_set
        self._decoder = decoder
        self._parts: dict[tuple[Encoding, str], list[Part]] = {}

    def _template(self, encoding: Encoding, asm: str) -> list[Part]:
        parts: list[Part] = []
        kinds = {name: binding.kind for name, binding in encoding.bindings.items()}
        for i, piece in enumerate(asm.split("{")):
            if i == 0:
                parts.append(_literal(piece))
                continue
            inside, _, rest = piece.partition("}")
            name, _, style = inside.partition(":")
            if style and style not in self._set.formats:
                raise EncodingError(f"{encoding.name}: there is no format {style}")
            if name in kinds:
                parts.append(_operand(name, self._set.formats[style] if style else kinds[name].show))
            else:
                extract = encoding.pattern.fields[name].extract
                parts.append(_field(extract, self._set.formats[style] if style else _decimal))
            parts.append(_literal(rest))
        return parts

    def text(self, word: int, pc: int, length: int) -> str:
        """The instruction `word` of `length` bytes at address `pc`; a data directive where it is none."""
        decoded = self._decoder.decode(word)
        if decoded is None:
            return f".{length}byte {word & (1 << 8 * length) - 1:#x}"
        encoding = decoded.encoding
        asm = next((template for template, wanted in encoding.aliases if wanted(word)), encoding.asm)
        parts = self._parts.get((encoding, asm))
        if parts is None:
            parts = self._parts[encoding, asm] = self._template(encoding, asm)
        return "".join([part(decoded, word, pc) for part in parts])
