"""What a core has done, as an immutable record."""

from __future__ import annotations

from typing import NamedTuple


class Statistics(NamedTuple):
    """Counters of one core, or of several added up.

    `instructions`   guest instructions executed
    `blocks`         blocks decoded, `decoded` instructions in them
    `invalidations`  times that decoded code was dropped
    `links`          jumps between blocks that were chained
    `lookups`        jumps that had to search for their block
    `exits`          returns to Python by reason
    `interpreted`    instructions of those above that the interpreter executed, at most; the others were compiled
    `regions`        regions of compiled code that came into use, `cached` of them from disk
    `failed`         regions that could not be compiled
    `compile_seconds`  from requests to answers, added up
    """

    instructions: int = 0
    blocks: int = 0
    decoded: int = 0
    invalidations: int = 0
    links: int = 0
    lookups: int = 0
    exits: dict[str, int] = {}
    interpreted: int = 0
    regions: int = 0
    cached: int = 0
    failed: int = 0
    compile_seconds: float = 0.0

    def __add__(self, other: object) -> Statistics:
        if not isinstance(other, Statistics):
            return NotImplemented
        reasons = dict(self.exits)
        for name, count in other.exits.items():
            reasons[name] = reasons.get(name, 0) + count
        return Statistics(
            self.instructions + other.instructions,
            self.blocks + other.blocks,
            self.decoded + other.decoded,
            self.invalidations + other.invalidations,
            self.links + other.links,
            self.lookups + other.lookups,
            reasons,
            self.interpreted + other.interpreted,
            self.regions + other.regions,
            self.cached + other.cached,
            self.failed + other.failed,
            self.compile_seconds + other.compile_seconds,
        )
