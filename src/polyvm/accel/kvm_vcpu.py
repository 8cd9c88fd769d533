"""A vCPU of KVM: entering the guest, and what its exits mean; what is the same on every architecture.

An exit costs some microseconds in the kernel, so what Python adds matters: the page that is shared with the kernel is read
through
precomputed formats, port and memory accesses are answered within one loop (`run_with`), and nothing is allocated there but
integers.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from _thread import get_native_id
from time import sleep
from typing import TYPE_CHECKING, Any

from polyvm.accel.ffi import kvm as k
from polyvm.errors import EngineError, UsageError
from polyvm.vcpu.exit_types import Unsupported
from polyvm.vcpu.machine_exits import (
    ALL_ONES,
    EmulationFailure,
    EndOfInterrupt,
    FailEntry,
    Halt,
    Hypercall,
    InternalError,
    Interrupted,
    InterruptWindow,
    Mmio,
    Msr,
    PortIo,
    Shutdown,
    SystemEvent,
    VmExit,
)

if TYPE_CHECKING:
    from polyvm.accel.kvm_vm import KvmVm
    from polyvm.vcpu.contract import Bus

KICK_SIGNAL = 40  # a real-time signal that neither the C library nor CPython uses
_RUN = k.RUN
_IO = struct.Struct(k.RUN_IO[2])
_MMIO = struct.Struct(k.RUN_MMIO[2])
_MSR = struct.Struct(k.RUN_MSR[2])
_HYPERCALL = struct.Struct(k.RUN_HYPERCALL[2])
_INTERNAL = struct.Struct(k.RUN_INTERNAL[2])
_FAIL = struct.Struct(k.RUN_FAIL_ENTRY[2])
_AT = 32  # where exits say what they are about
_IO_EXIT, _MMIO_EXIT = k.EXIT_IO, k.EXIT_MMIO
_BY_SIZE = {1: struct.Struct("<B"), 2: struct.Struct("<H"), 4: struct.Struct("<I"), 8: struct.Struct("<Q")}
_UNPACK = {size: form.unpack_from for size, form in _BY_SIZE.items()}
_PACK = {size: form.pack_into for size, form in _BY_SIZE.items()}
_EVENTS = {
    k.SYSTEM_EVENT_SHUTDOWN: "shutdown", k.SYSTEM_EVENT_RESET: "reset", k.SYSTEM_EVENT_CRASH: "crash",
    k.SYSTEM_EVENT_WAKEUP: "wakeup", k.SYSTEM_EVENT_SUSPEND: "suspend", k.SYSTEM_EVENT_SEV_TERM: "terminate",
}  # fmt: skip
_REASONS = {value: name[5:].lower() for name, value in vars(k).items() if name.startswith("EXIT_") and not
name.startswith("EXIT_IO_")}
_MSR_REASONS = {k.MSR_EXIT_REASON_INVAL: "invalid", k.MSR_EXIT_REASON_UNKNOWN: "unknown", k.MSR_EXIT_REASON_FILTER: "filter"}
_HALT, _SHUTDOWN, _INTERRUPTED, _WINDOW = Halt(), Shutdown(), Interrupted(), InterruptWindow()


class CoalescedRing:
    """Writes that the kernel has collected (struct kvm_coalesced_mmio_ring)."""

    _ENTRY = struct.Struct("<QII8s")

    def __init__(self, page: Any, offset: int) -> None:
        self._page = page
        self._offset = offset
        self._count = (4096 - 8) // self._ENTRY.size
        self._lock = threading.Lock()

    def pending(self) -> bool:
        """Whether there is something."""
        first, last = struct.unpack_from("<II", self._page, self._offset)
        return bool(first != last)

    def drain(self, bus: Bus) -> int:
        """Give all writes to the bus, in order; returns how many."""
        done = 0
        with self._lock:
            while True:
                first, last = struct.unpack_from("<II", self._page, self._offset)
                if first == last:
                    return done
                address, size, port, data = self._ENTRY.unpack_from(self._page, self._offset + 8 + first * self._ENTRY.size)
                struct.pack_into("<I", self._page, self._offset, (first + 1) % self._count)
                value = int.from_bytes(data[:size], "little")
                if port:
                    bus.port_write(address, size, value)
                else:
                    bus.mmio_write(address, size, value)
                done += 1


class KvmVcpu:
    """What architectures build upon. `page` is the run page; `raw` a view of its bytes."""

    guest = ""

    def __init__(self, vm: KvmVm, number: int, fd: int, page: Any) -> None:
        self.vm = vm
        self._number = number
        self._fd = fd
        self.page = page
        self.raw = memoryview(page)
        self.words = self.raw.cast("I")
        self.library = vm.library
        self.ring: CoalescedRing | None = None
        self._pio, self._mmio = PortIo(), Mmio()
        self._pending: PortIo | Mmio | Msr | Hypercall | None = None
        self._place = 0
        self._thread = 0  # the thread that is in run, 0 for none
        self._closed = self._released = False
        self._lock = threading.Lock()
        vm.library.ignore_signal(KICK_SIGNAL)

    @property
    def id(self) -> int:
        """The number that it was made with."""
        return self._number

    # -- calls ------------------------------------------------------------------------------------------------

    def call(self, code: int, argument: object, what: str) -> int:
        """An ioctl of the vCPU; raises EngineError."""
        if self._released:
            raise UsageError("this vCPU is closed")
        result = self.library.ioctl(self._fd, code, argument)
        if result < 0:
            raise EngineError(f"{what}: {os.strerror(self.library.errno())}")
        return result

    # -- what architectures know ------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Before each entry that may need registers in the page."""

    def entered(self) -> None:
        """After each entry: the page has the registers."""

    def debug_exit(self) -> VmExit:
        """What EXIT_DEBUG is about."""
        raise NotImplementedError

    def program_counter(self) -> int:
        """The address of the instruction that the guest is at."""
        raise NotImplementedError

    def code_at(self, pc: int) -> bytes:
        """Bytes of the guest's code, as far as they can be read."""
        return b""

    def other_exit(self, reason: int) -> VmExit:
        """An exit that only this architecture has."""
        raw = bytes(self.raw[_AT : _AT + 256])
        return Unsupported(self.program_counter(), _REASONS.get(reason, f"KVM exit {reason}"), reason, raw)

    # -- running ----------------------------------------------------------------------------------------------

    def kick(self) -> None:
        """From any thread: the byte makes the kernel leave at the next entry, the signal the one under way."""
        with self._lock:
            if self._released:
                return
            self.raw[1] = 1
            thread = self._thread
        if thread:
            self.library.tgkill(os.getpid(), thread, KICK_SIGNAL)

    def run(self) -> VmExit:
        """Enter the guest; see `polyvm.vcpu.contract`."""
        if self._thread:
            raise UsageError("this vCPU is already running")
        self._thread = get_native_id()
        try:
            if self._closed:
                raise UsageError("this vCPU is closed")
            if self._pending is not None:
                self._answer()
            self.prepare()
            if self.library.ioctl(self._fd, _RUN, None):
                found = self._failed()
                if found is not None:
                    return found
            self.entered()
            reason = self.words[2]
            if reason == _IO_EXIT:
                return self._port_exit()
            if reason == _MMIO_EXIT:
                return self._memory_exit()
            return self._exit(reason)
        finally:
            self._thread = 0
            if self._closed:
                self._release()

    def run_with(self, bus: Bus) -> VmExit:
        """Enter the guest until something comes that `bus` does not answer."""
        if self._thread:
            raise UsageError("this vCPU is already running")
        self._thread = get_native_id()
        ioctl, fd, page, words, unpack, pack = self.library.ioctl, self._fd, self.page, self.words, _UNPACK, _PACK
        io, mmio, entered, prepare = _IO.unpack_from, _MMIO.unpack_from, self.entered, self.prepare
        port_read, port_write, read, write = bus.port_read, bus.port_write, bus.mmio_read, bus.mmio_write
        reading: tuple[int, int] | None = None  # where a read's answer goes, while a handler is at it
        try:
            if self._closed:
                raise UsageError("this vCPU is closed")
            if self._pending is not None:
                self._answer()
            while True:
                prepare()
                if ioctl(fd, _RUN, None):
                    found = self._failed()
                    if found is not None:
                        return found
                entered()
                if self.ring is not None and self.ring.pending():
                    self.ring.drain(bus)
                reason = words[2]
                if reason == _IO_EXIT:
                    direction, size, port, count, offset = io(page, _AT)
                    for place in (offset,) if count == 1 else range(offset, offset + size * count, size):
                        if direction:
                            port_write(port, size, unpack[size](page, place)[0])
                        else:
                            reading = (place, size)
                            pack[size](page, place, port_read(port, size) & ALL_ONES[size])
                            reading = None
                elif reason == _MMIO_EXIT:
                    address, data, size, is_write = mmio(page, _AT)
                    if size not in unpack:  # an access that was split at the end of a page
                        self._odd_access(bus, address, data, size, is_write)
                    elif is_write:
                        write(address, size, unpack[size](data)[0])
                    else:
                        reading = (_AT + 8, size)
                        pack[size](page, _AT + 8, read(address, size) & ALL_ONES[size])
                        reading = None
                else:
                    return self._exit(reason)
                if self._closed:
                    return _INTERRUPTED
        finally:
            if reading is not None:
                pack[reading[1]](page, reading[0], ALL_ONES[reading[1]])
            self._thread = 0
            if self._closed:
                self._release()

    def _odd_access(self, bus: Bus, address: int, data: bytes, size: int, is_write: int) -> None:
        """An access of 3, 5, 6 or 7 bytes, byte by byte."""
        for index in range(min(size, 8)):
            if is_write:
                bus.mmio_write(address + index, 1, data[index])
            else:
                self.raw[_AT + 8 + index] = 0xFF
                self.raw[_AT + 8 + index] = bus.mmio_read(address + index, 1) & 0xFF

    def _failed(self) -> VmExit | None:
        """KVM_RUN has failed: what to tell the caller; None where another try is what the kernel asks for."""
        number = self.library.errno()
        while number == errno.EAGAIN and not self._closed:  # an application processor has got its start-up IPI
            if not self.library.ioctl(self._fd, _RUN, None):
                return None
            number = self.library.errno()
        if number in (errno.EINTR, errno.EAGAIN):
            self.raw[1] = 0
            self.entered()
            return _INTERRUPTED
        if number == errno.EFAULT:
            return InternalError(errno.EFAULT, ())
        raise EngineError(f"KVM_RUN: {os.strerror(number)}")

    def _port_exit(self) -> VmExit:
        direction, size, port, count, offset = _IO.unpack_from(self.page, _AT)
        found = self._pio
        found.port, found.size, found.write, found.count = port, size, direction == k.EXIT_IO_OUT, count
        if found.write:
            found.value = _UNPACK[size](self.page, offset)[0]
            found.data = bytes(self.raw[offset : offset + size * count]) if count != 1 else b""
        else:
            found.value = ALL_ONES[size]
            found.data = b"\xff" * (size * count) if count != 1 else b""
            self._pending, self._place = found, offset
        return found

    def _memory_exit(self) -> VmExit:
        address, data, size, is_write = _MMIO.unpack_from(self.page, _AT)
        found = self._mmio
        found.address, found.size, found.write = address, size, bool(is_write)
        if is_write:
            found.value = int.from_bytes(data[:size], "little")
        else:
            found.value = (1 << 8 * size) - 1
            self._pending, self._place = found, _AT + 8
        return found

    def _answer(self) -> None:
        """Put what the caller answered into the page."""
        found, self._pending = self._pending, None
        if isinstance(found, PortIo):
            size = found.size * found.count
            data = found.data if found.count != 1 else (found.value & ALL_ONES[found.size]).to_bytes(found.size, "little")
            self.raw[self._place : self._place + size] = data[:size] + b"\xff" * (size - len(data))
        elif isinstance(found, Mmio):
            value = found.value & (1 << 8 * found.size) - 1
            self.raw[self._place : self._place + found.size] = value.to_bytes(found.size, "little")
        elif isinstance(found, Msr):
            self.raw[_AT] = int(found.refused)
            if not found.write:
                struct.pack_into("<Q", self.page, _AT + 16, found.value & ALL_ONES[8])
        elif isinstance(found, Hypercall):
            struct.pack_into("<Q", self.page, _AT + 56, found.result & ALL_ONES[8])

    def _exit(self, reason: int) -> VmExit:
        """What any other exit means."""
        page = self.page
        if reason == k.EXIT_HLT:
            return _HALT
        if reason == k.EXIT_INTR:
            self.raw[1] = 0
            return _INTERRUPTED
        if reason == k.EXIT_SHUTDOWN:
            return _SHUTDOWN
        if reason == k.EXIT_IRQ_WINDOW_OPEN:
            return _WINDOW
        if reason == k.EXIT_DEBUG:
            return self.debug_exit()
        if reason in (k.EXIT_X86_RDMSR, k.EXIT_X86_WRMSR):
            _, why, index, data = _MSR.unpack_from(page, _AT)
            self._pending = msr = Msr(index, reason == k.EXIT_X86_WRMSR, data, _MSR_REASONS.get(why, str(why)))
            return msr
        if reason == k.EXIT_HYPERCALL:
            number, *arguments, _, _ = _HYPERCALL.unpack_from(page, _AT)
            self._pending = call = Hypercall(number, tuple(arguments))
            return call
        if reason == k.EXIT_INTERNAL_ERROR:
            code, count, *data = _INTERNAL.unpack_from(page, _AT)
            if code == k.INTERNAL_ERROR_EMULATION:
                return self._emulation_failure(count, data[0])
            return InternalError(code, tuple(data[: min(count, 16)]))
        if reason == k.EXIT_FAIL_ENTRY:
            return FailEntry(*_FAIL.unpack_from(page, _AT))
        if reason == k.EXIT_SYSTEM_EVENT:
            kind, count, *data = _INTERNAL.unpack_from(page, _AT)
            return SystemEvent(_EVENTS.get(kind, str(kind)), tuple(data[: min(count, 16)]))
        if reason == k.EXIT_IOAPIC_EOI:
            return EndOfInterrupt(self.raw[_AT])
        return self.other_exit(reason)

    def _emulation_failure(self, count: int, flags: int) -> VmExit:
        pc = self.program_counter()
        size = self.raw[_AT + 16]
        if count >= 3 and flags & k.INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES and 0 < size <= 15:
            return EmulationFailure(pc, bytes(self.raw[_AT + 17 : _AT + 17 + size]))
        return EmulationFailure(pc, self.code_at(pc))

    # -- life -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give it back; waits until `run` in another thread has come back, which it makes it do."""
        self._closed = True
        while self._thread and self._thread != get_native_id():
            self.kick()
            sleep(0.0002)
        if not self._thread:
            self._release()

    def _release(self) -> None:
        with self._lock:
            if self._released:
                return
            self._released = True
            self.words.release()
            self.raw.release()
            if hasattr(self.page, "close"):
                try:
                    self.page.close()
                except BufferError:
                    pass
            self.library.close(self._fd)

