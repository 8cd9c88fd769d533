"""aarch64 for random code (see `tests.differential.pieces`): all its instructions."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from polyvm.isa.aarch64 import MODULES
from tests.differential import aarch64
from tests.differential.aarch64 import ALIGNED, BASE, INDEX, fpcr_value, operations, vector_value
from tests.differential.pieces import MIDDLE, Maker
from tests.differential.streams import int_value

if TYPE_CHECKING:
    import random

    from polyvm.isa.insn import Encoding

WALK, INNER, OUTER, LINK = 24, 28, 29, 30
_FREE = range(24)  # general registers that random instructions write
# What leaves or jumps elsewhere, and the clock.
_LEFT_OUT = frozenset("svc brk hlt udf br blr ret bl b b.al b.nv mrs_cntvct_el0".split())
_RARE = frozenset({"isb", "msr_fpcr", "msr_fpsr"})


def _words(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


def _add(rd: int, rn: int, value: int) -> bytes:
    """add or sub (immediate)."""
    return _words((0x91000000 if value >= 0 else 0xD1000000) | abs(value) << 10 | rn << 5 | rd)


class Aarch64Maker(Maker, aarch64.StreamMaker):
    """Makes streams of all instructions."""

    name = "aarch64"
    registers = (*(f"x{i}" for i in range(31)), "sp", "nzcv", "fpcr", "fpsr", *(f"v{i}" for i in range(32)))
    nops = {4: 0xD503201F}
    end = _words(0xD4000001)
    link, counters = LINK, (INNER, OUTER)
    kept = frozenset({WALK, ALIGNED, INDEX, BASE, INNER, OUTER, LINK})

    def __init__(self, rng: random.Random, without: frozenset[str] = frozenset()) -> None:
        self.without = without
        super().__init__(MODULES, rng)
        self.branches = [e for e in self.encodings if operations(e.insn) & {"branch"}]
        self.encodings = [e for e in self.encodings if e not in self.branches]
        self.memory = [e for e in self.encodings if operations(e.insn) & {"load", "store"}]
        self.sequences = [s for s in self.sequences if not any(e in self.branches for choices in s for e in choices)]
        self._waiting: list[bytes] = []

    def wanted(self, name: str) -> bool:
        return name not in _LEFT_OUT | self.without

    def one(self) -> bytes:
        rng = self.rng
        if not self._waiting and self.sequences and rng.random() < 0.2:
            self._waiting = [_words(word) for word, _ in self.sequence()]
        if self._waiting:
            return self._waiting.pop(0)
        while True:
            word, encoding = self.word(self.memory if rng.random() < 0.2 else None)
            if encoding.name not in _RARE or rng.random() < 0.1:
                return _words(word)

    def word(self, choices: list[Encoding] | None = None) -> tuple[int, Encoding]:
        """Some accesses go through the register that moves, and all stay near."""
        self.pointer = WALK if self.walks and self.rng.random() < 0.6 else BASE
        return super().word(choices)

    def _placed(self, word: int, encoding: Encoding) -> int:
        word = super()._placed(word, encoding)
        for kind in (o.kind.name for o in encoding.insn.operands if o.name == "imm"):
            if kind != "SImm":
                for low, bits, at in encoding.pattern.fields["imm"].pieces:
                    near = max(0, min(bits, 11 - at))
                    word &= ~(((1 << bits) - (1 << near)) << low)
        return word

    def piece(self, depth: int) -> bytes:
        """Addresses that are written back do not add up."""
        return _add(BASE, ALIGNED, 0) + super().piece(depth)

    def skip(self, over: bytes) -> bytes:
        rng = self.rng
        kind = rng.randrange(8)
        register = rng.choice(_FREE)
        if kind == 0:
            return self.jump(4 + len(over)) + over
        if kind == 1:
            distance = 8 + len(over)
            adr = 0x10000000 | (distance & 3) << 29 | distance >> 2 << 5 | register
            return _words(adr, rng.choice((0xD61F0000, 0xD63F0000)) | register << 5) + over  # br, blr
        encoding = rng.choice(self.branches)
        word = encoding.value | rng.getrandbits(32) & ~encoding.mask
        for low, bits, at in encoding.pattern.fields["imm"].pieces:
            word = word & ~(((1 << bits) - 1) << low) | ((4 + len(over)) >> at & (1 << bits) - 1) << low
        return _words(word) + over

    def jump(self, distance: int) -> bytes:
        return _words(0x14000000 | distance >> 2 & 0x3FFFFFF)

    def call(self, distance: int) -> bytes:
        return _words(0x94000000 | distance >> 2 & 0x3FFFFFF)

    def back(self) -> bytes:
        return _words(0xD65F0000 | LINK << 5)

    def mode(self) -> bytes:
        register, value = self.rng.choice(_FREE), fpcr_value(self.rng) >> 16
        return _words(0xD2A00000 | value << 5 | register, 0xD51B4400 | register)  # movz, msr fpcr

    def count(self, register: int, rounds: int) -> bytes:
        return _words(0xD2800000 | rounds << 5 | register)

    def again(self, register: int, length: int) -> bytes:
        return _add(register, register, -1) + _words(0xB5000000 | (-4 - length >> 2 & 0x7FFFF) << 5 | register)

    def walk(self, offset: int) -> bytes:
        return _add(WALK, ALIGNED, offset)

    def step(self, distance: int) -> bytes:
        return _add(WALK, WALK, distance)

    def anywhere(self) -> bytes:
        rng = self.rng
        return _words(0x39000000 | rng.getrandbits(2) << 30 | rng.getrandbits(1) << 22 | rng.getrandbits(22))

    def near(self) -> bytes:
        return _words(0xF9400000 | 1 << 10 | WALK << 5 | 5)

    def values(self) -> dict[str, int]:
        rng = self.rng
        found = {f"x{i}": int_value(rng) for i in range(31)}
        found |= {f"x{i}": MIDDLE for i in (WALK, ALIGNED, BASE)} | {f"x{INDEX}": rng.randrange(64)}
        found |= {"sp": int_value(rng), "nzcv": rng.getrandbits(4) << 28, "fpcr": fpcr_value(rng)}
        found["fpsr"] = rng.getrandbits(5) if rng.random() < 0.5 else 0
        return found | {f"v{i}": vector_value(rng) for i in range(32)}
