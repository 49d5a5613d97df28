"""What is counted over many runs: numbers, bars of a histogram, percentiles.

A run counts at the time of its *start*, as it is listed. ``live`` are the runs that have not ended; each other run is in one of the three
counts by which it shows (``model.states.RUN_STATUS``). Percentiles are those of runs that succeeded, interpolated within a class of
durations: the true value lies in the same class, whose end is 1.6 times its beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

# Runs whose rows are looked at for one histogram: what the rollup cannot answer costs 2 to 3 us a row, and a page has 30 ms.
HISTOGRAM_ROWS_MAX: Final = 3_000


@dataclass(frozen=True, slots=True)
class Bar:
    """The runs that started in one slice of time."""

    since: datetime
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    live: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.succeeded + self.failed + self.cancelled + self.live


@dataclass(frozen=True, slots=True)
class Histogram:
    """Bars side by side, oldest first, each as wide as the others.

    ``capped``: of the runs whose rows had to be looked at only the newest ``HISTOGRAM_ROWS_MAX`` are counted.
    """

    bars: tuple[Bar, ...]
    bar_s: int
    capped: bool


class _Outcomes:
    """What follows from the counts of ended runs."""

    __slots__ = ()

    succeeded: int
    failed: int
    cancelled: int

    @property
    def ended(self) -> int:
        """The runs that have ended, in whatever way."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def success_rate(self) -> float | None:
        """The share of the ended runs that succeeded, or None where none has ended."""
        return self.succeeded / self.ended if self.ended else None


@dataclass(frozen=True, slots=True)
class Totals(_Outcomes):
    """What became of the runs of some time. Percentiles are None where nothing succeeded."""

    succeeded: int
    failed: int
    cancelled: int
    live: int
    p50_ms: int | None
    p95_ms: int | None


@dataclass(frozen=True, slots=True)
class WorkflowFigures(_Outcomes):
    """The same of one workflow; ``spark`` is its course in as many bars as were asked for, of ended runs alone."""

    workflow_name: str
    succeeded: int
    failed: int
    cancelled: int
    live: int
    p50_ms: int | None
    p95_ms: int | None
    spark: tuple[Bar, ...] = ()
