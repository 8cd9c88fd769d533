"""Rare exits of well made regions: the guest's registers are left where LLVM has them, and a note says where that is.

Writing back, wherever an instruction may be left to the interpreter, each register that the region has changed would be most of a
region's code. Instead such an exit is one of LLVM's patch points (https://llvm.org/docs/StackMaps.html): a place in the code
for which LLVM tells where values are. When the code is loaded, a call of `trampoline` is put there. It saves the host's registers
and lets the native function `restore` fill in the CPU record from the exit's note:

    +0   n        entries for registers
    +4   counted  how often the exit was taken (u32)
    +8   pc       where the guest goes on
    +16  back     instructions that the budget gets back (i32)
    +20           the offset of the patch point in the function
    +24           entries of 8 bytes: the CPU record's address, the budget, which registers are raw (`floating.py`), then the
                  registers; each

          +0  kind     (3 bits) SAVED: `where` bytes from the saved rax; MEMORY: at the address in saved register `base` plus
                       `where`; SMALL: `where` itself; SUM: that address itself; LARGE: the 8 bytes that follow. A register of
                       16 bytes has two entries
              base     (the 5 bits above) a DWARF register number
          +1  bit      1 + the register's bit among the raw ones, or 0
          +2  home     offset in the CPU record, in units of 8 bytes (u16)
          +4  where    (i32)
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from polyvm.codegen.objects import MAPS, find_section
from polyvm.errors import EngineError
from polyvm.ir import I8, I16, I32, I64

if TYPE_CHECKING:
    from polyvm.codegen.objects import Patch
    from polyvm.engine.runtime import Runtime
    from polyvm.ir import Value

NOTE_N, NOTE_COUNTED, NOTE_PC, NOTE_BACK, NOTE_AT, NOTE_ENTRIES = 0, 4, 8, 16, 20, 24
SAVED, MEMORY, SMALL, SUM, LARGE = range(5)
_KINDS = 7
PATCH_SIZE = 13
_FIRST = 3  # entries before the registers
_ENTRY, _KIND_BITS = struct.Struct("<BBHi"), 3
_FIRST_VECTOR = 17  # DWARF number of xmm0
_SAVED_VECTORS = 16 * 16  # bytes, before the saved rax
_REGISTER, _DIRECT, _INDIRECT, _CONSTANT, _CONSTANT_INDEX = range(1, 6)
_SIGN, _INFINITY, _NAN = 1 << 63, 0x7FF << 52, 0xFFF << 51
_HOT = 1024  # times until the JIT is told


class Exit(NamedTuple):
    """One such exit, as the translator knows it: `homes` are the registers' offsets in the CPU record, each one's `bit`,
    and its size in bytes."""

    pc: int
    back: int
    homes: list[tuple[int, int, int]]


def pack(data: bytes, exits: list[Exit]) -> bytes:
    """The notes of the exits of a region's object, one after the other."""
    start, size = find_section(data, MAPS)
    if not size:
        return b""
    functions, constants, records = struct.unpack_from("<III", data, start + 4)
    at = start + 16 + 24 * functions
    large = struct.unpack_from(f"<{constants}Q", data, at)
    at += 8 * constants
    notes: list[bytes] = []
    for _ in range(records):
        number, place, _, count = struct.unpack_from("<QIHH", data, at)
        exit_ = exits[number]
        homes = (*[(0, 0, 8)] * _FIRST, *exit_.homes)
        if count != len(homes):
            raise EngineError("LLVM's stack map does not fit the region's exits")
        entries: list[bytes] = []
        for (kind, _, _, register, _, where), (home, bit, size) in zip(
            struct.iter_unpack("<BBHHHi", data[at + 16 : at + 16 + 12 * count]), homes, strict=True
        ):
            entries.append(_entry(kind, register, where, (bit, home // 8), large))
            if size == 16:
                entries.append(_entry(kind, register, where, (0, home // 8 + 1), large, upper=8))
        notes.append(struct.pack("<IIQiI", len(entries) - _FIRST, 0, exit_.pc, exit_.back, place) + b"".join(entries))
        at += -(-(16 + 12 * count) // 8) * 8
        at += -(-(4 + 4 * struct.unpack_from("<H", data, at + 2)[0]) // 8) * 8
    return b"".join(notes)


def _entry(kind: int, register: int, where: int, home: tuple[int, int], large: tuple[int, ...], *, upper: int = 0) -> bytes:
    """`upper`: 8 for the upper half of a vector."""
    if kind == _REGISTER:
        place = 8 * register if register < _FIRST_VECTOR else 16 * (register - _FIRST_VECTOR) - _SAVED_VECTORS
        return _ENTRY.pack(SAVED, *home, place + upper)
    if kind == _CONSTANT_INDEX:
        return _ENTRY.pack(LARGE, *home, 0) + large[where].to_bytes(8, "little")
    if kind == _CONSTANT:
        return _ENTRY.pack(SMALL, *home, where)
    if kind not in (_DIRECT, _INDIRECT) or register >= _FIRST_VECTOR:
        raise EngineError(f"LLVM's stack map has a location of kind {kind}")
    return _ENTRY.pack((MEMORY if kind == _INDIRECT else SUM) | register << _KIND_BITS, *home, where + upper)


def patches(notes: bytes, function: int, place: int) -> list[Patch]:
    """What to write where (`link`): into the code of the function at `function`, where the word at `place` holds the address of
    the trampoline and the notes follow it. The call is followed by an instruction without effect that has the note's distance
    in it."""
    found: list[Patch] = []
    at = 0
    while at < len(notes):
        n, patch = struct.unpack_from("<I", notes, at)[0], struct.unpack_from("<I", notes, at + NOTE_AT)[0]
        after = function + patch + 6
        code = struct.pack("<HiHBi", 0x15FF, place - after, 0x1F0F, 0x80, place + 8 + at - after)
        found.append((after - 6, code, (2, 9)))
        at = _after(notes, at, n)
    return found


def taken_often(notes: bytes, times: int) -> list[int]:
    """Where the exits lead that were taken at least that often."""
    found: list[int] = []
    at = 0
    while at < len(notes):
        n, counted, pc = struct.unpack_from("<IIQ", notes, at)
        if counted >= times:
            found.append(pc)
        at = _after(notes, at, n)
    return found


def _after(notes: bytes, at: int, n: int) -> int:
    """Where the note after that at `at` is."""
    at += NOTE_ENTRIES
    for _ in range(n + _FIRST):
        at += 16 if notes[at] & _KINDS == LARGE else 8
    return at


def trampoline(restore: int) -> bytes:
    """Save all registers, call `restore(saved rax, note)`, go on after the patch point."""
    code = bytearray()

    def put(text: str) -> None:
        code.extend(bytes.fromhex(text))

    put("41 57 41 56 41 55 41 54 41 53 41 52 41 51 41 50")  # push r15 … r8
    put("4c 8d 5c 24 48")  # lea r11, [rsp + 72]            rsp after the return
    put("41 53 55 57 56 53 51 52 50")  # push r11, rbp, rdi, rsi, rbx, rcx, rdx, rax
    put("48 89 e7")  # mov rdi, rsp
    put("48 81 ec 00 01 00 00")  # sub rsp, 256
    for i in range(16):
        high = 0x78 if i > 7 else 0xF8
        put(f"c5 {high:02x} 11 {0x84 | (i & 7) << 3:02x} 24" + struct.pack("<i", 16 * i).hex())  # vmovups [rsp + 16 i], xmm i
    put("48 8b 87 80 00 00 00")  # mov rax, [rdi + 128]          the return address
    put("48 63 70 03")  # movsxd rsi, dword [rax + 3]
    put("48 01 c6")  # add rsi, rax
    put("48 89 e5")  # mov rbp, rsp
    put("48 83 e4 f0")  # and rsp, -16
    put("48 b8" + struct.pack("<Q", restore).hex())  # mov rax, restore
    put("ff d0")  # call rax
    put("48 8d a5 00 01 00 00")  # lea rsp, [rbp + 256]
    put("58 5a 59 5b 5e 5f 5d")  # pop rax, rdx, rcx, rbx, rsi, rdi, rbp
    put("41 5b")  # pop r11
    put("41 58 41 59 41 5a 41 5b 41 5c 41 5d 41 5e 41 5f c3")  # pop r8 … r15; ret
    return bytes(code)


def restore(r: Runtime, saved: Value, note: Value) -> None:
    """Fill in the CPU record, and its budget field; ask for a tick when the exit turns out to be taken often."""
    b = r.b
    at = b.local(note + NOTE_ENTRIES)
    left = b.local(b.hload(note, I32, NOTE_N).zext(I64) + _FIRST)
    cpu, raw = b.local(b.const(I64, 0)), b.local(b.const(I64, 0))
    number = b.local(b.const(I64, 0))
    with b.loop():
        entry = at.get()
        kind, bit = b.hload(entry, I8).zext(I64), b.hload(entry, I8, 1).zext(I64)
        kind, base = kind & _KINDS, kind >> _KIND_BITS
        where = b.hload(entry, I32, 4).sext(I64)
        value = b.local(where)
        with b.if_(kind.eq(SAVED)):
            value.set(b.hload(saved + where, I64))
        with b.if_(kind.eq(MEMORY) | kind.eq(SUM)):
            value.set(b.hload(saved + (base << 3), I64) + where)
            with b.if_(kind.eq(MEMORY)):
                value.set(b.hload(value.get(), I64))
        with b.if_(kind.eq(LARGE)):
            at.set(entry + 8)
            value.set(b.hload(entry, I64, 8))
        with b.if_(number.get().uge(_FIRST)):
            is_raw = (((raw.get() << 1) >> bit) & 1).ne(0)
            with b.if_(is_raw & (value.get() & _SIGN - 1).ugt(_INFINITY)):
                value.set(b.const(I64, _NAN))
            b.hstore(cpu.get() + (b.hload(entry, I16, 2).zext(I64) << 3), value.get())
        with b.else_():
            with b.if_(number.get().eq(0)):
                cpu.set(value.get())
            with b.if_(number.get().eq(1)):
                r.put(cpu.get(), "left", value.get() + b.hload(note, I32, NOTE_BACK).sext(I64))
            with b.if_(number.get().eq(2)):
                raw.set(value.get())
        at.set(at.get() + 8)
        number.set(number.get() + 1)
        b.break_if(number.get().uge(left.get()))
    r.set_pc(cpu.get(), b.hload(note, I64, NOTE_PC))
    times = b.hload(note, I32, NOTE_COUNTED) + 1
    b.hstore(note, times, NOTE_COUNTED)
    with b.if_((times & (_HOT - 1)).eq(0)):
        r.put(cpu.get(), "hot_exit", note)
    b.ret(b.const(I64, 0))
