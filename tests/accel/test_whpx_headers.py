"""The Windows Hypervisor Platform's bindings against mingw-w64's headers, which are compiled, not run."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

from polyvm.accel.ffi import whpx
from tests.accel.headers import differences

COMPILER = ["x86_64-w64-mingw32-gcc", "-D_WIN32_WINNT=0x0A00"]
HEADER = Path("/usr/share/mingw-w64/include/winhvplatform.h")
INCLUDES = "#include <windows.h>\n#include <winhvplatform.h>\n#include <winhvemulation.h>"
BIT_FIELDS = {"Length", "Kind", "Flags", "u"}


def test_constants_and_layouts_are_the_headers() -> None:
    """Every constant has the header's value; every structure its size, and each field its place."""
    structures = {structure.__name__: structure for structure in whpx.STRUCTURES}
    assert differences(COMPILER, INCLUDES, whpx.CONSTANTS, structures, BIT_FIELDS) == []


def test_functions_have_the_headers_parameters() -> None:
    """Each function that is declared stands in the header with as many parameters, of the same sizes."""
    text = HEADER.read_text() + HEADER.with_name("winhvemulation.h").read_text()
    for name, parameters in {**whpx.FUNCTIONS, **whpx.EMULATOR_FUNCTIONS}.items():
        found = re.search(rf"HRESULT WINAPI {name}\(([^)]*)\);", text)
        assert found is not None, name
        declared = [p.strip() for p in found[1].split(",")]
        assert len(declared) == len(parameters), name
        for parameter, type_ in zip(declared, parameters, strict=True):
            size = 8 if "*" in parameter or re.match(r"(WHV_\w*(HANDLE|ADDRESS)|UINT64|HANDLE)\b", parameter) else 4
            assert ctypes.sizeof(type_) == size, f"{name}: {parameter}"
