"""A machine that runs: threads for its vCPUs, its console, its end."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Self, cast

from polyvm import accel
from polyvm.errors import PolyvmError, UsageError
from polyvm.machine.config import Ending, MachineConfig
from polyvm.machine.console import Console
from polyvm.vcpu.contract import VmConfig
from polyvm.vcpu.machine_exits import (
    EmulationFailure,
    FailEntry,
    Halt,
    Hypercall,
    Interrupted,
    Msr,
    Shutdown,
    SystemEvent,
    VmExit,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.machine.board import Board
    from polyvm.vcpu.contract import Vm, X86Vcpu

_ENOSYS = (1 << 64) - 1000  # KVM_ENOSYS (include/uapi/linux/kvm_para.h): there is no such hypercall
_ENDINGS = {"shutdown": "shutdown", "reset": "reset", "crash": "reset"}


class Machine:
    """A virtual machine.

    >>> with Machine(MachineConfig(kernel="vmlinux", memory=512 << 20)) as machine:   # doctest: +SKIP
    ...     machine.console.expect("login:")
    ...     machine.stop()

    `start` (or entering the context) runs it on threads of its own; `wait` waits for its end. It can be started once.
    """

    def __init__(self, config: MachineConfig, warn: Callable[[str], None] | None = None) -> None:
        if not 1 <= config.vcpus <= 64:
            raise UsageError(f"a machine has 1 to 64 vCPUs, not {config.vcpus}")
        self.config = config
        self.console = Console()
        self.warnings: list[str] = []
        self._warn = warn
        self._accelerator = accel.get(config.accelerator) if config.accelerator else accel.best("x86_64")
        self._lock = threading.Lock()
        self._pending: Ending | None = None  # why the vCPUs shall stop
        self._ending: Ending | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._vcpus: list[X86Vcpu] = []
        self._board: Board | None = self._make_board()

    def _make_board(self) -> Board:
        if self.config.board == "microvm":
            from polyvm.machine.microvm import Microvm

            return Microvm(self.config, self.console, self)
        if self.config.board == "bios":
            from polyvm.machine.bios import Bios

            return Bios(self.config, self.console, self)
        raise UsageError(f"there is no board {self.config.board!r}; there are microvm and bios")

    # -- what the board tells

    def guest_reset(self, why: str) -> None:
        """The guest asked for a reset."""
        self._end(Ending("reset", detail=why))

    def guest_off(self) -> None:
        """The guest powered the machine off."""
        self._end(Ending("shutdown"))

    def guest_exit(self, code: int) -> None:
        """The guest wrote to the exit port."""
        self._end(Ending("exit", code))

    def warn(self, text: str) -> None:
        """Note something that the user may want to know; the first hundred are kept."""
        if len(self.warnings) < 100:
            self.warnings.append(text)
            if self._warn is not None:
                self._warn(text)

    # -- life

    def start(self) -> None:
        """Make the virtual machine, and begin to run it on threads of its own."""
        if self._thread is not None or self._board is None:
            raise UsageError("a machine can be started once")
        vm = self._assemble(self._board)
        self._thread = threading.Thread(target=self._live, args=(vm,), name="polyvm machine", daemon=True)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> Ending | None:
        """Wait for the end; None if it did not come within `timeout` seconds."""
        self._over.wait(timeout)
        return self._ending

    def stop(self) -> Ending:
        """End it now, whatever the guest does; the ending, which is an earlier one if there was one."""
        if self._thread is None:
            self._finish(Ending("stopped"))
        self._end(Ending("stopped"))
        self._over.wait()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        return self._ending or Ending("stopped")

    def resize(self, columns: int, rows: int) -> None:
        """Tell the guest the size of its terminal; only virtio consoles have one."""
        board = self._board
        if board is not None:
            board.resize(columns, rows)

    @property
    def ending(self) -> Ending | None:
        """Why it ended; None while it runs."""
        return self._ending

    def __enter__(self) -> Self:
        if self._thread is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- running

    def _assemble(self, board: Board) -> Vm:
        config = VmConfig("x86_64", board.memory, irqchip="full", pit=True, vcpus=self.config.vcpus)
        vm = self._accelerator.create_vm(config)
        try:
            board.connect(vm)
            self._vcpus = [cast("X86Vcpu", vm.create_vcpu(number)) for number in range(self.config.vcpus)]
            board.prepare(self._vcpus)
        except BaseException:
            board.close()  # its event descriptors are the machine's
            self._board = None
            vm.close()
            self._finish(Ending("failed", detail="it could not be assembled"))
            raise
        return vm

    def _live(self, vm: Vm) -> None:
        while True:
            board = self._board
            assert board is not None
            board.start()
            threads = [
                threading.Thread(target=self._run, args=(vcpu, board), name=f"polyvm vCPU {vcpu.id}", daemon=True)
                for vcpu in self._vcpus
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            ending = self._pending or Ending("failed", detail="all vCPUs ended without a reason")
            self._vcpus = []
            board.close()
            vm.close()
            if ending.reason != "reset" or not self.config.restart:
                break
            with self._lock:
                if self._pending is not ending:  # `stop` came meanwhile
                    ending = self._pending or ending
                    break
                self._pending = None
            try:
                self._board = self._make_board()
                vm = self._assemble(self._board)
            except (PolyvmError, OSError) as error:
                ending = Ending("failed", detail=f"it could not be started again: {error}")
                break
        self._board = None
        self._finish(ending)

    def _finish(self, ending: Ending) -> None:
        board, self._board = self._board, None
        if board is not None:
            board.close()
        if self._ending is None:
            self._ending = ending
        self.console.end()
        self._over.set()

    def _end(self, ending: Ending) -> None:
        with self._lock:
            if self._pending is None or (ending.reason == "stopped" and self._pending.reason == "reset" and self.config.restart):
                self._pending = ending
        for vcpu in self._vcpus:
            vcpu.kick()

    def _run(self, vcpu: X86Vcpu, board: Board) -> None:
        try:
            while self._pending is None:
                ending = self._handle(vcpu, vcpu.run_with(board.buses))
                if ending is not None:
                    self._end(ending)
        except Exception as error:  # a defect: the machine ends, the process goes on
            if os.environ.get("POLYVM_DEBUG"):
                import traceback

                traceback.print_exception(error)
            self._end(Ending("failed", detail=f"internal error on vCPU {vcpu.id}: {type(error).__name__}: {error}"))

    def _handle(self, vcpu: X86Vcpu, came: VmExit) -> Ending | None:
        match came:
            case Interrupted():
                return None
            case Hypercall():
                came.answer(_ENOSYS)
                return None
            case Msr():
                came.refuse()
                return None
            case Shutdown():
                return Ending("reset", detail="a triple fault")
            case Halt():
                return Ending("shutdown", detail="the processor halted for good")
            case SystemEvent(kind=kind):
                return Ending(_ENDINGS.get(kind, "failed"), detail=f"system event {kind}")
            case EmulationFailure(pc=pc, code=code):
                return Ending("unsupported", detail=self._cannot(pc, code))
            case FailEntry(reason=reason):
                return Ending("failed", detail=f"the processor refused the state of vCPU {vcpu.id} (reason {reason:#x})")
            case _:
                name = self._accelerator.name
                return Ending("unsupported", detail=f"{name} came back with {came!r}, which a machine has no answer to")

    def _cannot(self, pc: int, code: bytes) -> str:
        shown = f" ({code.hex(' ')})" if code else ""
        text = f"{self._accelerator.name} cannot execute the instruction at {pc:#x}{shown}"
        if os.path.isdir("/sys/module/kvm_pvm"):
            text += (
                ": this host's KVM is kvm_pvm, which has no VT-x or SVM under it and emulates kernel code, without x87, SSE, "
                "XSAVE, CMPXCHG16B, POPCNT and 32-bit paging; stock Linux kernels need these early in boot. Use a host whose "
                "/proc/cpuinfo has vmx or svm, or boot a guest that is built without them (gcc -mgeneral-regs-only)"
            )
        return text


