"""A profile as a flame graph: library, function, region or block, one above the other.

Folded stacks ("a;b;c 12" a line, as flamegraph.pl, inferno and speedscope read them) are written here; pages to look at and
speedscope's own format are pyinstrument's, which is an optional dependency.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polyvm.debug.report import TIERS, spots
from polyvm.errors import UsageError

if TYPE_CHECKING:
    from polyvm.engine.profile import Image

_A_SECOND = 1_000_000_000  # instructions, where there is no time


def stacks(images: list[Image]) -> dict[tuple[str, str, str], tuple[int, float]]:
    """Instructions and seconds of each stack."""
    found: dict[tuple[str, str, str], tuple[int, float]] = {}
    for pc, spot in spots(images):
        where = f"{spot.label} [{TIERS[spot.level]}]" if spot.high > spot.low else f"{pc:#x} [{TIERS[spot.level]}]"
        stack = (spot.place.module, spot.place.function or "?", where)
        old = found.get(stack, (0, 0.0))
        found[stack] = (old[0] + spot.instructions, old[1] + spot.seconds)
    return found


def folded(images: list[Image]) -> str:
    """Lines of folded stacks, by instructions."""
    lines = [f"{';'.join(part.replace(';', ':') for part in stack)} {count}" for stack, (count, _) in stacks(images).items()]
    return "".join(f"{line}\n" for line in sorted(lines))


def check(path: str) -> None:
    """Raise UsageError where what writes `path` is not installed."""
    if path.endswith((".html", ".json")):
        _library("session")


def write(path: str, images: list[Image]) -> None:
    """Write the flame graph that the name asks for; raises OSError and UsageError."""
    if path.endswith((".html", ".json")):
        session = _session(images)
        renderers = _library("renderers")
        renderer = renderers.HTMLRenderer() if path.endswith(".html") else renderers.SpeedscopeRenderer()
        text: str = renderer.render(session)
    else:
        text = folded(images)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _library(part: str) -> Any:
    try:
        return import_module(f"pyinstrument.{part}")
    except ImportError:
        raise UsageError("this kind of flame graph needs pyinstrument: pip install polyvm[profile]") from None


def _session(images: list[Image]) -> Any:
    """The profile as pyinstrument keeps one."""
    found = stacks(images)
    timed = any(seconds for _, seconds in found.values())
    program = images[0].program if images else ""
    root = _frame(program, program)
    # Alike stacks side by side: the renderers merge neighbours.
    records = [
        ([root, *(_frame(name, stack[0]) for name in stack)], seconds if timed else count / _A_SECOND)
        for stack, (count, seconds) in sorted(found.items())
    ]
    total = sum(seconds for _, seconds in records)
    return _library("session").Session.from_json({
        "frame_records": records, "start_time": 0.0, "duration": total, "min_interval": 0.0, "max_interval": 0.0,
        "sample_count": len(records), "start_call_stack": [root], "target_description": program, "cpu_time": total,
        "sys_path": [], "sys_prefixes": [],
    })  # fmt: skip


def _frame(name: str, module: str) -> str:
    """As pyinstrument identifies a frame: name, file, line."""
    return f"{name}\0{module}\0{0}"
