"""UART 16550A (National Semiconductor PC16550D data sheet, section 8.0).

    offset  DLAB  read                       write
    0       0     RBR  receiver buffer       THR  transmitter holding
    0       1     DLL  divisor, low          DLL
    1       0     IER  interrupt enable      IER
    1       1     DLM  divisor, high         DLM
    2             IIR  interrupt ident.      FCR  FIFO control
    3             LCR  line control          LCR
    4             MCR  modem control         MCR
    5             LSR  line status           (nothing)
    6             MSR  modem status          (nothing)
    7             SCR  scratch               SCR

What is transmitted leaves at once, whatever the divisor says. What is received waits in a backlog behind the FIFO, so that
nothing that a user types is lost; the backlog is bounded, and `feed` says how much it took.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.devices.bus import Line

# IER, and IIR's identification of what is pending, by priority (table in section 8.6)
IER_RX, IER_TX, IER_LINE, IER_MODEM = 1, 2, 4, 8
IIR_NONE, IIR_MODEM, IIR_TX, IIR_RX, IIR_LINE, IIR_TIMEOUT, IIR_FIFO = 1, 0, 2, 4, 6, 12, 0xC0
FCR_ENABLE, FCR_CLEAR_RX, FCR_CLEAR_TX = 1, 2, 4
LCR_BREAK, LCR_DLAB = 0x40, 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 1, 2, 4, 8, 16
LSR_DR, LSR_OE, LSR_BI, LSR_THRE, LSR_TEMT = 1, 2, 16, 32, 64
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 16, 32, 64, 128

_TRIGGERS = (1, 4, 8, 14)
_FIFO = 16
_BACKLOG = 65536


class Uart16550:
    """One UART of eight one-byte registers. `sink` gets what the guest transmits, `line` is its interrupt.

    `room` is called, on the thread of the guest's access, when a backlog that was full has room again.
    """

    SIZE = 8
    INPUT_CLOCK = 1843200  # Hz; the data sheet's crystal, and the PC's

    def __init__(self, sink: Callable[[bytes], object], line: Line, room: Callable[[], None] | None = None) -> None:
        self._sink = sink
        self._line = line
        self._room = room
        self._lock = threading.RLock()
        self._backlog: deque[int] = deque()
        self.reset()

    def reset(self) -> None:
        """What power-on leaves (section 8.1); what waits in the backlog stays."""
        with self._lock:
            self._rx: deque[int] = deque()
            self._ier = self._lcr = self._mcr = self._scr = self._fcr = 0
            self._divisor = 12
            self._lsr = LSR_THRE | LSR_TEMT
            self._msr_delta = 0
            self._tx_pending = False
            self._line.set_level(False)

    @property
    def baud(self) -> int:
        """Bits a second, as the divisor latch says; 0 where it is 0."""
        return self.INPUT_CLOCK // 16 // self._divisor if self._divisor else 0

    def feed(self, data: bytes) -> int:
        """Let `data` arrive at the receiver; how many bytes were taken, fewer where the guest does not read."""
        with self._lock:
            taken = min(len(data), _BACKLOG - len(self._backlog))
            self._backlog.extend(data[:taken])
            self._refill()
            self._update()
        return taken

    def send_break(self) -> None:
        """Let a break condition arrive (section 8.4, LSR bit 4)."""
        with self._lock:
            self._receive(0)
            self._lsr |= LSR_BI
            self._update()

    def read(self, offset: int, size: int) -> int:
        """Read a register; an access of more than one byte reads those that follow, lowest first."""
        with self._lock:
            value = 0
            for i in range(size):
                value |= self._read(offset + i & 7) << 8 * i
            self._update()
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register; an access of more than one byte writes those that follow, lowest first."""
        with self._lock:
            for i in range(size):
                self._write(offset + i & 7, value >> 8 * i & 0xFF)
            self._update()

    def _read(self, register: int) -> int:
        if register == 0:
            return self._divisor & 0xFF if self._lcr & LCR_DLAB else self._take()
        if register == 1:
            return self._divisor >> 8 if self._lcr & LCR_DLAB else self._ier
        if register == 2:
            pending = self._pending()
            if pending == IIR_TX:
                self._tx_pending = False
            return pending | (IIR_FIFO if self._fcr & FCR_ENABLE else 0)
        if register == 5:
            value = self._lsr | (LSR_DR if self._rx else 0)
            self._lsr &= ~(LSR_OE | LSR_BI)
            return value
        if register == 6:
            value = self._modem() | self._msr_delta
            self._msr_delta = 0
            return value
        return (self._lcr, self._mcr, 0, 0, self._scr)[register - 3]

    def _write(self, register: int, value: int) -> None:
        if register == 0 and self._lcr & LCR_DLAB:
            self._divisor = self._divisor & 0xFF00 | value
        elif register == 0:
            self._transmit(value)
        elif register == 1 and self._lcr & LCR_DLAB:
            self._divisor = self._divisor & 0xFF | value << 8
        elif register == 1:
            self._tx_pending = bool(value & IER_TX) and (self._tx_pending or not self._ier & IER_TX)
            self._ier = value & 15
        elif register == 2:
            if (self._fcr ^ value) & FCR_ENABLE or value & FCR_CLEAR_RX:
                self._rx.clear()
                self._lsr &= ~(LSR_OE | LSR_BI)
            self._fcr = value & 0xC9 if value & FCR_ENABLE else 0
            self._refill()
        elif register == 3:
            self._lcr = value
        elif register == 4:
            before = self._modem()
            self._mcr = value & 31
            self._modem_changed(before)
            self._refill()
        elif register == 7:
            self._scr = value

    def _transmit(self, value: int) -> None:
        if self._mcr & MCR_LOOP:
            self._receive(value)
        else:
            self._sink(bytes((value,)))
        self._tx_pending = bool(self._ier & IER_TX)

    def _receive(self, value: int) -> None:
        if len(self._rx) >= self._depth():
            self._lsr |= LSR_OE
            if self._fcr & FCR_ENABLE:
                return  # the FIFO stays, what arrives is lost; without one the holding register is overwritten
            self._rx.clear()
        self._rx.append(value)

    def _take(self) -> int:
        value = self._rx.popleft() if self._rx else 0
        self._refill()
        return value

    def _depth(self) -> int:
        return _FIFO if self._fcr & FCR_ENABLE else 1

    def _refill(self) -> None:
        if self._mcr & MCR_LOOP:
            return  # the receiver's input is disconnected
        was_full = len(self._backlog) >= _BACKLOG
        while self._backlog and len(self._rx) < self._depth():
            self._rx.append(self._backlog.popleft())
        if was_full and self._room is not None and len(self._backlog) < _BACKLOG:
            self._room()

    def _modem(self) -> int:
        if not self._mcr & MCR_LOOP:
            return MSR_CTS | MSR_DSR | MSR_DCD
        mcr = self._mcr
        return (
            (MSR_CTS if mcr & MCR_RTS else 0)
            | (MSR_DSR if mcr & MCR_DTR else 0)
            | (MSR_RI if mcr & MCR_OUT1 else 0)
            | (MSR_DCD if mcr & MCR_OUT2 else 0)
        )

    def _modem_changed(self, before: int) -> None:
        now = self._modem()
        changed = before ^ now
        self._msr_delta |= changed >> 4 & 0b1011
        if changed & MSR_RI and before & MSR_RI:
            self._msr_delta |= 4  # TERI: the trailing edge only

    def _pending(self) -> int:
        if self._ier & IER_LINE and self._lsr & (LSR_OE | LSR_BI):
            return IIR_LINE
        if self._ier & IER_RX and self._rx:
            if not self._fcr & FCR_ENABLE or len(self._rx) >= _TRIGGERS[self._fcr >> 6]:
                return IIR_RX
            return IIR_TIMEOUT  # nothing more arrives soon: the time-out's four characters pass at once
        if self._ier & IER_TX and self._tx_pending:
            return IIR_TX
        if self._ier & IER_MODEM and self._msr_delta:
            return IIR_MODEM
        return IIR_NONE

    def _update(self) -> None:
        self._line.set_level(self._pending() != IIR_NONE)
