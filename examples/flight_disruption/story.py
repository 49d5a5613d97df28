"""The story: trigger a run per flight, lose the partner in the middle, resume what failed. Told by ``demo.py`` and checked by a test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from workflow_runs import WorkflowRuns

from .flights import Flight
from .partners import Outage
from .workflow import NAME

EFFECTS = ("assess", "rebook", "compensate", "notify")
AT_ONCE = 16  # triggers waiting for one commit: their rows share it
WAIT_S = 120.0  # for one run, from the moment it is looked at


@dataclass(frozen=True, slots=True)
class Told:
    """What happened, by the record."""

    failed: tuple[str, ...]  # ids of the runs that the outage failed
    resumed: tuple[str, ...]  # ids of the runs that resumed them, in the same order
    unfinished: tuple[str, ...]  # ids of runs that have not succeeded in the end; none, if all is well


def planned_outage(flights: int) -> Outage:
    """Return an outage in the middle of the batch: 400 calls, or a fifth of a small batch."""
    return Outage(after=flights // 2, refuses=min(400, flights // 5))


def tell(
    runs: WorkflowRuns,
    flights: Sequence[Flight],
    *,
    actor: str,
    on_ended: Callable[[], None] = lambda: None,
) -> Told:
    """Trigger, wait, resume, wait. ``on_ended`` is called for each run that has ended."""

    def trigger(flight: Flight) -> str:
        return runs.trigger(NAME, flight, correlation_id=flight.id, tags=[flight.carrier, flight.origin])

    def resume(run_id: str) -> str:
        return runs.desk.resume(run_id, actor=actor, reason="the rebooking partner is back").run_id

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        failed = tuple(_not_succeeded(runs, pool.map(trigger, flights), on_ended))
        resumed = tuple(pool.map(resume, failed))
        unfinished = tuple(_not_succeeded(runs, resumed, on_ended))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for ten thousand triggers
    return Told(failed, resumed, unfinished)


def _not_succeeded(
    runs: WorkflowRuns, run_ids: Iterator[str] | Sequence[str], on_ended: Callable[[], None]
) -> Iterator[str]:
    for run_id in run_ids:
        if runs.wait(run_id, WAIT_S).status != "succeeded":
            yield run_id
        on_ended()


def expected_effects(flights: Sequence[Flight]) -> Counter[tuple[str, str]]:
    """Return what the ledger has to hold after the story: each effect once per flight, and nothing else."""
    return Counter(chain.from_iterable(((effect, flight.id) for effect in EFFECTS) for flight in flights))
