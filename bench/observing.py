"""Observe mode: what recording adds to a step of code that runs elsewhere, and whether the database being away shows in it.

Three figures. *Time*: one thread takes steps of no work one after the other, bare and recorded; what recording adds to each, with the
database working, locked all the while, and away with a spool to write. *CPU*: of the thread that records, and of the whole process, which
also writes. *Rate*: runs of five steps in 50 coroutines, recorded without waiting until all is durable; against the same runs executed
by the engine, which waits for each step (``ours_async``), and against its entries alone, awaited one by one (``journal``); in turns.
"""

from __future__ import annotations

import asyncio
import gc
import math
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass

from bench.contenders.journal import one_run, open_journal
from bench.report import number, ratio, table
from bench.worker import PAYLOAD, STEPS, Contender, Order, round_of_coroutines
from workflow_runs.clock import Clock
from workflow_runs.execution.recorder import begin_workflow_run
from workflow_runs.journal import Journal
from workflow_runs.settings import JournalSettings
from workflow_runs.store.opening import open_store

RUNS = 10  # of STEPS_LONG steps each
STEPS_LONG = 1_000
PACE_S = 0.0005  # between two steps: business that takes its time
CLIENTS = 50
SECONDS = 1.0
PATIENCE_S = 120.0


@dataclass(slots=True)
class _Cost:
    p50_us: float
    p99_us: float
    longest_ms: float
    caller_us: float  # CPU of the thread that records
    process_us: float  # and of all threads


def measure(kind: str, new: Callable[[str], str], rounds: int) -> Iterator[str]:
    """Yield the lines of a report on one kind of database."""
    yield f"### What recording adds to a step, {kind}: {RUNS} runs of {STEPS_LONG:,} steps\n"
    heads = ["", "p50, us", "p99, us", "longest, ms", "CPU of its thread, us", "CPU of the process, us"]
    yield from table(heads, _costs(kind, new))
    yield f"\n### Recording without waiting, {kind}: {CLIENTS} runs at once, steps per second, median of {rounds} rounds\n"
    yield from table(
        ["observed", "executed by the engine", "ratio", "journal alone", "ratio"], [_rates(kind, new, rounds)]
    )


def _costs(kind: str, new: Callable[[str], str]) -> Iterator[list[str]]:
    for name, paced, away in (
        ("back to back", False, False),
        ("a step each half millisecond", True, False),
        ("the same, the database away", True, True),
    ):
        url = new(kind)
        with tempfile.TemporaryDirectory() as folder:
            journal = _open(url, folder, away=away)
            with _lock(url) if away and kind == "sqlite" else nullcontext():
                recorded = _steps(journal, paced=paced)
            journal.close()
        bare = _steps(None, paced=paced)
        yield [
            f"{name}",
            number(max(0.01, recorded.p50_us - bare.p50_us)),
            number(recorded.p99_us - bare.p99_us),
            number(recorded.longest_ms),
            number(recorded.caller_us - bare.caller_us),
            number(recorded.process_us - bare.process_us),
        ]


def _open(url: str, folder: str, *, away: bool) -> Journal:
    store = open_store(url, clock=Clock())
    store.migrate()
    if away and not url.startswith("sqlite"):
        store = open_store("postgresql+psycopg://nobody@127.0.0.1:1/nothing", clock=Clock())
    return Journal(store, JournalSettings(spool_folder=f"{folder}/spool", queue_entries_max=100_000))


def _lock(url: str) -> AbstractContextManager[sqlite3.Connection]:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return closing(connection)


def _answer(step: int) -> str:  # noqa: ARG001  # a step has an argument
    return PAYLOAD


def _steps(journal: Journal | None, *, paced: bool) -> _Cost:
    """Take the steps, and time each of them by itself."""
    took: list[float] = []
    caller = process = 0.0
    for _ in range(RUNS):
        recorder = None if journal is None else begin_workflow_run(journal, workflow_name="bench", input=PAYLOAD)
        gc.collect()
        caller_began, process_began = time.thread_time(), time.process_time()
        for step in range(STEPS_LONG):
            began = time.perf_counter()
            if recorder is None:
                _answer(step)
            else:
                recorder.step("answer", _answer, step)
            took.append(time.perf_counter() - began)
            if paced:
                time.sleep(PACE_S)
        caller += time.thread_time() - caller_began
        if recorder is not None:
            recorder.complete(PAYLOAD)
            if journal is not None and not journal.unwaited.is_open:
                recorder.flush(PATIENCE_S)
        process += time.process_time() - process_began
    took.sort()
    count = RUNS * STEPS_LONG
    p99 = took[math.ceil(count * 0.99) - 1]
    return _Cost(statistics.median(took) * 1e6, p99 * 1e6, took[-1] * 1e3, caller / count * 1e6, process / count * 1e6)


def _rates(kind: str, new: Callable[[str], str], rounds: int) -> list[str]:
    durable, observed = open_journal(new(kind)), open_journal(new(kind))
    engine = Contender("ours_async", new(kind))

    def executed() -> float:
        result = engine.round(Order(CLIENTS, SECONDS))
        return result.runs * STEPS / result.seconds

    ways = [lambda: _observed(observed), executed, lambda: _durable(durable)]
    results: list[list[float]] = []
    for turn in range(rounds):
        order = range(3) if turn % 2 == 0 else reversed(range(3))
        rates = {way: ways[way]() for way in order}
        results.append([rates[way] for way in range(3)])
    engine.close()
    durable.close()
    observed.close()
    fast, *slower = (statistics.median(values) for values in zip(*results, strict=True))
    shown = [number(fast)]
    for place, slow in enumerate(slower, 1):
        shown += [number(slow), ratio(statistics.median(rates[0] / rates[place] for rates in results))]
    return shown


def _durable(journal: Journal) -> float:
    write = one_run(journal)
    result = asyncio.run(round_of_coroutines(Order(CLIENTS, SECONDS), write))
    return result.runs * STEPS / result.seconds


def _observed(journal: Journal) -> float:
    """Steps per second until the last one is durable. The clients wait while much is queued, as a business that lives from it does."""

    async def client() -> int:
        runs = 0
        while time.perf_counter() < until:
            recorder = begin_workflow_run(journal, workflow_name="bench", input=PAYLOAD)
            for step in range(STEPS):
                recorder.step("answer", _answer, step)
            recorder.complete(PAYLOAD)
            runs += 1
            while runs % 20 == 0 and journal.stats().queued > 5_000:  # noqa: ASYNC110  # nobody tells of it
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
            last[0] = recorder
        return runs

    async def clients() -> int:
        return sum(await asyncio.gather(*(client() for _ in range(CLIENTS))))

    last = [begin_workflow_run(journal, workflow_name="bench")]
    began = time.perf_counter()
    until = began + SECONDS
    runs = asyncio.run(clients())
    last[0].flush(PATIENCE_S)
    return runs * STEPS / (time.perf_counter() - began)
