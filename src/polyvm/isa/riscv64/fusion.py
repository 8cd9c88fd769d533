"""Pairs of instructions that get a handler of their own, because compilers emit them one after the other."""

from __future__ import annotations

_FIRST = "addi addiw add sub lui auipc slli srli srai andi and or xor ld lw lwu lbu lb lhu sd sw sb sh mul mulw addw slliw sub"
_SECOND = (
    "addi addiw add sub slli srli srai andi and or xor ld lw lwu lbu lhu sd sw sb sh mul mulw addw slliw "
    "beq bne blt bge bltu bgeu jal jalr"
)

PAIRS: list[tuple[str, str]] = [(a, b) for a in dict.fromkeys(_FIRST.split()) for b in _SECOND.split()]
