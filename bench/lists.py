"""What a page of the list, and a figure, costs at ten thousand runs and at a million, driver and records included: the median, and the
best, which is what it costs when nothing else uses the machine.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from bench.fill import COMMON_TAGS, END, LONG_AGO, NAMES, fill
from bench.report import number, table
from workflow_runs.clock import Clock
from workflow_runs.model.records import Choice, Page, RunField, RunFilter
from workflow_runs.model.states import RunStatus
from workflow_runs.store.base import Store
from workflow_runs.store.opening import open_store

PAGE = 50
ASKED = 30  # times, after as many for warm caches

Question = Callable[[], object]


def measure(kind: str, new: Callable[[str], str], sizes: list[int]) -> Iterator[str]:
    """Yield the lines of a report on one kind of database."""
    times: dict[str, list[str]] = {}
    for size in sizes:
        url = new(kind)
        store = open_store(url, clock=Clock())
        store.migrate()
        began = time.perf_counter()
        ids = fill(url, size)
        filled_s = time.perf_counter() - began
        gc.collect()
        gc.freeze()  # what filling leaves in memory is not the reader's
        for name, question in {**_questions(store, ids), **_figures(store)}.items():
            times.setdefault(name, []).append(_ask(question))
        times.setdefault("(filling the tables, s)", []).append(number(filled_s))
        store.close()
    yield f"### A page of {PAGE} summaries, and figures, {kind}: median (best) ms of {ASKED}\n"
    yield from table(["", *(f"{size:,} runs" for size in sizes)], ([name, *cells] for name, cells in times.items()))


def _questions(store: Store, ids: list[str]) -> dict[str, Question]:
    def page(where: RunFilter, after: str | None = None, offset: int = 0, *, total: bool = False) -> Question:
        return lambda: store.list_runs(where, Page(PAGE, offset, after), payloads=False, total=total)

    middle = ids[len(ids) // 2]
    newest = store.list_runs(RunFilter(), Page(1), payloads=False, total=False).runs[0]
    failed = store.list_runs(RunFilter(statuses=(RunStatus.FAILED,)), Page(1), payloads=False, total=False).runs[0]
    long = ids[-LONG_AGO]
    return {
        "first page": page(RunFilter()),
        "first page, with its total": page(RunFilter(), total=True),
        "status failed": page(RunFilter(statuses=(RunStatus.FAILED,))),
        "status failed, with its total": page(RunFilter(statuses=(RunStatus.FAILED,)), total=True),
        "workflow, most used": page(RunFilter(workflow_names=(NAMES[0],))),
        "workflow, least used": page(RunFilter(workflow_names=(NAMES[-1],))),
        "workflow and failed": page(RunFilter(workflow_names=(NAMES[3],), statuses=(RunStatus.FAILED,))),
        "common tag": page(RunFilter(tags=(COMMON_TAGS[0],))),
        "rare tag": page(RunFilter(tags=("order:77",))),
        "common tag and failed": page(RunFilter(tags=(COMMON_TAGS[0],), statuses=(RunStatus.FAILED,))),
        "common tag, two hours": page(
            RunFilter(tags=(COMMON_TAGS[0],), started_since=END - timedelta(hours=2), started_until=END)
        ),
        "two tags": page(RunFilter(tags=(COMMON_TAGS[0], "order:77"))),
        "two common tags that no run has both of": page(RunFilter(tags=tuple(COMMON_TAGS[:2]))),
        "user": page(RunFilter(triggered_by_user_id="user-7")),
        "correlation id": page(RunFilter(correlation_id=newest.correlation_id)),
        "fingerprint": page(RunFilter(fingerprint=failed.fingerprint)),
        "text in errors that is nowhere, of a week": page(
            RunFilter(choices=(Choice(RunField.ERROR_TEXT, ("nowhere",)),), started_since=END - timedelta(days=7))
        ),
        "middle page, by cursor": page(RunFilter(), after=middle),
        "failed, middle page, by cursor": page(RunFilter(statuses=(RunStatus.FAILED,)), after=middle),
        "first page with payloads": lambda: store.list_runs(RunFilter(), Page(PAGE), payloads=True, total=False),
        "one run and its 5 steps": lambda: (store.get_run(newest.id), store.get_steps(newest.id)),
        "one run and its 1,000 steps": lambda: (store.get_run(long), store.get_steps(long)),
        "the same without outputs": lambda: (store.get_run(long), store.get_steps(long, outputs=False)),
    }


def _figures(store: Store) -> dict[str, Question]:
    day, fortnight = END - timedelta(days=1), END - timedelta(days=14)

    def histogram(where: RunFilter) -> Question:
        return lambda: store.histogram(where, day, END, 48)

    return {
        "histogram of a day": histogram(RunFilter()),
        "histogram of a day, workflow and failed": histogram(
            RunFilter(workflow_names=(NAMES[3],), statuses=(RunStatus.FAILED,))
        ),
        "histogram of a day, common tag (from rows)": histogram(RunFilter(tags=(COMMON_TAGS[0],))),
        "totals of a day": lambda: store.totals(day, END, ()),
        "totals of a day, one workflow": lambda: store.totals(day, END, (NAMES[3],)),
        "workflows over a day, 24 bars each": lambda: store.workflow_figures(day, END, 24, ()),
        "workflows over a fortnight": lambda: store.workflow_figures(fortnight, END, 0, ()),
        "workflows over a fortnight, 14 bars each": lambda: store.workflow_figures(fortnight, END, 14, ()),
        "names of workflows": lambda: store.recorded_workflows(500),
        "number of failed runs, to 10,000": lambda: store.count_runs(RunFilter(statuses=(RunStatus.FAILED,)), 10_000),
    }


def _ask(question: Question) -> str:
    taken = []
    for turn in range(2 * ASKED):
        began = time.perf_counter()
        question()
        if turn >= ASKED:
            taken.append((time.perf_counter() - began) * 1000)
    return f"{number(statistics.median(taken))} ({number(min(taken))})"
