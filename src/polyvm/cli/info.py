"""`polyvm info`: the host, the engines, the guests and the caches."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

import click

from polyvm import __version__
from polyvm.cli.text import size, table
from polyvm.codegen import cache
from polyvm.isa import NAMES
from polyvm.isa import get as get_isa


def facts() -> dict[str, Any]:
    """All that is shown, as plain data."""
    sizes = [length for _, length in cache.entries()]
    return {
        "polyvm": __version__,
        "host": {
            "system": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(),
            "processor": _processor(),
            "processors": os.cpu_count() or 1,
            "python": f"{platform.python_version()} ({sys.executable})",
        },
        "engines": {"interpreter": {"llvm": _llvm()}},
        "guests": {name: {"extensions": list(get_isa(name).extensions)} for name in NAMES},
        "cache": {"directory": cache.directory(), "entries": len(sizes), "bytes": sum(sizes)},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() in ("model name", "CPU part"):
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _llvm() -> str | None:
    try:
        from llvmlite import binding
    except ImportError:
        return None
    return ".".join(map(str, binding.llvm_version_info))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """Show the host, the engines, the guests with their extensions, and the caches."""
    found = facts()
    if as_json:
        import json

        click.echo(json.dumps(found, indent=2))
        return
    host, kept = found["host"], found["cache"]
    llvm = found["engines"]["interpreter"]["llvm"]
    rows = [
        ("polyvm", found["polyvm"]),
        ("host", f"{host['system']}, {host['machine']}, {host['processors']} × {host['processor']}"),
        ("python", host["python"]),
        ("engine", f"interpreter, made by LLVM {llvm}" if llvm else "interpreter (llvmlite is not installed)"),
    ]
    rows += [(f"guest {name}", " ".join(guest["extensions"])) for name, guest in found["guests"].items()]
    rows.append(("cache", f"{kept['directory']}, {kept['entries']} entries, {size(kept['bytes'])}"))
    click.echo(table(rows))
