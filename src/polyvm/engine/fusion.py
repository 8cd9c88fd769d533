"""Handlers for several instructions in a row, and how the decoder finds them.

The sequences form a trie: a node is an instruction that continues its parent's sequence, perhaps only where it reads the
register that the instruction before writes, whose value then does not go through memory. While it decodes, the decoder
follows the trie and lets the first slot of a sequence have the handler for as much of it as there is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from polyvm.engine.handlers import operand_places
from polyvm.engine.layout import FUSION_COLUMNS, SLOT_IMM, SLOT_SIZE
from polyvm.errors import EngineError
from polyvm.ir import I8, I16, I32, I64

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.codegen.llvm_module import ModuleText
    from polyvm.engine.decoder import Form
    from polyvm.engine.handlers import HandlerEmitter
    from polyvm.engine.interpreter import Staged
    from polyvm.ir import Builder, Local, Value
    from polyvm.isa import Insn, Isa

# In a node's condition: there is none.
_ALWAYS = 1 << 16


class Node:
    """A sequence with a handler. `forward`: the operands of the last two instructions that must be the same register."""

    __slots__ = ("children", "form", "forward", "index", "name", "parent", "row")

    def __init__(self, parent: Node | None, form: Form, forward: tuple[str, str] | None, name: str, index: int) -> None:
        self.parent = parent
        self.form = form
        self.forward = forward
        self.name = name
        self.index = index
        self.row = 0
        self.children: dict[int, list[Node]] = {}

    @property
    def chain(self) -> list[Node]:
        """The instructions of the sequence."""
        return [*(self.parent.chain if self.parent is not None else ()), self]

    def write(self, emitter: HandlerEmitter, stage: Callable[[Insn, Builder | None], Staged]) -> None:
        """All bodies, one after the other."""
        chain = self.chain
        bodies: list[Staged] = []
        for link in chain:
            bodies.append(stage(link.form.insn, bodies[-1].builder if bodies else None))
        for i, (link, body) in enumerate(zip(chain, bodies, strict=True)):
            emitter.load_operands(body.operands, operand_places(link.form.insn), i * SLOT_SIZE)
            if link.forward is not None:
                written = next(o for o in bodies[i - 1].operands if o.attrs["name"] == link.forward[0])
                emitter.same(next(o for o in body.operands if o.attrs["name"] == link.forward[1]), written)
        for i, (link, body) in enumerate(zip(chain, bodies, strict=True)):
            if i:
                emitter.following(f"h_{link.form.name}_slow", terminates=link.form.terminates)
            emitter.region(body.region)
        emitter.finish()

    @property
    def condition(self) -> int:
        """Where in the two slots' operand words the bytes lie that must be equal: shifts in bits 0–7 and 8–15."""
        if self.forward is None or self.parent is None:
            return _ALWAYS
        before, here = operand_places(self.parent.form.insn), operand_places(self.form.insn)
        return 8 * (before[self.forward[0]][0] - SLOT_IMM) | 8 * (here[self.forward[1]][0] - SLOT_IMM) << 8


class Fusion:
    """All sequences of one instruction set. `forms` gives each instruction's handler for any operands."""

    def __init__(self, isa: Isa, forms: dict[str, Form]) -> None:
        self.isa = isa
        self.forms = forms
        self.roots: dict[str, Node] = {}
        self.nodes: list[Node] = []
        for words in isa.fusion:
            self._add(words)

    def _add(self, words: list[str]) -> None:
        first = self.forms[words[0]]
        node = self.roots.setdefault(words[0], Node(None, first, None, f"h_{first.name}", 0))
        for position, word in enumerate(words[1:], 2):
            name, _, read = word.partition(":")
            form = self.forms[name]
            forward = self._forward(node.form.insn, form.insn, read) if read else None
            children = node.children.setdefault(form.index, [])
            found = next((child for child in children if child.forward == forward), None)
            if found is None:
                if position < len(words):
                    raise EngineError(f"fused sequence {' '.join(words)}: there is none for its first {position}")
                suffix = f"{form.name}_{read}" if read else form.name
                found = Node(node, form, forward, f"{node.name}__{suffix}", len(self.nodes) + 1)
                self.nodes.append(found)
                # The one without a condition comes last.
                children.insert(len(children) if forward is None else 0, found)
            node = found

    def _forward(self, before: Insn, insn: Insn, read: str) -> tuple[str, str]:
        for pair in self.isa.forwards(before, insn):
            if pair[1] == read:
                return pair
        raise EngineError(f"{insn.name} after {before.name}: {read} cannot be forwarded")

    def emit(self, emitter: Callable[[Node], HandlerEmitter], stage: Callable[[Insn, Builder | None], Staged]) -> None:
        """A function for each sequence; `emitter` begins it."""
        for node in self.nodes:
            node.write(emitter(node), stage)

    def tables(self, module: ModuleText, forms: int) -> None:
        """What the decoder looks up: rows for what can be continued, columns for what can continue, nodes in the cells;
        0 is none."""
        parents = [*self.roots.values(), *(node for node in self.nodes if node.children)]
        columns: dict[int, int] = {}
        cells = [0] * FUSION_COLUMNS
        for row, parent in enumerate(parents, 1):
            parent.row = row
            line = [0] * FUSION_COLUMNS
            for form, children in parent.children.items():
                line[columns.setdefault(form, len(columns) + 1)] = children[0].index
            cells += line
        if len(columns) >= FUSION_COLUMNS:
            raise EngineError(f"{len(columns)} instructions continue fused sequences: more than {FUSION_COLUMNS - 1}")
        others = {
            node.index: after.index
            for parent in parents
            for children in parent.children.values()
            for node, after in pairwise(children)
        }
        starts = {root.form.index: root.row for root in self.roots.values()}
        module.table("fusion_row", "i16", [starts.get(i, 0) for i in range(forms + 1)])
        module.table("fusion_column", "i8", [columns.get(i, 0) for i in range(forms + 1)])
        module.table("fusion_cell", "i16", cells)
        module.table("fusion_handler", "ptr", ["null", *(f"@{node.name}" for node in self.nodes)])
        module.table("fusion_next", "i16", [0, *(node.row for node in self.nodes)])
        module.table("fusion_other", "i16", [0, *(others.get(node.index, 0) for node in self.nodes)])
        module.table("fusion_condition", "i32", [_ALWAYS, *(node.condition for node in self.nodes)])


class FusionFollower:
    """The decoder's walk through the trie, as IR."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.row: Local = b.local(b.const(I64, 0))  # of what is decoded so far; 0 where nothing continues it
        self.head: Local = b.local(b.const(I64, 0))  # the slot that it starts in

    def restart(self) -> None:
        """What comes next continues nothing."""
        self.row.set(0)

    def follow(self, at: Value, form: Value, packed: Value) -> None:
        """Slot `at` gets instruction `form` with operand word `packed`; its handler is stored already."""
        b = self.b

        def entry(table: str, index: Value) -> Value:
            return b.emit("address_of", I64, (), name=f"fusion_{table}") + index

        row, head = self.row.get(), self.head.get()
        self.row.set(b.hload(entry("row", form << 1), I16).zext(I64))
        self.head.set(at)
        with b.if_(row.ne(0)):
            column = b.hload(entry("column", form), I8).zext(I64)
            node = b.local(b.hload(entry("cell", (row * FUSION_COLUMNS + column) << 1), I16).zext(I64))
            before = b.hload(at - SLOT_SIZE, I64, SLOT_IMM)
            with b.loop():
                here = node.get()
                b.break_if(here.eq(0))
                condition = b.hload(entry("condition", here << 2), I32).zext(I64)
                same = ((before >> (condition & 0x3F)) ^ (packed >> ((condition >> 8) & 0x3F))) & 0xFF
                node.set(b.hload(entry("other", here << 1), I16).zext(I64))
                with b.if_((condition & _ALWAYS).ne(0) | same.eq(0)):
                    b.hstore(head, b.hload(entry("handler", here << 3), I64))
                    self.row.set(b.hload(entry("next", here << 1), I16).zext(I64))
                    self.head.set(head)
                    node.set(0)
