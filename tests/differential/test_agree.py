"""Every way to run does what the evaluator does; `python -m tests.differential.agree` does so for longer."""

from __future__ import annotations

import os
import random

import pytest

from polyvm.engine.interpreter import load
from polyvm.vcpu import exits
from tests.differential import agree
from tests.differential.agree import CODE, DATA_SIZE, WAYS, Disagreement, Stream

SEED = os.environ.get("POLYVM_SEED") or str(random.SystemRandom().getrandbits(32))
INSTRUCTIONS = int(os.environ.get("POLYVM_AGREE", "4000"))


@pytest.fixture(autouse=True)
def cache_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter from the usual cache; what `agree` sets is undone."""
    load("riscv64")
    monkeypatch.setenv("POLYVM_CACHE", os.environ.get("POLYVM_CACHE", ""))


@pytest.mark.parametrize("way", WAYS)
def test_a_way_to_run_agrees_with_the_evaluator(way: str) -> None:
    print(f"POLYVM_SEED={SEED}")
    totals = agree.agree(f"{SEED}/{way}", INSTRUCTIONS, (way,))
    assert totals.executed >= INSTRUCTIONS
    assert (totals.regions[way] > 0) == (way != "off")


def test_a_disagreement_is_found_and_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    original = agree.by_evaluator

    def wrong(stream: Stream, address: int) -> list[agree.State]:
        """An evaluator that takes `xor` for something else."""
        found = original(stream, address)
        return [state._replace(fcsr=state.fcsr ^ 32 * (bytes.fromhex("33c4c400") in stream.code)) for state in found]

    monkeypatch.setattr(agree, "by_evaluator", wrong)
    code = bytes.fromhex("13050500 93850500 33c4c400 13060600 73000000")
    stream = Stream(code, [0] * 32, [0] * 32, 0, bytes(DATA_SIZE), 0)
    assert agree.alone(stream, "off") == ["fcsr: 0x0, evaluator 0x20"]
    small = agree.reduced(stream, "off")
    text = agree.described(small, "off", agree.alone(small, "off"))
    assert [line.split()[2] for line in text.splitlines() if line.startswith("  ")] == ["xor", "ecall"]
    assert f"{CODE + 8:#x}" in text and f"{CODE + 4:#x}" not in text


def test_a_stream_that_differs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    original = agree.by_evaluator
    monkeypatch.setattr(
        agree, "by_evaluator", lambda stream, address: [s._replace(end=(exits.STOPPED,)) for s in original(stream, address)]
    )
    with pytest.raises(Disagreement, match="off"):
        agree.agree(SEED, 100, ("off",))
