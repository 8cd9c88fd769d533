"""Whatever file or code it is given, polyvm answers with a guest's signal, an exit status or one sentence."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polyvm.api.programs import demo_program
from polyvm.boot.elf import ElfFile
from polyvm.engine import Core
from polyvm.errors import PolyvmError
from polyvm.mem import EXEC, READ, WRITE, Arena
from polyvm.vcpu import exits
from tests.guests import GUESTS, Guest

SEED = int(os.environ.get("POLYVM_SEED", "0")) or random.SystemRandom().getrandbits(32)
HELLO = {guest.name: Path(demo_program(guest.name)).with_name("hello") for guest in GUESTS}
POLYVM = [sys.executable, "-m", "polyvm", "run"]


def _mutate(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 4, 16))):
        at = rng.randrange(min(len(changed), 400))
        kind = rng.randrange(3)
        if kind == 0:
            changed[at] = rng.getrandbits(8)
        elif kind == 1:
            changed[at : at + 8] = rng.choice((0, 1, 0xFFFF, 1 << 31, 1 << 63, (1 << 64) - 1)).to_bytes(8, "little")
        else:
            changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed[: rng.randrange(1, len(changed))] if rng.random() < 0.2 else changed)


def test_headers_of_10000_mutated_files_give_an_error_or_are_read(tmp_path: Path) -> None:
    print(f"POLYVM_SEED={SEED}")
    rng, original, path = random.Random(SEED), HELLO["riscv64"].read_bytes(), tmp_path / "mutated"
    refused = 0
    for _ in range(10_000):
        path.write_bytes(_mutate(original, rng))
        fd = os.open(path, os.O_RDONLY)
        try:
            ElfFile(fd, str(path), ("riscv64",))
        except PolyvmError as error:
            refused += 1
            assert str(path) in str(error)
        finally:
            os.close(fd)
    assert refused > 1000


@pytest.mark.parametrize("guest", GUESTS, ids=str)
@pytest.mark.parametrize("number", range(15))
def test_a_mutated_program_ends_in_good_order(number: int, guest: Guest, tmp_path: Path) -> None:
    rng, path = random.Random(f"{SEED}/{number}"), tmp_path / "mutated"
    path.write_bytes(_mutate(HELLO[guest.name].read_bytes(), rng))
    path.chmod(0o755)
    done = subprocess.run(
        [*POLYVM, "--max-instructions=1000000", path], capture_output=True, text=True, timeout=60, check=False, errors="replace"
    )
    assert "Traceback" not in done.stderr, f"seed {SEED}/{number}: {done.stderr}"
    assert done.stderr.count("\n") <= 1


@pytest.mark.parametrize("guest", GUESTS, ids=str)
def test_a_million_random_words_are_executed_or_refused(guest: Guest) -> None:
    print(f"POLYVM_SEED={SEED}")
    arena = Arena()
    size = 1 << 20
    arena.map(0x100000, size, READ | EXEC)
    arena.map(0x400000, 0x10000, READ | WRITE)
    core = Core(guest.name, arena)
    rng = random.Random(SEED)
    known = set(exits.NAMES)
    for _ in range(4):
        arena.poke(0x100000, rng.randbytes(size))
        start = 0x100000
        while start < 0x100000 + size:
            core.pc = start
            for i in range(1, 31):
                core.x[i] = 0x400000 + 8 * i
            assert core.run(200) in known
            assert core.instructions >= 0
            start += 4
            if not rng.randrange(4):
                start += 64
    core.close()
    arena.close()


# ld a0, 0(a1); ldr x0, [x1]
LOADS = {"riscv64": (bytes.fromhex("03b50500"), 11), "aarch64": (bytes.fromhex("200040f9"), 1)}


@pytest.mark.parametrize("guest", GUESTS, ids=str)
def test_the_guest_reaches_nothing_outside_of_its_memory(guest: Guest, tmp_path: Path) -> None:
    """Every address from the end of the arena on, and those that wrap to polyvm's own memory, fault with that address."""
    arena = Arena()
    arena.map(0x10000, 4096, READ | EXEC)
    core = Core(guest.name, arena)
    code, register = LOADS[guest.name]
    arena.poke(0x10000, code)
    hosts = [core.address, arena.attributes, arena.base, id(core)]
    for address in [arena.size, (1 << 64) - 8, *hosts, *((host - arena.base) & (1 << 64) - 1 for host in hosts)]:
        core.pc, core.x[register] = 0x10000, address
        assert core.run() == exits.FAULT
        assert core.exit_address == address
    core.close()
    arena.close()


LOOP = "int main(){volatile long i=0; for(;;) i++;}"
SLEEP = "#include <unistd.h>\nint main(){for(;;) pause();}"
THREADS = """#include <pthread.h>
void *f(void *a){volatile long i=0; for(;;) i++; return a;}
int main(){pthread_t t; pthread_create(&t,0,f,0); pthread_create(&t,0,f,0); pthread_join(t,0);}"""


@pytest.mark.parametrize("guest", GUESTS, ids=str)
@pytest.mark.parametrize("source", [LOOP, SLEEP, THREADS], ids=["loop", "sleep", "threads"])
def test_an_interrupt_stops_it_at_once(source: str, guest: Guest, tmp_path: Path) -> None:
    program = guest.build(source, tmp_path / "endless", "-O1", "-static", "-pthread")
    # A shell's background job ignores SIGINT, and so would what it starts.
    process = subprocess.Popen(["env", "--default-signal=INT", *POLYVM, program], stderr=subprocess.PIPE)
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == -signal.SIGINT
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
