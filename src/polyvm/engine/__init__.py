"""Staging, decoding, dispatch: guest code run by native code."""

from __future__ import annotations

from polyvm.engine.core import Core, JitSource, coverage_bit
from polyvm.engine.dump import dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.engine.statistics import Statistics

__all__ = ["Core", "JitSource", "Statistics", "coverage_bit", "dump"]


def __getattr__(name: str) -> object:
    if name != "Statistics":
        raise AttributeError(f"module 'polyvm.engine' has no attribute {name!r}")
    from polyvm.engine import statistics

    return statistics.Statistics
