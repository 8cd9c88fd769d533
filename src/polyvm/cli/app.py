"""The group of commands, as click sees it. A command's module is imported when the command is asked for."""

from __future__ import annotations

from typing import Any

import click

from polyvm import __version__
from polyvm.cli import EXIT_INTERNAL

# name → (one line of help, shown without importing the module)
_COMMANDS = {
    "run": "Run a program built for another architecture.",
    "aot": "Compile a program before it is run.",
    "profile": "Run a program and show where it spends its time.",
    "demo": "Run the programs that come with polyvm.",
    "boot": "Boot a whole machine, in hardware.",
    "disasm": "Show the code in a file as assembly.",
    "info": "Show the host, the engines, the guests and the caches.",
    "accel": "Show what can run guests here, and why not the rest.",
    "cache": "Show or clear the cache of compiled code.",
}


class LazyGroup(click.Group):
    """A group that imports ``polyvm.cli.<name>`` for the command <name> and takes its `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`."""
        if cmd_name not in _COMMANDS:
            return None
        from importlib import import_module

        module = "polyvm.cli.run_help" if cmd_name == "run" else f"polyvm.cli.{cmd_name}"
        found: click.Command = import_module(module).command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(__version__, "--version", message="polyvm %(version)s")
def group() -> None:
    """polyvm runs programs that were built for another architecture."""


def main(arguments: list[str]) -> int:
    """Run one command; its exit status."""
    try:
        result: Any = group.main(arguments, prog_name="polyvm", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.UsageError as error:
        from polyvm.cli.messages import complain

        name = error.ctx.command_path if error.ctx is not None else "polyvm"
        complain(f"{_sentence(error.format_message())} (see {name} --help)")
        return error.exit_code
    except click.ClickException as error:
        from polyvm.cli.messages import complain

        complain(_sentence(error.format_message()))
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        return EXIT_INTERNAL
    return result if isinstance(result, int) else 0


def _sentence(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")
