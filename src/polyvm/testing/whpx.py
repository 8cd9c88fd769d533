"""A scripted Windows Hypervisor Platform: WinHvPlatform.dll and WinHvEmulation.dll as Python, for tests on hosts without them.

Its functions are C function pointers of the real signatures, so every call passes through the same conversions as on Windows. It
executes no instructions: `script` holds what the processor does next, functions that fill in the exit's context.

    fake = ScriptedWhpx()
    fake.script.append(lambda fake, vp, context: fake.port(context, 0x3F8, 1, write=True, rax=65))
    vm = Whpx((fake.platform, fake.emulator)).create_vm(VmConfig())

After that it does what `scripts` say, steps of `polyvm.testing.steps` for each processor.
"""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING, Any

from polyvm.accel.ffi import whpx as ffi
from polyvm.testing.library import ScriptedLibrary
from polyvm.testing.steps import (
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
    from collections.abc import Callable, Mapping, Sequence

    Move = Callable[["ScriptedWhpx", int, ffi.WHV_RUN_VP_EXIT_CONTEXT], None]

C = ffi.CONSTANTS
_OK, _INVALID = 0, ffi.E_INVALIDARG - (1 << 32)
_BUSY = ffi.WHV_E_INVALID_PARTITION_CONFIG - (1 << 32)
_UNKNOWN = ffi.WHV_E_INVALID_VP_REGISTER_NAME - (1 << 32)
_MISSING = ffi.WHV_E_VP_DOES_NOT_EXIST - (1 << 32)


class ScriptedWhpx(ScriptedLibrary):
    """One partition at a time. After use: `properties` by code, `mapped` ranges by guest address as (host, size, flags),
    `registers` by (processor, name) as 16 bytes, `interrupts` requested, `calls` in order."""

    def __init__(
        self, scripts: Sequence[Sequence[Step]] | None = None, *, features: int = 0xF, extended: int = 0x3F, present: bool = True
    ) -> None:
        super().__init__()
        self.capabilities = {
            C["WHvCapabilityCodeHypervisorPresent"]: int(present),
            C["WHvCapabilityCodeFeatures"]: features,
            C["WHvCapabilityCodeExtendedVmExits"]: extended,
        }
        self.script: list[Move] = []
        self.scripts = None if scripts is None else [Script(steps) for steps in scripts]
        self.properties: dict[int, bytes] = {}
        self.mapped: dict[int, tuple[int, int, int]] = {}
        self.dirty: dict[int, bytes] = {}
        self.registers: dict[tuple[int, int], bytes] = {}
        self.processors: set[int] = set()
        self.interrupts: list[tuple[int, int, int]] = []
        self.pages: dict[int, int] = {}
        self.partitions = 0
        self.is_set_up = False
        self.instruction: Callable[[ScriptedWhpx, int, Any], bool] | None = None
        self._callbacks: ffi.WHV_EMULATOR_CALLBACKS | None = None
        self._cancelled: dict[int, threading.Event] = {}
        self.platform = self.functions(ffi.FUNCTIONS, ffi.HRESULT)
        self.emulator = self.functions(ffi.EMULATOR_FUNCTIONS, ffi.HRESULT)

    # -- what tests write scripts with --------------------------------------------------------------------------

    def set(self, vp: int, name: str, value: int) -> None:
        """Give a register a value; names without ``WHvX64Register``."""
        self.registers[vp, C[f"WHvX64Register{name}"]] = value.to_bytes(16, "little")

    def get(self, vp: int, name: str) -> int:
        """The low 64 bits of a register."""
        return int.from_bytes(self.registers.get((vp, C[f"WHvX64Register{name}"]), bytes(16))[:8], "little")

    @staticmethod
    def exit(context: ffi.WHV_RUN_VP_EXIT_CONTEXT, reason: str, *, rip: int = 0x1000, length: int = 2) -> None:
        """An exit of this reason, at an instruction of `length` bytes."""
        context.ExitReason = C[f"WHvRunVpExitReason{reason}"]
        context.VpContext.Rip, context.VpContext.Length = rip, length

    def port(
        self, context: ffi.WHV_RUN_VP_EXIT_CONTEXT, port: int, size: int, *, write: bool, rax: int = 0, string: bool = False
    ) -> None:
        """An access to a port."""
        self.exit(context, "X64IoPortAccess")
        access = context.IoPortAccess
        access.AccessInfo, access.PortNumber, access.Rax = write | size << 1 | string << 4, port, rax

    # -- scripts of steps -----------------------------------------------------------------------------------------

    def _follow(self, script: Script, vp: int, context: ffi.WHV_RUN_VP_EXIT_CONTEXT) -> bool:
        """The exit of the next step; False: the guest only computes."""
        if script.waiting:
            script.answered(self.get(vp, "Rax"))
        step = script.next(self.find)
        rip = self.get(vp, "Rip")
        if isinstance(step, Spin):
            return False
        if isinstance(step, (PortRead, PortWrite)):
            write = isinstance(step, PortWrite)
            rax = step.value if isinstance(step, PortWrite) else self.get(vp, "Rax")
            self.port(context, step.port, step.size, write=write, rax=rax)
            context.VpContext.Rip = rip
        elif isinstance(step, (MmioRead, MmioWrite)):
            self.exit(context, "MemoryAccess", rip=rip)
            self.instruction = lambda fake, held, place: fake._move(step, held, place[0].Rip)
        elif isinstance(step, HaltStep):
            self.set(vp, "Rip", rip + 1)
            self.exit(context, "X64Halt", rip=rip)
        elif isinstance(step, ShutdownStep):
            self.exit(context, "UnrecoverableException", rip=rip)
        else:
            self.exit(context, "None", rip=rip)
            context.ExitReason = getattr(step, "code", 0)
        return True

    def _move(self, step: MmioRead | MmioWrite, context: int, rip: int) -> bool:
        value = step.value if isinstance(step, MmioWrite) else None
        found = self.device(context, step.address, step.size, value)
        if found is None:
            return False
        self.finish(context, {"Rip": rip + 2} if isinstance(step, MmioWrite) else {"Rip": rip + 2, "Rax": found})
        return True

    # -- the platform -------------------------------------------------------------------------------------------

    def _WHvGetCapability(self, code: int, buffer: int, size: int, written: Any) -> int:
        if code not in self.capabilities:
            return ffi.WHV_E_UNKNOWN_CAPABILITY - (1 << 32)
        ctypes.memmove(buffer, self.capabilities[code].to_bytes(8, "little"), min(size, 8))
        written[0] = 8
        return _OK

    def _WHvCreatePartition(self, handle: Any) -> int:
        self.partitions += 1
        handle[0] = ctypes.c_void_p(0x5000 + self.partitions)
        return _OK

    def _WHvDeletePartition(self, handle: int) -> int:
        self.partitions -= 1
        return _OK if not self.processors else _BUSY

    def _WHvSetPartitionProperty(self, handle: int, code: int, buffer: int, size: int) -> int:
        if self.is_set_up:
            return _BUSY
        self.properties[code] = ctypes.string_at(buffer, size)
        return _OK

    def _WHvSetupPartition(self, handle: int) -> int:
        if self.is_set_up or C["WHvPartitionPropertyCodeProcessorCount"] not in self.properties:
            return _BUSY
        self.is_set_up = True
        return _OK

    def _WHvMapGpaRange(self, handle: int, host: int, address: int, size: int, flags: int) -> int:
        if not self.is_set_up or (host | address | size) & 0xFFF:
            return _INVALID
        self.mapped[address] = host, size, flags
        self.slots[address] = Slot(address, size, host, not flags & C["WHvMapGpaRangeFlagWrite"])
        return _OK

    def _WHvUnmapGpaRange(self, handle: int, address: int, size: int) -> int:
        self.slots.pop(address, None)
        return _OK if self.mapped.pop(address, None) is not None else ffi.WHV_E_GPA_RANGE_NOT_FOUND - (1 << 32)

    def _WHvQueryGpaRangeDirtyBitmap(self, handle: int, address: int, size: int, bitmap: Any, room: int) -> int:
        data = self.dirty.pop(address, b"").ljust(room, b"\0")
        if found := self.slots[address].dirty:
            data = sum(1 << page for page in found).to_bytes(room, "little")
            found.clear()
        ctypes.memmove(bitmap, data, room)
        return _OK

    def _WHvTranslateGva(self, handle: int, vp: int, address: int, flags: int, result: Any, physical: Any) -> int:
        page = self.pages.get(address >> 12)
        result[0] = C["WHvTranslateGvaResultSuccess"] if page is not None else 1
        physical[0] = (page << 12 | address & 0xFFF) if page is not None else 0
        return _OK

    def _WHvCreateVirtualProcessor(self, handle: int, vp: int, flags: int) -> int:
        if not self.is_set_up:
            return _BUSY
        if vp in self.processors:
            return ffi.WHV_E_VP_ALREADY_EXISTS - (1 << 32)
        self.processors.add(vp)
        self._cancelled[vp] = threading.Event()
        return _OK

    def _WHvDeleteVirtualProcessor(self, handle: int, vp: int) -> int:
        if vp not in self.processors:
            return _MISSING
        self.processors.remove(vp)
        return _OK

    def _WHvRunVirtualProcessor(self, handle: int, vp: int, buffer: int, size: int) -> int:
        if vp not in self.processors or size != ctypes.sizeof(ffi.WHV_RUN_VP_EXIT_CONTEXT):
            return _INVALID
        context = ffi.WHV_RUN_VP_EXIT_CONTEXT.from_address(buffer)
        if not self._cancelled[vp].is_set() and self.script:
            self.script.pop(0)(self, vp, context)
            return _OK
        if not self._cancelled[vp].is_set() and self.scripts is not None and self._follow(self.scripts[vp], vp, context):
            return _OK
        # A guest that only computes: until it is cancelled.
        self._cancelled[vp].wait()
        self._cancelled[vp].clear()
        if self.scripts is not None:
            self.scripts[vp].kicked()
        self.exit(context, "Canceled")
        return _OK

    def _WHvCancelRunVirtualProcessor(self, handle: int, vp: int, flags: int) -> int:
        if vp not in self.processors:
            return _MISSING
        self._cancelled[vp].set()
        return _OK

    def _WHvGetVirtualProcessorRegisters(self, handle: int, vp: int, names: Any, count: int, values: Any) -> int:
        for index in range(count):
            if names[index] not in C.values() and not 0x1000 <= names[index] <= 0x1019:
                return _UNKNOWN
            data = self.registers.get((vp, names[index]), bytes(16))
            ctypes.memmove(ctypes.addressof(values[index]), data, 16)
        return _OK

    def _WHvSetVirtualProcessorRegisters(self, handle: int, vp: int, names: Any, count: int, values: Any) -> int:
        for index in range(count):
            if names[index] not in C.values() and not 0x1000 <= names[index] <= 0x1019:
                return _UNKNOWN
            self.registers[vp, names[index]] = bytes(values[index])
        return _OK

    def _WHvRequestInterrupt(self, handle: int, control: Any, size: int) -> int:
        if C["WHvPartitionPropertyCodeLocalApicEmulationMode"] not in self.properties:
            return _BUSY
        self.interrupts.append((control[0].Kind, control[0].Destination, control[0].Vector))
        return _OK

    # -- the instruction emulator ---------------------------------------------------------------------------------

    def _WHvEmulatorCreateEmulator(self, callbacks: Any, handle: Any) -> int:
        self._callbacks = callbacks[0]
        if callbacks[0].Size != ctypes.sizeof(ffi.WHV_EMULATOR_CALLBACKS):
            return _INVALID
        handle[0] = ctypes.c_void_p(0x6000)
        return _OK

    def _emulate(self, context: int, place: Any, status: Any) -> int:
        done = self.instruction is not None and self.instruction(self, context, place)
        status[0] = 1 if done else 2
        return _OK

    def _WHvEmulatorTryMmioEmulation(self, handle: int, context: int, place: Any, access: Any, status: Any) -> int:
        return self._emulate(context, place, status)

    def _WHvEmulatorTryIoEmulation(self, handle: int, context: int, place: Any, access: Any, status: Any) -> int:
        return self._emulate(context, place, status)

    def device(self, context: int, address: int, size: int, value: int | None = None) -> int | None:
        """For `instruction`: an access to memory as the emulator makes it; what it reads, None where it was refused."""
        assert self._callbacks is not None
        access = ffi.WHV_EMULATOR_MEMORY_ACCESS_INFO(address, int(value is not None), size)
        access.Data[:size] = list((value or 0).to_bytes(size, "little"))
        if self._callbacks.WHvEmulatorMemoryCallback(context, ctypes.byref(access)) < 0:
            return None
        return int.from_bytes(bytes(access.Data[:size]), "little")

    def string_port(self, context: int, port: int, size: int, value: int | None = None) -> int | None:
        """For `instruction`: the same for a port."""
        assert self._callbacks is not None
        access = ffi.WHV_EMULATOR_IO_ACCESS_INFO(int(value is not None), port, size, value or 0)
        if self._callbacks.WHvEmulatorIoPortCallback(context, ctypes.byref(access)) < 0:
            return None
        return int(access.Data)

    def finish(self, context: int, values: Mapping[str, int]) -> None:
        """For `instruction`: set registers, as the emulator does at an instruction's end."""
        assert self._callbacks is not None
        names = (ctypes.c_uint32 * len(values))(*(C[f"WHvX64Register{name}"] for name in values))
        data = (ffi.WHV_REGISTER_VALUE * len(values))()
        for place, value in zip(data, values.values(), strict=True):
            place.Reg64 = value
        self._callbacks.WHvEmulatorSetVirtualProcessorRegisters(context, names, len(values), data)
