"""GNU as and objdump for riscv64 as independent witnesses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "riscv64-linux-gnu-"
# What binutils 2.40 knows of what polyvm implements.
ARCH = "rv64gc_zicbom_zicbop_zicboz_zihintpause_zawrs_zba_zbb_zbc_zbs_zfh"

_LINE = re.compile(r"^ *([0-9a-f]+):\t([0-9a-f ]+?) *\t(\S+)(?:\t([^<#]*))?")


def available() -> bool:
    """True if the cross binutils are installed."""
    return shutil.which(f"{PREFIX}as") is not None


def _object(source: str, folder: str) -> str:
    path = os.path.join(folder, "a.o")
    command = [f"{PREFIX}as", f"-march={ARCH}", "-mno-relax", "-o", path, "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


def assemble(source: str) -> bytes:
    """The code that `source` assembles to."""
    with tempfile.TemporaryDirectory() as folder:
        path, raw = _object(source, folder), os.path.join(folder, "a.bin")
        subprocess.run([f"{PREFIX}objcopy", "-O", "binary", "-j", ".text", path, raw], check=True)
        with open(raw, "rb") as file:
            return file.read()


def listing(path: str) -> dict[int, tuple[int, str]]:
    """objdump's view of a file's code: address → (word, text). Operands are separated by a comma and a blank."""
    command = [f"{PREFIX}objdump", "-d", "-z", "-M", "no-aliases", path]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[int, tuple[int, str]] = {}
    for line in output.splitlines():
        match = _LINE.match(line)
        if match is not None:
            address, raw, mnemonic, operands = match.groups()
            text = f"{mnemonic} {operands.strip().replace(',', ', ')}" if operands else mnemonic
            found[int(address, 16)] = int(raw.replace(" ", ""), 16), text
    return found


def disassemble(words: Iterable[tuple[int, int]]) -> list[str]:
    """objdump's text for each (length, word); the word lies at 4 times its number."""
    source = "\n".join(f".insn {length}, {word:#x}" + ("\n.insn 2, 0x0001" if length == 2 else "") for length, word in words)
    with tempfile.TemporaryDirectory() as folder:
        lines = listing(_object(f".option norelax\n{source}\n", folder))
    return [text for address, (_, text) in sorted(lines.items()) if address % 4 == 0]
