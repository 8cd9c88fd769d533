"""A region's blocks, staged: the instructions' bodies with constant operands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.errors import EngineError

if TYPE_CHECKING:
    from polyvm.engine.region import RegionBlock
    from polyvm.ir import Builder
    from polyvm.ir.value import Region, Value
    from polyvm.isa import Isa

# What a compiled region leaves to the interpreter: the runtime's business, and what the evaluator has to do.
_LEFT_OUT = frozenset({"exit", "fp_setrm", "instret"})
_ACCESSES = frozenset({"load", "store", "amo", "cmpxchg", "probe"})
_EFFECTS = frozenset({"set", "amo", "cmpxchg", "fp_setflags", "fp_raise"})
_REPEATED = frozenset({"store", "probe"})
_ENDS = frozenset({"jump", "branch", "indirect"})


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

    __slots__ = ("checked", "last", "spec", "steps", "targets")

    def __init__(self, spec: RegionBlock, steps: list[Step]) -> None:
        self.spec = spec
        self.steps = steps
        self.checked = False
        self.targets: list[int] = []
        self.last = next((v for v in steps[-1].flat if v.op in _ENDS), None) if steps[-1].body is not None else None

    @property
    def is_call(self) -> bool:
        """True if the last instruction leaves the address after it in a register."""
        if self.last is None or self.last.op == "branch":
            return False
        end = self.spec.end
        return any(v.op == "set" and v.args[-1].op == "const" and v.args[-1].bits == end for v in self.steps[-1].flat)


def entered_from_outside(blocks: dict[int, Block], entries: list[int]) -> int:
    """About how often a region of these blocks is entered, at the addresses `entries`: as often as those blocks, but for the ways
    to them from inside."""
    inside = dict.fromkeys(blocks, 0)
    for block in blocks.values():
        spec, targets = block.spec, [pc for pc in block.targets if pc in blocks]
        ways: list[tuple[int, int]]
        if block.last is not None and block.last.op == "branch" and spec.taken >= 0:
            ways = [(block.last.args[1].bits, spec.taken), (spec.end, max(0, spec.entries - spec.taken))]
        else:
            weight = sum(blocks[pc].spec.entries for pc in targets) or 1
            share = 1.0 if len(targets) < 2 else min(1.0, spec.entries / weight)
            ways = [(pc, min(spec.entries, int(blocks[pc].spec.entries * share) or spec.entries)) for pc in targets]
        for pc, times in ways:
            if pc in inside:
                inside[pc] += times
    return sum(max(0, blocks[pc].spec.entries - inside[pc]) for pc in entries if pc in blocks)


def _flatten(region: Region, into: list[Value]) -> list[Value]:
    for value in region.ops:
        into.append(value)
        if value.op == "if":
            _flatten(value.attrs["then"], into)
            _flatten(value.attrs["else"], into)
        elif value.op == "loop":
            _flatten(value.attrs["body"], into)
    return into


def stage_block(isa: Isa, spec: RegionBlock, *, flushing: bool = False) -> Block:
    """The bodies of a block's instructions, up to the first that the interpreter has to do. Raises EngineError where that is no
    block: profiles are files, which say what they like. `flushing`: the region relies on flags that are set."""
    left_out = _LEFT_OUT | {"fp_setflags"} if flushing else _LEFT_OUT
    steps: list[Step] = []
    before: Builder | None = None
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
        if before is not None:
            b.follow(before)
        before = b
        decoded.insn.body(b, **{o.name: b.const(o.type, decoded.operands[o.name]) for o in decoded.insn.operands})
        flat = _flatten(b.body, [])
        fits = not any(v.op in left_out for v in flat) and _restartable(flat)
        steps.append(Step(at, end, index, b.body if fits else None, flat))
        if not fits:
            break
        if index < spec.n - 1 and any(v.op in _ENDS for v in flat):
            raise EngineError(f"the block at {spec.pc:#x} ends before it should")
        at = end
    else:
        if at != spec.end:
            raise EngineError(f"the block at {spec.pc:#x} does not end where it should")
    return Block(spec, steps)


def _restartable(flat: list[Value]) -> bool:
    """True if the instruction can be left to the interpreter from its start at each of its accesses: none comes after an
    effect, but stores may come after stores, which are then done once more."""
    changed = stored = False
    for value in flat:
        if value.op in _ACCESSES and (changed or (stored and value.op not in _REPEATED)):
            return False
        changed = changed or value.op in _EFFECTS
        stored = stored or value.op == "store"
    return True
