"""Scalar floating point and BFloat16 against qemu-aarch64: special operands, all modes of FPCR, the flags of FPSR."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from polyvm.ir.softfloat import FORMATS
from polyvm.isa import get
from tests.ir.floats import specials

SEED = int(os.environ.get("POLYVM_SEED", "0")) or random.SystemRandom().getrandbits(32)
STATES = int(os.environ.get("POLYVM_STATES", "8"))  # for each instruction
MODULES = frozenset({"polyvm.isa.aarch64.a64_float", "polyvm.isa.aarch64.a64_convert", "polyvm.isa.aarch64.a64_simd_bf16"})
REGISTERS = (("rd", 0, 0), ("rn", 5, 1), ("rm", 16, 2), ("ra", 10, 3), ("vd", 0, 0), ("vn", 5, 1),
             ("vm", 16, 2))  # field, its place, the register
RESULT = struct.Struct("<QQQII")


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that executes instructions."""
    if shutil.which("aarch64-linux-gnu-gcc") is None or shutil.which("qemu-aarch64") is None:
        pytest.skip("needs aarch64-linux-gnu-gcc and qemu-aarch64")
    target = tmp_path_factory.mktemp("witness") / "witness"
    options = ["-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-mgeneral-regs-only"]
    subprocess.run(["aarch64-linux-gnu-gcc", *options, "-o", target, Path(__file__).with_name("witness.c")], check=True)
    return target


def _width(name: str) -> int:
    if name.startswith("bf"):
        return 32
    letters = [part for part in name.split("_")[1:] if part in ("h", "s", "d")]
    return {"h": 16, "s": 32}.get(letters[-1] if letters else "d", 64)


def _number(bits: int, rng: random.Random) -> int:
    f, kind = FORMATS[bits], rng.random()
    sign = rng.choice([0, f.sign])
    if kind < 0.45:
        return rng.choice(specials(f))
    if kind < 0.6:  # products and quotients of these are near the smallest normal number
        exponent = rng.choice([f.exponents // 4, f.exponents // 4 * 3, f.exponents // 2, 1, 2]) + rng.randrange(-2, 3)
        return max(exponent, 0) << f.mantissa | rng.choice([0, 1, 2, (1 << f.mantissa) - 1, (1 << f.mantissa) - 2]) | sign
    if kind < 0.8:  # near the limits of integers
        exponent = f.bias + rng.randrange(-3, 70 if bits > 16 else 15)
        return exponent << f.mantissa | rng.getrandbits(f.mantissa) | sign
    return rng.getrandbits(bits)


def _integer(rng: random.Random) -> int:
    size = rng.getrandbits(64) >> rng.randrange(64)
    return rng.choice([size, -size, (1 << rng.randrange(64)) + rng.randrange(-2, 3)]) & (1 << 64) - 1


def _state(bits: int, rng: random.Random, *, flushes: bool) -> bytes:
    fpcr = rng.getrandbits(2) << 22 | (rng.random() < 0.3) << 25 | (rng.random() < 0.1) << 26
    if flushes:
        fpcr |= (rng.random() < 0.2) << 24 | (rng.random() < 0.1) << 19
    lows = [_number(bits, rng) | (rng.getrandbits(64) << bits & (1 << 64) - 1) for _ in range(4)]
    vectors = [half for low in lows for half in (low, rng.getrandbits(64))]
    return struct.pack("<IIQ10Q", fpcr, rng.getrandbits(4) << 28, 0, *vectors, _integer(rng), _integer(rng))


def _groups(rng: random.Random) -> list[tuple[str, int, list[bytes]]]:
    isa = get("aarch64")
    groups: list[tuple[str, int, list[bytes]]] = []
    for encoding in isa.encodings:
        if encoding.insn.body.__module__ not in MODULES or encoding.name.startswith(("mrs", "msr")):
            continue
        while True:
            word = encoding.value | rng.getrandbits(32) & ~encoding.mask
            for field, place, register in REGISTERS:
                if field in encoding.pattern.fields:
                    word = word & ~encoding.pattern.fields[field].mask | register << place
            decoded = isa.decode(word)
            if decoded is not None and decoded.encoding is encoding:
                break
        # qemu 7.2 takes a subnormal number that is flushed for a zero that was converted exactly.
        flushes = encoding.name != "fjcvtzs"
        states = [_state(_width(encoding.name), rng, flushes=flushes) for _ in range(STATES)]
        groups.append((encoding.name, word, states))
    return groups


@pytest.mark.parametrize("jit", ["off", "stencil:0", "quick:0", "full:0"])
def test_results_and_flags_are_those_of_qemu(witness: Path, jit: str, tmp_path: Path) -> None:
    """Every scalar floating-point instruction, on random and special operands, in the modes that FPCR has."""
    rng = random.Random(f"{SEED}/{jit}")
    groups = _groups(rng)
    if jit != "off":
        groups = rng.sample(groups, 10)
    data = b"".join(struct.pack("<II", word, len(states)) + b"".join(states) for _, word, states in groups)
    environment = {**os.environ, "POLYVM_CACHE": str(tmp_path / "cache")} if jit != "off" else None
    commands = (["qemu-aarch64", "-cpu", "max", witness], [sys.executable, "-m", "polyvm", "run", "--jit", jit, witness])
    expected, got = (
        subprocess.run(command, input=data, capture_output=True, check=True, env=environment).stdout for command in commands
    )
    assert len(expected) == len(got) == RESULT.size * sum(len(states) for _, _, states in groups)
    at = 0
    for name, word, states in groups:
        for state in states:
            theirs, ours = (RESULT.unpack_from(answers, at) for answers in (expected, got))
            assert ours == theirs, f"POLYVM_SEED={SEED} {name} {get('aarch64').disassemble(word)} {state.hex()}"
            at += RESULT.size
