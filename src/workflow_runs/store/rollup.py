"""The rollup: ended runs, counted as they end, so that a figure over two weeks reads some thousand rows and not a million.

A row stands for the runs of one workflow that started in one half hour, and has a column for each way to end and, for those that succeeded,
for each class of duration. It is written in the transaction that ends a run and only if that transaction changed the run, so what is
repeated is not counted twice and what is rolled back is not counted. Runs that have not ended are not in it: they are few, and an
index finds them.

* **By half hour**, since every zone's full hours and days are made of whole ones.
* **By class of duration**, each 1.6 times as long as the one before: percentiles can be had over any time and any set of workflows by
  adding up. Rejected: sketches as blobs (t-digest), which every end would have to read, decode and write, and which SQL cannot add.
* **Columns, not rows** for states and classes. With a row for each of them a day of fifty workflows was 26,000 rows instead of 2,400, a
  batch of ends ten upserts instead of one for each workflow in it, and figures over a fortnight took five times as long.
* **By shard**, on PostgreSQL: two processes that end runs of one workflow would otherwise queue for one row until the other's
  commit is on the disk. A shard is a server process's; whoever reads adds them up.

Everything here is arithmetic on values; the statements stand in ``statements`` and ``postgresql_bulk``.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ..clock import to_millis
from ..model.states import RunState, is_finished

HALF_HOUR_MS: Final = 1_800_000
SHARDS: Final = (
    16  # two of four processes share one by chance in a third of all cases, and then wait for each other at times
)

# Upper bounds of the classes in ms; the last class, from two days on, has none.
CLASSES_MS: Final = (1, *(round(4 * 2 ** (number * 2 / 3)) for number in range(39)))

STATE_COLUMNS: Final = tuple(state.value for state in RunState if is_finished(state))
TOOK_COLUMNS: Final = tuple(f"took_{number:02}" for number in range(len(CLASSES_MS) + 1))
COUNT_COLUMNS: Final = (*STATE_COLUMNS, *TOOK_COLUMNS)

_STATE_PLACE: Final = {state: place for place, state in enumerate(STATE_COLUMNS)}


class RollupKey(NamedTuple):
    """What one row counts, but for its shard. Rows are written in this order, so that no two processes wait for each other."""

    half_hour: int
    workflow_name: str


def half_hour(millis: int) -> int:
    """Return the number of the half hour, since 1970 in UTC, that a time lies in."""
    return millis // HALF_HOUR_MS


def half_hours(since: datetime, until: datetime) -> tuple[int, int]:
    """Return the half hours that hold the times from ``since`` to before ``until``: the first, and the one after the last."""
    return half_hour(to_millis(since)), -(-to_millis(until) // HALF_HOUR_MS)


def took_class(duration_ms: int) -> int:
    """Return the class of a duration, 0 for the shortest."""
    return bisect_right(CLASSES_MS, duration_ms)


def count(counts: list[int], state: str, took: int | None) -> None:
    """Add an ended run to the values of ``COUNT_COLUMNS``; ``took`` is the class of its duration, if it counts."""
    counts[_STATE_PLACE[state]] += 1
    if took is not None:
        counts[len(STATE_COLUMNS) + took] += 1


def percentile(counts: Sequence[int], share: float) -> int | None:
    """Return the duration in ms that ``share`` of the runs do not exceed, from counts by class; None where nothing was counted.

    Within a class durations are taken to be as common as in a geometric row, which is how classes are made.
    """
    total = sum(counts)
    if total <= 0:
        return None
    wanted, passed = share * total, 0
    for number, counted in enumerate(counts):
        if counted and passed + counted >= wanted:
            return _within(number, (wanted - passed) / counted)
        passed += counted
    raise AssertionError("a share of the whole lies within the whole")


def _within(number: int, part: float) -> int:
    """Return the duration at a part of the way through a class."""
    if number == 0:
        return 0
    first = CLASSES_MS[number - 1]
    last = CLASSES_MS[number] - 1 if number < len(CLASSES_MS) else first * 2
    return round(first * math.pow(last / first, part))
