"""`polyvm run`'s options are parsed as getopt_long(3) does with ``+``."""

from __future__ import annotations

import getopt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyvm.cli.options import FLAG, MANY, OPTIONAL, RUN, HelpRequest, integer, parse, seconds
from polyvm.errors import UsageError

WORDS = [
    "-L", "-L/root", "-E", "-EA=1", "-0", "--", "-", "prog", "--sysroot", "--sysroot=/root", "--strace", "--cwd", "--cwd=",
    "--strace=1", "--max-instructions=5", "--nope", "-x", "-U", "A", "--allow-network", "",
]  # fmt: skip


def reference(arguments: list[str]) -> tuple[dict[str, str], dict[str, list[str]], list[str]]:
    """The same by the standard library's getopt; abbreviations are not made in these tests."""
    short = "".join(f[1] + ":" for o in RUN for f in o.flags if not f.startswith("--"))
    long = [f[2:] + ("" if o.kind == FLAG else "=") for o in RUN if o.kind != OPTIONAL for f in o.flags if f[:2] == "--"]
    found, rest = getopt.getopt(arguments, short, long)
    single: dict[str, str] = {}
    many: dict[str, list[str]] = {}
    for flag, value in found:
        option = next(o for o in RUN if flag in o.flags)
        if option.kind == MANY:
            many.setdefault(option.key, []).append(value)
        else:
            single[option.key] = "1" if option.kind == FLAG else value
    return single, many, rest


@given(st.lists(st.sampled_from(WORDS), max_size=6))
def test_parse_agrees_with_getopt(arguments: list[str]) -> None:
    """Every command line means what getopt says it means, and is an error where getopt says so."""
    try:
        expected = reference(arguments)
    except getopt.GetoptError:
        with pytest.raises(UsageError):
            parse(arguments, RUN)
    else:
        assert parse(arguments, RUN) == expected


@pytest.mark.parametrize(
    ("arguments", "stats", "words"),
    [
        (["--stats", "prog"], "table", ["prog"]),
        (["--stats=json", "prog"], "json", ["prog"]),
        (["prog", "--stats"], None, ["prog", "--stats"]),
        (["--stats", "--", "-prog", "--stats"], "table", ["-prog", "--stats"]),
    ],
)
def test_an_optional_value_needs_an_equals_sign(arguments: list[str], stats: str | None, words: list[str]) -> None:
    """``--stats PROGRAM`` does not take the program for its value."""
    single, _, rest = parse(arguments, RUN)
    assert (single.get("stats"), rest) == (stats, words)


def test_help_before_the_program_is_for_polyvm_and_after_it_for_the_guest() -> None:
    """``--help`` is polyvm's only in front of the program."""
    with pytest.raises(HelpRequest):
        parse(["--strace", "--help", "prog"], RUN)
    assert parse(["prog", "--help"], RUN)[2] == ["prog", "--help"]


def test_a_misspelt_option_names_the_closest_one() -> None:
    """A typing error costs one look at the message."""
    with pytest.raises(UsageError, match="did you mean --strace"):
        parse(["--strac", "prog"], RUN)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1000", 1000), ("1_000", 1000), ("0x10", 16), ("64M", 64 << 20), ("2g", 2 << 30), ("1k", 1024)],
)
def test_numbers_may_have_a_base_and_a_unit(text: str, value: int) -> None:
    """Numbers are decimal or hexadecimal, in units of powers of 1024."""
    assert integer(text, "--limit-memory") == value


@pytest.mark.parametrize("text", ["", "-1", "x", "1.5", "M", "1MB", "0x", "--"])
def test_what_is_no_number_is_refused(text: str) -> None:
    """The message names the option."""
    with pytest.raises(UsageError, match="--limit-memory needs a number"):
        integer(text, "--limit-memory")


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Seconds are positive and finite."""
    with pytest.raises(UsageError, match="--limit-cpu needs a number of seconds"):
        seconds(text, "--limit-cpu")
