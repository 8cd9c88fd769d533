"""The registers of an aarch64 virtual CPU (Arm ARM, DDI 0487, B1.2 and D19), unsigned integers throughout."""

from __future__ import annotations

from dataclasses import dataclass

# PSTATE as SPSR_EL1 holds it (DDI 0487, C5.2.19): EL1 with its own stack pointer, all exceptions masked.
PSTATE_EL1H_MASKED = 0x3C5


@dataclass(slots=True)
class A64Regs:
    """General registers; `sp` is the stack pointer in use (SP_EL0, or SP_EL1 where PSTATE says so), `pstate` as in SPSR_EL1."""

    x0: int = 0
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
    sp: int = 0
    pc: int = 0
    pstate: int = PSTATE_EL1H_MASKED

    @property
    def x(self) -> tuple[int, ...]:
        """x0 to x30."""
        return tuple(getattr(self, f"x{number}") for number in range(31))


@dataclass(slots=True)
class A64Fpu:
    """`v` are the 32 vector registers of 128 bits."""

    v: tuple[int, ...] = (0,) * 32
    fpsr: int = 0
    fpcr: int = 0


@dataclass(slots=True)
class A64Special:
    """System registers of EL1 and EL0, by the manual's names."""

    sp_el0: int = 0
    sp_el1: int = 0
    elr_el1: int = 0
    spsr_el1: int = 0
    sctlr_el1: int = 0x30D0_0800
    actlr_el1: int = 0
    cpacr_el1: int = 0
    ttbr0_el1: int = 0
    ttbr1_el1: int = 0
    tcr_el1: int = 0
    esr_el1: int = 0
    afsr0_el1: int = 0
    afsr1_el1: int = 0
    far_el1: int = 0
    par_el1: int = 0
    mair_el1: int = 0
    amair_el1: int = 0
    vbar_el1: int = 0
    contextidr_el1: int = 0
    tpidr_el0: int = 0
    tpidrro_el0: int = 0
    tpidr_el1: int = 0
    cntkctl_el1: int = 0
    cntv_ctl_el0: int = 0
    cntv_cval_el0: int = 0
    mdscr_el1: int = 0
    mpidr_el1: int = 0x8000_0000
    midr_el1: int = 0
