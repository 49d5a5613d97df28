"""``python -m bench``: see ``--help``. Writes Markdown to standard output, and says on standard error what it is at."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from bench import boot, busy, counting, footprint, growing, indexes, lists, observing, pages, reading, throughput
from bench.databases import databases
from bench.report import machine

PARTS = (
    "throughput",
    "observing",
    "busy",
    "growing",
    "counting",
    "indexes",
    "lists",
    "reading",
    "pages",
    "boot",
    "footprint",
)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure what recording and reading cost.")
    parser.add_argument(
        "--quick", action="store_true", help="two short rounds, small tables, no DBOS at 200: two minutes"
    )
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), help="one kind of it")
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--sizes", type=int, nargs="+", help="runs in the lists; default 10000 1000000")
    parser.add_argument("--without-peers", action="store_true", help="leave DBOS out")
    options = parser.parse_args()
    kinds = [options.database] if options.database else ["sqlite", "postgresql"]
    with databases(kinds) as new:
        for line in _report(options, kinds, new):
            print(line, flush=True)


def _report(  # a list of parts
    options: argparse.Namespace, kinds: list[str], new: Callable[[str], str]
) -> Iterator[str]:
    yield from machine()
    began = time.perf_counter()
    for kind in kinds:
        for part, measure in _parts(options, kind, new).items():
            if options.only in {None, part}:
                _say(f"{part} on {kind}")
                yield ""
                yield from measure()
    if options.only in {None, "footprint"}:
        yield ""
        yield from footprint.imports()
    _say(f"done in {time.perf_counter() - began:.0f} s")


def _parts(options: argparse.Namespace, kind: str, new: Callable[[str], str]) -> dict[str, Callable[[], Iterator[str]]]:
    """Return what is measured on one kind of database, in this order."""
    quick = options.quick
    sizes = options.sizes or ([1_000, 10_000] if quick else [10_000, 1_000_000])
    clients = [1, 50] if quick else [1, 50, 200]
    peers = [] if options.without_peers else list(throughput.PEERS.values())
    rounds = options.rounds or (2 if quick else 5)
    parts = {
        "throughput": partial(throughput.measure, kind, new, clients, rounds, peers),
        "observing": partial(observing.measure, kind, new, rounds),
        "busy": partial(busy.measure, kind, new),
        "growing": partial(growing.measure, kind, new),
        "counting": partial(counting.measure, kind, new),
        "indexes": partial(indexes.measure, new),
        "lists": partial(lists.measure, kind, new, sizes),
        "reading": partial(reading.measure, kind, new, sizes),
        "pages": partial(pages.measure, kind, new, max(sizes)),
        "boot": partial(boot.measure, kind, new, max(sizes)),
        "footprint": partial(footprint.stored, kind, new),
    }
    if kind != "sqlite":  # on PostgreSQL the server pays for indexes, and shares its CPU
        del parts["indexes"]
    assert set(parts) <= set(PARTS)
    return parts


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
