"""Who makes random code, by guest."""

from __future__ import annotations

from tests.differential.guests.aarch64 import Aarch64Maker
from tests.differential.guests.riscv64 import Riscv64Maker

AnyMaker = Riscv64Maker | Aarch64Maker
MAKERS: dict[str, type[AnyMaker]] = {"riscv64": Riscv64Maker, "aarch64": Aarch64Maker}
