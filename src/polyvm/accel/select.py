"""Which accelerators this host has: the one place that looks at the host's kind."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from polyvm.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from polyvm.vcpu.capabilities import Availability
    from polyvm.vcpu.contract import Accelerator

# Best first. Each module has an `accelerator`.
ACCELERATORS = ("kvm", "hvf", "whpx", "vz", "soft")


def get(name: str) -> Accelerator:
    """The accelerator of this name, whether it can be used here or not."""
    if name not in ACCELERATORS:
        raise UsageError(f"there is no accelerator {name!r}; there are {', '.join(ACCELERATORS)}")
    found: Accelerator = import_module(f"polyvm.accel.{name}").accelerator
    return found


def available() -> list[Availability]:
    """What each accelerator says of this host, best first."""
    return [get(name).probe() for name in ACCELERATORS]


def best(guest: str = "x86_64", *, full_system: bool = True) -> Accelerator:
    """The best accelerator that can run this guest here; `full_system`: with kernels, not only user code. Raises
    UnsupportedError with all reasons."""
    reasons: list[str] = []
    for found in available():
        if not found.present:
            reasons.append(f"{found.name}: {found.reason}")
        elif guest not in found.capabilities.guests:
            reasons.append(f"{found.name}: has no {guest} guests here")
        elif full_system and not found.capabilities.full_system:
            reasons.append(f"{found.name}: {found.capabilities.why_not('full_system')}")
        else:
            return get(found.name)
    raise UnsupportedError(f"nothing here can run a {guest} machine ({'; '.join(reasons)})")
