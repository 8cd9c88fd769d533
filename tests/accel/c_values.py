"""What a C compiler makes of expressions: compiled, never run, and read from the object's data."""

from __future__ import annotations

import ctypes
import re
import struct
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def evaluate(compiler: str | list[str], objcopy: str, prelude: str, expressions: list[str], directory: Path) -> dict[str, int]:
    """The values of integer expressions, modulo 2**64, as `compiler` computes them at compile time."""
    command = [compiler] if isinstance(compiler, str) else compiler
    source = directory / "values.c"
    body = ",\n".join(f"(unsigned long long)({text})" for text in expressions)
    source.write_text(f'{prelude}\n__attribute__((section(".values"))) const unsigned long long values[] = {{\n{body}\n}};\n')
    made = subprocess.run([*command, "-c", "-w", source, "-o", directory / "values.o"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    subprocess.run([objcopy, "-O", "binary", "--only-section=.values", "--set-section-flags", ".values=alloc,contents",
    directory / "values.o", directory / "values.bin"], check=True)
    data = (directory / "values.bin").read_bytes()
    return dict(zip(expressions, struct.unpack_from(f"<{len(expressions)}Q", data)))


def snake(name: str) -> str:
    """UserspaceMemoryRegion → userspace_memory_region."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def structures(module: object) -> list[type[ctypes.Structure]]:
    """The structures that a module defines for others to use."""
    return [
        value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, ctypes.Structure) and not name.startswith("_") and value.__module__ == module.__name__  # type: ignore[attr-defined]
    ]


def layout(structure: type[ctypes.Structure], c_name: str, leave_out: tuple[str, ...] = ()) -> dict[str, int]:
    """C expression → what Python's structure says, for the size and each field's offset and size."""
    found = {f"sizeof({c_name})": ctypes.sizeof(structure)}
    for field in structure._fields_:
        name = field[0]
        if name.startswith("_") or name in leave_out:
            continue
        member = getattr(structure, name)
        found[f"__builtin_offsetof({c_name}, {name})"] = member.offset
        found[f"sizeof((({c_name} *)0)->{name})"] = member.size
    return found
