"""`polyvm boot` and its terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

from polyvm.cli import main
from polyvm.machine import Machine, MachineConfig
from polyvm.machine.terminal import Keys

if TYPE_CHECKING:
    from pathlib import Path

BOOT = [sys.executable, "-m", "polyvm", "boot"]


def test_keys() -> None:
    """After Ctrl-A a letter is a command, Ctrl-A again types it, also when they come apart."""
    keys = Keys()
    assert keys.feed(b"ab\x01\x01c") == (b"ab\x01c", "")
    assert keys.feed(b"\x01") == (b"", "")
    assert keys.feed(b"Xd") == (b"d", "x")


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen([*BOOT, *words], stdin=self.slave, stdout=self.slave, stderr=subprocess.PIPE, start_new_session=True)
        self.seen = b""

    def expect(self, what: bytes, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while what not in self.seen:
            assert select.select([self.master], [], [], max(0, end - time.monotonic()))[0], self.seen
            self.seen += os.read(self.master, 4096)

    def type(self, what: bytes) -> None:
        os.write(self.master, what)

    def end(self) -> int:
        status = self.process.wait(30)
        self.process.communicate()
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        os.close(self.master)
        os.close(self.slave)


def test_the_terminal_is_raw_and_restored(guests: dict[str, Path], accelerator: str) -> None:
    """Keys reach the guest one by one, Ctrl-C too; Ctrl-A x ends the machine, and the terminal is as it was."""
    terminal = Terminal("--kernel", str(guests["linux"]), "--accel", accelerator)
    try:
        terminal.expect(b"ready")
        assert not termios.tcgetattr(terminal.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        terminal.type(b"q")
        terminal.expect(b"you typed q")
        terminal.type(b"\x03")
        terminal.expect(b"you typed \x03")
        terminal.type(b"\x01h")
        terminal.expect(b"end the machine")
        terminal.type(b"\x01x")
        assert terminal.end() == 0
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()


def test_the_guest_learns_the_size_of_the_terminal(guests: dict[str, Path], accelerator: str) -> None:
    """A virtio console has the terminal's size, also after it changed."""
    machine = Machine(MachineConfig(kernel=str(guests["linux"]), console="virtio", accelerator=accelerator))
    machine.resize(132, 50)
    device = machine._board.transports[0].device  # type: ignore[union-attr]
    assert device.config()[:4] == struct.pack("<HH", 132, 50)
    machine.stop()
    machine.resize(1, 1)


def test_a_signal_restores_the_terminal(guests: dict[str, Path], accelerator: str) -> None:
    """SIGTERM ends the machine in order."""
    terminal = Terminal("--kernel", str(guests["linux"]))
    try:
        terminal.expect(b"ready")
        terminal.type(b"s")
        terminal.expect(b"spinning")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 0
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()


def test_pipes(guests: dict[str, Path], accelerator: str) -> None:
    """Input and output may be pipes; the end of input does not end the machine; the exit port gives the status."""
    command = [*BOOT, "--kernel", str(guests["pvh"]), "--smp", "2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        while b"ready" not in process.stdout.readline():  # what comes before the guest clears its FIFO is lost, as on any UART
            pass
        out, error = process.communicate(b"abx", timeout=60)
    assert process.returncode == 42
    assert out == b"you typed a by interrupt 1\nyou typed b by interrupt 1\n"
    assert error == b""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say which with --kernel FILE"),
        (["--kernel", "/absent"], "/absent: No such file or directory"),
        (["--kernel", "/bin/true", "--disk", ",ro"], "--disk needs a file first"),
        (["--kernel", "/bin/true", "--disk", "a,wo"], "neither ro, overlay=FILE nor serial=TEXT"),
        (["--kernel", "/bin/true", "--net", "tap"], "--net is user or tap=NAME"),
        (["--kernel", "/bin/true", "--memory", "lots"], "--memory needs a number"),
        (["--kernel", "/bin/true", "--accel", "warp"], "there is no accelerator 'warp'"),
        (["--kernel", "GUEST", "--disk", "/absent"], "disk /absent: No such file or directory"),
        (["--kernel", "GUEST", "--disk", "/dev/null"], "disk /dev/null: not a file or a block device"),
        (["--kernel", "GUEST", "--initrd", "/absent"], "/absent: No such file or directory"),
        (["--nonsense"], "no such option"),
    ],
)
def test_mistakes_are_sentences(
    guests: dict[str, Path], accelerator: str, words: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A wrong option or file ends with a status and one sentence that says what to do."""
    assert main(["boot", *(str(guests["linux"]) if word == "GUEST" else word for word in words)]) in (2, 125)
    error = capfd.readouterr().err
    assert message in error
    assert error.startswith("polyvm: ")
    assert error.count("\n") == 1
