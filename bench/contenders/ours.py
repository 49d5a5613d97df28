"""Ours, by the public API: a trigger, five steps, the end; each acknowledged by its commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.worker import PAYLOAD, STEPS, serve_coroutines, serve_threads
from workflow_runs import AsyncRun, EngineSettings, Run, WorkflowRuns, workflow
from workflow_runs.model.entries import Entry, RunEnded

CLIENTS_MAX = 200
TRIGGER_THREADS = 32  # ``trigger`` blocks for a commit, so a web application calls it in threads

SETTINGS = EngineSettings(runs_max=CLIENTS_MAX + 50, threads_max=CLIENTS_MAX + 50)


async def answer_async(number: int) -> str:  # noqa: ARG001  # a step has an argument
    """Do nothing, give 200 bytes."""
    return PAYLOAD


def answer_sync(number: int) -> str:  # noqa: ARG001  # as above
    """Do nothing, give 200 bytes."""
    return PAYLOAD


@workflow("bench-async", idempotency="safe")
async def five_steps_async(run: AsyncRun, text: str) -> str:
    """Call five steps."""
    for number in range(STEPS):
        await run.step("answer", answer_async, number)
    return text


@workflow("bench-sync", idempotency="safe")
def five_steps_sync(run: Run, text: str) -> str:
    """Call five steps."""
    for number in range(STEPS):
        run.step("answer", answer_sync, number)
    return text


class Ends:
    """Calls whoever waits for the end of a run, right after its commit."""

    def __init__(self, runs: WorkflowRuns) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, Callable[[], object]] = {}
        self._early: set[str] = set()  # ended before ``trigger`` had returned their id
        runs.journal.add_observer(self._after_commit)

    def call(self, run_id: str, function: Callable[[], object]) -> None:
        """Call the function when the run has ended, at once if it has already."""
        with self._lock:
            if run_id not in self._early:
                self._waiting[run_id] = function
                return
            self._early.remove(run_id)
        function()

    def _after_commit(self, entries: Sequence[Entry]) -> None:
        ended = [entry.run_id for entry in entries if isinstance(entry, RunEnded)]
        with self._lock:
            calls = [self._waiting.pop(run_id, None) for run_id in ended]
            self._early.update(run_id for run_id, call in zip(ended, calls, strict=True) if call is None)
        for call in calls:
            if call is not None:
                call()


async def serve_async(url: str) -> None:
    """Answer rounds of coroutine workflows."""
    loop = asyncio.get_running_loop()
    async with WorkflowRuns(url, [five_steps_async], engine_settings=SETTINGS, migrate=True) as runs:
        ends = Ends(runs)

        def trigger(ended: asyncio.Event) -> None:
            run_id = runs.trigger(five_steps_async, PAYLOAD)
            ends.call(run_id, lambda: loop.call_soon_threadsafe(ended.set))

        with ThreadPoolExecutor(TRIGGER_THREADS) as pool:

            async def one_run() -> None:
                ended = asyncio.Event()
                await loop.run_in_executor(pool, trigger, ended)
                await ended.wait()

            await serve_coroutines(one_run)


def serve_sync(url: str) -> None:
    """Answer rounds of plain workflows."""
    with WorkflowRuns(url, [five_steps_sync], engine_settings=SETTINGS, migrate=True) as runs:
        ends = Ends(runs)

        def one_run() -> None:
            ended = threading.Event()
            ends.call(runs.trigger(five_steps_sync, PAYLOAD), ended.set)
            ended.wait()

        serve_threads(one_run)
