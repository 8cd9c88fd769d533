"""The on-disk object cache."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from polyvm.codegen import cache


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYVM_CACHE", str(tmp_path / "cache"))


def test_an_entry_comes_back_as_it_was_stored() -> None:
    assert cache.store("a", b"payload" * 1000)
    assert cache.load("a") == b"payload" * 1000
    assert list(cache.entries()) == [("a", 7000 + 32)]


def test_a_missing_entry_is_none() -> None:
    assert cache.load("nothing") is None


@pytest.mark.parametrize("length", [0, 1, 15, 16, 31, 32, 33, 500])
def test_a_truncated_entry_is_ignored_and_can_be_rewritten(length: int) -> None:
    cache.store("a", bytes(range(256)) * 4)
    path = Path(cache.directory()) / "a"
    path.write_bytes(path.read_bytes()[:length])
    assert cache.load("a") is None
    cache.store("a", b"new")
    assert cache.load("a") == b"new"


@pytest.mark.parametrize("position", [0, 17, 40])
def test_a_changed_byte_is_noticed(position: int) -> None:
    cache.store("a", bytes(100))
    path = Path(cache.directory()) / "a"
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    assert cache.load("a") is None


def test_keys_depend_on_where_a_part_ends() -> None:
    assert cache.key("ab", "c") != cache.key("a", "bc")
    assert cache.key("a") == cache.key(b"a")


def _hammer(seed: int) -> int:
    bad = 0
    for i in range(200):
        cache.store("shared", bytes([seed]) * (1000 + i))
        found = cache.load("shared")
        if found is None or len(set(found)) != 1:
            bad += 1
    return bad


def test_concurrent_writers_never_show_a_torn_entry() -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_hammer, [1, 2, 3]) == [0, 0, 0]


def test_who_does_not_want_to_wait_learns_that_others_are_at_it() -> None:
    with cache.making("a") as first:
        assert not first.busy
        with cache.making("a", wait=False) as second:
            assert second.busy
        with cache.making("a", wait=False) as third:
            assert third.busy
        with cache.making("b", wait=False) as other:
            assert not other.busy
    with cache.making("a", wait=False) as again:
        assert not again.busy


def test_a_read_only_directory_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYVM_CACHE", "/proc/nowhere")
    assert cache.store("a", b"x") is False
    assert cache.load("a") is None
    assert list(cache.entries()) == []


def test_clear_removes_every_entry() -> None:
    cache.store("a", b"1")
    cache.store("b", b"2")
    assert cache.clear() == 2
    assert os.listdir(cache.directory()) == []


def test_trim_removes_what_was_not_used_for_longest() -> None:
    for i, name in enumerate("abcd"):
        cache.store(name, bytes(1000))
        os.utime(Path(cache.directory()) / name, (i, i))
    assert cache.load("a") is not None
    assert cache.trim(4200) == 0
    assert cache.trim(2200) == 2
    assert cache.names() == {"a", "d"}


def test_a_list_that_was_read_outlives_what_nobody_used() -> None:
    """What it names can be found by it only."""
    one = cache.key("one")
    cache.store(one, bytes(1000))
    cache.store("other", bytes(1000))
    cache.append("list", one)
    for name in cache.names():
        os.utime(Path(cache.directory()) / name, (1, 1))
    assert cache.lines("list") == [one]
    assert cache.load(one) is not None
    assert cache.trim(1500) == 1
    assert cache.names() == {"list", one}


def test_a_list_keeps_what_several_add_and_leaves_out_what_is_no_name() -> None:
    one, two = cache.key("one"), cache.key("two")
    cache.store("entry", b"")
    for line in (one, two, one, "../etc/passwd", "short"):
        cache.append("list", line)
    assert cache.lines("list") == [one, two]
    assert cache.lines("absent") == []


def test_the_budget_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYVM_CACHE_SIZE", "3")
    assert cache.budget() == 3 << 20
    monkeypatch.setenv("POLYVM_CACHE_SIZE", "much")
    assert cache.budget() == 1024 << 20
