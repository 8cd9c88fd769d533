"""Commands that take a guest program as `polyvm run` does: parsing ends at its name, what follows is its own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from polyvm.cli import EXIT_USAGE
from polyvm.cli.options import FLAG, MANY, OPTIONAL, HelpRequest, Option, parse
from polyvm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.api.launch import Launch


class RunLike(click.Command):
    """Such a command as click sees it: help and completion come from its table of options, `main` of its module parses."""

    def __init__(self, name: str, table: list[Option], help_: str, module: str, epilog: str | None = None) -> None:
        super().__init__(
            name, params=[*map(_parameter, table), click.Argument(["program"]), click.Argument(["args"], nargs=-1)],
            help=help_, epilog=epilog, context_settings={"help_option_names": ["-h", "--help"]},
        )  # fmt: skip
        self._module = module

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """All words are for `main`."""
        ctx.args = list(args)
        return ctx.args

    def invoke(self, ctx: click.Context) -> Any:
        """Call `main`."""
        return import_module(self._module).main(ctx.args)

    def text(self) -> str:
        """The help text."""
        with click.Context(self, info_name=f"polyvm {self.name}", **self.context_settings) as context:
            return self.get_help(context)


def _parameter(option: Option) -> click.Parameter:
    metavar = f"[={option.metavar}]" if option.kind == OPTIONAL else option.metavar
    return click.Option(
        option.flags, is_flag=option.kind == FLAG, multiple=option.kind == MANY, metavar=metavar or None,
        help=option.help, expose_value=False,
    )  # fmt: skip


def run_like(
    name: str, arguments: list[str], table: list[Option], work: Callable[[dict[str, str], dict[str, list[str]], list[str]], int]
) -> int:
    """Parse and `work`; what goes wrong becomes a sentence and a status."""
    from polyvm.cli.messages import complain, report

    try:
        single, many, words = parse(arguments, table)
    except HelpRequest:
        click.echo(import_module(f"polyvm.cli.{name}").command.text())
        return 0
    except UsageError as error:
        complain(f"{error} (see polyvm {name} --help)")
        return EXIT_USAGE
    try:
        return work(single, many, words)
    except Exception as error:
        return report(error, words[0] if words else None)


def launch_of(single: dict[str, str], many: dict[str, list[str]], words: list[str]) -> Launch:
    """What to run; raises UsageError."""
    import os

    from polyvm.cli.run import _launch

    launch = _launch(single, many, words)
    if "cwd" in single:
        os.chdir(single["cwd"])
    return launch
