"""Random instruction streams as one aarch64 program, for polyvm and qemu-aarch64 to run: see streams.py.

Memory is accessed through two registers that point into the middle of a data page, one of which no instruction moves, so that
what must be aligned is; an index is small. These, and the pointer to the states, random instructions do not write.
"""

from __future__ import annotations

import struct
import subprocess
from functools import cache
from typing import TYPE_CHECKING

from polyvm.engine.interpreter import stage
from polyvm.isa import get
from polyvm.isa.aarch64 import MODULES
from tests.differential.streams import float_value, int_value

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from polyvm.isa.insn import Encoding, Insn

ALIGNED, INDEX, BASE, STATES = 25, 26, 27, 28
KEPT = frozenset({ALIGNED, INDEX, BASE, STATES})
WORDS = 36 + 64  # x0 to x30, sp, nzcv, fpcr, fpsr, none, v0 to v31
NAMES = [*(f"x{i}" for i in range(31)), "sp", "nzcv", "fpcr", "fpsr", "none",
         *(f"v{i // 2}[{i % 2}]" for i in range(64))]  # fmt: skip
QEMU = ("qemu-aarch64", "-cpu", "max,pauth=off")
DATA_SIZE = 1 << 18
# What leaves, what reads what differs, and prefixes of registers that the streams need as they are. In qemu-aarch64 7.2 FPSR has
# AArch32's flags, which are RES0 where there is no AArch32 (C5.2.10); fjcvtzs of a subnormal that FZ flushes sets Z, although its
# fraction is not zero (FPToFixedJS); and fcvtzs of a half to fixed point leaves its sign above the element (Vpart, V writes).
SKIPPED = ("svc", "brk", "hlt", "udf", "br", "blr", "ret", "bl", "b", "b.al", "b.nv", "isb", "msr_fpsr", "fjcvtzs",
           "fcvtzs_h_fixed_vector")  # fmt: skip
_SKIPPED_PREFIXES = (
    "dc_zva",
    "dc_cvap",
    "dc_cvadp",
    "mrs_c",
    "mrs_dczid",
    "mrs_id",
    "mrs_m",
    "mrs_rev",
    "mrs_tpidr",
    "msr_fpcr",
    "msr_tpidr",
)
_ACCESSES = frozenset({"load", "store", "amo", "cmpxchg", "probe"})
_INTEGER = ("a64_immediate", "a64_register", "a64_branch", "a64_memory", "a64_atomic", "a64_system")
_OTHER = tuple(module for module in MODULES if module not in _INTEGER)
GROUPS: dict[str, tuple[str, ...]] = {"integer": _INTEGER, **{module: (module,) for module in _OTHER}}
if _OTHER:
    GROUPS["all"] = MODULES


@cache
def operations(insn: Insn) -> frozenset[str]:
    """What its body is made of."""
    return frozenset(stage(get("aarch64"), insn, {}, fast=True).ops)


@cache
def _ordered(insn: Insn) -> bool:
    """True if it may only access what is aligned."""
    return insn.body.__module__.endswith("a64_atomic")


class StreamMaker:
    """Makes instruction words of some modules of the instruction set."""

    kept = KEPT
    pointer = BASE  # accesses go through it that need not be aligned

    def __init__(self, modules: tuple[str, ...], rng: random.Random) -> None:
        self.rng = rng
        self.isa = get("aarch64")
        self.floating = not set(modules) <= set(_INTEGER)
        self.encodings = [
            e for e in self.isa.encodings
            if e.insn.body.__module__.rpartition(".")[2] in modules and self.wanted(e.name)
        ]  # fmt: skip

        by_name: dict[str, list[Encoding]] = {}
        for e in self.encodings:
            by_name.setdefault(e.insn.name, []).append(e)
        # What shares a handler comes up more often than chance would have it.
        found = [[word.partition(":")[0] for word in words] for words in self.isa.fusion]
        self.sequences = [[by_name[name] for name in names] for names in found if by_name.keys() >= set(names)]

    def wanted(self, name: str) -> bool:
        """False if the instruction is left out."""
        return name not in SKIPPED and not name.startswith(_SKIPPED_PREFIXES)

    def sequence(self) -> list[tuple[int, Encoding]]:
        """Instructions that share a handler; some read what the one before has written."""
        words = [self.word(choices) for choices in self.rng.choice(self.sequences)]
        for i in range(1, len(words)):
            word, encoding = words[i]
            places = [place for name, place in (("rn", 5), ("rm", 16), ("rt", 0)) if name in encoding.pattern.fields]
            if self.rng.random() < 0.5 and places and not operations(encoding.insn) & _ACCESSES:
                place = self.rng.choice(places)
                word = word & ~(31 << place) | (words[i - 1][0] & 31) << place
                decoded = self.isa.decode(word)
                if decoded is not None and decoded.encoding is encoding:
                    words[i] = word, encoding
        return words

    def word(self, choices: list[Encoding] | None = None) -> tuple[int, Encoding]:
        """A random instruction that stays in its data and goes on with one of the next two."""
        rng = self.rng
        while True:
            encoding = rng.choice(choices or self.encodings)
            word = encoding.value | rng.getrandbits(32) & ~encoding.mask
            done = operations(encoding.insn)
            if done & _ACCESSES:
                word = self._placed(word, encoding)
            elif done & {"branch"}:
                field = encoding.pattern.fields["imm"]
                for low, bits, at in field.pieces:
                    word = word & ~(((1 << bits) - 1) << low) | (8 >> at & (1 << bits) - 1) << low
            decoded = self.isa.decode(word)
            if decoded is None or decoded.encoding is not encoding:
                continue
            written = [decoded.operands[o.name] for o in decoded.insn.operands if o.kind.name in ("XD", "XSPD")]
            if self.kept & set(written):
                continue
            if done & _ACCESSES and self._unpredictable(encoding, decoded.operands):
                continue
            return word, encoding

    def _placed(self, word: int, encoding: Encoding) -> int:
        """The access at a place in the data."""
        if "literal" in encoding.name:
            return word & ~(0x7FFFF << 5) | self.rng.randrange(-16, 16) << 5 & 0x7FFFF << 5
        names = {o.name for o in encoding.insn.operands}
        ordered = _ordered(encoding.insn)
        if "rn" in names:
            word = word & ~(31 << 5) | (ALIGNED if ordered else self.pointer) << 5
            if "rm" in names and any(o.name == "rm" and o.kind.name == "X" for o in encoding.insn.operands):
                word = word & ~(31 << 16) | INDEX << 16
        elif "rt" in names:  # cache maintenance
            word = word & ~31 | self.pointer
        if ordered and "imm" in names:
            word &= ~(15 << 12)
        return word

    @staticmethod
    def _unpredictable(encoding: Encoding, operands: dict[str, int]) -> bool:
        """Loads of a pair into one register, status registers that are something else too: processors may differ."""
        if operands.get("rt", -1) == operands.get("rt2", -2) and encoding.name.startswith("ld"):
            return True
        status = "stx" in encoding.name or "stlx" in encoding.name
        return status and operands["rs"] in (operands["rt"], operands["rn"], operands.get("rt2"))

    def stream(self, length: int) -> bytes:
        """`length` instructions."""
        code = bytearray()
        monitored = -1
        waiting: list[tuple[int, Encoding]] = []
        for _ in range(length):
            if not waiting and self.sequences and self.rng.random() < 0.2:
                waiting = self.sequence()
            word, _ = waiting.pop(0) if waiting else self.word()
            # A store-exclusive of another width than the load may or may not succeed.
            while _exclusive(word) and not word >> 22 & 1 and _width(word) != monitored:
                word, _ = self.word()
            if _exclusive(word) and word >> 22 & 1:
                # … nor may it be skipped, then.
                monitored = _width(word) if code[-1:] == b"" or not _branches(code[-4:]) else -1
            code += struct.pack("<I", word)
        return bytes(code + struct.pack("<I", 0xD503201F))


def _exclusive(word: int) -> bool:
    return word & 0x3F80_0000 == 0x0800_0000 and word & 0xBFA0_7C00 != 0x0820_7C00


def _width(word: int) -> int:
    return word & 0xC020_0000


def _branches(code: bytes) -> bool:
    decoded = get("aarch64").decode(int.from_bytes(code, "little"))
    return decoded is not None and "branch" in operations(decoded.insn)


def _registers(first: int, last: int, instruction: str, letter: str, size: int, start: int) -> list[str]:
    """Loads or stores of registers by twos."""
    lines: list[str] = []
    for i in range(first, last, 2):
        lines.append(f"{instruction}p {letter}{i}, {letter}{i + 1}, [x28, #{start + size * (i - first)}]")
    return lines


def _load_state(floating: bool) -> str:
    lines = ["ldr x0, [x28, #248]", "mov sp, x0", "ldr x0, [x28, #256]", "msr nzcv, x0"]
    if floating:
        lines += ["ldr x0, [x28, #264]", "msr fpcr, x0", "ldr x0, [x28, #272]", "msr fpsr, x0"]
        lines += _registers(0, 32, "ld", "q", 16, 288)
    lines += _registers(0, 28, "ld", "x", 8, 0)
    return "\n".join([*lines, "ldp x29, x30, [x28, #232]", "clrex"])


def _store_state(floating: bool) -> str:
    lines = [*_registers(0, 28, "st", "x", 8, 0), "stp x29, x30, [x28, #232]", "mov x0, sp", "str x0, [x28, #248]"]
    lines += ["mrs x0, nzcv", "str x0, [x28, #256]"]
    if floating:
        lines += ["mrs x0, fpcr", "str x0, [x28, #264]", "mrs x0, fpsr", "str x0, [x28, #272]"]
        lines += _registers(0, 32, "st", "q", 16, 288)
    return "\n".join([*lines, f"add x28, x28, #{WORDS * 8}"])


def fpcr_value(rng: random.Random) -> int:
    """FPCR: rounding mode, default NaN, flushing to zero, of halves, too, alternative halves."""
    bits = ((24, 0.2), (25, 0.2), (19, 0.1), (26, 0.1))
    return rng.getrandbits(2) << 22 | sum((rng.random() < share) << bit for bit, share in bits)


def vector_value(rng: random.Random) -> int:
    """128 bits: a few floating-point numbers, or anything."""
    if rng.random() < 0.3:
        return rng.getrandbits(128)
    if rng.random() < 0.5:
        return float_value(rng) | float_value(rng) << 64
    return sum((float_value(rng) & 0xFFFF_FFFF) << 32 * i for i in range(4))


def build(path: Path, streams: list[bytes], rng: random.Random, floating: bool) -> Path:
    """Assemble and link the program; its states are random."""
    lines: list[str] = []
    for _ in streams:
        x = [int_value(rng) for _ in range(31)]
        values = [str(value) for value in x[:31]]
        values[ALIGNED] = values[BASE] = "middle"
        values[INDEX] = str(rng.randrange(64))
        values[28] = "0"
        vectors = [vector_value(rng) for _ in range(32)]
        values += [str(int_value(rng)), str(rng.getrandbits(4) << 28), str(fpcr_value(rng)), "0", "0"]
        values += [str(v >> 64 * half & (1 << 64) - 1) for v in vectors for half in (0, 1)]
        lines.append(f".8byte {', '.join(values)}")
    parts = [".globl _start", ".text", "_start:", "ldr x28, =states"]
    for stream in streams:
        body = "\n".join(f".4byte {word:#x}" for word in struct.unpack(f"<{len(stream) // 4}I", stream))
        parts += [_load_state(floating), body, _store_state(floating), "b 1f", ".ltorg", "1:"]
    size = WORDS * 8 * len(streams)
    parts.append(f"""
    mov x0, #1
    ldr x1, =states
    ldr x2, ={size + DATA_SIZE}
    mov x8, #64
    svc #0
    mov x0, #0
    mov x8, #93
    svc #0
    .data
    .balign 4096
states:
    {chr(10).join(lines)}
data:
    .zero {DATA_SIZE // 2}
    .balign 4096
middle:
    .zero {DATA_SIZE // 2 + 4096}
""")
    source = path.with_suffix(".s")
    source.write_text("\n".join(parts))
    target = path.with_suffix(".elf")
    subprocess.run(["aarch64-linux-gnu-gcc", "-nostdlib", "-static", "-o", target, source], check=True)
    return target
