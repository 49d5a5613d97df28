"""What servers promised, and what became of it, judged from outside: by their answers, by the ledger, by the file.

The judge knows nothing of the package. A step is known to be completed when the next one has begun (the engine waits for the
commit in between), when its run was seen to say so, or when the record holds an output: then no further effect may have been had.
"""

from __future__ import annotations

import contextlib
import http.client
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

from tests.faults.servers import DEADLINE_S, RUNS, Answers, Server, wait_until
from workflow_runs.testing.ledger import Call, Ledger

PEACE_S = 30.0  # after the last fault; then every run has ended
EXAMPLES_MAX = 20


@dataclass
class Verdict:
    """Counts. Those in ``ZEROS`` are to be zero."""

    acknowledged: int = 0  # runs
    steps: int = 0  # on record, completed
    begun: int = 0  # bodies of steps that began
    begun_again: int = 0  # of steps that had begun before and were not completed
    effects_again: int = 0  # of steps interrupted between effect and entry: at-least-once, stated and not hidden
    lost: int = 0  # acknowledged runs that do not exist
    stuck: int = 0  # runs that have not ended after peace
    repeated: int = 0  # completed steps that were executed again
    doubled: int = 0  # idempotency keys with more than one run
    unproven: int = 0  # outputs that no effect produced
    changed: int = 0  # terminal states that changed
    differing: int = 0  # results that differ from the journal, succeeded runs with steps missing
    negative: int = 0  # durations below zero
    damaged: int = 0  # files that SQLite's own check does not pass
    broken: int = 0  # 5xx other than 503, and 503 without Retry-After
    zombies: int = 0  # steps started by a process whose runs another had taken over
    wrong: int = 0  # anything else that a part of the harness demands
    examples: list[str] = field(default_factory=list)

    def add(self, what: str, example: str, count: int = 1) -> None:
        setattr(self, what, getattr(self, what) + count)
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{what}: {example}")

    def __iadd__(self, other: Verdict) -> Self:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        return self

    @property
    def faults(self) -> dict[str, int]:
        """What ought to be zero and is not."""
        return {name: getattr(self, name) for name in ZEROS if getattr(self, name)}


ZEROS = (
    *("lost", "stuck", "repeated", "doubled", "unproven", "changed", "differing", "negative", "damaged", "broken"),
    *("zombies", "wrong"),
)


@dataclass(frozen=True, slots=True)
class Promise:
    """An acknowledged run."""

    run_id: str
    key: str
    steps: int


class Book:
    """What was promised while faults were done."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.promises: dict[str, Promise] = {}  # by run id
        self.ended: dict[str, tuple[str, float]] = {}  # run id -> the terminal status it was seen in, and when
        self.verdict = Verdict()
        self._completed: dict[tuple[str, str], float] = {}  # (key, step) -> when it was known to be
        self._lock = threading.Lock()

    def promised(self, run_id: str, key: str, steps: int) -> None:
        """A run was answered with 2xx."""
        with self._lock:
            known = self.promises.setdefault(run_id, Promise(run_id, key, steps))
            if known.key != key:
                self.verdict.add("wrong", f"run {run_id} was promised to {known.key} and to {key}")

    def saw(self, runs: Iterable[dict[str, Any]], asked_at: float | None = None) -> None:
        """Runs were shown to whoever asked then (default: now). A terminal status is for ever, and seen by all who ask after it."""
        now = time.monotonic()
        asked_at = now if asked_at is None else asked_at
        with self._lock:
            for run in runs:
                status = run["status"]
                before, seen_at = self.ended.get(run["id"], (status, now))
                if before != status and (asked_at >= seen_at or status != "running"):
                    self.verdict.add("changed", f"{run['id']} was {before} and is {status}")
                if status != "running":
                    self.ended.setdefault(run["id"], (status, now))
                if (run["durationMs"] or 0) < 0:
                    self.verdict.add("negative", f"{run['id']}: {run['durationMs']} ms")

    def saw_steps(self, key: str, steps: Iterable[dict[str, Any]]) -> None:
        """Steps were shown; those that succeeded are completed from now on."""
        now = time.monotonic()
        with self._lock:
            for step in steps:
                if step["status"] == "succeeded":
                    self._completed.setdefault((key, step["stepName"]), now)

    def unfinished(self) -> list[Promise]:
        """Promises that were not seen to have ended."""
        with self._lock:
            return [promise for run_id, promise in self.promises.items() if run_id not in self.ended]

    # --- the judgement ------------------------------------------------------------------------------------------------

    def judge(self, server: Server, *, late_effects: bool = False, peace_s: float = PEACE_S) -> Verdict:
        """Wait until every run has ended, look at all of them, and count what is wrong.

        ``late_effects``: a step in flight may have ended elsewhere meanwhile (frozen processes), after its successor's.
        """
        runs = self._in_peace(server, peace_s)
        verdict = self.verdict
        verdict.acknowledged += len(self.promises)
        by_id = {run["id"]: run for run in runs}
        for run_id in self.promises.keys() - by_id.keys():
            verdict.add("lost", f"{run_id} of {self.promises[run_id].key}")
        for run in runs:
            if run["status"] == "running":
                verdict.add("stuck", f"{run['id']} of {run['correlationId']} is {run['state']}")
        firsts = Counter(run["correlationId"] for run in runs if run["parentRunId"] is None)
        for key, count in firsts.items():
            if count > 1:
                verdict.add("doubled", f"{key} has {count} runs")
        children = Counter(run["parentRunId"] for run in runs if run["parentRunId"] is not None)
        for parent, count in children.items():
            if count > 1:
                verdict.add("doubled", f"{parent} has {count} children")
        self._judge_calls(verdict)
        for run in runs:
            self._judge_run(server, run, verdict, late_effects=late_effects)
        self._judge_answers([server.answers], verdict)
        return verdict

    def judge_answers(self, servers: Iterable[Server]) -> None:
        """Count the answers of more servers."""
        self._judge_answers([server.answers for server in servers], self.verdict)

    @staticmethod
    def _judge_answers(answers: Iterable[Answers], verdict: Verdict) -> None:
        for told in answers:
            for broken in told.broken:
                verdict.add("broken", broken)
            told.broken.clear()

    def _in_peace(self, server: Server, peace_s: float) -> list[dict[str, Any]]:
        deadline = time.monotonic() + peace_s
        pause = threading.Event()
        while True:
            asked_at = time.monotonic()
            runs = all_runs(server)
            self.saw(runs, asked_at)
            if all(run["status"] != "running" for run in runs) or time.monotonic() > deadline:
                return runs
            pause.wait(0.1)

    def _judge_calls(self, verdict: Verdict) -> None:
        with self.ledger.lock:
            calls = list(self.ledger.calls)
            nonces = {step: list(made) for step, made in self.ledger.nonces.items()}
        begun = Counter((call.key, call.step) for call in calls if call.path == "/begin")
        verdict.begun += begun.total()
        verdict.begun_again += begun.total() - len(begun)
        verdict.effects_again += sum(len(made) - 1 for made in nonces.values())
        for call in repeats(calls, self._completed):
            verdict.add("repeated", f"{call.step} of {call.key} began in process {call.pid} after it was completed")

    def _judge_run(self, server: Server, run: dict[str, Any], verdict: Verdict, *, late_effects: bool) -> None:
        detail = server.ask("GET", f"{RUNS}/{run['id']}").body["data"]
        run, steps = detail["run"], detail["steps"]
        key, given = run["correlationId"], run["input"]
        done = [step for step in steps if step["status"] in {"succeeded", "skipped"}]
        verdict.steps += len(done)
        for step in done:
            made = self.ledger.nonces.get((key, step["stepName"]), [])
            if step["output"]["nonce"] not in made:
                verdict.add("unproven", f"{step['stepName']} of {run['id']}")
            elif not late_effects and step["output"]["nonce"] != made[-1]:
                verdict.add("repeated", f"{step['stepName']} of {key} had an effect after its output was on record")
            if any((attempt["durationMs"] or 0) < 0 for attempt in step["attempts"]):
                verdict.add("negative", f"{step['stepName']} of {run['id']}")
        if run["status"] == "succeeded":
            names = [step["stepName"] for step in done]
            outs = [step["output"] for step in done]
            if names != [f"s{i}" for i in range(given["steps"])] or run["result"] != {"outs": outs}:
                verdict.add("differing", f"{run['id']}: {run['result']} from {names}")


def repeats(calls: Sequence[Call], completed: dict[tuple[str, str], float]) -> list[Call]:
    """Return the beginnings of steps that were completed before."""
    furthest: dict[str, int] = {}
    found = []
    for call in sorted(calls, key=lambda call: call.at):
        if call.path == "/begin":
            number = int(call.step[1:])
            known_at = completed.get((call.key, call.step))
            if number < furthest.get(call.key, 0) or (known_at is not None and call.at > known_at):
                found.append(call)
            furthest[call.key] = max(number, furthest.get(call.key, 0))
    return found


def all_runs(server: Server) -> list[dict[str, Any]]:
    """Return every run, summaries, by pages."""
    found: list[dict[str, Any]] = []
    while True:
        path = f"{RUNS}?view=summary&limit=200&offset={len(found)}"
        page = wait_until(lambda path=path: _read(server, path), "the list of runs", DEADLINE_S)
        found += page["data"]
        if len(page["data"]) < 200:
            return found


def _read(server: Server, path: str) -> Any:
    with contextlib.suppress(OSError, http.client.HTTPException):
        answer = server.ask("GET", path)
        return answer.body if answer.status == 200 else None


def check_file(url: str, verdict: Verdict, *, whole: bool = False) -> None:
    """Have SQLite check its file; nothing on PostgreSQL, which answers for itself."""
    if not url.startswith("sqlite:///"):
        return
    said: object
    try:
        # Read-only: another connection would, at its end, move the log into the file, which is the next server's business.
        path = f"file:{url.removeprefix('sqlite:///')}?mode=ro"
        with contextlib.closing(sqlite3.connect(path, uri=True, timeout=30)) as connection:
            said = connection.execute("PRAGMA integrity_check" if whole else "PRAGMA quick_check").fetchall()
    except sqlite3.DatabaseError as error:
        said = error
    if said != [("ok",)]:
        verdict.add("damaged", str(said)[:300])


def in_thread(act: Callable[[], object], name: str) -> threading.Thread:
    """Start a thread."""
    thread = threading.Thread(target=act, name=name, daemon=True)
    thread.start()
    return thread
