"""What a device says of itself for a device tree (Devicetree Specification 0.4, section 2.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

Value = tuple[str, ...] | tuple[int, ...] | None
"""A list of strings, 32-bit cells, or an empty property."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node `name` with its own properties; the board adds `reg` and `interrupts`, whose cells depend on where the device
    lies."""

    name: str
    properties: dict[str, Value] = field(default_factory=dict[str, Value])
