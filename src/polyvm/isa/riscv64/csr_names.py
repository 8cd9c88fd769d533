"""Names of control and status registers (RISC-V privileged specification, tables 3 to 8), for the disassembler."""

from __future__ import annotations


def _numbered(first: int, name: str, begin: int, end: int) -> dict[int, str]:
    """``{first: name<begin>, …, name<end>}``."""
    return {first + i: f"{name}{begin + i}" for i in range(end - begin + 1)}


CSR_NAMES: dict[int, str] = {
    0x001: "fflags", 0x002: "frm", 0x003: "fcsr",
    0x008: "vstart", 0x009: "vxsat", 0x00A: "vxrm", 0x00F: "vcsr", 0x015: "seed", 0x017: "jvt",
    0xC00: "cycle", 0xC01: "time", 0xC02: "instret", **_numbered(0xC03, "hpmcounter", 3, 31),
    0xC20: "vl", 0xC21: "vtype", 0xC22: "vlenb",
    0x100: "sstatus", 0x104: "sie", 0x105: "stvec", 0x106: "scounteren", 0x10A: "senvcfg",
    0x140: "sscratch", 0x141: "sepc", 0x142: "scause", 0x143: "stval", 0x144: "sip", 0x14D: "stimecmp", 0x180: "satp",
    0x300: "mstatus", 0x301: "misa", 0x302: "medeleg", 0x303: "mideleg", 0x304: "mie", 0x305: "mtvec",
    0x306: "mcounteren", 0x30A: "menvcfg", 0x320: "mcountinhibit", **_numbered(0x323, "mhpmevent", 3, 31),
    0x340: "mscratch", 0x341: "mepc", 0x342: "mcause", 0x343: "mtval", 0x344: "mip", 0x34A: "mtinst", 0x34B: "mtval2",
    **_numbered(0x3A0, "pmpcfg", 0, 15), **_numbered(0x3B0, "pmpaddr", 0, 63),
    0x600: "hstatus", 0x602: "hedeleg", 0x603: "hideleg", 0x604: "hie", 0x605: "htimedelta", 0x606: "hcounteren",
    0x607: "hgeie", 0x60A: "henvcfg", 0x643: "htval", 0x644: "hip", 0x645: "hvip", 0x64A: "htinst", 0x680: "hgatp",
    0x200: "vsstatus", 0x204: "vsie", 0x205: "vstvec", 0x240: "vsscratch", 0x241: "vsepc", 0x242: "vscause",
    0x243: "vstval", 0x244: "vsip", 0x24D: "vstimecmp", 0x280: "vsatp", 0xE12: "hgeip",
    0xB00: "mcycle", 0xB02: "minstret", **_numbered(0xB03, "mhpmcounter", 3, 31),
    0xF11: "mvendorid", 0xF12: "marchid", 0xF13: "mimpid", 0xF14: "mhartid", 0xF15: "mconfigptr",
    0x7A0: "tselect", 0x7A1: "tdata1", 0x7A2: "tdata2", 0x7A3: "tdata3", 0x7A4: "tinfo",
    0x7B0: "dcsr", 0x7B1: "dpc", 0x7B2: "dscratch0", 0x7B3: "dscratch1",
}  # fmt: skip
