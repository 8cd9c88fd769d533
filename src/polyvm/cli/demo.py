"""`polyvm demo`: the programs that come with polyvm, one for each guest."""

from __future__ import annotations

import click

from polyvm.api.launch import end
from polyvm.api.process import run
from polyvm.api.programs import demo_program
from polyvm.cli.messages import complain, report
from polyvm.isa import NAMES


@click.command()
@click.argument("guest", type=click.Choice(NAMES), required=False)
def command(guest: str | None) -> int:
    """Run a Linux program built for each guest, or for GUEST only; show its output, how many instructions it executed and how
    fast."""
    for name in (guest,) if guest is not None else NAMES:
        try:
            done = run([demo_program(name)])
        except Exception as error:  # becomes a sentence and a status
            return report(error)
        if done.returncode:
            ended = f"status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
            complain(f"the demonstration program for {name} ended with {ended}")
            return end(done.returncode)
        speed = done.instructions / done.seconds / 1e6 if done.seconds else 0.0
        click.echo(f"polyvm: {done.instructions:,} {name} instructions in {done.seconds:.2f} s, {speed:,.0f} MIPS")
    return 0
