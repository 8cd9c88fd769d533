"""Files below /proc that must show the guest, not polyvm or the host's processor (proc(5))."""

from __future__ import annotations

import os

from polyvm.mem import EXEC, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.linux.process import Process


def own(path: bytes) -> bytes | None:
    """The part after /proc/self/ (or /proc/PID/, /proc/thread-self/) of a path about this process, or b"/cpuinfo"; else None."""
    if not path.startswith(b"/proc/"):
        return None
    parts = [part for part in path.split(b"/") if part and part != b"."]
    if parts[1:] == [b"cpuinfo"]:
        return b"/cpuinfo"
    if len(parts) < 3:
        return None
    if parts[1] in (b"self", b"thread-self") or parts[1] == str(os.getpid()).encode():
        rest = parts[2:]
        if len(rest) >= 3 and rest[0] == b"task":
            rest = rest[2:]
        return b"/".join(rest)
    return None


def content(process: Process, name: bytes) -> bytes | None:
    """What the guest reads there; None: the host's file will do."""
    if name == b"maps":
        return maps(process)
    if name == b"/cpuinfo":
        return process.arch.cpuinfo(process.isa, os.cpu_count() or 1).encode()
    if name == b"cmdline":
        return b"".join(word + b"\0" for word in process.argv)
    if name == b"auxv":
        return process.image.auxv
    if name in (b"status", b"stat", b"statm"):
        return _status(process, name)
    if name in (b"mem", b"pagemap", b"smaps", b"smaps_rollup", b"numa_maps", b"map_files"):
        return b""
    return None


def maps(process: Process) -> bytes:
    """/proc/self/maps: the guest's mappings."""
    lines: list[str] = []
    heap = range(process.brk_start, process.brk)
    for region in process.arena.regions():
        mode = "".join((
            "r" if region.prot & READ else "-", "w" if region.prot & WRITE else "-", "x" if region.prot & EXEC else "-",
            "s" if region.shared else "p",
        ))  # fmt: skip
        name, device, inode = region.path, "00:00", 0
        if region.start in heap and not name:
            name = "[heap]"
        if name.startswith("/"):
            try:
                status = os.stat(process.paths.resolve(os.fsencode(name)))
                device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
                inode = status.st_ino
            except OSError:
                pass
        offset = region.offset if name.startswith("/") else 0
        text = f"{region.start:08x}-{region.end:08x} {mode} {offset:08x} {device} {inode}"
        lines.append(f"{text:<73}{name}\n" if name else f"{text} \n")
    return os.fsencode("".join(lines))


def _status(process: Process, name: bytes) -> bytes:
    with open(b"/proc/self/" + name, "rb") as file:
        text = file.read()
    own_name = os.fsencode(os.path.basename(process.image.program))[:15]
    size = sum(region.end - region.start for region in process.arena.regions())
    if name == b"statm":
        fields = text.split()
        return b" ".join([str(size >> 12).encode(), *fields[1:]]) + b"\n"
    if name == b"stat":
        pid, rest = text.split(b" ", 1)
        fields = rest.rsplit(b")", 1)[1].split()
        fields[20] = str(size).encode()
        fields[25] = str(process.image.stack_pointer).encode()
        return pid + b" (" + own_name + b") " + b" ".join(fields) + b"\n"
    lines: list[bytes] = []
    for line in text.splitlines():
        if line.startswith(b"Name:"):
            line = b"Name:\t" + own_name
        elif line.startswith((b"VmPeak:", b"VmSize:")):
            line = line.split(b"\t")[0] + f"\t{size >> 10:8d} kB".encode()
        lines.append(line)
    return b"\n".join(lines) + b"\n"
