"""What the coverage map costs: the same guest code with and without it.

    python bench/coverage.py [--instructions N]

For each piece of code a `Cpu` warms up until the JIT has made what is hot, then executes N instructions; the best of three runs
each, and the ratio.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import polyvm

CODE, DATA = 0x10000, 0x40000
PIECES = {
    "short blocks": "1: addi t0, t0, 1\nandi t1, t0, 3\nbeqz t1, 2f\nxor t2, t2, t0\nj 3f\n2: add t2, t2, t1\n3: bnez t0, 1b\n",
    "calls": "1: addi t0, t0, 1\njal f\nadd t2, t2, a0\nbnez t0, 1b\nf: slli a0, t0, 3\nxor a0, a0, t2\nret\n",
    "array": "0: li a1, 0x40000\nli a2, 0x44000\n1: ld a3, 0(a1)\nadd a4, a4, a3\nsd a4, 0(a1)\naddi a1, a1, 8\nbne a1, a2, 1b\nj 0b\n",
}


def assemble(text: str) -> bytes:
    """Machine code for address CODE."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "code.s").write_text(f".globl _start\n_start:\n{text}")
        subprocess.run(["riscv64-linux-gnu-gcc", "-nostdlib", "-static", f"-Wl,-Ttext={CODE:#x},--no-relax", folder / "code.s",
                        "-o", folder / "code"], check=True)  # fmt: skip
        subprocess.run(["riscv64-linux-gnu-objcopy", "-O", "binary", "-j", ".text", folder / "code", folder / "raw"], check=True)
        return (folder / "raw").read_bytes()


def seconds(code: bytes, instructions: int, *, coverage: bool) -> float:
    """The best time of three for so many instructions."""
    with polyvm.Cpu("riscv64") as cpu:
        cpu.map(CODE, 0x1000, "rx")
        cpu.map(DATA, 0x4000, "rw")
        cpu.write(CODE, code)
        if coverage:
            cpu.coverage()
        cpu.run(CODE, max_instructions=2_000_000_000)
        times: list[float] = []
        for _ in range(3):
            began = time.perf_counter()
            cpu.run(max_instructions=instructions)
            times.append(time.perf_counter() - began)
        return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instructions", type=int, default=1_000_000_000)
    options = parser.parse_args()
    print(f"{'code':<14}{'without':>9}{'with':>9}{'ratio':>8}")
    for name, text in PIECES.items():
        code = assemble(text)
        without, with_ = (seconds(code, options.instructions, coverage=on) for on in (False, True))
        print(f"{name:<14}{without:>9.3f}{with_:>9.3f}{with_ / without:>8.2f}")


if __name__ == "__main__":
    main()
