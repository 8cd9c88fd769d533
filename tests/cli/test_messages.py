"""An error becomes one sentence that says what, where and what to do, and the exit status that a shell would give."""

from __future__ import annotations

import errno
import os

import pytest

from polyvm import errors
from polyvm.cli.messages import complain, describe


def os_error(number: int, path: str | None) -> OSError:
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (os_error(errno.ENOENT, "hello"), 127, ["hello: no such file", "./hello"]),
        (os_error(errno.ENOENT, None), 127, ["hello: no such file"]),
        (os_error(errno.EISDIR, "hello"), 126, ["hello: is a directory"]),
        (os_error(errno.EACCES, "hello"), 126, ["hello: permission denied", "chmod"]),
        (os_error(errno.ENAMETOOLONG, "hello"), 126, ["hello: ", "too long"]),
        (os_error(errno.ENOENT, "/elsewhere"), 125, ["/elsewhere: No such file"]),
        (errors.NotElf("not an ELF file"), 126, ["hello: not an ELF file"]),
        (errors.WrongArchitecture("hello is for x86-64"), 126, ["hello is for x86-64"]),
        (errors.TruncatedElf("cut off at byte 3"), 126, ["hello: cut off at byte 3"]),
        (errors.MissingInterpreter("needs /lib/ld.so"), 126, ["hello: needs /lib/ld.so", "-L "]),
        (errors.UsageError("wrong"), 2, ["wrong"]),
        (errors.UnsupportedError("not here"), 125, ["not here"]),
        (errors.EngineError("broken"), 125, ["internal error", "broken", "POLYVM_DEBUG"]),
        (ZeroDivisionError("division by zero"), 125, ["internal error", "ZeroDivisionError"]),
        (MemoryError(), 125, ["internal error", "MemoryError"]),
    ],
)
def test_errors_have_a_sentence_and_a_status(error: Exception, status: int, words: list[str]) -> None:
    """What went wrong with the program ``hello``."""
    text, found = describe(error, "hello")
    assert found == status
    assert "\n" not in text
    for word in words:
        assert word in text


def test_the_interpreter_hint_names_a_package_where_there_is_no_cross_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without libraries on the host the message says which Debian package has them."""
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    text, _ = describe(errors.MissingInterpreter("needs /lib/ld.so"), "hello")
    assert "libc6:riscv64" in text
    assert "libc6-riscv64-cross" in text
    text, _ = describe(errors.MissingInterpreter("needs /lib/ld.so", "aarch64"), "hello")
    assert "libc6:arm64" in text
    assert "/usr/aarch64-linux-gnu from the package libc6-arm64-cross" in text


def test_control_characters_of_a_file_name_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A name may hold any byte."""
    complain("\x1b[31mred\nfile: \udcff no such file")
    assert capsys.readouterr().err == "polyvm: \\x1b[31mred\\nfile: \\udcff no such file\n"
