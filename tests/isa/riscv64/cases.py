"""Instruction cases: one line in, one line out.

    instructions | what is set before | what is different after | disassembly

Instructions are GNU assembly, separated by ``;``; the last column is given where the assembler does not know the instruction, and
is what polyvm's disassembler makes of it. Set and expected are lists of

    a0=5            an integer register, also -5, 0x5
    fa0=0x5         a floating-point register's bits; 1.5d, 1.5s, 1.5h for a double, single or half, NaN-boxed
    m64[0x20000]=5  memory: 8, 16, 32 or 64 bits
    fcsr=0x5        flags and rounding mode
    a0=?            (after) anything
    a0=pc+4         (after) the address of the first instruction, and so much
    pc=+8           (after) the pc, from the address of the first instruction; without it, the end of the last one
    exit=illegal    (after) an exit by its name; exit=fault:w:0x30000:8 with access, address and size

Registers start as `start(i)`, so that a stray read shows. Whatever is not listed as different must be as it was.
Memory: 0x20000 to 0x22000 may be read and written, 0x22000 to 0x23000 read, nothing else.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path

from polyvm.isa.riscv64.state import F_NAMES, X_NAMES
from polyvm.vcpu import exits
from tests.isa.riscv64 import binutils

FOLDER = Path(__file__).parent
CODE, CODE_STEP = 0x10000, 32
DATA, READ_ONLY, DATA_END = 0x20000, 0x22000, 0x23000
X_INDEX = {name: i for i, name in enumerate(X_NAMES)} | {"fp": 8}
F_INDEX = {name: i for i, name in enumerate(F_NAMES)}
M64 = (1 << 64) - 1
ANY = -1
_FLOATS = {"d": ("<d", 8), "s": ("<f", 4), "h": ("<e", 2)}
_EXITS = {name: code for code, name in exits.NAMES.items()}
_ACCESS = {letter: code for code, letter in exits.ACCESS_LETTERS.items()}


def start(index: int) -> int:
    """What integer register `index` holds where a case does not say."""
    return index * 0x0101_0101_0101_0101


class State:
    """Registers and memory, before or after."""

    def __init__(self) -> None:
        self.x = [start(i) for i in range(32)]
        self.f = [start(i + 64) for i in range(32)]
        self.fcsr = 0
        self.memory = bytearray(DATA_END - DATA)
        self.pc = 0
        self.exit: tuple[int, ...] = ()

    def copy(self) -> State:
        """An independent copy."""
        made = State()
        made.x, made.f, made.fcsr = list(self.x), list(self.f), self.fcsr
        made.memory, made.pc, made.exit = bytearray(self.memory), self.pc, self.exit
        return made

    def assign(self, text: str) -> None:
        """Carry out one ``name=value``."""
        name, _, value = text.partition("=")
        if name in X_INDEX:
            base = self.pc if value.startswith("pc") else 0
            self.x[X_INDEX[name]] = base + _number(value[2:] or "0") & M64 if base else _number(value)
        elif name in F_INDEX:
            self.f[F_INDEX[name]] = _number(value)
        elif name == "fcsr":
            self.fcsr = _number(value)
        elif name == "pc":
            self.pc = self.pc + int(value, 0) if value[0] in "+-" else int(value, 0)
        elif name == "exit":
            self.exit = _exit(value)
        elif name.startswith("m"):
            bits, _, address = name[1:-1].partition("[")
            at, size = int(address, 0) - DATA, int(bits) // 8
            assert at >= 0, text
            assert at + size <= len(self.memory), text
            self.memory[at : at + size] = (_number(value) & (1 << 8 * size) - 1).to_bytes(size, "little")
        else:
            raise AssertionError(f"{text!r} sets nothing")

    def differences(self, wanted: State) -> list[str]:
        """How this state is not `wanted`."""
        found: list[str] = []
        for names, have, want in ((X_NAMES, self.x, wanted.x), (F_NAMES, self.f, wanted.f)):
            for name, a, b in zip(names, have, want, strict=True):
                if a != b and b != ANY:
                    found.append(f"{name} is {a:#x}, not {b:#x}")
        if self.fcsr != wanted.fcsr:
            found.append(f"fcsr is {self.fcsr:#x}, not {wanted.fcsr:#x}")
        if self.pc != wanted.pc:
            found.append(f"pc is {self.pc:#x}, not {wanted.pc:#x}")
        if self.exit != wanted.exit:
            found.append(f"exit is {self.exit}, not {wanted.exit}")
        for i, (a, b) in enumerate(zip(self.memory, wanted.memory, strict=True)):
            if a != b:
                found.append(f"the byte at {DATA + i:#x} is {a:#x}, not {b:#x}")
        return found


def _number(text: str) -> int:
    if text == "?":
        return ANY
    if text[-1] in _FLOATS and not text.startswith("0x"):
        layout, size = _FLOATS[text[-1]]
        bits = int.from_bytes(struct.pack(layout, float(text[:-1])), "little")
        return bits | (M64 << 8 * size & M64)
    return int(text, 0) & M64


def _exit(text: str) -> tuple[int, ...]:
    name, *rest = text.split(":")
    if rest:
        access, address, size = rest
        return _EXITS[name], int(address, 0), _ACCESS[access], int(size)
    return (_EXITS[name],)


class Case:
    """One line."""

    def __init__(self, line: str, place: str, number: int, code: bytes) -> None:
        columns = [column.strip() for column in line.split("|")]
        self.text = columns[0]
        self.place = place
        self.address = CODE + CODE_STEP * number
        self.code = code
        self.count = len(self.text.split(";"))
        self.disassembly = columns[3] if len(columns) > 3 else ""
        self.before = State()
        self.before.pc = self.address
        for item in columns[1].split():
            self.before.assign(item)
        self.after = self.before.copy()
        changes = columns[2].split()
        for item in sorted(changes, key=lambda item: item.startswith("pc=")):
            self.after.assign(item)
        if not any(item.startswith(("pc=", "exit=")) for item in changes):
            self.after.pc = self.address + len(code)
        self._relative = "=pc" in columns[2]

    @property
    def ordinary(self) -> bool:
        """True if it only goes on to the next instruction, wherever it lies, and binutils knows it."""
        falls_through = not self.after.exit and self.after.pc == self.address + len(self.code)
        return falls_through and not self._relative and not self.disassembly

    def __repr__(self) -> str:
        return f"{self.place}: {self.text}"


def _source(text: str) -> str:
    # Nothing is shortened behind a case's back; compressed instructions are asked for by name.
    return f".option {'rvc' if text.startswith('c.') else 'norvc'}\n{text}\n.balign {CODE_STEP}, 0\n"


def _instructions(code: bytes, offset: int, count: int) -> bytes:
    end = offset
    for _ in range(count):
        end += 4 if code[end] & 3 == 3 else 2
    return code[offset:end]


@lru_cache(maxsize=1)
def load() -> dict[str, list[Case]]:
    """All cases by file name."""
    found: dict[str, list[Case]] = {}
    for path in sorted(FOLDER.glob("cases_*.txt")):
        lines = [
            (number, line)
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            if line.strip() and not line.startswith("#")
        ]
        code = binutils.assemble("\n".join(_source(line.split("|")[0].strip()) for _, line in lines))
        cases = [
            Case(line, f"{path.name}:{number}", i, _instructions(code, CODE_STEP * i, line.split("|")[0].count(";") + 1))
            for i, (number, line) in enumerate(lines)
        ]
        found[path.name] = cases
    return found
