"""The evaluator, the interpreter and compiled code on the same random instructions.

    python -m tests.differential.agree [--guest NAME] [--instructions N] [--seed S] [--states N] [--ways WAY,…]
        [--without NAME,…] [--jobs N]

Each stream is a piece of code with loops, branches, calls and jumps through registers over random instructions of all extensions,
on memory between pages that are not there; some end in a fault, some are stopped at a random place and go on. It starts from
several random states. A way to run is compared with the evaluator in all registers, memory, what ended it, and the number of
instructions. Ways: `off` interprets; `stencil:0` copies code for each block, `quick:0` and `full:0` compile each block before its
first execution; `quick` and `full` compile what grows from the counts of a first run, loops and all. The first disagreement is reduced
and printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
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
from tests.differential.guests import MAKERS
from tests.differential.pieces import CODE, CODE_SIZE, DATA, DATA_SIZE, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polyvm.ir.value import Region
    from tests.differential.guests import AnyMaker
    from tests.differential.pieces import Maker

WAYS = ("off", "stencil:0", "quick:0", "full:0", "quick", "full")
STEP = 0x4000  # from one stream's code to the next one's
MOST = 200_000  # instructions: a stream that takes more is not what it should be
BATCH = 40  # streams on one core
STATES = 12  # that each stream starts from: compiling it takes longer than running it
SHARE = 50_000  # instructions for one process
M64 = (1 << 64) - 1
_LETTERS = {letter: code for code, letter in exits.ACCESS_LETTERS.items()}


class State(NamedTuple):
    """What is compared."""

    end: tuple[int, ...]
    pc: int
    count: int
    registers: dict[str, int]
    memory: bytes

    def differences(self, other: State) -> list[str]:
        """In words, what `other` has instead."""
        found: list[str] = []
        for name in ("end", "count"):
            a, b = getattr(self, name), getattr(other, name)
            if a != b:
                found.append(f"{name}: {b}, evaluator {a}")
        mine, its = {"pc": self.pc, **self.registers}, {"pc": other.pc, **other.registers}
        found += [f"{name}: {its[name]:#x}, evaluator {a:#x}" for name, a in mine.items() if its[name] != a]
        if self.memory != other.memory:
            found += [f"[{DATA + i:#x}]: {b:#x}, evaluator {a:#x}"
                      for i, (a, b) in enumerate(zip(self.memory, other.memory, strict=True)) if a != b][:8]  # fmt: skip
        return found


# -- the evaluator --------------------------------------------------------------------------------------------------------


class EvaluatorMachine:
    """State, memory and code for the evaluator."""

    def __init__(self, guest: type[Maker], stream: Stream, address: int) -> None:
        isa = get(guest.name)
        self.guest, self.table = guest, isa.registers
        self.files = {name: [0] * slot.count for name, slot in isa.layout.slots.items()}
        self.files["res_addr"][0] = M64
        self.memory = bytearray(stream.memory)
        self.code, self.code_at = stream.code, address
        self.fp_rm = self.fp_flags = 0
        self.pc = self.next_pc = address
        self.instret = self.ticks = 0
        for name, value in stream.registers.items():
            self.table.write(self, name, value)

    def get(self, file: str, index: int = 0) -> int:
        """A register."""
        return self.files[file][index]

    def set(self, file: str, index: int, value: int) -> None:
        """Write a register."""
        self.files[file][index] = value

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
        if access != "r" or not CODE <= address < CODE + CODE_SIZE:
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
        registers = {name: self.table.read(self, name) for name in self.guest.registers}
        return State(end, self.pc, self.instret, registers, bytes(self.memory))


class Elsewhere(Exception):
    """The stream reads what the evaluator does not have: another stream's code."""


Staged = dict[int, "tuple[Region, int]"]  # by address: an instruction's body, its length


def by_evaluator(guest: type[Maker], stream: Stream, address: int, staged: Staged | None = None) -> list[State]:
    """The states at the stop, if there is one, and at the end. An end in BUDGET means that there is none. `staged` keeps bodies of
    the same code."""
    isa, machine, states = get(guest.name), EvaluatorMachine(guest, stream, address), list[State]()
    staged = {} if staged is None else staged
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

    def __init__(self, guest: type[Maker], way: str) -> None:
        self.guest = guest
        self.grown = way in ("quick", "full")
        self.arena = Arena()
        self.arena.map(CODE, CODE_SIZE, READ | EXEC)
        self.arena.map(DATA, DATA_SIZE, READ | WRITE)
        self.core = Core(guest.name, self.arena)
        # Hot at once: the first look, which is made below, finds all that was executed.
        self.source = JitSource.parse(f"{way}:0.000001" if self.grown else way)
        self.core.use_jit(self.source)

    def prepare(self, stream: Stream, address: int) -> None:
        """Put the code in its place."""
        self.arena.poke(address, stream.code)
        if self.grown:
            self.run(stream, address)
            self._grow()

    def run(self, stream: Stream, address: int) -> list[State]:
        """The states that the evaluator's are compared with."""
        core, states = self.core, list[State]()
        table, layout = core.isa.registers, core.isa.layout
        for name, slot in layout.slots.items():
            for i in range(slot.count):
                core.set(name, i, M64 if name == "res_addr" else 0)
        core.fp_rm = core.fp_flags = 0
        for name, value in stream.registers.items():
            table.write(core, name, value)
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
        registers = {name: core.isa.registers.read(core, name) for name in self.guest.registers}
        return State(end, core.pc, core.instructions, registers, self.arena.read(DATA, DATA_SIZE))

    def regions(self) -> int:
        """How many were made."""
        counts = self.source.add_to(self.core.statistics())
        return counts.regions + counts.exits.get("stamp", 0)

    def close(self) -> None:
        """Give all back."""
        self.source.close()
        self.core.close()
        self.arena.close()


# -- comparing ------------------------------------------------------------------------------------------------------------


class Disagreement(AssertionError):
    """A way to run that has another result."""


def instructions(guest: type[Maker], code: bytes) -> Iterator[tuple[int, int]]:
    """Offset and length of each instruction."""
    isa, at = get(guest.name), 0
    while at < len(code):
        length = isa.length(int.from_bytes(code[at : at + 2], "little"))
        yield at, length
        at += length


def compared(expected: list[State], found: list[State]) -> list[str]:
    """The differences, in words."""
    if len(expected) != len(found):
        return [f"ends {[s.end for s in found]}, evaluator {[s.end for s in expected]}"]
    return [text for a, b in zip(expected, found, strict=True) for text in a.differences(b)]


def alone(guest: type[Maker], stream: Stream, way: str) -> list[str]:
    """The differences where nothing else has run."""
    bench = Bench(guest, way)
    try:
        expected = by_evaluator(guest, stream, CODE)
        if expected[-1].end == (exits.BUDGET,):
            return []
        bench.prepare(stream, CODE)
        return compared(expected, bench.run(stream, CODE))
    except (Elsewhere, KeyError):
        return []
    finally:
        bench.close()


def reduced(guest: type[Maker], stream: Stream, way: str) -> Stream:
    """The same disagreement with fewer instructions: the others become nops."""
    pieces = list(instructions(guest, stream.code))[:-1]
    size = max(1, len(pieces) // 2)
    while True:
        for first in range(0, len(pieces), size):
            code = bytearray(stream.code)
            for at, length in pieces[first : first + size]:
                code[at : at + length] = guest.nops[length].to_bytes(length, "little")
            shorter = stream._replace(code=bytes(code))
            if shorter != stream and alone(guest, shorter, way):
                stream = shorter
        if size == 1:
            return stream
        size //= 2


def described(guest: type[Maker], stream: Stream, way: str, differences: list[str]) -> str:
    """For people: the code without its nops, the registers it starts from, the differences."""
    isa = get(guest.name)
    lines = [f"{way} disagrees: {'; '.join(differences[:12])}"]
    for at, length in instructions(guest, stream.code):
        word = int.from_bytes(stream.code[at : at + length], "little")
        if word not in guest.nops.values():
            lines.append(f"  {CODE + at:#x}  {word:0{2 * length}x}  {isa.disassemble(word, CODE + at)}")
    lines.append(", ".join(f"{name}={value:#x}" for name, value in stream.registers.items()))
    lines.append(f"stop = {stream.stop}, code = {stream.code.hex()}")
    return "\n".join(lines)


class Totals:
    """What was run."""

    def __init__(self) -> None:
        self.streams = self.written = self.executed = self.faults = 0
        self.regions: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def clock(self, name: str, began: float) -> None:
        """Count the time since then."""
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def add(self, other: Totals) -> None:
        """What another process has run, too."""
        for name in ("streams", "written", "executed", "faults"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, its in ((self.regions, other.regions), (self.seconds, other.seconds)):
            for way, value in its.items():
                mine[way] = mine.get(way, 0) + value  # type: ignore[operator, assignment]


def agree(
    guest: str,
    seed: str,
    wanted: int,
    ways: tuple[str, ...] = WAYS,
    length: int = 120,
    without: frozenset[str] = frozenset(),
    starts: int = STATES,
) -> Totals:
    """Run streams until the evaluator has executed `wanted` instructions; raises Disagreement at the first difference."""
    totals = Totals()
    load(guest)  # from the usual cache
    batch = 0
    while totals.executed < wanted:
        # Random code is not worth keeping; the way that finds it on disk would not compile it.
        with tempfile.TemporaryDirectory() as cache:
            os.environ["POLYVM_CACHE"] = cache
            _batch(MAKERS[guest], f"{seed}/{batch}", wanted, ways, length, without, starts, totals)
        batch += 1
    return totals


def _batch(
    guest: type[AnyMaker], seed: str, wanted: int, ways: tuple[str, ...], length: int,
    without: frozenset[str], starts: int, totals: Totals,
) -> None:  # fmt: skip
    maker = guest(random.Random(seed), without)
    benches = {way: Bench(guest, way) for way in ways}
    try:
        for number in range(BATCH):
            if totals.executed >= wanted:
                break
            code = maker.stream(length)
            streams = [Stream.made(maker, code) for _ in range(starts)]
            _compare(guest, f"seed {seed}, stream {number}", streams, CODE + number * STEP, benches, totals)
        for way, bench in benches.items():
            totals.regions[way] = totals.regions.get(way, 0) + bench.regions()
    finally:
        for bench in benches.values():
            bench.close()


def _compare(
    guest: type[Maker], place: str, streams: list[Stream], address: int, benches: dict[str, Bench], totals: Totals
) -> None:
    """All ways on the same code from different states."""
    began = time.perf_counter()
    staged: Staged = {}
    try:
        expected = [by_evaluator(guest, stream, address, staged) for stream in streams]
    except Elsewhere:
        return
    totals.clock("evaluator", began)
    totals.streams += 1
    totals.written += sum(1 for _ in instructions(guest, streams[0].code))
    for states in expected:
        assert states[-1].end != (exits.BUDGET,), f"{place} does not end"
        totals.executed += states[-1].count
        totals.faults += states[-1].end[0] == exits.FAULT
    for way, bench in benches.items():
        began = time.perf_counter()
        bench.prepare(streams[0], address)
        for stream, states in zip(streams, expected, strict=True):
            differences = compared(states, bench.run(stream, address))
            if differences:
                text = "alone it agrees"
                if alone(guest, stream, way):
                    small = reduced(guest, stream, way)
                    text = described(guest, small, way, alone(guest, small, way))
                raise Disagreement(f"{place}: {way}: {'; '.join(differences[:12])}\n{text}")
        totals.clock(way, began)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guest", choices=MAKERS, default="riscv64")
    parser.add_argument("--instructions", type=int, default=20_000)
    parser.add_argument("--seed", default=str(random.SystemRandom().getrandbits(32)))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--length", type=int, default=120, help="instructions written in a stream, about")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--without", default="", help="instructions that are left out")
    parser.add_argument("--states", type=int, default=STATES, help="that each stream starts from")
    options = parser.parse_args()
    without = frozenset(filter(None, options.without.split(",")))
    load(options.guest)
    print(f"seed {options.seed}", flush=True)
    totals = Totals()
    # What is compiled stays in memory as long as its process.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(options.jobs, mp_context=spawn, max_tasks_per_child=1)
    with pool:
        ways = tuple(options.ways.split(","))
        shares = [min(SHARE, options.instructions - done) for done in range(0, options.instructions, SHARE)]
        jobs = [pool.submit(agree, options.guest, f"{options.seed}/{i}", share, ways, options.length, without, options.states)
                for i, share in enumerate(shares)]  # fmt: skip
        for job in as_completed(jobs):
            try:
                totals.add(job.result())
            except Disagreement as difference:
                print(difference)
                pool.shutdown(cancel_futures=True)
                return 1
            print(f"{totals.executed:,} instructions", file=sys.stderr, flush=True)
    print(f"{totals.executed:,} instructions executed, {totals.written:,} of them different, in {totals.streams:,} streams from "
          f"{options.states} states each; {totals.faults:,} end in a fault")  # fmt: skip
    for name, seconds in totals.seconds.items():
        print(f"{name:<10} {seconds:8.1f} s   {totals.regions.get(name, 0):,} regions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
