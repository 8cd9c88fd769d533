"""The x86-64 instructions that drivers reach devices with, for accelerators that bring the instruction and not the access.

Only moves: between a register and memory, of an immediate, with zero or sign extension (Intel SDM, volume 2, chapter 2; MOV,
MOVZX, MOVSX). The address is known from the exit; what is wanted here is the direction, the size, the register and the length.
"""

from __future__ import annotations

from dataclasses import dataclass

_PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0xF0, 0xF2, 0xF3))


@dataclass(frozen=True, slots=True)
class Move:
    """A move between a device and a register or an immediate.

    `register` is its number, -1 where `immediate` is written; `high` says AH, CH, DH or BH. A read is extended from `size` to
    `width` bytes, with its sign if `signed`; the rest of the register stays only where `width` is 1 or 2.
    """

    write: bool
    size: int
    length: int
    register: int = -1
    immediate: int = 0
    width: int = 0
    signed: bool = False
    high: bool = False


def decode(code: bytes, bits: int) -> Move | None:
    """The move that `code` begins with in a code segment of `bits` (16, 32, 64); None if it is something else, or cut off."""
    try:
        return _decode(code, bits)
    except IndexError:
        return None


def _decode(code: bytes, bits: int) -> Move | None:
    at, rex, narrow, address = 0, 0, False, False
    while code[at] in _PREFIXES or code[at] in (0x66, 0x67):
        narrow |= code[at] == 0x66
        address |= code[at] == 0x67
        at += 1
    if bits == 64 and code[at] & 0xF0 == 0x40:
        rex = code[at]
        at += 1
    size = 8 if rex & 8 else (4 if narrow else 2) if bits == 16 else (2 if narrow else 4)
    address_bits = {16: 32, 32: 16, 64: 32}[bits] if address else bits
    opcode = code[at]
    at += 1
    if opcode in (0xA0, 0xA1, 0xA2, 0xA3):  # moffs
        length = at + address_bits // 8
        if len(code) < length:
            return None
        width = size if opcode & 1 else 1
        return Move(opcode >= 0xA2, width, length, 0, width=width)
    extended = opcode == 0x0F
    if extended:
        opcode = code[at]
        at += 1
        if opcode not in (0xB6, 0xB7, 0xBE, 0xBF):
            return None
    elif opcode not in (0x88, 0x89, 0x8A, 0x8B, 0xC6, 0xC7):
        return None
    modrm = code[at]
    if modrm >> 6 == 3:
        return None
    register = modrm >> 3 & 7 | (rex & 4) << 1
    at = _operand(code, at, address_bits)
    if extended:
        read = 2 if opcode & 1 else 1
        return _checked(code, Move(False, read, at, register, width=size, signed=opcode >= 0xBE))
    if opcode in (0xC6, 0xC7):
        if modrm >> 3 & 7:
            return None
        width = size if opcode & 1 else 1
        taken = min(width, 4)
        raw = int.from_bytes(code[at : at + taken], "little", signed=True)
        return _checked(code, Move(True, width, at + taken, immediate=raw & (1 << 8 * width) - 1))
    width = size if opcode & 1 else 1
    high = width == 1 and not rex and register >= 4
    return _checked(code, Move(opcode < 0x8A, width, at, register & 3 if high else register, width=width, high=high))


def _checked(code: bytes, move: Move) -> Move | None:
    return move if len(code) >= move.length else None


def _operand(code: bytes, at: int, bits: int) -> int:
    """The place after ModRM, SIB and displacement (tables 2-1 to 2-3)."""
    mod, rm = code[at] >> 6, code[at] & 7
    at += 1
    if bits == 16:
        return at + (2 if mod == 2 or (mod == 0 and rm == 6) else mod)
    if rm == 4:
        base = code[at] & 7
        at += 1
        return at + (4 if mod == 2 or (mod == 0 and base == 5) else mod)
    return at + (4 if mod == 2 or (mod == 0 and rm == 5) else mod)
