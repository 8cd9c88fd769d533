"""`polyvm aot`: compile a program before it is run."""

from __future__ import annotations

import os
import sys
from time import perf_counter
from typing import TYPE_CHECKING

from polyvm.cli.options import AOT, integer, seconds
from polyvm.cli.runlike import RunLike, launch_of, run_like
from polyvm.errors import UsageError

if TYPE_CHECKING:
    from polyvm.engine.plan import Planned
    from polyvm.engine.profile import Image

_STATIC_SECONDS = 60.0

command = RunLike(
    "aot", AOT,
    "Compile PROGRAM and its libraries into the cache, so that a run starts with compiled code. Runs it once with ARGS, "
    "interpreted and counted, then compiles what was executed much. With --profile nothing is run, with --static only the "
    "dynamic linker.",
    "polyvm.cli.aot",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Do what `arguments` ask for; the exit status."""
    return run_like("aot", arguments, AOT, _aot)


def _aot(single: dict[str, str], many: dict[str, list[str]], words: list[str]) -> int:
    jobs = integer(single["jobs"], "-j") if "jobs" in single else len(os.sched_getaffinity(0))
    budget = seconds(single["budget"], "--budget") if "budget" in single else None
    mode = single.get("jit", "auto")
    if mode not in ("auto", "quick", "full"):
        raise UsageError(f"--jit is the mode that runs will have: auto, quick or full, not {mode!r}")
    if jobs < 1:
        raise UsageError("-j needs at least 1")
    if "static" in single and many.get("profile"):
        raise UsageError("--static and --profile exclude each other")
    if not words and not many.get("profile"):
        raise UsageError("no program was given: polyvm aot [OPTIONS] PROGRAM [ARGS…]")
    if "static" in single:
        if budget is None and "all" not in single:
            budget = _STATIC_SECONDS
        surveyed = _surveyed(single, many, words)
        if isinstance(surveyed, int):
            return surveyed
        images = [surveyed]
    elif many.get("profile"):
        images = _recorded(many["profile"], words)
    else:
        found = _trained(single, many, words)
        if isinstance(found, int):
            return found
        images = found
    return _compile(images, mode, jobs, budget)


def _recorded(paths: list[str], words: list[str]) -> list[Image]:
    from polyvm.engine.profile import read

    images = [image for path in paths for image in read(path)]
    if words:
        name = os.path.basename(words[0])
        wanted = [image for image in images if os.path.basename(image.program) == name]
        if not wanted:
            known = ", ".join(sorted({image.program for image in images}))
            raise UsageError(f"{paths[0]} has no run of {name}, but of {known}")
        images = wanted
    if not any(image.blocks for image in images):
        raise UsageError(f"{paths[0]} was sampled; polyvm run --profile makes one that is counted")
    return images


def _trained(single: dict[str, str], many: dict[str, list[str]], words: list[str]) -> list[Image] | int:
    """What a run of the program executed, or the status of one that did not come about."""
    import tempfile

    from polyvm.api.observe import observe
    from polyvm.cli.messages import complain, report
    from polyvm.engine.profile import read

    with tempfile.TemporaryDirectory(prefix="polyvm-") as folder:
        path = single.get("record", os.path.join(folder, "profile"))
        launch = launch_of(single, many, words)
        launch.profile = os.path.abspath(path)
        status = observe(launch, lambda error: report(error, launch.program))
        try:
            empty = not os.path.getsize(launch.profile)
        except OSError:
            empty = True
        if empty:
            return status if status > 0 else 1
        if status:
            how = f"status {status}" if status > 0 else f"signal {-status}"
            complain(f"{launch.program} ended with {how}; what it executed until then is compiled")
        return read(launch.profile)


def _surveyed(single: dict[str, str], many: dict[str, list[str]], words: list[str]) -> Image | int:
    from polyvm.api.survey import survey_program
    from polyvm.cli.messages import report

    launch = launch_of(single, many, words)
    return survey_program(launch, lambda error: report(error, launch.program), "all" in single)


def _compile(images: list[Image], mode: str, jobs: int, budget: float | None) -> int:
    from polyvm.engine.aot import Builder, Outcome
    from polyvm.engine.interpreter import load
    from polyvm.engine.plan import merge, plan
    from polyvm.isa import get

    began = perf_counter()
    plans: dict[str, list[Planned]] = {}
    for image in merge(images):
        plans.setdefault(image.isa, []).extend(plan(image, get(image.isa), mode))
    if not any(plans.values()):
        _say("nothing to compile: what was executed is too little for compiled code to be of use")
        return 0
    total = sum(item.spec.instructions for planned in plans.values() for item in planned)
    import click

    with click.progressbar(
        length=total, label=f"compiling {sum(map(len, plans.values()))} regions", file=sys.stderr, hidden=not sys.stderr.isatty(),
        update_min_steps=max(1, total // 200),
    ) as bar:  # fmt: skip
        until = perf_counter() + budget if budget is not None else None
        done = Outcome()
        for guest, planned in plans.items():
            planned.sort(key=lambda item: -item.weight)
            builder = Builder(load(guest).identity, mode, jobs)
            made = builder.build(planned, bar.update, until)
            done = done.plus(made)
    extra = [f"{count:,} {what}" for count, what in (
        (done.there, "there before"), (done.failed, "not compilable"), (done.left, "left for lack of time"),
    ) if count]  # fmt: skip
    _say(f"{done.quick + done.full:,} regions compiled ({done.quick:,} quick, {done.full:,} full; {done.instructions:,} guest "
         f"instructions) in {perf_counter() - began:.1f} s" + "".join(f", {text}" for text in extra))  # fmt: skip
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"polyvm: {text}\n")
    sys.stderr.flush()
