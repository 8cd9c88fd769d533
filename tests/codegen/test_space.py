"""Compiled code close together, in pages that are executable already."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

import pytest

from polyvm.codegen.native import compile_object
from polyvm.codegen.objects import LINE, LoadedObject, link
from polyvm.codegen.space import CodeSpace
from polyvm.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

# Code, read-only data and a counter, each of which refers to another.
TEXT = """
@counter = hidden global i64 {start}
@table = internal constant [2 x ptr] [ptr @one, ptr @two]
define internal i64 @one() {{ ret i64 1 }}
define internal i64 @two() {{ ret i64 2 }}
define i64 @count(i64 %i) {{
  %a = load i64, ptr @counter
  %p = getelementptr [2 x ptr], ptr @table, i64 0, i64 %i
  %f = load ptr, ptr %p
  %r = call i64 %f()
  %b = add i64 %a, %r
  store i64 %b, ptr @counter
  ret i64 %b
}}
"""


def _image(start: int) -> bytes:
    return link(compile_object(TEXT.format(start=start)), closely=True)


def _count(loaded: LoadedObject) -> Callable[[int], int]:
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(loaded.address("count"))


def _protections() -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    with open("/proc/self/maps", encoding="ascii") as maps:
        for line in maps:
            bounds, flags = line.split()[:2]
            start, end = (int(part, 16) for part in bounds.split("-"))
            found.append((start, end, flags))
    return found


def _of(address: int) -> str:
    return next(flags for start, end, flags in _protections() if start <= address < end)


def _refused(_at: int, _code: bytes) -> bool:
    return False


@pytest.mark.parametrize("closely", [True, False])
def test_each_copy_has_its_own_data(*, closely: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the kernel does not let the process write to pages that are executable."""
    if not closely:
        monkeypatch.setattr(CodeSpace, "_write", staticmethod(_refused))
    space, images = CodeSpace(), [_image(100), _image(200)]
    loaded = [LoadedObject(images[i % 2], space) for i in range(40)]
    for i, one in enumerate(loaded):
        assert [_count(one)(j) for j in (0, 1, 1)] == [100 * (1 + i % 2) + n for n in (1, 3, 5)]
        assert ctypes.c_int64.from_address(one.symbols["counter"]).value == 100 * (1 + i % 2) + 5
        assert _of(one.address("count")).startswith("r-x")
        assert _of(one.address("counter")).startswith("rw-")
    starts = [one.start for one in loaded]
    assert all(start % LINE == 0 for start in starts)
    assert (starts[-1] - starts[0] < len(starts) * (loaded[0].end - loaded[0].start + LINE)) is closely
    ours = range(space.start, 2 * space.end - space.start)
    assert not [flags for start, _, flags in _protections() if "wx" in flags and start in ours]


def test_a_forked_process_does_not_write_to_its_parent() -> None:
    space = CodeSpace()
    first = LoadedObject(_image(0), space)
    child = os.fork()
    if child == 0:
        other = LoadedObject(_image(1000), space)
        os._exit(_count(other)(0) - 1000 if _count(first)(0) == 1 else 99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    second = LoadedObject(_image(2000), space)
    assert (_count(first)(1), _count(second)(1)) == (2, 2002)


def test_a_full_space_is_an_engine_error() -> None:
    space = CodeSpace()
    room = space.end - space.start
    at, _ = space.take(room // 2, 16)
    assert space.start < at < space.end
    with pytest.raises(EngineError, match="used up"):
        space.take(room // 2, 16)
    with pytest.raises(EngineError, match="used up"):
        space.take(16, room)


def test_an_address_of_writable_data_is_refused() -> None:
    """Its distance from the code is not known before."""
    text = "@counter = hidden global i64 0\n@place = constant ptr @counter\ndefine ptr @f() {\n %p = load ptr, ptr @place\n ret ptr %p\n}"
    with pytest.raises(EngineError, match="address of writable data"):
        link(compile_object(text, 0), closely=True)
