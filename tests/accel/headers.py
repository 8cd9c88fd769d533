"""Constants and structures of bindings, compared with what a C compiler reads in the real headers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.accel.c_values import evaluate, layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def differences(
    compiler: Sequence[str], includes: str, constants: Mapping[str, int], structures: Mapping[str, type[Any]],
    own: Iterable[str] = (),
) -> list[str]:  # fmt: skip
    """What differs between the bindings and the headers: values of `constants`, and sizes and offsets of the fields of
    `structures`, by their C names. `own` are fields that stand for several of the header's, or for one without a name."""
    wanted = dict(constants)
    for name, structure in structures.items():
        wanted |= layout(structure, name, tuple(own))
    objcopy = compiler[0].removesuffix("gcc") + "objcopy"
    with tempfile.TemporaryDirectory() as folder:
        found = evaluate(list(compiler), objcopy, includes, list(wanted), Path(folder))
    mask = (1 << 64) - 1
    return [
        f"{expression}: {value:#x}, the header says {found[expression]:#x}"
        for expression, value in wanted.items()
        if value & mask != found[expression]
    ]
