"""What is compiled after a guest's end, by a process that nobody waits for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from polyvm.codegen import cache
from polyvm.engine import linger
from tests.guests import GUESTS, Guest

if TYPE_CHECKING:
    from pathlib import Path

FUNCTIONS = 200
MAIN = """
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    int status = 0;
    pid_t child = argc > 1 ? fork() : 0;
    if (child)
        return waitpid(child, &status, 0) != child || status;
    unsigned long s = 1;
    for (int i = 0; i < 3000; i++)
        for (int j = 0; j < COUNT; j++)
            s = functions[j](s, i);
    printf("%lx\\n", s);
    return 0;
}
"""


def flat() -> str:
    """Much code, none of which is executed for long."""
    text = [
        f"__attribute__((noinline)) static unsigned long f{i}(unsigned long s, int n) {{ if (s & {1 << i % 20}) s ^= s >> {i % 13 + 3};"
        f" else s += n * {i}ul; if (n % {i % 7 + 2} == 1) s = s * 6364136223846793005ul + {i}; return s ^ s >> 29; }}\n"
        for i in range(FUNCTIONS)
    ]
    table = ", ".join(f"f{i}" for i in range(FUNCTIONS))
    return "".join(text) + f"static unsigned long (*functions[])(unsigned long, int) = {{ {table} }};\n#define COUNT {FUNCTIONS}\n{MAIN}"


class Place:
    """A program, and a cache that has the interpreter and its stencils only."""

    def __init__(self, guest: Guest, folder: Path) -> None:
        self.folder = folder
        self.program = guest.build(flat(), folder / "flat", "-O1", "-static")
        self.expected = subprocess.run([*guest.qemu, self.program], capture_output=True, text=True, check=True).stdout
        self.cache = folder / "cache"
        self.cache.mkdir()
        for name, data in guest.entries().items():
            (self.cache / name).write_bytes(data)

    def run(self, *words: str, seconds: str = "60") -> dict[str, Any]:
        """The counters of a run."""
        stats = self.folder / "stats"
        command = [sys.executable, "-m", "polyvm", "run", "--jit=auto:0.02", "--stats=json", "--stats-file", stats, self.program, *words]
        done = subprocess.run(command, env={**os.environ, "POLYVM_CACHE": str(self.cache), "POLYVM_LINGER": seconds}, check=True,
                              capture_output=True, text=True, timeout=100)  # fmt: skip
        assert (done.stdout, done.stderr) == (self.expected, "")
        return json.loads(stats.read_text())  # type: ignore[no-any-return]

    @property
    def lingers(self) -> bool:
        """True if a process does, now."""
        with cache.making(linger.NAME, str(self.cache), wait=False) as lock:
            return lock.busy

    def wait(self) -> None:
        deadline = time.monotonic() + 100
        while self.lingers:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture(params=GUESTS, ids=str)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path)


def test_what_a_run_leaves_hot_is_compiled_after_it_for_the_next_one(place: Place) -> None:
    first = place.run()
    assert place.lingers  # the run has ended, though, and its output's pipes are closed
    place.wait()
    second = place.run()
    assert second["regions_from_disk"] > first["regions"] + 10
    assert second["interpreted"] * 4 < first["interpreted"]


def test_a_child_of_the_guest_leaves_its_code_compiled_too(place: Place) -> None:
    place.run("fork")
    place.wait()
    assert place.run()["regions_from_disk"] > 10


def test_nothing_is_compiled_after_the_end_where_that_is_not_wanted(place: Place) -> None:
    for seconds in ("0", "-1"):
        place.run(seconds=seconds)
        assert not place.lingers


def test_one_process_lingers_at_a_time(place: Place) -> None:
    with cache.making(linger.NAME, str(place.cache)):
        place.run()
        before = {path.name for path in place.cache.iterdir()}
        time.sleep(1)
        assert {path.name for path in place.cache.iterdir()} == before


def test_it_ends_when_its_time_is_over(place: Place) -> None:
    place.run(seconds="0.3")
    began = time.monotonic()
    place.wait()
    assert time.monotonic() - began < 30  # a region that is being compiled then is not waited for


@pytest.mark.parametrize(("text", "seconds"), [("", 30.0), ("5", 5.0), ("0.5", 0.5), ("0", 0.0), ("-3", 0.0), ("nan", 0.0), ("inf", 3600.0), ("soon", 30.0)])
def test_the_setting(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYVM_LINGER", text)
    assert linger.allowed() == seconds
