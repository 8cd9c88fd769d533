"""The conformance suite's subjects, and the list of what was skipped."""

from __future__ import annotations

import pytest

from tests.accel.subjects import SUBJECTS, Subject


@pytest.fixture(params=list(SUBJECTS))
def subject(request: pytest.FixtureRequest):
    """Each accelerator in turn."""
    found: Subject = SUBJECTS[request.param]()
    if not found.scripted:
        availability = found.make([]).probe()
        if not availability.present:
            pytest.skip(f"{found.name}: {availability.reason}")
    yield found
    found.close()
