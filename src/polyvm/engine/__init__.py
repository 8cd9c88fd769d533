"""Staging, decoding, dispatch: guest code run by native code."""

from __future__ import annotations

from polyvm.engine.core import Core, JitSource, coverage_bit
from polyvm.engine.dump import dump
from polyvm.engine.statistics import Statistics

__all__ = ["Core", "JitSource", "Statistics", "coverage_bit", "dump"]
