"""Random instruction streams as one riscv64 program, for polyvm and qemu-riscv64 to run.

The program loads all registers from a table, runs a stream of random instructions, stores all registers, and goes on with the
next stream; at the end it writes what it stored to standard output. So both sides run the same bytes and any difference in a
register or flag shows.
"""

from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

from polyvm.isa import get

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from polyvm.isa.insn import Encoding

STATE_WORDS = 32 + 32 + 1  # x, f, fcsr
NAMES = [*(f"x{n}" for n in range(32)), *(f"f{n}" for n in range(32)), "fcsr"]
QEMU = ("qemu-riscv64", "-cpu", "rv64,Zfh=true")
BASE = 31  # the register that loads, stores and atomics go through
# qemu 7.2 counts ctzw of a zero word on into the upper half.
SKIPPED = frozenset({"ctzw", "ecall", "ebreak", "c.ebreak", "fence.i", "wrs.nto", "wrs.sto"})
JUMPS = frozenset({"jal", "jalr", "c.j", "c.jr", "c.jalr"})
BRANCHES = frozenset({"beq", "bne", "blt", "bge", "bltu", "bgeu"})
DATA_SIZE = 4096

_SPECIAL_64 = [
    0, 1 << 63, 0x3FF0000000000000, 0xBFF0000000000000, 0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000,
    0x7FF0000000000001, 0xFFF8000000000123, 1, 0x000FFFFFFFFFFFFF, 0x0010000000000000, 0x7FEFFFFFFFFFFFFF,
    0x41DFFFFFFFC00000, 0x41E0000000000000, 0xC1E0000000200000, 0x43E0000000000000, 0xC3E0000000000000,
    0x43F0000000000000, 0x3FE0000000000000, 0x3FDFFFFFFFFFFFFF, 0x4340000000000001, 0xBFEFFFFFFFFFFFFF,
]  # fmt: skip
_SPECIAL_32 = [
    0, 1 << 31, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFC00123, 1, 0x007FFFFF,
    0x00800000, 0x7F7FFFFF, 0x4EFFFFFF, 0x4F000000, 0x5F000000, 0x5F800000, 0x3F000000, 0x3EFFFFFF, 0xCF000001,
]  # fmt: skip
_SPECIAL_16 = [
    0, 0x8000, 0x3C00, 0xBC00, 0x7C00, 0xFC00, 0x7E00, 0x7C01, 0xFE12, 1, 0x03FF, 0x0400, 0x7BFF, 0x3800, 0x37FF, 0x0200,
]  # fmt: skip


def float_value(rng: random.Random) -> int:
    """A register's content: special or random, of any width, mostly well boxed."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.getrandbits(64)
    if kind < 4:
        if rng.random() < 0.5:
            return rng.choice(_SPECIAL_64)
        return rng.getrandbits(1) << 63 | rng.randrange(1000, 1048) << 52 | rng.getrandbits(52)
    if kind < 7:
        if rng.random() < 0.5:
            low = rng.choice(_SPECIAL_32)
        else:
            low = rng.getrandbits(1) << 31 | rng.randrange(100, 154) << 23 | rng.getrandbits(23)
        return 0xFFFFFFFF << 32 | low
    return 0xFFFFFFFFFFFF << 16 | (rng.choice(_SPECIAL_16) if rng.random() < 0.5 else rng.getrandbits(16))


def int_value(rng: random.Random) -> int:
    """A register's content: small, around powers of two, or anything."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randrange(-20, 20) & (1 << 64) - 1
    if kind == 1:
        return ((1 << rng.randrange(64)) + rng.randrange(-2, 3)) & (1 << 64) - 1
    if kind == 2:
        return rng.getrandbits(32) - (1 << 31) & (1 << 64) - 1
    return rng.getrandbits(64)


class StreamMaker:
    """Makes instruction words of the given extensions."""

    def __init__(self, extensions: frozenset[str], rng: random.Random) -> None:
        self.rng = rng
        self.isa = get("riscv64")
        self.encodings = [
            e for e in self.isa.encodings
            if e.ext in extensions and e.name not in SKIPPED and e.name not in JUMPS and not e.name.startswith("cbo.")
            and not (e.name.startswith("c.") and e.name[2:] in ("beqz", "bnez"))
        ]  # fmt: skip

    def word(self) -> tuple[int, Encoding]:
        """A random instruction that neither jumps nor touches memory outside the data page."""
        rng = self.rng
        while True:
            encoding = rng.choice(self.encodings)
            word = encoding.value | rng.getrandbits(8 * encoding.length) & ~encoding.mask
            if not encoding.matches(word):
                continue
            decoded = self.isa.decode(word)
            if decoded is None or decoded.encoding is not encoding:
                continue
            operands = decoded.operands
            if operands.get("rd") == BASE and any(o.name == "rd" and o.kind.name.startswith("X") for o in decoded.insn.operands):
                continue
            if encoding.name.startswith(("amocas.q",)):
                continue
            if encoding.name in BRANCHES:
                return word, encoding
            if operands.get("rm") in (5, 6):
                continue  # reserved
            if "csr" in operands and not self._harmless(encoding.name, operands):
                continue
            if _touches_memory(decoded.insn.name):
                if operands.get("rs1") != BASE:
                    if not encoding.name.startswith("c."):
                        field = encoding.pattern.fields["rs1"]
                        for low, bits, at in field.pieces:
                            word = word & ~(((1 << bits) - 1) << low) | ((BASE >> at) & ((1 << bits) - 1)) << low
                    else:
                        continue
                if operands.get("rd") == BASE:
                    continue
            return word, encoding

    @staticmethod
    def _harmless(name: str, operands: dict[str, int]) -> bool:
        """A CSR access that leaves a rounding mode in place that exists."""
        if operands["csr"] == 1:
            return True
        reads_only = operands.get("rs1", operands.get("uimm")) == 0 and not name.startswith("csrrw")
        return operands["csr"] in (2, 3) and reads_only

    def stream(self, length: int) -> bytes:
        """`length` instructions, some of them branches over the next one."""
        code = bytearray()
        reserved = ""
        for _ in range(length):
            word, encoding = self.word()
            # A store-conditional of another width than the load may or may not succeed.
            while encoding.name.startswith("sc.") and encoding.name[3:] != reserved:
                word, encoding = self.word()
            if encoding.name.startswith("lr."):
                reserved = encoding.name[3:]
            if encoding.name in BRANCHES:
                skipped, other = self.word()
                while other.name in BRANCHES or other.name.startswith(("lr.", "sc.")):
                    skipped, other = self.word()
                distance = 4 + other.length
                word &= ~0xFE000F80
                word |= (distance >> 1 & 15) << 8 | (distance >> 5 & 63) << 25
                code += struct.pack("<I", word) + skipped.to_bytes(other.length, "little")
            else:
                code += word.to_bytes(encoding.length, "little")
        return bytes(code)


_MEMORY = ("lb", "lh", "lw", "ld", "lbu", "lhu", "lwu", "sb", "sh", "sw", "sd", "flw", "fsw", "fld", "fsd", "flh", "fsh")


def _touches_memory(name: str) -> bool:
    return name in _MEMORY or name.startswith(("amo", "lr.", "sc."))


_HEAD = """
    .option norvc
    .option norelax
    .option nopic
    .globl _start
    .text
_start:
    la x31, states
    la x30, pointer
    sd x31, 0(x30)
"""


def _load_state() -> str:
    lines = ["la x30, pointer", "ld x31, 0(x30)", f"ld x1, {64 * 8}(x31)", "csrw fcsr, x1"]
    lines += [f"fld f{i}, {(32 + i) * 8}(x31)" for i in range(32)]
    lines += [f"ld x{i}, {i * 8}(x31)" for i in range(1, 31)]
    lines += ["la x31, middle"]
    return "\n".join(lines)


def _store_state() -> str:
    lines = ["sd x30, 0(x31)", "la x30, pointer", "ld x31, 0(x30)"]
    lines += [f"sd x{i}, {i * 8}(x31)" for i in range(1, 30)]
    lines += ["la x1, middle", "ld x2, 0(x1)", "sd x2, 240(x31)", "sd x0, 248(x31)"]
    lines += [f"fsd f{i}, {(32 + i) * 8}(x31)" for i in range(32)]
    lines += ["csrr x1, fcsr", f"sd x1, {64 * 8}(x31)", f"addi x31, x31, {STATE_WORDS * 8}", "sd x31, 0(x30)"]
    return "\n".join(lines)


def build(path: Path, streams: list[bytes], rng: random.Random) -> Path:
    """Assemble and link the program; its states are random."""
    words = [
        w for _ in streams
        for w in [0, *(int_value(rng) for _ in range(31)), *(float_value(rng) for _ in range(32)),
                  rng.choice((0, 1, 2, 3, 4)) << 5 | rng.getrandbits(5)]
    ]  # fmt: skip
    size = STATE_WORDS * 8 * len(streams)
    parts = [_HEAD]
    for stream in streams:
        stream += b"\x01\x00" * (len(stream) // 2 % 2)
        body = "\n".join(".4byte " + ", ".join(map(str, struct.unpack_from(f"<{n}I", stream, at)))
                         for at in range(0, len(stream), 256)
                         if (n := min(64, (len(stream) - at) // 4)))  # fmt: skip
        parts += [_load_state(), body, _store_state()]
    parts.append(f"""
    li a0, 1
    la a1, states
    li a2, {size + DATA_SIZE}
    li a7, 64
    ecall
    li a0, 0
    li a7, 93
    ecall
    .data
    .balign 4096
states:
    .8byte {", ".join(map(str, words))}
data:
    .zero {DATA_SIZE // 2}
middle:
    .zero {DATA_SIZE // 2 + 64}
pointer: .8byte 0
""")
    source = path.with_suffix(".s")
    source.write_text("\n".join(parts))
    target = path.with_suffix(".elf")
    subprocess.run(
        ["riscv64-linux-gnu-gcc", "-nostdlib", "-static", "-Wl,--no-relax", "-march=rv64gc", "-o", target, source], check=True
    )
    return target
