"""`polyvm run` as click sees it: its help and its completion, from the table that `polyvm.cli.run` parses with."""

from __future__ import annotations

from polyvm.cli.options import RUN
from polyvm.cli.runlike import RunLike

_EPILOG = (
    "What follows PROGRAM belongs to the guest. The exit status is the guest's; a guest that a signal kills ends polyvm by "
    "that signal. Otherwise: 2 wrong usage, 124 --max-instructions reached, 125 an error of polyvm's own, 126 PROGRAM cannot "
    "be run, 127 PROGRAM not found."
)


command = RunLike(
    "run", RUN, "Run PROGRAM, an ELF file for Linux on another architecture, as if it was built for this machine.",
    "polyvm.cli.run", _EPILOG,
)  # fmt: skip
text = command.text
