"""riscv64 for the cases of this folder (see `tests.isa.harness`). Floating-point numbers are NaN-boxed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from polyvm.isa.riscv64.state import F_NAMES, X_NAMES
from tests.isa.harness import Case, Guest
from tests.isa.riscv64 import binutils

X_INDEX = {name: i for i, name in enumerate(X_NAMES)}
F_INDEX = {name: i for i, name in enumerate(F_NAMES)}


class Riscv64(Guest):
    """Registers by their names in the ABI."""

    name = "riscv64"
    folder = Path(__file__).parent
    names = (*X_NAMES, *F_NAMES, "fcsr")
    others = {"fp": "s0"}
    boxed = True

    def start(self, name: str) -> int:
        """Each has another value."""
        if name == "fcsr":
            return 0
        index = X_INDEX[name] if name in X_INDEX else F_INDEX[name] + 64
        return index * 0x0101_0101_0101_0101

    def available(self) -> bool:
        """True if the cross binutils are installed."""
        return binutils.available()

    def assemble(self, source: str) -> bytes:
        """By GNU as."""
        return binutils.assemble(source)

    def prepared(self, text: str) -> str:
        """Nothing is shortened behind a case's back; compressed instructions are asked for by name."""
        return f".option {'rvc' if text.startswith('c.') else 'norvc'}\n{text}"


GUEST = Riscv64()


@lru_cache(maxsize=1)
def load() -> dict[str, list[Case]]:
    """All cases by file name."""
    return GUEST.load()
