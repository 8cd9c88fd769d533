"""How a region is entered: by the interpreter's chain, in place of a block's first handler, and by other regions, through the
block's `go` field. Both end in the region's own function, which has the number of the entry where handlers have their slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.engine.handlers import BLOCK, BUDGET, CONVENTION, CPU, MEM, HandlerEmitter
from polyvm.engine.layout import BLOCK_COUNT, BLOCK_ENTRY, BLOCK_FIRST, BLOCK_GO, BLOCK_HEADER, BLOCK_N, BLOCK_PC

if TYPE_CHECKING:
    from polyvm.codegen.llvm_module import ModuleText
    from polyvm.engine.layout import CpuRecord

REGION, ENTER, GO = "region", "enter", "go"


class OutsideEmitter(HandlerEmitter):
    """Writes functions that are in another object than the interpreter's."""

    def tail(self, callee: str, arguments: str = "") -> None:
        """Functions of the interpreter are reached through the CPU record."""
        if callee.startswith("@") and callee[1:] not in (REGION, ENTER, GO):
            callee = self.temp(f"inttoptr i64 {self.load64(CPU, self.record['f_' + callee[1:]])} to ptr")
        self.line(f"musttail call {CONVENTION} void {callee}({arguments})")
        self.line("ret void")
        self.terminated = True

    def outside(self, left: str, *, slot: str = "poison", block: str = "poison") -> str:
        """The arguments of a function of the interpreter, with `left` of the budget. Those that find out where the guest goes on
        need neither slot nor block."""
        attributes = self.load64(CPU, self.record["attr"])
        return f"i64 {CPU}, i64 {slot}, i64 {block}, i64 {left}, i64 {MEM}, i64 {attributes}"

    def go_to(self, block: str, left: str) -> None:
        """Go on at a block, of which nothing was counted or taken from the budget."""
        handler = self.temp(f"inttoptr i64 {self.load64(block, BLOCK_GO)} to ptr")
        self.tail(handler, self.outside(left, block=block))


def write_entrances(module: ModuleText, record: CpuRecord, bound: int) -> None:
    """The two functions. The region is entered with a budget of at least `bound`."""
    e = OutsideEmitter(module, ENTER, record, None, terminates=True)
    _enter(e, bound)
    e = OutsideEmitter(module, GO, record, None, terminates=True)
    counter = e.pointer(BLOCK, BLOCK_COUNT)
    before = e.temp(f"load i64, ptr {counter}")
    e.line(f"store i64 {e.temp(f'add i64 {before}, 1')}, ptr {counter}")
    n = e.temp(f"zext i32 {e.temp(f'load i32, ptr {e.pointer(BLOCK, BLOCK_N)}')} to i64")
    left = e.temp(f"sub i64 {BUDGET}, {n}")
    low, good, out = e.label(), e.label(), e.label()
    e.branch_to(e.temp(f"icmp slt i64 {left}, {bound}"), low, good, unlikely=True)
    e.place(good)
    _go_in(e, left)
    e.place(low)
    end = e.label()
    e.branch_to(e.temp(f"icmp slt i64 {left}, 0"), out, end)
    e.place(out)
    e.tail("@budget_out", e.outside(left, block=BLOCK))
    e.place(end)
    e.tail(f"@{ENTER}", e.arguments("poison", BLOCK, left))
    e.finish()


def _go_in(e: OutsideEmitter, left: str) -> None:
    e.tail(f"@{REGION}", e.arguments(e.load64(BLOCK, BLOCK_ENTRY), BLOCK, left))


def _enter(e: OutsideEmitter, bound: int) -> None:
    low, good, in_ = e.label(), e.label(), e.label()
    e.branch_to(e.temp(f"icmp slt i64 {BUDGET}, {bound}"), low, good, unlikely=True)
    e.place(good)
    _go_in(e, BUDGET)
    e.place(low)
    e.line(f"store i64 {e.load64(BLOCK, BLOCK_PC)}, ptr {e.pc_field()}, align 8")  # for `ticked_in`
    function = e.temp(f"inttoptr i64 {e.load64(CPU, e.record['f_refill'])} to ptr")
    granted = e.temp(f"call preserve_mostcc i64 {function}(i64 {CPU}, i64 {BUDGET})")
    out = e.label()
    e.branch_to(e.temp(f"icmp slt i64 {granted}, {bound}"), out, in_, unlikely=True)
    e.place(in_)
    _go_in(e, granted)
    e.place(out)
    interpret(e, granted)
    e.finish()


def interpret(e: OutsideEmitter, left: str) -> None:
    """Leave the block, whose entry was counted, to the interpreter."""
    handler = e.temp(f"inttoptr i64 {e.load64(BLOCK, BLOCK_FIRST)} to ptr")
    e.tail(handler, e.outside(left, slot=e.temp(f"add i64 {BLOCK}, {BLOCK_HEADER}"), block=BLOCK))
