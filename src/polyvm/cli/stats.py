"""`--stats`: the counters of a run, as a table or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyvm.api.launch import Summary


def as_json(summary: Summary) -> str:
    """One line of JSON."""
    import json

    return json.dumps(record(summary))


def record(summary: Summary) -> dict[str, object]:
    """The counters by name."""
    counts = summary.statistics
    return {
        "instructions": counts.instructions,
        "seconds": round(summary.seconds, 6),
        "mips": round(mips(summary), 1),
        "blocks": counts.blocks,
        "decoded": counts.decoded,
        "invalidations": counts.invalidations,
        "interpreted": min(counts.interpreted, counts.instructions),
        "regions": counts.regions,
        "regions_from_disk": counts.cached,
        "regions_failed": counts.failed,
        "compile_seconds": round(counts.compile_seconds, 6),
        "links": counts.links,
        "lookups": counts.lookups,
        "exits": counts.exits,
        "threads": summary.threads,
        "status": summary.status,
    }


def mips(summary: Summary) -> float:
    """Million instructions a second of wall time."""
    return summary.statistics.instructions / summary.seconds / 1e6 if summary.seconds > 0 else 0.0


def as_table(summary: Summary) -> str:
    """For people."""
    from polyvm.cli.text import table

    counts = summary.statistics
    reasons = ", ".join(f"{name} {count:,}" for name, count in counts.exits.items())
    return table([
        ("instructions", f"{counts.instructions:,}"),
        ("seconds", f"{summary.seconds:.3f}"),
        ("MIPS", f"{mips(summary):,.0f}"),
        ("blocks", f"{counts.blocks:,} of {counts.decoded:,} instructions"),
        ("interpreted", f"{min(counts.interpreted, counts.instructions):,} instructions"),
        ("regions", f"{counts.regions:,} compiled, {counts.cached:,} of them by an earlier run, {counts.failed:,} failed, "
                    f"{counts.compile_seconds:.3f} s"),
        ("invalidations", f"{counts.invalidations:,}"),
        ("chained jumps", f"{counts.links:,}"),
        ("looked-up jumps", f"{counts.lookups:,}"),
        ("exits", reasons or "none"),
        ("threads", f"{summary.threads}"),
    ])  # fmt: skip
