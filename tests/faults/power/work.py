"""A process that promises: it triggers runs, executes and resumes them, and says of each promise that was given when it was given.

    python tests/faults/power/work.py URL PROMISES RUNS

Each promise is one line of JSON, written by one call: ``{"run": id}`` when a trigger or resume has returned,
``{"step": [id, name, output]}`` when a step has, ``{"end": [id, state]}`` when the run was seen to have ended. ``POWER_SYNCHRONOUS``
(NORMAL, OFF) takes the syncs of SQLite away, and OFF those of PostgreSQL too, to see whether the judge would notice.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workflow_runs import EngineSettings, Run, WorkflowRuns, workflow
from workflow_runs.store import postgresql, sqlite

STEPS = ("reserve", "charge", "mail")
WAIT_S = 60.0
THREADS = 6


class Promises:
    """Where promises are written down."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(self, **promise: Any) -> None:
        os.write(self._file, json.dumps(promise).encode() + b"\n")


def workflows(promise: Any, execute: Any) -> list[Any]:
    """Return the workflow; ``execute`` is what a step does, ``promise`` is called when it has returned."""

    @workflow("promised", idempotency="safe", version="v1")
    def promised(run: Run, input: Any = None) -> dict[str, Any]:
        outputs = []
        for name in STEPS:
            outputs.append(run.step(name, execute, run.id, name, input))
            promise(step=[run.id, name, outputs[-1]])
        return {"outputs": outputs}

    return [promised]


def execute(run_id: str, name: str, input: Any) -> str:
    """Have an effect, or fail as the input wants the first run of its chain to."""
    del run_id
    if name == "charge" and input["fails"] and input["number"] not in _FAILED:
        _FAILED.add(input["number"])
        raise ConnectionError("down")
    return secrets.token_hex(100)


_FAILED: set[int] = set()


def _unsynced(mode: str) -> None:
    connect = sqlite.connect_to_write

    def without(path: str, clock: Any, **more: Any) -> Any:
        connection = connect(path, clock, **more)
        connection.execute(f"PRAGMA synchronous = {mode}")
        return connection

    sqlite.connect_to_write = without
    if mode == "OFF":
        postgresql._SYNCHRONOUS = "SET synchronous_commit = off"


def main(url: str, promises: str, count: str) -> None:
    """Work."""
    if wanted := os.environ.get("POWER_SYNCHRONOUS"):
        _unsynced(wanted)
    told = Promises(promises)
    settings = EngineSettings(poll_s=0.1, runs_max=50, threads_max=50)

    with WorkflowRuns(url, workflows(told.say, execute), executor="one", engine_settings=settings) as runs:

        def one(number: int) -> None:
            key = f"key-{number}"
            given = {"number": number, "fails": number % 5 == 0}
            run_id = runs.trigger("promised", given, idempotency_key=key, tags=("promised", key))
            told.say(run=run_id)
            ended = runs.wait(run_id, WAIT_S)
            told.say(end=[run_id, ended.state])
            if ended.state == "failed":
                resumed = runs.desk.resume(run_id, actor="ada").run_id
                told.say(run=resumed)
                told.say(end=[resumed, runs.wait(resumed, WAIT_S).state])

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(one, range(int(count))))


if __name__ == "__main__":
    main(*sys.argv[1:])
