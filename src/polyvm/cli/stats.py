"""`--stats`: the counters of a run, as a table or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyvm.api.launch import Summary
    from polyvm.engine.statistics import Statistics


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
        "interpreted": _interpreted(counts),
        "regions": counts.regions,
        "regions_from_disk": counts.cached,
        "regions_failed": counts.failed,
        "compile_seconds": round(counts.compile_seconds, 6),
        "links": counts.links,
        "lookups": counts.lookups,
        "jump_cache_hits": counts.jump_hits,
        "inline_cache_hits": counts.inline[0] - counts.inline[1],
        "inline_cache_misses": counts.inline[1],
        "exits": counts.exits,
        "tiers": {
            name: {"instructions": done, "seconds": round(spent, 6)} for name, done, spent in zip(
                ("interpreted", "quick", "full"), (_interpreted(counts), counts.quick, counts.full), counts.seconds, strict=True)
        },
        "regions_quick": counts.quick_regions,
        "regions_full": counts.full_regions,
        "compile_seconds_quick": round(counts.quick_compile, 6),
        "compile_seconds_full": round(counts.full_compile, 6),
        "requests": counts.requests,
        "queue": counts.queue,
        "queue_most": counts.queue_most,
        "disk_pages": counts.pages,
        "disk_page_hits": counts.page_hits,
        "attached": counts.attached,
        "resumes": counts.resumes,
        "code_bytes": counts.code,
        "code_cleared": counts.cleared,
        "threads": summary.threads,
        "status": summary.status,
    }


def _interpreted(counts: Statistics) -> int:
    return min(counts.interpreted, counts.instructions)


def mips(summary: Summary) -> float:
    """Million instructions a second of wall time."""
    return summary.statistics.instructions / summary.seconds / 1e6 if summary.seconds > 0 else 0.0


def _share(hits: int, misses: int) -> str:
    return f"{hits / (hits + misses):.2%}" if hits or misses else "-"


def _tier(instructions: int, seconds: float) -> str:
    return f"{instructions:,} instructions, {seconds:.3f} s"


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
        ("interpreted", _tier(_interpreted(counts), counts.seconds[0])),
        ("quick code", "about " + _tier(counts.quick, counts.seconds[1])),
        ("full code", "about " + _tier(counts.full, counts.seconds[2])),
        ("regions", f"{counts.regions:,} compiled ({counts.quick_regions:,} quick, {counts.full_regions:,} full), "
                    f"{counts.cached:,} of them by an earlier run, {counts.failed:,} failed"),
        ("compiler", f"{counts.requests:,} requests, {counts.compile_seconds:.3f} s (quick {counts.quick_compile:.3f}, "
                     f"full {counts.full_compile:.3f}); {counts.queue:,} waiting, {counts.queue_most:,} at most"),
        ("cache on disk", f"{counts.pages:,} pages of code looked up, {counts.page_hits:,} found"),
        ("compiled code", f"{counts.code:,} bytes, dropped {counts.cleared:,} times to make room"),
        ("translations", f"{counts.attached:,} blocks found compiled"),
        ("invalidations", f"{counts.invalidations:,}"),
        ("chained jumps", f"{counts.links:,}"),
        ("looked-up jumps", f"{counts.lookups:,}"),
        ("jump cache", f"{counts.jump_hits:,} jumps found, {_share(counts.jump_hits, counts.lookups)}"),
        ("inline caches", f"{counts.inline[0]:,} jumps through registers in quick code, "
                          f"{_share(counts.inline[0] - counts.inline[1], counts.inline[1])} stayed in their region"),
        ("left over", f"{counts.resumes:,} times an instruction of compiled code, to the interpreter"),
        ("exits", reasons or "none"),
        ("threads", f"{summary.threads}"),
    ])  # fmt: skip
