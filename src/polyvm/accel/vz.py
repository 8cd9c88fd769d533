"""Virtualization.framework (macOS): whole machines for Linux, with the framework's own devices.

It has no virtual CPUs that one could run, so it is no `Vm`: `VzMachine` starts a kernel with disks, a console and a network, and
the framework does the rest. Needs pyobjc (``pip install "polyvm[vz]"``), and an interpreter that is signed with the entitlement
com.apple.security.virtualization.
"""

from __future__ import annotations

import platform
import threading
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from polyvm.accel.ffi import vz as ffi
from polyvm.errors import EngineError, UnsupportedError, UsageError
from polyvm.vcpu.capabilities import Availability, Capabilities

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.vcpu.contract import VmConfig

_MIB = 1 << 20
_NO_VCPUS = "Virtualization.framework has no virtual CPUs to run, only whole machines: use polyvm.accel.vz.VzMachine"


@dataclass(frozen=True, slots=True)
class VzConfig:
    """A Linux machine. `memory` is in bytes, whole MiB; `disks` are (path, read-only) of raw images; `console` is a descriptor
    that the guest
    reads from and one that it writes to; `network` is NAT by the host."""

    kernel: str
    initrd: str | None = None
    command_line: str = "console=hvc0"
    memory: int = 512 * _MIB
    vcpus: int = 1
    disks: tuple[tuple[str, bool], ...] = ()
    console: tuple[int, int] | None = None
    network: bool = False


def _load() -> SimpleNamespace:
    """The names of `ffi.vz`, from pyobjc; raises UnsupportedError."""
    if platform.system() != "Darwin":
        raise UnsupportedError(f"Virtualization.framework is a part of macOS; this is {platform.system()}")
    found = SimpleNamespace()
    for name in ffi.MODULES:
        try:
            module = import_module(name)
        except ImportError:
            raise UnsupportedError(f'pyobjc\'s module {name} is not installed: pip install "polyvm[vz]"') from None
        for member in (*ffi.CLASSES.get(name, ()), *ffi.FUNCTIONS.get(name, ())):
            try:
                setattr(found, member, getattr(module, member))
            except AttributeError:
                raise UnsupportedError(f"this macOS has no {member}: polyvm needs macOS 12 or later") from None
    return found


class Vz:
    """The accelerator. `load` gives the framework's classes; tests have another."""

    name = "vz"

    def __init__(self, load: Callable[[], Any] = _load) -> None:
        self._load = load

    def framework(self) -> Any:
        """The framework's classes, where it can be used; raises UnsupportedError with the reason."""
        found = self._load()
        if not found.VZVirtualMachine.isSupported():
            raise UnsupportedError("this Mac cannot run virtual machines, or the interpreter lacks the entitlement for them")
        return found

    def probe(self) -> Availability:
        """Whether `VzMachine` can be used."""
        try:
            self.framework()
        except UnsupportedError as error:
            return Availability(self.name, present=False, reason=str(error))
        missing = {"full_system": _NO_VCPUS}
        guest = "aarch64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
        return Availability(self.name, present=True, capabilities=Capabilities((guest,), whole_machine=True, missing=missing))

    def create_vm(self, config: VmConfig) -> NoReturn:
        """Not there."""
        raise UnsupportedError(_NO_VCPUS)


class VzMachine:
    """A machine of the framework. All its methods may be called from any thread but the framework's own."""

    def __init__(self, config: VzConfig, accelerator: Vz | None = None) -> None:
        self._api = (accelerator or Vz()).framework()
        self.config = config
        description = self._describe(config)
        valid, error = description.validateWithError_(None)
        if not valid:
            raise UsageError(f"Virtualization.framework refuses this machine: {error}")
        self._queue = self._api.dispatch_queue_create(b"polyvm", None)  # serial, as the framework demands
        self._machine = self._api.VZVirtualMachine.alloc().initWithConfiguration_queue_(description, self._queue)

    def _describe(self, config: VzConfig) -> Any:
        api = self._api
        kind = api.VZVirtualMachineConfiguration
        least, most = kind.minimumAllowedMemorySize(), kind.maximumAllowedMemorySize()
        if config.memory % _MIB or not least <= config.memory <= most:
            raise UsageError(f"memory is whole MiB from {least // _MIB} to {most // _MIB} MiB here, not {config.memory:#x} bytes")
        if not kind.minimumAllowedCPUCount() <= config.vcpus <= kind.maximumAllowedCPUCount():
            raise UsageError(f"a machine has up to {kind.maximumAllowedCPUCount()} CPUs here, not {config.vcpus}")
        loader = api.VZLinuxBootLoader.alloc().initWithKernelURL_(self._url(config.kernel))
        loader.setCommandLine_(config.command_line)
        if config.initrd is not None:
            loader.setInitialRamdiskURL_(self._url(config.initrd))
        made = kind.alloc().init()
        made.setBootLoader_(loader)
        made.setMemorySize_(config.memory)
        made.setCPUCount_(config.vcpus)
        made.setEntropyDevices_([api.VZVirtioEntropyDeviceConfiguration.alloc().init()])
        made.setMemoryBalloonDevices_([api.VZVirtioTraditionalMemoryBalloonDeviceConfiguration.alloc().init()])
        made.setStorageDevices_([self._disk(path, readonly) for path, readonly in config.disks])
        if config.console is not None:
            handles = [api.NSFileHandle.alloc().initWithFileDescriptor_(fd) for fd in config.console]
            attachment = api.VZFileHandleSerialPortAttachment.alloc().initWithFileHandleForReading_fileHandleForWriting_(*handles)
            port = api.VZVirtioConsoleDeviceSerialPortConfiguration.alloc().init()
            port.setAttachment_(attachment)
            made.setSerialPorts_([port])
        if config.network:
            network = api.VZVirtioNetworkDeviceConfiguration.alloc().init()
            network.setAttachment_(api.VZNATNetworkDeviceAttachment.alloc().init())
            made.setNetworkDevices_([network])
        return made

    def _url(self, path: str) -> Any:
        return self._api.NSURL.fileURLWithPath_(path)

    def _disk(self, path: str, readonly: bool) -> Any:
        kind = self._api.VZDiskImageStorageDeviceAttachment
        attachment, error = kind.alloc().initWithURL_readOnly_error_(self._url(path), readonly, None)
        if attachment is None:
            raise UsageError(f"the disk image {path} cannot be used: {error}")
        return self._api.VZVirtioBlockDeviceConfiguration.alloc().initWithAttachment_(attachment)

    def _ask(self, call: Callable[[], Any]) -> Any:
        """The result of `call` on the machine's queue."""
        found: list[Any] = []
        self._api.dispatch_sync(self._queue, lambda: found.append(call()))
        return found[0]

    def _do(self, allowed: str, selector: str, what: str, timeout: float) -> None:
        """Something that calls back when it is done."""
        done = threading.Event()
        errors: list[Any] = []

        def finished(error: Any) -> None:
            errors.append(error)
            done.set()

        def begin() -> bool:
            if not getattr(self._machine, allowed)():
                return False
            getattr(self._machine, selector)(finished)
            return True

        if not self._ask(begin):
            raise UsageError(f"a machine that is {self.state} cannot be {what}")
        if not done.wait(timeout):
            raise EngineError(f"Virtualization.framework has not {what} the machine within {timeout:g} seconds")
        if errors[0] is not None:
            raise EngineError(f"the machine could not be {what}: {errors[0]}")

    @property
    def state(self) -> str:
        """ "stopped", "running", "paused", "error", "starting", "pausing", "resuming" …"""
        number = int(self._ask(self._machine.state))
        return ffi.STATES[number] if 0 <= number < len(ffi.STATES) else str(number)

    def start(self, timeout: float = 30.0) -> None:
        """Returns when the machine runs."""
        self._do("canStart", "startWithCompletionHandler_", "started", timeout)

    def pause(self, timeout: float = 30.0) -> None:
        """Returns when it is paused."""
        self._do("canPause", "pauseWithCompletionHandler_", "paused", timeout)

    def resume(self, timeout: float = 30.0) -> None:
        """Returns when it runs again."""
        self._do("canResume", "resumeWithCompletionHandler_", "resumed", timeout)

    def stop(self, timeout: float = 30.0) -> None:
        """Take the power away."""
        self._do("canStop", "stopWithCompletionHandler_", "stopped", timeout)

    def request_stop(self) -> None:
        """Ask the guest to turn itself off."""

        def ask() -> tuple[bool, Any]:
            if not self._machine.canRequestStop():
                return False, f"it is {ffi.STATES[int(self._machine.state())]}"
            done, error = self._machine.requestStopWithError_(None)
            return bool(done), error

        done, error = self._ask(ask)
        if not done:
            raise UsageError(f"the machine cannot be asked to stop: {error}")


accelerator = Vz()
