"""Exact arithmetic on bit patterns, against the host's and against fractions."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from polyvm.ir import softfloat as sf
from polyvm.ir.ops import RDN, RMM, RNE, RTZ, RUP
from polyvm.ir.softfloat import F32, F64, Format
from tests.ir.floats import floats

if TYPE_CHECKING:
    from collections.abc import Callable

HOST_MODES = (RNE, RTZ, RDN, RUP)
MODES = (*HOST_MODES, RMM)
many = settings(deadline=None, max_examples=1500)


# -- the host --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The host's arithmetic from a compiled C file."""
    if shutil.which("gcc") is None or platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("needs gcc and a host whose arithmetic is known")
    library = tmp_path_factory.mktemp("host_fp") / "host_fp.so"
    source = Path(__file__).with_name("host_fp.c")
    command = ["gcc", "-O1", "-frounding-math", "-ftrapping-math", "-fno-builtin", "-shared", "-fPIC", "-o"]
    subprocess.run([*command, str(library), str(source), "-lm"], check=True)
    loaded = ctypes.CDLL(str(library))
    for name in ("arithmetic_32", "arithmetic_64", "to_int_32", "to_int_64", "from_int_32", "from_int_64", "widen",
                 "narrow"):  # fmt: skip
        getattr(loaded, name).restype = ctypes.c_uint64
    return loaded


def ask(function: Callable[..., int], *args: int) -> tuple[int, int]:
    """The result and the flags of a function of the host's."""
    flags = ctypes.c_int(0)
    passed = [ctypes.c_int(a) if abs(a) < 100 and i < 2 else ctypes.c_uint64(a) for i, a in enumerate(args)]
    return function(*passed, ctypes.byref(flags)), flags.value


def canonical(f: Format, answer: tuple[int, int]) -> tuple[int, int]:
    """The host's answer with its NaNs made canonical: hosts keep payloads, the IR does not."""
    return (f.nan if f.is_nan(answer[0]) else answer[0]), answer[1]


@pytest.mark.parametrize("f", [F32, F64], ids=str)
@pytest.mark.parametrize("op", range(5), ids=["add", "sub", "mul", "div", "sqrt"])
def test_arithmetic_is_the_hosts(host: ctypes.CDLL, f: Format, op: int) -> None:
    """Results and flags are those of the host in its four rounding modes."""
    function = getattr(host, f"arithmetic_{f.bits}")

    @many
    @given(a=floats(f), b=floats(f))
    def check(a: int, b: int) -> None:
        for rm in HOST_MODES:
            ours = sf.sqrt(f, a, rm) if op == 4 else (sf.add, sf.sub, sf.mul, sf.div)[op](f, a, b, rm)
            assert ours == canonical(f, ask_arithmetic(function, op, rm, a, b, 0))

    check()


def ask_arithmetic(function: Callable[..., int], op: int, rm: int, a: int, b: int, c: int) -> tuple[int, int]:
    """One operation of the host's."""
    flags = ctypes.c_int(0)
    a64, b64, c64 = (ctypes.c_uint64(x) for x in (a, b, c))
    return function(op, rm, a64, b64, c64, ctypes.byref(flags)), flags.value
