"""The command `python -m tests.stress`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.guests import GUESTS
from tests.stress import NAMES, Stress
from tests.stress import __doc__ as description


def main() -> int:
    """Run, and say what went wrong."""
    parser = argparse.ArgumentParser("python -m tests.stress", description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", default=str(random.SystemRandom().getrandbits(32)))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default=",".join(NAMES))
    parser.add_argument("--guest", choices=[guest.name for guest in GUESTS], default="riscv64")
    parser.add_argument("--precise", action="store_true", help="registers are checked at the end of a file, too")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        guest = next(guest for guest in GUESTS if guest.name == options.guest)
        stress = Stress(Path(folder), options.seed, guest=guest, precise=options.precise)
        stress.run(60 * options.minutes, options.jobs, tuple(options.only.split(",")))
    for failure in stress.failures:
        print(failure)
    print(f"{stress.rounds} rounds, {len(stress.failures)} wrong; {stress.damaged} entries of the cache damaged")
    return bool(stress.failures)


if __name__ == "__main__":
    sys.exit(main())
