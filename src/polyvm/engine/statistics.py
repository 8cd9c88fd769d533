"""What a core has done, as an immutable record."""

from __future__ import annotations

from typing import Any, NamedTuple


class Statistics(NamedTuple):
    """Counters of one core, or of several added up.

    `instructions`   guest instructions executed
    `blocks`         blocks decoded, `decoded` instructions in them
    `invalidations`  times that decoded code was dropped
    `links`          jumps between blocks that were chained
    `lookups`        jumps that had to search for their block
    `jump_hits`      jumps through registers, and out of compiled code, that found their block in the jump cache
    `inline`         jumps through registers in quick code: all, and those that left their region
    `exits`          returns to Python by reason
    `interpreted`    instructions of those above that the interpreter executed, at most; the others were compiled
    `regions`        regions of compiled code that came into use, `cached` of them from disk
    `failed`         regions that could not be compiled
    `compile_seconds`  from requests to answers, added up
    `quick`, `full`  instructions in compiled code of the two kinds: those not interpreted, divided as ticks found the guest
    `seconds`        processor time by tier (interpreted, quick, full), up to the last tick
    `quick_regions`, `full_regions`  of `regions`, those of the two kinds
    `quick_compile`, `full_compile`  of `compile_seconds`, for the two kinds
    `requests`       regions that the compiler was asked for
    `queue`, `queue_most`  hot blocks and requests that wait: when the JIT looked last, and at most
    `pages`, `page_hits`  pages of code that the disk was asked about, and those for which it had regions
    `attached`       times that a block was found in the translation table
    `code`           bytes of compiled code and of what it writes, `cleared` times that all was dropped because they were too many
    `resumes`        times that compiled code left an instruction to the interpreter
    """

    instructions: int = 0
    blocks: int = 0
    decoded: int = 0
    invalidations: int = 0
    links: int = 0
    lookups: int = 0
    jump_hits: int = 0
    inline: tuple[int, int] = (0, 0)
    exits: dict[str, int] = {}
    interpreted: int = 0
    regions: int = 0
    cached: int = 0
    failed: int = 0
    compile_seconds: float = 0.0
    quick: int = 0
    full: int = 0
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    quick_regions: int = 0
    full_regions: int = 0
    quick_compile: float = 0.0
    full_compile: float = 0.0
    requests: int = 0
    queue: int = 0
    queue_most: int = 0
    pages: int = 0
    page_hits: int = 0
    attached: int = 0
    resumes: int = 0
    code: int = 0
    cleared: int = 0

    def __add__(self, other: object) -> Statistics:
        if not isinstance(other, Statistics):
            return NotImplemented
        return Statistics(*map(_sum, self, other))


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
    if isinstance(one, tuple):
        return tuple(map(_sum, one, other))
    return one + other
