"""How long small programs take from start to end.

    python bench/startup.py [--repeat N] [--sysroot DIR] [-- PROGRAM [ARG…]]

Default: the hello program of the package, and with a sysroot (scripts/sysroot) Debian's busybox, bash and python3. For each, the
installed command `polyvm` with what earlier runs have left in the cache (warm) and with nothing there but the interpreter (cold), and
qemu-riscv64: medians of N runs in turn and in parentheses the best, in milliseconds; the ratios are of medians and of bests.

polyvm's modules are compiled to bytecode first, as they are where it is installed from a wheel.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from interpreter import COMMAND

import polyvm
from polyvm.api.programs import demo_program

ROOT = Path(__file__).resolve().parent.parent
HELLO = str(Path(demo_program()).with_name("hello"))
SETTLE = 3  # runs until nothing more is added to the cache


def run(command: list[str], cache: Path) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, env={**os.environ, "POLYVM_CACHE": str(cache)}, check=True)
    return (time.perf_counter() - began) * 1000


def measure(polyvm: list[str], qemu: list[str], empty: Path, folder: Path, repeat: int) -> dict[str, list[float]]:
    """Times of `repeat` rounds."""
    warm, cold = folder / "warm", folder / "cold"
    shutil.copytree(empty, warm)
    for _ in range(SETTLE):
        run(polyvm, warm)
    run(qemu, warm)
    found: dict[str, list[float]] = {"warm": [], "cold": [], "qemu": []}
    for _ in range(repeat):
        found["warm"].append(run(polyvm, warm))
        shutil.copytree(empty, cold)
        found["cold"].append(run(polyvm, cold))
        shutil.rmtree(cold)
        found["qemu"].append(run(qemu, warm))
    shutil.rmtree(warm)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--sysroot", type=Path, default=ROOT / "sysroot/riscv64")
    parser.add_argument("program", nargs="*")
    options = parser.parse_args()
    binaries = options.sysroot / "usr/bin"
    root = ["-L", str(options.sysroot)] if binaries.is_dir() else []
    programs = {"hello": [HELLO]}
    if options.program:
        programs = {" ".join(options.program)[-18:]: options.program}
    elif root:
        programs |= {
            "busybox true": [str(binaries / "busybox"), "true"],
            "bash -c true": [str(binaries / "bash"), "-c", "true"],
            "python3 -c pass": [str(binaries / "python3"), "-c", "pass"],
        }
    compileall.compile_dir(Path(polyvm.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory() as name:
        empty = Path(name) / "empty"
        run([*COMMAND, "run", HELLO], empty)
        print(f"{'':<18}{'polyvm warm':>18}{'cold':>18}{'qemu-riscv64':>18}{'warm/qemu':>14}{'cold/qemu':>14}")
        for label, words in programs.items():
            found = measure([*COMMAND, "run", *root, *words], ["qemu-riscv64", *root, *words], empty, Path(name), options.repeat)
            middle = {kind: statistics.median(runs) for kind, runs in found.items()}
            best = {kind: min(runs) for kind, runs in found.items()}
            times = [f"{middle[kind]:.1f} ({best[kind]:.1f})" for kind in found]
            line = "".join(f"{text:>18}" for text in times)
            for kind in ("warm", "cold"):
                ratio = f"{middle[kind] / middle['qemu']:.2f} ({best[kind] / best['qemu']:.2f})"
                line += f"{ratio:>14}"
            print(f"{label:<18}{line}")


if __name__ == "__main__":
    main()
