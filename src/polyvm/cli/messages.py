"""What polyvm says when something is wrong: one sentence on standard error, and the exit status that goes with it."""

from __future__ import annotations

import os
import sys

from polyvm import errors
from polyvm.cli import EXIT_INTERNAL, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_USAGE

_DEBIAN = {"aarch64": "arm64"}  # what Debian calls architectures otherwise


def complain(text: str) -> None:
    """Print `text` after ``polyvm: ``; what a terminal would take for control characters is shown escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    try:
        sys.stderr.write(f"polyvm: {shown}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # standard error is closed


def report(error: BaseException, program: str | None = None) -> int:
    """Say what `error` means for the user; the exit status to end with."""
    text, status = describe(error, program)
    complain(text)
    if os.environ.get("POLYVM_DEBUG"):
        import traceback

        traceback.print_exception(error)
    return status


def describe(error: BaseException, program: str | None = None) -> tuple[str, int]:
    """The sentence and the exit status for `error`; `program` is the file that was to be run."""
    if isinstance(error, OSError):
        return _os_error(error, program)
    text = str(error)
    if program is not None and isinstance(error, errors.ElfError) and program not in text:
        text = f"{program}: {text}"
    if isinstance(error, errors.MissingInterpreter):
        return f"{text}; {_interpreter_hint(error.architecture)}", EXIT_NOT_EXECUTABLE
    if isinstance(error, errors.ElfError):
        return text, EXIT_NOT_EXECUTABLE
    if isinstance(error, errors.UsageError):
        return text, EXIT_USAGE
    if isinstance(error, errors.GuestError | errors.UnsupportedError):
        return text, EXIT_INTERNAL
    kind = type(error).__name__
    return f"internal error: {kind}: {text} (set POLYVM_DEBUG=1 for details)", EXIT_INTERNAL


def _os_error(error: OSError, program: str | None) -> tuple[str, int]:
    path = error.filename
    name = os.fsdecode(path) if isinstance(path, str | bytes) else program
    where = f"{name}: " if name else ""
    if program is not None and name == program:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            hint = "" if "/" in program else " (PATH is not searched: give a path such as ./" + program + ")"
            return f"{where}no such file{hint}", EXIT_NOT_FOUND
        if isinstance(error, IsADirectoryError):
            return f"{where}is a directory, not a program", EXIT_NOT_EXECUTABLE
        if isinstance(error, PermissionError):
            return f"{where}permission denied; a program must be readable and executable (chmod +rx)", \
                EXIT_NOT_EXECUTABLE  # fmt: skip
        return f"{where}{error.strerror or error}", EXIT_NOT_EXECUTABLE
    return f"{where}{error.strerror or error}", EXIT_INTERNAL


def _interpreter_hint(architecture: str) -> str:
    cross = f"/usr/{architecture}-linux-gnu"
    if os.path.isdir(cross):
        return f"say where its libraries are, e.g. -L {cross}"
    debian = _DEBIAN.get(architecture, architecture)
    return (
        f"say with -L DIR where its libraries are (a tree with Debian's package libc6:{debian}, "
        f"or {cross} from the package libc6-{debian}-cross)"
    )
