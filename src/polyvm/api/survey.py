"""A program as its dynamic linker lays it out, before its first instruction: what can be known of its code without a run."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from polyvm.errors import MemoryFault, UsageError
from polyvm.mem import PAGE_BITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.api.launch import Launch
    from polyvm.debug.guest import GuestNames
    from polyvm.engine.profile import CodeMap, Image

_AT_ENTRY = 9
_MAIN = 64  # how much more main counts than what is not known to be called by it; what it calls half as much, and so on


def survey_program(launch: Launch, failed: Callable[[BaseException], int], everything: bool) -> Image | int:
    """The program's code, and its libraries' if `everything` is wanted, as blocks with guessed counts; or the status of a program
    that cannot be loaded."""
    import tempfile

    from polyvm.api.observe import in_child
    from polyvm.engine.profile import read

    with tempfile.TemporaryDirectory(prefix="polyvm-") as folder:
        path = os.path.join(folder, "image")
        status = in_child(lambda: _lay_out(launch, path), failed)
        if not os.path.exists(path):
            return status if status > 0 else 1
        (image,) = read(path)
    _follow(image, everything)
    return image


def _lay_out(launch: Launch, path: str) -> int:
    from polyvm.api.launch import prepare, roots
    from polyvm.engine.profile import Image, append
    from polyvm.engine.recorder import maps_of
    from polyvm.linux import Arrived

    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    launch.jit = "off"
    process = prepare(launch)
    process.own_descriptors.append(fd)
    entry = next(value for key, value in struct.iter_unpack("<QQ", process.image.auxv) if key == _AT_ENTRY)
    if process.image.entry != entry:
        # The dynamic linker maps the libraries and then goes to the program's entry point.
        process.stop_before(entry)
        try:
            status = process.run()
        except Arrived:
            pass
        else:
            raise UsageError(f"{launch.program} ended with status {status} before its first instruction")
    image = Image(process.architecture, process.image.program, roots(launch))
    image.maps = [mapped for mapped in maps_of(process.arena) if mapped.path.startswith("/")]
    for mapped in image.maps:
        for page in range(mapped.start >> PAGE_BITS, mapped.end >> PAGE_BITS):
            try:
                image.pages[page] = process.arena.peek(page << PAGE_BITS, 1 << PAGE_BITS)
            except MemoryFault:
                break
    append(fd, image)
    os.replace(path + ".new", path)
    return 0


def _follow(image: Image, everything: bool) -> None:
    """What main calls comes first, then all else of the program; the libraries last, and only if `everything` is wanted."""
    from polyvm.debug.guest import GuestNames
    from polyvm.engine.discover import Discovery
    from polyvm.isa import get

    discovery = Discovery(image, get(image.isa))
    names = GuestNames(image.roots)
    own = [mapped for mapped in image.maps if mapped.path == image.program]
    weight = _MAIN
    calls = {mapped.start + names.main_offset(mapped.path) - mapped.offset for mapped in own}
    while calls and weight > 1:
        calls = discovery.follow(calls, weight)
        weight //= 2
    for mapped in own + [mapped for mapped in image.maps if everything and mapped.path != image.program]:
        calls = discovery.follow({*_functions(names, mapped), *calls})
    while calls and everything:
        calls = discovery.follow(calls)


def _functions(names: GuestNames, mapped: CodeMap) -> list[int]:
    """Where functions begin in a mapping, by the file's symbols and its table for unwinding."""
    return [mapped.start + offset - mapped.offset for offset in names.code_offsets(mapped.path)
            if mapped.offset <= offset < mapped.offset + mapped.end - mapped.start]  # fmt: skip
