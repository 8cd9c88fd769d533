"""polyvm against qemu-riscv64 on random instruction streams."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from polyvm.engine.interpreter import load
from tests.differential.runner import run
from tests.differential.streams import STATE_WORDS, StreamMaker, build

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
SEED = int(os.environ.get("POLYVM_SEED", "0")) or random.SystemRandom().getrandbits(32)
# Times a group is run: 10^6 instructions in all.
ROUNDS = int(os.environ.get("POLYVM_ROUNDS", "10"))


# Streams that are compiled, each in its first execution.
COMPILED_STREAMS = int(os.environ.get("POLYVM_COMPILED", "25"))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("turn", range(ROUNDS))
def test_every_register_agrees_with_qemu(group: str, turn: int, tmp_path: Path) -> None:
    compare(group, f"{SEED}/{group}/{turn}", STREAMS, tmp_path, "off")


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("jit", ["quick:0", "full:0"])
def test_compiled_code_agrees_with_qemu(group: str, jit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("riscv64")
    monkeypatch.setenv("POLYVM_CACHE", str(tmp_path / "cache"))  # random code is not worth keeping
    compare(group, f"{SEED}/{group}/{jit}", COMPILED_STREAMS, tmp_path, jit)


def compare(group: str, seed: str, number: int, tmp_path: Path, jit: str) -> None:
    """Run `number` streams under polyvm and qemu."""
    print(f"POLYVM_SEED={SEED}")
    rng = random.Random(seed)
    maker = StreamMaker(GROUPS[group], rng)
    streams = [maker.stream(LENGTH) for _ in range(number)]
    program = build(tmp_path / "streams", streams, rng)
    expected = subprocess.run(["qemu-riscv64", "-cpu", "rv64,Zfh=true", str(program)], capture_output=True, check=True).stdout
    found, count = run(program, jit)
    assert count >= number * LENGTH
    for i, stream in enumerate(streams):
        at = i * STATE_WORDS * 8
        want = struct.unpack_from(f"<{STATE_WORDS}Q", expected, at)
        have = struct.unpack_from(f"<{STATE_WORDS}Q", found, at)
        names = [f"x{n}" for n in range(32)] + [f"f{n}" for n in range(32)] + ["fcsr"]
        wrong = [f"{n}: {h:#x}, qemu {w:#x}" for n, h, w in zip(names, have, want, strict=True) if h != w]
        assert not wrong, f"stream {i} of seed {seed}: {'; '.join(wrong)}\n{_listing(stream)}"
    assert found == expected


def _listing(stream: bytes) -> str:
    from polyvm.isa import get

    isa, lines, at = get("riscv64"), [], 0
    while at < len(stream):
        length = isa.length(int.from_bytes(stream[at : at + 2], "little"))
        lines.append(isa.disassemble(int.from_bytes(stream[at : at + length], "little"), at))
        at += length
    return "\n".join(lines)
