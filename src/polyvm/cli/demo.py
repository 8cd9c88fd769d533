"""`polyvm demo`: the riscv64 program that comes with polyvm."""

from __future__ import annotations

import os

import click

from polyvm.api.launch import Launch, end, execute, prepare
from polyvm.api.programs import demo_program
from polyvm.cli.messages import complain, report
from polyvm.cli.stats import mips


@click.command()
def command() -> int:
    """Run a riscv64 Linux program; show its output, how many instructions it executed and how fast."""
    try:
        program = demo_program()
        summary = execute(prepare(Launch(program, ["demo"], dict(os.environ))))
    except Exception as error:  # becomes a sentence and a status
        return report(error)
    if summary.status:
        ended = f"status {summary.status}" if summary.status > 0 else f"signal {-summary.status}"
        complain(f"the demonstration program ended with {ended}")
        return end(summary.status)
    click.echo(
        f"polyvm: {summary.statistics.instructions:,} riscv64 instructions in {summary.seconds:.2f} s, "
        f"{mips(summary):,.0f} MIPS"
    )
    return 0
