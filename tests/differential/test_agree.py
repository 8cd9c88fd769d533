"""Every way to run does what the evaluator does; `python -m tests.differential.agree` does so for longer."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from polyvm.engine.interpreter import load
from polyvm.vcpu import exits
from tests.differential import agree
from tests.differential.agree import WAYS, Disagreement
from tests.differential.guests import MAKERS
from tests.differential.pieces import CODE, DATA_SIZE, Stream

if TYPE_CHECKING:
    from tests.differential.pieces import Maker

SEED = os.environ.get("POLYVM_SEED") or str(random.SystemRandom().getrandbits(32))
INSTRUCTIONS = int(os.environ.get("POLYVM_AGREE", "4000"))
GUESTS = ("riscv64", "aarch64")
RV = MAKERS["riscv64"]


@pytest.fixture(autouse=True)
def cache_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter from the usual cache; what `agree` sets is undone."""
    for guest in GUESTS:
        load(guest)
    monkeypatch.setenv("POLYVM_CACHE", os.environ.get("POLYVM_CACHE", ""))


@pytest.mark.parametrize("guest", GUESTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_way_to_run_agrees_with_the_evaluator(guest: str, way: str) -> None:
    print(f"POLYVM_SEED={SEED}")
    totals = agree.agree(guest, f"{SEED}/{way}", INSTRUCTIONS, (way,), starts=2)
    assert totals.executed >= INSTRUCTIONS
    assert (totals.regions[way] > 0) == (way != "off")


def test_a_disagreement_is_found_and_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    original = agree.by_evaluator

    def wrong(guest: type[Maker], stream: Stream, address: int) -> list[agree.State]:
        """An evaluator that takes `xor` for something else."""
        changed = 32 * (bytes.fromhex("33c4c400") in stream.code)
        return [s._replace(registers=s.registers | {"fcsr": changed}) for s in original(guest, stream, address)]

    monkeypatch.setattr(agree, "by_evaluator", wrong)
    code = bytes.fromhex("13050500 93850500 33c4c400 13060600 73000000")
    stream = Stream(code, {}, bytes(DATA_SIZE), 0)
    assert agree.alone(RV, stream, "off") == ["fcsr: 0x0, evaluator 0x20"]
    small = agree.reduced(RV, stream, "off")
    text = agree.described(RV, small, "off", agree.alone(RV, small, "off"))
    assert [line.split()[2] for line in text.splitlines() if line.startswith("  ")] == ["xor", "ecall"]
    assert f"{CODE + 8:#x}" in text and f"{CODE + 4:#x}" not in text


def test_a_stream_that_differs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    original = agree.by_evaluator

    def stopped(guest: type[Maker], stream: Stream, address: int, staged: agree.Staged | None = None) -> list[agree.State]:
        return [s._replace(end=(exits.STOPPED,)) for s in original(guest, stream, address, staged)]

    monkeypatch.setattr(agree, "by_evaluator", stopped)
    with pytest.raises(Disagreement, match="off"):
        agree.agree("riscv64", SEED, 100, ("off",))
