"""Address spaces and their ranges."""

from __future__ import annotations

import pytest

from polyvm.devices import Bus
from polyvm.errors import UsageError


class Recorder:
    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def read(self, offset: int, size: int) -> int:
        self.seen.append((offset, size))
        return (1 << 70) - 1 - offset

    def write(self, offset: int, size: int, value: int) -> None:
        self.seen.append((offset, size, value))


def test_the_device_of_a_range_answers_with_offsets_from_its_start() -> None:
    """Reads and writes go to the range that has the address, cut to the access's size."""
    bus, first, second = Bus("MMIO"), Recorder(), Recorder()
    bus.add(0x1000, 0x100, first, "first")
    bus.add(0x1100, 8, second, "second")
    assert bus.read(0x1000, 1) == 0xFF
    assert bus.read(0x1104, 4) == 0xFFFFFFFB
    bus.write(0x10FF, 1, 0x1234)
    assert first.seen == [(0, 1), (0xFF, 1, 0x34)]
    assert second.seen == [(4, 4)]
    assert bus.unclaimed == 0


@pytest.mark.parametrize(("address", "size"), [(0xFFF, 1), (0x1100, 4), (0x10FF, 2), (0x10FE, 4), (0, 8)])
def test_what_nobody_has_reads_as_ones(address: int, size: int) -> None:
    """An access outside of all ranges, or over the end of one, reaches no device."""
    bus, device = Bus("MMIO"), Recorder()
    bus.add(0x1000, 0x100, device, "device")
    assert bus.read(address, size) == (1 << 8 * size) - 1
    bus.write(address, size, 0)
    assert (device.seen, bus.unclaimed) == ([], 2)


@pytest.mark.parametrize(("start", "size"), [(0x0FFF, 2), (0x1000, 1), (0x10FF, 1), (0x800, 0x1000), (0x1010, 0x10)])
def test_overlapping_ranges_are_refused(start: int, size: int) -> None:
    """The message names both devices."""
    bus = Bus("MMIO")
    bus.add(0x1000, 0x100, Recorder(), "uart")
    with pytest.raises(UsageError, match=r"clock at .* overlaps uart at 0x1000\.\.0x10ff"):
        bus.add(start, size, Recorder(), "clock")


@pytest.mark.parametrize(("start", "size"), [(0, 0), (-1, 4), (0xFFFF, 2)])
def test_ranges_outside_of_the_bus_are_refused(start: int, size: int) -> None:
    """A range must fit into the address space."""
    with pytest.raises(UsageError):
        Bus("port", 16).add(start, size, Recorder(), "device")
