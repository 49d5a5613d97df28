"""The journal by itself: what the engine submits for a run, without the engine. The rest of ``ours_async`` is what executing costs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bench.worker import PAYLOAD, STEPS, serve_coroutines
from workflow_runs.clock import Clock
from workflow_runs.journal import Journal, Receipt
from workflow_runs.model.entries import RunEnded, StartRun, StepEnded, StepStarted
from workflow_runs.model.records import StepKey
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import EffectClass, Origin, RunState, StepKind, StepState
from workflow_runs.store.opening import open_store

TEXT = f'"{PAYLOAD}"'


def serve(url: str) -> None:
    """Answer rounds."""
    journal = open_journal(url)

    async def main() -> None:
        await serve_coroutines(one_run(journal))

    asyncio.run(main())
    journal.close()


def open_journal(url: str) -> Journal:
    """Return a journal on a database that has its tables."""
    store = open_store(url, clock=Clock())
    store.migrate()
    return Journal(store)


def one_run(journal: Journal) -> Callable[[], Awaitable[None]]:
    """Return a function that writes one run."""
    clock = Clock()

    async def write() -> None:
        run_id = clock.new_run_id()
        await journal.submit(StartRun(run_id, RunRequest("bench", "bench", input=TEXT), RunState.RUNNING))
        for number in range(1, STEPS + 1):
            now = clock.now_millis()
            started = StepStarted(
                run_id, None, StepKey("answer", "", number), 1, number, StepKind.STEP, EffectClass.IDEMPOTENT, None, now
            )
            _unawaited(journal.submit(started, lazy=True))
            await journal.submit(StepEnded(*started, StepState.SUCCEEDED, Origin.EXECUTED, TEXT, None, now, 0))
        await journal.submit(RunEnded(run_id, RunState.SUCCEEDED, clock.now_millis(), TEXT))

    return write


def _unawaited(receipt: Receipt) -> None:
    """Say that nobody waits for it."""
