"""The interpreter's handlers: one native function for each instruction form, and the way from one to the next.

A handler gets the CPU record, its slot, its block, the instruction budget that is left, and the addresses of guest memory and
of the page attributes, all in host registers; it ends with a tail call of the next slot's handler. Where something is rare
(an access that is misaligned, forbidden or watched, a rounding mode of the instruction's own), the fast handler hands over,
before it has changed anything, to a slow twin made from the same body, which does the instruction from its start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.codegen.llvm import ORDERS, Emitter
from polyvm.engine.layout import (
    BLOCK_COUNT,
    BLOCK_END,
    BLOCK_FALL,
    BLOCK_HEADER,
    BLOCK_N,
    BLOCK_PC,
    BLOCK_TAKEN,
    JUMP_CACHE_FOLD,
    JUMP_CACHE_MASK,
    SLOT_IMM,
    SLOT_OFF,
    SLOT_REG,
    SLOT_SIZE,
    CpuRecord,
)
from polyvm.engine.modes import FLUSHES, HOST_FLUSHES, MARKS, ROUNDS, TABLE, marks_of
from polyvm.ir.ops import ENV, FLUSH, ROUNDING, SUBNORMAL
from polyvm.ir.types import I64, I128
from polyvm.mem import FAST_R, FAST_W, PAGE_BITS, SIZE_BITS
from polyvm.mem.host import CLOCK
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from polyvm.codegen.llvm_module import ModuleText
    from polyvm.ir.types import Type
    from polyvm.ir.value import Value
    from polyvm.isa import Insn

CPU, SLOT, BLOCK, BUDGET, MEM, ATTR = (f"%p{i}" for i in range(6))
PARAMS = [I64] * 6
CONVENTION = "preserve_nonecc"
# Marks: what stands before a handler's code, the number of its stencil (`stencils.py`). Instructions and sequences follow.
MARK_NONE, MARK_ENTER, MARK_FALL, MARK_COVER, MARK_FIRST = range(5)
_ACCESS = {"r": exits.READ, "w": exits.WRITE, "rw": exits.READ | exits.WRITE}
FAST = {"r": FAST_R, "w": FAST_W, "rw": FAST_R | FAST_W}
# Host rounding control for IR modes 0 to 3, two bits each.
_ROUND_CONTROL = 0x9C


def operand_places(insn: Insn) -> dict[str, tuple[int, int]]:
    """Where in a slot each operand of `insn` lies: name → (byte offset, bits)."""
    places: dict[str, tuple[int, int]] = {}
    free = [SLOT_REG, SLOT_REG + 1, SLOT_REG + 2]
    if any(o.slot == "imm" for o in insn.operands):
        spare: list[int] = []
    else:
        spare = [SLOT_IMM + i for i in range(4)]
    free += spare
    for operand in insn.operands:
        places[operand.name] = (SLOT_IMM, 32) if operand.slot == "imm" else (free.pop(0), 8)
    return places


class HandlerEmitter(Emitter):
    """Writes one handler. `slow` names the twin that a fast handler hands over to; None: this is the slow one."""

    def __init__(
        self, module: ModuleText, name: str, record: CpuRecord, slow: str | None, *, terminates: bool
    ) -> None:
        super().__init__(module, name, PARAMS, None, CONVENTION)
        self.record = record
        self.slow = slow
        self.terminates = terminates
        self.slot = SLOT
        self._distance = 0  # of `slot` from SLOT
        self._accesses = False
        self.bailed = False
        self._wrote = False
        self._stored = False  # only that: it may be done once more
        self._bails: list[tuple[str, int, str | None]] = []
        self._bail_label = ""
        self._restore_mode = False

    def load_operands(self, operands: list[Value], places: dict[str, tuple[int, int]], offset: int = 0) -> None:
        """Load what the bodies will ask for, from the slot `offset` bytes on."""
        word = self.temp(f"load i64, ptr {self.pointer(SLOT, offset + SLOT_IMM)}, align 8")
        for operand in operands:
            place, bits = places[operand.attrs["name"]]
            sh = self.temp(f"lshr i64 {word}, {8*(place-SLOT_IMM)}")
            loaded = self.temp(f"trunc i64 {sh} to i{bits}")
            if operand.type.bits > bits:
                loaded = self.temp(f"sext i{bits} {loaded} to {operand.type}")
            self.set(operand, loaded)

    def same(self, read: Value, written: Value) -> None:
        """Operand `read` is the same register as operand `written`."""
        self.set(read, self.ref(written))

    def following(self, slow: str, *, terminates: bool) -> None:
        """What follows belongs to the next slot: another instruction of a fused sequence, which can be started over by
        itself."""
        self._distance += SLOT_SIZE
        self.slot = self.temp(f"add i64 {SLOT}, {self._distance}")
        self.slow = slow
        self.terminates = terminates
        self._wrote = self._stored = False
        self._bail_label = ""

    # -- small parts ------------------------------------------------------------------------------------------

    def field(self, name: str) -> str:
        """A pointer to a field of the CPU record."""
        return self.pointer(CPU, self.record[name])

    def load64(self, base: str, offset: int) -> str:
        """Eight bytes of host memory."""
        return self.temp(f"load i64, ptr {self.pointer(base, offset)}, align 8")

    def arguments(self, slot: str, block: str = BLOCK, budget: str = BUDGET) -> str:
        """The arguments of a function in the chain."""
        return f"i64 {CPU}, i64 {slot}, i64 {block}, i64 {budget}, i64 {MEM}, i64 {ATTR}"

    def tail(self, callee: str, arguments: str = "") -> None:
        """Go on in another function of the interpreter."""
        arguments = arguments or self.arguments(self._slot_at(self._distance))
        self.line(f"musttail call {CONVENTION} void {callee}({arguments})")
        self.line("ret void")
        self.terminated = True

    def bail(self) -> str:
        """The label that hands over to the slow twin."""
        if not self._bail_label:
            self._bail_label = self.label()
            self._bails.append((self._bail_label, self._distance, self.slow))
        return self._bail_label

    @property
    def may_bail(self) -> bool:
        """True where the instruction can still be started over."""
        return self.slow is not None and not self._wrote and not self._stored

    def may_repeat(self, access: str) -> bool:
        """True where it can be started over from before an access: stores may be done once more."""
        return self.may_bail or (self._stored and access == "w" and self.slow is not None and not self._wrote)

    def go_on(self) -> None:
        """End the handler: the next slot of the block."""
        if self._restore_mode:
            self._write_control(self.temp(f"load i32, ptr {self.field('frm')}"))
        distance = self._distance + SLOT_SIZE
        following = self._slot_at(distance)
        if self.slow is None:
            # A store to a page with decoded code has moved the epoch: what follows must be decoded anew.
            seen, now = self.load64(CPU, self.record["epoch"]), self._epoch()
            stale, fresh = self.label(), self.label()
            self.branch_to(self.temp(f"icmp ne i64 {seen}, {now}"), stale, fresh, unlikely=True)
            self.place(stale)
            self._resync()
            self.place(fresh)
        handler = self.load64(SLOT, distance)
        self.tail(self.temp(f"inttoptr i64 {handler} to ptr"), self.arguments(following))

    def _slot_at(self, distance: int) -> str:
        """A slot of the sequence, to go on at. Where the host refuses an access, SLOT's register tells the instruction: so LLVM
        must not move it on before."""
        if not distance:
            return SLOT
        if not self._accesses:
            return self.temp(f"add i64 {SLOT}, {distance}")
        return self.temp(f'call i64 asm sideeffect "lea {distance}($1), $0", "=r,r"(i64 {SLOT})')

    def _epoch(self) -> str:
        return self.load64(self.load64(CPU, self.record["epoch_ptr"]), 0)

    def _resync(self) -> None:
        """Look up what follows this instruction."""
        self.line(f"store i64 {self._following_pc()}, ptr {self.pc_field()}, align 8")
        self.tail("@lookup")

    def _following_pc(self) -> str:
        """The address of the next instruction, from the next slot: every other instruction has one."""
        if self.terminates:
            return self.load64(BLOCK, BLOCK_END)
        offset = self.temp(f"load i8, ptr {self.pointer(self.slot, SLOT_SIZE + SLOT_OFF)}")
        return self._at_offset(offset)

    def _at_offset(self, offset: str) -> str:
        distance = self.temp(f"shl i64 {self.temp(f'zext i8 {offset} to i64')}, 1")
        return self.temp(f"add i64 {self.load64(BLOCK, BLOCK_PC)}, {distance}")

    def pc_field(self) -> str:
        """A pointer to the guest's pc in the CPU record."""
        return self.pointer(CPU, self.record.layout["pc"].offset)

    def finish(self) -> None:
        """End the function: the next slot where the body said nothing else, then the cold end."""
        if not self.terminated:
            self.go_on()
        for label, distance, slow in self._bails:
            self.bailed = True
            self.place(label)
            self.tail(f"@{slow}", self.arguments(self._slot_at(distance)))
        super().finish()

    # -- guest state ------------------------------------------------------------------------------------------

    def _register(self, slot: str, index: Value | None) -> str:
        place = self.record.layout[slot]
        if index is None:
            return self.pointer(CPU, place.offset)
        if index.op == "const":
            return self.pointer(CPU, place.offset + place.stride * index.bits)
        scaled = self.temp(f"mul i64 {self.i64(index)}, {place.stride}")
        return self.pointer(self.temp(f"add i64 {CPU}, {scaled}"), place.offset)

    def op_get(self, v: Value) -> None:
        pointer = self._register(v.attrs["slot"], v.args[0] if v.args else None)
        self.define(v, f"load {self.llvm_type(v.type)}, ptr {pointer}")

    def op_set(self, v: Value) -> None:
        pointer = self._register(v.attrs["slot"], v.args[0] if len(v.args) == 2 else None)
        self.line(f"store {self.typed(v.args[-1])}, ptr {pointer}")
        self._wrote = True

    def op_pc(self, v: Value) -> None:
        self.set(v, self._at_offset(self.temp(f"load i8, ptr {self.pointer(self.slot, SLOT_OFF)}")))

    def op_next_pc(self, v: Value) -> None:
        self.set(v, self._following_pc())

    def op_instret(self, v: Value) -> None:
        self.define(v, f"call i64 @instret(i64 {CPU}, i64 {self.slot}, i64 {BLOCK}, i64 {BUDGET})")

    # -- guest memory -----------------------------------------------------------------------------------------

    def check(self, address: str, size: int, access: str) -> None:
        """Make sure that the access is allowed; go on only if so."""
        self._accesses = True
        good = self.label()
        if self.may_repeat(access):
            shift = size.bit_length() - 1
            rotated = address
            if shift:
                rotated = self.intrinsic("fshr.i64", I64, [(I64, address), (I64, address), (I64, str(shift))])
            # One comparison for both: bits that break the alignment come out at the top.
            outside = self.temp(f"icmp uge i64 {rotated}, {1 << (SIZE_BITS - shift)}")
            inside = self.label()
            self.branch_to(outside, self.bail(), inside, unlikely=True)
            self.place(inside)
            page = self.temp(f"lshr i64 {rotated}, {PAGE_BITS - shift}")
            flags = self.temp(f"load i8, ptr {self.pointer(self.temp(f'add i64 {ATTR}, {page}'))}")
            wanted = FAST[access]
            have = self.temp(f"and i8 {flags}, {wanted - 256 if wanted > 127 else wanted}")
            missing = self.temp(f"icmp ne i8 {have}, {wanted - 256 if wanted > 127 else wanted}")
            self.branch_to(missing, self.bail(), good, unlikely=True)
        else:
            bad = self.label()
            kind = size | _ACCESS[access] << 8
            answer = self.temp(f"call i64 @check_access(i64 {CPU}, i64 {address}, i64 {kind})")
            self.branch_to(self.temp(f"icmp ne i64 {answer}, 0"), bad, good, unlikely=True)
            self.place(bad)
            self._leave()
        self.place(good)

    def _leave(self) -> None:
        if self._restore_mode:
            self._write_control(self.temp(f"load i32, ptr {self.field('frm')}"))
        self.tail("@leave_inside")

    def _counting(self, address: str, access: str) -> str:
        """The bits of an address that count. Any other leads a fast handler to its slow twin."""
        if self.may_repeat(access):
            return address
        return self.temp(f"and i64 {address}, {self.load64(CPU, self.record['address_mask'])}")

    def _guest_pointer(self, v: Value, type_: Type, access: str) -> str:
        address = self._counting(self.ref(v.args[0]), access)
        self.check(address, type_.total_bits // 8, access)
        return self.pointer(self.temp(f"add i64 {MEM}, {address}"))

    def op_load(self, v: Value) -> None:
        pointer = self._guest_pointer(v, v.type, "r")
        if v.attrs["order"] == "none":
            self.define(v, f"load {self.llvm_type(v.type)}, ptr {pointer}, align 1")
        else:
            order = "seq_cst" if v.attrs["order"] in ("seqcst", "acqrel") else "acquire"
            self.define(v, f"load atomic {v.type}, ptr {pointer} {order}, align {v.type.bits // 8}")

    def op_store(self, v: Value) -> None:
        pointer = self._guest_pointer(v, v.args[1].type, "w")
        value = self.typed(v.args[1])
        if v.attrs["order"] == "none":
            self.line(f"store {value}, ptr {pointer}, align 1")
        else:
            order = "seq_cst" if v.attrs["order"] in ("seqcst", "acqrel") else "release"
            self.line(f"store atomic {value}, ptr {pointer} {order}, align {v.args[1].type.bits // 8}")
        self._stored = True

    def op_amo(self, v: Value) -> None:
        pointer = self._guest_pointer(v, v.type, "rw")
        self.define(v, f"atomicrmw {v.attrs['rmw']} ptr {pointer}, {self.typed(v.args[1])} seq_cst")
        self._wrote = True

    def op_cmpxchg(self, v: Value) -> None:
        pointer = self._guest_pointer(v, v.type, "rw")
        pair = self.temp(
            f"cmpxchg ptr {pointer}, {self.typed(v.args[1])}, {self.typed(v.args[2])} seq_cst seq_cst"
        )
        self.define(v, f"extractvalue {{ {v.type}, i1 }} {pair}, 0")
        self._wrote = True

    def op_probe(self, v: Value) -> None:
        self.check(self._counting(self.ref(v.args[0]), v.attrs["access"]), v.attrs["size"], v.attrs["access"])

    def op_fence(self, v: Value) -> None:
        self.line(f"fence {ORDERS.get(v.attrs['order'], 'seq_cst')}")

    def op_ticks(self, v: Value) -> None:
        """Nanoseconds of the host's monotonic clock, from struct timespec."""
        place = self.alloca(I128)
        function = self.temp(f"inttoptr i64 {self.load64(CPU, self.record['f_clock'])} to ptr")
        self.temp(f"call i32 {function}(i32 {CLOCK}, ptr {place})")
        seconds = self.temp(f"load i64, ptr {place}, align 8")
        rest = self.temp(f"getelementptr i8, ptr {place}, i64 8")
        rest = self.temp(f"load i64, ptr {rest}, align 8")
        self.define(v, f"add i64 {self.temp(f'mul i64 {seconds}, 1000000000')}, {rest}")

    # -- floating point ---------------------------------------------------------------------------------------

    def fp_scratch(self) -> str:
        return self.field("scratch")

    def _write_control(self, mode: str) -> None:
        """Set the host's rounding control to IR mode `mode` (an i32, 0 to 3)."""
        doubled = self.temp(f"shl i32 {self.temp(f'and i32 {mode}, 3')}, 1")
        control = self.temp(f"and i32 {self.temp(f'lshr i32 {_ROUND_CONTROL}, {doubled}')}, 3")
        kept = self.temp(f"and i32 {self.read_mxcsr()}, {~0x6000}")
        self.write_mxcsr(self.temp(f"or i32 {kept}, {self.temp(f'shl i32 {control}, 13')}"))

    def op_rounding(self, v: Value) -> None:
        mode = v.args[0]
        self.set(v, "7")
        if mode.op == "const" and mode.bits == ENV:
            self._require_mode(marks_of(v.builder.body))
            return
        if mode.op == "const":
            return  # the operations that follow take a fixed mode
        if self.may_bail:
            index = self.temp(f"add i64 {CPU}, {self.i64(mode)}")
            busy = self.temp(f"load i8, ptr {self.pointer(index, self.record['rm_table'])}")
            good = self.label()
            self.branch_to(self.temp(f"icmp ne i8 {busy}, 0"), self.bail(), good, unlikely=True)
            self.place(good)
            return
        away, good = self.label(), self.label()
        self.branch_to(self.temp(f"icmp eq i8 {self.ref(mode)}, 4"), away, good, unlikely=True)
        self.place(away)
        self._exit(exits.EVAL, [])
        self.place(good)
        self._write_control(self.temp(f"zext i8 {self.ref(mode)} to i32"))
        self._restore_mode = True

    def marked(self, marks: int) -> str:
        """Those of `marks` (`modes.py`) that the environment's mode has, an i8."""
        table = self.temp(f"load i8, ptr {self.pointer(CPU, self.record['rm_table'] + ENV)}")
        return self.temp(f"and i8 {table}, {marks}")

    def _require_mode(self, marks: int) -> None:
        """Go on if nothing in the environment's mode is in the way. The slow twin is for flushing to zero, and leaves the rest to
        the evaluator."""
        found, good = self.marked(marks), self.label()
        self.flushing = marks & FLUSHES != 0 and self.slow is None
        odd = self.temp(f"icmp ne i8 {found}, {FLUSHES if self.flushing else 0}")
        if self.may_bail and marks & FLUSHES:
            self.branch_to(odd, self.bail(), good, unlikely=True)
            self.place(good)
            return
        away = self.label()
        self.branch_to(odd, away, good, unlikely=True)
        self.place(away)
        self._exit(exits.EVAL, [])
        self.place(good)

    def more_flags(self) -> str:
        return self.field("flags")

    def op_fp_raise(self, v: Value) -> None:
        super().op_fp_raise(v)
        if v.args[0].op != "const" or v.args[0].bits & SUBNORMAL:
            subnormal = self.temp(f"and i32 {self.ref(v.args[0])}, {SUBNORMAL}")
            self._unless_zero(subnormal, lambda: self.note(subnormal))

    def environment(self) -> str:
        return self.temp(f"load i32, ptr {self.field('frm')}")

    def op_fp_flags(self, v: Value) -> None:
        super().op_fp_flags(v)
        more = self.temp(f"load i32, ptr {self.field('flags')}")
        self.define(v, f"or i32 {self.ref(v)}, {more}")

    def op_fp_setflags(self, v: Value) -> None:
        super().op_fp_setflags(v)
        kept = self.temp(f"and i32 {self.ref(v.args[0])}, {SUBNORMAL}")
        self.line(f"store i32 {kept}, ptr {self.field('flags')}")

    def op_fp_rm(self, v: Value) -> None:
        self.define(v, f"load i32, ptr {self.field('frm')}")

    def op_fp_setrm(self, v: Value) -> None:
        mode = self.ref(v.args[0])
        self.line(f"store i32 {mode}, ptr {self.field('frm')}")
        rounding = self.temp(f"and i32 {mode}, {ROUNDING}")
        good = self.temp(f"icmp ult i32 {rounding}, 4")
        shift = self.temp(f"shl i64 {self.i64(v.args[0])}, 3")
        bit = self.temp(f"shl i64 1, {self.temp(f'and i64 {shift}, 24')}")
        bit = self.temp(f"select i1 {good}, i64 {bit}, i64 {ROUNDS << 56}")
        table = self.temp(f"xor i64 {bit}, {TABLE}")
        for have, mark in MARKS:
            one = self.temp(f"icmp ne i32 {self.temp(f'and i32 {mode}, {have}')}, 0")
            table = self.temp(f"or i64 {table}, {self.temp(f'select i1 {one}, i64 {mark << 56}, i64 0')}")
        self.line(f"store i64 {table}, ptr {self.field('rm_table')}")
        self._write_control(mode)
        flush = self.temp(f"icmp ne i32 {self.temp(f'and i32 {mode}, {FLUSH}')}, 0")
        kept = self.temp(f"and i32 {self.read_mxcsr()}, {~HOST_FLUSHES}")
        self.write_mxcsr(self.temp(f"or i32 {kept}, {self.temp(f'select i1 {flush}, i32 {HOST_FLUSHES}, i32 0')}"))
        self._wrote = True

    # -- where the guest goes next ----------------------------------------------------------------------------

    def remember(self, block: str) -> None:
        """Note in this block's header where its indirect jump goes: regions grow along it."""
        self.line(f"store i64 {block}, ptr {self.pointer(BLOCK, BLOCK_TAKEN)}, align 8")

    def enter(self, block: str, budget: str = BUDGET) -> None:
        """Go to the first slot of `block`, unless the budget is used up."""
        counter = self.pointer(block, BLOCK_COUNT)
        entered = self.temp(f"load i64, ptr {counter}")
        entered = self.temp(f"add i64 {entered}, 1")
        self.line(f"store i64 {entered}, ptr {counter}")
        warm, counted = self.label(), self.label()
        self.branch_to(self.temp(f"icmp eq i64 {entered}, {self.load64(CPU, self.record['warm'])}"), warm, counted, unlikely=True)
        self.place(warm)
        self.tail("@warm", self.arguments(SLOT, block, budget))
        self.place(counted)
        n = self.temp(f"load i32, ptr {self.pointer(block, BLOCK_N)}")
        left = self.temp(f"sub i64 {budget}, {self.temp(f'zext i32 {n} to i64')}")
        out, go = self.label(), self.label()
        self.branch_to(self.temp(f"icmp slt i64 {left}, 0"), out, go, unlikely=True)
        self.place(out)
        self.tail("@budget_out", self.arguments(self._slot_at(self._distance), block, left))
        self.place(go)
        first = self.temp(f"add i64 {block}, {BLOCK_HEADER}")
        handler = self.temp(f"inttoptr i64 {self.load64(block, BLOCK_HEADER)} to ptr")
        self.tail(handler, self.arguments(first, block, left))

    def chained(self, place: int, target: Value | None) -> None:
        """Go to the block that header field `place` names; find it and fill the field in where it is empty."""
        block = self.load64(BLOCK, place)
        unknown, known = self.label(), self.label()
        self.branch_to(self.temp(f"icmp eq i64 {block}, 0"), unknown, known, unlikely=True)
        self.place(unknown)
        address = self.ref(target) if target is not None else self.load64(BLOCK, BLOCK_END)
        self.line(f"store i64 {address}, ptr {self.pc_field()}, align 8")
        link = self.temp(f"add i64 {BLOCK}, {place}")
        self.line(f"store i64 {link}, ptr {self.field('link_to')}, align 8")
        self.tail("@link")
        self.place(known)
        self.enter(block)

    def op_jump(self, v: Value) -> None:
        self.chained(BLOCK_TAKEN, v.args[0])

    def op_branch(self, v: Value) -> None:
        taken, fall = self.label(), self.label()
        self.branch_to(self.ref(v.args[0]), taken, fall)
        self.place(taken)
        self.chained(BLOCK_TAKEN, v.args[1])
        self.place(fall)
        self.chained(BLOCK_FALL, None)

    def jump_cache_entry(self, target: str) -> str:
        """The address, less that of the jump cache in the CPU record, of the entry for `target`; see `jump_offset`."""
        spread = self.temp(f"xor i64 {target}, {self.temp(f'lshr i64 {target}, {JUMP_CACHE_FOLD}')}")
        offset = self.temp(f"and i64 {self.temp(f'shl i64 {spread}, 3')}, {JUMP_CACHE_MASK}")
        return self.temp(f"add i64 {CPU}, {offset}")

    def count(self, field: str) -> None:
        """Add one to a field of the CPU record."""
        more = self.temp(f"add i64 {self.load64(CPU, self.record[field])}, 1")
        self.line(f"store i64 {more}, ptr {self.field(field)}, align 8")

    def op_indirect(self, v: Value) -> None:
        target = self.ref(v.args[0])
        entry = self.jump_cache_entry(target)
        cached = self.load64(entry, self.record.jump_cache)
        miss, hit = self.label(), self.label()
        self.branch_to(self.temp(f"icmp ne i64 {cached}, {target}"), miss, hit, unlikely=True)
        self.place(miss)
        self.line(f"store i64 {target}, ptr {self.pc_field()}, align 8")
        self.tail("@lookup")
        self.place(hit)
        self.count("jump_hits")
        block = self.load64(entry, self.record.jump_cache + 8)
        self.remember(block)
        self.enter(block)

    def _exit(self, code: int, args: list[str]) -> None:
        self.line(f"store i64 {code}, ptr {self.field('code')}, align 8")
        for i, arg in enumerate(args):
            self.line(f"store i64 {arg}, ptr {self.field(f'arg{i}')}, align 8")
        self._leave()

    def op_exit(self, v: Value) -> None:
        if v.attrs["code"] == exits.FENCE_I:
            # Stores to code have moved the epoch, and `lookup` looks at it: nothing else to synchronise.
            self._resync()
            return
        self._exit(v.attrs["code"], [self.i64(a) for a in v.args])
