"""Regions to LLVM: the instruction bodies once more, now with constant operands and with guest registers as LLVM values.

A region is a function of the interpreter's chain and takes the place of the first handler of its head block. It charges the
budget as the interpreter does, block by block; every cycle has a checkpoint, where it makes sure that the budget covers the
longest way to the next one. Where an instruction needs what is rare (an access off the fast path, an exit to the runtime), the
region writes back what it has changed and lets the interpreter go on at that very instruction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from polyvm.codegen.llvm_module import ModuleText
from polyvm.engine.accesses import AccessEmitter
from polyvm.engine.blocks import entered_from_outside, stage_block
from polyvm.engine.entrance import interpret, write_entrances
from polyvm.engine.exits import PATCH_SIZE, Exit
from polyvm.engine.handlers import ATTR, BLOCK, BUDGET, CPU, MEM, SLOT, HandlerEmitter
from polyvm.engine.induction import spans_of
from polyvm.engine.layout import BLOCK_PC, CpuRecord, better_index, coverage_hash, jump_offset
from polyvm.engine.loops import Entrance, find_loops
from polyvm.engine.modes import FLUSHES
from polyvm.engine.region import COUNTERS, FALL, TAKEN, TARGETS
from polyvm.ir.ops import ENV, INEXACT
from polyvm.ir.types import I64
from polyvm.mem import SIZE_BITS

if TYPE_CHECKING:
    from polyvm.engine.blocks import Block, Step
    from polyvm.engine.loops import Loop
    from polyvm.engine.region import RegionSpec
    from polyvm.ir.value import Value
    from polyvm.isa import Isa

_FIRST_WEIGHT = 9  # metadata up to here has other uses
_LOAD = 2  # what it costs to have a register at the entry, where most have to go on to the host's stack
_MOST_TARGETS = 12  # of an indirect jump that stay in the region


class Held(NamedTuple):
    """Guest registers and the LLVM values that they have; `raw`: which of them are (`FloatEmitter.raw_word`)."""

    raw: str
    registers: list[tuple[tuple[str, int], str]]


class RegionEmitter(AccessEmitter):
    """Writes the function of one region."""

    def __init__(self, module: ModuleText, record: CpuRecord, isa: Isa, spec: RegionSpec) -> None:
        super().__init__(module, record, isa, spec)
        self.blocks = {block.pc: stage_block(isa, block, flushing=spec.flushing) for block in spec.blocks}
        self.bound = spec.instructions
        self.floating = isa.floating_files
        self.start_floating()
        self.flushing = self.inexact = spec.flushing
        self._block: Block = self.blocks[spec.head]
        self._step: Step = self._block.steps[0]
        self._stub = ""
        self._stubs: list[tuple[str, Step, int, Held]] = []
        self.exits: list[Exit] = []
        self.ways: list[tuple[int, int, int, int]] = []
        self._held_now: Held | None = None  # registers that differ from the CPU record's where the instruction begins
        self._weights = 0
        self._changed: dict[int, set[tuple[str, int]]] = {}  # registers that may have been written where a block is entered
        self._numbers = {block.pc: i for i, block in enumerate(spec.blocks)}
        self.loops: dict[int, Loop] = {}
        self._loop: Loop | None = None  # while its blocks are written without the checks that its entrance stands for

    def pointer(self, address: str, offset: int = 0) -> str:
        """The CPU record is a pointer already: half as much text for LLVM to read."""
        return self.temp(f"getelementptr i8, ptr %record, i64 {offset}") if address == CPU else super().pointer(address, offset)

    # -- the whole --------------------------------------------------------------------------------------------

    def build(self) -> None:
        """The function."""
        self._scopes()
        self._connect()
        if self._held:
            self.loops = find_loops(self.blocks)
            self._registers()
            self._follow_changes()
            self.follow(self.blocks, self.spec.entries, [key for key in self._places if key[0] in self.floating])
            for loop in self.loops.values():
                loop.floor, loop.skip = self.alloca(I64), self.alloca(I64)
        for pc, block in self.blocks.items():
            self._emit_block(pc, block)
        for loop in self.loops.values():
            self._emit_loop(loop)
        body, self.lines = self.lines, []
        self._entry()
        self.lines += body
        self._leave_block()
        super(HandlerEmitter, self).finish()
        write_entrances(self.module, self.record, self.bound)

    def _connect(self) -> None:
        """Where each block goes inside the region, and which blocks close a cycle."""
        sites = {b.spec.end: b.spec.entries for b in self.blocks.values() if b.is_call and b.spec.end in self.blocks}
        returns = sorted(sites, key=lambda pc: -sites[pc])[:_MOST_TARGETS]
        for block in self.blocks.values():
            last, end = block.last, block.spec.end
            if block.steps[-1].body is None:
                targets: list[int] = []
            elif last is None:
                targets = [end]
            elif last.op == "jump":
                targets = [last.args[0].bits]
            elif last.op == "branch":
                targets = [last.args[1].bits, end]
            elif last.attrs["hint"] == "ret":
                targets = returns
            else:
                targets = list(block.spec.seen)
            block.targets = [pc for pc in targets if pc in self.blocks]
        state: dict[int, int] = {}
        for entry in self.spec.entries:
            if entry not in state:
                self._close_cycles(entry, state)
        self.ways = [self._ways_of(block) for block in self.blocks.values()]
        self.blocks = {pc: block for pc, block in self.blocks.items() if pc in state}

    def _close_cycles(self, entry: int, state: dict[int, int]) -> None:
        stack: list[tuple[int, int]] = [(entry, 0)]
        state[entry] = 1
        while stack:
            pc, i = stack.pop()
            targets = self.blocks[pc].targets
            if i == len(targets):
                state[pc] = 2
                continue
            stack.append((pc, i + 1))
            target = targets[i]
            if target not in state:
                state[target] = 1
                stack.append((target, 0))
            elif state[target] == 1:
                self.blocks[target].checked = True

    def _ways_of(self, block: Block) -> tuple[int, int, int, int]:
        last, end, n, checked = block.last, block.spec.end, block.spec.n, int(block.checked)
        if block.steps[-1].body is None:
            return n, 0, 0, checked
        if last is None or last.op == "branch":
            return n, last.args[1].bits if last is not None else 0, end, checked
        return n, last.args[0].bits if last.op == "jump" else 0, 0, checked

    def _registers(self) -> None:
        """A place for each register that the region holds."""
        values = [(step, value) for block in self.blocks.values() for step, value in self._gets_and_sets(block)]
        keys = {self._register_key(value) for _, value in values} - self._seldom()
        vectors = {key for key in keys if key[0] in self.isa.vector_files}
        self._halves = vectors - {self._register_key(v) for step, v in values if not self._is_narrow(step, v)}
        keys |= {(f"{file}+", index) for file, index in self._halves}
        for key in sorted(keys):
            self._places[key] = self.alloca(self._held_type(key))

    @staticmethod
    def _gets_and_sets(block: Block) -> list[tuple[Step, Value]]:
        return [(s, v) for s in block.steps if s.body is not None for v in s.flat if v.op in ("get", "set")]

    def _seldom(self) -> set[tuple[str, int]]:
        """Integer registers that the region is entered too often for: to load and write back those that it holds costs more than
        what is saved where they are used."""
        entered = entered_from_outside(self.blocks, self.spec.entries)
        costs: dict[tuple[str, int], int] = {}
        written: set[tuple[str, int]] = set()
        for block in self.blocks.values():
            seen: set[tuple[str, int]] = set()
            changed: set[tuple[str, int]] = set()
            for _, value in self._gets_and_sets(block):
                key = self._register_key(value)
                if value.op == "set":
                    changed.add(key)
                elif key not in seen | changed:
                    seen.add(key)
            for key in (*seen, *changed):
                costs[key] = costs.get(key, 0) + block.spec.entries
            written |= changed
        looped = [block for loop in self.loops.values() for block in loop.blocks]
        looping = {self._register_key(value) for block in looped for _, value in self._gets_and_sets(block)}
        return {
            key for key, cost in costs.items()
            if key not in looping and key[0] not in self.floating and key[0] not in self.isa.vector_files
            and cost <= entered * (_LOAD + (key in written))
        }  # fmt: skip

    def _follow_changes(self) -> None:
        """Find out which registers may differ from what the CPU record has, at the start of each block."""
        sets = {
            pc: {self._register_key(v) for _, v in self._gets_and_sets(block) if v.op == "set"} & self._places.keys()
            for pc, block in self.blocks.items()
        }
        for keys in sets.values():
            keys |= {(f"{file}+", index) for file, index in keys & self._halves}
        self._changed = {pc: set() for pc in self.blocks}
        waiting = list(self.blocks)
        while waiting:
            pc = waiting.pop()
            after = self._changed[pc] | sets[pc]
            for target in self.blocks[pc].targets:
                if not after <= self._changed[target]:
                    self._changed[target] |= after
                    waiting.append(target)

    def _entry(self) -> None:
        """Before the head: are the rounding modes as the code takes them to be?"""
        self.lines.append("entry:")
        self.terminated = False
        out, start = "entry_out", "entry_start"
        self.line(f"store i64 {BUDGET}, ptr %budget")
        for loop in self.loops.values():
            self.line(f"store i64 0, ptr {loop.skip}")
        if self.spec.coverage:
            good = self.label()
            bits = self.load64(CPU, self.record["coverage_mask"])
            self.branch_to(self.temp(f"icmp ne i64 {bits}, {self.spec.coverage - 1}"), out, good, unlikely=True)
            self.place(good)
        if ENV in self.modes:
            good = self.label()
            wanted = FLUSHES if self.flushing and self.marks & FLUSHES else 0
            odd = self.temp(f"icmp ne i8 {self.marked(self.marks)}, {wanted}")
            self.branch_to(odd, out, good, unlikely=True)
            self.place(good)
            if wanted and self.relies:
                good = self.label()
                have = self.temp(f"and i32 {self.temp(f'load i32, ptr {self.more_flags()}')}, {INEXACT}")
                self.branch_to(self.temp(f"icmp eq i32 {have}, 0"), out, good, unlikely=True)
                self.place(good)
        for mode in sorted(self.modes - {ENV}):
            busy = self.temp(f"load i8, ptr {self.pointer(CPU, self.record['rm_table'] + mode)}")
            good = self.label()
            self.branch_to(self.temp(f"icmp ne i8 {busy}, 0"), out, good, unlikely=True)
            self.place(good)
        self.jump_to(start)
        self.place(out)
        interpret(self, BUDGET)
        self.place(start)
        # Where a fault of the host's is reported to happen.
        self.line(f"store i64 {self.load64(BLOCK, BLOCK_PC)}, ptr {self.pc_field()}, align 8")
        if self._held:
            self.line("store i64 0, ptr %raw")
        for key, place in self._places.items():
            type_ = self.llvm_type(self._held_type(key))
            self.line(f"store {type_} {self.temp(f'load {type_}, ptr {self._home(key)}, align 8')}, ptr {place}")
        if len(self.spec.entries) == 1:
            self.jump_to(f"body_{self.spec.entries[0]:x}")
        else:
            cases = " ".join(f"i64 {i}, label %body_{pc:x}" for i, pc in enumerate(self.spec.entries[1:], 1))
            self.line(f"switch i64 {SLOT}, label %body_{self.spec.entries[0]:x} [{cases}]")
            self.terminated = True
        self.allocas += ["  %budget = alloca i64", "  %exit_pc = alloca i64", "  %next = alloca i64"]
        self.allocas += [f"  %memory = inttoptr i64 {MEM} to ptr", f"  %attributes = inttoptr i64 {ATTR} to ptr"]
        # From the CPU record lest it is a constant of ten bytes wherever an address is compared with it.
        self.allocas += [
            f"  %record = inttoptr i64 {CPU} to ptr",
            f"  %reachp = getelementptr i8, ptr %record, i64 {self.record['reach']}",
            "  %reach = load i64, ptr %reachp, align 8, !range !8",
        ]
        self.module.declare("!8", f"!8 = !{{i64 {1 << SIZE_BITS}, i64 {(1 << SIZE_BITS) + 2}}}")
        self.allocas.append("  br label %entry")

    def _refill(self, out: str) -> None:
        """Go on only with a budget for the longest way to the next checkpoint."""
        low, good = self.label(), self.label()
        left = self.temp("load i64, ptr %budget")
        self.branch_to(self.temp(f"icmp slt i64 {left}, {self.bound}"), low, good, unlikely=True)
        self.place(low)
        function = self.temp(f"inttoptr i64 {self.load64(CPU, self.record['f_refill'])} to ptr")
        granted = self.temp(f"call preserve_mostcc i64 {function}(i64 {CPU}, i64 {left})")
        self.line(f"store i64 {granted}, ptr %budget")
        self.branch_to(self.temp(f"icmp slt i64 {granted}, {self.bound}"), out, good, unlikely=True)
        self.place(good)

    def _leave_block(self) -> None:
        """The ways out: back to the interpreter for one instruction, and on in the block at `exit_pc`."""
        self.terminated = True
        for label, step, n, held in self._stubs:
            self.place(label)
            if self._held:
                self._patch_point(step.pc, n - step.index, held)
                self.jump_to("resume")
                continue
            left = self.temp("load i64, ptr %budget")
            self.line(f"store i64 {self.temp(f'add i64 {left}, {n - step.index}')}, ptr %budget")
            self.line(f"store i64 {step.pc}, ptr %exit_pc")
            self.jump_to("again")
        if self._held:
            self.place("resume")
            self.tail("@resume", self.outside(self.load64(CPU, self.record["left"])))
            self.place("lookup")
            self._go_by_cache(self.temp(f"load i64, ptr {self.pc_field()}, align 8"), self.load64(CPU, self.record["left"]))
        self.place("again")
        self.line(f"store i64 {self.temp('load i64, ptr %exit_pc')}, ptr {self.pc_field()}, align 8")
        self.tail("@resume", self.outside(self.temp("load i64, ptr %budget")))
        self.place("leave")
        self._go_by_cache(self.temp("load i64, ptr %exit_pc"), self.temp("load i64, ptr %budget"))
        self.place("miss")
        self.line(f"store i64 {self.temp('load i64, ptr %exit_pc')}, ptr {self.pc_field()}, align 8")
        self.tail("@lookup", self.outside(self.temp("load i64, ptr %budget")))
        self.place("on")
        self.count("jump_hits")
        self.go_to(self.temp("load i64, ptr %next"), self.temp("load i64, ptr %budget"))

    def _go_by_cache(self, target: str, left: str) -> None:
        """Go on at `target`, if the jump cache has it."""
        entry = self.jump_cache_entry(target)
        cached = self.load64(entry, self.record.jump_cache)
        hit, miss = self.label(), self.label()
        self.branch_to(self.temp(f"icmp ne i64 {cached}, {target}"), miss, hit, unlikely=True)
        self.place(miss)
        self.line(f"store i64 {target}, ptr {self.pc_field()}, align 8")
        self.tail("@lookup", self.outside(left))
        self.place(hit)
        self.count("jump_hits")
        self.go_to(self.load64(entry, self.record.jump_cache + 8), left)

    def _write_back(self) -> None:
        """Fill in what the CPU record does not have, here."""
        dirty = sorted(self._dirty)
        self.settle(dirty)
        for key in dirty:
            type_ = self.llvm_type(self._held_type(key))
            self.line(f"store {type_} {self.value_of(key)}, ptr {self._home(key)}, align 8, !alias.scope !5, !noalias !6")

    def _holdings(self) -> Held:
        """The registers that differ from what the CPU record has, here."""
        return Held(self.raw_word(), [(key, self.value_of(key)) for key in sorted(self._dirty)])

    def _patch_point(self, pc: int, back: int, held: Held) -> None:
        """Leave it to the patch point's note how the CPU record is to be filled in."""
        name = "llvm.experimental.patchpoint.void"
        self.module.declare(name, f"declare void @{name}(i64, i32, ptr, i32, ...)")
        values = [f"i64 {CPU}", f"i64 {self.temp('load i64, ptr %budget')}", f"i64 {held.raw}"]
        values += [f"{self.llvm_type(self._held_type(key))} {value}" for key, value in held.registers]
        self.line(f"call preserve_mostcc void (i64, i32, ptr, i32, ...) @{name}(i64 {len(self.exits)}, i32 {PATCH_SIZE}, "
                  f"ptr null, i32 0, {', '.join(values)})")  # fmt: skip
        homes = [
            (self._offset(key), self.raw_keys.get(key, 0).bit_length(), self._held_type(key).total_bits // 8)
            for key, _ in held.registers
        ]
        self.exits.append(Exit(pc, back, homes))

    # -- blocks -----------------------------------------------------------------------------------------------

    def _emit_block(self, pc: int, block: Block) -> None:
        self._begin(block, f"at_{pc:x}")
        if block.checked:
            out, go = self.label(), self.label()
            self._refill(out)
            self.jump_to(go)
            self.place(out)
            self._leave_to(str(pc), cold=True)
            self._known.clear()
            self.place(go)
            if not self._held:
                self._leave_for_better(pc)
        if pc in self.loops:
            Entrance(self, self.loops[pc]).write()
        self._charge(block)
        self.place(f"body_{pc:x}")
        self._tally(0)
        self._emit_steps(block)

    def _tally(self, counter: int) -> None:
        """Count something at this block, in quickly made code."""
        if not self._held:
            place = self._counter(counter)
            before = self.temp(f"load i64, ptr {place}, !noalias !7")
            self.line(f"store i64 {self.temp(f'add i64 {before}, 1')}, ptr {place}, !noalias !7")

    def _tally_target(self, target: str) -> None:
        """Count where an indirect jump goes: each address has one place, and what comes there in its stead begins anew."""
        size = 2 * TARGETS * len(self.spec.blocks)
        self.module.declare("targets", f"@targets = hidden global [{size} x i64] zeroinitializer")
        first = 16 * TARGETS * self._numbers[self._block.spec.pc]
        spread = self.temp(f"xor i64 {target}, {self.temp(f'lshr i64 {target}, 4')}")
        offset = self.temp(f"and i64 {self.temp(f'shl i64 {spread}, 3')}, {16 * (TARGETS - 1)}")
        place = self.temp(f"getelementptr i8, ptr getelementptr (i8, ptr @targets, i64 {first}), i64 {offset}")
        count = self.temp(f"getelementptr i8, ptr {place}, i64 8")
        same = self.temp(f"icmp eq i64 {self.temp(f'load i64, ptr {place}, !noalias !7')}, {target}")
        more = self.temp(f"add i64 {self.temp(f'load i64, ptr {count}, !noalias !7')}, 1")
        self.line(f"store i64 {target}, ptr {place}, !noalias !7")
        self.line(f"store i64 {self.temp(f'select i1 {same}, i64 {more}, i64 1')}, ptr {count}, !noalias !7")

    def _tally_way(self) -> None:
        """Count that the block is entered from inside; where it is entered from elsewhere, its header does."""
        size = len(self.spec.blocks)
        self.module.declare("entered", f"@entered = hidden global [{size} x i64] zeroinitializer")
        place = f"getelementptr (i8, ptr @entered, i64 {8 * self._numbers[self._block.spec.pc]})"
        before = self.temp(f"load i64, ptr {place}, !noalias !7")
        self.line(f"store i64 {self.temp(f'add i64 {before}, 1')}, ptr {place}, !noalias !7")

    def _counter(self, counter: int) -> str:
        size = COUNTERS * len(self.spec.blocks)
        self.module.declare("counters", f"@counters = hidden global [{size} x i64] zeroinitializer")
        return f"getelementptr (i8, ptr @counters, i64 {8 * (COUNTERS * self._numbers[self._block.spec.pc] + counter)})"

    def _begin(self, block: Block, label: str) -> None:
        self._block = block
        self._dirty = set(self._changed.get(block.spec.pc, ()))
        self._known.clear()
        self.enter_raw(block.spec.pc)
        self.terminated = True
        self.place(label)

    def _leave_for_better(self, pc: int) -> None:
        better, go = self.label(), self.label()
        flag = self.pointer(self.load64(CPU, self.record["translations"]), better_index(pc))
        self.branch_to(self.temp(f"icmp ne i8 {self.temp(f'load i8, ptr {flag}')}, 0"), better, go, unlikely=True)
        self.place(better)
        self._leave_to(str(pc))
        self.place(go)

    def _emit_loop(self, loop: Loop) -> None:
        """The loop once more, without the checks that its entrance stands for."""
        self._loop = loop
        for block in loop.blocks:
            self._begin(block, loop.label(block.spec.pc))
            self._charge(block)
            self._emit_steps(block)
        self._loop = None
        self.terminated = True
        self.place(loop.label(0))
        more = self.temp(f"icmp sge i64 {self.temp('load i64, ptr %budget')}, {self.temp(f'load i64, ptr {loop.floor}')}")
        self.branch_to(more, loop.label(loop.header), f"at_{loop.header:x}")
        self.terminated = True

    def _charge(self, block: Block) -> None:
        left = self.temp("load i64, ptr %budget")
        self.line(f"store i64 {self.temp(f'sub i64 {left}, {block.spec.n}')}, ptr %budget")
        if self.spec.tallied:
            self._tally_way()

    def _emit_steps(self, block: Block) -> None:
        if self.spec.coverage and (self._loop is None or block.spec.pc != self._loop.header):
            self.cover(block.spec.pc)  # in a loop's copy its entrance has done it for the header
        for known in (self._known, self.refs, self.keep, self._inside, self._sums, self._doubles, self._pairs, self._lows):
            known.clear()
        self._extended.clear()
        self._stored_there.clear()
        self.forget_floating()
        self._step, self._stub = block.steps[0], ""
        self._covered = set(self._loop.covered) if self._loop is not None else set()
        for span in spans_of(block, self._covered) if not self.spec.guarded else ():
            self._check_span(span)
            self._covered |= span.members
        for step in block.steps:
            self._step = step
            self._stub = ""
            self._held_now = None
            if self._held and step.body is not None and any(v.op in ("if", "loop") for v in step.body.ops):
                self.settle([self._register_key(v) for v in step.flat if v.op == "set"])
                self._held_now = self._holdings()  # a bail in there must find the values
            if step.body is None:
                self.jump_to(self.bail())
                return
            self.region(step.body)
        if not self.terminated:
            self._go(block.spec.end, cold=block.spec.cold & FALL != 0)

    def cover(self, pc: int) -> None:
        """Set the block's bit in the coverage map. It is set nearly always: no store then."""
        if pc in self.spec.noted:
            return
        bit = coverage_hash(pc) & self.spec.coverage - 1
        place = self.pointer(CPU, self.record["coverage"])
        map_ = self.temp(f"load i64, ptr {place}, align 8, !alias.scope !5, !noalias !6")
        place = self.pointer(map_, bit >> 3)
        old = self.temp(f"load i8, ptr {place}, !noalias !7")
        new, seen = self.label(), self.label()
        mask = 1 << (bit & 7)
        there = self.temp(f"and i8 {old}, {mask - 256 if mask > 127 else mask}")
        self.branch_to(self.temp(f"icmp eq i8 {there}, 0"), new, seen, unlikely=True)
        self.place(new)
        self.line(f"store i8 {self.temp(f'or i8 {old}, {mask - 256 if mask > 127 else mask}')}, ptr {place}, !noalias !7")
        self.jump_to(seen)
        self.place(seen)

    def _go(self, pc: int, *, cold: bool) -> None:
        if pc in self.blocks:
            self.pass_raw_on()
            self.jump_to(self._way_to(pc))
        else:
            self._leave_to(str(pc), cold=cold)

    def _way_to(self, pc: int) -> str:
        """The label of a block of the region, as it is to be reached from here."""
        loop = self._loop
        if loop is None or pc not in loop.inside:
            return f"at_{pc:x}"
        return loop.label(0 if pc == loop.header else pc)

    def _leave_to(self, pc: str, *, cold: bool = False) -> None:
        """Go on at `pc`, outside; `cold`: that is rare."""
        if self._held and cold:
            self._patch_point(int(pc), 0, self._holdings())
            self.jump_to("lookup")
            return
        if self._held:
            self._write_back()
        self.line(f"store i64 {pc}, ptr %exit_pc")
        if not pc.isdigit():
            self.jump_to("leave")
            return
        # The place in the jump cache is known.
        entry = self.record.jump_cache + jump_offset(int(pc))
        hit = self.label()
        self.branch_to(self.temp(f"icmp ne i64 {self.load64(CPU, entry)}, {pc}"), "miss", hit, unlikely=True)
        self.place(hit)
        self.line(f"store i64 {self.load64(CPU, entry + 8)}, ptr %next")
        self.jump_to("on")

    # -- what instructions do ---------------------------------------------------------------------------------

    def bail(self) -> str:
        """The label that lets the interpreter do this instruction."""
        if not self._stub:
            self._stub = self.label()
            if self._held_now is None:
                self._held_now = self._holdings() if self._held else Held("0", [])
            self._stubs.append((self._stub, self._step, self._block.spec.n, self._held_now))
        return self._stub

    def op_pc(self, v: Value) -> None:
        self.set(v, str(self._step.pc))

    def op_next_pc(self, v: Value) -> None:
        self.set(v, str(self._step.end))

    # -- where the guest goes next ----------------------------------------------------------------------------

    def op_jump(self, v: Value) -> None:
        self._go(v.args[0].bits, cold=self._block.spec.cold & TAKEN != 0)

    def _weight(self, pc: int) -> int:
        return min(self.blocks[pc].spec.entries + 1, 1 << 30) if pc in self.blocks else 1

    def op_branch(self, v: Value) -> None:
        taken, fall = self.label(), self.label()
        target, end = v.args[1].bits, self._block.spec.end
        spec = self._block.spec
        if spec.taken >= 0:
            likely = [min(n, 1 << 30) + 1 for n in (spec.taken, max(0, spec.entries - spec.taken))]
        else:
            likely = [self._weight(target), self._weight(end)]
        weights = f'!{{!"branch_weights", i32 {likely[0]}, i32 {likely[1]}}}'
        self._weights += 1
        number = f"!{_FIRST_WEIGHT + self._weights}"
        self.module.declare(number, f"{number} = {weights}")
        self.line(f"br i1 {self.ref(v.args[0])}, label %{taken}, label %{fall}, !prof {number}")
        self.terminated = True
        known, raw = self._known.copy(), self._raw_now.copy()
        self.place(taken)
        self._tally(1)
        self._go(target, cold=self._block.spec.cold & TAKEN != 0)
        self._known, self._raw_now = known, raw
        self.place(fall)
        self._go(end, cold=self._block.spec.cold & FALL != 0)

    def op_indirect(self, v: Value) -> None:
        target = self.ref(v.args[0])
        if not self._held:
            self._tally_target(target)
        if self._block.targets:
            self.pass_raw_on()
        for pc in self._block.targets:
            other = self.label()
            same = self.temp(f"icmp eq i64 {target}, {pc}")
            self.line(f"br i1 {same}, label %{self._way_to(pc)}, label %{other}")
            self.terminated = True
            self.place(other)
        self._tally(1)
        self._leave_to(target)


def loops_of(isa: Isa, spec: RegionSpec) -> list[Loop]:
    """The loops that a region has twice."""
    emitter = RegionEmitter(ModuleText(), CpuRecord(isa.layout), isa, spec)
    emitter.build()
    return list(emitter.loops.values())


class Translated(NamedTuple):
    """A region's LLVM text, its rare exits, whether it has loops twice, and the blocks' ways (`Compiled.ways`)."""

    text: str
    exits: list[Exit]
    loops: bool
    ways: list[tuple[int, int, int, int]]


def translate(isa: Isa, spec: RegionSpec) -> Translated:
    """The function of a region."""
    module = ModuleText()
    emitter = RegionEmitter(module, CpuRecord(isa.layout), isa, spec)
    emitter.build()
    return Translated(module.text(), emitter.exits, bool(emitter.loops), emitter.ways)
