"""What reading through the JSON API costs at ten thousand runs and at a million, and what of it depends on how many there are.

Requests go through the ASGI application, checks, desk and JSON included, without a socket. The sizes are asked in turns, so that a
machine that is busy with something else is busy with it for all. The totals of lists are counted, as they are for everybody who asks.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from urllib.parse import quote

import httpx2

from bench.fill import COMMON_TAGS, END, NAMES, fill
from bench.pages import AtTheEnd, anybody, long_run
from bench.report import number, ratio, table
from workflow_runs import WorkflowRuns, workflow
from workflow_runs.admin.router import admin_asgi
from workflow_runs.model.records import Page, RunFilter
from workflow_runs.wire import cursor_text

ASKED = 60  # times, after ten for warm caches
RUNS = "/v1/admin/workflow-runs"
FIRST = "first page"
FIVE = "run of 5 steps"


def measure(kind: str, new: Callable[[str], str], sizes: list[int]) -> Iterator[str]:
    """Yield the lines of a report on one kind of database."""
    desks = {size: _filled(new(kind), size) for size in sizes}
    # What filling leaves in this process's memory is not a server's, and would be looked through at each full collection.
    gc.collect()
    gc.freeze()
    try:
        taken = asyncio.run(_measure(desks))
    finally:
        for runs in desks.values():
            runs.close()
    smallest, largest = min(sizes), max(sizes)
    firsts = {name: taken[FIVE if name.startswith("run of") else FIRST][largest] for name in taken}
    yield f"### Reading through the JSON API, {kind}: median (best) ms of {ASKED}\n"
    yield from table(
        ["", *(f"{size:,} runs" for size in sizes), f"{largest:,} to {smallest:,}", f"to its first row, {largest:,}"],
        (
            [
                name,
                *(f"{number(statistics.median(by_size[size]))} ({number(min(by_size[size]))})" for size in sizes),
                ratio(statistics.median(by_size[largest]) / statistics.median(by_size[smallest])),
                ratio(statistics.median(by_size[largest]) / statistics.median(firsts[name])),
            ]
            for name, by_size in taken.items()
        ),
    )


def _filled(url: str, size: int) -> WorkflowRuns:
    workflows = [workflow(name, idempotency="safe")(lambda run, value=None: None) for name in NAMES]  # noqa: ARG005  # what they would do is not measured
    runs = WorkflowRuns(url, workflows, execute=False, migrate=True, clock=AtTheEnd())
    runs.start()
    fill(url, size)
    return runs


async def _measure(desks: dict[int, WorkflowRuns]) -> dict[str, dict[int, list[float]]]:
    taken: dict[str, dict[int, list[float]]] = {}
    paths = {size: _paths(runs) for size, runs in desks.items()}
    async with AsyncExitStack() as stack:
        clients = {
            size: await stack.enter_async_context(
                httpx2.AsyncClient(
                    transport=httpx2.ASGITransport(admin_asgi(runs.desk, authorize=anybody)), base_url="http://bench"
                )
            )
            for size, runs in desks.items()
        }
        for turn in range(ASKED + 10):
            for name in paths[min(desks)]:
                for size, client in clients.items():
                    began = time.perf_counter()
                    answer = await client.get(paths[size][name])
                    if turn >= 10:
                        taken.setdefault(name, {}).setdefault(size, []).append((time.perf_counter() - began) * 1000)
                    assert answer.status_code == 200, (name, answer.text)
    return taken


def _paths(runs: WorkflowRuns) -> dict[str, str]:
    """Return what is asked for, by name."""

    def page(query: str = "") -> str:
        return f"{RUNS}?view=summary{query}"

    found = runs.store.list_runs(RunFilter(), Page(1), payloads=False, total=False).runs[0]
    total = runs.store.count_runs(RunFilter(), 2_000_000)[0]
    middle = runs.store.list_runs(RunFilter(), Page(1, offset=total // 2), payloads=False, total=False).runs[0]
    failed = runs.store.list_runs(RunFilter(statuses=("failed",)), Page(1), payloads=False, total=False).runs[0]  # type: ignore[arg-type]  # a status is its text
    since = quote((END - timedelta(hours=2)).isoformat())
    return {
        FIRST: page(),
        "page in the middle, by cursor": page(f"&cursor={cursor_text(middle.id)}"),
        "status": page("&status=failed"),
        "workflow and status": page(f"&workflowName={NAMES[3]}&status=failed"),
        "one tag, of a tenth of the runs": page(f"&tag={COMMON_TAGS[0]}"),
        "one tag, rare": page("&tag=order:77"),
        "tag and time": page(f"&tag={COMMON_TAGS[0]}&startedSince={since}"),
        "correlation id": page(f"&correlationId={found.correlation_id}"),
        "user": page("&triggeredByUserId=user-7"),
        "fingerprint": page(f"&fingerprint={failed.fingerprint}"),
        "first page with payloads": RUNS,
        FIVE: f"{RUNS}/{found.id}",
        "run of 1,000 steps": f"{RUNS}/{long_run(runs, 1_000)}",
    }
