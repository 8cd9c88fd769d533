"""Disks: raw files and overlays."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from polyvm.devices.disk import Overlay, RawDisk, open_disk
from polyvm.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (5 << 16) + 1536


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


def read(disk: RawDisk | Overlay, offset: int, size: int) -> bytes:
    data = bytearray(size)
    disk.read(offset, [memoryview(data)])
    return bytes(data)


def test_an_overlay_is_the_disk_with_what_was_written(base: Path, tmp_path: Path) -> None:
    """Random reads, writes and zeroes agree with a plain copy, over flushes and reopening; the base stays as it was."""
    before = base.read_bytes()
    model = bytearray(before)
    rng = random.Random(2)
    for _ in range(6):
        disk = Overlay(str(base), str(tmp_path / "over"))
        for _ in range(80):
            offset = rng.randrange(SIZE // 512) * 512
            size = min(rng.choice((512, 4096, 65536, 200_000)), SIZE - offset)
            if rng.random() < 0.4:
                assert read(disk, offset, size) == model[offset : offset + size]
            elif rng.random() < 0.3:
                disk.zero(offset, size, True)
                model[offset : offset + size] = bytes(size)
            else:
                data = rng.randbytes(size)
                cut = rng.randrange(size)
                disk.write(offset, [memoryview(data)[:cut], memoryview(data)[cut:]])
                model[offset : offset + size] = data
            if rng.random() < 0.1:
                disk.flush()
        disk.close()
    final = Overlay(str(base), str(tmp_path / "over"), readonly=True)
    assert read(final, 0, SIZE) == bytes(model)
    final.close()
    assert base.read_bytes() == before


def test_what_was_flushed_survives_a_process_that_ends(base: Path, tmp_path: Path) -> None:
    """A copy of the overlay's file, taken at any moment after a flush, has at least what was flushed."""
    path, copy = tmp_path / "over", tmp_path / "copy"
    disk = Overlay(str(base), str(path))
    disk.write(0, [memoryview(b"a" * 512)])
    disk.flush()
    disk.write(1 << 16, [memoryview(b"b" * 512)])
    copy.write_bytes(path.read_bytes())
    other = Overlay(str(base), str(copy))
    assert read(other, 0, 512) == b"a" * 512
    assert read(other, 512, 512) == base.read_bytes()[512:1024]
    assert read(other, 1 << 16, 512) in (b"b" * 512, base.read_bytes()[1 << 16 : (1 << 16) + 512])
    other.close()
    disk.close()


def test_overlays_that_do_not_fit_are_refused(base: Path, tmp_path: Path) -> None:
    """Another base, a damaged table and a file of something else are each a sentence."""
    path = tmp_path / "over"
    disk = Overlay(str(base), str(path))
    disk.write(0, [memoryview(b"a" * 512)])
    disk.close()
    good = path.read_bytes()
    path.write_bytes(good[:4096] + b"\xff" * 8 + good[4104:])
    with pytest.raises(UsageError, match="damaged"):
        Overlay(str(base), str(path))
    path.write_bytes(b"something else")
    with pytest.raises(UsageError, match="not an overlay file"):
        Overlay(str(base), str(path))
    path.write_bytes(good)
    os.utime(base, (1, 1))
    with pytest.raises(UsageError, match="does not fit"):
        Overlay(str(base), str(path))
    with pytest.raises(UsageError, match="No such file"):
        Overlay(str(base), str(tmp_path / "absent" / "over"))
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UsageError, match="not an overlay file"):
        open_disk(str(tmp_path / "base"), overlay=str(_file(tmp_path / "junk")))
    assert len(os.listdir("/proc/self/fd")) == descriptors


def _file(path: Path) -> Path:
    path.write_bytes(b"junk")
    return path


def test_raw_disks_that_cannot_be(tmp_path: Path) -> None:
    """An empty file, a directory, a file that is not there."""
    (tmp_path / "empty").touch()
    for name, message in (("empty", "truncate -s 1G"), ("absent", "No such file"), (".", "directory")):
        with pytest.raises(UsageError, match=message):
            RawDisk(str(tmp_path / name))
