"""`polyvm boot`: a whole machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from polyvm.cli import EXIT_INTERNAL
from polyvm.cli.messages import complain, report
from polyvm.cli.options import integer
from polyvm.errors import PolyvmError, UsageError

if TYPE_CHECKING:
    from polyvm.machine import DiskConfig, Ending, NetConfig


@click.command()
@click.option("--kernel", metavar="FILE", help="The kernel: a bzImage (vmlinuz) or an ELF file (vmlinux, PVH) for x86-64.")
@click.option("--initrd", metavar="FILE", help="The initial RAM disk.")
@click.option("--cmdline", metavar="TEXT", default="", help="Words for the kernel's command line, besides what the board needs.")
@click.option(
    "--disk", "disks", metavar="FILE[,ro][,overlay=FILE][,serial=TEXT]", multiple=True,
    help="A disk in the raw file FILE; may be repeated. With ro it is only read; with overlay=FILE changes go to that file.",
)  # fmt: skip
@click.option(
    "--net", "nets", metavar="user|tap=NAME[,mac=ADDRESS]", multiple=True,
    help="A network card: user for the host's network through passt, or an interface of the host.",
)  # fmt: skip
@click.option(
    "--vsock", metavar="CID,PATH",
    help="A vsock device: the guest's context id (3 or more), and a Unix socket to reach it by.",
)  # fmt: skip
@click.option("--memory", metavar="SIZE", default="256M", show_default=True, help="Memory, e.g. 512M or 2G.")
@click.option("--smp", metavar="N", default="1", show_default=True, help="Processors.")
@click.option(
    "--console", type=click.Choice(["serial", "virtio"]), default="serial", show_default=True, help="The console's device.",
)  # fmt: skip
@click.option(
    "--board", type=click.Choice(["microvm", "bios"]), default="microvm", show_default=True, help="The kind of machine.",
)  # fmt: skip
@click.option("--firmware", metavar="FILE", help="With --board=bios: the firmware.  [default: SeaBIOS of this host]")
@click.option("--accel", metavar="NAME", help="The accelerator.  [default: the best that there is; see polyvm accel]")
@click.option("--acpi", is_flag=True, help="Describe the devices by ACPI tables, in place of words on the kernel's command line.")
@click.option("--restart", is_flag=True, help="Start again when the guest resets, in place of ending.")
def command(
    kernel: str | None, initrd: str | None, cmdline: str, disks: tuple[str, ...], nets: tuple[str, ...], vsock: str | None,
    memory: str, smp: str, console: str, board: str, firmware: str | None, accel: str | None, acpi: bool, restart: bool,
) -> int:  # fmt: skip
    """Boot a machine, with its console on the terminal. Ctrl-A x ends it, Ctrl-A h shows what else there is."""
    try:
        from polyvm.machine import Machine, MachineConfig
        from polyvm.machine.terminal import interact

        config = MachineConfig(
            board=board, kernel=kernel, initrd=initrd, cmdline=cmdline, firmware=firmware, memory=integer(memory, "--memory") &
            ~0xFFF, vcpus=integer(smp, "--smp"), disks=tuple(map(_disk, disks)), nets=tuple(map(_net, nets)),
            vsock=_vsock(vsock) if vsock is not None else None, console=console, accelerator=accel, restart=restart, acpi=acpi,
        )  # fmt: skip
        return _status(interact(Machine(config, warn=complain)))
    except (PolyvmError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        return report(error)


def _status(ending: Ending) -> int:
    if ending.reason in ("unsupported", "failed"):
        complain(ending.detail)
        return EXIT_INTERNAL
    if ending.reason == "reset" and ending.detail == "a triple fault":
        complain("the machine ended by a triple fault")
        return EXIT_INTERNAL
    return ending.code & 0xFF if ending.reason == "exit" else 0


def _disk(text: str) -> DiskConfig:
    from polyvm.machine import DiskConfig

    path, *words = text.split(",")
    if not path:
        raise UsageError(f"--disk needs a file first, not {text!r}")
    readonly, values = False, dict[str, str]()
    for word in words:
        key, equals, value = word.partition("=")
        if word == "ro":
            readonly = True
        elif key in ("overlay", "serial") and equals and value:
            values[key] = value
        else:
            raise UsageError(f"--disk {text}: {word!r} is neither ro, overlay=FILE nor serial=TEXT")
    return DiskConfig(path, readonly, values.get("overlay"), values.get("serial", ""))


def _net(text: str) -> NetConfig:
    from polyvm.machine import NetConfig

    first, *words = text.split(",")
    kind, _, name = first.partition("=")
    if kind not in ("user", "tap") or (kind == "tap") != bool(name):
        raise UsageError(f"--net is user or tap=NAME, not {text!r}")
    mac = ""
    for word in words:
        key, _, value = word.partition("=")
        if key != "mac":
            raise UsageError(f"--net {text}: {word!r} is not mac=ADDRESS")
        mac = value
    return NetConfig(kind, name, mac)


def _vsock(text: str) -> tuple[int, str]:
    cid, _, path = text.partition(",")
    if not path or len(os.fsencode(path)) > 100:
        raise UsageError(f"--vsock is CID,PATH with a path of at most 100 bytes, not {text!r}")
    return integer(cid, "--vsock"), path
