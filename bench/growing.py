"""What must not grow: the cost of a step with the steps before it, memory while a process idles, memory while the database stands still.

``python -m bench.growing WHAT URL`` is one measurement in a process of its own, and prints JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine

from bench.contenders.ours import SETTINGS, EndsOnLoop, five_steps_async
from bench.databases import libpq
from bench.report import number, ratio, table
from bench.worker import PAYLOAD
from workflow_runs import AsyncRun, Run, WorkflowRuns, workflow
from workflow_runs.clock import Clock
from workflow_runs.store.opening import open_store

STEPS = 10_000
THOUSAND = 1_000
STALLED_RUNS = 1_000
STALL_S = 10.0
IDLE_STEPS_RUNS = 2_000  # 10,000 steps


def measure(kind: str, new: Callable[[str], str]) -> Iterator[str]:
    """Yield the lines of a report on one kind of database."""
    yield f"### What must not grow, {kind}\n"
    rows = []
    for what, label in (("async", "coroutine"), ("sync", "plain function")):
        took = _child(what, new(kind))
        cpu = took["cpu_us"]
        rows.append(
            [
                f"{label}: CPU us of a step in the first thousand, in the tenth",
                f"{number(cpu[0])}, {number(cpu[-1])}",
                ratio(cpu[-1] / cpu[0]),
            ]
        )
        rows.append(
            [
                f"{label}: ms to go through {STEPS - 1:,} recorded steps when the run is resumed at the last",
                number(took["replay_ms"]),
                f"{number(took['replay_ms'] * 1000 / STEPS)} us each",
            ]
        )
    migrated = new(kind)
    open_store(migrated, clock=Clock()).migrate()  # here: what migrating loads is not for ever
    idle = _child("idle", migrated)
    rows.append(
        [
            f"MiB of an idle process, before and after {IDLE_STEPS_RUNS * 5:,} steps",
            number(idle["before"]),
            number(idle["after"]),
        ]
    )
    stalled = _child("stalled", new(kind))
    rows.append(
        [
            f"{STALLED_RUNS:,} runs while the database stands still for {STALL_S:g} s: entries that wait, MiB more",
            number(stalled["queued"]),
            number(stalled["mib"]),
        ]
    )
    yield from table(["", "", ""], rows)


def _child(what: str, url: str) -> dict[str, Any]:
    process = subprocess.run(  # noqa: S603  # ourselves
        [sys.executable, "-m", "bench.growing", what, url], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(process.stdout)
    return found


# --- in the child ----------------------------------------------------------------------------------------------------


class _Marks:
    """CPU time at each thousandth step; makes the last step of the first run fail."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.first_executed: float | None = None
        self.is_resumed = False

    def step(self, number: int) -> str:
        """Note the time, and give 200 bytes."""
        if self.is_resumed and self.first_executed is None:
            self.first_executed = time.perf_counter()
        if number % THOUSAND == 0:
            self.cpu.append(time.process_time())
        if number == STEPS - 1 and not self.is_resumed:
            raise RuntimeError("the last step fails")
        return PAYLOAD


def _grow(url: str, kind: str) -> dict[str, Any]:
    marks = _Marks()

    async def step_async(number: int) -> str:
        return marks.step(number)

    @workflow("grow", idempotency="safe")
    async def grow_async(run: AsyncRun) -> None:
        for place in range(STEPS):
            await run.step("step", step_async, place)

    @workflow("grow", idempotency="safe")
    def grow_sync(run: Run) -> None:
        for place in range(STEPS):
            run.step("step", marks.step, place)

    with WorkflowRuns(url, [grow_async if kind == "async" else grow_sync], migrate=True) as runs:
        failed = runs.wait(runs.trigger("grow"), timeout_s=600)
        cpu_us = [(after - before) / THOUSAND * 1e6 for before, after in zip(marks.cpu, marks.cpu[1:], strict=False)]
        marks.is_resumed = True
        began = time.perf_counter()
        runs.wait(runs.desk.resume(failed.id).run_id, timeout_s=600)
        assert marks.first_executed is not None
        return {"cpu_us": cpu_us, "replay_ms": (marks.first_executed - began) * 1000}


def _idle(url: str) -> dict[str, Any]:
    async def work() -> dict[str, Any]:
        async with WorkflowRuns(url, [five_steps_async], engine_settings=SETTINGS, migrate=False) as runs:
            ends = EndsOnLoop(runs)
            await ends.wait(await runs.trigger_async(five_steps_async, PAYLOAD))
            before = _resident_mib()
            for _ in range(IDLE_STEPS_RUNS // 100):
                ids = [await runs.trigger_async(five_steps_async, PAYLOAD) for _ in range(100)]
                await asyncio.gather(*(ends.wait(run_id) for run_id in ids))
            gc.collect()
            return {"before": before, "after": _resident_mib()}

    return asyncio.run(work())


def _stalled(url: str) -> dict[str, Any]:
    hold, held, release = asyncio.Event(), threading.Event(), threading.Event()

    async def wait_for_it(number: int) -> str:
        await hold.wait()
        return PAYLOAD if number else ""

    @workflow("stall", idempotency="safe")
    async def stall(run: AsyncRun, text: str) -> str:
        for place in range(5):
            await run.step("step", wait_for_it, place)
        return text

    async def work() -> dict[str, Any]:
        async with WorkflowRuns(url, [stall], engine_settings=_MANY, migrate=True) as runs:
            ids = await asyncio.gather(*(runs.trigger_async(stall, PAYLOAD) for _ in range(STALLED_RUNS)))
            locking = threading.Thread(target=_lock, args=(url, held, release))
            locking.start()
            await asyncio.to_thread(held.wait)
            before = _resident_mib()
            hold.set()
            await asyncio.sleep(STALL_S)
            found = {"queued": runs.journal.stats().queued, "mib": max(0.0, _resident_mib() - before)}
            release.set()
            for run_id in ids:
                assert (await runs.wait_async(run_id)).state == "succeeded"
            await asyncio.to_thread(locking.join)
            return found

    return asyncio.run(work())


_MANY = type(SETTINGS)(runs_max=STALLED_RUNS + 50)


def _lock(url: str, held: threading.Event, release: threading.Event) -> None:
    """Keep everybody from writing until ``release``."""
    if url.startswith("sqlite"):
        engine: Engine = create_engine(url)
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            held.set()
            release.wait()
            connection.exec_driver_sql("ROLLBACK")
        return
    with psycopg.connect(libpq(url)) as session:
        session.execute("LOCK TABLE workflow_runs, workflow_run_steps IN EXCLUSIVE MODE")
        held.set()
        release.wait()
        session.rollback()


def _resident_mib() -> float:
    with open("/proc/self/status", encoding="ascii") as status:
        (line,) = (line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _main() -> None:
    what, url = sys.argv[1:]
    found = _idle(url) if what == "idle" else _stalled(url) if what == "stalled" else _grow(url, what)
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(found))


if __name__ == "__main__":
    _main()
