"""Power cuts, with one command:

    python -m tests.faults.power                          200 moments x 4 images on SQLite, 20 kills on PostgreSQL: ten minutes
    python -m tests.faults.power --rounds 1000
    python -m tests.faults.power --control                with the syncs taken away: it has to find losses, or it can see none

The status is 1 if anything was lost, damaged, repeated or stuck (with ``--control``: if nothing was). SQLite needs a C compiler.
"""

from __future__ import annotations

import argparse
import sys

from tests.faults.power import FAULTS, postgresql_kills, run, sqlite_images


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.power", description="Power cuts.")
    parser.add_argument(
        "--rounds", type=int, default=200, help="moments on SQLite; a tenth as many kills on PostgreSQL"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is left to chance")
    parser.add_argument("--control", action="store_true", help="without the syncs")
    asked = parser.parse_args()
    if asked.control:
        counts = {
            "sqlite, NORMAL": sqlite_images.cut(asked.rounds, synchronous="NORMAL", seed=asked.seed),
            "sqlite, OFF": sqlite_images.cut(asked.rounds, synchronous="OFF", seed=asked.seed),
            "postgresql, off": postgresql_kills.kill(max(1, asked.rounds // 10), synchronous="OFF", seed=asked.seed),
        }
    else:
        counts = run(asked.rounds, seed=asked.seed)
    for name, counted in counts.items():
        print(name, ", ".join(f"{what} {number}" for what, number in counted.items()))  # noqa: T201
    found = [sum(counted[what] for what in FAULTS) for counted in counts.values()]
    return int(not all(found)) if asked.control else int(any(found))


if __name__ == "__main__":
    sys.exit(main())
