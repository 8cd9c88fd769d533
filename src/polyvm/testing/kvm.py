"""A KVM that follows a script, for x86-64 and aarch64."""

from __future__ import annotations

import ctypes
import errno
import struct
from time import sleep
from typing import TYPE_CHECKING, Any

from polyvm.accel.ffi import kvm as k
from polyvm.accel.ffi import kvm_aarch64 as a
from polyvm.accel.ffi import kvm_x86_64 as x
from polyvm.testing.steps import (
    Failure,
    HaltStep,
    MmioRead,
    MmioWrite,
    PortRead,
    PortWrite,
    Script,
    ShutdownStep,
    Slot,
    Spin,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_RUN_SIZE = 3 * 4096
_DATA = 4096  # where the page has the data of port I/O
# Extensions that are not there: those of the other architecture, or that need an answer of their own.
_MISSING = {"x86_64": (), "aarch64": (k.CAP_SPLIT_IRQCHIP, k.CAP_SYNC_REGS)}
_ANSWERS = {
    k.CAP_SYNC_REGS: 7, k.CAP_NR_MEMSLOTS: 64, k.CAP_MAX_VCPUS: 8, k.CAP_COALESCED_MMIO: 2, k.CAP_XSAVE2: 4096,
    k.CAP_ARM_VM_IPA_SIZE: 40,
}  # fmt: skip
# SET → GET, for state that is kept as it is given.
_STATE = {
    x.SET_REGS: x.GET_REGS, x.SET_SREGS: x.GET_SREGS, x.SET_FPU: x.GET_FPU, x.SET_XSAVE: x.GET_XSAVE, x.SET_XCRS: x.GET_XCRS,
    x.SET_VCPU_EVENTS: x.GET_VCPU_EVENTS, x.SET_DEBUGREGS: x.GET_DEBUGREGS, x.SET_LAPIC: x.GET_LAPIC,
    k.SET_MP_STATE: k.GET_MP_STATE,
}  # fmt: skip
_GETS = {get & 0xFFFF: get for get in _STATE.values()}


class _Vcpu:
    def __init__(self, script: Script, page: bytearray) -> None:
        self.script = script
        self.page = page
        self.state: dict[int, bytes] = {}
        self.registers: dict[int, bytes] = {}
        self.place = 0


class ScriptedKvm(k.Library):
    """`scripts` are what each vCPU does. `calls` lists the ioctls that it does not know, which all succeed; `slots` the
    memory."""

    def __init__(self, scripts: Sequence[Sequence[Step]] = ((),), *, machine: str = "x86_64") -> None:
        self.machine = machine
        self.scripts = [Script(steps) for steps in scripts]
        self.slots: dict[int, Slot] = {}
        self.calls: list[int] = []
        self.devices: list[int] = []  # types of devices made in the kernel
        self.attributes: list[tuple[int, int, int | None]] = []  # group, attribute, value
        self.features: list[tuple[int, int]] = []  # target and features of each vCPU
        self.levels: list[tuple[int, int]] = []  # interrupts and their levels
        self.debug: list[Any] = []
        self.open_descriptors: set[int] = set()
        self._vcpus: dict[int, _Vcpu] = {}
        self._next = 1000
        self._errno = 0
        self.ioctl = self._ioctl
        self.tgkill = lambda process, thread, number: 0

    def open(self, path: str) -> int:
        """A descriptor that is none."""
        self._next += 1
        self.open_descriptors.add(self._next)
        return self._next

    def close(self, fd: int) -> None:
        """The reverse of `open`; an error for a descriptor that is not open."""
        self.open_descriptors.remove(fd)

    def map(self, fd: int, size: int) -> bytearray:
        """The run page."""
        return self._vcpus[fd].page

    def errno(self) -> int:
        """What the last call that failed says."""
        return self._errno

    def ignore_signal(self, number: int) -> None:
        """Nothing: kicks are seen in the page."""

    def _ioctl(self, fd: int, code: int, argument: Any) -> int:
        if code == k.RUN:
            return self._run(self._vcpus[fd])
        if code == k.GET_API_VERSION:
            return k.API_VERSION
        if code == k.CHECK_EXTENSION:
            return 0 if argument in _MISSING[self.machine] else _ANSWERS.get(argument, 1)
        if code == k.GET_VCPU_MMAP_SIZE:
            return _RUN_SIZE
        if code in (k.CREATE_VM, k.CREATE_VCPU):
            made = self.open("")
            if code == k.CREATE_VCPU:
                script = self.scripts[argument] if argument < len(self.scripts) else Script(())
                self._vcpus[made] = _Vcpu(script, bytearray(_RUN_SIZE))
            return made
        data = getattr(argument, "_obj", argument)
        if code == k.SET_USER_MEMORY_REGION:
            return self._memory(data)
        if code == k.GET_DIRTY_LOG:
            slot = self.slots[data.slot]
            bits = sum(1 << page for page in slot.dirty)
            length = -(-slot.size // (4096 * 64)) * 8
            ctypes.memmove(data.dirty_bitmap, bits.to_bytes(length, "little"), length)
            slot.dirty.clear()
            return 0
        if code == k.CREATE_DEVICE:
            data.fd = self.open("")
            self.devices.append(data.type)
            return 0
        if code == k.SET_DEVICE_ATTR:
            size = 4 if data.group == a.DEV_ARM_VGIC_GRP_NR_IRQS else 8
            value = int.from_bytes(ctypes.string_at(data.addr, size), "little") if data.addr else None
            self.attributes.append((data.group, data.attr, value))
            return 0
        if code == k.IRQ_LINE:
            self.levels.append((data.irq, data.level))
            return 0
        if code == a.SET_GUEST_DEBUG and self.machine == "aarch64":
            self.debug.append(data)
            return 0
        if code == a.ARM_VCPU_INIT and self.machine == "aarch64":
            self.features.append((data.target, data.features[0]))
            return 0
        return self._kept(self._vcpus.get(fd), code, data)

    def _kept(self, vcpu: _Vcpu | None, code: int, data: Any) -> int:
        """State that is stored and given back."""
        if vcpu is not None and code in _STATE and self.machine == "x86_64":
            vcpu.state[_STATE[code]] = bytes(data)
        elif vcpu is not None and code in vcpu.state:
            ctypes.memmove(ctypes.addressof(data), vcpu.state[code], ctypes.sizeof(data))
        elif vcpu is not None and code in (k.GET_ONE_REG, k.SET_ONE_REG):
            size = 1 << (data.id >> k.REG_SIZE_SHIFT & 15)
            if code == k.SET_ONE_REG:
                vcpu.registers[data.id] = ctypes.string_at(data.addr, size)
            else:
                ctypes.memmove(data.addr, vcpu.registers.get(data.id, bytes(size)), size)
        elif code == a.ARM_PREFERRED_TARGET and self.machine == "aarch64":
            data.target = 5
        elif code not in _GETS.values():
            self.calls.append(code)
        return 0

    def _memory(self, region: k.UserspaceMemoryRegion) -> int:
        if region.memory_size == 0:
            self.slots.pop(region.slot)
        else:
            dirty = self.slots[region.slot].dirty if region.slot in self.slots else set[int]()
            readonly = bool(region.flags & k.MEM_READONLY)
            self.slots[region.slot] = Slot(region.guest_phys_addr, region.memory_size, region.userspace_addr, readonly, dirty)
        return 0

    def find(self, address: int, size: int) -> Slot | None:
        """The slot that has an address."""
        return next((s for s in self.slots.values() if s.address <= address and address + size <= s.address + s.size), None)

    def _fail(self, number: int) -> int:
        self._errno = number
        return -1

    def _run(self, vcpu: _Vcpu) -> int:
        page, script = vcpu.page, vcpu.script
        if script.waiting:
            script.answered(int.from_bytes(page[vcpu.place : vcpu.place + script.waiting], "little"))
        if page[1]:
            script.kicked()
            return self._fail(errno.EINTR)
        step = script.next(self.find)
        if isinstance(step, Spin):
            while not page[1]:
                sleep(0.0005)
            script.kicked()
            return self._fail(errno.EINTR)
        reason = k.EXIT_HLT
        if isinstance(step, (PortRead, PortWrite)):
            reason = k.EXIT_IO
            vcpu.place = _DATA
            struct.pack_into(k.RUN_IO[2], page, 32, int(isinstance(step, PortWrite)), step.size, step.port, 1, _DATA)
            if isinstance(step, PortWrite):
                page[_DATA : _DATA + step.size] = step.value.to_bytes(step.size, "little")
        elif isinstance(step, (MmioRead, MmioWrite)):
            reason = k.EXIT_MMIO
            vcpu.place = 40
            data = step.value.to_bytes(8, "little") if isinstance(step, MmioWrite) else bytes(8)
            struct.pack_into(k.RUN_MMIO[2], page, 32, step.address, data, step.size, int(isinstance(step, MmioWrite)))
        elif isinstance(step, ShutdownStep):
            reason = k.EXIT_SHUTDOWN
        elif isinstance(step, Failure):
            reason = step.code
        else:
            assert isinstance(step, HaltStep)
        struct.pack_into("<I", page, 8, reason)
        if self.machine == "x86_64" and x.GET_REGS in vcpu.state and not page[296]:  # kvm_dirty_regs
            page[304 : 304 + ctypes.sizeof(x.Regs)] = vcpu.state[x.GET_REGS]
        page[296] = 0
        return 0
