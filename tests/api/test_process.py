"""`polyvm.run` and `polyvm.Process`."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

import polyvm
from polyvm.errors import NotElf, UsageError
from tests.guests import GUESTS, Guest

HELLO = str(Path(polyvm.demo_program()).with_name("hello"))


@pytest.fixture(scope="module", params=GUESTS, ids=str)
def counter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that counts in a global variable for ever."""
    guest: Guest = request.param
    source = '#include <stdio.h>\nvolatile long n; int main(){printf("%p\\n",(void*)&n); fflush(stdout); for(;;) n++;}'
    return str(guest.build(source, tmp_path_factory.mktemp("guest") / "counter", "-O1", "-static"))


def test_run_collects_output_and_counts() -> None:
    done = polyvm.run([HELLO], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Hello from riscv64\n", b"")
    assert done.instructions == polyvm.run([HELLO], capture_output=True).instructions > 5
    assert not done.exhausted


def test_a_budget_ends_it(counter: str) -> None:
    done = polyvm.run([counter], capture_output=True, max_instructions=3_000_000)
    assert (done.returncode, done.exhausted, done.instructions) == (124, True, 3_000_000)


def test_a_stopped_process_can_be_looked_into(counter: str) -> None:
    with polyvm.Process([counter], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        address = int(process.stdout.readline(), 16)
        time.sleep(0.2)
        process.stop()
        first = int.from_bytes(process.read_memory(address, 8), "little")
        assert first > 0
        assert int.from_bytes(process.read_memory(address, 8), "little") == first
        registers = process.registers()
        assert registers["pc"] > 0
        assert registers["sp"] > 0
        name = "s1" if "s1" in registers else "x9"
        process.set_register(name, 7)
        assert process.registers()[name] == 7
        process.set_register(name, registers[name])
        process.write_memory(address, bytes(8))
        process.resume()
        time.sleep(0.1)
        with process.paused():
            assert int.from_bytes(process.read_memory(address, 8), "little") > 0
            assert len(process.threads()) == 1
        process.kill()
        assert process.wait() == -signal.SIGKILL


def test_a_process_may_start_stopped() -> None:
    with polyvm.Process([HELLO], stdout=subprocess.PIPE, stopped=True) as process:
        assert process.instructions == 0
        assert process.stopped
        process.resume()
        assert process.communicate()[0] == b"Hello from riscv64\n"


def test_errors_are_raised_in_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        polyvm.run([tmp_path / "absent"])
    text = tmp_path / "text"
    text.write_text("text")
    text.chmod(0o755)
    with pytest.raises(NotElf):
        polyvm.run([text])
    with pytest.raises(UsageError):
        polyvm.Process([])


def test_a_timeout_kills_it(counter: str) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        polyvm.run([counter], capture_output=True, timeout=0.5)
