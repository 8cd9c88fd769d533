"""Constants and structures of bindings, compared with what a C compiler reads in the real headers."""

from __future__ import annotations

import ctypes
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def evaluate(compiler: Sequence[str], includes: str, expressions: Sequence[str]) -> list[int]:
    """The values (64 bits, unsigned) of C's constant `expressions` after `includes`: read from an object file, so the compiler
    may be one for another machine."""
    values = ",\n".join(f"(unsigned long long)({expression})" for expression in expressions)
    source = f"{includes}\nconst unsigned long long polyvm_values[] __attribute__((section(\"polyvm\"))) = {{\n{values}\n}};\n"
    objcopy = compiler[0].removesuffix("gcc") + "objcopy"
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "values.c").write_text(source)
        subprocess.run([*compiler, "-c", "-w", "-o", at / "values.o", at / "values.c"], check=True)
        subprocess.run([objcopy, "-O", "binary", "-j", "polyvm", at / "values.o", at / "values"], check=True)
        data = (at / "values").read_bytes()
    return list(struct.unpack(f"<{len(expressions)}Q", data[: 8 * len(expressions)]))


def differences(
    compiler: Sequence[str], includes: str, constants: Mapping[str, int], structures: Mapping[str, type[Any]],
    own: Iterable[str] = (),
) -> list[str]:  # fmt: skip
    """What differs between the bindings and the headers: values of `constants`, and sizes and offsets of the fields of
    `structures`, by their C names. `own` are fields that stand for several of the header's, or for one without a name."""
    wanted = dict(constants)
    for name, structure in structures.items():
        wanted[f"sizeof({name})"] = ctypes.sizeof(structure)
        for field, *_ in structure._fields_:
            if field not in own:
                wanted[f"__builtin_offsetof({name}, {field})"] = getattr(structure, field).offset
    found = evaluate(compiler, includes, list(wanted))
    mask = (1 << 64) - 1
    return [
        f"{expression}: {value:#x}, the header says {real:#x}"
        for (expression, value), real in zip(wanted.items(), found, strict=True)
        if value & mask != real
    ]
