"""Virtualization.framework, against one that keeps what it is told."""

from __future__ import annotations

import sys

import pytest

from polyvm.accel.vz import Vz, VzConfig, VzMachine
from polyvm.errors import EngineError, UnsupportedError, UsageError
from polyvm.testing.vz import ScriptedVz
from polyvm.vcpu.contract import VmConfig

MIB = 1 << 20


def machine(framework: ScriptedVz, **config: object) -> VzMachine:
    return VzMachine(VzConfig("/boot/vmlinuz", **config), Vz(framework))  # type: ignore[arg-type]


def test_a_machine_is_described_as_it_was_asked_for() -> None:
    """Kernel, command line, memory, CPUs, disks, console and network reach the framework."""
    framework = ScriptedVz()
    machine(framework, initrd="/boot/initrd", command_line="quiet", memory=64 * MIB, vcpus=2, disks=(("a.img", False), ("b.img", True)), console=(5, 6), network=True)
    values = framework.configuration.values
    assert (values["MemorySize"], values["CPUCount"]) == (64 * MIB, 2)
    loader = values["BootLoader"]
    assert loader.made == ("/boot/vmlinuz",) and loader.values == {"CommandLine": "quiet", "InitialRamdiskURL": "/boot/initrd"}
    assert [disk.made[0].made[:2] for disk in values["StorageDevices"]] == [("a.img", False), ("b.img", True)]
    assert [handle.made for handle in values["SerialPorts"][0].values["Attachment"].made] == [(5,), (6,)]
    assert values["NetworkDevices"][0].values["Attachment"].kind.name == "VZNATNetworkDeviceAttachment"


def test_a_machine_goes_through_its_states_on_its_queue() -> None:
    """Start, pause, resume, a request to stop, start again, stop; each on the queue that the framework demands."""
    framework = ScriptedVz()
    found = machine(framework)
    seen = [found.state]
    for step in (found.start, found.pause, found.resume, found.request_stop, found.start, found.stop):
        step()
        seen.append(found.state)
    assert seen == ["stopped", "running", "paused", "running", "stopped", "running", "stopped"]
    assert framework.on_queue == len(seen) + 6


def test_what_the_state_forbids_is_a_usage_error() -> None:
    """With the state in the sentence."""
    found = machine(ScriptedVz())
    with pytest.raises(UsageError, match="is stopped cannot be paused"):
        found.pause()
    with pytest.raises(UsageError, match="it is stopped"):
        found.request_stop()


def test_the_frameworks_errors_come_out() -> None:
    """Invalid machines, bad disks, starts that fail, limits."""
    with pytest.raises(UsageError, match="entitlement"):
        machine(ScriptedVz(invalid="no entitlement"))
    with pytest.raises(EngineError, match="could not be started: boom"):
        machine(ScriptedVz(failure="boom")).start()
    framework = ScriptedVz()
    framework.bad_files = ("x.img",)
    with pytest.raises(UsageError, match=r"x\.img"):
        machine(framework, disks=(("x.img", True),))
    with pytest.raises(UsageError, match="whole MiB"):
        machine(ScriptedVz(), memory=MIB + 1)
    with pytest.raises(UsageError, match="up to 8 CPUs"):
        machine(ScriptedVz(), vcpus=9)


def test_it_is_no_vm_and_says_so() -> None:
    """The capability is there, virtual CPUs are not."""
    found = Vz(ScriptedVz()).probe()
    assert found.present and found.capabilities.whole_machine and not found.capabilities.full_system
    with pytest.raises(UnsupportedError, match="VzMachine"):
        Vz(ScriptedVz()).create_vm(VmConfig())
    assert "cannot run virtual machines" in Vz(ScriptedVz(supported=False)).probe().reason


@pytest.mark.skipif(sys.platform == "darwin", reason="this is macOS")
def test_other_hosts_say_why_not() -> None:
    """The framework is a part of macOS."""
    assert "part of macOS" in Vz().probe().reason
