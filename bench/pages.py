"""What a page costs the server at a million runs: the request through the ASGI application, questions, template and all, without a socket.

Median and 95th percentile of a hundred requests each, at the clock's time just after the newest run. The size is what travels, gzipped.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from statistics import median, quantiles

import httpx2

from bench.fill import COMMON_TAGS, END, NAMES, fill
from bench.report import number, table
from workflow_runs import WorkflowRuns, workflow
from workflow_runs.admin import ADMIN, READ, READ_PAYLOAD, RETRY, Principal
from workflow_runs.admin.pages import pages_asgi
from workflow_runs.clock import Clock, run_id_floor, to_millis
from workflow_runs.model.entries import RunEnded, StartRun, StepEnded
from workflow_runs.model.records import ErrorRecord, Page, RunFilter, StepKey
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import EffectClass, Origin, RunState, RunStatus, StepKind, StepState

ASKED = 100
LONG = {500: "run with 500 steps", 5_000: "run with 5,000 steps"}


class AtTheEnd(Clock):
    """The clock just after the newest run."""

    def now_millis(self) -> int:
        """Return the time of the newest run, and a second."""
        return to_millis(END + timedelta(seconds=1))


async def anybody(_request: object) -> Principal:
    """Let everybody do everything."""
    return Principal("ada", [READ, READ_PAYLOAD, RETRY, ADMIN])


def measure(kind: str, new: Callable[[str], str], size: int) -> Iterator[str]:
    """Yield the lines of a report on one kind of database."""
    url = new(kind)
    workflows = [workflow(name, idempotency="safe")(lambda run, value=None: None) for name in NAMES]  # noqa: ARG005  # what they would do is not measured
    runs = WorkflowRuns(url, workflows, execute=False, migrate=True, clock=AtTheEnd())
    with runs:
        fill(url, size)
        # What filling leaves in this process's memory is not a server's, and would be looked through at each full collection.
        gc.collect()
        gc.freeze()
        rows = asyncio.run(_measure(runs))
    yield f"### Pages over {size:,} runs, {kind}: server time in ms of {ASKED} requests\n"
    yield from table(["", "median", "p95", "kB gzipped"], rows)


async def _measure(runs: WorkflowRuns) -> list[list[str]]:
    failed = runs.store.list_runs(RunFilter(statuses=(RunStatus.FAILED,)), Page(1), payloads=False).runs[0].id
    done = runs.store.list_runs(RunFilter(), Page(1), payloads=False).runs[0].id
    middle = runs.store.list_runs(RunFilter(), Page(1, offset=200_000), payloads=False, total=False).runs
    pages = {
        "Runs, last 24 h": "/runs",
        "Runs, all": "/runs?q=",
        "Runs, failed": "/runs?q=status:failed",
        "Runs, workflow and failed": f"/runs?q=workflow:{NAMES[3]}+status:failed",
        "Runs, a common tag": f"/runs?q=tag:{COMMON_TAGS[0]}",
        "Runs, far down": f"/runs?q=&before={middle[0].id}" if middle else "/runs?q=",
        "Runs, error text of a week": "/runs?q=error:declined",
        "Run, succeeded": f"/runs/{done}",
        "Run, failed, with its verdict": f"/runs/{failed}",
        **{name: f"/runs/{long_run(runs, count)}" for count, name in LONG.items()},
        "Overview": "/",
        "Workflows": "/workflows",
    }
    app = pages_asgi(runs.desk, authorize=anybody)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://bench") as client:
        return [[name, *await _ask(client, path)] for name, path in pages.items()]


async def _ask(client: httpx2.AsyncClient, path: str) -> list[str]:
    taken, body = [], b""
    for turn in range(ASKED + 10):
        began = time.perf_counter()
        answer = await client.get(path)
        if turn >= 10:
            taken.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, (path, answer.status_code)
        body = answer.content
    return [number(median(taken)), number(quantiles(taken, n=20)[-1]), number(len(gzip.compress(body)) / 1000)]


def long_run(runs: WorkflowRuns, count: int) -> str:
    """Record a run of so many steps whose last one failed; the work of an entry is the journal's, and not measured here."""
    began = END - timedelta(minutes=5)
    run_id = _id_at(began, count)
    runs.journal.submit(StartRun(run_id, RunRequest(NAMES[0], NAMES[0], input="{}"), RunState.RUNNING)).result()
    at = to_millis(began)
    error = ErrorRecord("the last one failed", type_name="ValueError", step_name=f"step-{count - 1}")
    for place in range(count):
        failed = place == count - 1
        entry = StepEnded(
            run_id,
            None,
            StepKey(f"step-{place}"),
            1,
            place,
            StepKind.STEP,
            EffectClass.IDEMPOTENT,
            None,
            at + place * 10,
            StepState.FAILED if failed else StepState.SUCCEEDED,
            Origin.EXECUTED,
            None if failed else '{"value": "' + "x" * 180 + '"}',
            error if failed else None,
            at + place * 10 + 8,
            8,
        )
        receipt = runs.journal.submit(entry)
    receipt.result()
    runs.journal.submit(RunEnded(run_id, RunState.FAILED, at + count * 10, error=error)).result()
    return run_id


def _id_at(moment: datetime, number: int) -> str:
    return run_id_floor(moment)[:-4] + f"{number:04}"
