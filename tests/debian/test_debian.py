"""Debian's binaries under polyvm do what they do under qemu-user.

A guest's sysroot is $POLYVM_SYSROOT_GUEST (POLYVM_SYSROOT_RISCV64, …), or made here from Debian's archive.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.guests import GUESTS, Guest

ROOT = Path(__file__).parents[2]
PACKAGES = "bash coreutils grep sed gawk tar gzip xz-utils zstd perl python3 sqlite3 git openssl gcc libc6-dev make".split()

SCRIPTS = {
    "pipelines": """
        for i in 5 3 9; do echo "line $i"; done | sort | sed 's/line/row/' | tr a-z A-Z
        seq 1000 | grep 7 | awk '{s += $1} END {print s, NR}'
        mkdir d; seq 20000 > d/numbers; tar cf - d | gzip | gunzip | tar tf -
        for c in xz gzip zstd; do $c -c < d/numbers | $c -dc | sha256sum; done
        printf '%s\\n' *; (exit 3); echo $?; x=$(echo sub); echo ${x^^} $((1 << 40)); ls -l d | wc -l
        trap 'echo trapped' USR1; kill -USR1 $$; wait; echo done | { read a; echo "[$a]"; }
    """,
    "perl": """perl -e 'my %h = map { $_ => $_ ** 2 } 1 .. 5; print join(",", map { "$_=$h{$_}" } sort keys %h), "\\n";
        print sqrt(2), " ", "abc" =~ /b(.)/ ? $1 : "", "\\n"; print `echo sub`; print sprintf("%.10f", atan2(1,1)*4), "\\n"'""",
    "sqlite": """sqlite3 t.db 'create table t(a,b); insert into t values (1,2.5),(2,7); select a, typeof(b) from t; select round(2.0/3, 6)'""",
    "git": """git init -q r && cd r && echo one > f && git add f &&
        git -c user.name=n -c user.email=e commit -q -m first --date 2001-01-01T00:00:00Z && echo two >> f &&
        git diff --stat | cat; git log --format='%s %ad' --date=short; git fsck""",
    "openssl": """echo text | openssl dgst -sha256; echo text | openssl dgst -sha512; head -c 100000 /dev/zero | openssl enc -aes-256-cbc \
        -K 00 -iv 00 2>/dev/null | sha1sum; echo secret | openssl enc -chacha20 -K 11 -iv 22 2>/dev/null | od -An -tx1""",
    "gcc": """printf '#include <stdio.h>\\n#include <math.h>\\nint main(){double s=0; for (int i = 1; i < 1000; i++) s += sin(i)/i;
        printf("%%.15g\\\\n", s); return 5;}' > p.c; gcc -O2 -o p p.c -lm && ./p; echo $?""",
    "make": """printf 'all: a b\\n\\t@cat a b\\na b:\\n\\t@echo $@ > $@\\n' > Makefile; make -j2; ls""",
}

PYTHON = """
import json, hashlib, re, threading, subprocess, socket, sqlite3, asyncio, signal, os, mmap, select, math, tempfile, time
print(json.dumps({"a": [1, 2.5, None]}), hashlib.sha256(b"x").hexdigest(), re.findall(r"\\d+", "a1b22"))
results = []
threads = [threading.Thread(target=lambda i=i: results.append(i * i)) for i in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]; print(sorted(results))
print(subprocess.run(["echo", "sub"], capture_output=True).stdout, subprocess.check_output("echo a | tr a b", shell=True))
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen()
def serve():
    peer, _ = server.accept(); peer.sendall(peer.recv(10).upper()); peer.close()
t = threading.Thread(target=serve); t.start()
client = socket.create_connection(server.getsockname()); client.sendall(b"abc"); print(client.recv(10)); t.join()
db = sqlite3.connect(":memory:"); db.execute("create table t(x)"); db.executemany("insert into t values(?)", [(i,) for i in range(10)])
print(db.execute("select sum(x), avg(x) from t").fetchone())
async def main():
    p = await asyncio.create_subprocess_exec("echo", "async", stdout=-1)
    print((await p.communicate())[0], await asyncio.gather(*(asyncio.sleep(0.01, i) for i in range(3))))
asyncio.run(main())
signal.signal(signal.SIGUSR1, lambda *a: print("signal", a[0])); os.kill(os.getpid(), signal.SIGUSR1)
signal.signal(signal.SIGALRM, lambda *a: print("alarm")); signal.setitimer(signal.ITIMER_REAL, 0.02); signal.pause()
m = mmap.mmap(-1, 8192); m[5] = 7; print(m[5], len(m)); r, w = os.pipe(); os.write(w, b"q"); print(select.select([r], [], [], 1)[0] == [r])
print(math.sin(1), math.fsum([0.1] * 10), 2 ** 200, 1e300 * 1e10, round(2.675, 2), float.fromhex("0x1.8p-1074"))
if os.fork() == 0: os._exit(7)
print(os.waitstatus_to_exitcode(os.wait()[1]), os.uname().machine)
"""


class Root(NamedTuple):
    """A directory with Debian's packages for a guest."""

    guest: Guest
    path: Path


@pytest.fixture(scope="session", params=GUESTS, ids=str)
def sysroot(request: pytest.FixtureRequest) -> Root:
    """The packages for each guest."""
    guest: Guest = request.param
    given = os.environ.get(f"POLYVM_SYSROOT_{guest.name.upper()}")
    if given:
        return Root(guest, Path(given))
    folder = ROOT / "sysroot" / guest.name
    folder.parent.mkdir(exist_ok=True)
    with (ROOT / "sysroot" / f".lock-{guest}").open("w") as lock:  # one of the test processes makes it
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = ROOT / "sysroot" / f".complete-{guest}"
        if not complete.exists():
            make = [ROOT / "scripts" / "sysroot", "--arch", guest.debian, "--suite", guest.suite, folder, *PACKAGES]
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL, timeout=280)
            complete.touch()
    return Root(guest, folder)


def _polyvm(sysroot: Root, program: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polyvm", "run", "-L", str(sysroot.path), str(sysroot.path / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=folder)


def _expected(name: str) -> str:
    return (Path(__file__).parent / "expected" / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_shell_script_prints_what_it_should(sysroot: Root, name: str, tmp_path: Path) -> None:
    """`expected` holds what qemu-user printed, and for git, which starts programs of its own, the host's own git."""
    folder = tmp_path / "work"
    folder.mkdir()
    found = _polyvm(sysroot, "usr/bin/bash", "-c", SCRIPTS[name], folder=folder)
    assert found.stdout == _expected(name), found.stderr


def test_python_does_what_it_does_under_qemu(sysroot: Root, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(PYTHON)
    found = _polyvm(sysroot, "usr/bin/python3", str(script), folder=tmp_path)
    assert found.stdout == _expected("python").replace("MACHINE", sysroot.guest.name), found.stderr
