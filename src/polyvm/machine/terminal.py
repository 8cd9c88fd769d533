"""A machine's console on the terminal: raw mode, an escape key, and everything as it was at the end.

After the escape key, Ctrl-A: x ends the machine, b sends a break, h prints help, Ctrl-A types Ctrl-A (as in QEMU's -nographic).
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import tty
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyvm.machine.config import Ending
    from polyvm.machine.machine import Machine

ESCAPE = 1
HELP = "\r\nCtrl-A x  end the machine\r\nCtrl-A h  this help\r\nCtrl-A Ctrl-A  type Ctrl-A\r\n"
_AHEAD = 65536  # bytes typed that the guest did not take: no more is read then


class Keys:
    """What is typed, with the escape sequences taken out."""

    def __init__(self) -> None:
        self._escaped = False

    def feed(self, data: bytes) -> tuple[bytes, str]:
        """The bytes for the guest, and the commands (letters) among them."""
        out, commands = bytearray(), ""
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte == ESCAPE:
                    out.append(byte)
                else:
                    commands += chr(byte).lower()
            elif byte == ESCAPE:
                self._escaped = True
            else:
                out.append(byte)
        return bytes(out), commands


def interact(machine: Machine, stdin: int = 0, stdout: int = 1) -> Ending:
    """Start `machine`, connect its console with the terminal (or files, or pipes) until it ends. SIGTERM and SIGHUP end it,
    too."""
    over_read, over_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    saved = termios.tcgetattr(stdin) if os.isatty(stdin) else None
    machine.console.listen(lambda data: _write(stdout, data))

    def ended(number: int, frame: object) -> None:
        _poke(over_write)

    def resized(number: int = 0, frame: object = None) -> None:
        size = os.get_terminal_size(stdin)
        if size.columns and size.lines:  # a terminal that knows
            machine.resize(size.columns, size.lines)

    previous = {number: signal.signal(number, ended) for number in (signal.SIGTERM, signal.SIGHUP)}
    if saved is not None:
        previous[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, resized)
        resized()
    try:
        if saved is not None:
            tty.setraw(stdin, termios.TCSANOW)
        machine.start()
        threading.Thread(target=_tell, args=(machine, over_write), daemon=True).start()
        _copy(machine, stdin, stdout, over_read)
        return machine.stop()
    finally:
        machine.stop()
        if saved is not None:
            termios.tcsetattr(stdin, termios.TCSANOW, saved)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(over_read)
        # over_write stays open for the thread that waits; it ends with the process


def _copy(machine: Machine, stdin: int, stdout: int, over: int) -> None:
    keys, watched = Keys(), [stdin, over]
    terminal = os.isatty(stdin)
    while True:
        full = machine.console.waiting >= _AHEAD
        ready = select.select([over] if full else watched, [], [], 0.05 if full else None)[0]
        if over in ready:
            return
        if stdin not in ready:
            continue
        try:
            data = os.read(stdin, 4096)
        except OSError:
            data = b""
        if not data:
            watched = [over]  # the end of a file or pipe: the machine goes on without input
            continue
        typed, commands = keys.feed(data) if terminal else (data, "")
        if typed:
            machine.console.send(typed)
        if "x" in commands:
            return
        if "h" in commands:
            _write(stdout, HELP.encode())


def _tell(machine: Machine, fd: int) -> None:
    machine.wait()
    _poke(fd)


def _poke(fd: int) -> None:
    try:
        os.write(fd, b"\0")
    except OSError:
        pass


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except BlockingIOError:
        select.select([], [fd], [], 1)
    except OSError:
        sys.stderr.flush()  # nobody reads any more; the machine goes on
