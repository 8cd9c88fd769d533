"""The riscv64 guest's registers by name."""

from __future__ import annotations

from polyvm.isa.registers import RegisterTable
from polyvm.isa.riscv64.state import F_NAMES, X_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.isa.registers import State

_NAN = 0x7FC0_0000


class Registers(RegisterTable):
    """x and f with the names of the ABI, pc, fcsr."""

    names = {
        **{name: ("x", i, 64) for i, name in enumerate(X_NAMES)},
        **{name: ("f", i, 64) for i, name in enumerate(F_NAMES)},
        "pc": ("pc", 0, 64),
        "fcsr": ("fcsr", 0, 8),
        **{f"x{i}": ("x", i, 64) for i in range(32)},
        **{f"f{i}": ("f", i, 64) for i in range(32)},
        "fp": ("x", 8, 64),
    }
    floating = "f"
    constant = frozenset({("x", 0)})

    def get(self, state: State, file: str, index: int) -> int:
        """fcsr: rounding mode and accrued exceptions (20.2)."""
        return state.fp_rm << 5 | state.fp_flags if file == "fcsr" else super().get(state, file, index)

    def set(self, state: State, file: str, index: int, value: int) -> None:
        """The other way round."""
        if file == "fcsr":
            state.fp_flags = value & 31
            state.fp_rm = value >> 5 & 7
        else:
            super().set(state, file, index, value)

    def single(self, raw: int) -> int:
        """What is not NaN-boxed is the canonical NaN (20.2)."""
        return raw & 0xFFFF_FFFF if raw >> 32 == 0xFFFF_FFFF else _NAN

    def from_single(self, bits: int) -> int:
        """NaN-boxed."""
        return bits | 0xFFFF_FFFF << 32


TABLE = Registers()
