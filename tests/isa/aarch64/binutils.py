"""GNU as and objdump for aarch64 as independent witnesses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "aarch64-linux-gnu-"
# What binutils 2.40 knows of what polyvm implements.
ARCH = "armv8.5-a+fp16+fp16fml+crypto+sha3+sm4+dotprod+rdma+i8mm+bf16+lse+rcpc+flagm+crc+sve"

_LINE = re.compile(r"^ *([0-9a-f]+):\t([0-9a-f]{8}) \t(.*)$")


def available() -> bool:
    """True if the cross binutils are installed."""
    return shutil.which(f"{PREFIX}as") is not None


def assemble(source: str) -> bytes:
    """The code that `source` assembles to."""
    with tempfile.TemporaryDirectory() as folder:
        path, raw = os.path.join(folder, "a.o"), os.path.join(folder, "a.bin")
        command = [f"{PREFIX}as", f"-march={ARCH}", "-o", path, "-"]
        done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        subprocess.run([f"{PREFIX}objcopy", "-O", "binary", "-j", ".text", path, raw], check=True)
        with open(raw, "rb") as file:
            return file.read()


def disassemble(words: Iterable[int]) -> list[str]:
    """objdump's text for each word, which lies at 4 times its number, without comments; operands are separated by a comma and a
    blank. Words that it does not know are empty."""
    code = b"".join(word.to_bytes(4, "little") for word in words)
    with tempfile.NamedTemporaryFile() as file:
        file.write(code)
        file.flush()
        command = [f"{PREFIX}objdump", "-D", "-z", "-b", "binary", "-m", "aarch64", file.name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [""] * (len(code) // 4)
    for line in output.splitlines():
        match = _LINE.match(line)
        if match is not None and "undefined" not in match[3]:
            text = match[3].split("//")[0].split(" <")[0].strip()
            found[int(match[1], 16) // 4] = re.sub(r",(?=\S)", ", ", re.sub(r"\s+", " ", text)).replace(", ", ", ")
    return found
