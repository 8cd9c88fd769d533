"""`StateLayout`: where the registers of a guest lie in memory."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.ir.types import Type


class StateSlot:
    """A register file: `count` registers of `type`, the first at byte `offset`, the next each `stride` bytes on."""

    __slots__ = ("count", "name", "offset", "stride", "type")

    def __init__(self, name: str, type_: Type, count: int, offset: int) -> None:
        self.name = name
        self.type = type_
        self.count = count
        self.offset = offset
        self.stride = max(1, type_.total_bits // 8)


class StateLayout:
    """The register files of one guest in their order in memory, each naturally aligned.

    >>> from polyvm.ir.types import I64
    >>> layout = StateLayout("toy", [("x", I64, 33), ("pc", I64, 1)])
    >>> layout["pc"].offset, layout.size
    (264, 272)
    """

    __slots__ = ("name", "size", "slots")

    def __init__(self, name: str, files: list[tuple[str, Type, int]]) -> None:
        self.name = name
        self.slots: dict[str, StateSlot] = {}
        offset = 0
        for file, type_, count in files:
            align = max(1, min(64, type_.total_bits // 8))
            offset = -(-offset // align) * align
            slot = StateSlot(file, type_, count, offset)
            self.slots[file] = slot
            offset += slot.stride * count
        self.size = offset

    def __getitem__(self, name: str) -> StateSlot:
        return self.slots[name]
