"""The interpreter beside qemu-user and native code.

    python bench/interpreter.py [--guest riscv64|aarch64] [--repeat N] [--only NAME,…] [--sysroot DIR] [--json FILE]

Each program is built from one C source for the guest (static, -O2) and for the host (-O2). polyvm, qemu-GUEST and native code
run in turn, N times; the best time of each counts. With a sysroot (scripts/sysroot), Debian's own programs follow.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
# Repetitions for about two seconds under polyvm.
INTEGER = {"sieve": 90, "sort": 45, "matmul": 140, "crc": 800, "sha256": 180, "fib": 160, "strhash": 5000}
FLOATING = {"nbody": 120, "mandelbrot": 240}
GUESTS = ("riscv64", "aarch64")
_INSTALLED = Path(sys.executable).with_name("polyvm")  # not resolved: it lies beside the link of a virtual environment
COMMAND = [str(_INSTALLED)] if _INSTALLED.exists() else [sys.executable, "-m", "polyvm"]
POLYVM = [*COMMAND, "run", "--jit=off"]


def build(name: str, folder: Path, guest: str = GUESTS[0]) -> tuple[Path, Path]:
    """The guest's and the native program."""
    source = HERE / "programs" / f"{name}.c"
    cross, native = folder / f"{name}.{guest}", folder / name
    for compiler, target in ((f"{guest}-linux-gnu-gcc", cross), ("gcc", native)):
        static = ["-static"] if target is cross else []
        subprocess.run([compiler, "-O2", "-ffp-contract=off", *static, "-o", target, source, "-lm"], check=True)
    return cross, native


def timed(command: list[str]) -> tuple[float, str, str]:
    """Seconds, standard output and error of a command."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", check=True)
    return time.perf_counter() - began, done.stdout, done.stderr


class Row:
    """The best times of one program."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        self.polyvm = self.qemu = self.native = math.inf
        self.inside = math.inf
        self.instructions = 0

    @property
    def mips(self) -> float:
        """Million instructions a second, of the time that the guest ran."""
        return self.instructions / self.inside / 1e6


def measure(name: str, kind: str, guest: list[str], qemu: list[str], native: list[str] | None, repeat: int) -> Row:
    """Run all three in turn."""
    row = Row(name, kind)
    outputs: set[str] = set()
    for _ in range(repeat):
        seconds, output, errors = timed(guest)
        record = json.loads(errors.splitlines()[-1])
        row.polyvm, row.inside = min(row.polyvm, seconds), min(row.inside, record["seconds"])
        row.instructions = record["instructions"]
        outputs.add(output)
        seconds, output, _ = timed(qemu)
        row.qemu = min(row.qemu, seconds)
        outputs.add(output)
        if native is not None:
            seconds, output, _ = timed(native)
            row.native = min(row.native, seconds)
            outputs.add(output)
    if kind != "debian" and len(outputs) != 1:
        raise SystemExit(f"{name}: the outputs differ: {outputs}")
    return row


def debian(sysroot: str, folder: Path) -> dict[str, list[str]]:
    """Commands of Debian's programs."""
    data, big = folder / "data", folder / "big"
    data.write_bytes(b"".join(b"%d %x\n" % (i * i, i * 7919) for i in range(120_000)))
    big.write_bytes(bytes(range(256)) * (1 << 17))
    script = "d={}\nfor i in range(400000): d[i%1000]=d.get(i%1000,0)+i*i%7\nprint(sum(d.values()))"
    program = f"{sysroot}/usr/bin/"
    return {
        "openssl sha256": [program + "openssl", "dgst", "-sha256", str(big)],
        "xz": [program + "xz", "-kc", "-2", str(data)],
        "python3": [program + "python3", "-c", script],
    }


def geometric(values: list[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def show(rows: list[Row]) -> None:
    """The table."""
    print(
        f"{'program':<16}{'instructions':>15}{'polyvm s':>10}{'MIPS':>7}{'qemu s':>9}{'native s':>10}{'/qemu':>8}{'/native':>9}"
    )
    for row in rows:
        native = f"{row.native:>10.3f}" if row.native < math.inf else f"{'-':>10}"
        ratio = f"{row.polyvm / row.native:>9.1f}" if row.native < math.inf else f"{'-':>9}"
        print(f"{row.name:<16}{row.instructions:>15,}{row.polyvm:>10.3f}{row.mips:>7.0f}{row.qemu:>9.3f}{native}"
              f"{row.polyvm / row.qemu:>8.2f}{ratio}")  # fmt: skip
    for kind in ("integer", "floating", "debian"):
        chosen = [row for row in rows if row.kind == kind]
        if chosen:
            means = f"MIPS {geometric([r.mips for r in chosen]):.0f}, polyvm/qemu {geometric([r.polyvm / r.qemu for r in chosen]):.2f}"
            print(f"geometric mean, {kind}: {means}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guest", choices=GUESTS, default=GUESTS[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--sysroot", default=os.environ.get("POLYVM_SYSROOT", ""))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    qemu = f"qemu-{options.guest}"
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, table in (("integer", INTEGER), ("floating", FLOATING)):
            for program, rounds in table.items():
                if only and program not in only:
                    continue
                guest, native = build(program, folder, options.guest)
                words = [str(rounds)]
                rows.append(measure(program, kind, [*POLYVM, "--stats=json", str(guest), *words], [qemu, str(guest), *words],
                                    [str(native), *words], options.repeat))  # fmt: skip
        if options.sysroot and not only:
            for program, command in debian(options.sysroot, folder).items():
                rows.append(measure(program, "debian", [*POLYVM, "--stats=json", "-L", options.sysroot, *command],
                                    [qemu, "-L", options.sysroot, *command], None, options.repeat))  # fmt: skip
    show(rows)
    if options.json:
        options.json.write_text(json.dumps([{**vars(row), "mips": row.mips} for row in rows], indent=1))


if __name__ == "__main__":
    main()
