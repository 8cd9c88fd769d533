"""The compiler's process: regions in, objects out.

It runs beside the guest, at a lower priority, so that neither LLVM's memory nor Python's lock is in the guest's way, and a
failure of LLVM ends nothing but this process. Messages both ways: a length of 8 bytes, then as many bytes, which `marshal`
reads as (number, payload). A request's payload is a packed `RegionSpec`; the answer's is what `compile_region` returns, or a text
that says why there is none.
"""

from __future__ import annotations

import marshal
import os
import socket
import sys

from polyvm.engine.spawn import stand_back

Answer = tuple[bytes, int, list[tuple[int, int, int, int]]]


def compile_region(packed: bytes) -> Answer:
    """The image of a packed region, the notes of its exits, the ways of its blocks."""
    from polyvm.codegen.native import compile_region_object
    from polyvm.codegen.objects import link
    from polyvm.engine.exits import pack, patches
    from polyvm.engine.region import FULL, RegionSpec
    from polyvm.engine.translate import translate
    from polyvm.isa import get

    spec = RegionSpec.unpack(packed)
    translated = translate(get(spec.isa), spec)
    data = compile_region_object(translated.text, full=spec.level == FULL, loops=translated.loops)
    notes = pack(data, translated.exits)
    return link(data, notes, lambda function, place: patches(notes, function, place), closely=True), len(notes), translated.ways


def frame(number: int, payload: bytes | Answer | str) -> bytes:
    """A message."""
    data = marshal.dumps((number, payload))
    return len(data).to_bytes(8, "little") + data


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        got = connection.recv(size - len(data))
        if not got:
            os._exit(0)
        data += got
    return data


def main() -> None:
    """Serve the connection on descriptor 0 until it is closed."""
    stand_back(5)
    connection = socket.socket(fileno=0)
    while True:
        size = int.from_bytes(_receive(connection, 8), "little")
        number, packed = marshal.loads(_receive(connection, size))
        answer: Answer | str
        try:
            answer = compile_region(packed)
        except Exception as error:  # whatever it is, the guest goes on without this region
            answer = f"{type(error).__name__}: {error}"
        try:
            connection.sendall(frame(number, answer))
        except OSError:
            sys.exit(0)


if __name__ == "__main__":
    main()
