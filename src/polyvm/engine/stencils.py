"""The interpreter's handlers once more, as stencils: machine code with holes for the operands.

The same bodies are staged as for handlers, but an operand is the address of a symbol that nothing defines. LLVM leaves a
relocation
wherever it uses one: as an immediate, or as the distance of a register in the CPU record. Copied one after the other and filled
in (`stamp.py`), the stencils of a block's slots do what the handlers do, without loading operands or going from one to the
next. The
convention is the handlers', but that the slot is not kept: what needs it makes it from the block. Where a handler hands over to
its
slow twin, a stencil goes back to the interpreter, at the slot; that continues to the block's end.

    build    an instruction set's stencils, as bytes that are cached
    make     the same, for the cache
    stencil  magic, sizes; names of functions; entries, holes, code (`stamp.py`), what begins a core's range
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from polyvm.codegen import cache
from polyvm.codegen.llvm_module import ModuleText
from polyvm.codegen.native import compile_object
from polyvm.codegen.pieces import Hole, pieces
from polyvm.engine.copies import HEAD, MAGIC
from polyvm.engine.fusion import Fusion
from polyvm.engine.handlers import (
    BLOCK,
    BUDGET,
    CPU,
    MARK_COVER,
    MARK_ENTER,
    MARK_FALL,
    MARK_FIRST,
    MARK_NONE,
    MEM,
    PARAMS,
    SLOT,
    HandlerEmitter,
    operand_places,
)
from polyvm.engine.interpreter import FormLister, stage
from polyvm.engine.layout import (
    BLOCK_COUNT,
    BLOCK_END,
    BLOCK_FALL,
    BLOCK_GO,
    BLOCK_HEADER,
    BLOCK_PLAIN,
    MAX_BLOCK,
    MAX_SLOTS,
    SLOT_IMM,
    SLOT_OFF,
    SLOT_SIZE,
    TO_NEAR,
    CpuRecord,
)
from polyvm.engine.runtime import Runtime
from polyvm.engine.spawn import stand_back
from polyvm.engine.stamp import ARENA, BACK, BACK_SIZE, LENGTH, NEXT, PLACE, SIGNED, UNSIGNED
from polyvm.errors import EngineError
from polyvm.isa import get as get_isa

if TYPE_CHECKING:
    from polyvm.engine.decoder import Form
    from polyvm.engine.fusion import Node
    from polyvm.engine.interpreter import Staged
    from polyvm.ir import Builder, Type, Value
    from polyvm.isa import Insn, Isa

_OPTIMISATION = 2
_ENTRY = struct.Struct("<IIHHBBBx")
_HOLE = struct.Struct("<HBBBBBxii")
_FIELD = re.compile(r"s_v_(\d+)_(\d+)_(\d+)_([us])_(\d+)$")
_INDIRECT_JUMP = b"\xff\x25"  # jmp [rip + distance]
_JUMP = 0xE9


class StencilEmitter(HandlerEmitter):
    """Writes one stencil."""

    def __init__(
        self, module: ModuleText, name: str, record: CpuRecord, *, terminates: bool, guarded: bool = False
    ) -> None:  # fmt: skip
        super().__init__(module, name, record, name, terminates=terminates)
        self.slots = 1
        self.guarded = guarded
        self._places: dict[int, tuple[int, int, int]] = {}  # of operands: which slot, shift, bits

    def _symbol(self, name: str, low: int, high: int, type_: str = "i64") -> str:
        """The value of a symbol between `low` and `high`. It is weak: LLVM must assume neither that it is not zero nor that two
        differ."""
        limits = f"!absolute_symbol !{{i64 {low}, i64 {high + 1}}}"
        self.module.declare(name, f"@{name} = extern_weak hidden global [0 x i8], {limits}")
        return f"ptrtoint (ptr @{name} to {type_})"

    def _field(self, slot: int, shift: int, bits: int, *, signed: bool, factor: int = 1, type_: str = "i64") -> str:
        """Bits of the operands of one of the stencil's slots."""
        name = f"s_v_{slot}_{shift}_{bits}_{'s' if signed else 'u'}_{factor}"
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        return self._symbol(name, low * factor, high * factor, type_)

    def _offset(self, slot: int) -> str:
        """How far from the block's pc the instruction in a slot is."""
        return self._field(slot, 8 * (SLOT_OFF - SLOT_IMM), 8, signed=False, factor=2)

    @property
    def _slot_address(self) -> str:
        place = self._symbol(f"s_o_{self.slots - 1}", BLOCK_HEADER, SLOT_SIZE * MAX_SLOTS + BLOCK_HEADER)
        return self.temp(f"add i64 {BLOCK}, {place}")

    def _back(self) -> str:
        name = f"s_bail_{self.slots - 1}"
        self._declare(name)
        return name

    def _declare(self, name: str) -> None:
        self.module.declare(name, f"declare {self.convention} void @{name}({', '.join(['i64'] * len(PARAMS))})")

    def back(self) -> None:
        """Only go back to the interpreter."""
        self.jump_to(self.bail())
        self.finish()

    def again(self, *, at_start: bool) -> None:
        """The way back to the interpreter."""
        slot = self._slot_address
        handler = self.load64(BLOCK, BLOCK_PLAIN) if at_start else self.load64(slot, 0)
        self.tail(self.temp(f"inttoptr i64 {handler} to ptr"), self.arguments(slot))
        self.finish()

    def expect_next(self) -> None:
        """The body goes on by itself."""
        self._declare("s_next")

    # -- operands ---------------------------------------------------------------------------------------------

    def load_operands(self, operands: list[Value], places: dict[str, tuple[int, int]], offset: int = 0) -> None:
        for operand in operands:
            place, bits = places[operand.attrs["name"]]
            self._places[id(operand)] = (offset // SLOT_SIZE, 8 * (place - SLOT_IMM), bits)
            self.keep.append(operand)

    def same(self, read: Value, written: Value) -> None:
        self._places[id(read)] = self._places[id(written)]

    def operand(self, value: Value) -> str:
        slot, shift, bits = self._places[id(value)]
        return self._field(slot, shift, bits, signed=value.type.bits > bits or bits == 32, type_=str(value.type))

    def _register(self, slot: str, index: Value | None) -> str:
        if index is None or index.op != "operand":
            return super()._register(slot, index)
        place = self.record.layout[slot]
        where, shift, bits = self._places[id(index)]
        offset = self._field(where, shift, bits, signed=False, factor=place.stride)
        return self.pointer(self.temp(f"add i64 {CPU}, {offset}"), place.offset)

    def _guest_pointer(self, v: Value, type_: Type, access: str) -> str:
        if not self.guarded or not self.may_repeat(access) or v.attrs.get("order") != "none":
            return super()._guest_pointer(v, type_, access)
        address, inside = self.ref(v.args[0]), self.label()
        outside = self.temp(f"icmp uge i64 {address}, {self.load64(CPU, self.record['space'])}")
        self.branch_to(outside, self.bail(), inside, unlikely=True)
        self.place(inside)
        return self.pointer(self.temp(f"add i64 {MEM}, {address}"))

    # -- places -----------------------------------------------------------------------------------------------

    def following(self, slow: str, *, terminates: bool) -> None:
        super().following(slow, terminates=terminates)
        self.slot = SLOT
        self.slots += 1

    def bail(self) -> str:
        if not self._bail_label:
            self._bail_label = self.label()
            self._bails.append((self._bail_label, 0, self._back()))
        return self._bail_label

    def _slot_at(self, distance: int) -> str:
        return SLOT  # nobody looks at it

    def go_on(self) -> None:
        if self._restore_mode:
            self._write_control(self.temp(f"load i32, ptr {self.field('frm')}"))
        self._declare("s_next")
        self.tail("@s_next")

    def chained(self, place: int, target: Value | None) -> None:
        block = self.load64(BLOCK, place + TO_NEAR)
        handler = self.temp(f"inttoptr i64 {self.load64(block, BLOCK_GO)} to ptr")
        self.tail(handler, self.arguments(BLOCK, block))

    def op_indirect(self, v: Value) -> None:
        self.tail("@go_indirect", self.arguments(self.ref(v.args[0])))

    def entered(self) -> None:
        """What stands before a block's stencils."""
        counter = self.pointer(BLOCK, BLOCK_COUNT)
        entered = self.temp(f"load i64, ptr {counter}")
        self.line(f"store i64 {self.temp(f'add i64 {entered}, 1')}, ptr {counter}")
        left = self.temp(f"sub i64 {BUDGET}, {self._symbol('s_n', 0, MAX_BLOCK)}")
        out, go = self.label(), self.label()
        self.branch_to(self.temp(f"icmp slt i64 {left}, 0"), out, go, unlikely=True)
        self.place(out)
        self.tail("@budget_out", self.arguments(SLOT, BLOCK, left))
        self.place(go)
        self._declare("s_next")
        self.tail("@s_next", self.arguments(SLOT, BLOCK, left))
        self.finish()

    def tail(self, callee: str, arguments: str = "") -> None:
        if callee.startswith("@"):
            self._declare(callee[1:])
        super().tail(callee, arguments)

    def _leave(self) -> None:
        if self._restore_mode:
            self._write_control(self.temp(f"load i32, ptr {self.field('frm')}"))
        self.tail("@leave_inside", self.arguments(self._slot_address))

    def _following_pc(self) -> str:
        if self.terminates:
            return self.load64(BLOCK, BLOCK_END)
        return self.temp(f"add i64 {self._block_pc()}, {self._offset(self.slots)}")

    def _block_pc(self) -> str:
        return self.load64(BLOCK, 0)

    def op_pc(self, v: Value) -> None:
        self.set(v, self.temp(f"add i64 {self._block_pc()}, {self._offset(self.slots - 1)}"))

    def op_instret(self, v: Value) -> None:
        self.slot = self._slot_address
        super().op_instret(v)
        self.slot = SLOT


class _Runtime(Runtime):
    """For slots that are no guest instruction."""

    def _next_slot(self, cpu: Value, slot: Value, block: Value, budget: Value, mem: Value, attr: Value) -> None:
        self.b.tailcall("s_next", cpu, slot, block, budget, mem, attr)


class _Kind(NamedTuple):
    """A stencil: its functions where the attribute table is looked at and where the host protects memory, the slots that it
    takes,
    whether it ends a block, which of its slots accesses guest memory."""

    name: str
    guarded: str
    slots: int = 1
    ends: bool = False
    access: int = 0


def build(isa: Isa) -> bytes:
    """All stencils of an instruction set."""
    module = ModuleText()
    module.attributes = "optsize"
    module.rare_linkage = ""  # a copy can only call what has an address of its own: the interpreter's
    module.declare("instret", "declare i64 @instret(i64, i64, i64, i64)")
    module.declare("check_access", "declare i64 @check_access(i64, i64, i64)")
    writer = _Writer(module, isa)
    writer.write()
    found = pieces(compile_object(module.text(), _OPTIMISATION))
    return _Packer(found.functions, found.constants, writer.kinds).pack()


def make(isa_name: str, entry: str, folder: str, *, wait: bool = True) -> bytes:
    """Stencils that are missing in the cache, where they become `entry`; nothing if others make them and this is not to wait."""
    with cache.making(entry, folder, wait=wait) as lock:
        if lock.busy:
            return b""
        data = cache.load(entry, folder)  # another process may have made them meanwhile
        if data is None:
            data = build(get_isa(isa_name))
            cache.store(entry, data, folder)
        return data


def main(isa_name: str, entry: str, folder: str) -> None:
    """Make them in a process that nobody waits for."""
    stand_back(5)
    make(isa_name, entry, folder, wait=False)


_ACCESSES = {"load", "store", "amo", "cmpxchg", "probe"}


class _Writer:
    """Stages all stencils in a module. `kinds` are they, by the handler's mark."""

    def __init__(self, module: ModuleText, isa: Isa) -> None:
        self.module = module
        self.isa = isa
        self.record = CpuRecord(isa.layout)
        self.kinds: dict[int, _Kind] = {}

    def _emitter(self, name: str, *, terminates: bool, guarded: bool = False) -> StencilEmitter:
        return StencilEmitter(self.module, name, self.record, terminates=terminates, guarded=guarded)

    def write(self) -> None:
        """All of them."""
        self._others()
        forms = FormLister(self.isa)
        for insn in self.isa.instructions:
            for form in forms.add(insn):
                self._form(form)
        fusion = Fusion(self.isa, {form.insn.name: form for form in forms.all if not form.fixed})
        for node in fusion.nodes:
            self._sequence(node, MARK_FIRST + len(forms.all) - 1 + node.index)

    def _others(self) -> None:
        none = self._emitter("s_none", terminates=False)
        none.back()
        self.kinds[MARK_NONE] = _Kind(none.name, none.name, ends=True)
        for name in ("s_back_first", "s_back"):
            self._emitter(name, terminates=True).again(at_start=name == "s_back_first")
        enter = self._emitter("s_enter", terminates=False)
        enter.entered()
        self.kinds[MARK_ENTER] = _Kind(enter.name, enter.name)
        fall = self._emitter("s_fall", terminates=True)
        fall.chained(BLOCK_FALL, None)
        fall.finish()
        self.kinds[MARK_FALL] = _Kind(fall.name, fall.name, ends=True)
        runtime = _Runtime(self.module, self.record)
        cover = self._emitter("s_cover", terminates=False)
        cover.expect_next()
        runtime.write(cover, PARAMS, runtime.p_cover)
        self.kinds[MARK_COVER] = _Kind(cover.name, cover.name)

    def _form(self, form: Form) -> None:
        names = [f"s_{form.name}"]
        for name in names:  # which grows
            staged = stage(self.isa, form.insn, form.fixed, fast=True)
            guarded = name != names[0]
            emitter = self._emitter(name, terminates=form.terminates, guarded=guarded)
            emitter.load_operands(staged.operands, operand_places(form.insn))
            emitter.region(staged.region)
            emitter.finish()
            if not guarded and staged.ops & {"load", "store"}:
                names.append(f"g_{form.name}")
        self.kinds[MARK_FIRST + form.index] = _Kind(names[0], names[-1], ends=form.terminates)

    def _sequence(self, node: Node, mark: int) -> None:
        chain = node.chain

        def body(insn: Insn, before: Builder | None) -> Staged:
            return stage(self.isa, insn, {}, fast=True, before=before)

        accesses = [i for i, link in enumerate(chain) if body(link.form.insn, None).ops & _ACCESSES]
        if len(accesses) > 1:
            # Where the host refuses one it would not be known which.
            self.kinds[mark] = self.kinds[MARK_FIRST + chain[0].form.index]
            return
        names = [f"s_{node.name}", f"g_{node.name}"][: 1 + len(accesses)]
        for name in names:
            node.write(self._emitter(name, terminates=chain[0].form.terminates, guarded=name != names[0]), body)
        self.kinds[mark] = _Kind(names[0], names[-1], len(chain), chain[-1].form.terminates, sum(accesses))


class _Packer:
    """Puts the stencils together. What a core's range begins with: addresses, jumps to them, ways back, constants."""

    def __init__(self, functions: dict[str, tuple[bytes, list[Hole]]], constants: bytes, kinds: dict[int, _Kind]) -> None:
        self.functions = functions
        self.kinds = kinds
        self.targets: list[str] = sorted({
            hole.symbol for kind in kinds.values() for name in kind[:2] if name in functions for hole in functions[name][1]
            if hole.symbol is not None and not hole.symbol.startswith("s_")
        })  # fmt: skip
        self.jumps = 8 * len(self.targets)
        self.backs = -(-2 * self.jumps // 16) * 16
        self.constants = -(-(self.backs + BACK_SIZE * MAX_SLOTS) // 64) * 64
        self.start = bytearray(self.constants) + constants
        for i in range(len(self.targets)):
            at = self.jumps + 8 * i
            self.start[at : at + 6] = _INDIRECT_JUMP + struct.pack("<i", 8 * i - at - 6)
        for i in range(MAX_SLOTS):
            self._way_back(i)

    def _way_back(self, slot: int) -> None:
        code, holes = self.functions["s_back" if slot else "s_back_first"]
        if len(code) > BACK_SIZE:
            raise EngineError(f"a way back to the interpreter takes {len(code)} bytes")
        made = bytearray(code)
        for hole in holes:
            if hole.symbol != "s_o_0" or hole.size != 4:
                raise EngineError(f"a way back to the interpreter refers to {hole.symbol}")
            struct.pack_into("<i", made, hole.at, BLOCK_HEADER + SLOT_SIZE * slot + hole.addend)
        at = self.backs + BACK_SIZE * slot
        self.start[at : at + len(made)] = made

    def _hole(self, hole: Hole) -> bytes:
        name, fields = hole.symbol, (0, 0, 0, hole.addend, 0)
        if name is None:
            kind, fields = ARENA, (0, 0, 0, self.constants + hole.addend, 0)
        elif found := _FIELD.match(name):
            slot, shift, bits, sign, factor = found.groups()
            kind = SIGNED if sign == "s" else UNSIGNED
            fields = (int(slot), 64 - int(shift) - int(bits), 64 - int(bits), hole.addend, int(factor))
        elif name == "s_n":
            kind = LENGTH
        elif name.startswith("s_o_"):
            kind, fields = PLACE, (int(name[4:]), 0, 0, hole.addend, 0)
        elif name == "s_next":
            kind = NEXT
        elif name.startswith("s_bail_"):
            kind, fields = BACK, (int(name[7:]), 0, 0, self.backs + hole.addend, 0)
        else:
            kind, fields = ARENA, (0, 0, 0, self.jumps + 8 * self.targets.index(name) + hole.addend, 0)
        if hole.relative != (kind >= NEXT):
            raise EngineError(f"a stencil refers to {name} in an unexpected way")
        return _HOLE.pack(hole.at, kind, hole.size, *fields)

    def pack(self) -> bytes:
        entries, holes, code = bytearray(), bytearray(), bytearray()
        for guarded in (False, True):
            for mark in range(len(self.kinds)):
                kind = self.kinds[mark]
                if not {kind.name, kind.guarded} <= self.functions.keys():
                    kind = self.kinds[MARK_NONE]
                text, own = self.functions[kind.guarded if guarded else kind.name]
                if text[-5:-4] == bytes([_JUMP]) and any(h.symbol == "s_next" and h.at == len(text) - 4 for h in own):
                    text, own = text[:-5], [h for h in own if h.at != len(text) - 4]
                entries += _ENTRY.pack(len(code), len(holes), len(text), len(own), kind.slots, kind.ends, kind.access)
                holes += b"".join(self._hole(hole) for hole in own)
                code += text + bytes(-len(text) % 8)
        names = "\n".join(self.targets).encode()
        head = HEAD.pack(MAGIC, len(self.targets), len(names), len(entries), len(holes), len(code), len(self.start))
        return b"".join((head, names, entries, holes, code, self.start))
