"""The legacy region of an XSAVE image (SDM volume 1, 10.5 and 13.4.1), which is FXSAVE's, and struct kvm_fpu."""

from __future__ import annotations

import struct
from typing import Any

from polyvm.vcpu.x86_64 import X86Fpu

_HEAD = struct.Struct("<HHBxHQQI")
_ST, _XMM, _XSTATE_BV = 32, 160, 512
_X87, _SSE = 1, 2


def unpack(image: bytes) -> X86Fpu:
    """x87 and SSE state of an XSAVE image; a component whose XSTATE_BV bit is clear is in its initial state."""
    (present,) = struct.unpack_from("<Q", image, _XSTATE_BV) if len(image) >= _XSTATE_BV + 8 else (3,)
    fcw, fsw, ftw, fop, fip, fdp, mxcsr = _HEAD.unpack_from(image)
    found = X86Fpu(mxcsr=mxcsr)
    if present & _X87:
        found.fcw, found.fsw, found.ftw, found.fop, found.fip, found.fdp = fcw, fsw, ftw, fop, fip, fdp
        found.st = tuple(int.from_bytes(image[_ST + 16 * i : _ST + 16 * i + 10], "little") for i in range(8))
    if present & _SSE:
        found.xmm = tuple(int.from_bytes(image[_XMM + 16 * i : _XMM + 16 * i + 16], "little") for i in range(16))
    return found


def pack(image: bytearray, regs: X86Fpu) -> None:
    """Write them into an XSAVE image and mark them present."""
    _HEAD.pack_into(image, 0, regs.fcw, regs.fsw, regs.ftw, regs.fop, regs.fip, regs.fdp, regs.mxcsr)
    for i, value in enumerate(regs.st):
        image[_ST + 16 * i : _ST + 16 * i + 16] = (value & (1 << 80) - 1).to_bytes(16, "little")
    for i, value in enumerate(regs.xmm):
        image[_XMM + 16 * i : _XMM + 16 * i + 16] = (value & (1 << 128) - 1).to_bytes(16, "little")
    if len(image) >= _XSTATE_BV + 8:
        (present,) = struct.unpack_from("<Q", image, _XSTATE_BV)
        struct.pack_into("<Q", image, _XSTATE_BV, present | _X87 | _SSE)


def from_kvm(data: Any) -> X86Fpu:
    """struct kvm_fpu."""
    return X86Fpu(
        tuple(int.from_bytes(bytes(data.fpr[i])[:10], "little") for i in range(8)), data.fcw, data.fsw, data.ftwx,
        data.last_opcode,
        data.last_ip, data.last_dp, data.mxcsr, tuple(int.from_bytes(bytes(data.xmm[i]), "little") for i in range(16)),
    )  # fmt: skip


def to_kvm(data: Any, regs: X86Fpu) -> None:
    """struct kvm_fpu."""
    for i, value in enumerate(regs.st):
        data.fpr[i][:] = (value & (1 << 80) - 1).to_bytes(16, "little")
    for i, value in enumerate(regs.xmm):
        data.xmm[i][:] = (value & (1 << 128) - 1).to_bytes(16, "little")
    data.fcw, data.fsw, data.ftwx, data.last_opcode = regs.fcw, regs.fsw, regs.ftw, regs.fop
    data.last_ip, data.last_dp, data.mxcsr = regs.fip, regs.fdp, regs.mxcsr
