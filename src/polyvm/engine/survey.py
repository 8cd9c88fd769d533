"""A region from code that has not run: blocks found by following the code, without a profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.engine.blocks import stage_block
from polyvm.engine.layout import MAX_BLOCK
from polyvm.engine.region import FULL, RegionBlock, RegionSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.engine.blocks import Block
    from polyvm.isa import Isa

_MOST_BLOCKS, _MOST_INSTRUCTIONS = 64, 500


def survey(isa: Isa, read: Callable[[int, int], bytes], start: int) -> RegionSpec | None:
    """The region that begins at address `start`, without what it calls; `read` gives up to so many bytes of code at an
    address. None where there is no instruction."""
    found: dict[int, RegionBlock] = {}
    waiting = [start]
    room = _MOST_INSTRUCTIONS
    while waiting and len(found) < _MOST_BLOCKS:
        pc = waiting.pop(0)
        block = None if pc in found else _block(isa, read, pc)
        if block is None or block.spec.n > room:
            continue
        room -= block.spec.n
        found[pc] = block.spec
        last = block.last
        if last is None or last.op == "branch" or block.is_call:
            waiting.append(block.spec.end)
        if last is not None and last.op != "indirect" and not block.is_call:
            waiting.append(last.args[0 if last.op == "jump" else 1].bits)
    return RegionSpec(isa.name, FULL, 0, True, [], False, False, [start], list(found.values())) if found else None


def _block(isa: Isa, read: Callable[[int, int], bytes], pc: int) -> Block | None:
    """The block at `pc`, up to the first instruction that goes elsewhere."""
    code, n = b"", 0
    while n < MAX_BLOCK:
        at = pc + len(code)
        raw = read(at, 4)
        decoded = isa.decode(int.from_bytes(raw, "little")) if len(raw) >= 2 else None
        if decoded is None or decoded.length > len(raw):
            break
        raw = raw[: decoded.length]
        code, n = code + raw, n + 1
        alone = stage_block(isa, RegionBlock.uncounted(at, at + len(raw), 1, raw))
        if alone.last is not None or alone.steps[-1].body is None:
            break
    return stage_block(isa, RegionBlock.uncounted(pc, pc + len(code), n, code)) if n else None
