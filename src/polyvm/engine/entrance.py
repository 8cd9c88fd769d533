"""How a region is entered: by the interpreter's chain, in place of a block's first handler, and by other regions, through the
block's `go` field. Both end in the region's own function, which has the number of the entry where handlers have their slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.engine.handlers import BLOCK, CONVENTION, CPU, MEM, HandlerEmitter
from polyvm.engine.layout import BLOCK_COUNT, BLOCK_ENTRY, BLOCK_FIRST, BLOCK_GO, BLOCK_HEADER, BLOCK_N
from polyvm.engine.region import ENOUGH
from polyvm.errors import EngineError

if TYPE_CHECKING:
    from polyvm.codegen.llvm_module import ModuleText
    from polyvm.engine.layout import CpuRecord

REGION, ENTER, GO = "region", "enter", "go"


class OutsideEmitter(HandlerEmitter):
    """Writes functions that are in another object than the interpreter's."""

    def tail(self, callee: str, arguments: str = "") -> None:
        """Functions of the interpreter are reached through the CPU record."""
        if callee.startswith("@"):
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


# The registers are those in which the calling convention of the chain (`CONVENTION`) passes the CPU record (r12), the slot (r13),
# the block (r14) and the budget (r15). In assembly, for two functions more would take LLVM a sixth of the time for a region.
_ENTRANCES = """
.globl {GO}
.globl {ENTER}
{GO}:
incq {BLOCK_COUNT}(%r14)
movl {BLOCK_N}(%r14), %eax
subq %rax, %r15
{ENTER}:
cmpq ${bound}, %r15
jl 1f
movq {BLOCK_ENTRY}(%r14), %r13
jmp {REGION}
1: jmp *{short}(%r12)
"""


def write_entrances(module: ModuleText, record: CpuRecord, bound: int) -> None:
    """The two functions. The region, of fewer than ENOUGH instructions, is entered with a budget of at least `bound`; where there
    is less, `short_budget` sees to it."""
    if bound >= ENOUGH:
        raise EngineError(f"a region of {bound} instructions is too long")
    text = _ENTRANCES.format(bound=bound, short=record["f_short_budget"], GO=GO, ENTER=ENTER, REGION=REGION,
                             BLOCK_COUNT=BLOCK_COUNT, BLOCK_N=BLOCK_N, BLOCK_ENTRY=BLOCK_ENTRY)  # fmt: skip
    for line in filter(None, text.splitlines()):
        module.add(f'module asm "{line}"')


def interpret(e: OutsideEmitter, left: str) -> None:
    """Leave the block, whose entry was counted, to the interpreter."""
    handler = e.temp(f"inttoptr i64 {e.load64(BLOCK, BLOCK_FIRST)} to ptr")
    e.tail(handler, e.outside(left, slot=e.temp(f"add i64 {BLOCK}, {BLOCK_HEADER}"), block=BLOCK))
