"""`polyvm run` as click sees it: its help and its completion, from the table that `polyvm.cli.run` parses with."""

from __future__ import annotations

import click

from polyvm.cli.options import FLAG, MANY, OPTIONAL, RUN, Option

_EPILOG = (
    "What follows PROGRAM belongs to the guest. The exit status is the guest's; a guest that a signal kills ends polyvm by "
    "that signal. Otherwise: 2 wrong usage, 124 --max-instructions reached, 125 an error of polyvm's own, 126 PROGRAM cannot "
    "be run, 127 PROGRAM not found."
)


class _RunCommand(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return ctx.args

    def invoke(self, ctx: click.Context) -> int:
        from polyvm.cli.run import main

        return main(ctx.args)


def _parameter(option: Option) -> click.Parameter:
    metavar = f"[={option.metavar}]" if option.kind == OPTIONAL else option.metavar
    return click.Option(
        option.flags, is_flag=option.kind == FLAG, multiple=option.kind == MANY, metavar=metavar or None,
        help=option.help, expose_value=False,
    )  # fmt: skip


command = _RunCommand(
    "run",
    params=[*map(_parameter, RUN), click.Argument(["program"]), click.Argument(["args"], nargs=-1)],
    help="Run PROGRAM, an ELF file for Linux on another architecture, as if it was built for this machine.",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def text() -> str:
    """The help text."""
    with click.Context(command, info_name="polyvm run", **command.context_settings) as context:
        return command.get_help(context)
