"""A few seconds of `python -m tests.stress`."""

from __future__ import annotations

import os
import random

import pytest

from tests.guests import GUESTS
from tests.stress import NAMES, Round, Stress

SEED = os.environ.get("POLYVM_SEED") or str(random.SystemRandom().getrandbits(32))


@pytest.fixture(scope="module", params=GUESTS, ids=str)
def stress(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stress:
    return Stress(tmp_path_factory.mktemp("stress"), SEED, guest=request.param, scale=0.2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["off", "stencil:0", "quick:0.001", "full:0.001"])
def test_a_program_says_what_it_says_under_qemu(stress: Stress, name: str, mode: str) -> None:
    assert not stress.once(Round(name, ["3", "60", "2"], mode, "1024", 0.0))


def test_some_seconds_of_everything_at_once(stress: Stress) -> None:
    print(f"POLYVM_SEED={SEED}")
    stress.run(8)
    assert not stress.failures, "\n".join(stress.failures)
    assert stress.rounds > 0
