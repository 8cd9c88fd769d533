"""Keyboard controller 8042, without a keyboard (IBM PC/AT Technical Reference, "Keyboard Controller"): reset and gate A20.

    offset  read            write
    0       output buffer   data of the command before
    4       status          command

    command     what it does
    20 60       read, write the command byte
    a7 a8 a9    auxiliary port off, on, test
    aa ab       self-test, test of the keyboard's lines
    ad ae       keyboard off, on
    d0 d1       read, write the output port: bit 0 low resets the machine, bit 1 is gate A20
    f0..ff      pulse output lines low; bit 0 clear resets the machine (fe)

Port 92h, "fast A20" of the PS/2, is `Port92`: bit 0 resets, bit 1 is gate A20.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS_OBF, STATUS_SYSTEM, STATUS_COMMAND = 1, 4, 8
_NO_KEYBOARD = 0xFE  # "resend": what a keyboard command gets without one


class I8042:
    """Ports 60h to 64h, of which the first and the last are used. `reset` is called, once a request, when the guest resets the
    machine."""

    SIZE = 5

    def __init__(self, reset: Callable[[], None]) -> None:
        self._reset = reset
        self._command_byte = 0x30
        self._output: deque[int] = deque(maxlen=16)
        self._expects = 0
        self._last_command = False
        self.a20 = True

    def read(self, offset: int, size: int) -> int:
        """Read the output buffer or the status."""
        if offset == 0:
            return self._output.popleft() if self._output else 0
        if offset == 4:
            status = STATUS_SYSTEM | (STATUS_OBF if self._output else 0)
            return status | (STATUS_COMMAND if self._last_command else 0)
        return 0xFF

    def write(self, offset: int, size: int, value: int) -> None:
        """Write data or a command."""
        value &= 0xFF
        if offset == 4:
            self._last_command = True
            self._command(value)
        elif offset == 0:
            self._last_command = False
            expects, self._expects = self._expects, 0
            if expects == 0x60:
                self._command_byte = value
            elif expects == 0xD1:
                self._port(value)
            elif expects == 0:
                self._output.append(_NO_KEYBOARD)

    def _command(self, command: int) -> None:
        self._expects = command if command in (0x60, 0xD1, 0xD2, 0xD3, 0xD4) else 0
        if command == 0x20:
            self._output.append(self._command_byte)
        elif command in (0xA7, 0xA8):
            self._command_byte = self._command_byte & ~0x20 | (0x20 if command == 0xA7 else 0)
        elif command == 0xA9:
            self._output.append(0xFF)  # the auxiliary port does not answer
        elif command == 0xAA:
            self._output.append(0x55)
        elif command == 0xAB:
            self._output.append(0x00)
        elif command in (0xAD, 0xAE):
            self._command_byte = self._command_byte & ~0x10 | (0x10 if command == 0xAD else 0)
        elif command == 0xD0:
            self._output.append(0x01 | (0x02 if self.a20 else 0))
        elif command >= 0xF0 and not command & 1:
            self._reset()

    def _port(self, value: int) -> None:
        self.a20 = bool(value & 2)
        if not value & 1:
            self._reset()


class Port92:
    """System control port A of the PS/2: one byte."""

    SIZE = 1

    def __init__(self, reset: Callable[[], None]) -> None:
        self._reset = reset
        self._value = 2

    def read(self, offset: int, size: int) -> int:
        """Gate A20, and 0 for the reset bit."""
        return self._value

    def write(self, offset: int, size: int, value: int) -> None:
        """Set gate A20; bit 0 resets the machine."""
        self._value = value & 2
        if value & 1:
            self._reset()
