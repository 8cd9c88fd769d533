"""The command line: commands, messages, exit codes; no logic.

`main` is the front door. `polyvm run` goes straight to its own module, since a guest program should start as fast as a
native one; every other command is a click command in the module of its name, imported when it is asked for.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# What `polyvm` itself ends with; a guest's own exit status passes through. 126 and 127 are the shell's (POSIX.1-2017,
# Shell Command Language, 2.8.2), 124 and 125 those of timeout(1) and env(1) in GNU coreutils.
EXIT_USAGE = 2
EXIT_BUDGET = 124
EXIT_INTERNAL = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


def main(arguments: list[str] | None = None) -> int:
    """Run the command that `arguments` (default: the command line) ask for; its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if words[:1] == ["run"]:
            from polyvm.cli.run import main as run

            return run(words[1:])
        from polyvm.cli.app import main as other

        return other(words)
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        return _broken_pipe()
    except Exception as error:  # the last resort: a user never sees a traceback for a mistake of theirs
        from polyvm.cli.messages import report

        return report(error)


def script() -> NoReturn:
    """The command: `main`, and the end of this process without taking Python apart, which is not safe (nor of use) while other
    threads of a guest have not left yet."""
    import atexit
    import os

    status = main()
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed when we began
                stream.flush()
    except (OSError, ValueError):
        status = status or 1  # what was to be written is lost
    os._exit(status)


def _interrupted() -> int:
    """Ctrl-C outside of a guest: end as by SIGINT, so that a shell loop around polyvm ends too."""
    import os
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    return 128 + signal.SIGINT


def _broken_pipe() -> int:
    """The reader of standard output is gone (``polyvm disasm FILE | head``): nothing to say, and nowhere."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141
