"""The long version, with one command:

    make faults                                             everything, on SQLite and on PostgreSQL: about an hour
    make faults ARGS="--only kills --kills 3000 --preloaded"
    make faults ARGS="--only outages --database postgresql"

which is ``python -m tests.faults`` in the environment of ``make test``; PostgreSQL comes from a wheel. What it prints is a Markdown
table: how often what was done, and how often something was found that ought not to be. The status is 1 if anything was. Clock jumps
need gcc and are left out without it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.faults.book import Verdict
from tests.faults.databases import databases
from tests.faults.parts import PARTS, Scope
from tests.faults.report import Row, table


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Faults done to real servers.")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], help="default: both")
    parser.add_argument("--only", action="append", choices=sorted(PARTS), help="one part; may be repeated")
    parser.add_argument("--kills", type=int, default=300, help="for each database (default: 300)")
    parser.add_argument("--rounds", type=int, default=10, help="of every other fault (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of what is left to chance (default: 0)")
    parser.add_argument(
        "--preloaded", action="store_true", help="fork servers from a prepared process: many more kills"
    )
    asked = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))  # no server is left behind
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="workflow-runs-faults-") as folder:
        for kind in [asked.database] if asked.database else ["sqlite", "postgresql"]:
            with databases(kind) as new_database:
                scope = Scope(kind, new_database, Path(folder), asked.kills, asked.rounds, asked.seed, asked.preloaded)
                for name in asked.only or PARTS:
                    for row in _done(PARTS[name], name, scope):
                        rows.append(row)
                        sys.stderr.write(f"{row}\n")
                        sys.stderr.flush()
    sys.stdout.write(table(rows))
    return 1 if any(row.verdict.faults for row in rows) else 0


def _done(part: Callable[[Scope], Iterator[Row]], name: str, scope: Scope) -> Iterator[Row]:
    """Yield what a part finds; one that cannot go on says so, and the others are done all the same."""
    try:
        yield from part(scope)
    except AssertionError as error:
        verdict = Verdict()
        verdict.add("wrong", f"could not go on: {error}")
        yield Row(scope.database, name, 0, verdict)


if __name__ == "__main__":
    sys.exit(main())
