"""Judges what is left of a database: whole, nothing lost that was promised, and every run that was begun ends."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.power.work import workflows
from workflow_runs import EngineSettings, WorkflowRuns
from workflow_runs.model.records import Page, RunFilter
from workflow_runs.model.states import RunStatus

WAIT_S = 60.0


@dataclass(slots=True)
class Promised:
    """What was promised up to some moment."""

    runs: set[str] = field(default_factory=set)
    steps: dict[tuple[str, str], str] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)

    def hear(self, line: bytes) -> None:
        """Take note of one promise."""
        said = json.loads(line)
        if "run" in said:
            self.runs.add(said["run"])
        if "step" in said:
            run_id, name, output = said["step"]
            self.steps[run_id, name] = output
        if "end" in said:
            run_id, state = said["end"]
            self.ends[run_id] = state

    def count(self) -> int:
        """Return how many promises there are."""
        return len(self.runs) + len(self.steps) + len(self.ends)


@dataclass(slots=True)
class Verdict:
    """What was found; all but ``promises`` and ``recovered`` have to be empty."""

    promises: int = 0
    recovered: int = 0
    damaged: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.damaged or self.lost or self.repeated or self.stuck)


def judge(url: str, promised: Promised) -> Verdict:
    """Open what is left with a new process's eyes, compare, and let it go on."""
    verdict = Verdict(promises=promised.count())
    if url.startswith("sqlite"):
        verdict.damaged = _damages(url.removeprefix("sqlite:///"))
        if verdict.damaged:
            verdict.lost = ["all of a damaged file"]
            return verdict
    executed: list[tuple[str, str]] = []

    def execute(run_id: str, name: str, _input: Any) -> str:
        executed.append((run_id, name))
        return secrets.token_hex(4)

    settings = EngineSettings(poll_s=0.05, runs_max=50, threads_max=50)
    runs = WorkflowRuns(
        url, workflows(lambda **_: None, execute), executor="one", engine_settings=settings, migrate=False
    )
    runs.store.check_ready()
    verdict.lost = list(_missing(runs, promised))
    live = runs.store.list_runs(RunFilter(statuses=(RunStatus.RUNNING,)), Page(limit=1_000), payloads=False).runs
    with runs:
        for run in live:
            try:
                runs.wait(run.id, WAIT_S)
                verdict.recovered += 1
            except TimeoutError:
                verdict.stuck.append(run.id)
        verdict.lost += [f"afterwards: {what}" for what in _missing(runs, promised)]
    verdict.repeated = [f"{run_id} {name}" for run_id, name in executed if (run_id, name) in promised.steps]
    return verdict


def _damages(path: str) -> list[str]:
    try:
        connection = sqlite3.connect(path)
        found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        connection.close()
    except sqlite3.Error as error:
        return [str(error)]
    return [] if found == ["ok"] else found


def _missing(runs: WorkflowRuns, promised: Promised) -> Iterable[str]:
    for run_id in promised.runs:
        run = runs.store.get_run(run_id)
        if run is None or run.input is None or run.unreadable:
            yield f"run {run_id}"
        elif run_id in promised.ends and run.state != promised.ends[run_id]:
            yield f"end of {run_id}: {run.state} instead of {promised.ends[run_id]}"
    outputs: dict[str, dict[str, str | None]] = {}
    for (run_id, name), output in promised.steps.items():
        if run_id not in outputs:
            outputs[run_id] = {step.step.name: step.last.output for step in runs.store.get_steps(run_id)}
        if outputs[run_id].get(name) != json.dumps(output):
            yield f"step {name} of {run_id}"
