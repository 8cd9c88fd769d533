"""What a machine is made of, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DiskConfig:
    """A disk in the raw file `path`. With `overlay` the file stays as it is and what is written goes to the file `overlay`."""

    path: str
    readonly: bool = False
    overlay: str | None = None
    serial: str = ""


@dataclass(frozen=True, slots=True)
class NetConfig:
    """A network card. `kind` is "tap" with the interface's `name`, or "user" for passt; `mac` as in 52:54:00:12:34:56."""

    kind: str
    name: str = ""
    mac: str = ""


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """A machine. `board` is "microvm", which boots `kernel`, or "bios", which starts `firmware` (default: SeaBIOS) from a disk.

    `memory` is in bytes. `cmdline` is added to what the board needs. `console` is "serial" or "virtio". `vsock` is (context id
    of the guest, path of the Unix socket). With `restart` a reset starts the machine again, else it ends it. With `acpi` a
    microvm describes its devices by ACPI tables, in place of words on the kernel's command line.
    """

    board: str = "microvm"
    kernel: str | None = None
    initrd: str | None = None
    cmdline: str = ""
    firmware: str | None = None
    memory: int = 256 << 20
    vcpus: int = 1
    disks: tuple[DiskConfig, ...] = ()
    nets: tuple[NetConfig, ...] = ()
    vsock: tuple[int, str] | None = None
    rng: bool = True
    console: str = "serial"
    accelerator: str | None = None
    restart: bool = False
    acpi: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a machine ended.

    `reason` is "reset" (the guest asked for one, or a triple fault: `detail` tells), "exit" (the guest wrote `code` to the exit
    port), "shutdown", "stopped" (`Machine.stop`), "unsupported" (the accelerator cannot go on; `detail` says what and what to
    use instead) or "failed" (a defect of polyvm or of the host).
    """

    reason: str
    code: int = 0
    detail: str = ""
