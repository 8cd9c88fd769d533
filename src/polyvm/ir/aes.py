"""The steps of AES (FIPS 197) on a state of 16 bytes, the first column first, as integers."""

from __future__ import annotations


def _times(a: int, b: int) -> int:
    """The product in GF(2**8) modulo x**8 + x**4 + x**3 + x + 1 (4.2)."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = a << 1 ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def _substituted(a: int) -> int:
    """SubBytes of one byte (5.1.1): the inverse, the power 254, then an affine transformation."""
    inverse, power = 1, a
    for _ in range(7):
        power = _times(power, power)
        inverse = _times(inverse, power)
    turned = inverse | inverse << 8
    return (turned ^ turned >> 4 ^ turned >> 5 ^ turned >> 6 ^ turned >> 7 ^ 0x63) & 0xFF


_SBOX = bytes(_substituted(a) for a in range(256))
_INVERSE = bytes(_SBOX.index(a) for a in range(256))
# Where ShiftRows (5.1.2) and its inverse take each byte from.
_ROWS = [(4 * (column + row) + row) % 16 for column in range(4) for row in range(4)]
_ROWS_BACK = [_ROWS.index(i) for i in range(16)]


def sub(state: int) -> int:
    """SubBytes and ShiftRows."""
    data = state.to_bytes(16, "little")
    return int.from_bytes(bytes(_SBOX[data[i]] for i in _ROWS), "little")


def isub(state: int) -> int:
    """InvShiftRows and InvSubBytes."""
    data = state.to_bytes(16, "little")
    return int.from_bytes(bytes(_INVERSE[data[i]] for i in _ROWS_BACK), "little")


def _mixed(state: int, row: tuple[int, int, int, int]) -> int:
    data = state.to_bytes(16, "little")
    result = bytearray(16)
    for i in range(16):
        column = i & ~3
        for j in range(4):
            result[i] ^= _times(data[column + j], row[(j - i) % 4])
    return int.from_bytes(result, "little")


def mix(state: int) -> int:
    """MixColumns."""
    return _mixed(state, (2, 3, 1, 1))


def imix(state: int) -> int:
    """InvMixColumns."""
    return _mixed(state, (14, 11, 13, 9))


STEPS = {"aes_sub": sub, "aes_isub": isub, "aes_mix": mix, "aes_imix": imix}
