"""Where the Windows Hypervisor Platform keeps the registers of an x86-64 virtual CPU: one table for each set of them.

A row is a field of the contract's record and the register's name in WHV_REGISTER_NAME without ``WHvX64Register``; `kinds` says
which member of WHV_REGISTER_VALUE holds it, if not Reg64. The tables generate both directions.
"""

from __future__ import annotations

from ctypes import Array, c_uint32
from typing import TYPE_CHECKING, Any

from polyvm.accel.ffi import whpx as ffi
from polyvm.accel.registers import checked
from polyvm.vcpu.x86_64 import Segment, Table, X86Debug, X86Fpu, X86Regs, X86Special

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "WHvX64Register"
_FULL = 0xFFFF_FFFF_FFFF_FFFF


class RegisterMap:
    """Rows of a field of `record` and a register's name, for every field."""

    names: Array[c_uint32]
    values: type[Array[ffi.WHV_REGISTER_VALUE]]

    def __init__(self, record: type[Any], rows: Mapping[str, str], kinds: Mapping[str, str]) -> None:
        table = checked(record, rows.items())
        self.record = record
        self.fields = list(table)
        self.kinds = [kinds.get(name, "Reg64") for name in self.fields]
        self.count = len(table)
        self.names = (c_uint32 * self.count)(*(ffi.CONSTANTS[PREFIX + name] for name in table.values()))
        self.values = ffi.WHV_REGISTER_VALUE * self.count

    def unpack(self, values: Any) -> Any:
        """The record that an array of register values makes."""
        found = {
            name: _READ[kind](value) for name, kind, value in zip(self.fields, self.kinds, values, strict=True)
        }
        return self.record(**found)

    def pack(self, record: Any) -> Any:
        """An array of register values from a record."""
        values = self.values()
        for name, kind, value in zip(self.fields, self.kinds, values, strict=True):
            _WRITE[kind](value, getattr(record, name))
        return values


def _write_segment(value: Any, new: Segment) -> None:
    value.Segment.Base, value.Segment.Limit, value.Segment.Selector = new.base, new.limit, new.selector
    value.Segment.Attributes = 0 if new.unusable else new.attributes & 0xFFFF


def _write_table(value: Any, new: Table) -> None:
    value.Table.Base, value.Table.Limit = new.base, new.limit


def _write64(value: Any, new: int) -> None:
    value.Reg64 = new


def _read64(value: Any) -> int:
    found: int = value.Reg64
    return found


def _read_segment(value: Any) -> Segment:
    held = value.Segment
    attributes = held.Attributes | (0 if held.Attributes & 0x80 else 1 << 16)
    return Segment(held.Base, held.Limit, held.Selector, attributes)


def _read_table(value: Any) -> Table:
    return Table(value.Table.Base, value.Table.Limit)


_READ: Mapping[str, Callable[[Any], Any]] = {"Reg64": _read64, "Segment": _read_segment, "Table": _read_table}
_WRITE: Mapping[str, Callable[[Any, Any], None]] = {"Reg64": _write64, "Segment": _write_segment, "Table": _write_table}

REGS = RegisterMap(X86Regs, {name: name.title() for name in X86Regs.__dataclass_fields__}, {})
_SEGMENTS = {"cs": "Cs", "ds": "Ds", "es": "Es", "fs": "Fs", "gs": "Gs", "ss": "Ss", "tr": "Tr", "ldt": "Ldtr"}
_TABLES = {"gdt": "Gdtr", "idt": "Idtr"}
SPECIAL = RegisterMap(
    X86Special,
    {**_SEGMENTS, **_TABLES, "cr0": "Cr0", "cr2": "Cr2", "cr3": "Cr3", "cr4": "Cr4", "cr8": "Cr8", "efer": "Efer",
     "apic_base": "ApicBase"},
    {**dict.fromkeys(_SEGMENTS, "Segment"), **dict.fromkeys(_TABLES, "Table")},
)  # fmt: skip
DEBUG = RegisterMap(X86Debug, {name: name.title() for name in X86Debug.__dataclass_fields__}, {})

# Model specific registers by index (Intel SDM, volume 4).
MSRS: Mapping[int, str] = {
    0x10: "Tsc", 0x1B: "ApicBase", 0x3B: "TscAdjust", 0x48: "SpecCtrl", 0x174: "SysenterCs", 0x175: "SysenterEsp",
    0x176: "SysenterEip", 0x277: "Pat", 0x6E0: "TscDeadline", 0xDA0: "Xss", 0xC0000080: "Efer", 0xC0000081: "Star",
    0xC0000082: "Lstar", 0xC0000083: "Cstar", 0xC0000084: "Sfmask", 0xC0000102: "KernelGsBase", 0xC0000103: "TscAux",
}  # fmt: skip


class _FpuMap:
    """x87 and SSE: registers of 128 bits, and two with fields."""

    names: Array[c_uint32]
    values: type[Array[ffi.WHV_REGISTER_VALUE]]

    def __init__(self) -> None:
        first, mmx = ffi.CONSTANTS[PREFIX + "Xmm0"], ffi.CONSTANTS[PREFIX + "FpMmx0"]
        names = [*range(first, first + 16), *range(mmx, mmx + 8),
                 ffi.CONSTANTS[PREFIX + "FpControlStatus"], ffi.CONSTANTS[PREFIX + "XmmControlStatus"]]  # fmt: skip
        self.count = len(names)
        self.names = (c_uint32 * self.count)(*names)
        self.values = ffi.WHV_REGISTER_VALUE * self.count

    def unpack(self, values: Any) -> X86Fpu:
        """The record."""
        wide = [value.Reg128.Low64 | value.Reg128.High64 << 64 for value in values[:24]]
        control, status = values[24].FpControlStatus, values[25].XmmControlStatus
        return X86Fpu(
            tuple(value & (1 << 80) - 1 for value in wide[16:]), control.FpControl, control.FpStatus, control.FpTag,
            control.LastFpOp, control.LastFpRip, status.LastFpRdp, status.XmmStatusControl, tuple(wide[:16]),
        )  # fmt: skip

    def pack(self, record: X86Fpu) -> Any:
        """An array of register values."""
        values = self.values()
        for value, number in zip(values[:24], (*record.xmm, *record.st), strict=True):
            value.Reg128.Low64, value.Reg128.High64 = number & _FULL, number >> 64
        control, status = values[24].FpControlStatus, values[25].XmmControlStatus
        control.FpControl, control.FpStatus, control.FpTag = record.fcw, record.fsw, record.ftw
        control.LastFpOp, control.LastFpRip, status.LastFpRdp = record.fop, record.fip, record.fdp
        status.XmmStatusControl, status.XmmStatusControlMask = record.mxcsr, 0xFFFF
        return values


FPU = _FpuMap()
