"""Guest physical memory (`polyvm.mem.guest`)."""

from __future__ import annotations

import os

import pytest

from polyvm.errors import MemoryFault, UsageError
from polyvm.mem.guest import GuestMemory

MiB = 1 << 20


@pytest.fixture
def memory():
    with GuestMemory([(0, 0xA0000), (MiB, 8 * MiB), (0xFFFF_0000, 0x10000)], readonly=[0xFFFF_0000]) as found:
        yield found


def test_integers_are_little_endian(memory: GuestMemory) -> None:
    """What is written as an integer lies in memory little-endian, at any alignment."""
    memory.write_u64(0x1001, 0x1122334455667788)
    assert memory.read(0x1001, 8) == bytes.fromhex("8877665544332211")
    assert (memory.read_u8(0x1001), memory.read_u16(0x1001), memory.read_u32(0x1002)) == (0x88, 0x7788, 0x44556677)
    memory.write_u16(0x1001, 0x1_ABCD)
    assert memory.read_u16(0x1001) == 0xABCD


@pytest.mark.parametrize("address,size", [(0xA0000, 1), (0x9FFFF, 2), (MiB - 1, 2), (9 * MiB - 3, 4), (-1, 1), (1 << 64, 8), (0, 0xA0001)])
def test_nothing_outside_of_a_region_is_reached(memory: GuestMemory, address: int, size: int) -> None:
    """An access that leaves its region raises MemoryFault, however small the part outside is."""
    with pytest.raises(MemoryFault):
        memory.read(address, size)
    with pytest.raises(MemoryFault):
        memory.write(address, bytes(size))
    with pytest.raises(MemoryFault):
        memory.view(address, size)


def test_negative_sizes_are_refused(memory: GuestMemory) -> None:
    """A size below zero is no access."""
    with pytest.raises(MemoryFault):
        memory.read(0x2000, -1)
    with pytest.raises(MemoryFault):
        memory.read(MiB, -1)


def test_regions_are_apart(memory: GuestMemory) -> None:
    """Writing to one region leaves the others alone, and read-only ones can be written by polyvm."""
    memory.write(0x9FFFF, b"a")
    memory.write(MiB, b"b")
    memory.write(0xFFFF_0000, b"rom")
    assert (memory.read(0x9FFFF, 1), memory.read(MiB, 1), memory.read(0xFFFF_0000, 3)) == (b"a", b"b", b"rom")
    assert [region.readonly for region in memory.regions] == [False, False, True]


def test_dirty_pages_are_those_written_to(memory: GuestMemory) -> None:
    """`take_dirty` names each page written to since the last call once, wherever the write came from."""
    memory.track_dirty(True)
    assert memory.take_dirty() == []
    memory.write(0x1FFF, b"xy")
    memory.write_u32(MiB + 0x5000, 1)
    memory.merge_dirty(MiB, bytes([0b101]))
    memory.view(0x8000, 16).release()
    memory.view(0x9000, 16, write=False).release()
    memory.read(0, 0x1000)
    assert memory.take_dirty() == [0x1000, 0x2000, 0x8000, MiB, MiB + 0x2000, MiB + 0x5000]
    assert memory.take_dirty() == []


def test_overlapping_ranges_are_refused() -> None:
    """Two ranges that share a page are an error that names both."""
    with pytest.raises(UsageError, match="0x1000"):
        GuestMemory([(0, 0x2000), (0x1000, 0x1000)])
    with pytest.raises(UsageError, match="pages of 4096"):
        GuestMemory([(0, 0x1800)]).close()


def test_memory_outlives_close_while_it_is_used() -> None:
    """A pinned mapping stays until the last pin goes; descriptors go with it."""
    before = len(os.listdir("/proc/self/fd"))
    memory = GuestMemory([(0, MiB)])
    memory.pin()
    memory.close()
    memory.write_u8(0, 7)
    assert memory.read_u8(0) == 7
    memory.unpin()
    with pytest.raises(ValueError, match=r"closed|invalid"):
        memory.read_u8(0)
    assert len(os.listdir("/proc/self/fd")) == before
