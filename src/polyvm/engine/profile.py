"""A profile on disk: what a program and the processes that it started have executed, and where.

A file is a row of gzip members, one for each program image (an execve begins another), so that several processes can append to
it. Each holds a line of JSON:

    format, isa, program   what it is, the guest, the guest's path of the program
    roots                  directories of the host below which the guest's paths were looked for
    maps                   [start, end, offset in the file, path] of what was mapped executable
    blocks                 [pc, end, instructions, times entered, block after a jump or 0, block after a fall or 0]
    pages                  the code of their pages, base64 by address in hexadecimal
    samples                [pc, region's address or 0, level (0: interpreted), instructions, seconds]
    ranges                 [region's address, level, lowest address, end of its code, guest instructions]

Counted runs have `blocks` and `pages`, sampled ones `samples` and `ranges`.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

from polyvm.errors import UsageError
from polyvm.mem import PAGE_BITS

FORMAT = "polyvm-profile-1"
_PAGE = 1 << PAGE_BITS
_MOST = 1 << 30  # bytes of one member, unpacked


@dataclass(frozen=True, slots=True)
class RecordedBlock:
    """A block and its counts; `taken` and `fall` are addresses of blocks, or 0."""

    pc: int
    end: int
    n: int
    count: int
    taken: int
    fall: int

    def row(self) -> tuple[int, ...]:
        """As it is in a file."""
        return self.pc, self.end, self.n, self.count, self.taken, self.fall


class CodeMap(NamedTuple):
    """What was mapped where."""

    start: int
    end: int
    offset: int
    path: str


class Sample(NamedTuple):
    """What was executed at an address: `head` is that of the region, 0 where none was."""

    pc: int
    head: int
    level: int
    instructions: int
    seconds: float


class Range(NamedTuple):
    """A region that samples name."""

    head: int
    level: int
    low: int
    high: int
    instructions: int


class Image:
    """One program image of a profile."""

    def __init__(self, isa: str, program: str, roots: list[str]) -> None:
        self.isa = isa
        self.program = program
        self.roots = roots
        self.maps: list[CodeMap] = []
        self.blocks: dict[int, RecordedBlock] = {}
        self.pages: dict[int, bytes] = {}
        self.samples: list[Sample] = []
        self.ranges: list[Range] = []

    @property
    def instructions(self) -> int:
        """Executed, as far as it was noted."""
        counted = sum(block.n * block.count for block in self.blocks.values())
        return counted or sum(sample.instructions for sample in self.samples)

    def code(self, pc: int, size: int) -> bytes:
        """The code at an address, as far as its pages are there."""
        found = b""
        while size > 0:
            page = self.pages.get(pc >> PAGE_BITS)
            at = pc % _PAGE
            if page is None:
                break
            part = page[at : at + size]
            found += part
            pc, size = pc + len(part), size - len(part)
        return found

    def pack(self) -> bytes:
        """As a member of a file."""
        record = {
            "format": FORMAT, "isa": self.isa, "program": self.program, "roots": self.roots, "maps": self.maps,
            "blocks": [block.row() for block in self.blocks.values()],
            "pages": {f"{page << PAGE_BITS:x}": base64.b64encode(data).decode() for page, data in self.pages.items()},
            "samples": self.samples, "ranges": self.ranges,
        }  # fmt: skip
        packer = zlib.compressobj(6, wbits=31)
        return packer.compress(json.dumps(record, separators=(",", ":")).encode() + b"\n") + packer.flush()

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Image:
        """From a line's JSON; raises ValueError, TypeError or KeyError where it is something else."""
        if record["format"] != FORMAT:
            raise ValueError("another format")
        image = cls(str(record["isa"]), str(record["program"]), [str(root) for root in record["roots"]])
        image.maps = [CodeMap(_number(s), _number(e), _number(o), str(path)) for s, e, o, path in record["maps"]]
        for row in record["blocks"]:
            block = RecordedBlock(*map(_number, row))
            if not 0 < block.end - block.pc < 2 * _PAGE:
                raise ValueError("a block that is none")
            image.blocks[block.pc] = block
        for address, text in record["pages"].items():
            data = base64.b64decode(text, validate=True)
            if len(data) != _PAGE:
                raise ValueError("a page that is none")
            image.pages[int(address, 16) >> PAGE_BITS] = data
        image.samples = [Sample(_number(p), _number(h), _number(v), _number(n), float(t)) for p, h, v, n, t in record["samples"]]
        image.ranges = [Range(*map(_number, row)) for row in record["ranges"]]
        return image


def _number(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise ValueError("not a number")
    return value


def append(fd: int, image: Image) -> None:
    """Add an image to an open file; what other processes add at the same time is kept."""
    data = image.pack()
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass  # a full disk: the guest's run is not to fail for it
    finally:
        try:
            fcntl.flock(fd, fcntl.LOCK_UN)
        except OSError:
            pass


def read(path: str) -> list[Image]:
    """The images in a file; raises OSError, and UsageError where it is no profile, or a damaged one."""
    with open(path, "rb") as file:
        data = file.read()
    images: list[Image] = []
    if not data:
        raise UsageError(f"{path}: the profile is empty")
    try:
        while data:
            unpacker = zlib.decompressobj(wbits=31)
            text = unpacker.decompress(data, _MOST)
            if not unpacker.eof:
                raise ValueError("cut off")
            images.append(Image.from_record(json.loads(text)))
            data = unpacker.unused_data
    except (zlib.error, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UsageError(f"{path}: not a profile of polyvm's, or a damaged one") from None
    return images
