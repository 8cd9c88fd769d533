"""riscv64 assembly to bytes, by binutils."""

from __future__ import annotations

import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=512)
def assemble(text: str, march: str = "rv64gc") -> bytes:
    """The bytes of `text`, one instruction a line or separated by semicolons."""
    with tempfile.TemporaryDirectory() as folder:
        source, target, raw = (Path(folder) / name for name in ("a.s", "a.o", "a.bin"))
        source.write_text(".option norelax\n" + text + "\n")
        subprocess.run(["riscv64-linux-gnu-as", f"-march={march}", "-o", target, source], check=True)
        linked = Path(folder) / "a.elf"
        subprocess.run(["riscv64-linux-gnu-ld", "-Ttext=0x10000", "-e", "0", "-o", linked, target], check=True,
                       stderr=subprocess.DEVNULL)  # fmt: skip
        subprocess.run(["riscv64-linux-gnu-objcopy", "-O", "binary", "-j", ".text", linked, raw], check=True)
        return raw.read_bytes()
