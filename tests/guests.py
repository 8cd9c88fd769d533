"""The guests that tests run programs of: their compilers, emulators and libraries, as `scripts/setup-debian` installs them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from polyvm.codegen import cache
from polyvm.engine.interpreter import load


@dataclass(frozen=True)
class Guest:
    """One guest. `loader` is the dynamic linker's name, `debian` what Debian calls the architecture, `suite` a release that has
    it."""

    name: str
    loader: str
    debian: str
    suite: str

    def __str__(self) -> str:
        return self.name

    @property
    def cc(self) -> str:
        """The C compiler."""
        return f"{self.name}-linux-gnu-gcc"

    @property
    def qemu(self) -> list[str]:
        """The command of qemu-user's emulator; aarch64 without SVE, whose registers it takes from signal frames first."""
        return [f"qemu-{self.name}", *(["-cpu", "max,sve=off"] if self.name == "aarch64" else [])]

    @property
    def libraries(self) -> str:
        """Where the cross compiler's libraries are."""
        return f"/usr/{self.name}-linux-gnu"

    def build(self, source: str | Path, target: Path, *options: str) -> Path:
        """Compile a C file, or C text, to `target`."""
        command = [self.cc, "-w", *options, "-o", str(target)]
        if isinstance(source, Path):
            subprocess.run([*command, str(source), "-lm"], check=True)
        else:
            subprocess.run([*command, "-x", "c", "-", "-lm"], input=source, text=True, check=True)
        return target

    def entries(self) -> dict[str, bytes]:
        """The interpreter and its stencils, as they are in the usual cache: for caches that begin with them."""
        native = load(self.name)
        native.stencils(wait=True)
        usual = Path(cache.directory())
        return {name: (usual / name).read_bytes() for name in (native.identity, cache.key("stencils", native.identity))}


RISCV64 = Guest("riscv64", "ld-linux-riscv64-lp64d.so.1", "riscv64", "forky")
AARCH64 = Guest("aarch64", "ld-linux-aarch64.so.1", "arm64", "bookworm")
GUESTS = (RISCV64, AARCH64)
