"""The address spaces of a machine: which device answers at an address.

A `Bus` holds ranges that do not overlap, of memory-mapped registers or of ports. Reads of addresses that nobody has give all
ones, writes to them go nowhere, as on a PC; how many there were is counted.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Protocol

from polyvm.errors import UsageError


class Registers(Protocol):
    """What a device offers at one range: `offset` counts from the range's start, `size` is 1, 2, 4 or 8 bytes.

    Both may be called from any vCPU's thread. Whatever the guest writes, they raise nothing.
    """

    def read(self, offset: int, size: int) -> int:
        """What the guest reads, an unsigned number of `size` bytes; more bits are cut off."""
        ...

    def write(self, offset: int, size: int, value: int) -> None:
        """Take what the guest writes."""
        ...


class Line(Protocol):
    """What a device needs of an interrupt line (`polyvm.vcpu.contract.IrqLine`); may be used from any thread."""

    def set_level(self, high: bool) -> None:
        """Drive the line."""
        ...


class Wire:
    """A line that only remembers its level and how often it rose: what is not connected, and tests."""

    __slots__ = ("level", "rises")

    def __init__(self) -> None:
        self.level = False
        self.rises = 0

    def set_level(self, high: bool) -> None:
        """Drive the line."""
        if high and not self.level:
            self.rises += 1
        self.level = high


class Range:
    """`size` addresses from `start` on that `device` answers for; `name` is for messages and listings."""

    __slots__ = ("device", "end", "name", "size", "start")

    def __init__(self, start: int, size: int, device: Registers, name: str) -> None:
        self.start = start
        self.size = size
        self.end = start + size
        self.device = device
        self.name = name


class Bus:
    """One address space of `1 << bits` addresses."""

    def __init__(self, name: str, bits: int = 64) -> None:
        self.name = name
        self.bits = bits
        self.unclaimed = 0
        self._starts: list[int] = []
        self._ranges: list[Range] = []

    def add(self, start: int, size: int, device: Registers, name: str) -> Range:
        """Let `device` answer for `size` addresses from `start` on. Raises UsageError where another one has some of them."""
        if size <= 0 or start < 0 or start + size > 1 << self.bits:
            raise UsageError(f"{name}: {size:#x} addresses at {start:#x} do not fit into the {self.name} bus of {self.bits} bits")
        at = bisect_right(self._starts, start)
        for other in self._ranges[max(at - 1, 0) : at + 1]:
            if start < other.end and other.start < start + size:
                raise UsageError(
                    f"{name} at {start:#x}..{start + size - 1:#x} of the {self.name} bus overlaps {other.name} at "
                    f"{other.start:#x}..{other.end - 1:#x}"
                )
        added = Range(start, size, device, name)
        self._starts.insert(at, start)
        self._ranges.insert(at, added)
        return added

    def remove(self, entry: Range) -> None:
        """Take a range away again."""
        at = self._ranges.index(entry)
        del self._starts[at], self._ranges[at]

    def find(self, address: int) -> Range | None:
        """The range that `address` is in."""
        at = bisect_right(self._starts, address) - 1
        if at >= 0:
            found = self._ranges[at]
            if address < found.end:
                return found
        return None

    def read(self, address: int, size: int) -> int:
        """What a read of `size` bytes at `address` gives."""
        found = self.find(address)
        ones = (1 << 8 * size) - 1
        if found is None or address + size > found.end:
            self.unclaimed += 1
            return ones
        return found.device.read(address - found.start, size) & ones

    def write(self, address: int, size: int, value: int) -> None:
        """A write of `size` bytes at `address`."""
        found = self.find(address)
        if found is None or address + size > found.end:
            self.unclaimed += 1
            return
        found.device.write(address - found.start, size, value & ((1 << 8 * size) - 1))

    @property
    def ranges(self) -> tuple[Range, ...]:
        """All ranges, by address."""
        return tuple(self._ranges)
