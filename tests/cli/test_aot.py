"""`polyvm aot`, and the profiles that it reads: what was compiled ahead of time is what a run uses."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from polyvm.api.programs import demo_program
from polyvm.engine.profile import read
from polyvm.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

CROSS = "/usr/riscv64-linux-gnu"
# 60 million instructions and more: the compiler would be started.
WORK = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static unsigned __attribute__((noinline)) mix(unsigned n) {
    unsigned h = 2166136261u;
    for (unsigned i = 0; i < n; i++) { h = (h ^ (i & 255)) * 16777619u; h ^= h >> 13; }
    return h;
}
static int order(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
int main(int argc, char **argv) {
    static int values[20000];
    unsigned sum = 0;
    for (int round = 0; round < atoi(argv[1]); round++) {
        sum += mix(2000000);
        for (int i = 0; i < 20000; i++) values[i] = (i * 7919) % 20011;
        qsort(values, 20000, sizeof(int), order);
        sum += values[100] + strlen(argv[0]) * 0;
    }
    if (argc > 2 && fork() == 0) { printf("child %u\n", mix(3000000)); fflush(stdout); _exit(0); }
    if (argc > 2) wait(0);
    printf("%u\n", sum);
    return argc > 3 ? 7 : 0;
}
"""


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, linked in both ways, and a cache that has the interpreter only."""
    folder = tmp_path_factory.mktemp("aot")
    for name, extra in (("static", ["-static"]), ("dynamic", [])):
        command = ["riscv64-linux-gnu-gcc", "-O2", *extra, "-x", "c", "-", "-o", folder / name]
        subprocess.run(command, input=WORK, text=True, check=True)
    environment = {**os.environ, "POLYVM_CACHE": str(folder / "cache")}
    subprocess.run([sys.executable, "-m", "polyvm", "run", demo_program()], env=environment, check=True, capture_output=True)
    return folder


class Workplace:
    """Commands with a cache of their own."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        shutil.copytree(programs / "cache", folder / "cache")

    def polyvm(self, *words: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "POLYVM_CACHE": str(self.folder / "cache"), **variables}
        command = [sys.executable, "-m", "polyvm", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, cwd=self.folder)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def counted(self, *words: str) -> tuple[str, dict[str, Any]]:
        """Output and counters of a run."""
        target = self.folder / "counters"
        done = self.polyvm("run", "--stats=json", "--stats-file", str(target), *words)
        return done.stdout, json.loads(target.read_text())


@pytest.fixture
def place(programs: Path, tmp_path: Path) -> Workplace:
    return Workplace(programs, tmp_path)


def qemu(*words: str) -> str:
    return subprocess.run(["qemu-riscv64", *words], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("mode", ["auto", "quick", "full"])
def test_a_run_after_training_compiles_nothing(place: Workplace, mode: str) -> None:
    program = str(place.programs / "static")
    done = place.polyvm("aot", f"--jit={mode}", program, "4")
    assert done.stdout == qemu(program, "4")
    assert "regions compiled" in done.stderr
    output, counts = place.counted(f"--jit={mode}", program, "4")
    assert output == done.stdout
    assert counts["requests"] == 0
    assert counts["regions"] == counts["regions_from_disk"] > 0
    assert counts["interpreted"] < counts["instructions"] / 4
    # Another number of rounds is the same code.
    output, counts = place.counted(f"--jit={mode}", program, "9")
    assert output == qemu(program, "9")
    assert counts["requests"] <= 1
    assert counts["regions_from_disk"] > 0


def test_libraries_are_compiled_where_the_linker_puts_them(place: Workplace) -> None:
    program = str(place.programs / "dynamic")
    profile = str(place.folder / "profile")
    place.polyvm("run", "-L", CROSS, f"--profile={profile}", program, "4")
    (image,) = read(profile)
    library = next(mapped for mapped in image.maps if os.path.basename(mapped.path).startswith("libc.so"))
    sorting = sum(block.n * block.count for pc, block in image.blocks.items() if library.start <= pc < library.end)
    assert sorting > 1_000_000
    place.polyvm("aot", "--profile", profile)
    output, counts = place.counted("-L", CROSS, program, "4")
    assert output == qemu("-L", CROSS, program, "4")
    assert counts["requests"] == 0
    assert counts["regions_from_disk"] > 0
    assert counts["interpreted"] < counts["instructions"] / 4


def test_a_profile_counts_what_is_executed(place: Workplace) -> None:
    program, profile = str(place.programs / "static"), str(place.folder / "profile")
    output, counts = place.counted(f"--profile={profile}", program, "1")
    assert output == qemu(program, "1")
    (image,) = read(profile)
    assert abs(image.instructions - counts["instructions"]) < 1000
    names = subprocess.run(["riscv64-linux-gnu-nm", "-S", program], capture_output=True, text=True, check=True).stdout
    start, size = next((int(line.split()[0], 16), int(line.split()[1], 16)) for line in names.splitlines() if line.endswith(" mix"))
    loop = max((block for pc, block in image.blocks.items() if start <= pc < start + size), key=lambda block: block.count)
    assert abs(loop.count - 2_000_000) <= 2


def test_a_forked_child_is_recorded_by_itself(place: Workplace) -> None:
    program, profile = str(place.programs / "static"), str(place.folder / "profile")
    done = place.polyvm("run", f"--profile={profile}", program, "1", "fork")
    assert done.stdout == qemu(program, "1", "fork")
    child, parent = read(profile)
    counts = [max(block.count for block in image.blocks.values()) for image in (child, parent)]
    assert abs(counts[0] - 3_000_000) < 100
    assert abs(counts[1] - 2_000_000) < 100


def test_compiling_again_finds_everything_there(place: Workplace) -> None:
    program, profile = str(place.programs / "static"), str(place.folder / "profile")
    place.polyvm("aot", "--record", profile, program, "2")
    done = place.polyvm("aot", "--profile", profile, program)
    assert "0 regions compiled" in done.stderr
    assert "there before" in done.stderr


def test_a_program_that_fails_is_compiled_all_the_same(place: Workplace) -> None:
    done = place.polyvm("aot", str(place.programs / "static"), "1", "fork", "fail")
    assert "ended with status 7" in done.stderr
    assert "regions compiled" in done.stderr


def test_static_needs_no_run(place: Workplace) -> None:
    program = str(place.programs / "dynamic")
    done = place.polyvm("aot", "--static", "-L", CROSS, program)
    assert done.stdout == ""
    output, counts = place.counted("-L", CROSS, program, "4")
    assert output == qemu("-L", CROSS, program, "4")
    assert counts["regions_from_disk"] > 0


def test_no_time_compiles_nothing(place: Workplace) -> None:
    done = place.polyvm("aot", "--budget=0.000001", str(place.programs / "static"), "1")
    assert "0 regions compiled" in done.stderr
    assert "left for lack of time" in done.stderr


def test_a_short_program_is_not_worth_it(place: Workplace) -> None:
    assert "nothing to compile" in place.polyvm("aot", str(place.programs / "static"), "0").stderr


def _damaged(profile: Path) -> dict[str, bytes]:
    good = profile.read_bytes()
    record = json.loads(gzip.decompress(good))
    other = gzip.compress(json.dumps({**record, "format": "another"}).encode())
    negative = gzip.compress(json.dumps({**record, "blocks": [[-1, 4, 1, 1, 0, 0]]}).encode())
    short = gzip.compress(json.dumps({**record, "pages": {"10000": "AAAA"}}).encode())
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0x55
    return {
        "empty": b"", "cut": good[: len(good) // 2], "flipped": bytes(flipped), "text": b"hello\n", "other": other,
        "negative": negative, "short": short, "tail": good + b"more",
    }  # fmt: skip


def test_a_damaged_profile_is_one_sentence(place: Workplace) -> None:
    profile = place.folder / "profile"
    place.polyvm("run", f"--profile={profile}", str(place.programs / "static"), "1")
    for name, data in _damaged(profile).items():
        target = place.folder / name
        target.write_bytes(data)
        with pytest.raises(UsageError):
            read(str(target))
        done = place.polyvm("aot", "--profile", str(target), status=2)
        assert len(done.stderr.splitlines()) == 1
        assert name in done.stderr


def test_blocks_that_lead_nowhere_do_no_harm(place: Workplace) -> None:
    """Whatever the numbers in a well-formed profile, a run that uses what was compiled does what it did."""
    profile = place.folder / "profile"
    program = str(place.programs / "static")
    place.polyvm("run", f"--profile={profile}", program, "1")
    record = json.loads(gzip.decompress(profile.read_bytes()))
    for i, block in enumerate(record["blocks"]):
        block[4] = block[4] + 2 if i % 3 == 0 else block[4]
        block[2] = block[2] + 3 if i % 5 == 0 else block[2]
        block[1] = block[1] + 2 if i % 7 == 0 else block[1]
    profile.write_bytes(gzip.compress(json.dumps(record).encode()))
    place.polyvm("aot", "--profile", str(profile), "--budget=20")
    output, _ = place.counted(program, "2")
    assert output == qemu(program, "2")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["aot"], 2), (["aot", "--nonsense", "x"], 2), (["aot", "-j", "0", "x"], 2), (["aot", "--jit=off", "x"], 2),
        (["aot", "--profile", "absent"], 125), (["aot", "--static", "--profile", "a", "x"], 2), (["aot", "absent"], 127),
        (["aot", "--static", "absent"], 127), (["aot", "/etc/passwd"], 126), (["aot", "--budget=no", "x"], 2),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(place: Workplace, words: list[str], status: int) -> None:
    done = place.polyvm(*words, status=status)
    assert len(done.stderr.splitlines()) == 1


def test_a_profile_of_another_program_is_refused(place: Workplace) -> None:
    profile = str(place.folder / "profile")
    place.polyvm("run", f"--profile={profile}", str(place.programs / "static"), "1")
    assert "has no run of other" in place.polyvm("aot", "--profile", profile, "other", status=2).stderr
