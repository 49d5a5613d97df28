"""``python -m bench``: see ``--help``. Writes Markdown to standard output, and says on standard error what it is at."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

from bench import busy, counting, footprint, growing, indexes, lists, pages, reading, throughput
from bench.databases import databases
from bench.report import machine

PARTS = ("throughput", "busy", "growing", "counting", "indexes", "lists", "reading", "pages", "footprint")


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


def _report(options: argparse.Namespace, kinds: list[str], new: Callable[[str], str]) -> Iterator[str]:
    yield from machine()
    began = time.perf_counter()
    for kind in kinds:
        if options.only in {None, "throughput"}:
            _say(f"steps per second on {kind}")
            clients = [1, 50] if options.quick else [1, 50, 200]
            peers = [] if options.without_peers else list(throughput.PEERS.values())
            yield ""
            yield from throughput.measure(kind, new, clients, options.rounds or (2 if options.quick else 5), peers)
        if options.only in {None, "busy"}:
            _say(f"a busy loop on {kind}")
            yield ""
            yield from busy.measure(kind, new)
        if options.only in {None, "growing"}:
            _say(f"what must not grow on {kind}")
            yield ""
            yield from growing.measure(kind, new)
        if options.only in {None, "counting"}:
            _say(f"the rollup on {kind}")
            yield ""
            yield from counting.measure(kind, new)
        if options.only in {None, "indexes"} and kind == "sqlite":
            _say("indexes on sqlite")
            yield ""
            yield from indexes.measure(new)
        if options.only in {None, "lists"}:
            _say(f"lists on {kind}")
            sizes = options.sizes or ([10_000] if options.quick else [10_000, 1_000_000])
            yield ""
            yield from lists.measure(kind, new, sizes)
        if options.only in {None, "reading"}:
            _say(f"reading on {kind}")
            sizes = options.sizes or ([1_000, 10_000] if options.quick else [10_000, 1_000_000])
            yield ""
            yield from reading.measure(kind, new, sizes)
        if options.only in {None, "pages"}:
            _say(f"pages on {kind}")
            yield ""
            yield from pages.measure(kind, new, max(options.sizes or [10_000 if options.quick else 1_000_000]))
        if options.only in {None, "footprint"}:
            _say(f"bytes on {kind}")
            yield ""
            yield from footprint.stored(kind, new)
    if options.only in {None, "footprint"}:
        yield ""
        yield from footprint.imports()
    _say(f"done in {time.perf_counter() - began:.0f} s")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
