"""Guarded arenas against what the kernel says of the process's mappings (/proc/self/maps, proc(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from polyvm.errors import MemoryFault
from polyvm.mem import CODE, EXEC, PAGE_SIZE, READ, WRITE, Arena, host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AT = 0x40000


def host_protection(arena: Arena, address: int) -> str:
    """The first three letters of the mapping that has the page; empty: there is none."""
    place = arena.base + address
    with open("/proc/self/maps", encoding="ascii") as maps:
        for line in maps:
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            if start <= place < end:
                return line.split()[1][:3]
    return ""


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena(guarded=True)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("prot", "host"),
    [(0, "---"), (READ, "r--"), (READ | WRITE, "rw-"), (READ | EXEC, "r--"), (READ | WRITE | EXEC, "rw-")],
)
def test_the_host_protects_a_page_as_the_guest_does(arena: Arena, prot: int, host: str) -> None:
    arena.map(AT, PAGE_SIZE, prot)
    assert host_protection(arena, AT) == host
    arena.protect(AT, PAGE_SIZE, READ | WRITE)
    assert host_protection(arena, AT) == "rw-"
    arena.protect(AT, PAGE_SIZE, prot)
    assert host_protection(arena, AT) == host
    arena.unmap(AT, PAGE_SIZE)
    assert host_protection(arena, AT) == "---"


def test_around_an_arena_nothing_can_be_accessed(arena: Arena) -> None:
    arena.map(arena.size - PAGE_SIZE, PAGE_SIZE, READ | WRITE)
    arena.map(0, PAGE_SIZE, READ | WRITE)
    for outside in (-1, -(1 << 15), arena.size, arena.size + (1 << 15)):
        assert host_protection(arena, outside) == "---"


def test_a_page_with_code_is_closed_until_it_is_written(arena: Arena) -> None:
    arena.map(AT, 2 * PAGE_SIZE, READ | WRITE | EXEC)
    arena.mark_code(AT + 8)
    assert (host_protection(arena, AT), host_protection(arena, AT + PAGE_SIZE)) == ("r--", "rw-")
    arena.write(AT, b"new code")
    assert host_protection(arena, AT) == "rw-"
    assert arena.read(AT, 8) == b"new code"


def test_polyvm_itself_reaches_what_the_guest_cannot(arena: Arena) -> None:
    arena.map(AT, PAGE_SIZE, 0)
    arena.poke(AT + 100, b"hidden")
    assert arena.peek(AT + 100, 6) == b"hidden"
    assert host_protection(arena, AT) == "---"
    with pytest.raises(MemoryFault):
        arena.read(AT + 100, 6)


def test_code_that_keeps_being_written_ends_the_closing_of_pages(arena: Arena) -> None:
    arena.map(AT, PAGE_SIZE, READ | WRITE | EXEC)
    for _ in range(1000):
        arena.mark_code(AT)
        arena.unmark_code(AT, 4)
    assert not arena.traps
    arena.mark_code(AT)
    assert host_protection(arena, AT) == "rw-"
    arena.protect(AT, PAGE_SIZE, READ)
    assert host_protection(arena, AT) == "r--"


def test_pages_that_were_opened_are_closed_again(arena: Arena) -> None:
    """What the signal handler makes accessible gets the guest's protection back, and code there is void."""
    from polyvm.mem.host import host_mprotect

    arena.map(AT, PAGE_SIZE, READ | WRITE | EXEC)
    arena.map(AT + PAGE_SIZE, PAGE_SIZE, READ)
    arena.mark_code(AT)
    host_mprotect(arena.base + AT, 3 * PAGE_SIZE, 3)
    arena.reguard(AT, AT + 3 * PAGE_SIZE)
    assert [host_protection(arena, AT + i * PAGE_SIZE) for i in range(3)] == ["rw-", "r--", "---"]
    assert not arena._table[AT >> 12] & CODE


@pytest.mark.parametrize("to", [AT, 0x90000])
def test_moved_memory_keeps_its_content_and_leaves_no_hole(arena: Arena, to: int) -> None:
    arena.map(AT, 2 * PAGE_SIZE, READ | WRITE)
    arena.write(AT, b"first")
    arena.write(AT + PAGE_SIZE, b"second")
    moved = arena.remap(AT, 2 * PAGE_SIZE, 4 * PAGE_SIZE, may_move=True, fixed=None if to == AT else to)
    assert moved == to
    assert (arena.read(to, 5), arena.read(to + PAGE_SIZE, 6), arena.read(to + 3 * PAGE_SIZE, 1)) == (b"first", b"second", b"\0")
    for address in range(AT - PAGE_SIZE, AT + 8 * PAGE_SIZE, PAGE_SIZE):
        assert host_protection(arena, address) == ("rw-" if to <= address < to + 4 * PAGE_SIZE else "---")


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_a_file_mapping_that_grows_or_moves_leaves_nothing_unmapped(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, shared: bool, move: bool
) -> None:
    content = bytes(page % 251 + 1 for page in range(6) for _ in range(PAGE_SIZE))
    (tmp_path / "file").write_bytes(content)
    with open(tmp_path / "file", "r+b") as file:
        arena.map(AT, 2 * PAGE_SIZE, READ | WRITE, fd=file.fileno(), offset=PAGE_SIZE, shared=shared, path=str(tmp_path / "file"))
    arena.write(AT + PAGE_SIZE + 8, b"changed")
    if move:
        arena.map(AT + 2 * PAGE_SIZE, PAGE_SIZE, READ)
    real, calls = host._mremap, [0]

    def watched(*arguments: object) -> object:
        result = real(*arguments)
        calls[0] += 1
        assert all(host_protection(arena, AT + page * PAGE_SIZE) for page in range(-1, 6))
        return result

    monkeypatch.setattr(host, "_mremap", watched)
    new = arena.remap(AT, 2 * PAGE_SIZE, 4 * PAGE_SIZE, may_move=True)
    assert (new != AT) == move
    assert calls[0]
    expected = bytearray(content[PAGE_SIZE : 5 * PAGE_SIZE])
    expected[PAGE_SIZE + 8 : PAGE_SIZE + 15] = b"changed"
    assert arena.read(new, 4 * PAGE_SIZE) == expected
    arena.write(new + 3 * PAGE_SIZE, b"end")
    assert ((tmp_path / "file").read_bytes()[4 * PAGE_SIZE :][:3] == b"end") == shared
