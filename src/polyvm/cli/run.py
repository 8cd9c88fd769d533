"""`polyvm run`: a guest program in this process."""

from __future__ import annotations

import os
import sys

from polyvm.cli import EXIT_USAGE
from polyvm.cli.options import RUN, HelpRequest, integer, parse, seconds
from polyvm.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.api.launch import Launch, Summary


def main(arguments: list[str]) -> int:
    """Run the program that `arguments` name; the exit status."""
    try:
        single, many, words = parse(arguments, RUN)
        if not words:
            raise UsageError("no program was given: polyvm run [OPTIONS] PROGRAM [ARGS…]")
        if single.get("stats", "table") not in ("table", "json"):
            raise UsageError(f"--stats is --stats=table or --stats=json, not {single['stats']!r}")
        launch = _launch(single, many, words)
    except HelpRequest:
        from polyvm.cli.run_help import text

        print(text())
        return 0
    except UsageError as error:
        from polyvm.cli.messages import complain

        complain(f"{error} (see polyvm run --help)")
        return EXIT_USAGE
    try:
        if "cwd" in single:
            os.chdir(single["cwd"])
        if "dump" in single:
            return _dump(launch.program, single)
        return _run(launch, single)
    except Exception as error:  # becomes a sentence and a status
        from polyvm.cli.messages import report

        return report(error, launch.program)


def _launch(single: dict[str, str], many: dict[str, list[str]], words: list[str]) -> Launch:
    from polyvm.api.launch import Launch

    launch = Launch(words[0], [single.get("argv0", words[0]), *words[1:]], _environment(many))
    launch.sysroot = single.get("sysroot", os.environ.get("POLYVM_SYSROOT") or None)
    if launch.sysroot is not None and not os.path.isdir(launch.sysroot):
        raise UsageError(f"the directory {launch.sysroot} given as sysroot does not exist")
    launch.strace = "strace" in single
    launch.profile = single.get("profile")
    launch.jit = single.get("jit")
    if launch.jit is not None:
        from polyvm.engine.core import JitSource

        JitSource.parse(launch.jit)  # a wrong mode is a wrong usage, before anything is loaded
    if "max_instructions" in single:
        launch.max_instructions = integer(single["max_instructions"], "--max-instructions")
    launch.sandbox = single.get("sandbox")
    if launch.sandbox is None:
        for key in ("allow_network", "allow_process"):
            if key in single:
                raise UsageError(f"--{key.replace('_', '-')} goes with --sandbox")
    elif not os.path.isdir(launch.sandbox):
        raise UsageError(f"the directory {launch.sandbox} given as sandbox does not exist")
    launch.allow_network = "allow_network" in single
    launch.allow_process = "allow_process" in single
    if "limit_memory" in single:
        launch.limit_memory = integer(single["limit_memory"], "--limit-memory")
    if "limit_cpu" in single:
        launch.limit_cpu = seconds(single["limit_cpu"], "--limit-cpu")
    return launch


def _environment(many: dict[str, list[str]]) -> dict[str, str]:
    found = dict(os.environ)
    for name in many.get("unset", []):
        found.pop(name, None)
    for text in many.get("env", []):
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"-E needs VAR=VALUE, not {text!r}")
        found[name] = value
    return found


def _run(launch: Launch, single: dict[str, str]) -> int:
    from polyvm.api.launch import end, execute, prepare

    # Opened before the guest can change the directory or close descriptors.
    sink = 2
    if "stats_file" in single:
        sink = os.open(single["stats_file"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    elif "stats" in single:
        import fcntl

        try:
            sink = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, 900)
        except OSError:
            pass  # it is closed already
    process = prepare(launch)
    process.own_descriptors.append(sink)
    summary = execute(process)
    if "stats" in single or "stats_file" in single:
        _write(sink, _stats(summary, single.get("stats", "table")))
    return end(summary.status)


def _stats(summary: Summary, form: str) -> str:
    from polyvm.cli.stats import as_json, as_table

    return as_json(summary) if form == "json" else as_table(summary)


def _write(sink: int, text: str) -> None:
    data = f"{text}\n".encode()
    try:
        while data:
            data = data[os.write(sink, data) :]
    except OSError:
        pass  # the guest has closed it, or its reader has gone


def _dump(program: str, single: dict[str, str]) -> int:
    from polyvm.debug.dump import dump

    at = integer(single["dump_at"], "--dump-at") if "dump_at" in single else None
    sys.stdout.write(dump(program, single["dump"].split(","), at))
    sys.stdout.flush()
    return 0
