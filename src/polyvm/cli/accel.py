"""`polyvm accel`: what this host can run guests with, and why not with the rest."""

from __future__ import annotations

from dataclasses import asdict

import click

from polyvm.accel import available, best
from polyvm.cli.text import columns
from polyvm.errors import UnsupportedError
from polyvm.vcpu.capabilities import FEATURES, Capabilities


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--features", is_flag=True, help="Each feature, and why it is missing where it is.")
def command(as_json: bool, features: bool) -> None:
    """Show what can run guests on this host: hypervisors and the software engine."""
    found = available()
    if as_json:
        import json

        click.echo(json.dumps([asdict(entry) for entry in found], indent=2))
        return
    rows: list[tuple[str, ...]] = [("accelerator", "here", "version", "guests", "runs, or why not")]
    for entry in found:
        capabilities = entry.capabilities
        kind = ("kernels and user code" if capabilities.full_system else "user code") if entry.present else entry.reason
        rows.append((entry.name, "yes" if entry.present else "no", entry.version, " ".join(capabilities.guests), kind))
    click.echo(columns(rows))
    click.echo()
    for guest in ("x86_64", "aarch64", "riscv64"):
        try:
            click.echo(f"best for {guest} machines: {best(guest).name}")
        except UnsupportedError:
            click.echo(f"best for {guest} machines: none")
    if features:
        for entry in found:
            if entry.present:
                limits = entry.capabilities
                click.echo(f"\n{entry.name}: up to {limits.max_vcpus} vCPUs, {limits.memory_slots} memory slots")
                click.echo(columns([_feature(limits, name) for name in FEATURES], "  "))


def _feature(capabilities: Capabilities, name: str) -> tuple[str, ...]:
    return ("yes" if capabilities.has(name) else "no", FEATURES[name], capabilities.why_not(name))
