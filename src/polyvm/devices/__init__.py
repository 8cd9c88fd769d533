"""Devices of whole machines: buses, serial ports, clocks, and virtio (`polyvm.devices.virtio`).

A device knows its registers and the lines that it drives; where it lies in a machine, and what its lines lead to, is the
board's to say (`polyvm.machine`).
"""

from __future__ import annotations

from polyvm.devices.bus import Bus, Line, Range, Registers, Wire
from polyvm.devices.i8042 import I8042, Port92
from polyvm.devices.loop import Loop, Timer
from polyvm.devices.rtc import Rtc
from polyvm.devices.uart16550 import Uart16550

__all__ = ["I8042", "Bus", "Line", "Loop", "Port92", "Range", "Registers", "Rtc", "Timer", "Uart16550", "Wire"]
