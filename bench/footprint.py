"""What the package takes by being there: bytes for a run, CPU and memory for an import."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator

from bench.databases import size_bytes
from bench.report import number, ratio, table
from bench.worker import STEPS, Contender, Order

RUNS_AT_LEAST = 2_000
PAYLOADS = STEPS + 2  # input, outputs, result
PAYLOAD_BYTES = 200
IMPORTS = {
    "asyncio, sqlite3": "import asyncio, sqlite3",
    "workflow_runs": "import workflow_runs",
    "workflow_runs, writing workflows": "from workflow_runs import AsyncRun, workflow",
    "workflow_runs, the whole of it": "from workflow_runs import WorkflowRuns",
    "dbos": "import dbos",
}


def stored(kind: str, new: Callable[[str], str]) -> Iterator[str]:
    """Yield how many bytes a run of five steps takes, against what it carries."""
    url = new(kind)
    contender = Contender("journal", url)
    empty, count = size_bytes(url), 0
    while count < RUNS_AT_LEAST:
        count += contender.round(Order(50, 0.5)).runs
    contender.close()
    each = (size_bytes(url) - empty) / count
    carried = PAYLOADS * PAYLOAD_BYTES
    yield f"### Stored bytes, {kind}\n"
    yield f"{number(each)} bytes for a run of {STEPS} steps that carries {carried} bytes: {ratio(each / carried)}"


def imports() -> Iterator[str]:
    """Yield what imports cost in a fresh interpreter, the bare interpreter taken off."""
    bare = _cost("pass")
    rows = []
    for name, statement in IMPORTS.items():
        cpu_s, mib = _cost(statement)
        rows.append([name, f"{cpu_s - bare[0]:.2f}", f"{mib - bare[1]:.0f}"])
    yield "### Imports\n"
    yield from table(["", "CPU s", "MiB"], rows)


def _cost(statement: str) -> tuple[float, float]:
    # Not the maximum of getrusage: a child begins with that of the process that it was forked from.
    program = (
        f"{statement}\nimport json, time\n"
        "resident = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')]\n"
        "print(json.dumps([time.process_time(), int(resident[0]) / 1024]))"
    )
    measured = []
    for _ in range(5):
        process = subprocess.run(  # noqa: S603  # the statements above
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        measured.append(json.loads(process.stdout) if process.returncode == 0 else [float("nan")] * 2)
    return statistics.median(cpu for cpu, _ in measured), statistics.median(mib for _, mib in measured)
