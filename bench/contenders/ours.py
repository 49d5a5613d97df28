"""Ours, by the public API: a trigger, five steps, the end; each acknowledged by its commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from bench.worker import PAYLOAD, STEPS, serve_coroutines, serve_threads
from workflow_runs import AsyncRun, EngineSettings, Run, WorkflowRuns, workflow
from workflow_runs.model.entries import Entry, RunEnded

CLIENTS_MAX = 200

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


class EndsOnLoop:
    """The same for coroutines of one event loop, which is told once for each commit."""

    def __init__(self, runs: WorkflowRuns) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._early: set[str] = set()
        runs.journal.add_observer(self._after_commit)

    async def wait(self, run_id: str) -> None:
        """Return when the run has ended."""
        if run_id in self._early:
            self._early.remove(run_id)
            return
        self._waiting[run_id] = self._loop.create_future()
        await self._waiting[run_id]

    def _after_commit(self, entries: Sequence[Entry]) -> None:
        ended = [entry.run_id for entry in entries if isinstance(entry, RunEnded)]
        if ended:
            self._loop.call_soon_threadsafe(self._tell, ended)

    def _tell(self, ended: Sequence[str]) -> None:
        for run_id in ended:
            future = self._waiting.pop(run_id, None)
            if future is None:
                self._early.add(run_id)
            else:
                future.set_result(None)


async def serve_async(url: str) -> None:
    """Answer rounds of coroutine workflows."""
    async with WorkflowRuns(url, [five_steps_async], engine_settings=SETTINGS, migrate=True) as runs:
        ends = EndsOnLoop(runs)

        async def one_run() -> None:
            await ends.wait(await runs.trigger_async(five_steps_async, PAYLOAD))

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
