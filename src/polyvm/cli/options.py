"""The options of `polyvm run`: one table for parsing, for help and for the documentation.

`run` is parsed here rather than by click, whose import takes as long as all else that a start needs. Its conventions are
those of getopt_long(3) with ``+``: parsing ends at the first word that is not an option (the program), or after ``--``;
``-LDIR`` and ``-L DIR``, ``--opt=VALUE`` and ``--opt VALUE``. `OPTIONAL` values are given with ``=`` only.
"""

from __future__ import annotations

from polyvm.errors import UsageError

FLAG, VALUE, MANY, OPTIONAL = "flag", "value", "many", "optional"


class Option:
    """One option: its spellings, the key that it is stored under, how it takes a value, and its help."""

    __slots__ = ("default", "flags", "help", "key", "kind", "metavar")

    def __init__(self, flags: str, key: str, kind: str, metavar: str, help_: str, default: str = "") -> None:
        self.flags = flags.split()
        self.key = key
        self.kind = kind
        self.metavar = metavar
        self.help = help_
        self.default = default  # of an OPTIONAL value


#   spellings                 key                 takes     metavar       help
RUN = [
    Option("-L --sysroot", "sysroot", VALUE, "DIR",
           "Look for the guest's absolute paths (its dynamic linker, libraries) under DIR first; "
           "default $POLYVM_SYSROOT."),
    Option("-E --env", "env", MANY, "VAR=VALUE", "Set a variable of the guest's environment."),
    Option("-U --unset-env", "unset", MANY, "VAR", "Remove a variable from the guest's environment."),
    Option("-0 --argv0", "argv0", VALUE, "NAME", "Give the program NAME as its argv[0]."),
    Option("--cwd", "cwd", VALUE, "DIR", "Run in directory DIR."),
    Option("--strace", "strace", FLAG, "", "Print each system call on standard error."),
    Option("--stats", "stats", OPTIONAL, "table|json", "At the end print counters on standard error.", "table"),
    Option("--stats-file", "stats_file", VALUE, "FILE", "Write the counters to FILE instead."),
    Option("--max-instructions", "max_instructions", VALUE, "N",
           "End with status 124 once N instructions were executed."),
    Option("--jit", "jit", VALUE, "MODE",
           "Compile what is hot: auto (default: in turn what follows), stencil (copies of the interpreter's code, no LLVM), "
           "quick, full (well), or off; MODE:N sets how many slices of 16,384 instructions (for stencil: entries of a block) "
           "make code hot, 0 compiles all before it runs. Default $POLYVM_JIT."),
    Option("--profile", "profile", VALUE, "FILE",
           "Interpret everything, and write to FILE how often each block of code was executed, for polyvm aot."),
    Option("--dump", "dump", VALUE, "WHAT[,WHAT]",
           "Do not run: print decode, ir, llvm, asm of the code at the entry point, or region, region-llvm, region-opt, "
           "region-asm of what is compiled from there."),
    Option("--dump-at", "dump_at", VALUE, "ADDR", "Dump the code at ADDR instead."),
    Option("--sandbox", "sandbox", VALUE, "DIR",
           "Let the guest reach no file outside of DIR, no network and no other process."),
    Option("--allow-network", "allow_network", FLAG, "", "In a sandbox: allow sockets."),
    Option("--allow-process", "allow_process", FLAG, "", "In a sandbox: allow fork and execve."),
    Option("--limit-memory", "limit_memory", VALUE, "SIZE",
           "Fail the guest's requests for more memory than SIZE (K, M, G)."),
    Option("--limit-cpu", "limit_cpu", VALUE, "SECONDS", "End the guest with SIGXCPU after SECONDS of processor time."),
]  # fmt: skip


def _shared(*keys: str) -> list[Option]:
    return [option for option in RUN if option.key in keys]


_GUEST = ("sysroot", "env", "unset", "argv0", "cwd", "sandbox", "allow_network", "allow_process", "limit_memory", "limit_cpu")

#   spellings                 key                 takes     metavar       help
AOT = [
    Option("--profile", "profile", MANY, "FILE",
           "Run nothing: compile what the run executed that FILE was written by (polyvm run --profile). May be repeated; with "
           "PROGRAM only its part."),
    Option("--record", "record", VALUE, "FILE", "Keep the profile of the run that is made in FILE."),
    Option("--static", "static", FLAG, "",
           "Run nothing of the program: compile what its symbols and the code itself lead to, for 60 seconds, main and loops "
           "first."),
    Option("--budget", "budget", VALUE, "SECONDS", "Begin no region after SECONDS."),
    Option("--all", "all", FLAG, "", "With --static: the libraries too, however long that takes."),
    Option("-j --jobs", "jobs", VALUE, "N", "Compile in N processes; default: one for each processor."),
    Option("--jit", "jit", VALUE, "MODE", "Compile for runs with --jit=MODE: auto (default), quick or full."),
    *_shared(*_GUEST, "max_instructions"),
]  # fmt: skip
PROFILE = [
    Option("--exact", "exact", FLAG, "", "Interpret everything and count it; there is no time then, and nothing compiled."),
    Option("--load", "load", VALUE, "FILE", "Run nothing: show the profile in FILE."),
    Option("--record", "record", VALUE, "FILE", "Keep the profile in FILE."),
    Option("--top", "top", VALUE, "N", "Show N functions and N places; default 20."),
    Option("--flame", "flame", VALUE, "FILE",
           "Write a flame graph: FILE.html to look at, FILE.json for speedscope (both need polyvm[profile]); any other name: "
           "folded stacks, which flamegraph.pl, inferno and speedscope read."),
    Option("--output", "output", VALUE, "FILE", "Write the table to FILE instead of standard error."),
    *_shared(*_GUEST, "jit", "max_instructions"),
]  # fmt: skip


class HelpRequest(Exception):
    """``--help`` was among the options."""


def parse(arguments: list[str], table: list[Option]) -> tuple[dict[str, str], dict[str, list[str]], list[str]]:
    """Single values by key, repeated values by key, and the words from the program on; raises UsageError."""
    by_flag = {flag: option for option in table for flag in option.flags}
    single: dict[str, str] = {}
    many: dict[str, list[str]] = {}
    at = 0
    while at < len(arguments):
        word = arguments[at]
        if word == "--":
            at += 1
            break
        if word in ("--help", "-h"):
            raise HelpRequest
        if not word.startswith("-") or word == "-":
            break
        at += 1
        value: str | None = None
        if word.startswith("--"):
            name, equals, rest = word.partition("=")
            if equals:
                value = rest
        else:
            name = word[:2]
            value = word[2:] or None
        option = by_flag.get(name)
        if option is None:
            raise UsageError(_unknown(name, by_flag))
        if option.kind == FLAG:
            if value is not None:
                raise UsageError(f"option {name} takes no value")
            value = "1"
        elif option.kind == OPTIONAL:
            value = option.default if value is None else value
        elif value is None:
            if at >= len(arguments):
                raise UsageError(f"option {name} needs a value: {name} {option.metavar}")
            value = arguments[at]
            at += 1
        if option.kind == MANY:
            many.setdefault(option.key, []).append(value)
        else:
            single[option.key] = value
    return single, many, arguments[at:]


def _unknown(name: str, known: dict[str, Option]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else "options of the guest program go after its name"
    return f"there is no option {name}; {hint}"


def integer(text: str, option: str) -> int:
    """A number of at least 0, decimal or 0x…; with ``K``, ``M``, ``G`` (powers of 1024) or ``_`` between digits."""
    factor = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper(), 0)
    digits = text[:-1] if factor else text
    try:
        value = int(digits, 0)
    except ValueError:
        value = -1
    if value < 0:
        raise UsageError(f"{option} needs a number such as 1000, 0x1000 or 64M, not {text!r}")
    return value << factor


def seconds(text: str, option: str) -> float:
    """A number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e12:
        raise UsageError(f"{option} needs a number of seconds above 0, not {text!r}")
    return value
