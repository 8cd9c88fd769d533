"""Write cases for the encodings of some modules, with qemu's results:

    python -m tests.isa.aarch64.write_cases MODULE,… TITLE [NUMBER] > tests/isa/aarch64/cases_NAME.txt

NUMBER of each encoding (1), with registers, memory and flags that are worth trying. What goes elsewhere than to the next
instruction, or reads what differs from one implementation to the next, is left to be written by hand.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.differential.aarch64 import operations, vector_value
from tests.isa.aarch64 import binutils, cases
from tests.isa.harness import DATA, State

if TYPE_CHECKING:
    from polyvm.isa import Encoding
    from tests.isa.harness import Case

_FIELDS = {"rd": 0, "rt": 0, "rn": 1, "rm": 2, "ra": 3, "rt2": 4, "rs": 5}
_ELSEWHERE = frozenset({"branch", "indirect", "jump", "exit"})
_ACCESSES = frozenset({"load", "store", "amo", "cmpxchg", "probe"})
_SPECIAL = ("mrs_", "msr_", "dc_zva", "dc_cvap", "dc_cvadp", "adr", "isb", "svc", "hlt", "brk", "udf")
_ORDERED = "a64_atomic"
_WORDS = (
    0, 1, (1 << 64) - 1, 1 << 63, (1 << 63) - 1, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 0x123456789ABCDEF0, 0xFEDCBA9876543210,
    0xFF00FF00FF00FF00, 5, 0x40, (1 << 64) - 16,
)  # fmt: skip
_BASE = 0x20100
_TRIES = 12


def _word(encoding: Encoding, rng: random.Random) -> int:
    """A word of `encoding`; its registers are x0, x1, …, its addresses near."""
    word = rng.getrandbits(32) & ~encoding.mask | encoding.value
    known = encoding.mask
    accesses = operations(encoding.insn) & _ACCESSES
    for name, field in encoding.pattern.fields.items():
        known |= field.mask
        value = _FIELDS.get(name)
        if value is not None and sum(bits for _, bits, _ in field.pieces) == 4:
            value = {"rs": 6, "rt": 8}.get(name, value)
        if value is None and name == "imm" and accesses:
            unit = 1 << min(at for _, _, at in field.pieces)
            aligned = 16 if encoding.insn.body.__module__.endswith(_ORDERED) else unit
            value = rng.randrange(0 if "_imm" in encoding.name else -2, 3) * aligned
        if value is not None:
            for low, bits, at in field.pieces:
                word = word & ~(((1 << bits) - 1) << low) | (value >> at & (1 << bits) - 1) << low
    return word | ~known & 0xFFFF_FFFF


def _texts(modules: set[str], number: int, rng: random.Random) -> list[tuple[str, Encoding]]:
    """Instructions, as assembly that gives them again."""
    isa = cases.GUEST.isa
    made: list[tuple[str, Encoding]] = []
    for encoding in isa.encodings:
        module = encoding.insn.body.__module__.rpartition(".")[2]
        if module not in modules or encoding.name.startswith(_SPECIAL) or "literal" in encoding.name:
            continue
        if operations(encoding.insn) & _ELSEWHERE:
            continue
        left = number
        for _ in range(_TRIES):
            word = _word(encoding, rng)
            if left and isa.decoder.find(word) is encoding:
                text = binutils.disassemble([word])[0]
                try:
                    same = bool(text) and binutils.assemble(text + "\n") == word.to_bytes(4, "little")
                except AssertionError:
                    same = False
                if same:
                    made.append((text, encoding))
                    left -= 1
        if left:
            print(f"{encoding.name}: no words that are their text's", file=sys.stderr)
    return made


def _before(text: str, encoding: Encoding, rng: random.Random) -> str:
    """What is set before."""
    items: list[str] = []
    accesses = bool(operations(encoding.insn) & _ACCESSES)
    for number in sorted({int(n) for n in re.findall(r"\b[xw](\d+)\b", text)}):
        if accesses and (number == 1 or "rn" not in encoding.pattern.fields):
            value = _BASE
        elif accesses and number == 2:
            value = rng.randrange(40)
        else:
            value = rng.choice(_WORDS) if rng.random() < 0.7 else rng.getrandbits(64)
        items.append(f"x{number}={value:#x}")
    for number in sorted({int(n) for n in re.findall(r"\b[vqdshb](\d+)\b", text)}):
        items.append(f"v{number}={vector_value(rng):#x}")
    for first, last in re.findall(r"\{v(\d+)\.\w+-v(\d+)\.\w+\}", text):
        items += [f"v{n}={vector_value(rng):#x}" for n in range(int(first) + 1, int(last))]
    if not accesses:
        letters = "".join(letter for letter in "NZCV" if rng.random() < 0.5)
        items += [f"nzcv={letters}"] if letters and encoding.insn.body.__module__.endswith(("register", "system")) else []
    else:
        items += [f"m64[{_BASE + offset:#x}]={rng.getrandbits(64):#x}" for offset in (0, 8)]
    return " ".join(items)


def _changes(before: State, after: State) -> str:
    items: list[str] = []
    for name, value in after.registers.items():
        if value != before.registers[name]:
            letters = cases.GUEST.letters.get(name)
            if letters is not None:
                items.append(f"{name}=" + ("".join(letters[i] for i in reversed(range(32)) if value >> i & 1) or "0"))
            else:
                items.append(f"{name}={value:#x}" if value > 9 else f"{name}={value}")
    for at in range(0, len(after.memory), 8):
        if after.memory[at : at + 8] != before.memory[at : at + 8]:
            items.append(f"m64[{DATA + at:#x}]={int.from_bytes(after.memory[at : at + 8], 'little'):#x}")
    return " ".join(items)


def main(modules: str, title: str, number: str = "1") -> None:
    """The command."""
    rng = random.Random(title)
    texts = _texts(set(modules.split(",")), int(number), rng)
    lines = [f"{text} | {_before(text, encoding, rng)} |" for text, encoding in texts]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "cases_new.txt").write_text("\n".join(lines) + "\n")
        guest = cases.Aarch64()
        guest.folder = Path(folder)
        found: list[Case] = guest.load()["cases_new.txt"]
    print(f"# {title} Columns: see harness.py.\n")
    for line, case, after in zip(lines, found, cases.run_qemu(found), strict=True):
        print(f"{line} {_changes(case.before, after)}".rstrip())


if __name__ == "__main__":
    main(*sys.argv[1:])
