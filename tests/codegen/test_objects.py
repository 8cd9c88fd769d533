"""Compiled objects in memory."""

from __future__ import annotations

import ctypes
import struct

import pytest

from polyvm.codegen.native import compile_object
from polyvm.codegen.objects import LoadedObject, link
from polyvm.errors import EngineError

TEXT = """
@table = internal constant [2 x ptr] [ptr @one, ptr @two]
define i64 @one() { ret i64 1 }
define i64 @two() { ret i64 2 }
define i64 @pick(i64 %i) {
  %p = getelementptr [2 x ptr], ptr @table, i64 0, i64 %i
  %f = load ptr, ptr %p
  %r = call i64 %f()
  ret i64 %r
}
"""


def _protections(address: int) -> str:
    with open("/proc/self/maps", encoding="ascii") as maps:
        for line in maps:
            bounds, flags = line.split()[:2]
            start, end = (int(part, 16) for part in bounds.split("-"))
            if start <= address < end:
                return flags
    return ""


def test_code_runs_and_its_tables_point_to_it() -> None:
    loaded = LoadedObject(compile_object(TEXT))
    pick = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(loaded.symbols["pick"])
    assert (pick(0), pick(1)) == (1, 2)


def test_no_page_is_writable_and_executable() -> None:
    loaded = LoadedObject(compile_object(TEXT))
    assert _protections(loaded.symbols["pick"]).startswith("r-x")
    assert _protections(loaded.start + loaded.size - 1).startswith("r--")


def test_damaged_objects_are_refused() -> None:
    good = compile_object(TEXT)
    for bad in (b"", b"\x7fELF", good[:100], b"\0" * 200, good[: len(good) // 2]):
        with pytest.raises(EngineError):
            LoadedObject(bad)


def test_an_image_can_be_loaded_again_and_again() -> None:
    image = link(compile_object(TEXT))
    for loaded in (LoadedObject(image), LoadedObject(image)):
        pick = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(loaded.symbols["pick"])
        assert (pick(0), pick(1)) == (1, 2)
        assert loaded.start <= loaded.symbols["pick"] < loaded.end
        assert all(loaded.address(name) == place for name, place in loaded.symbols.items())


def test_damaged_images_are_refused() -> None:
    good = link(compile_object(TEXT))
    head = len(good) - len(good.partition(b"pick")[2])
    for at in range(8, 40, 4):  # the sizes and numbers of the head
        for wrong in (0, 1 << 16, 0xFFFFFFFF):
            bad = good[:at] + struct.pack("<I", wrong) + good[at + 4 :]
            if bad != good:
                with pytest.raises(EngineError):
                    LoadedObject(bad)
    for length in (8, 30, head, len(good) - 1):
        with pytest.raises(EngineError):
            LoadedObject(good[:length])


def test_a_missing_symbol_is_named() -> None:
    with pytest.raises(EngineError, match="missing_function"):
        LoadedObject(compile_object("declare i64 @missing_function()\ndefine i64 @f() {\n"
                                    " %r = call i64 @missing_function()\n ret i64 %r\n}"))  # fmt: skip


def test_bad_text_is_an_engine_error() -> None:
    with pytest.raises(EngineError, match="LLVM refuses"):
        compile_object("this is no LLVM")
