"""The compressed kernel inside of a bzImage (Linux, Documentation/arch/x86/boot.rst, payload_offset)."""

from __future__ import annotations

_LARGEST = 512 << 20  # bytes: more than any kernel, and less than what a crafted file could ask for


def unpack(payload: bytes) -> bytes:
    """The unpacked `payload`; empty where its format is none that Python's library knows, or it is damaged: the guest's own
    decompressor then has to do it, or to say why not. What follows the compressed data (its size) is left alone."""
    try:
        if payload[:2] == b"\x1f\x8b":
            import zlib

            return zlib.decompressobj(31).decompress(payload, _LARGEST)
        if payload[:6] == b"\xfd7zXZ\0":
            import lzma

            return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload, _LARGEST)
        if payload[:3] == b"]\0\0":
            import lzma

            return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload, _LARGEST)
        if payload[:3] == b"BZh":
            import bz2

            return bz2.BZ2Decompressor().decompress(payload, _LARGEST)
    except Exception:  # each library has its own errors for damaged data
        return b""
    return b""


def unpack_lz4(payload: bytes) -> bytes:
    """The same for LZ4's legacy format (lz4_Frame_format.md, "Legacy frame"; lz4_Block_format.md), which Python's library has
    not: some seconds for a kernel. Empty where it is another format or damaged."""
    if payload[:4] != b"\x02\x21\x4c\x18":
        return b""
    out = bytearray()
    at, end = 4, len(payload)
    try:
        while at + 4 < end and len(out) < _LARGEST:
            size = int.from_bytes(payload[at : at + 4], "little")
            if size == 0 or at + 4 + size > end:
                break  # what follows is the size of all, which the build appends
            out += _lz4_block(payload[at + 4 : at + 4 + size])
            at += 4 + size
    except (IndexError, ValueError):
        return b""
    return bytes(out)


def _lz4_block(block: bytes) -> bytearray:
    out = bytearray()
    at, end = 0, len(block)
    while at < end:
        token = block[at]
        at += 1
        literals = token >> 4
        if literals == 15:
            while True:
                more = block[at]
                at += 1
                literals += more
                if more != 255:
                    break
        if literals:
            out += block[at : at + literals]
            at += literals
        if at >= end:
            break
        distance = block[at] | block[at + 1] << 8
        at += 2
        length = (token & 15) + 4
        if length == 19:
            while True:
                more = block[at]
                at += 1
                length += more
                if more != 255:
                    break
        begin = len(out) - distance
        if begin < 0 or distance == 0:
            raise ValueError("a match before the beginning")
        if length <= distance:
            out += out[begin : begin + length]
        else:
            piece = out[begin:]
            out += (piece * (length // distance + 1))[:length]
        if len(out) > 9 << 20:
            raise ValueError("a block of more than 8 MiB")
    return out
