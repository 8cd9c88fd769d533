"""The evaluator, the interpreter and compiled code on the same random instructions.

    python -m tests.differential.agree [--instructions N] [--seed S] [--ways WAY,…] [--without NAME,…] [--jobs N]

Each stream is a piece of code with loops, branches, calls and jumps through registers over random instructions of all extensions,
on memory between pages that are not there; some end in a fault, some are stopped at a random place and go on. A way to run is
compared with the evaluator in all registers, fcsr, memory, what ended it, and the number of instructions. Ways: `off` interprets;
`quick:0` and `full:0` compile each block before its first execution; `quick` and `full` compile what grows from the counts of a first
run, loops and all. The first disagreement is reduced and printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import struct
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TYPE_CHECKING, NamedTuple

from polyvm.codegen.evaluator import evaluate
from polyvm.engine import Core, JitSource
from polyvm.engine.interpreter import load
from polyvm.errors import MemoryFault
from polyvm.isa import get
from polyvm.mem import EXEC, READ, WRITE, Arena
from polyvm.vcpu import exits
from tests.differential.streams import BRANCHES, JUMPS, StreamMaker, float_value, int_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polyvm.ir.value import Region

WAYS = ("off", "quick:0", "full:0", "quick", "full")
CODE, CODE_SIZE, STEP = 0x1000000, 0x400000, 0x4000
DATA, DATA_SIZE = 0x400000, 0x4000
MIDDLE = DATA + DATA_SIZE // 2
STACK, LOW_BASE, LINK, INNER, WALK, OUTER, BASE = 2, 9, 27, 28, 29, 30, 31
KEPT = frozenset({STACK, LOW_BASE, LINK, INNER, WALK, OUTER, BASE})  # random instructions do not write them
MOST = 200_000  # instructions: a stream that takes more is not what it should be
BATCH = 40  # streams on one core
SHARE = 20_000  # instructions for one process
M64 = (1 << 64) - 1
ECALL, NOP, SHORT_NOP = 0x73, 0x13, 1
_LETTERS = {letter: code for code, letter in exits.ACCESS_LETTERS.items()}
_LEFT_OUT = frozenset({"ecall", "ebreak", "c.ebreak", "wrs.nto", "wrs.sto", "pause"})
_SHORT_BRANCHES = ("c.beqz", "c.bnez")


class Stream(NamedTuple):
    """Code, what it starts from, and after how many instructions it is stopped for once (0: not at all)."""

    code: bytes
    x: list[int]
    f: list[int]
    fcsr: int
    memory: bytes
    stop: int


class State(NamedTuple):
    """What is compared."""

    end: tuple[int, ...]
    pc: int
    count: int
    x: list[int]
    f: list[int]
    fcsr: int
    memory: bytes

    def differences(self, other: State) -> list[str]:
        """In words, what `other` has instead."""
        found: list[str] = []
        for name in ("end", "pc", "count", "fcsr"):
            a, b = getattr(self, name), getattr(other, name)
            if a != b:
                found.append(f"{name}: {b}, evaluator {a}" if name in ("end", "count") else f"{name}: {b:#x}, evaluator {a:#x}")
        for letter, mine, its in (("x", self.x, other.x), ("f", self.f, other.f)):
            found += [f"{letter}{i}: {b:#x}, evaluator {a:#x}" for i, (a, b) in enumerate(zip(mine, its, strict=True)) if a != b]
        found += [f"[{DATA + i:#x}]: {b:#x}, evaluator {a:#x}"
                  for i, (a, b) in enumerate(zip(self.memory, other.memory, strict=True)) if a != b][:8]  # fmt: skip
        return found


# -- streams --------------------------------------------------------------------------------------------------------------


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


class Maker(StreamMaker):
    """Makes streams of all extensions, or of those that are given."""

    def __init__(
        self, rng: random.Random, extensions: frozenset[str] | None = None, without: frozenset[str] = frozenset()
    ) -> None:
        every = frozenset(e.ext for e in get("riscv64").encodings)
        super().__init__(extensions or every, rng)
        self.encodings = [e for e in get("riscv64").encodings
                          if e.ext in (extensions or every) and e.name not in _LEFT_OUT | without and e.name not in JUMPS
                          and e.name not in BRANCHES and e.name not in _SHORT_BRANCHES]  # fmt: skip
        self.branches = [e for e in get("riscv64").encodings if e.name in BRANCHES or e.name in _SHORT_BRANCHES]
        self.memory = [e for e in self.encodings if _kind(e.name) == "memory"]
        self.walks = False  # accesses go through the register that moves

    def one(self) -> bytes:
        """A random instruction that goes on with the next one and stays in its memory."""
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

    def _with_base(self, word: int, encoding: object, kind: str) -> int:
        """`word` with the register of a pointer."""
        fields = encoding.pattern.fields  # type: ignore[attr-defined]
        if "rs1" not in fields:
            return word
        name: str = encoding.name  # type: ignore[attr-defined]
        short = name.startswith("c.")
        walks = kind == "memory" and self.walks and self.rng.random() < 0.6
        value = LOW_BASE - 8 if short else WALK if walks else self.rng.choice((BASE, LOW_BASE))
        for low, bits, at in fields["rs1"].pieces:
            word = word & ~(((1 << bits) - 1) << low) | ((value >> at) & ((1 << bits) - 1)) << low
        return word

    def straight(self, most: int) -> bytes:
        """Up to so many instructions in a row."""
        return b"".join(self.one() for _ in range(self.rng.randint(1, most)))

    def body(self, pieces: int, depth: int) -> bytes:
        """Pieces of code, one after the other."""
        return b"".join(self._piece(depth) for _ in range(pieces))

    def _piece(self, depth: int) -> bytes:
        rng = self.rng
        kind = rng.randrange(10)
        if kind < 4:
            return self.straight(10)
        if kind < 7 or depth == 0:
            return self._skip(self.straight(6))
        if kind == 7:
            return self._call(depth)
        if kind == 8:
            return struct.pack("<I", _i(0x73, 5, 0, rng.randrange(5), 2))  # fsrmi
        return self._loop(depth)

    def _skip(self, over: bytes) -> bytes:
        """Perhaps over some instructions."""
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

    def _call(self, depth: int) -> bytes:
        """A function behind a jump, called a few times."""
        function = self.straight(8) + struct.pack("<I", _i(0x67, 0, 0, LINK, 0))
        code = bytearray(_jal(0, 4 + len(function)) + function)
        for _ in range(self.rng.randint(1, 3)):
            code += self.straight(3)
            code += _jal(LINK, 4 - len(code))
        return bytes(code)

    def _loop(self, depth: int) -> bytes:
        rng = self.rng
        counter = OUTER if depth == 2 else INNER
        rounds = rng.choice((2, 5, 6, 8, 20)) if depth == 2 else rng.choice((3, 6, 9, 40))
        head = _addi(counter, 0, rounds)
        before, self.walks = self.walks, depth == 1 or rng.random() < 0.5
        if self.walks:
            head += _addi(WALK, BASE, rng.randrange(-1500, 1500))
        step = _addi(WALK, WALK, rng.randint(-4000 // rounds, 4000 // rounds) & rng.choice((-1, -8, -8))) if self.walks else b""
        code = self.body(rng.randint(1, 3), 1) if depth == 2 and rng.random() < 0.5 else self.straight(10)
        if depth == 2:  # the inner loop may have moved it
            step = b"" if len(code) > 60 else step
        self.walks = before
        code += step + _addi(counter, counter, -1)
        return head + code + _to(0x1063 | counter << 15, -len(code))

    def stream(self, length: int) -> bytes:
        """Code of about so many instructions, with its end."""
        rng, code = self.rng, bytearray()
        while len(code) < 3 * length:
            code += self._piece(2)
        kind = rng.randrange(6)
        if kind == 0:  # an address from anywhere
            word = rng.choice((0x3, 0x23)) | rng.randrange(4) << 12 | rng.getrandbits(20) << 12 & ~0x7000
            code += struct.pack("<I", word | rng.getrandbits(5) << 15)
        elif kind == 1:  # a loop that leaves its memory
            head = _addi(WALK, BASE, 0) + _addi(OUTER, 0, 2000)
            before, self.walks = self.walks, True
            loop = self.straight(6) + self.straight(6)
            self.walks = before
            loop += _addi(WALK, WALK, rng.choice((40, 64, 63, 200, -64, -48, 128))) + struct.pack("<I", _i(3, 3, 5, WALK, 8))
            loop += _addi(OUTER, OUTER, -1)
            code += head + loop + _to(0x1063 | OUTER << 15, -len(loop))
        return bytes(code) + struct.pack("<I", ECALL)

    def state(self, code: bytes) -> Stream:
        """`code` with a random state."""
        rng = self.rng
        x = [0, *(int_value(rng) for _ in range(31))]
        x[BASE], x[WALK], x[STACK], x[LOW_BASE] = MIDDLE, MIDDLE, DATA + 0x1000, DATA + 0x1800
        f = [float_value(rng) for _ in range(32)]
        stop = rng.randrange(1, len(code)) if rng.random() < 0.2 else 0
        return Stream(code, x, f, rng.randrange(5) << 5 | rng.getrandbits(5), rng.randbytes(DATA_SIZE), stop)


_PLAIN = frozenset("lb lh lw ld lbu lhu lwu sb sh sw sd flw fsw fld fsd flh fsh".split())


def _kind(name: str) -> str:
    """Whether and how it touches memory."""
    name = name.removeprefix("c.")
    if name in _PLAIN or name in ("lwsp", "ldsp", "swsp", "sdsp", "fldsp", "fsdsp"):
        return "memory"
    if name.startswith(("amo", "lr.", "sc.", "cbo.")):
        return "aligned"
    return ""


def _writes_x(insn: object) -> bool:
    return any(o.name == "rd" and o.kind.name.startswith("X") for o in insn.operands)  # type: ignore[attr-defined]


# -- the evaluator --------------------------------------------------------------------------------------------------------


class EvaluatorMachine:
    """State, memory and code for the evaluator."""

    def __init__(self, stream: Stream, address: int) -> None:
        self.x, self.f = list(stream.x), list(stream.f)
        self.memory = bytearray(stream.memory)
        self.code, self.code_at = stream.code, address
        self.fp_rm, self.fp_flags = stream.fcsr >> 5, stream.fcsr & 31
        self.extra: dict[tuple[str, int], int] = {("res_addr", 0): M64}
        self.pc = self.next_pc = address
        self.instret = self.ticks = 0

    def get(self, slot: str, index: int) -> int:
        """A register."""
        if slot == "x" and index < 32:
            return self.x[index]
        return self.f[index] if slot == "f" else self.extra.get((slot, index), 0)

    def set(self, slot: str, index: int, value: int) -> None:
        """Write a register."""
        if slot == "x" and index < 32:
            self.x[index] = value
        elif slot == "f":
            self.f[index] = value
        else:
            self.extra[slot, index] = value

    def load(self, address: int, size: int) -> int:
        """Data or code."""
        if address >= CODE and address + size <= CODE + CODE_SIZE:
            at = address - self.code_at
            if at >= 0 and at + size <= len(self.code):
                return int.from_bytes(self.code[at : at + size], "little")
            raise Elsewhere
        at = self._offset(address, size, "r")
        return int.from_bytes(self.memory[at : at + size], "little")

    def store(self, address: int, size: int, value: int) -> None:
        """Data."""
        at = self._offset(address, size, "w")
        self.memory[at : at + size] = value.to_bytes(size, "little")

    def probe(self, address: int, size: int, access: str) -> None:
        """Only whether it could be accessed."""
        self._offset(address, size, access)

    @staticmethod
    def _offset(address: int, size: int, access: str) -> int:
        if not DATA <= address < DATA + DATA_SIZE:
            # An access that begins below the memory is refused for its first byte.
            raise MemoryFault(address, access, size)
        if address + size > DATA + DATA_SIZE:
            raise MemoryFault(DATA + DATA_SIZE, access, size)
        return address - DATA

    def state(self, end: tuple[int, ...]) -> State:
        """As it is now."""
        return State(end, self.pc, self.instret, self.x[:32], list(self.f), self.fp_rm << 5 | self.fp_flags, bytes(self.memory))


class Elsewhere(Exception):
    """The stream reads what the evaluator does not have: another stream's code."""


def by_evaluator(stream: Stream, address: int) -> list[State]:
    """The states at the stop, if there is one, and at the end. An end in BUDGET means that there is none."""
    isa, machine, states = get("riscv64"), EvaluatorMachine(stream, address), list[State]()
    staged: dict[int, tuple[Region, int]] = {}
    while machine.instret < MOST:
        if machine.instret == stream.stop and stream.stop and not states:
            states.append(machine.state((exits.BUDGET,)))
        at = machine.pc - address
        if machine.pc not in staged:
            word = int.from_bytes(stream.code[at : at + 4], "little")
            decoded = isa.decode(word)
            if decoded is None:
                return [*states, machine.state((exits.ILLEGAL,))]
            b = isa.builder()
            decoded.insn.body(b, **{o.name: b.const(o.type, decoded.operands[o.name]) for o in decoded.insn.operands})
            staged[machine.pc] = b.body, decoded.length
        body, length = staged[machine.pc]
        machine.next_pc = machine.pc + length
        try:
            outcome = evaluate(body, machine, {})
        except MemoryFault as fault:
            return [*states, machine.state((exits.FAULT, fault.address, _LETTERS[fault.access], fault.size))]
        if outcome.code is not None and outcome.code != exits.FENCE_I:
            machine.instret += outcome.code == exits.SYSCALL
            return [*states, machine.state((outcome.code,))]
        machine.instret += 1
        machine.pc = machine.next_pc if outcome.next_pc is None else outcome.next_pc
    return [*states, machine.state((exits.BUDGET,))]


# -- cores ----------------------------------------------------------------------------------------------------------------


class Bench:
    """A core that runs streams in one way."""

    def __init__(self, way: str) -> None:
        self.grown = way in ("quick", "full")
        self.arena = Arena()
        self.arena.map(CODE, CODE_SIZE, READ | EXEC)
        self.arena.map(DATA, DATA_SIZE, READ | WRITE)
        self.core = Core("riscv64", self.arena)
        # Hot at once: the first look, which is made below, finds all that was executed.
        self.source = JitSource.parse(f"{way}:0.000001" if self.grown else way)
        self.core.use_jit(self.source)

    def run(self, stream: Stream, address: int) -> list[State]:
        """The states that the evaluator's are compared with."""
        self.arena.poke(address, stream.code)
        if self.grown:
            self._once(stream, address)
            self._grow()
        return self._once(stream, address)

    def _once(self, stream: Stream, address: int) -> list[State]:
        core, states = self.core, list[State]()
        for i in range(32):
            core.set("x", i, stream.x[i])
            core.set("f", i, stream.f[i])
        core.set("res_addr", 0, M64)
        core.isa.registers.write(core, "fcsr", stream.fcsr)
        core.pc, core.instructions = address, 0
        self.arena.poke(DATA, stream.memory)
        if stream.stop:
            code = core.run(stream.stop)
            states.append(self._state(code))
            if code != exits.BUDGET:
                return states
        states.append(self._state(core.run(MOST)))
        return states

    def _grow(self) -> None:
        """Compile what the counts say is hot."""
        core, jit = self.core, self.source.made(self.core)
        jit.attach(core)
        core.jit_rest = 0
        while True:
            jit.tick(core)
            if not jit._asked:
                break
            time.sleep(0.002)
        core.set_field("tick_left", 1 << 40)

    def _state(self, code: int) -> State:
        core = self.core
        end = (code, core.exit_address, core.exit_access, core.exit_size) if code == exits.FAULT else (code,)
        return State(end, core.pc, core.instructions, [core.get("x", i) for i in range(32)], [core.get("f", i) for i in range(32)],
                     core.isa.registers.read(core, "fcsr"), self.arena.read(DATA, DATA_SIZE))  # fmt: skip

    def regions(self) -> int:
        """How many were made."""
        return self.source.add_to(self.core.statistics()).regions

    def close(self) -> None:
        """Give all back."""
        self.source.close()
        self.core.close()
        self.arena.close()


# -- comparing ------------------------------------------------------------------------------------------------------------


class Disagreement(AssertionError):
    """A way to run that has another result."""


def instructions(code: bytes) -> Iterator[tuple[int, int]]:
    """Offset and length of each instruction."""
    isa, at = get("riscv64"), 0
    while at < len(code):
        length = isa.length(int.from_bytes(code[at : at + 2], "little"))
        yield at, length
        at += length


def compared(expected: list[State], found: list[State]) -> list[str]:
    """The differences, in words."""
    if len(expected) != len(found):
        return [f"ends {[s.end for s in found]}, evaluator {[s.end for s in expected]}"]
    return [text for a, b in zip(expected, found, strict=True) for text in a.differences(b)]


def alone(stream: Stream, way: str) -> list[str]:
    """The differences where nothing else has run."""
    bench = Bench(way)
    try:
        expected = by_evaluator(stream, CODE)
        return [] if expected[-1].end == (exits.BUDGET,) else compared(expected, bench.run(stream, CODE))
    except (Elsewhere, KeyError):
        return []
    finally:
        bench.close()


def reduced(stream: Stream, way: str) -> Stream:
    """The same disagreement with fewer instructions: the others become nops."""
    pieces = list(instructions(stream.code))[:-1]
    size = max(1, len(pieces) // 2)
    while True:
        for first in range(0, len(pieces), size):
            code = bytearray(stream.code)
            for at, length in pieces[first : first + size]:
                code[at : at + length] = (NOP if length == 4 else SHORT_NOP).to_bytes(length, "little")
            shorter = stream._replace(code=bytes(code))
            if shorter != stream and alone(shorter, way):
                stream = shorter
        if size == 1:
            return stream
        size //= 2


def described(stream: Stream, way: str, differences: list[str]) -> str:
    """For people: the code without its nops, the registers it starts from, the differences."""
    isa = get("riscv64")
    lines = [f"{way} disagrees: {'; '.join(differences[:12])}"]
    for at, length in instructions(stream.code):
        word = int.from_bytes(stream.code[at : at + length], "little")
        if word not in (NOP, SHORT_NOP):
            lines.append(f"  {CODE + at:#x}  {word:0{2 * length}x}  {isa.disassemble(word, CODE + at)}")
    lines.append(f"x = {[hex(v) for v in stream.x]}")
    lines.append(f"f = {[hex(v) for v in stream.f]}")
    lines.append(f"fcsr = {stream.fcsr:#x}, stop = {stream.stop}, code = {stream.code.hex()}")
    return "\n".join(lines)


class Totals:
    """What was run."""

    def __init__(self) -> None:
        self.streams = self.written = self.executed = self.faults = 0
        self.regions: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def add(self, other: Totals) -> None:
        """What another process has run, too."""
        for name in ("streams", "written", "executed", "faults"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, its in ((self.regions, other.regions), (self.seconds, other.seconds)):
            for way, value in its.items():
                mine[way] = mine.get(way, 0) + value  # type: ignore[operator, assignment]


def agree(
    seed: str, wanted: int, ways: tuple[str, ...] = WAYS, length: int = 120, without: frozenset[str] = frozenset()
) -> Totals:
    """Run streams until the evaluator has executed `wanted` instructions; raises Disagreement at the first difference."""
    totals = Totals()
    batch = 0
    while totals.executed < wanted:
        # Random code is not worth keeping; the way that finds it on disk would not compile it.
        with tempfile.TemporaryDirectory() as cache:
            os.environ["POLYVM_CACHE"] = cache
            _batch(f"{seed}/{batch}", wanted, ways, length, without, totals)
        batch += 1
    return totals


def _batch(seed: str, wanted: int, ways: tuple[str, ...], length: int, without: frozenset[str], totals: Totals) -> None:
    maker = Maker(random.Random(seed), without=without)
    benches = {way: Bench(way) for way in ways}

    def clocked(name: str, began: float) -> None:
        totals.seconds[name] = totals.seconds.get(name, 0.0) + time.perf_counter() - began

    try:
        for number in range(BATCH):
            if totals.executed >= wanted:
                break
            stream, address = maker.state(maker.stream(length)), CODE + number * STEP
            began = time.perf_counter()
            try:
                expected = by_evaluator(stream, address)
            except Elsewhere:
                continue
            clocked("evaluator", began)
            assert expected[-1].end != (exits.BUDGET,), f"seed {seed}, stream {number} does not end"
            totals.streams += 1
            totals.written += sum(1 for _ in instructions(stream.code))
            totals.executed += expected[-1].count
            totals.faults += expected[-1].end[0] == exits.FAULT
            for way, bench in benches.items():
                began = time.perf_counter()
                differences = compared(expected, bench.run(stream, address))
                clocked(way, began)
                if differences:
                    text = "alone it agrees"
                    if alone(stream, way):
                        small = reduced(stream, way)
                        text = described(small, way, alone(small, way))
                    raise Disagreement(f"seed {seed}, stream {number}: {way}: {'; '.join(differences[:12])}\n{text}")
        for way, bench in benches.items():
            totals.regions[way] = totals.regions.get(way, 0) + bench.regions()
    finally:
        for bench in benches.values():
            bench.close()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instructions", type=int, default=20_000)
    parser.add_argument("--seed", default=str(random.SystemRandom().getrandbits(32)))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--length", type=int, default=120, help="instructions written in a stream, about")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--without", default="", help="instructions that are left out")
    options = parser.parse_args()
    without = frozenset(filter(None, options.without.split(",")))
    load("riscv64")
    print(f"seed {options.seed}", flush=True)
    totals = Totals()
    # What is compiled stays in memory as long as its process.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(options.jobs, mp_context=spawn, max_tasks_per_child=1)
    with pool:
        ways = tuple(options.ways.split(","))
        jobs = [pool.submit(agree, f"{options.seed}/{i}", min(SHARE, options.instructions - i * SHARE), ways, options.length, without)
                for i in range(-(-options.instructions // SHARE))]  # fmt: skip
        for job in as_completed(jobs):
            try:
                totals.add(job.result())
            except Disagreement as difference:
                print(difference)
                pool.shutdown(cancel_futures=True)
                return 1
    print(f"{totals.executed:,} instructions executed, {totals.written:,} of them different, in {totals.streams:,} streams, "
          f"{totals.faults} of which end in a fault")  # fmt: skip
    for name, seconds in totals.seconds.items():
        print(f"{name:<10} {seconds:8.1f} s   {totals.regions.get(name, 0):,} regions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
