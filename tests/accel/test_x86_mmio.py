"""The moves that drivers make, as the GNU assembler writes and objdump measures them."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from polyvm.accel.x86_mmio import Move, decode

if TYPE_CHECKING:
    from pathlib import Path

REGISTERS = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
NAMES = {
    1: "al cl dl bl spl bpl sil dil r8b r9b r10b r11b r12b r13b r14b r15b".split(),
    2: "ax cx dx bx sp bp si di r8w r9w r10w r11w r12w r13w r14w r15w".split(),
    4: "eax ecx edx ebx esp ebp esi edi r8d r9d r10d r11d r12d r13d r14d r15d".split(),
    8: REGISTERS,
}
PLACES = ["[rax]", "[r13]", "[rsp]", "[r12+8]", "[rbp+0x1234]", "[rbx+rcx*4]", "[r9+r10*8+0x40]", "[rip+0x20]", "[eax]", "fs:[rdx]"]
LETTERS = {1: "byte", 2: "word", 4: "dword", 8: "qword"}


def assemble(folder: Path, lines: list[str], bits: int) -> list[bytes]:
    """Each line's bytes."""
    (folder / "moves.s").write_text(f".intel_syntax noprefix\n.code{bits}\n" + "\n".join(lines) + "\n")
    subprocess.run(["as", "-o", folder / "moves.o", folder / "moves.s"], check=True)
    machine = {16: "i8086", 32: "i386", 64: "i386:x86-64"}[bits]
    listing = subprocess.run(
        ["objdump", "-d", "-w", "-m", machine, folder / "moves.o"], check=True, capture_output=True, text=True
    ).stdout
    found = [bytes.fromhex(m[1]) for m in re.finditer(r"^\s+[0-9a-f]+:\t((?:[0-9a-f]{2} )+)", listing, re.MULTILINE)]
    assert len(found) == len(lines)
    return found


def test_moves_of_64_bit_code(tmp_path: Path) -> None:
    """Every register, size and way to address: direction, size, register and length."""
    lines: list[str] = []
    wanted: list[Move] = []
    for place in PLACES:
        for size, names in NAMES.items():
            for number, name in enumerate(names):
                lines += [f"mov {LETTERS[size]} ptr {place}, {name}", f"mov {name}, {LETTERS[size]} ptr {place}"]
                wanted += [Move(True, size, 0, number, width=size), Move(False, size, 0, number, width=size)]
            lines.append(f"mov {LETTERS[size]} ptr {place}, 0x12")
            wanted.append(Move(True, size, 0, immediate=0x12))
        for width in (2, 4, 8):
            for size in (1, 2):
                if size < width:
                    for name, signed in (("movzx", False), ("movsx", True)):
                        lines.append(f"{name} {NAMES[width][9]}, {LETTERS[size]} ptr {place}")
                        wanted.append(Move(False, size, 0, 9, width=width, signed=signed))
    lines += ["mov qword ptr [rax], -2", "mov byte ptr [rcx], ah", "mov bh, byte ptr [rcx]", "movabs eax, [0x123456789abc]"]
    wanted += [
        Move(True, 8, 0, immediate=(1 << 64) - 2), Move(True, 1, 0, 0, width=1, high=True),
        Move(False, 1, 0, 3, width=1, high=True), Move(False, 4, 0, 0, width=4),
    ]  # fmt: skip
    for line, code, move in zip(lines, assemble(tmp_path, lines, 64), wanted, strict=True):
        expected = Move(move.write, move.size, len(code), move.register, move.immediate, move.width, move.signed, move.high)
        assert decode(code + b"\x90\x90", 64) == expected, line
        assert decode(code[:-1], 64) is None, line


@pytest.mark.parametrize("bits", [16, 32])
def test_moves_of_older_code(tmp_path: Path, bits: int) -> None:
    """Operand and address sizes follow the code segment; prefixes turn them over."""
    lines = ["mov [bx+si+5], al", "mov ax, [0x1234]", "mov ecx, [bx]", "mov dx, [di+0x300]", "mov eax, [ebx+4]", "mov word ptr [si], 7"]
    sizes = [(True, 1), (False, 2), (False, 4), (False, 2), (False, 4), (True, 2)]
    for line, code, (write, size) in zip(lines, assemble(tmp_path, lines, bits), sizes, strict=True):
        move = decode(code, bits)
        assert move is not None, line
        assert (move.write, move.size, move.length) == (write, size, len(code)), line


def test_other_instructions_are_left_alone(tmp_path: Path) -> None:
    """Arithmetic, string moves and moves between registers are no moves to a device."""
    lines = ["add [rax], ecx", "movsb", "mov eax, ebx", "xchg [rax], ecx", "movups xmm0, [rax]", "push qword ptr [rax]"]
    assert [decode(code, 64) for code in assemble(tmp_path, lines, 64)] == [None] * len(lines)
