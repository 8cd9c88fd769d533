"""`polyvm profile`, the perf map, and the counters by tier: what they say of a program of which it is known."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent.parent.parent / "bench" / "programs"


@pytest.fixture(scope="session")
def fib(tmp_path_factory: pytest.TempPathFactory) -> str:
    program = tmp_path_factory.mktemp("fib") / "fib"
    command = ["riscv64-linux-gnu-gcc", "-O2", "-static", "-o", program, PROGRAMS / "fib.c"]
    subprocess.run(command, check=True)
    return str(program)


def extent(program: str, name: str) -> tuple[int, int]:
    """Where binutils say that a function is."""
    names = subprocess.run(["riscv64-linux-gnu-nm", "-S", program], capture_output=True, text=True, check=True).stdout
    words = next(line.split() for line in names.splitlines() if line.split()[-1] == name and len(line.split()) == 4)
    return int(words[0], 16), int(words[0], 16) + int(words[1], 16)


def polyvm(*words: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polyvm", *words]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=200)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def functions(text: str) -> list[tuple[float, int, str]]:
    """Share, lowest address and name, in the order of the table."""
    found = re.findall(r"^ +([\d.]+)% .* (0x[0-9a-f]+)[-0-9a-fx]* +(\S+:\S+)$", text.split("region or block")[0], re.MULTILINE)
    return [(float(share), int(low, 16), name) for share, low, name in found]


@pytest.mark.parametrize("how", [[], ["--exact"], ["--jit=quick"]])
def test_the_hottest_function_is_the_one_that_is(fib: str, how: list[str]) -> None:
    done = polyvm("profile", *how, fib, "40")
    assert done.stdout == subprocess.run(["qemu-riscv64", fib, "40"], capture_output=True, text=True, check=True).stdout
    share, low, name = functions(done.stderr)[0]
    begin, end = extent(fib, "fib")
    assert name == "fib:fib"
    assert share > 95
    assert begin <= low < end


def test_the_status_is_the_guests(tmp_path: Path) -> None:
    program = tmp_path / "seven"
    command = ["riscv64-linux-gnu-gcc", "-static", "-x", "c", "-", "-o", program]
    subprocess.run(command, input="int main(void) { return 7; }", text=True, check=True)
    polyvm("profile", str(program), status=7)


def test_folded_stacks_add_up_to_what_was_executed(fib: str, tmp_path: Path) -> None:
    target, kept = tmp_path / "folded", tmp_path / "profile"
    polyvm("profile", "--exact", "--record", str(kept), "--flame", str(target), fib, "3")
    counters = tmp_path / "counters"
    polyvm("run", "--stats=json", "--stats-file", str(counters), fib, "3")
    lines = [line.rpartition(" ") for line in target.read_text().splitlines()]
    total = sum(int(count) for _, _, count in lines)
    assert abs(total - json.loads(counters.read_text())["instructions"]) < 1000
    inside = sum(int(count) for stack, _, count in lines if stack.startswith("fib;fib;"))
    assert inside > 0.95 * total
    # The same from the file.
    again = tmp_path / "again"
    polyvm("profile", "--load", str(kept), "--flame", str(again))
    assert again.read_text() == target.read_text()


@pytest.mark.parametrize("ending", ["html", "json"])
def test_flame_graphs_of_the_library(fib: str, tmp_path: Path, ending: str) -> None:
    pytest.importorskip("pyinstrument")
    target = tmp_path / f"flame.{ending}"
    polyvm("profile", "--flame", str(target), fib, "20")
    text = target.read_text()
    assert "fib" in text
    if ending == "json":
        names = [frame["name"] for frame in json.loads(text)["shared"]["frames"]]
        assert "fib" in names


def test_without_the_library_there_is_a_sentence_and_no_run(fib: str, tmp_path: Path) -> None:
    hidden = tmp_path / "pyinstrument"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = polyvm("profile", "--flame", str(tmp_path / "x.html"), fib, "1", status=2, PYTHONPATH=path)
    assert done.stdout == ""
    assert "polyvm[profile]" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "status"),
    [(["profile"], 2), (["profile", "--load", "a", "b"], 2), (["profile", "--top=x", "a"], 2), (["profile", "absent"], 127)],
)
def test_mistakes_are_one_sentence(words: list[str], status: int) -> None:
    assert len(polyvm(*words, status=status).stderr.splitlines()) == 1


def test_the_perf_map_has_the_guests_symbols(fib: str) -> None:
    command = [sys.executable, "-m", "polyvm", "run", "--jit=auto:1", fib, "200"]
    with subprocess.Popen(command, env={**os.environ, "POLYVM_PERF": "1"}, stdout=subprocess.DEVNULL) as process:
        assert process.wait(100) == 0
    path = Path(f"/tmp/perf-{process.pid}.map")
    lines = [line.split(" ", 2) for line in path.read_text().splitlines()]
    path.unlink()
    regions = [(int(start, 16), int(size, 16), name) for start, size, name in lines if name.startswith("riscv64:")]
    assert any(re.fullmatch(r"riscv64:fib:fib(\+0x[0-9a-f]+)? \[(quick|full)\]", name) for _, _, name in regions)
    assert all(size > 0 for _, size, _ in regions)


def test_tiers_add_up(fib: str, tmp_path: Path) -> None:
    counters = tmp_path / "counters"
    polyvm("run", "--stats=json", "--stats-file", str(counters), fib, "150")
    found = json.loads(counters.read_text())
    tiers = found["tiers"]
    assert sum(tier["instructions"] for tier in tiers.values()) == found["instructions"]
    assert tiers["interpreted"]["instructions"] == found["interpreted"]
    assert found["regions_quick"] + found["regions_full"] == found["regions"]
    assert found["queue_most"] >= found["queue"]
    assert found["disk_pages"] >= found["disk_page_hits"]


@pytest.mark.parametrize(("mode", "only"), [("off", "interpreted"), ("quick:1", "quick"), ("full:1", "full")])
def test_a_mode_has_its_tier_only(fib: str, tmp_path: Path, mode: str, only: str) -> None:
    counters = tmp_path / "counters"
    polyvm("run", f"--jit={mode}", "--stats=json", "--stats-file", str(counters), fib, "200")
    tiers = json.loads(counters.read_text())["tiers"]
    assert tiers[only]["instructions"] > 0
    assert all(not tiers[name]["instructions"] for name in tiers if name not in (only, "interpreted"))
