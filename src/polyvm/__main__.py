"""``python -m polyvm``: the command line."""

from __future__ import annotations

from polyvm.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
