"""System calls that only riscv64 has."""

from __future__ import annotations

import struct

from polyvm.linux.syscalls import EINVAL, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.linux.process import Thread

# Keys of riscv_hwprobe(2) and their values (arch/riscv/include/uapi/asm/hwprobe.h).
_IMA_FD, _IMA_C = 1 << 0, 1 << 1
_EXTENSION_BITS = {
    "Zba": 3, "Zbb": 4, "Zbs": 5, "Zicboz": 6, "Zbc": 7, "Zfh": 27, "Zfhmin": 28, "Zfa": 32, "Zacas": 34, "Zicond": 35,
    "Zihintpause": 36, "Zimop": 47, "Zcb": 44, "Zcmop": 48, "Zawrs": 49, "Zicntr": 50, "Zicbom": 55, "Zabha": 58,
}  # fmt: skip
_KEY_IMA_EXT, _KEY_BASE, _KEY_PERF, _KEY_ZICBOZ_SIZE, _KEY_HIGHEST, _KEY_TIME, _KEY_ZICBOM_SIZE = 4, 3, 5, 6, 7, 8, 12


def _probe(thread: Thread, key: int) -> int | None:
    extensions = thread.core.isa.extensions
    if key in (0, 1, 2):  # mvendorid, marchid, mimpid
        return 0
    if key == _KEY_BASE:
        return 1
    if key == _KEY_IMA_EXT:
        return _IMA_FD | _IMA_C | sum(1 << bit for name, bit in _EXTENSION_BITS.items() if name in extensions)
    if key == _KEY_PERF:
        return 3  # misaligned accesses are fast
    if key in (_KEY_ZICBOZ_SIZE, _KEY_ZICBOM_SIZE):
        return 64
    if key == _KEY_HIGHEST:
        return thread.arena.size - 1
    if key == _KEY_TIME:
        return 10_000_000
    return None


@syscall("riscv_hwprobe(pairs: addr, count: ulong, cpu_size: ulong, cpus: addr, flags: uint)")
def riscv_hwprobe(thread: Thread, pairs: int, count: int, cpu_size: int, cpus: int, flags: int) -> int:
    if flags or count > 1024:
        return -EINVAL
    for i in range(count):
        key = struct.unpack("<q", thread.arena.read(pairs + 16 * i, 8))[0]
        value = _probe(thread, key)
        thread.arena.write(pairs + 16 * i, struct.pack("<qQ", -1 if value is None else key, value or 0))
    return 0


@syscall("riscv_flush_icache(start: addr, end: addr, flags: ulong)")
def riscv_flush_icache(thread: Thread, start: int, end: int, flags: int) -> int:
    return -EINVAL if flags & ~1 else 0
