"""``python -m polyvm``: the command line."""

from __future__ import annotations

from polyvm.cli import script

if __name__ == "__main__":
    script()
