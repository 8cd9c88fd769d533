"""Blocks that a coverage map has already: code of the full kind that is made for them need not note them again.

That holds as long as nobody clears their bits, which whoever has the map may do at any time. So before a core runs, and at its
ticks, the map is compared with what compiled code takes to be set. When something is missing, all regions are dropped, and those
made from then on test each bit whenever they execute the block.
"""

from __future__ import annotations

from polyvm.engine.layout import coverage_hash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.engine.core import Core
    from polyvm.engine.region import RegionSpec


class Noted:
    """What the regions of one JIT take to be set in the coverage map; that of a second core would be another map."""

    __slots__ = ("_bits", "_core", "_trusting")

    def __init__(self) -> None:
        self._bits = 0
        self._core: Core | None = None
        self._trusting = True

    def joined(self, core: Core) -> bool:
        """`core` uses the regions; True if what was compiled is not for all who do."""
        if self._core is None or self._core is core:
            self._core = core
            return False
        self._trusting = False
        return bool(self._bits)

    def of(self, core: Core, spec: RegionSpec) -> RegionSpec:
        """The region without tests for what the map of `core` has."""
        if not self._trusting or not spec.coverage:
            return spec
        map_ = int.from_bytes(core.coverage_map, "little")
        bits = {block.pc: 1 << (coverage_hash(block.pc) & spec.coverage - 1) for block in spec.blocks}
        found = [pc for pc, bit in bits.items() if map_ & bit]
        for pc in found:
            self._bits |= bits[pc]
        return spec._replace(noted=found)

    def holds(self, core: Core) -> bool:
        """Does the map of `core` have it all? If not, nothing is taken to be set from now on."""
        if not self._bits or int.from_bytes(core.coverage_map, "little") & self._bits == self._bits:
            return True
        self._trusting = False
        return False

    def forget(self) -> None:
        """The regions are gone."""
        self._bits = 0
