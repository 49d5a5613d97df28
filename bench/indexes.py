"""What secondary indexes and tags add to a run (goal P10): the entries of whole runs into databases by turns,
one of which has neither.

All are filled first, since an index that fits into a page or two costs nothing. Entries go through the store's writer, as the journal
gives them; the CPU is that of the process, which on SQLite is all of it.
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from bench.counting import entries_of_runs
from bench.fill import COMMON_TAGS, RARE_TAGS, fill
from bench.report import number, table
from workflow_runs.clock import Clock
from workflow_runs.model.entries import Entry, GapNoted, StartRun
from workflow_runs.store.base import StoreWriter
from workflow_runs.store.opening import open_store

BATCHES = (1, 50, 200)  # runs in one
ROUNDS = 100
FILLED = 200_000
# What the goal speaks of. The others serve the pages' searches: by user, trigger, duration, fingerprint, lineage.
GOAL = ("name", "state", "name_state", "correlation", "parent")
ARMS = ("none", "the goal's and two tags", "all and two tags")


def measure(new: Callable[[str], str]) -> Iterator[str]:
    """Yield the lines of a report on SQLite."""
    clock = Clock()
    writers = {arm: _writer(new("sqlite"), clock, arm) for arm in ARMS}
    rows = []
    for size in BATCHES:
        taken: dict[str, list[float]] = {arm: [] for arm in ARMS}
        for turn in range(ROUNDS):
            for place in range(len(ARMS)):
                arm = ARMS[(turn + place) % len(ARMS)]
                batch = _batch(clock, size, tagged=arm != ARMS[0])
                began = time.process_time()
                writers[arm].apply(batch)
                taken[arm].append((time.process_time() - began) / size * 1e6)
        none, *some = (statistics.median(taken[arm]) for arm in ARMS)
        best, *bests = (min(taken[arm]) for arm in ARMS)
        costs = (f"{number(each - none)} ({number(low - best)})" for each, low in zip(some, bests, strict=True))
        rows.append([f"{size} at once", f"{number(none)} ({number(best)})", *costs])
    for writer in writers.values():
        writer.close()
    yield f"### Indexes and tags, sqlite: CPU in us of a run of five steps, {FILLED:,} runs there; median (best) of {ROUNDS}\n"
    yield from table(["", "a run without", *(f"more with {arm}" for arm in ARMS[1:])], rows)


def _writer(url: str, clock: Clock, arm: str) -> StoreWriter:
    store = open_store(url, clock=clock)
    store.migrate()
    fill(url, FILLED)
    kept = {f"ix_workflow_runs_{name}" for name in GOAL} if arm == ARMS[1] else set()
    if arm != ARMS[2]:
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            named = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
            for name in {name for (name,) in connection.execute(named).fetchall()} - kept:
                connection.execute(f"DROP INDEX {name}")
    writer = store.open_writer()
    writer.apply([GapNoted(clock.new_run_id())])  # connects
    return writer


def _batch(clock: Clock, size: int, *, tagged: bool) -> list[Entry]:
    source = random.Random(size)
    starts, steps, ends = entries_of_runs(clock, size)
    runs = []
    for start in starts:
        assert isinstance(start, StartRun)
        tags = (source.choice(COMMON_TAGS), f"order:{source.randrange(RARE_TAGS)}") if tagged else ()
        key, user = f"order-{source.randrange(1_000_000)}", f"user-{source.randrange(100)}"
        request = replace(start.request, tags=tags, correlation_id=key, triggered_by_user_id=user)
        runs.append(replace(start, request=request))
    return [*runs, *steps, *ends]
