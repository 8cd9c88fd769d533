"""polyvm against qemu on random instruction streams."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from polyvm.engine.interpreter import load
from tests.differential import aarch64, streams
from tests.differential.runner import run

if TYPE_CHECKING:
    from pathlib import Path

# What qemu 7.2 has, in groups so that rare instructions get their share.
GROUPS = {
    "integer": frozenset({"I", "M", "A", "C", "Zba", "Zbb", "Zbc", "Zbs"}),
    "float": frozenset({"F", "D", "Zicsr"}),
    "half": frozenset({"Zfh", "F", "D"}),
    "all": frozenset({"I", "M", "A", "C", "Zba", "Zbb", "Zbc", "Zbs", "F", "D", "Zfh", "Zicsr"}),
}
STREAMS, LENGTH = 500, 50
# The same streams each time, unless other ones are asked for.
SEED = int(os.environ.get("POLYVM_SEED", "2"))
# Times a group is run: 10^6 instructions in all.
ROUNDS = int(os.environ.get("POLYVM_ROUNDS", "10"))


# Streams that are compiled, each in its first execution.
COMPILED_STREAMS = int(os.environ.get("POLYVM_COMPILED", "25"))


CASES = [("riscv64", group) for group in GROUPS] + [("aarch64", group) for group in aarch64.GROUPS]
BROAD = ("integer", "float", "half", "all")  # groups of many modules; the others take fewer turns
TURNS = [(guest, group, turn) for guest, group in CASES for turn in range(ROUNDS if group in BROAD else ROUNDS // 4 or 1)]
COMPILED = [(jit, *case) for jit in ("stencil:0", "quick:0") for case in CASES] + [("full:0", *case) for case in CASES if case[1] in BROAD]


@pytest.mark.parametrize(("guest", "group", "turn"), TURNS)
def test_every_register_agrees_with_qemu(guest: str, group: str, turn: int, tmp_path: Path) -> None:
    compare(guest, group, f"{SEED}/{group}/{turn}", STREAMS, tmp_path, "off")


@pytest.mark.parametrize(("jit", "guest", "group"), COMPILED)
def test_compiled_code_agrees_with_qemu(
    guest: str, group: str, jit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(guest)
    monkeypatch.setenv("POLYVM_CACHE", str(tmp_path / "cache"))  # random code is not worth keeping
    number = STREAMS if jit == "stencil:0" else COMPILED_STREAMS
    compare(guest, group, f"{SEED}/{group}/{jit}", number, tmp_path, jit)


def compare(guest: str, group: str, seed: str, number: int, tmp_path: Path, jit: str) -> None:
    """Run `number` streams under polyvm and qemu."""
    print(f"POLYVM_SEED={SEED}")
    rng = random.Random(seed)
    path = tmp_path / "streams"
    if guest == "riscv64":
        made = streams.StreamMaker(GROUPS[group], rng)
        code = [made.stream(LENGTH) for _ in range(number)]
        program, names, qemu = streams.build(path, code, rng), streams.NAMES, streams.QEMU
    else:
        maker = aarch64.StreamMaker(aarch64.GROUPS[group], rng)
        code = [maker.stream(LENGTH) for _ in range(number)]
        program, names, qemu = aarch64.build(path, code, rng, maker.floating), aarch64.NAMES, aarch64.QEMU
    expected = subprocess.run([*qemu, str(program)], capture_output=True, check=True).stdout
    found, count = run(program, jit, guest)
    assert count >= number * LENGTH
    words = len(names)
    for i, stream in enumerate(code):
        want = struct.unpack_from(f"<{words}Q", expected, i * words * 8)
        have = struct.unpack_from(f"<{words}Q", found, i * words * 8)
        wrong = [f"{n}: {h:#x}, qemu {w:#x}" for n, h, w in zip(names, have, want, strict=True) if h != w]
        assert not wrong, f"stream {i} of seed {seed}: {'; '.join(wrong)}\n{_listing(guest, stream)}"
    assert found == expected


def _listing(guest: str, stream: bytes) -> str:
    from polyvm.isa import get

    isa, lines, at = get(guest), [], 0
    while at < len(stream):
        length = isa.length(int.from_bytes(stream[at : at + 2], "little"))
        lines.append(isa.disassemble(int.from_bytes(stream[at : at + length], "little"), at))
        at += length
    return "\n".join(lines)
