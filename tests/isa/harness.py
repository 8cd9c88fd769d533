"""Instruction cases: one line in, one line out. A `Guest` says what is particular to an architecture.

    instructions | what is set before | what is different after | disassembly

Instructions are GNU assembly, separated by ``;``; the last column is given where the assembler does not know the instruction, and
is what polyvm's disassembler makes of it. Set and expected are lists of

    a0=5            a register by name, also -5, 0x5
    fa0=1.5d        a double, single (s) or half (h) in a floating-point register, as the guest keeps it there
    nzcv=NC         bits by their letters
    m64[0x20000]=5  memory: 8, 16, 32, 64 or 128 bits
    a0=?            (after) anything
    a0=pc+4         (after) the address of the first instruction, and so much
    pc=+8           (after) the pc, from the address of the first instruction; without it, the end of the last one
    exit=illegal    (after) an exit by its name; exit=fault:w:0x30000:8 with access, address and size

Registers start as the guest's `start` says, so that a stray read shows. Whatever is not listed as different must be as it was.
Memory: 0x20000 to 0x22000 may be read and written, 0x22000 to 0x23000 read, nothing else.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from polyvm.errors import MemoryFault
from polyvm.isa import get
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from polyvm.isa import Isa

CODE, CODE_STEP = 0x10000, 32
DATA, READ_ONLY, DATA_END = 0x20000, 0x22000, 0x23000
M64 = (1 << 64) - 1
ANY = -1
_FLOATS = {"d": ("<d", 8), "s": ("<f", 4), "h": ("<e", 2)}
_EXITS = {name: code for code, name in exits.NAMES.items()}
_ACCESS = {letter: code for code, letter in exits.ACCESS_LETTERS.items()}


class Guest:
    """One architecture's cases. `names` are the registers that are compared, `others` further names of them."""

    name: str
    folder: Path
    names: tuple[str, ...]
    others: dict[str, str] = {}
    boxed = False  # narrow floating-point numbers have ones above
    letters: dict[str, str] = {}  # of registers made of bits: from bit 0 up, a dot for none

    def start(self, name: str) -> int:
        """What a register holds where a case does not say."""
        raise NotImplementedError

    def available(self) -> bool:
        """True if the assembler is installed."""
        raise NotImplementedError

    def assemble(self, source: str) -> bytes:
        """The code that `source` assembles to."""
        raise NotImplementedError

    def prepared(self, text: str) -> str:
        """A case's instructions as the assembler is to read them."""
        return text

    @property
    def isa(self) -> Isa:
        """What is tested."""
        return get(self.name)

    def load(self) -> dict[str, list[Case]]:
        """All cases by file name."""
        found: dict[str, list[Case]] = {}
        for path in sorted(self.folder.glob("cases_*.txt")):
            lines = [
                (number, line)
                for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
                if line.strip() and not line.startswith("#")
            ]
            texts = [line.split("|")[0].strip() for _, line in lines]
            code = self.assemble("\n".join(f"{self.prepared(text)}\n.balign {CODE_STEP}, 0" for text in texts) + "\n")
            found[path.name] = [
                Case(self, line, f"{path.name}:{number}", i, self._instructions(code, CODE_STEP * i, texts[i].count(";") + 1))
                for i, (number, line) in enumerate(lines)
            ]
        return found

    def _instructions(self, code: bytes, offset: int, count: int) -> bytes:
        end = offset
        for _ in range(count):
            end += self.isa.length(int.from_bytes(code[end : end + 2], "little"))
        return code[offset:end]


class State:
    """Registers and memory, before or after."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.registers = {name: guest.start(name) for name in guest.names}
        self.memory = bytearray(DATA_END - DATA)
        self.pc = 0
        self.exit: tuple[int, ...] = ()

    def copy(self) -> State:
        """An independent copy."""
        made = State(self.guest)
        made.registers = dict(self.registers)
        made.memory, made.pc, made.exit = bytearray(self.memory), self.pc, self.exit
        return made

    def assign(self, text: str) -> None:
        """Carry out one ``name=value``."""
        name, _, value = text.partition("=")
        name = self.guest.others.get(name, name)
        if name in self.registers:
            bits = self.guest.isa.registers.names[name][2]
            if value.startswith("pc"):
                self.registers[name] = self.pc + int(value[2:] or "0", 0) & (1 << bits) - 1
            else:
                self.registers[name] = self._number(value, name, bits)
        elif name == "pc":
            self.pc = self.pc + int(value, 0) if value[0] in "+-" else int(value, 0)
        elif name == "exit":
            self.exit = _exit(value)
        elif name.startswith("m"):
            bits, _, address = name[1:-1].partition("[")
            at, size = int(address, 0) - DATA, int(bits) // 8
            assert at >= 0, text
            assert at + size <= len(self.memory), text
            self.memory[at : at + size] = self._number(value, "", 8 * size).to_bytes(size, "little")
        else:
            raise AssertionError(f"{text!r} sets nothing")

    def _number(self, text: str, name: str, bits: int) -> int:
        if text == "?":
            return ANY
        letters = self.guest.letters.get(name)
        if letters is not None and not text[0].isdigit():
            return sum(1 << letters.index(letter) for letter in text)
        if text[-1] in _FLOATS and not text.startswith("0x"):
            layout, size = _FLOATS[text[-1]]
            value = int.from_bytes(struct.pack(layout, float(text[:-1])), "little")
            return value | (M64 << 8 * size & M64 if self.guest.boxed else 0)
        return int(text, 0) & (1 << bits) - 1

    def differences(self, wanted: State) -> list[str]:
        """How this state is not `wanted`."""
        found: list[str] = []
        for name, want in wanted.registers.items():
            have = self.registers[name]
            if have != want and want != ANY:
                found.append(f"{name} is {have:#x}, not {want:#x}")
        if self.pc != wanted.pc:
            found.append(f"pc is {self.pc:#x}, not {wanted.pc:#x}")
        if self.exit != wanted.exit:
            found.append(f"exit is {self.exit}, not {wanted.exit}")
        for i, (a, b) in enumerate(zip(self.memory, wanted.memory, strict=True)):
            if a != b:
                found.append(f"the byte at {DATA + i:#x} is {a:#x}, not {b:#x}")
        return found


def _exit(text: str) -> tuple[int, ...]:
    name, *rest = text.split(":")
    if rest:
        access, address, size = rest
        return _EXITS[name], int(address, 0), _ACCESS[access], int(size)
    return (_EXITS[name],)


class Case:
    """One line."""

    def __init__(self, guest: Guest, line: str, place: str, number: int, code: bytes) -> None:
        columns = [column.strip() for column in line.split("|")]
        self.guest = guest
        self.text = columns[0]
        self.place = place
        self.address = CODE + CODE_STEP * number
        self.code = code
        self.count = len(self.text.split(";"))
        self.disassembly = columns[3] if len(columns) > 3 else ""
        self.before = State(guest)
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


# -- ways to run ----------------------------------------------------------------------------------------------------------


class _Machine:
    """What the evaluator needs: registers as the guest's layout has them, a case's memory."""

    def __init__(self, state: State, case: Case) -> None:
        self.memory = state.memory
        self.case = case
        self.pc, self.next_pc = state.pc, 0
        self.instret = self.ticks = 0
        self.fp_flags = self.fp_rm = 0
        self.files: dict[tuple[str, int], int] = {("res_addr", 0): M64}

    def get(self, file: str, index: int = 0) -> int:
        return self.files.get((file, index), 0)

    def set(self, file: str, index: int, value: int) -> None:
        self.files[file, index] = value

    def _offset(self, address: int, size: int, access: str) -> int:
        if not address >= DATA or address + size > (DATA_END if access == "r" else READ_ONLY):
            raise MemoryFault(address, access, size)
        return address - DATA

    def load(self, address: int, size: int) -> int:
        code = address - self.case.address
        if 0 <= code <= len(self.case.code) - size:
            return int.from_bytes(self.case.code[code : code + size], "little")
        at = self._offset(address, size, "r")
        return int.from_bytes(self.memory[at : at + size], "little")

    def store(self, address: int, size: int, value: int) -> None:
        at = self._offset(address, size, "w")
        self.memory[at : at + size] = value.to_bytes(size, "little")

    def probe(self, address: int, size: int, access: str) -> None:
        self._offset(address, size, access)


def run_evaluator(cases: list[Case]) -> list[State]:
    """Each case by the evaluator, from the IR of its instructions with constant operands."""
    from polyvm.codegen.evaluator import evaluate

    results: list[State] = []
    for case in cases:
        isa, state = case.guest.isa, case.before.copy()
        machine = _Machine(state, case)
        for name, value in state.registers.items():
            isa.registers.write(machine, name, value)
        machine.pc = state.pc
        for _ in range(case.count):
            at = machine.pc - case.address
            decoded = isa.decode(int.from_bytes(case.code[at : at + 4], "little"))
            if decoded is None:
                state.exit = (exits.ILLEGAL,)
                break
            machine.next_pc = machine.pc + decoded.length
            b = isa.builder()
            decoded.insn.body(b, **{o.name: b.const(o.type, decoded.operands[o.name]) for o in decoded.insn.operands})
            try:
                outcome = evaluate(b.body, machine, {})
            except MemoryFault as fault:
                state.exit = (exits.FAULT, fault.address, _ACCESS[fault.access], fault.size)
                break
            if outcome.code is not None and outcome.code != exits.FENCE_I:
                state.exit = (outcome.code, *(int(a) for a in outcome.args))
                break
            machine.pc = machine.next_pc if outcome.next_pc is None else outcome.next_pc
        state.pc = machine.pc
        state.registers = {name: isa.registers.read(machine, name) for name in state.registers}
        results.append(state)
    return results


def run_core(cases: list[Case], jit: str = "off") -> list[State]:
    """Each case by the interpreter, or compiled."""
    from polyvm.engine import Core, JitSource
    from polyvm.mem import EXEC, READ, WRITE, Arena

    arena = Arena()
    arena.map(DATA, READ_ONLY - DATA, READ | WRITE)
    arena.map(READ_ONLY, DATA_END - READ_ONLY, READ)
    arena.map(0x1000, DATA - 0x2000, READ | EXEC)
    arena.map(0x100000, 0x100000, READ | EXEC)
    for case in cases:
        arena.poke(case.address, case.code.ljust(CODE_STEP, b"\0"))
    core = Core(cases[0].guest.name, arena)
    source = JitSource.parse(jit)
    core.use_jit(source)
    table = core.isa.registers
    results: list[State] = []
    for case in cases:
        state = case.before.copy()
        for name, value in state.registers.items():
            table.write(core, name, value)
        core.set("res_addr", 0, M64)
        core.pc = state.pc
        arena.poke(DATA, bytes(state.memory))
        code = core.run(case.count)
        if code == exits.FAULT:
            state.exit = (code, core.exit_address, core.exit_access, core.exit_size)
        elif code != exits.BUDGET:
            state.exit = (code,)
        state.registers = {name: table.read(core, name) for name in state.registers}
        state.pc = core.pc
        state.memory = bytearray(arena.read(DATA, DATA_END - DATA))
        results.append(state)
    source.close()
    core.close()
    arena.close()
    return results


def check(chosen: list[Case], run: Callable[[list[Case]], list[State]]) -> None:
    """Each case has the result that it says it has."""
    problems: list[str] = []
    for case, result in zip(chosen, run(chosen), strict=True):
        problems += [f"{case!r}: {difference}" for difference in result.differences(case.after)]
    assert not problems, "\n" + "\n".join(problems)


def uncovered(guest: Guest, cases: dict[str, list[Case]]) -> list[str]:
    """The encodings that are in no case."""
    isa, seen = guest.isa, set[str]()
    for file in cases.values():
        for case in file:
            rest = case.code
            while rest:
                decoded = isa.decode(int.from_bytes(rest[:4], "little"))
                if decoded is not None:
                    seen.add(decoded.encoding.name)
                rest = rest[isa.length(int.from_bytes(rest[:2], "little")) :]
    return [encoding.name for encoding in isa.encodings if encoding.name not in seen]
