"""How long a process takes from nothing to its first accepted run, over a database with many runs and over one with none.

Each boot is a process of its own, by turns; what is measured begins when the package is imported and ends when ``trigger`` has returned.
The workflow that is started is none of those whose runs are stored, so nothing is taken up: that takes as long as there is to do.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from bench.fill import fill
from bench.report import number, ratio, table
from workflow_runs import Run, WorkflowRuns, workflow

ROUNDS = 9


def measure(kind: str, new: Callable[[str], str], size: int) -> Iterator[str]:
    """Yield the lines of a report on one kind of database."""
    urls = {0: new(kind), size: new(kind)}
    for count, url in urls.items():
        _boot(url)  # makes the schema
        if count:
            fill(url, count)
    taken: dict[int, list[tuple[float, float]]] = {count: [] for count in urls}
    for turn in range(ROUNDS + 1):
        for count, url in urls.items():
            answer = subprocess.run([sys.executable, "-m", "bench.boot", url], check=True, capture_output=True)  # noqa: S603  # ourselves
            if turn:
                wall_ms, cpu_ms = json.loads(answer.stdout)
                taken[count].append((wall_ms, cpu_ms))
    rows = []
    for place, what in enumerate(("time, ms", "CPU, ms")):
        none, many = ([one[place] for one in taken[count]] for count in urls)
        shown = (f"{number(statistics.median(each))} ({number(min(each))})" for each in (none, many))
        rows.append(
            [
                what,
                *shown,
                f"{ratio(statistics.median(many) / statistics.median(none))} ({ratio(min(many) / min(none))})",
            ]
        )
    yield f"### From start to the first accepted run, {kind}: median (best) of {ROUNDS}\n"
    yield from table(["", "no runs", f"{size:,} runs", "many to none"], rows)


def _boot(url: str) -> tuple[float, float]:
    began, cpu_began = time.perf_counter(), time.process_time()
    with WorkflowRuns(url, [probe], migrate=True) as runs:
        run_id = runs.trigger(probe)
        taken = (time.perf_counter() - began) * 1000, (time.process_time() - cpu_began) * 1000
        runs.wait(run_id)
    return taken


@workflow("boot-probe", idempotency="safe")
def probe(run: Run) -> None:
    """Do one step."""
    run.step("step", lambda: None)


if __name__ == "__main__":
    print(json.dumps(_boot(sys.argv[1])))
