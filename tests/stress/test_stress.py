"""A few seconds of `python -m tests.stress`."""

from __future__ import annotations

import os
import random

import pytest

from tests.stress import MODES, NAMES, Round, Stress

SEED = os.environ.get("POLYVM_SEED") or str(random.SystemRandom().getrandbits(32))


@pytest.fixture(scope="module")
def stress(tmp_path_factory: pytest.TempPathFactory) -> Stress:
    return Stress(tmp_path_factory.mktemp("stress"), SEED, scale=0.2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", MODES)
def test_a_program_says_what_it_says_under_qemu(stress: Stress, name: str, mode: str) -> None:
    rounds = "16" if mode.endswith(":0") else "60"
    assert not stress.once(Round(name, ["3", rounds, "2"], mode, "1024", 0.0))


def test_some_seconds_of_everything_at_once(stress: Stress) -> None:
    print(f"POLYVM_SEED={SEED}")
    stress.run(8, 2)
    assert not stress.failures, "\n".join(stress.failures)
    assert stress.rounds > 0
