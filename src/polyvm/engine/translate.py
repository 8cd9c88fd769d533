"""Regions to LLVM: the instruction bodies once more, now with constant operands and with guest registers as LLVM values.

A region is a function of the interpreter's chain and takes the place of the first handler of its head block. It charges the
budget as the interpreter does, block by block; every cycle has a checkpoint, where it makes sure that the budget covers the
longest way to the next one. Where an instruction needs what is rare (an access off the fast path, an exit to the runtime), the
region writes back what it has changed and lets the interpreter go on at that very instruction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.codegen.llvm_module import ModuleText
from polyvm.engine.handlers import ATTR, BLOCK, BUDGET, CONVENTION, CPU, MEM, SLOT, HandlerEmitter
from polyvm.engine.layout import BLOCK_FIRST, JUMP_CACHE_BITS, CpuRecord, coverage_hash
from polyvm.engine.region import FULL
from polyvm.errors import EngineError
from polyvm.ir.ops import ENV
from polyvm.ir.types import F64, I64
from polyvm.mem import FAST_R, FAST_W, PAGE_BITS, SIZE_BITS

if TYPE_CHECKING:
    from polyvm.engine.region import RegionBlock, RegionSpec
    from polyvm.ir.types import Type
    from polyvm.ir.value import Region, Value
    from polyvm.isa import Isa

ENTRY = "region"
# What a compiled region leaves to the interpreter: the runtime's business, and what the evaluator has to do.
_LEFT_OUT = frozenset({"exit", "fp_setrm", "instret"})
_ACCESSES = frozenset({"load", "store", "amo", "cmpxchg", "probe"})
_EFFECTS = frozenset({"set", "store", "amo", "cmpxchg", "fp_setflags", "fp_raise"})
_ENDS = frozenset({"jump", "branch", "indirect"})
# The attribute table and the CPU record overlap with no guest memory: alias scopes !3 and !5; each other's: !4 and !6.
_SCOPES = (
    ("!1", '!1 = !{!1, !"polyvm"}'), ("!2", '!2 = !{!2, !1, !"attributes"}'), ("!3", "!3 = !{!2}"),
    ("!4", '!4 = !{!4, !1, !"record"}'), ("!5", "!5 = !{!4}"), ("!6", "!6 = !{!2}"), ("!7", "!7 = !{!2, !4}"),
)  # fmt: skip
_FIRST_WEIGHT = 9  # metadata up to here has other uses
_MOST_SPAN = 2048  # bytes that one check covers: a page border or none
_MOST_TARGETS = 12  # of an indirect jump that stay in the region
_FAST = {"r": FAST_R, "w": FAST_W, "rw": FAST_R | FAST_W}


class Step:
    """One instruction of a block: `body` is None where the interpreter has to do it."""

    __slots__ = ("body", "end", "flat", "index", "pc")

    def __init__(self, pc: int, end: int, index: int, body: Region | None, flat: list[Value]) -> None:
        self.pc = pc
        self.end = end
        self.index = index
        self.body = body
        self.flat = flat


class Block:
    """A block with its instructions staged."""

    __slots__ = ("checked", "last", "links", "spec", "steps", "targets")

    def __init__(self, spec: RegionBlock, steps: list[Step]) -> None:
        self.spec = spec
        self.steps = steps
        self.checked = False
        self.links = False
        self.targets: list[int] = []
        self.last = next((v for v in steps[-1].flat if v.op in _ENDS), None) if steps[-1].body is not None else None


def _flatten(region: Region, into: list[Value]) -> list[Value]:
    for value in region.ops:
        into.append(value)
        if value.op == "if":
            _flatten(value.attrs["then"], into)
            _flatten(value.attrs["else"], into)
        elif value.op == "loop":
            _flatten(value.attrs["body"], into)
    return into


def _stage(isa: Isa, spec: RegionBlock) -> Block:
    """The bodies of a block's instructions, up to the first that the interpreter has to do."""
    steps: list[Step] = []
    at = spec.pc
    for index in range(spec.n):
        word = int.from_bytes(spec.code[at - spec.pc : at - spec.pc + 4], "little")
        decoded = isa.decode(word)
        if decoded is None:
            steps.append(Step(at, at, index, None, []))
            break
        b = isa.builder()
        b.fast = True
        end = at + decoded.length
        b.place = (at, end)
        decoded.insn.body(b, **{o.name: b.const(o.type, decoded.operands[o.name]) for o in decoded.insn.operands})
        flat = _flatten(b.body, [])
        fits = not any(v.op in _LEFT_OUT for v in flat) and _restartable(flat)
        steps.append(Step(at, end, index, b.body if fits else None, flat))
        if not fits:
            break
        at = end
    return Block(spec, steps)


def _restartable(flat: list[Value]) -> bool:
    """True if no access comes after an effect: then the instruction can be left to the interpreter from its start."""
    changed = False
    for value in flat:
        if changed and value.op in _ACCESSES:
            return False
        changed = changed or value.op in _EFFECTS
    return True


class Span:
    """Accesses of one block at constant distances from the same value of a register: bytes `low` to `high` from `base`."""

    __slots__ = ("base", "count", "first", "high", "low", "wanted")

    def __init__(self, base: Value, first: Value, low: int) -> None:
        self.base = base
        self.first = first
        self.low = self.high = low
        self.count = self.wanted = 0


def merge_accesses(block: Block) -> dict[int, Span]:
    """The spans of a block that have more than one access, by the id of each access."""
    versions: dict[tuple[str, int], int] = {}
    reads: dict[int, tuple[tuple[str, int], int]] = {}
    spans: dict[tuple[tuple[str, int], int], Span] = {}
    members: list[tuple[Value, Span]] = []
    for step in block.steps:
        for value in step.body.ops if step.body is not None else ():
            if value.op in ("get", "set"):
                indexed = len(value.args) == (1 if value.op == "get" else 2)
                key = (value.attrs["slot"], value.args[0].bits if indexed else 0)
                if value.op == "set":
                    versions[key] = versions.get(key, 0) + 1
                else:
                    reads[id(value)] = (key, versions.get(key, 0))
            elif value.op in ("load", "store") and value.attrs["order"] == "none":
                base, offset = _split(value.args[0])
                place = reads.get(id(base))
                if place is None:
                    continue
                type_ = value.type if value.op == "load" else value.args[1].type
                end = offset + type_.total_bits // 8
                span = spans.get(place)
                if span is None or max(span.high, end) - min(span.low, offset) > _MOST_SPAN:
                    span = spans[place] = Span(base, value, offset)
                span.low, span.high = min(span.low, offset), max(span.high, end)
                span.count += 1
                span.wanted |= _FAST["r" if value.op == "load" else "w"]
                members.append((value, span))
    return {id(value): span for value, span in members if span.count > 1}


def _split(address: Value) -> tuple[Value, int]:
    """An address as a value and a constant distance from it."""
    if address.op == "add" and address.args[1].op == "const":
        return address.args[0], address.args[1].type.signed(address.args[1].bits)
    return address, 0


class RegionEmitter(HandlerEmitter):
    """Writes the function of one region."""

    def __init__(self, module: ModuleText, record: CpuRecord, isa: Isa, spec: RegionSpec) -> None:
        super().__init__(module, ENTRY, record, None, terminates=True)
        self.isa = isa
        self.spec = spec
        self.blocks = {block.pc: _stage(isa, block) for block in spec.blocks}
        self.bound = spec.instructions
        self.modes: set[int] = set()
        self._read: set[tuple[str, int]] = set()
        self._written: set[tuple[str, int]] = set()
        self._places: dict[tuple[str, int], str] = {}
        self._block: Block = self.blocks[spec.head]
        self._step: Step = self._block.steps[0]
        self._stub = ""
        self._stubs: list[tuple[str, Step, int]] = []
        self._weights = 0
        # Quickly made code keeps guest registers in the CPU record and knows them within a block; well made code keeps
        # them in LLVM values throughout, and writes back what it has changed where it leaves.
        self._held = spec.level == FULL
        self._known: dict[tuple[str, int], Value] = {}
        self._merged: dict[int, Span] = {}
        self._depth = 0

    # -- the whole --------------------------------------------------------------------------------------------

    def build(self) -> None:
        """The function."""
        self._scopes()
        self._connect()
        self._registers()
        for pc, block in self.blocks.items():
            self._emit_block(pc, block)
        body, self.lines = self.lines, []
        self._entry()
        self.lines += body
        self._leave_block()
        super(HandlerEmitter, self).finish()

    def _connect(self) -> None:
        """Where each block goes inside the region, and which blocks close a cycle."""
        sites = {b.spec.end: b.spec.entries for b in self.blocks.values() if self._is_call(b) and b.spec.end in self.blocks}
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
                targets = [block.spec.seen]
            block.targets = [pc for pc in targets if pc in self.blocks]
        state: dict[int, int] = {}
        stack: list[tuple[int, int]] = [(self.spec.head, 0)]
        state[self.spec.head] = 1
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
        self.blocks = {pc: block for pc, block in self.blocks.items() if pc in state}

    @staticmethod
    def _is_call(block: Block) -> bool:
        """True if the block's last instruction leaves the address after it in a register."""
        if block.last is None or block.last.op == "branch":
            return False
        end = block.spec.end
        return any(v.op == "set" and v.args[-1].op == "const" and v.args[-1].bits == end for v in block.steps[-1].flat)

    def _registers(self) -> None:
        for block in self.blocks.values():
            for step in block.steps:
                if step.body is None:
                    continue
                for value in step.flat:
                    if value.op in ("get", "set"):
                        (self._read if value.op == "get" else self._written).add(self._register_key(value))
        if not self._held:
            self._read.clear()
            self._written.clear()
        for key in sorted(self._read | self._written):
            self._places[key] = self.alloca(self._held_type(key))

    def _register_key(self, value: Value) -> tuple[str, int]:
        indexed = len(value.args) == (1 if value.op == "get" else 2)
        if indexed and value.args[0].op != "const":
            raise EngineError("a region cannot index registers by a value")
        return value.attrs["slot"], value.args[0].bits if indexed else 0

    def _held_type(self, key: tuple[str, int]) -> Type:
        """Floating-point registers are held as doubles, so that they stay in the host's."""
        return F64 if key[0] in self.isa.floating_files else self.record.layout[key[0]].type

    def _entry(self) -> None:
        """Before the head: is there budget, and are the rounding modes as the code takes them to be?"""
        self.lines.append("entry:")
        out, start = "entry_out", "entry_start"
        self.line(f"store i64 {BUDGET}, ptr %budget")
        for mode in sorted(self.modes):
            busy = self.temp(f"load i8, ptr {self.pointer(CPU, self.record['rm_table'] + mode)}")
            good = self.label()
            self.branch_to(self.temp(f"icmp ne i8 {busy}, 0"), out, good, unlikely=True)
            self.place(good)
        self._refill(out)
        self.jump_to(start)
        self.place(out)
        first = self.pointer(BLOCK, BLOCK_FIRST)
        handler = self.temp(f"inttoptr i64 {self.temp(f'load i64, ptr {first}, align 8')} to ptr")
        left = self.temp("load i64, ptr %budget")
        self.tail(handler, self.arguments(SLOT, BLOCK, left))
        self.place(start)
        # Where a fault of the host's is reported to happen.
        self.line(f"store i64 {self.spec.head}, ptr {self.pc_field()}, align 8")
        for key, place in self._places.items():
            type_ = self.llvm_type(self._held_type(key))
            self.line(f"store {type_} {self.temp(f'load {type_}, ptr {self._home(key)}, align 8')}, ptr {place}")
        self.jump_to(f"body_{self.spec.head:x}")
        self.allocas += ["  %budget = alloca i64", "  %exit_pc = alloca i64", "  %resume = alloca i1"]
        self.allocas += [f"  %memory = inttoptr i64 {MEM} to ptr", f"  %attributes = inttoptr i64 {ATTR} to ptr"]
        self.allocas.append("  br label %entry")

    def _home(self, key: tuple[str, int]) -> str:
        place = self.record.layout[key[0]]
        return self.pointer(CPU, place.offset + place.stride * key[1])

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
        """Write back, and go on in the block at `exit_pc`."""
        self.terminated = True
        for label, step, n in self._stubs:
            self.place(label)
            left = self.temp("load i64, ptr %budget")
            self.line(f"store i64 {self.temp(f'add i64 {left}, {n - step.index}')}, ptr %budget")
            self._leave_to(str(step.pc), resume=True)
        self.place("leave")
        for key in sorted(self._written):
            type_ = self.llvm_type(self._held_type(key))
            held = self.temp(f"load {type_}, ptr {self._places[key]}")
            self.line(f"store {type_} {held}, ptr {self._home(key)}, align 8")
        target = self.temp("load i64, ptr %exit_pc")
        left = self.temp("load i64, ptr %budget")
        again, on = self.label(), self.label()
        self.branch_to(self.temp("load i1, ptr %resume"), again, on, unlikely=True)
        self.place(again)
        self.line(f"store i64 {target}, ptr {self.pc_field()}, align 8")
        self.tail("@resume", self.arguments(SLOT, BLOCK, left))
        self.place(on)
        index = self.temp(f"and i64 {self.temp(f'shl i64 {target}, 3')}, {((1 << JUMP_CACHE_BITS) - 1) << 4}")
        entry = self.temp(f"add i64 {CPU}, {index}")
        cached = self.load64(entry, self.record.jump_cache)
        miss, hit = self.label(), self.label()
        self.branch_to(self.temp(f"icmp ne i64 {cached}, {target}"), miss, hit, unlikely=True)
        self.place(miss)
        self.line(f"store i64 {target}, ptr {self.pc_field()}, align 8")
        self.tail("@lookup", self.arguments(SLOT, BLOCK, left))
        self.place(hit)
        self.enter(self.load64(entry, self.record.jump_cache + 8), left)

    def tail(self, callee: str, arguments: str = "") -> None:
        """Functions of the interpreter are in another object: through the CPU record."""
        if callee.startswith("@"):
            callee = self.temp(f"inttoptr i64 {self.load64(CPU, self.record['f_' + callee[1:]])} to ptr")
        self.line(f"musttail call {CONVENTION} void {callee}({arguments})")
        self.line("ret void")
        self.terminated = True

    # -- blocks -----------------------------------------------------------------------------------------------

    def _emit_block(self, pc: int, block: Block) -> None:
        self._block = block
        self.terminated = True
        self.place(f"at_{pc:x}")
        if block.checked:
            out, go = self.label(), self.label()
            self._refill(out)
            self.jump_to(go)
            self.place(out)
            self._leave_to(str(pc))
            self.place(go)
        left = self.temp("load i64, ptr %budget")
        self.line(f"store i64 {self.temp(f'sub i64 {left}, {block.spec.n}')}, ptr %budget")
        self.place(f"body_{pc:x}")
        if self.spec.coverage:
            self._cover(pc)
        self._merged = merge_accesses(block)
        self._known.clear()
        self.refs.clear()
        self.keep.clear()
        for step in block.steps:
            self._step = step
            self._stub = ""
            if step.body is None:
                self.jump_to(self.bail())
                return
            self.region(step.body)
            if self._held:
                self.refs.clear()
                self.keep.clear()
        if not self.terminated:
            self._go(block.spec.end)

    def _cover(self, pc: int) -> None:
        """Set the block's bit in the coverage map; cores without one have a word that takes it."""
        bit = self.temp(f"and i64 {coverage_hash(pc)}, {self.load64(CPU, self.record['coverage_mask'])}")
        map_ = self.load64(CPU, self.record["region_coverage"])
        place = self.pointer(self.temp(f"add i64 {map_}, {self.temp(f'lshr i64 {bit}, 3')}"))
        low = self.temp(f"and i64 {bit}, 7")
        one = self.temp(f"trunc i64 {self.temp(f'shl i64 1, {low}')} to i8")
        old = self.temp(f"load i8, ptr {place}")
        self.line(f"store i8 {self.temp(f'or i8 {old}, {one}')}, ptr {place}")

    def _go(self, pc: int) -> None:
        if pc in self.blocks:
            self.jump_to(f"at_{pc:x}")
        else:
            self._leave_to(str(pc))

    def _leave_to(self, pc: str, *, resume: bool = False) -> None:
        """Go on at `pc`; `resume`: in the interpreter, whatever region there is for that address."""
        self.line(f"store i64 {pc}, ptr %exit_pc")
        self.line(f"store i1 {'true' if resume else 'false'}, ptr %resume")
        self.jump_to("leave")

    # -- what instructions do ---------------------------------------------------------------------------------

    def bail(self) -> str:
        """The label that lets the interpreter do this instruction."""
        if not self._stub:
            self._stub = self.label()
            self._stubs.append((self._stub, self._step, self._block.spec.n))
        return self._stub

    def op_get(self, v: Value) -> None:
        key = self._register_key(v)
        if not self._held:
            known = self._known.get(key)
            if known is None:
                self.define(v, f"load {self.llvm_type(v.type)}, ptr {self._home(key)}, align 8, !alias.scope !5, !noalias !6")
                if not self._nested:
                    self._known[key] = v
            else:
                self.set(v, self.ref(known))
            return
        held = self._held_type(key)
        name = self.temp(f"load {self.llvm_type(held)}, ptr {self._places[key]}")
        if held is not v.type:
            name = self.temp(f"bitcast {self.llvm_type(held)} {name} to {self.llvm_type(v.type)}")
        self.set(v, name)

    def op_set(self, v: Value) -> None:
        key = self._register_key(v)
        held, value = self._held_type(key), v.args[-1]
        if not self._held:
            self.line(f"store {self.typed(value)}, ptr {self._home(key)}, align 8, !alias.scope !5, !noalias !6")
            if self._nested:
                self._known.pop(key, None)
            else:
                self._known[key] = value
            return
        name = self.ref(value)
        if held is not value.type:
            name = self.temp(f"bitcast {self.typed(value)} to {self.llvm_type(held)}")
        self.line(f"store {self.llvm_type(held)} {name}, ptr {self._places[key]}")

    def check(self, address: str, size: int, access: str) -> None:
        """As in a handler, but what the attribute table says can be remembered between stores to guest memory."""
        shift = size.bit_length() - 1
        rotated = address
        if shift:
            rotated = self.intrinsic("fshr.i64", I64, [(I64, address), (I64, address), (I64, str(shift))])
        good, inside = self.label(), self.label()
        outside = self.temp(f"icmp uge i64 {rotated}, {1 << (SIZE_BITS - shift)}")
        self.branch_to(outside, self.bail(), inside, unlikely=True)
        self.place(inside)
        page = self.temp(f"lshr i64 {rotated}, {PAGE_BITS - shift}")
        place = self.temp(f"getelementptr i8, ptr %attributes, i64 {page}")
        self._scopes()
        flags = self.temp(f"load i8, ptr {place}, !alias.scope !3")
        wanted = _FAST[access]
        mask = wanted - 256 if wanted > 127 else wanted
        have = self.temp(f"and i8 {flags}, {mask}")
        self.branch_to(self.temp(f"icmp ne i8 {have}, {mask}"), self.bail(), good, unlikely=True)
        self.place(good)

    def _check_span(self, span: Span) -> None:
        """One check for all accesses of a block through the same base register: they lie in one page or two."""
        low = self.temp(f"add i64 {self.ref(span.base)}, {span.low}")
        high = self.temp(f"add i64 {self.ref(span.base)}, {span.high - 1}")
        good, inside = self.label(), self.label()
        outside = self.temp(f"icmp uge i64 {low}, {(1 << SIZE_BITS) - _MOST_SPAN}")
        self.branch_to(outside, self.bail(), inside, unlikely=True)
        self.place(inside)
        self._scopes()
        flags: list[str] = []
        for end in (low, high):
            place = self.temp(f"getelementptr i8, ptr %attributes, i64 {self.temp(f'lshr i64 {end}, {PAGE_BITS}')}")
            flags.append(self.temp(f"load i8, ptr {place}, !alias.scope !3"))
        both = self.temp(f"and i8 {flags[0]}, {flags[1]}")
        mask = span.wanted - 256 if span.wanted > 127 else span.wanted
        have = self.temp(f"and i8 {both}, {mask}")
        self.branch_to(self.temp(f"icmp ne i8 {have}, {mask}"), self.bail(), good, unlikely=True)
        self.place(good)

    @property
    def _nested(self) -> bool:
        """True inside an `if` or loop of a body: what happens there may not happen."""
        return self._depth > 0

    def op_if(self, v: Value) -> None:
        self._depth += 1
        super().op_if(v)
        self._depth -= 1

    def op_loop(self, v: Value) -> None:
        self._depth += 1
        super().op_loop(v)
        self._depth -= 1

    def _scopes(self) -> None:
        for name, text in _SCOPES:
            self.module.declare(name, text)

    def _guest_pointer(self, v: Value, type_: Type, access: str) -> str:
        address = self.ref(v.args[0])
        merged = self._merged.get(id(v))
        if merged is None:
            self.check(address, type_.total_bits // 8, access)
        elif merged.first is v:
            self._check_span(merged)
        return self.temp(f"getelementptr i8, ptr %memory, i64 {address}")

    def op_load(self, v: Value) -> None:
        if v.attrs["order"] != "none":
            super().op_load(v)
            return
        pointer = self._guest_pointer(v, v.type, "r")
        self.define(v, f"load {self.llvm_type(v.type)}, ptr {pointer}, align 1, !noalias !7")

    def op_store(self, v: Value) -> None:
        if v.attrs["order"] != "none":
            super().op_store(v)
            return
        pointer = self._guest_pointer(v, v.args[1].type, "w")
        self.line(f"store {self.typed(v.args[1])}, ptr {pointer}, align 1, !noalias !7")

    def op_pc(self, v: Value) -> None:
        self.set(v, str(self._step.pc))

    def op_next_pc(self, v: Value) -> None:
        self.set(v, str(self._step.end))

    # -- floating point ---------------------------------------------------------------------------------------

    def _mode(self, v: Value) -> int:
        mode = v.args[-1]
        if mode.op == "rounding":
            return ENV
        if v.op in ("f2si", "f2ui", "frint"):
            return super()._mode(v)
        self.modes.add(mode.bits)
        return ENV

    def _to_float(self, v: Value) -> None:
        if v.args[0].type.bits > 32 or v.type.bits < 64:
            self._mode(v)
        super()._to_float(v)

    op_si2f = _to_float
    op_ui2f = _to_float

    def op_f2f(self, v: Value) -> None:
        if v.type.bits < v.args[0].type.bits:
            self._mode(v)
        super().op_f2f(v)

    def op_rounding(self, v: Value) -> None:
        self.modes.add(v.args[0].bits)
        self.set(v, "7")

    # -- where the guest goes next ----------------------------------------------------------------------------

    def op_jump(self, v: Value) -> None:
        self._go(v.args[0].bits)

    def _weight(self, pc: int) -> int:
        return min(self.blocks[pc].spec.entries + 1, 1 << 30) if pc in self.blocks else 1

    def op_branch(self, v: Value) -> None:
        taken, fall = self.label(), self.label()
        target, end = v.args[1].bits, self._block.spec.end
        weights = f'!{{!"branch_weights", i32 {self._weight(target)}, i32 {self._weight(end)}}}'
        self._weights += 1
        number = f"!{_FIRST_WEIGHT + self._weights}"
        self.module.declare(number, f"{number} = {weights}")
        self.line(f"br i1 {self.ref(v.args[0])}, label %{taken}, label %{fall}, !prof {number}")
        self.terminated = True
        self.place(taken)
        self._go(target)
        self.place(fall)
        self._go(end)

    def op_indirect(self, v: Value) -> None:
        target = self.ref(v.args[0])
        for pc in self._block.targets:
            other = self.label()
            same = self.temp(f"icmp eq i64 {target}, {pc}")
            self.line(f"br i1 {same}, label %at_{pc:x}, label %{other}")
            self.terminated = True
            self.place(other)
        self._leave_to(target)


def translate(isa: Isa, spec: RegionSpec) -> str:
    """The LLVM text of a region."""
    module = ModuleText()
    RegionEmitter(module, CpuRecord(isa.layout), isa, spec).build()
    return module.text()
