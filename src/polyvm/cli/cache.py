"""`polyvm cache`: where compiled code is kept, how much of it, and how to get rid of it."""

from __future__ import annotations

import click

from polyvm.cli.text import size
from polyvm.codegen import cache as store


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Show or clear the cache of compiled code.

    The cache is in $POLYVM_CACHE, else in $XDG_CACHE_HOME/polyvm, else in ~/.cache/polyvm. It can be removed at any
    time; the next start compiles again, which takes some seconds.
    """
    if context.invoked_subcommand is None:
        sizes = [length for _, length in store.entries()]
        click.echo(f"directory  {store.directory()}")
        click.echo(f"entries    {len(sizes)}")
        click.echo(f"size       {size(sum(sizes))}")


@command.command()
def clear() -> None:
    """Remove all entries."""
    count = store.clear()
    click.echo(f"removed {count} {'entry' if count == 1 else 'entries'} from {store.directory()}")
