"""The aarch64 guest: A64 at user level."""

from __future__ import annotations

from polyvm.isa import Isa
from polyvm.isa.aarch64.features import FEATURES
from polyvm.isa.aarch64.state import LAYOUT, V_NAMES, X_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.isa.aarch64.builder import A64
    from polyvm.isa.insn import Insn, InstructionSet

# One module for each encoding class, or part of one (Arm ARM, C4.1).
MODULES = (
    "a64_immediate",
    "a64_register",
    "a64_branch",
    "a64_memory",
    "a64_float",
    "a64_convert",
    "a64_simd_same",
    "a64_simd_different",
    "a64_simd_misc",
    "a64_simd_permute",
    "a64_simd_copy",
    "a64_simd_shift",
    "a64_simd_indexed",
    "a64_simd_dot",
    "a64_simd_bf16",
    "a64_simd_memory",
    "a64_simd_float",
    "a64_simd_float_misc",
    "a64_crypto",
    "a64_crypto_sm",
    "a64_atomic",
    "a64_system",
)

_READ_KIND = {"XD": ("X", "XSP"), "XSPD": ("X", "XSP"), "VD": ("V",)}


class Aarch64(Isa):
    """Arm's 64-bit architecture, A64 instructions."""

    name = "aarch64"
    layout = LAYOUT
    register_names = {"x": X_NAMES, "v": V_NAMES}
    unit = 4
    vector_files = ("v",)
    extensions = ("A64", *FEATURES)

    def builder(self) -> A64:
        """A builder for instruction bodies."""
        from polyvm.isa.aarch64.builder import A64

        return A64()

    @property
    def fusion(self) -> list[list[str]]:
        """Sequences of instructions that are executed often enough for a handler of their own, shorter ones first."""
        from polyvm.isa.aarch64.fusion import SEQUENCES

        return SEQUENCES

    def forwards(self, first: Insn, second: Insn) -> list[tuple[str, str]]:
        """Operands of a fused pair: a register that the first writes, one that the second reads, of the same file."""
        return [
            (w.name, r.name)
            for w in first.operands
            for r in second.operands
            if r.kind.name in _READ_KIND.get(w.kind.name, ())
        ][:2]

    def load(self) -> InstructionSet:
        """Import all instructions."""
        from importlib import import_module

        for module in MODULES:
            import_module(f"polyvm.isa.aarch64.{module}")
        from polyvm.isa.aarch64.operands import SET

        return SET
