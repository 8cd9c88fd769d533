"""`polyvm run`: options, errors, tracing, sandbox."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polyvm.api.programs import demo_program
from tests.guests import AARCH64, GUESTS, RISCV64, Guest

HELLO = str(Path(demo_program()).with_name("hello"))


@pytest.fixture(scope="module", params=GUESTS, ids=str)
def guest(request: pytest.FixtureRequest) -> Guest:
    """Each guest."""
    found: Guest = request.param
    return found


def polyvm(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run polyvm's command line."""
    command = [sys.executable, "-m", "polyvm", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def compiled(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that does what its arguments say."""
    folder = tmp_path_factory.mktemp("guest")
    return guest.build(r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *what = argv[i], *rest = strchr(what, '=');
        if (rest) *rest++ = 0;
        errno = 0;
        if (!strcmp(what, "exit")) exit(atoi(rest));
        else if (!strcmp(what, "signal")) { fflush(stdout); kill(getpid(), atoi(rest)); }
        else if (!strcmp(what, "argv0")) printf("%s\n", argv[0]);
        else if (!strcmp(what, "env")) printf("%s\n", getenv(rest) ? getenv(rest) : "(unset)");
        else if (!strcmp(what, "cwd")) { char b[4096]; printf("%s\n", getcwd(b, sizeof b)); }
        else if (!strcmp(what, "open")) printf("open %d\n", open(rest, O_RDONLY) < 0 ? errno : 0);
        else if (!strcmp(what, "create")) printf("create %d\n", open(rest, O_CREAT | O_WRONLY, 0600) < 0 ? errno : 0);
        else if (!strcmp(what, "stat")) { struct stat s; printf("stat %d\n", stat(rest, &s) ? errno : 0); }
        else if (!strcmp(what, "unlink")) printf("unlink %d\n", unlink(rest) ? errno : 0);
        else if (!strcmp(what, "link")) { char *to = strchr(rest, ','); *to++ = 0; printf("symlink %d\n", symlink(rest, to) ?
        errno : 0); }
        else if (!strcmp(what, "chdir")) printf("chdir %d\n", chdir(rest) ? errno : 0);
        else if (!strcmp(what, "socket")) printf("socket %d\n", socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno : 0);
        else if (!strcmp(what, "fork")) { fflush(stdout); pid_t p = fork(); if (!p) _exit(0); printf("fork %d\n", p < 0 ? errno
        : 0); }
        else if (!strcmp(what, "map")) printf("map %d\n", mmap(0, atol(rest), 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
        MAP_FAILED ? errno : 0);
        else if (!strcmp(what, "spin")) { volatile long n = 0; for (;;) n++; }
        fflush(stdout);
    }
    return 0;
}
""", folder / "tool", "-O1", "-static")


def test_the_exit_status_passes_through(compiled: Path) -> None:
    assert polyvm("run", compiled, "exit=42").returncode == 42


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMAX])
def test_a_signal_ends_polyvm_as_it_ended_the_guest(compiled: Path, number: int) -> None:
    assert polyvm("run", compiled, f"signal={int(number)}").returncode == -number


def test_environment_arguments_and_directory(compiled: Path, tmp_path: Path) -> None:
    done = polyvm("run", "-E", "ADDED=yes", "-U", "GONE", "-0", "name", "--cwd", tmp_path, compiled, "env=ADDED", "env=GONE",
                  "argv0", "cwd", env={**os.environ, "GONE": "no"})  # fmt: skip
    assert done.stdout.split("\n") == ["yes", "(unset)", "name", str(tmp_path), ""]


def test_max_instructions_ends_it_with_124_after_exactly_so_many(compiled: Path) -> None:
    done = polyvm("run", "--max-instructions=5000000", "--stats=json", compiled, "spin")
    assert done.returncode == 124
    record = json.loads(done.stderr)
    assert record["instructions"] == 5_000_000


def test_counting_agrees_with_single_steps(compiled: Path) -> None:
    """The count of a program is the same however it is cut into runs."""
    counts: set[int] = set()
    for extra in ([], ["--max-instructions=100000000"]):
        done = polyvm("run", "--stats=json", *extra, HELLO)
        counts.add(json.loads(done.stderr)["instructions"])
    assert len(counts) == 1


def test_strace_shows_calls_with_arguments_and_results(guest: Guest) -> None:
    done = polyvm("run", "--strace", Path(demo_program(guest.name)).with_name("hello"))
    assert done.stdout == f"Hello from {guest}\n"
    first, *_ = done.stderr.splitlines()
    assert first.split(" ", 1)[1] == rf'write(1, "Hello from {guest}\n", 19) = 19'
    assert "exit(0) = ?" in done.stderr


def test_strace_names_errors_and_flags(compiled: Path) -> None:
    done = polyvm("run", "--strace", compiled, "open=/does/not/exist", "map=4096")
    assert 'openat(AT_FDCWD, "/does/not/exist", O_RDONLY, 0' in done.stderr
    assert "= -1 ENOENT (No such file or directory)" in done.stderr
    assert "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x" in done.stderr


@pytest.mark.parametrize(
    ("make", "status", "words"),
    [
        (lambda p: None, 127, "no such file"),
        (lambda p: p.mkdir(), 126, "is a directory"),
        (lambda p: (p.write_bytes(b"\x7fELF\x02\x01"), p.chmod(0o755)), 126, "ends within its ELF header"),
        (lambda p: (p.write_text("text"), p.chmod(0o755)), 126, "not an ELF file"),
        (lambda p: (p.write_bytes(Path("/bin/true").read_bytes()), p.chmod(0o755)), 126, "x86_64"),
        (lambda p: (p.write_bytes(Path(HELLO).read_bytes()), p.chmod(0o644)), 126, "permission denied"),
        (lambda p: (p.write_bytes(Path(HELLO).read_bytes()[:500]), p.chmod(0o755)), 126, "truncated"),
    ],
    ids=["missing", "directory", "short", "text", "foreign", "mode", "truncated"],
)  # fmt: skip
def test_what_cannot_run_gets_one_sentence(tmp_path: Path, make: object, status: int, words: str) -> None:
    program = tmp_path / "program"
    make(program)  # type: ignore[operator]
    done = polyvm("run", program)
    if os.getuid() == 0 and words == "permission denied":
        assert done.returncode == status
    assert done.returncode == status, done.stderr
    assert words in done.stderr.lower() or words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_interpreter_says_what_to_do(guest: Guest, tmp_path: Path) -> None:
    program = guest.build("int main(){return 0;}", tmp_path / "a")
    done = polyvm("run", program)
    assert done.returncode in (126, 127)
    assert guest.loader in done.stderr
    assert "-L" in done.stderr
    assert done.stderr.count("\n") <= 2
    assert polyvm("run", "-L", guest.libraries, program).returncode == 0


def test_a_dynamic_program_equals_qemu(guest: Guest, tmp_path: Path) -> None:
    source = '#include <math.h>\n#include <stdio.h>\nint main(int c, char **v){printf("%s %.17g\\n", v[1], sin(c));}'
    program = guest.build(source, tmp_path / "a", "-O0")
    want = subprocess.run(
        [*guest.qemu, "-L", guest.libraries, program, "x"], capture_output=True, text=True, check=True
    )
    assert polyvm("run", "-L", guest.libraries, program, "x").stdout == want.stdout


EXEC = """
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    struct utsname name;
    uname(&name);
    printf("%s: %s\\n", name.machine, argv[argc - 1]);
    fflush(stdout);
    if (argc > 2) execv(argv[1], argv + 1);
    return argc;
}
"""


def test_a_program_executes_one_for_another_guest(tmp_path: Path) -> None:
    """And that the first again: the process goes on as each of them in turn, with its pid and its descriptors."""
    one, other = (str(guest.build(EXEC, tmp_path / guest.name, "-O1", "-static")) for guest in (RISCV64, AARCH64))
    done = polyvm("run", "--stats=json", one, other, one, other, "end")
    assert done.stdout == "".join(f"{name}: end\n" for name in ("riscv64", "aarch64", "riscv64", "aarch64"))
    assert done.returncode == 2
    assert json.loads(done.stderr)["instructions"] > 10000


class TestSandbox:
    """--sandbox: nothing outside of the directory, no network, no processes."""

    def test_files_are_those_below_the_directory(self, compiled: Path, tmp_path: Path) -> None:
        box = tmp_path / "box"
        (box / "etc").mkdir(parents=True)
        (box / "tool").write_bytes(compiled.read_bytes())
        (box / "tool").chmod(0o755)
        (box / "inside").write_text("x")
        (tmp_path / "secret").write_text("x")
        (box / "escape").symlink_to("../secret")
        (box / "absolute").symlink_to(str(tmp_path / "secret"))
        done = polyvm("run", "--sandbox", box, box / "tool", "open=/inside", "open=/etc/passwd", "open=../secret",
                      "open=/../secret", "open=/escape", "open=/absolute", f"open={tmp_path}/secret", "stat=/inside",
                      "stat=/escape", f"stat={tmp_path}/secret", "create=/new", f"create={tmp_path}/new",
                      f"unlink={tmp_path}/secret", "link=../secret,/made", "open=/made", "chdir=/etc", "cwd",
                      "open=../inside", "open=../../secret", cwd=box)  # fmt: skip
        assert done.stdout.split("\n") == [
            "open 0", "open 2", "open 2", "open 2", "open 2", "open 2", "open 2", "stat 0", "stat 2", "stat 2", "create 0",
            "create 2", "unlink 2", "symlink 0", "open 2", "chdir 0", "/etc", "open 0", "open 2", "",
        ], done.stderr  # fmt: skip
        assert (box / "new").exists()
        assert (tmp_path / "secret").exists()
        assert not (tmp_path / "new").exists()

    def test_network_and_processes_need_permission(self, compiled: Path) -> None:
        box = compiled.parent
        done = polyvm("run", "--sandbox", box, compiled, "socket", "fork", cwd=box)
        assert done.stdout == "socket 1\nfork 1\n"
        done = polyvm("run", "--sandbox", box, "--allow-network", "--allow-process", compiled, "socket", "fork", cwd=box)
        assert done.stdout == "socket 0\nfork 0\n"

    def test_memory_is_limited(self, compiled: Path) -> None:
        done = polyvm("run", "--limit-memory=64M", compiled, "map=1000000", "map=100000000", "map=1000000")
        assert done.stdout == "map 0\nmap 12\nmap 0\n"

    def test_processor_time_is_limited(self, compiled: Path) -> None:
        done = polyvm("run", "--limit-cpu=1", compiled, "spin")
        assert done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
