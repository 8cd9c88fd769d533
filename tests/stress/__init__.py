"""Programs that are hard on a translator, run in many ways at once while their cache is damaged.

    python -m tests.stress [--minutes N] [--seed S] [--jobs N] [--only NAME,…] [--guest NAME]
        [--precise]

The programs (`programs/*.c`) check themselves: faults in hot loops with all registers, code that changes, memory that other threads
close, move and cut, signals, children. Each round takes a program, arguments, a mode of the JIT and a size of the cache at random,
and its output must be what it is under qemu. Meanwhile entries of the cache vanish and are damaged, and some rounds are killed.
"""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from tests.guests import RISCV64, Guest

HERE = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in (HERE / "programs").glob("*.c")))
MODES = ("auto", "auto:0.01", "auto:0.001", "quick:0.001", "full:0.001", "quick:0", "full:0", "stencil:0", "off")
SIZES = ("0", "1", "1024", "1024")
PATIENCE = 120.0  # seconds of processor time that a round may take, of a clock while it takes none
QEMU_PATIENCE = 40.0  # the same for qemu, which takes one or two


def processor_time(process: int) -> float:
    """Seconds that a process and those that it started have run, the ones that it waited for, too."""
    parents: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path("/proc", name, "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended
        parents.setdefault(int(fields[1]), []).append(int(name))
        used[int(name)] = sum(int(ticks) for ticks in fields[11:15])
    total, waiting = 0, [process]
    while waiting:
        one = waiting.pop()
        total += used.get(one, 0)
        waiting += parents.get(one, [])
    return total / os.sysconf("SC_CLK_TCK")


def start(command: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A process in a session of its own, with pipes."""
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True)


def kill(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """End it and what it started; what it has written."""
    os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()


def patient(process: subprocess.Popen[bytes], seconds: float = PATIENCE) -> tuple[bytes, bytes]:
    """What it writes, however busy the machine is; TimeoutExpired if it takes longer or hangs."""
    used, since = 0.0, time.monotonic()
    while True:
        try:
            return process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            now = processor_time(process.pid)
            if now > used + 0.5:
                used, since = now, time.monotonic()
            if used > seconds or time.monotonic() - since > seconds:
                raise


class Round(NamedTuple):
    """What is run."""

    name: str
    words: list[str]
    mode: str
    size: str
    killed: float  # seconds after which it is, or 0

    @classmethod
    def chosen(cls, rng: random.Random, names: tuple[str, ...], scale: float) -> Round:
        """A random one. What compiles everything first, or again at each change, gets less to do."""
        name, mode = rng.choice(names), rng.choice(MODES)
        most = {"faults": 250, "code": 2500, "memory": 400}[name] * scale
        rounds = int(most * rng.choice((0.1, 0.3, 1)) / (8 if mode.endswith(":0") else 1)) + 8
        words = [str(rng.randrange(1, 1 << 20)), str(rounds)]
        if name != "memory":
            words.append(str(rng.randint(1, 4)))
        return cls(name, words, mode, rng.choice(SIZES), rng.uniform(0.2, 2) if rng.random() < 0.05 else 0.0)


class Stress:
    """The programs in `folder`, a cache that they share, and what went wrong."""

    def __init__(self, folder: Path, seed: str, *, guest: Guest = RISCV64, precise: bool = False, scale: float = 1.0) -> None:
        self.guest = guest
        self.folder, self.seed, self.precise, self.scale = folder, seed, precise, scale
        self.cache = folder / "cache"
        self.cache.mkdir()
        self.failures: list[str] = []
        self.rounds = self.damaged = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        for name in NAMES:
            command = [guest.cc, "-O2", "-Wall", "-Werror", "-static", "-pthread", "-o", folder / name]
            subprocess.run([*command, HERE / "programs" / f"{name}.c"], check=True)
        self._interpreter = guest.entries()
        for name, data in self._interpreter.items():
            (self.cache / name).write_bytes(data)

    def _environment(self, size: str) -> dict[str, str]:
        return {**os.environ, "POLYVM_CACHE": str(self.cache), "POLYVM_CACHE_SIZE": size}

    def run(self, seconds: float, jobs: int = 2, names: tuple[str, ...] = NAMES) -> None:
        """Rounds, until so many seconds are over or something goes wrong."""
        threads = [threading.Thread(target=self._work, args=(i, names, time.monotonic() + seconds)) for i in range(jobs)]
        saboteur = threading.Thread(target=self._sabotage)
        for thread in (*threads, saboteur):
            thread.start()
        for thread in threads:
            thread.join()
        self._ended.set()
        saboteur.join()

    def _work(self, job: int, names: tuple[str, ...], end: float) -> None:
        rng = random.Random(f"{self.seed}/{job}")
        while time.monotonic() < end and not self.failures:
            one = Round.chosen(rng, names, self.scale)
            failure = self.once(one)
            with self._lock:
                self.rounds += 1
                if failure:
                    self.failures.append(failure)

    def once(self, one: Round) -> str:
        """What is wrong with a round, or nothing."""
        for name, data in self._interpreter.items():  # a small cache lost it; making it takes longer than the round
            if not (self.cache / name).exists():
                (self.cache / f"{name}.{one.words[0]}").write_bytes(data)
                os.replace(self.cache / f"{name}.{one.words[0]}", self.cache / name)
        features = ["precise"] if self.precise and one.name == "memory" else []
        program = [str(self.folder / one.name), *one.words, *features]
        execs = ["exec"] if one.name == "memory" else []  # qemu's children are not emulated
        command = [sys.executable, "-m", "polyvm", "run", f"--jit={one.mode}", *program, *execs]
        expected = self._expected(program)
        if expected is None:
            return f"qemu did not end, three times: {shlex.join(program)}"
        shown = f"POLYVM_CACHE_SIZE={one.size} {shlex.join(command)}"
        process = start(command, self._environment(one.size))
        try:
            output, errors = process.communicate(timeout=one.killed) if one.killed else patient(process)
        except subprocess.TimeoutExpired:
            output, errors = kill(process)
            return "" if one.killed else f"{shown}\n  did not end; so far {output!r} {errors!r}"
        if (output, errors, process.returncode) == (expected[0], b"", 0):
            return ""
        return (f"{shown}\n  status {process.returncode}, qemu {expected[1]}\n  {output!r}\n  {errors[-2000:]!r}\n"
                f"  qemu {expected[0]!r}")  # fmt: skip

    def _expected(self, program: list[str]) -> tuple[bytes, int] | None:
        """What the program writes under qemu and its status; qemu has been seen to hang: None if it does so again and again."""
        for _ in range(3):
            process = start([*self.guest.qemu, *program])
            try:
                return patient(process, QEMU_PATIENCE)[0], process.returncode
            except subprocess.TimeoutExpired:
                kill(process)
        return None

    def _sabotage(self) -> None:
        """Damage entries of the cache, but for the interpreter and its stencils."""
        rng = random.Random(f"{self.seed}/cache")
        while not self._ended.wait(rng.uniform(0.02, 0.3)):
            found = sorted(set(os.listdir(self.cache)) - self._interpreter.keys())
            for name in rng.sample(found, min(len(found), rng.choice((1, 1, 3, 30)))):
                self._damage(self.cache / name, rng)

    def _damage(self, path: Path, rng: random.Random) -> None:
        kind = rng.randrange(4)
        try:
            if kind == 0:
                path.unlink()
            elif kind == 1:
                os.truncate(path, rng.randrange(path.stat().st_size + 1))
            elif kind == 2:
                with path.open("ab") as file:
                    file.write(rng.randbytes(rng.randrange(100)))
            else:
                with path.open("r+b") as file:
                    file.seek(rng.randrange(path.stat().st_size + 1))
                    file.write(rng.randbytes(rng.randrange(1, 20)))
            self.damaged += 1
        except OSError:
            pass  # somebody else removed it
