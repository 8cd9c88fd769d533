"""The riscv64 guest: RV64GC for user programs, with the scalar extensions of the RVA23 profile."""

from __future__ import annotations

from polyvm.isa import Isa
from polyvm.isa.riscv64.state import F_NAMES, LAYOUT, X_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.ir import Builder, Value
    from polyvm.isa.insn import Insn, InstructionSet
    from polyvm.isa.riscv64.builder import Rv

# One module for each extension or small family of extensions; floating point before what expands to it.
MODULES = (
    "rv_i", "rv_m", "rv_a", "rv_zicsr", "rv_zifencei", "rv_f", "rv_zfa",
    "rv_zba", "rv_zbb", "rv_zbc", "rv_zbs", "rv_zicond", "rv_zicbo",
    "rv_zimop", "rv_zacas", "rv_c", "rv_zcd", "rv_zcb",
)  # fmt: skip


class Riscv64(Isa):
    """64-bit RISC-V."""

    name = "riscv64"
    layout = LAYOUT
    register_names = {"x": X_NAMES, "f": F_NAMES}
    floating_files = ("f",)
    unit = 2
    extensions = (
        "I", "M", "A", "F", "D", "C", "Zicsr", "Zicntr", "Zifencei", "Zihintpause", "Zicond", "Zicbom", "Zicbop", "Zicboz",
        "Zimop", "Zawrs", "Zacas", "Zabha", "Zfh", "Zfhmin", "Zfa", "Zba", "Zbb", "Zbc", "Zbs", "Zcb", "Zcmop",
    )  # fmt: skip

    def builder(self) -> Rv:
        """A builder for instruction bodies."""
        from polyvm.isa.riscv64.builder import Rv

        return Rv()

    def length(self, start: int) -> int:
        """Two bytes for a compressed instruction, else four (1.5)."""
        return 4 if start & 3 == 3 else 2

    def emit_longer(self, b: Builder, start: Value) -> Value:
        """The same by builder."""
        return (start & 3).eq(3)

    @property
    def fusion(self) -> list[list[str]]:
        """Sequences of instructions that are executed often enough for a handler of their own, shorter ones first."""
        from polyvm.isa.riscv64.fusion import LONGER, PAIRS

        found: list[list[str]] = []
        for first, second in PAIRS:
            one, two = self.instruction(first), self.instruction(second)
            found += [[first, second], *([first, f"{second}:{read}"] for _, read in self.forwards(one, two))]
        return found + sorted(LONGER, key=len)

    def forwards(self, first: Insn, second: Insn) -> list[tuple[str, str]]:
        """Operands of a fused pair: a register that the first writes, one that the second reads, of the same file."""
        written = [o for o in first.operands if o.kind.name in ("XD", "FD")]
        return [
            (w.name, r.name) for w in written for r in second.operands if r.kind.name == w.kind.name[:-1]
        ][:2]

    def load(self) -> InstructionSet:
        """Import all instructions."""
        from importlib import import_module

        for module in MODULES:
            import_module(f"polyvm.isa.riscv64.{module}")
        from polyvm.isa.riscv64.operands import SET

        return SET
