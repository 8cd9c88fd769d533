"""`polyvm profile`: run a program and show where it spends its time."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from polyvm.cli.options import PROFILE, integer
from polyvm.cli.runlike import RunLike, launch_of, run_like
from polyvm.errors import UsageError

if TYPE_CHECKING:
    from polyvm.engine.profile import Image

command = RunLike(
    "profile", PROFILE,
    "Run PROGRAM and print which functions, and which regions of compiled code, executed most: share of instructions and of "
    "processor time, how it was executed, addresses, the guest's symbols. Every 130,000 instructions or so it is noted where the "
    "guest is. A caller's compiled code may have a callee in it, and count for it.",
    "polyvm.cli.profile",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Do what `arguments` ask for; the exit status is the guest's."""
    return run_like("profile", arguments, PROFILE, _profile)


def _profile(single: dict[str, str], many: dict[str, list[str]], words: list[str]) -> int:
    top = integer(single["top"], "--top") if "top" in single else 20
    if bool(words) == ("load" in single):
        raise UsageError("give either a program, polyvm profile [OPTIONS] PROGRAM [ARGS…], or --load FILE")
    if "flame" in single:
        from polyvm.debug.flame import check

        check(single["flame"])
    # The guest's directory is not this command's.
    files: dict[str, str] = {key: os.path.abspath(single[key]) for key in ("flame", "output", "record", "load") if key in single}
    if "load" in single:
        from polyvm.engine.profile import read

        _show(read(files["load"]), files, top)
        return 0
    return _run(single, many, words, files, top)


def _run(single: dict[str, str], many: dict[str, list[str]], words: list[str], files: dict[str, str], top: int) -> int:
    import tempfile

    from polyvm.api.launch import end
    from polyvm.api.observe import observe
    from polyvm.cli.messages import report
    from polyvm.engine.profile import read

    with tempfile.TemporaryDirectory(prefix="polyvm-") as folder:
        launch = launch_of(single, many, words)
        launch.profile = files.get("record", os.path.join(folder, "profile"))
        launch.sampled = "exact" not in single
        status = observe(launch, lambda error: report(error, launch.program))
        if not os.path.exists(launch.profile) or not os.path.getsize(launch.profile):
            return end(status)
        _show(read(launch.profile), files, top)
    return end(status)


def _show(images: list[Image], files: dict[str, str], top: int) -> None:
    from polyvm.debug.report import tables

    text = tables(images, top) + "\n"
    if "output" in files:
        with open(files["output"], "w", encoding="utf-8") as file:
            file.write(text)
    else:
        sys.stderr.write(text)
        sys.stderr.flush()
    if "flame" in files:
        from polyvm.debug.flame import write

        write(files["flame"], images)
