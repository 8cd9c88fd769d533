"""The JIT beside qemu-riscv64 and native code.

    python bench/jit.py [--only NAME,…] [--sysroot DIR] [--json FILE]

For each program one run with only the interpreter in the cache (cold), then three that find what the runs before have compiled
(warm: the best of them), and the best of two runs of qemu-riscv64 and of native code. With a sysroot (scripts/sysroot), Debian's
own programs follow; native is then the host's program of that name, where there is one, which may be another version.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from interpreter import build, geometric

# Repetitions for two to four seconds under qemu-riscv64.
INTEGER = {
    "sieve": 400, "sort": 130, "matmul": 700, "crc": 2600, "sha256": 1500, "fib": 420, "strhash": 22000, "vm": 170, "list": 1200,
    "callback": 90, "text": 1100,
}  # fmt: skip
FLOATING = {"nbody": 120, "mandelbrot": 160}


class Row:
    """Times of one program, in seconds."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        self.cold = self.warm = self.qemu = self.native = math.nan


def timed(command: list[str], **variables: str) -> tuple[float, bytes]:
    """Seconds, and standard output."""
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, env={**os.environ, **variables})
    return time.perf_counter() - began, done.stdout


def measure(row: Row, guest: list[str], qemu: list[str], native: list[str] | None, empty: Path, folder: Path) -> Row:
    """Run all; the outputs must agree."""
    store = folder / "cache"
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(empty, store)
    command = [sys.executable, "-m", "polyvm", "run", *guest]
    row.cold, expected = timed(command, POLYVM_CACHE=str(store))
    runs = [timed(command, POLYVM_CACHE=str(store)) for _ in range(3)]
    row.warm = min(seconds for seconds, _ in runs)
    others = [timed(qemu) for _ in range(2)]
    row.qemu = min(seconds for seconds, _ in others)
    if any(output != expected for _, output in runs + others):
        raise SystemExit(f"{row.name}: the outputs differ")
    if native is not None:
        row.native = min(timed(native)[0] for _ in range(2))
    return row


def debian(folder: Path) -> dict[str, tuple[str, list[str]]]:
    """Kind and command of each of Debian's programs; {bin} stands for the directory of programs."""
    text, data, source = folder / "text", folder / "data", folder / "source.c"
    words = ["alpha", "beta", "gamma", "delta", "int", "void", "return"]
    text.write_text(" ".join(words[i * i % 7] + str(i * 7919 % 5003) for i in range(500_000)))
    data.write_bytes(bytes(range(256)) * (1 << 18))
    source.write_text("".join(
        f"int f{i}(int a, int b) {{ int s = 0; for (int i = 0; i < a; i++) {{ s += i * b ^ {i}; if (s & {i}) s -= b; }} return s; }}\n"
        for i in range(60)
    ))  # fmt: skip
    loop = "def f(n):\n d={}\n s=0\n for i in range(n):\n  s+=i*i%7\n  d[i&1023]=s\n return s\nprint(f(1500000))"
    objects = ("class P:\n def __init__(s,x): s.x=x\n def n(s): return P(s.x+1)\np=P(0)\nfor i in range(400000): p=p.n()\nprint(p.x)\n"
               "print(sum(len(str(i)) for i in range(300000)))")  # fmt: skip
    perl = 'my %h; for my $i (1..600000){ $h{$i%1000}.=chr(65+$i%26) if $i%3; } my $t=join("",map {$h{$_}} sort keys %h); ' \
           'my $n=()=$t=~/[AEIOU]./g; print length($t)," $n\\n";'  # fmt: skip
    lua = "local t={} for i=1,4000000 do t[i%1000]=(t[i%1000] or 0)+i%7 end local s=0 for _,v in pairs(t) do s=s+v end print(s)"
    sql = "with recursive c(x) as (select 1 union all select x+1 from c where x<600000) select sum(x*x), max(x) from c;"
    key = "00112233445566778899aabbccddeeff"
    return {
        "openssl sha256": ("debian", ["openssl", "dgst", "-sha256", "-r", str(data)]),
        "openssl sha512": ("debian", ["openssl", "dgst", "-sha512", "-r", str(data)]),
        "openssl aes": ("debian", ["openssl", "enc", "-aes-128-cbc", "-K", key, "-iv", key, "-in", str(data)]),
        "xz": ("debian", ["xz", "-kc", "-2", str(text)]),
        "zstd": ("debian", ["zstd", "-qkc", "-7", str(text)]),
        "bzip2": ("debian", ["bzip2", "-kc", str(text)]),
        "gzip": ("debian", ["gzip", "-nkc", str(text)]),
        "lua": ("debian", ["lua5.4", "-e", lua]),
        "python3 loop": ("debian", ["python3", "-c", loop]),
        "python3 objects": ("debian", ["python3", "-c", objects]),
        "sqlite3": ("debian", ["sqlite3", ":memory:", sql]),
        "perl": ("debian", ["perl", "-e", perl]),
        "gawk": ("debian", ["gawk", "{for(i=1;i<=NF;i++) a[$i]++} END{for(i in a) n+=a[i]; print n}", str(text)]),
        "gcc's cc1 -O2": ("flat", ["cc1", "-O2", "-quiet", "-o", "/dev/null", str(source)]),
        "python3 pass": ("flat", ["python3", "-c", "pass"]),
        "bash true": ("flat", ["bash", "-c", "true"]),
    }


def guest_program(sysroot: str, name: str) -> str:
    """The path of a program; cc1 is not among those that users start."""
    inside = sorted(Path(sysroot).glob(f"usr/libexec/gcc/riscv64-linux-gnu/*/{name}"))
    return str(inside[-1]) if inside else f"{sysroot}/usr/bin/{name}"


def show(rows: list[Row]) -> None:
    """The table and the means."""
    print(f"{'program':<17}{'native':>8}{'qemu':>8}{'cold':>8}{'warm':>8}  {'cold/qemu':>9}{'warm/qemu':>11}{'warm/native':>13}")

    def number(value: float, width: int) -> str:
        return f"{'-':>{width}}" if math.isnan(value) else f"{value:>{width}.2f}"

    for row in rows:
        print(f"{row.name:<17}{number(row.native, 8)}{row.qemu:>8.2f}{row.cold:>8.2f}{row.warm:>8.2f}  {row.cold / row.qemu:>9.2f}"
              f"{row.warm / row.qemu:>11.2f}{number(row.warm / row.native, 13)}")  # fmt: skip
    for kind in dict.fromkeys(row.kind for row in rows):
        chosen = [row for row in rows if row.kind == kind]
        native = [r.warm / r.native for r in chosen if not math.isnan(r.native)]
        print(f"geometric mean, {kind}: cold/qemu {geometric([r.cold / r.qemu for r in chosen]):.2f}, warm/qemu "
              f"{geometric([r.warm / r.qemu for r in chosen]):.2f}, warm/native {geometric(native):.2f}")  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--sysroot", default=os.environ.get("POLYVM_SYSROOT", ""))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        empty = folder / "empty"
        subprocess.run([sys.executable, "-m", "polyvm", "demo"], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "POLYVM_CACHE": str(empty), "POLYVM_JIT": "off"})  # fmt: skip
        for kind, table in (("integer", INTEGER), ("floating", FLOATING)):
            for program, rounds in table.items():
                if not only or program in only:
                    guest, native = build(program, folder)
                    words = [str(rounds)]
                    rows.append(measure(Row(program, kind), [str(guest), *words], ["qemu-riscv64", str(guest), *words],
                                        [str(native), *words], empty, folder))  # fmt: skip
        for program, (kind, words) in (debian(folder) if options.sysroot else {}).items():
            if only and program not in only:
                continue
            guest = [guest_program(options.sysroot, words[0]), *words[1:]]
            host = shutil.which(words[0])
            found = [host, *words[1:]] if host else None
            rows.append(measure(Row(program, kind), ["-L", options.sysroot, *guest], ["qemu-riscv64", "-L", options.sysroot, *guest],
                                found, empty, folder))  # fmt: skip
    show(rows)
    if options.json:
        options.json.write_text(json.dumps([vars(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
