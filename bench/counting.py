"""What the rollup adds to the end of a run: batches with it and without it in turns, on one database, through the store's writer.

Two kinds of batch: ends and nothing else, the worst that can be; and the entries of whole runs of five steps, as the journal gives them.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from unittest import mock

from bench.report import number, ratio, table
from bench.worker import PAYLOAD, STEPS
from workflow_runs.clock import Clock
from workflow_runs.model.entries import Entry, GapNoted, RunEnded, StartRun, StepEnded
from workflow_runs.model.records import StepKey
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import EffectClass, Origin, RunState, StepKind, StepState
from workflow_runs.store import postgresql
from workflow_runs.store.applying import EntryApplier
from workflow_runs.store.base import StoreWriter
from workflow_runs.store.opening import open_store
from workflow_runs.store.postgresql_bulk import SAVE_BULK

BATCHES = (1, 50, 200)  # runs that end in one
NAMES = 5  # workflows that the runs of a batch belong to
PAIRS = 120


def measure(kind: str, new: Callable[[str], str]) -> Iterator[str]:
    """Yield the lines of a report on one kind of database."""
    clock = Clock()
    store = open_store(new(kind), clock=clock)
    store.migrate()
    writer = store.open_writer()
    writer.apply([GapNoted(clock.new_run_id())])  # connects
    rows = [
        [f"{what}, {size} at once", *_shown(costs, size)]
        for size in BATCHES
        for what, costs in _taken(writer, _server_pid(writer), clock, size).items()
    ]
    writer.close()
    store.close()
    yield f"### The rollup, {kind}: {PAIRS} pairs\n"
    yield from table(["", "CPU without, us a run", "CPU, with to without", "time, with to without"], rows)


# Seconds of each batch, and of CPU, by whether it counted.
_Costs = dict[bool, list[tuple[float, float]]]


def _taken(writer: StoreWriter, pid: int | None, clock: Clock, size: int) -> dict[str, _Costs]:
    taken: dict[str, _Costs] = {"ends alone": {True: [], False: []}, "whole runs": {True: [], False: []}}
    for pair in range(PAIRS):
        # The first of a pair by turns: whatever the database has to do now and then falls to both alike.
        for counts in (True, False) if pair % 2 else (False, True):
            starts, _, ends = entries_of_runs(clock, size)
            writer.apply(starts)
            batches = {
                "ends alone": ends,
                "whole runs": [entry for part in entries_of_runs(clock, size) for entry in part],
            }
            for what, batch in batches.items():
                with _counting(is_on=counts):
                    began, cpu_began = time.perf_counter(), _cpu_s(pid)
                    writer.apply(batch)
                    taken[what][counts].append((time.perf_counter() - began, _cpu_s(pid) - cpu_began))
    return taken


def _shown(costs: _Costs, size: int) -> list[str]:
    cpu_with, cpu_without = (sum(cpu_s for _, cpu_s in costs[counts]) for counts in (True, False))
    pairs = zip(costs[True], costs[False], strict=True)
    times = statistics.median(with_it / without for (with_it, _), (without, _) in pairs)
    return [number(cpu_without / PAIRS / size * 1e6), ratio(cpu_with / cpu_without), ratio(times)]


def _server_pid(writer: StoreWriter) -> int | None:
    if not isinstance(writer, postgresql.PostgresWriter):
        return None
    return writer._connected().connection.info.backend_pid  # noqa: SLF001  # no user needs to know


def _cpu_s(server_pid: int | None) -> float:
    """Return the CPU that this process and the server process that it writes through have used."""
    used_s = time.process_time()
    if server_pid is not None:
        with open(f"/proc/{server_pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        used_s += (int(fields[11]) + int(fields[12])) / os.sysconf(
            "SC_CLK_TCK"
        )  # in steps of 10 ms: right only in sums
    return used_s


def _count_nothing(_: EntryApplier) -> None:
    """Do what is done without a rollup."""


@contextmanager
def _counting(*, is_on: bool) -> Iterator[None]:
    with ExitStack() as stack:
        if not is_on:
            stack.enter_context(mock.patch.object(EntryApplier, "count_ended", _count_nothing))
            stack.enter_context(mock.patch.object(postgresql, "SAVE_BULK_AND_COUNT", SAVE_BULK))
        yield


def entries_of_runs(clock: Clock, count: int) -> tuple[Sequence[Entry], Sequence[Entry], Sequence[Entry]]:
    """Return starts, steps and ends of runs."""
    ids = [clock.new_run_id() for _ in range(count)]
    names = [f"workflow-{number % NAMES}" for number in range(count)]
    starts: list[Entry] = [
        StartRun(run_id, RunRequest(name, name, input=f'"{PAYLOAD}"'), RunState.RUNNING)
        for run_id, name in zip(ids, names, strict=True)
    ]
    steps: list[Entry] = [_step(run_id, place, clock) for run_id in ids for place in range(STEPS)]
    ends: list[Entry] = [
        RunEnded(run_id, RunState.SUCCEEDED, clock.now_millis() + 7 * place, result=f'"{PAYLOAD}"')
        for place, run_id in enumerate(ids)
    ]
    return starts, steps, ends


def _step(run_id: str, place: int, clock: Clock) -> StepEnded:
    now = clock.now_millis()
    return StepEnded(
        run_id,
        None,
        StepKey(f"step-{place + 1}"),
        1,
        place + 1,
        StepKind.STEP,
        EffectClass.IDEMPOTENT,
        None,
        now,
        StepState.SUCCEEDED,
        Origin.EXECUTED,
        f'"{PAYLOAD}"',
        None,
        now,
        0,
    )
