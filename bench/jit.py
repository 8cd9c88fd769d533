"""The JIT beside qemu-user and native code.

    python bench/jit.py [--guest riscv64|aarch64] [--only NAME-OR-KIND,…] [--repeat N] [--sysroot DIR] [--json FILE]

For each program one run with only the interpreter and its stencils in the cache (cold); further ones until one compiles nothing new
(at most four), each after what the one before left hot was compiled (at most 30 seconds, $POLYVM_LINGER); then the best of N that
find it all (warm); and the best of two of qemu-GUEST (where that is not long) and of native code. Kinds: integer and floating are C sources of this folder; with a sysroot (scripts/sysroot) follow Debian's programs: debian,
loops that are hot for seconds; flat, much code of which nothing is hot for long; start, programs that end at once. Native is then
the host's program of that name, where there is one, which may be another version; openssl's is told by OPENSSL_ia32cap not to use
what riscv64 has no counterpart of (SHA, AES and vector instructions), but may use all beside aarch64. Outputs are compared. Where a
program measures itself for some time (openssl speed), the seconds are those of a fixed number of operations at that rate.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from interpreter import COMMAND, GUESTS, build, geometric

from polyvm.codegen.cache import making
from polyvm.engine.linger import NAME as LINGER

HERE = Path(__file__).parent
# Repetitions for two seconds or more of compiled code; qemu computes floating point in software, and takes ten times as long.
INTEGER = {
    "sieve": 900, "sort": 260, "matmul": 2000, "crc": 5600, "sha256": 3700, "fib": 2600, "strhash": 74000, "vm": 1200, "list": 11000,
    "callback": 660, "text": 5000, "json": 10000, "lz": 1300, "queens": 4000, "hash": 9000, "life": 14000,
}  # fmt: skip
FLOATING = {"nbody": 1600, "mandelbrot": 2300, "spectral": 10000, "fft": 12000, "lu": 1060}
POLYVM = [*COMMAND, "run"]
WARM_UPS = 4
_LONG = 8  # seconds; qemu is not asked twice for that
NO_HELP = {"OPENSSL_ia32cap": "0:0"}
KEY = "00112233445566778899aabbccddeeff"


class Program(NamedTuple):
    """How to run it: on the guest's side and, if there is such a program, on the host's."""

    name: str
    kind: str
    guest: list[str]
    native: list[str] | None = None
    same: bool = False  # native's output is the guest's
    variables: dict[str, str] = {}
    native_variables: dict[str, str] = {}
    rate: tuple[str, float] | None = None  # what finds operations a second in the output; how many operations are a run


class Row:
    """Times of one program, in seconds."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        self.cold = self.warm = self.qemu = self.native = math.nan
        self.warm_ups = self.regions = 0


class Runner:
    """Runs commands for `guest` in `folder`; `empty` is a cache with the interpreter and its stencils."""

    def __init__(self, folder: Path, guest: str, sysroot: str, repeat: int) -> None:
        self.folder, self.guest, self.sysroot, self.repeat = folder, guest, sysroot, repeat
        self.empty, self.cache, self.stats = folder / "empty", folder / "cache", folder / "stats"
        subprocess.run([*COMMAND, "demo", guest], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "POLYVM_CACHE": str(self.empty), "POLYVM_JIT": "stencil:0"})  # fmt: skip

    def timed(self, program: Program, command: list[str], variables: dict[str, str]) -> tuple[float, bytes]:
        """Seconds, and standard output."""
        began = time.perf_counter()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=self.folder,
                              check=True, env={**os.environ, **variables})  # fmt: skip
        seconds = time.perf_counter() - began
        if program.rate is not None:
            pattern, operations = program.rate
            found = re.search(pattern.encode(), done.stdout)
            if found is None:
                raise SystemExit(f"{program.name}: no rate in {done.stdout!r}")
            return sum(operations / float(rate) for rate in found.groups()), b""
        return seconds, done.stdout

    def measure(self, program: Program) -> Row:
        """Run it in all ways; the outputs must agree."""
        row = Row(program.name, program.kind)
        shutil.rmtree(self.cache, ignore_errors=True)
        shutil.copytree(self.empty, self.cache)
        options = ["-L", self.sysroot] if self.sysroot else []
        # For the guest: what Python and others heed is not for polyvm's own Python.
        options += [word for name, value in program.variables.items() for word in ("-E", f"{name}={value}")]
        outputs: list[bytes] = []

        def run(command: list[str], variables: dict[str, str]) -> float:
            seconds, output = self.timed(program, command, variables)
            outputs.append(output)
            return seconds

        def guest_run() -> float:
            seconds = run(guest, cache)
            with making(LINGER, str(self.cache)):
                return seconds  # nothing of it is compiled any more

        guest = [*POLYVM, "--stats=json", f"--stats-file={self.stats}", *options, *program.guest]
        cache = {"POLYVM_CACHE": str(self.cache)}
        row.cold = guest_run()
        while self.compiled() and row.warm_ups < WARM_UPS:
            guest_run()
            row.warm_ups += 1
        row.regions = json.loads(self.stats.read_text())["regions"]
        times = self.repeat * (3 if program.kind == "start" else 1)
        row.warm = min(guest_run() for _ in range(times))
        fewer = min(2, times) if program.kind != "start" else times
        peer = [f"qemu-{self.guest}", *options, *program.guest]
        row.qemu = run(peer, {})
        if row.qemu < _LONG:
            row.qemu = min([row.qemu, *(run(peer, {}) for _ in range(fewer - 1))])
        if program.native is not None:
            native = [self.timed(program, program.native, {**program.variables, **program.native_variables}) for _ in range(fewer)]
            row.native = min(seconds for seconds, _ in native)
            outputs += [output for _, output in native if program.same]
        if any(output != outputs[0] for output in outputs):
            raise SystemExit(f"{program.name}: the outputs differ")
        return row

    def compiled(self) -> bool:
        """True if the last run made new code."""
        counts = json.loads(self.stats.read_text())
        return counts["regions"] > counts["regions_from_disk"]


# -- programs -------------------------------------------------------------------------------------------------------------


def own(name: str, kind: str, rounds: int, folder: Path, guest: str) -> Program:
    """A C program of this folder."""
    cross, native = build(name, folder, guest)
    return Program(name, kind, [str(cross), str(rounds)], [str(native), str(rounds)], same=True)


def prepare(folder: Path) -> None:
    """What Debian's programs work on, the same in each run."""
    rng = random.Random(1)
    words = ["".join(rng.choices("etaoinshrdlucmfwypvbgkjqxz", range(26, 0, -1), k=rng.randint(2, 9))) for _ in range(3000)]
    weights = [1 / (i + 3) for i in range(len(words))]
    lines: list[str] = []
    for i in range(120_000):
        chosen = rng.choices(words, weights, k=rng.randint(4, 12))
        lines.append(" ".join(chosen) + f" {i * 7919 % 100_003}")
    text = "\n".join(lines) + "\n"
    (folder / "text").write_text(text)
    (folder / "small").write_text(text[: len(text) // 4])
    (folder / "data").write_bytes(rng.randbytes(1 << 20) * 384)
    (folder / "source.c").write_text("".join(
        f"int f{i}(int a, int b) {{ int s = 0; for (int i = 0; i < a; i++) {{ s += i * b ^ {i}; if (s & {i}) s -= b; }} return s; }}\n"
        for i in range(70)
    ))  # fmt: skip
    for name, command in (("text.xz", ["xz", "-kc", "-1"]), ("text.gz", ["gzip", "-nkc"])):
        with (folder / name).open("wb") as file:
            subprocess.run([*command, "text"], cwd=folder, stdout=file, check=True)
    _repository(folder, rng, lines)


def _repository(folder: Path, rng: random.Random, lines: list[str]) -> None:
    """A repository with some history."""
    if shutil.which("git") is None:
        return
    stream: list[str] = []
    files = {f"dir{i % 7}/file{i}": lines[i * 100 : i * 100 + 100] for i in range(60)}
    for commit in range(3500):
        message = f"change {commit}\n"
        stream.append(
            f"commit refs/heads/main\ncommitter A <a@b> {1_700_000_000 + commit * 60} +0000\ndata {len(message)}\n{message}"
        )
        for name in list(files) if commit == 0 else rng.sample(sorted(files), 3):
            for _ in range(4):
                files[name][rng.randrange(100)] = rng.choice(lines)
            content = "\n".join(files[name]) + "\n"
            stream.append(f"M 100644 inline {name}\ndata {len(content)}\n{content}")
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", "repository"], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    subprocess.run(
        ["git", "--git-dir=repository", "fast-import", "--quiet"], cwd=folder, check=True, input="\n".join(stream).encode()
    )


LUA = """local t = {} for i = 1, 16000000 do t[i % 1000] = (t[i % 1000] or 0) + i % 7 end
local s = 0 for _, v in pairs(t) do s = s + v end print(s)
local parts = {} for i = 1, 300000 do parts[#parts + 1] = string.format("%d:%s", i, tostring(i * 3)) end
print(#table.concat(parts), select(2, table.concat(parts):gsub("1%d", "")))"""
PERL = """my %h; for my $i (1..6000000) { $h{$i % 1000} .= chr(65 + $i % 26) if $i % 3; }
my $t = join("", map { $h{$_} } sort keys %h); my $n = () = $t =~ /[AEIOU]./g; print length($t), " $n\\n";"""
GAWK = """{ for (i = 1; i <= NF; i++) { count[$i]++; total += length($i) } if ($0 ~ /e.*[0-9]5$/) five++ }
END { for (w in count) n += count[w] * count[w]; print n, total, five }"""
SQL = """create table t (id integer primary key, name text, value integer);
with recursive c(x) as (select 1 union all select x + 1 from c where x < 200000)
insert into t select x, 'name' || (x * 7919 % 10007), x * x % 1009 from c;
create index i on t (name);
select count(*), sum(a.value * b.value) from t a join t b on a.name = b.name where a.value < 300 and b.id % 3 = 0;
select name, count(*), avg(value) from t group by name order by 3 desc, 1 limit 5;
with recursive c(x) as (select 1 union all select x + 1 from c where x < 1500000) select sum(x * x), max(x % 1013) from c;"""
MODULES = "import json, re, argparse, asyncio, unittest, decimal, email, http.client, logging, sqlite3, typing, xml.dom.minidom; print(len(dir(json)))"


def debian() -> list[tuple[str, str, list[str], bool, dict[str, str], tuple[str, float] | None]]:
    """Name, kind, words, whether another version prints the same, variables and rate of each of Debian's programs."""
    primes = [str((1 << bits) - 1) for bits in (2203, 2281)]
    python = str(HERE / "programs" / "python.py")
    locale = {"LC_ALL": "C"}
    git = {"HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_DIR": "repository", "GIT_PAGER": "cat", "LC_ALL": "C"}
    compiles = {"PYTHONPYCACHEPREFIX": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    mac = ["openssl", "mac", "-cipher", "AES-128-CBC", "-macopt", f"hexkey:{KEY}", "-in", "data", "CMAC"]
    found: list[tuple[str, str, list[str], bool, dict[str, str], tuple[str, float] | None]] = [
        ("openssl sha256", "debian", ["openssl", "dgst", "-sha256", "-r", "data", "data"], True, {}, None),
        ("openssl sha512", "debian", ["openssl", "dgst", "-sha512", "-r", "data", "data", "data"], True, {}, None),
        ("openssl aes", "debian", mac, True, {}, None),
        ("openssl prime", "debian", ["openssl", "prime", *primes], False, {}, None),
        ("openssl rsa", "debian", ["openssl", "speed", "-mr", "-seconds", "1", "rsa2048"], False, {}, (r"\+F2:\d+:2048:([\d.]+)", 1000)),
        ("openssl ed25519", "debian", ["openssl", "speed", "-mr", "-seconds", "1", "ed25519"], False, {},
         (r"\+F6:\d+:253:Ed25519:([\d.]+):([\d.]+)", 12000)),
        ("xz", "debian", ["xz", "-kc", "-6", "-T1", "text"], False, {}, None),
        ("unxz", "debian", ["xz", "-t", "-T1"] + ["text.xz"] * 16, True, {}, None),
        ("zstd", "debian", ["zstd", "-qkc", "-14", "--single-thread", "text"], False, {}, None),
        ("bzip2", "debian", ["bzip2", "-kc"] + ["text"] * 5, True, {}, None),
        ("gzip", "debian", ["gzip", "-nkc", "-9"] + ["text"] * 10, False, {}, None),
        ("gunzip", "debian", ["gzip", "-t"] + ["text.gz"] * 56, True, {}, None),
        ("lua", "debian", ["lua5.4", "-e", LUA], True, {}, None),
        *((f"python3 {name}", "debian", ["python3", "-I", python, name, str(n)], True, {}, None)
          for name, n in (("nbody", 150), ("objects", 160), ("dumps", 1000), ("regex", 320), ("strings", 900), ("sorts", 450))),
        ("sqlite3", "debian", ["sqlite3", ":memory:", SQL], True, {}, None),
        ("perl", "debian", ["perl", "-e", PERL], True, {}, None),
        ("gawk", "debian", ["gawk", GAWK, "text", "text", "text"], True, locale, None),
        ("sort", "debian", ["sort", "--parallel=1", "-u", "-k2"] + ["text"] * 12, True, locale, None),
        ("sed", "debian", ["sed", "-E", "s/([a-z]+) ([a-z]+)/\\2 \\1/g; /9$/d; y/abc/ABC/", "text", "small"], True, locale, None),
        ("grep", "debian", ["grep", "-cE", "([a-z][a-z])[a-z]*\\1", "text", "small"], True, locale, None),
        ("gcc's cc1 -O2", "flat", ["cc1", "-O2", "-quiet", "-o", "/dev/null", "source.c"], False, {}, None),
        ("python3 imports", "flat", ["python3", "-c", MODULES], False, compiles, None),
        ("git log", "flat", ["git", "log", "-p", "--stat", "--no-color"], False, git, None),
        ("git pack", "flat", ["git", "-c", "pack.threads=1", "pack-objects", "-q", "--all", "--no-reuse-delta", "--stdout"], False, git, None),
        ("bash true", "start", ["bash", "-c", "true"], True, {}, None),
        ("python3 pass", "start", ["python3", "-c", "pass"], True, {}, None),
    ]  # fmt: skip
    return found


def guest_program(sysroot: str, name: str) -> str:
    """The path of a program; cc1 is not among those that users start."""
    inside = sorted(Path(sysroot).glob(f"usr/lib*/gcc/*-linux-gnu/*/{name}"))
    return str(inside[-1]) if inside else f"{sysroot}/usr/bin/{name}"


def host_program(name: str) -> str | None:
    """The path of the host's, not of something of the same name that a user put before it."""
    return shutil.which(name, path="/usr/local/bin:/usr/bin:/bin") or shutil.which(name)


def chosen(only: set[str], folder: Path, guest: str, sysroot: str) -> list[Program]:
    """The programs to measure, built where they have to be."""
    from polyvm.api.programs import demo_program

    def wanted(name: str, kind: str) -> bool:
        return not only or name in only or kind in only

    found: list[Program] = []
    for kind, table in (("integer", INTEGER), ("floating", FLOATING)):
        found += [own(name, kind, rounds, folder, guest) for name, rounds in table.items() if wanted(name, kind)]
    if wanted("hello", "start"):
        found.append(Program("hello", "start", [str(Path(demo_program(guest)).with_name("hello"))]))
    names = [entry for entry in debian() if sysroot and wanted(entry[0], entry[1])]
    if any(kind != "start" for _, kind, *_ in names):
        prepare(folder)
    for name, kind, words, same, variables, rate in names:
        host = host_program(words[0])
        native = [host, *words[1:]] if host else None
        help_ = NO_HELP if words[0] == "openssl" and guest == "riscv64" else {}
        command = [guest_program(sysroot, words[0]), *words[1:]]
        found.append(Program(name, kind, command, native, same, variables, help_, rate))
    return found


# -- output ---------------------------------------------------------------------------------------------------------------


def number(value: float, width: int, digits: int = 2) -> str:
    """`value`, or a dash."""
    return f"{'-':>{width}}" if math.isnan(value) else f"{value:>{width}.{digits}f}"


HEAD = f"{'program':<17}{'native':>8}{'qemu':>8}{'cold':>8}{'warm':>8}  {'cold/qemu':>9}{'qemu/warm':>11}{'warm/native':>13}{'warm-ups':>10}"


def line(row: Row) -> str:
    """A row of the table."""
    return (f"{row.name:<17}{number(row.native, 8)}{row.qemu:>8.2f}{row.cold:>8.2f}{row.warm:>8.2f}  {row.cold / row.qemu:>9.2f}"
            f"{row.qemu / row.warm:>11.2f}{number(row.warm / row.native, 13)}{row.warm_ups:>10}")  # fmt: skip


def means(rows: list[Row], *kinds: str) -> tuple[float, float, float]:
    """Geometric means of cold/qemu, qemu/warm and warm/native."""
    some = [row for row in rows if row.kind in kinds]
    native = [row.warm / row.native for row in some if not math.isnan(row.native)]
    return geometric([row.cold / row.qemu for row in some]), geometric([row.qemu / row.warm for row in some]), geometric(native)


class Bar(NamedTuple):
    """Something to reach."""

    name: str
    wanted: str
    measured: str
    met: bool


def bars(rows: list[Row], guest: str) -> list[Bar]:
    """Those that these rows say something about."""
    found: list[Bar] = []

    def bar(name: str, value: float, least: float = math.nan, most: float = math.nan, digits: int = 2, unit: str = "") -> None:
        if not math.isnan(value):
            met = value <= most if math.isnan(least) else value >= least
            text = f"<= {most:g}{unit}" if math.isnan(least) else f">= {least:g}{unit}"
            found.append(Bar(name, text, f"{value:.{digits}f}{unit}", met))

    groups = {"integer": 2.2, "floating": 3.0 if guest == "aarch64" else 4.0}
    if any(row.kind == "debian" for row in rows):
        groups["integer + debian"] = 2.2
    for name, least in groups.items():
        _, qemu, native = means(rows, *name.split(" + "))
        bar(f"{name}, warm/native", native, most=1.8)
        bar(f"{name}, qemu/warm", qemu, least=least)
    long = [row for row in rows if row.qemu >= 1]
    for name, limit, times in (("warm", 1.0, [row.warm for row in long]), ("cold", 1.3, [row.cold for row in long])):
        slower = [
            f"{row.name} {seconds / row.qemu:.2f}" for row, seconds in zip(long, times, strict=True) if seconds > limit * row.qemu
        ]
        if long:
            found.append(
                Bar(
                    f"of {len(long)} that take 1 s in qemu, {name} over {limit:g} x",
                    "none",
                    ", ".join(slower) or "none",
                    not slower,
                )
            )
    for row in rows:
        if row.name == "hello":
            bar("hello, warm", row.warm * 1000, most=150, digits=0, unit=" ms")
        elif row.kind == "start":
            bar(f"{row.name}, cold/qemu", row.cold / row.qemu, most=3)
            bar(f"{row.name}, warm/qemu", row.warm / row.qemu, most=1.5)
    return found


def show(rows: list[Row], guest: str) -> None:
    """The means and the bars."""
    groups = [(kind, (kind,)) for kind in dict.fromkeys(row.kind for row in rows)]
    if {"integer", "debian"} <= {row.kind for row in rows}:
        groups.append(("integer + debian", ("integer", "debian")))
    for name, kinds in groups:
        cold, qemu, native = means(rows, *kinds)
        print(f"geometric mean, {name}: cold/qemu {cold:.2f}, qemu/warm {qemu:.2f}, warm/native {native:.2f}")
    for bar in bars(rows, guest):
        print(f"{'met' if bar.met else 'NOT':<4} {bar.name}: {bar.wanted}; {bar.measured}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guest", choices=GUESTS, default=GUESTS[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sysroot", default=os.environ.get("POLYVM_SYSROOT", ""))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sysroot = str(Path(options.sysroot).resolve()) if options.sysroot else ""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        runner = Runner(Path(name), options.guest, sysroot, options.repeat)
        programs = chosen(set(filter(None, options.only.split(","))), Path(name), options.guest, sysroot)
        print(HEAD)
        for program in programs:
            rows.append(runner.measure(program))
            print(line(rows[-1]), flush=True)
    show(rows, options.guest)
    if options.json:
        record = {"rows": [vars(row) for row in rows], "bars": [bar._asdict() for bar in bars(rows, options.guest)]}
        options.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
