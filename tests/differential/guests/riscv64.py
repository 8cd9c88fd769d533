"""riscv64 for random code (see `tests.differential.pieces`): all its extensions."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from polyvm.isa import get
from tests.differential.pieces import DATA, MIDDLE, Maker
from tests.differential.streams import BRANCHES, JUMPS, StreamMaker, float_value, int_value

if TYPE_CHECKING:
    import random

    from polyvm.isa.insn import Encoding, Insn

STACK, LOW_BASE, LINK, INNER, WALK, OUTER, BASE = 2, 9, 27, 28, 29, 30, 31
KEPT = frozenset({STACK, LOW_BASE, LINK, INNER, WALK, OUTER, BASE})  # random instructions do not write them
_LEFT_OUT = frozenset({"ecall", "ebreak", "c.ebreak", "wrs.nto", "wrs.sto", "pause"})
_SHORT_BRANCHES = ("c.beqz", "c.bnez")
_PLAIN = frozenset("lb lh lw ld lbu lhu lwu sb sh sw sd flw fsw fld fsd flh fsh".split())


def _i(opcode: int, funct: int, rd: int, rs1: int, value: int) -> int:
    return opcode | rd << 7 | funct << 12 | rs1 << 15 | (value & 0xFFF) << 20


def _addi(rd: int, rs1: int, value: int) -> bytes:
    return struct.pack("<I", _i(0x13, 0, rd, rs1, value))


def _jal(rd: int, distance: int) -> bytes:
    far = (distance >> 20 & 1) << 31 | (distance >> 11 & 1) << 20 | (distance >> 12 & 0xFF) << 12
    return struct.pack("<I", 0x6F | rd << 7 | (distance >> 1 & 0x3FF) << 21 | far)


def _to(word: int, distance: int) -> bytes:
    """The branch `word` to another place."""
    word &= ~0xFE000F80
    word |= (distance >> 12 & 1) << 31 | (distance >> 5 & 63) << 25 | (distance >> 1 & 15) << 8 | (distance >> 11 & 1) << 7
    return struct.pack("<I", word)


def _short_to(word: int, distance: int) -> bytes:
    word &= ~0x1C7C
    word |= (distance >> 8 & 1) << 12 | (distance >> 3 & 3) << 10 | (distance >> 6 & 3) << 5 | (distance >> 1 & 3) << 3
    return struct.pack("<H", word | (distance >> 5 & 1) << 2)


class Riscv64Maker(Maker, StreamMaker):
    """Makes streams of all extensions."""

    name = "riscv64"
    registers = (*(f"x{i}" for i in range(32)), *(f"f{i}" for i in range(32)), "fcsr")
    nops = {4: 0x13, 2: 1}
    end = (0x73).to_bytes(4, "little")
    link, counters = LINK, (INNER, OUTER)

    def __init__(self, rng: random.Random, without: frozenset[str] = frozenset()) -> None:
        every = get("riscv64").encodings
        super().__init__(frozenset(e.ext for e in every), rng)
        self.encodings = [
            e for e in every if e.name not in _LEFT_OUT | without | JUMPS | BRANCHES and e.name not in _SHORT_BRANCHES
        ]
        self.branches = [e for e in every if e.name in BRANCHES or e.name in _SHORT_BRANCHES]
        self.memory = [e for e in self.encodings if _kind(e.name) == "memory"]

    def one(self) -> bytes:
        rng = self.rng
        while True:
            encoding = rng.choice(self.memory if self.memory and rng.random() < 0.25 else self.encodings)
            if encoding.name == "fence.i" and rng.random() < 0.9:
                continue
            word = encoding.value | rng.getrandbits(8 * encoding.length) & ~encoding.mask
            kind = _kind(encoding.name)
            if kind:
                word = self._with_base(word, encoding, kind)
            if not encoding.matches(word):
                continue
            decoded = self.isa.decode(word)
            if decoded is None or decoded.encoding is not encoding:
                continue
            operands = decoded.operands
            written = {operands["rd"]} if "rd" in operands and _writes_x(decoded.insn) else set()
            if encoding.name == "amocas.q":
                written |= {operands["rd"] + 1}
            if written & KEPT or operands.get("rm") in (5, 6):
                continue
            if "csr" in operands and not self._harmless(encoding.name, operands):
                continue
            if kind and operands.get("rs1", STACK) not in KEPT:
                continue
            return word.to_bytes(encoding.length, "little")

    def _with_base(self, word: int, encoding: Encoding, kind: str) -> int:
        """`word` with the register of a pointer."""
        fields = encoding.pattern.fields
        if "rs1" not in fields:
            return word
        walks = kind == "memory" and self.walks and self.rng.random() < 0.6
        short = encoding.name.startswith("c.")
        value = LOW_BASE - 8 if short else WALK if walks else self.rng.choice((BASE, LOW_BASE))
        for low, bits, at in fields["rs1"].pieces:
            word = word & ~(((1 << bits) - 1) << low) | ((value >> at) & ((1 << bits) - 1)) << low
        return word

    def skip(self, over: bytes) -> bytes:
        rng = self.rng
        kind = rng.randrange(8)
        if kind == 0:
            rd = rng.choice([i for i in range(32) if i not in KEPT])
            return _jal(rd, 4 + len(over)) + over
        if kind == 1:
            register, rd = (rng.choice([i for i in range(1, 32) if i not in KEPT]) for _ in range(2))
            jump = struct.pack("<II", 0x17 | register << 7, _i(0x67, 0, rd, register, 8 + len(over)))
            return jump + over
        encoding = rng.choice(self.branches)
        word = encoding.value | rng.getrandbits(8 * encoding.length) & ~encoding.mask
        if encoding.length == 2:
            return _short_to(word, 2 + len(over)) + over
        return _to(word, 4 + len(over)) + over

    def jump(self, distance: int) -> bytes:
        return _jal(0, distance)

    def call(self, distance: int) -> bytes:
        return _jal(LINK, distance)

    def back(self) -> bytes:
        return struct.pack("<I", _i(0x67, 0, 0, LINK, 0))

    def mode(self) -> bytes:
        return struct.pack("<I", _i(0x73, 5, 0, self.rng.randrange(5), 2))  # fsrmi

    def count(self, register: int, rounds: int) -> bytes:
        return _addi(register, 0, rounds)

    def again(self, register: int, length: int) -> bytes:
        return _addi(register, register, -1) + _to(0x1063 | register << 15, -4 - length)

    def walk(self, offset: int) -> bytes:
        return _addi(WALK, BASE, offset)

    def step(self, distance: int) -> bytes:
        return _addi(WALK, WALK, distance)

    def anywhere(self) -> bytes:
        rng = self.rng
        word = rng.choice((0x3, 0x23)) | rng.randrange(4) << 12 | rng.getrandbits(20) << 12 & ~0x7000
        return struct.pack("<I", word | rng.getrandbits(5) << 15)

    def near(self) -> bytes:
        return struct.pack("<I", _i(3, 3, 5, WALK, 8))

    def values(self) -> dict[str, int]:
        rng = self.rng
        found = {f"x{i}": int_value(rng) for i in range(1, 32)}
        found |= {f"x{BASE}": MIDDLE, f"x{WALK}": MIDDLE, f"x{STACK}": DATA + 0x1000, f"x{LOW_BASE}": DATA + 0x1800}
        return found | {f"f{i}": float_value(rng) for i in range(32)} | {"fcsr": rng.randrange(5) << 5 | rng.getrandbits(5)}


def _kind(name: str) -> str:
    """Whether and how it touches memory."""
    name = name.removeprefix("c.")
    if name in _PLAIN or name in ("lwsp", "ldsp", "swsp", "sdsp", "fldsp", "fsdsp"):
        return "memory"
    if name.startswith(("amo", "lr.", "sc.", "cbo.")):
        return "aligned"
    return ""


def _writes_x(insn: Insn) -> bool:
    return any(o.name == "rd" and o.kind.name.startswith("X") for o in insn.operands)
