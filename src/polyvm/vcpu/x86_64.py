"""The registers of an x86-64 virtual CPU (Intel SDM volume 1, 3.4; volume 3, chapters 2 and 10), unsigned integers throughout."""

from __future__ import annotations

from dataclasses import dataclass, field

# EFER, CR0, CR4, RFLAGS (SDM volume 3, 2.2.1, 2.5; volume 1, 3.4.3): the bits that setting up a mode needs.
EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE = 1, 1 << 8, 1 << 10, 1 << 11
CR0_PE, CR0_MP, CR0_EM, CR0_TS, CR0_ET, CR0_NE, CR0_WP, CR0_PG = 1, 2, 4, 8, 0x10, 0x20, 1 << 16, 1 << 31
CR4_PAE, CR4_OSFXSR, CR4_OSXMMEXCPT, CR4_OSXSAVE = 1 << 5, 1 << 9, 1 << 10, 1 << 18
RFLAGS_RESERVED, RFLAGS_TF, RFLAGS_IF = 2, 0x100, 0x200


@dataclass(slots=True)
class X86Regs:
    """General registers, instruction pointer and flags."""

    rax: int = 0
    rbx: int = 0
    rcx: int = 0
    rdx: int = 0
    rsi: int = 0
    rdi: int = 0
    rsp: int = 0
    rbp: int = 0
    r8: int = 0
    r9: int = 0
    r10: int = 0
    r11: int = 0
    r12: int = 0
    r13: int = 0
    r14: int = 0
    r15: int = 0
    rip: int = 0
    rflags: int = RFLAGS_RESERVED


@dataclass(slots=True)
class Segment:
    """A segment register. `attributes` are bits 8 to 23 of a descriptor's second doubleword (SDM volume 3, 24.4.1): type 3:0, S
    4,
    DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15; bit 16 is "unusable". `limit` is in bytes, whatever G is."""

    base: int = 0
    limit: int = 0xFFFF
    selector: int = 0
    attributes: int = 0x93

    @property
    def unusable(self) -> bool:
        """Whether the register holds the null selector or nothing."""
        return bool(self.attributes >> 16 & 1)


@dataclass(slots=True)
class Table:
    """GDTR or IDTR."""

    base: int = 0
    limit: int = 0xFFFF


@dataclass(slots=True)
class X86Special:
    """Segments, descriptor tables, control registers, EFER, APIC base. The defaults are a processor after a reset, but with all
    segments at 0."""

    cs: Segment = field(default_factory=lambda: Segment(attributes=0x9B))
    ds: Segment = field(default_factory=Segment)
    es: Segment = field(default_factory=Segment)
    fs: Segment = field(default_factory=Segment)
    gs: Segment = field(default_factory=Segment)
    ss: Segment = field(default_factory=Segment)
    tr: Segment = field(default_factory=lambda: Segment(attributes=0x8B))
    ldt: Segment = field(default_factory=lambda: Segment(attributes=0x82))
    gdt: Table = field(default_factory=Table)
    idt: Table = field(default_factory=Table)
    cr0: int = CR0_ET
    cr2: int = 0
    cr3: int = 0
    cr4: int = 0
    cr8: int = 0
    efer: int = 0
    apic_base: int = 0xFEE0_0900

    def real_mode(self, selector: int, base: int | None = None) -> None:
        """Real mode with CS = `selector` (its base 16 times that, or `base`) and all other segments at 0."""
        self.cs = Segment(selector << 4 if base is None else base, 0xFFFF, selector, 0x9B)
        for name in ("ds", "es", "fs", "gs", "ss"):
            setattr(self, name, Segment())
        self.cr0, self.cr4, self.efer = CR0_ET, 0, 0

    def protected_mode(self) -> None:
        """32-bit protected mode without paging, flat segments: selector 0x08 for code, 0x10 for data, as PVH and multiboot have
        it."""
        self.cs = Segment(0, 0xFFFF_FFFF, 0x08, 0xC09B)
        for name in ("ds", "es", "fs", "gs", "ss"):
            setattr(self, name, Segment(0, 0xFFFF_FFFF, 0x10, 0xC093))
        self.tr = Segment(0, 0x67, 0x18, 0x8B)
        self.cr0, self.cr4, self.efer = CR0_PE | CR0_ET, 0, 0

    def long_mode(self, cr3: int) -> None:
        """64-bit mode with the page tables at `cr3`, flat segments: selector 0x10 for code, 0x18 for data, as Linux's boot
        protocol has it."""
        self.cs = Segment(0, 0xFFFF_FFFF, 0x10, 0xA09B)
        for name in ("ds", "es", "fs", "gs", "ss"):
            setattr(self, name, Segment(0, 0xFFFF_FFFF, 0x18, 0xC093))
        self.tr = Segment(0, 0x67, 0x20, 0x8B)
        self.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG | CR0_MP
        self.cr4, self.cr3, self.efer = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT, cr3, EFER_LME | EFER_LMA | EFER_NXE


@dataclass(slots=True)
class X86Fpu:
    """x87, MMX and SSE state (SDM volume 1, 8.1 and 10.2). `st` are the eight 80-bit stack registers, ST0 first, `xmm` the
    sixteen
    128-bit ones; `ftw` is FXSAVE's abridged tag word (a bit for each register that is not empty)."""

    st: tuple[int, ...] = (0,) * 8
    fcw: int = 0x37F
    fsw: int = 0
    ftw: int = 0
    fop: int = 0
    fip: int = 0
    fdp: int = 0
    mxcsr: int = 0x1F80
    xmm: tuple[int, ...] = (0,) * 16


@dataclass(slots=True)
class X86Debug:
    """Debug registers (SDM volume 3, 17.2)."""

    dr0: int = 0
    dr1: int = 0
    dr2: int = 0
    dr3: int = 0
    dr6: int = 0xFFFF_0FF0
    dr7: int = 0x400


@dataclass(slots=True)
class X86Events:
    """What is about to be delivered: an exception, an interrupt, NMIs; `None` where there is nothing.

    `interrupt_shadow` has bit 0 for STI and bit 1 for MOV SS.
    """

    exception: int | None = None
    error_code: int | None = None
    interrupt: int | None = None
    soft: bool = False
    interrupt_shadow: int = 0
    nmi_injected: bool = False
    nmi_pending: bool = False
    nmi_masked: bool = False
