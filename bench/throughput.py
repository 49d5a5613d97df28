"""Durable steps per second: ours, DBOS, and the raw insert, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

from bench.report import number, ratio, table
from bench.worker import STEPS, Contender, Order, Round

ROWS_PER_RUN = STEPS + 2  # its start and its end
SECONDS = 0.7

# Of the durable steps of ours; DBOS runs its own kind of the same function.
PEERS = {"ours_async": "dbos_async", "ours_sync": "dbos_sync"}


def measure(kind: str, new: Callable[[str], str], clients: list[int], rounds: int, peers: list[str]) -> Iterator[str]:
    """Yield the lines of a report on one kind of database."""
    contenders = [Contender(name, new(kind)) for name in ("raw", "journal", *PEERS, *peers)]
    results: dict[tuple[str, int], list[Round]] = {}
    try:
        for turn in range(rounds):
            for count in clients:
                for contender in contenders if turn % 2 == 0 else reversed(contenders):
                    result = contender.round(Order(count, SECONDS))
                    results.setdefault((contender.name, count), []).append(result)
    finally:
        for contender in contenders:
            contender.close()
    yield f"### Durable steps per second, {kind}, median of {rounds} rounds\n"
    yield from table(["", *(f"{count} at once" for count in clients)], _rates(results, clients))
    yield "\nRatios, median over the rounds\n"
    yield from table(["", *(f"{count} at once" for count in clients)], _ratios(results, clients, peers))
    yield "\nOne run of five steps: p50 / p95 ms, and CPU of its process per step, us\n"
    yield from table(["", *(f"{count} at once" for count in clients)], _times(results, clients))


def _per_s(name: str, count: int, result: Round) -> float:
    """Steps per second; of the raw insert, rows."""
    return result.runs * (count if name == "raw" else STEPS) / result.seconds


def _names(results: dict[tuple[str, int], list[Round]]) -> list[str]:
    return list(dict.fromkeys(name for name, _ in results))


def _rates(results: dict[tuple[str, int], list[Round]], clients: list[int]) -> Iterator[list[str]]:
    for name in _names(results):
        rates = [[_per_s(name, count, result) for result in results[name, count]] for count in clients]
        label = "raw insert, rows/s" if name == "raw" else name
        yield [label, *(number(statistics.median(values)) for values in rates)]


def _ratios(results: dict[tuple[str, int], list[Round]], clients: list[int], peers: list[str]) -> Iterator[list[str]]:
    def median(ours: str, theirs: str, count: int, factor: float) -> str:
        pairs = zip(results[ours, count], results[theirs, count], strict=True)
        return ratio(statistics.median(factor * _per_s(ours, count, a) / _per_s(theirs, count, b) for a, b in pairs))

    rows = ROWS_PER_RUN / STEPS
    for ours, theirs in PEERS.items():
        if theirs in peers:
            yield [f"{ours} to {theirs}", *(median(ours, theirs, count, 1) for count in clients)]
    for ours in ("journal", *PEERS):
        yield [f"{ours} to raw, rows", *(median(ours, "raw", count, rows) for count in clients)]


def _times(results: dict[tuple[str, int], list[Round]], clients: list[int]) -> Iterator[list[str]]:
    for name in _names(results):
        if name == "raw":
            continue
        cells = []
        for count in clients:
            rounds = results[name, count]
            p50, p95 = (statistics.median(getattr(result, key) for result in rounds) for key in ("p50_ms", "p95_ms"))
            cpu_us = statistics.median(result.cpu_s / (result.runs * STEPS) for result in rounds) * 1e6
            cells.append(f"{number(p50)} / {number(p95)}; {number(cpu_us)}")
        yield [name, *cells]
