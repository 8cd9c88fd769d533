"""Contracts between engines or accelerators and what drives them."""

from __future__ import annotations

from polyvm.vcpu import exits

__all__ = ["exits"]
