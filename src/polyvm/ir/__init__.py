"""The intermediate representation: typed, SSA, structured, closed."""

from __future__ import annotations

from polyvm.ir.builder import Builder, Local
from polyvm.ir.ops import OPS
from polyvm.ir.state import StateLayout, StateSlot
from polyvm.ir.types import F16, F32, F64, I1, I8, I16, I32, I64, I128, Type, int_type, parse_type
from polyvm.ir.value import Region, Value

__all__ = [
    "F16", "F32", "F64", "I1", "I8", "I16", "I32", "I64", "I128", "OPS",
    "Builder", "Local", "Region", "StateLayout", "StateSlot", "Type", "Value", "int_type", "parse_type",
]  # fmt: skip
