"""What an accelerator can do here, and why not where it cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polyvm.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Feature → what it is, for tables and for messages. `Capabilities` has one field for each.
FEATURES: Mapping[str, str] = {
    "readonly_memory": "read-only guest memory",
    "dirty_log": "logging of pages that the guest writes to",
    "dirty_ring": "a ring of dirty pages instead of bitmaps",
    "irqchip": "an interrupt controller in the accelerator",
    "split_irqchip": "local APICs in the accelerator, the I/O APIC outside",
    "pit": "an i8254 timer in the accelerator",
    "msi": "message signalled interrupts",
    "irqfd": "interrupts raised by event descriptors",
    "ioeventfd": "event descriptors signalled by guest writes",
    "coalesced_mmio": "writes that are collected until the next exit",
    "msr_exits": "exits for model specific registers",
    "msr_filter": "a filter of model specific registers",
    "cpuid": "CPUID leaves of our own",
    "hide_features": "hiding CPUID features",
    "xsave": "the whole extended state (XSAVE)",
    "single_step": "single steps",
    "software_breakpoints": "exits at breakpoint instructions",
    "hardware_breakpoints": "hardware breakpoints and watchpoints",
    "clock": "a paravirtual clock",
    "nested": "virtual machines inside of the guest",
    "full_system": "kernels: privileged modes, paging, interrupts",
    "real_mode": "16-bit code",
    "whole_machine": "whole machines of its own, without a run loop",
}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What can be used; where a feature is False, `missing` may say why, in a sentence."""

    guests: tuple[str, ...] = ()
    max_vcpus: int = 1
    memory_slots: int = 1
    readonly_memory: bool = False
    dirty_log: bool = False
    dirty_ring: bool = False
    irqchip: bool = False
    split_irqchip: bool = False
    pit: bool = False
    msi: bool = False
    irqfd: bool = False
    ioeventfd: bool = False
    coalesced_mmio: bool = False
    msr_exits: bool = False
    msr_filter: bool = False
    cpuid: bool = False
    hide_features: bool = False
    xsave: bool = False
    single_step: bool = False
    software_breakpoints: bool = False
    hardware_breakpoints: bool = False
    clock: bool = False
    nested: bool = False
    full_system: bool = False
    real_mode: bool = False
    whole_machine: bool = False
    missing: Mapping[str, str] = field(default_factory=dict[str, str])

    def has(self, feature: str) -> bool:
        """Whether the feature of this name can be used; raises KeyError for a name that is none."""
        FEATURES[feature]
        return bool(getattr(self, feature))

    def why_not(self, feature: str) -> str:
        """A sentence on why `feature` is missing; empty where it is there."""
        if self.has(feature):
            return ""
        return self.missing.get(feature) or "this accelerator does not have that"

    def require(self, feature: str) -> None:
        """Raise UnsupportedError with the reason where `feature` is missing."""
        if not self.has(feature):
            raise UnsupportedError(f"{FEATURES[feature]}: {self.why_not(feature)}")


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether an accelerator can be used on this host, and why not."""

    name: str
    present: bool
    reason: str = ""
    version: str = ""
    capabilities: Capabilities = field(default_factory=Capabilities)
