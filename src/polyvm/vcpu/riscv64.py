"""The registers of a riscv64 virtual CPU (RISC-V unprivileged and privileged specifications), unsigned integers throughout."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RvRegs:
    """General registers without x0, and the pc."""

    x1: int = 0
    x2: int = 0
    x3: int = 0
    x4: int = 0
    x5: int = 0
    x6: int = 0
    x7: int = 0
    x8: int = 0
    x9: int = 0
    x10: int = 0
    x11: int = 0
    x12: int = 0
    x13: int = 0
    x14: int = 0
    x15: int = 0
    x16: int = 0
    x17: int = 0
    x18: int = 0
    x19: int = 0
    x20: int = 0
    x21: int = 0
    x22: int = 0
    x23: int = 0
    x24: int = 0
    x25: int = 0
    x26: int = 0
    x27: int = 0
    x28: int = 0
    x29: int = 0
    x30: int = 0
    x31: int = 0
    pc: int = 0

    @property
    def x(self) -> tuple[int, ...]:
        """x0 to x31."""
        return (0, *(getattr(self, f"x{number}") for number in range(1, 32)))


@dataclass(slots=True)
class RvFpu:
    """`f` are the 32 registers as raw bits of 64."""

    f: tuple[int, ...] = (0,) * 32
    fcsr: int = 0


@dataclass(slots=True)
class RvSpecial:
    """Supervisor control and status registers (privileged specification, 10.1); `mode` is 0 for U, 1 for S, 3 for M."""

    mode: int = 0
    sstatus: int = 0
    sie: int = 0
    stvec: int = 0
    sscratch: int = 0
    sepc: int = 0
    scause: int = 0
    stval: int = 0
    sip: int = 0
    satp: int = 0
    scounteren: int = 0
    senvcfg: int = 0
