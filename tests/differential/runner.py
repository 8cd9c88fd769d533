"""Runs a freestanding program on a bare core: enough for programs that write and exit."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from polyvm.engine import Core, JitSource
from polyvm.mem import EXEC, READ, WRITE, Arena, page_ceil
from polyvm.vcpu import exits

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path, arena: Arena) -> int:
    """Map the segments of a static ELF file; its entry point."""
    data = path.read_bytes()
    entry, headers = struct.unpack_from("<QQ", data, 24)
    for i in range(struct.unpack_from("<H", data, 56)[0]):
        kind, flags, offset, address, _, size, memory, _ = struct.unpack_from("<IIQQQQQQ", data, headers + 56 * i)
        if kind == 1:
            start = address & ~4095
            prot = (READ if flags & 4 else 0) | (WRITE if flags & 2 else 0) | (EXEC if flags & 1 else 0)
            arena.map(start, page_ceil(address + memory) - start, prot)
            arena.poke(address, data[offset : offset + size])
    return entry


# Where a system call has its number and its first argument.
_CALLS = {"riscv64": (17, 10), "aarch64": (8, 0)}


def run(path: Path, jit: str = "off", guest: str = "riscv64") -> tuple[bytes, int]:
    """What the program wrote, and how many instructions it took."""
    arena = Arena()
    core = Core(guest, arena)
    number, first = _CALLS[guest]
    source = JitSource.parse(jit)
    core.use_jit(source)
    core.pc = load(path, arena)
    written = b""
    while True:
        code = core.run()
        if code != exits.SYSCALL:
            raise AssertionError(f"{exits.NAMES[code]} at {core.pc:#x}: {core.exit_address:#x}")
        core.pc += 4
        if core.x[number] == 64:
            written += arena.read(core.x[first + 1], core.x[first + 2])
        else:
            count = core.instructions
            source.close()
            core.close()
            arena.close()
            return written, count
