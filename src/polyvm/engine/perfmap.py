"""A map of generated code for Linux's perf: ``/tmp/perf-PID.map``, lines of start, size and name
(tools/perf/Documentation/jit-interface.txt in the kernel's source)."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.codegen.objects import LoadedObject


def _path() -> str:
    return f"/tmp/perf-{os.getpid()}.map"  # where perf looks for it, wherever TMPDIR is


def add(start: int, end: int, name: str) -> None:
    """Note one piece of code."""
    try:
        with open(_path(), "a", encoding="utf-8") as file:
            file.write(f"{start:x} {end - start:x} {name}\n")
    except OSError:
        pass  # a map is never required


def add_object(loaded: LoadedObject, prefix: str) -> None:
    """Note each function of an object, up to the next one."""
    places = sorted((address, name) for name, address in loaded.symbols.items() if loaded.start <= address < loaded.end)
    ends = [address for address, _ in places[1:]] + [loaded.end]
    try:
        with open(_path(), "a", encoding="utf-8") as file:
            for (address, name), end in zip(places, ends, strict=True):
                file.write(f"{address:x} {end - address:x} {prefix}{name}\n")
    except OSError:
        pass
