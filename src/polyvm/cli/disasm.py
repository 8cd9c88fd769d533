"""`polyvm disasm`: the code in a file as assembly."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from polyvm.cli.messages import report
from polyvm.cli.options import integer
from polyvm.errors import PolyvmError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


@click.command()
@click.argument("file", type=click.Path())
@click.option("--section", "-j", "wanted", multiple=True, metavar="NAME", help="Only this section; may be repeated.")
@click.option("--symbol", "-s", metavar="NAME", help="Only the function of this name.")
@click.option("--raw", is_flag=True, help="FILE is plain code, not ELF.")
@click.option("--isa", default="riscv64", show_default=True, help="With --raw: the guest.")
@click.option("--address", metavar="ADDR", help="With --raw: the address of the first byte.  [default: 0]")
def command(file: str, wanted: tuple[str, ...], symbol: str | None, raw: bool, isa: str, address: str | None) -> int:
    """Show the code in FILE as assembly, laid out as by objdump -d."""
    try:
        if address is not None and not raw:
            raise UsageError("--address goes with --raw; an ELF file says itself where its code lies")
        with open(file, "rb") as opened:
            data = opened.read()
        if raw:
            from polyvm.debug.listing import lines

            start = integer(address, "--address") if address is not None else 0
            _write(lines(data, start, isa))
        else:
            _elf(file, data, list(wanted), symbol)
    except (PolyvmError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        return report(error, file)
    return 0


def _elf(path: str, data: bytes, wanted: list[str], symbol: str | None) -> None:
    from polyvm.debug.listing import listing, machine_isa, sections
    from polyvm.debug.objectfile import ObjectFile

    file = ObjectFile(data)
    isa = machine_isa(file.machine, file.machine_name)
    for name in wanted:
        if not sections(file, [name]):
            raise UsageError(f"{path}: there is no section {name}")
    begin, end = 0, 1 << 64
    if symbol is not None:
        found = file.symbols.extent(symbol)
        if found is None:
            raise UsageError(f"{path}: there is no symbol {symbol}")
        begin, end = found
    print(f"\n{path}:     file format elf64-{isa}\n")
    _write(listing(file, wanted, begin, end))


def _write(text: Iterable[str]) -> None:
    for line in text:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
