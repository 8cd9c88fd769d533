"""Commands other than `run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polyvm.api.programs import demo_program
from polyvm.cli import main
from tests.guests import GUESTS

HELLO = str(Path(demo_program()).with_name("hello"))


@pytest.mark.parametrize("guest", [guest.name for guest in GUESTS])
def test_demo_prints_the_programs_output_and_the_count(guest: str) -> None:
    done = subprocess.run([sys.executable, "-m", "polyvm", "demo", guest], capture_output=True, text=True, timeout=60, check=True)
    assert "fibonacci(27):        196418" in done.stdout
    assert f"{guest} instructions in" in done.stdout
    native = subprocess.run([f"qemu-{guest}", demo_program(guest)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(native.stdout)


def test_disasm_agrees_with_objdump(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["disasm", demo_program()]) == 0
    ours = [line.split() for line in capsys.readouterr().out.splitlines()]
    from tests.isa.riscv64.binutils import listing

    theirs = listing(demo_program())
    shown = {
        int(words[0].rstrip(":"), 16): words
        for words in ours
        if words and words[0].rstrip(":").isalnum() and words[0].endswith(":")
    }
    common = [address for address in theirs if address in shown]
    assert len(common) > 50
    agree = sum(theirs[a][1].split()[0] in shown[a] for a in common)
    assert agree == len(common)


def test_info_lists_extensions_and_cache(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert "riscv64" in text
    assert "Zicond" in text


def test_cache_can_be_cleared(tmp_path: Path) -> None:
    environment = {**os.environ, "POLYVM_CACHE": str(tmp_path / "cache")}

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "polyvm", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout

    assert run("run", HELLO) == "Hello from riscv64\n"
    assert list((tmp_path / "cache").rglob("*"))
    run("cache")
    run("cache", "clear")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_dump_shows_the_region_at_an_address(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "sum"
    source = "int sum(int *a, int n) { int s = 0; for (int i = 0; i < n; i++) s += a[i]; return s; } int main(void) { return 0; }"
    command = ["riscv64-linux-gnu-gcc", "-O1", "-static", "-x", "c", "-", "-o", program]
    subprocess.run(command, input=source, text=True, check=True)
    symbols = subprocess.run(["riscv64-linux-gnu-nm", program], capture_output=True, text=True, check=True).stdout
    address = next(line.split()[0] for line in symbols.splitlines() if line.endswith(" T sum"))
    for kind, wanted in (
        ("region", "1 accesses without checks"),
        ("region-llvm", "define"),
        ("region-opt", "define"),
        ("region-asm", "region:"),
    ):
        assert main(["run", f"--dump={kind}", "--dump-at", f"0x{address}", str(program)]) == 0
        assert wanted in capfd.readouterr().out
    assert main(["run", "--dump=region", "--dump-at", "0x10", str(program)]) == 2


@pytest.mark.parametrize("kind", ["decode", "ir", "llvm", "asm"])
def test_dump_shows_the_entry_point(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", f"--dump={kind}", HELLO]) == 0
    text = capfd.readouterr().out
    assert {"decode": "auipc", "ir": "= add i64", "llvm": "define", "asm": "h_"}[kind] in text


@pytest.mark.parametrize(
    "words",
    [["run"], ["run", "--nonsense", HELLO], ["run", "--stats=xml", HELLO], ["nonsense"], ["run", "-L", "/absent/dir", HELLO]],
)
def test_mistakes_end_with_status_2_and_a_sentence(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "Traceback" not in capfd.readouterr().err


def test_help_mentions_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    from polyvm.cli.options import RUN

    assert main(["run", "--help"]) == 0
    text = capsys.readouterr().out
    for option in RUN:
        assert option.flags[0] in text


def test_stats_table(tmp_path: Path) -> None:
    target = tmp_path / "stats"
    command = [sys.executable, "-m", "polyvm", "run", "--stats", f"--stats-file={target}", HELLO]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert "instructions" in target.read_text()


def test_accel_says_what_is_here_and_why_not_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    """Each accelerator has a line; one that is missing has a reason; with --json it is data."""
    assert main(["accel"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["accelerator", "here"]
    assert main(["accel", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == [line.split()[0] for line in lines[1 : len(entries) + 1]]
    assert all(entry["present"] or entry["reason"] for entry in entries)
    assert main(["accel", "--features"]) == 0
    assert "  no   " in capsys.readouterr().out
