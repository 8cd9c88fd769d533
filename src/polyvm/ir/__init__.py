"""The intermediate representation: typed, SSA, structured, closed.

Layouts and types are enough to run what is compiled already; the rest is imported at its first use.
"""

from __future__ import annotations

from polyvm.ir.state import StateLayout, StateSlot
from polyvm.ir.types import F16, F32, F64, I1, I8, I16, I32, I64, I128, Type, int_type, parse_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.ir.builder import Builder, Local
    from polyvm.ir.ops import OPS
    from polyvm.ir.value import Region, Value

__all__ = [
    "F16", "F32", "F64", "I1", "I8", "I16", "I32", "I64", "I128", "OPS",
    "Builder", "Local", "Region", "StateLayout", "StateSlot", "Type", "Value", "int_type", "parse_type",
]  # fmt: skip

_HOMES = {
    "Builder": "builder", "Local": "builder", "OPS": "ops", "Region": "value", "Value": "value",
}  # fmt: skip


def __getattr__(name: str) -> object:
    from importlib import import_module

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'polyvm.ir' has no attribute {name!r}")
    value: object = getattr(import_module(f"polyvm.ir.{home}"), name)
    globals()[name] = value
    return value
