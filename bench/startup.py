"""How long a small program takes from start to end, and how much memory polyvm takes for it.

    python bench/startup.py [--repeat N] [PROGRAM [ARG…]]

Default: the hello program of the package. Prints medians for polyvm and qemu-riscv64.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path


def run(command: list[str]) -> tuple[float, int]:
    """Milliseconds and the largest resident size in KiB."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = (time.perf_counter() - began) * 1000
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command}: status {process.returncode}")
    return elapsed, usage.ru_maxrss


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("program", nargs="*")
    options = parser.parse_args()
    from polyvm.api.programs import demo_program

    words = options.program or [str(Path(demo_program()).with_name("hello"))]
    commands = {"polyvm": [sys.executable, "-m", "polyvm", "run", *words], "qemu-riscv64": ["qemu-riscv64", *words]}
    for command in commands.values():
        run(command)
    results: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
    for _ in range(options.repeat):
        for name, command in commands.items():
            results[name].append(run(command))
    for name, found in results.items():
        times, sizes = [t for t, _ in found], [s for _, s in found]
        print(
            f"{name:<14}{statistics.median(times):8.1f} ms (best {min(times):.1f})   {statistics.median(sizes) / 1024:8.1f} MiB resident"
        )


if __name__ == "__main__":
    main()
