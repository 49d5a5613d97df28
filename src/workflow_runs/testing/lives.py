"""A process's life, in a child: an application is started, does something, and ends or is killed. And what the record says then."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any, Final

from ..app import WorkflowRuns
from ..authoring import Workflow
from ..clock import Clock
from ..errors import SchemaMismatch
from ..model.entries import Entry, RunChanged, RunEnded
from ..model.records import ErrorRecord, Page, Run, RunFilter, Step
from ..model.states import RunState, is_finished
from ..settings import EngineSettings, JournalSettings
from ..store.base import Store
from ..store.opening import open_store
from .effects import EffectLedger
from .events import Events, watch_database
from .points import Point, Trigger, Watch
from .processes import Ended, Mouth, in_child, kill_self

EXECUTOR: Final = "crash-test"  # all lives are restarts of one process: they take up each other's runs at once
# Nothing happens by the clock: the same events come in each life, and nothing disturbs their count.
_QUIET: Final = EngineSettings(poll_s=3600.0, lease_s=36000.0)
_RECHECK_S: Final = 0.2
_RUNS_MOST: Final = 50

Play = Callable[[WorkflowRuns, str, Callable[[str], None]], object]
"""What a life does: given the application, a key, and what to call with the id of each run that it was told is accepted.

It is played again after a kill, and has to ask for the same under the same idempotency keys, as a client does that got no answer. Its runs
have the key as their correlation id (a resume has its parent's).
"""


@dataclass(frozen=True, slots=True)
class World:
    """Where lives take place: one database for all of them, and the ledger beside it."""

    url: str
    workflows: tuple[Workflow, ...]
    ledger: EffectLedger
    engine_settings: EngineSettings = _QUIET
    journal_settings: JournalSettings = field(default_factory=JournalSettings)
    timeout_s: float = 60.0

    def live(
        self,
        play: Play,
        key: str,
        *,
        at_event: int | None = None,
        at_point: Point | None = None,
        deed: Callable[[], object] = kill_self,
        again: bool = False,
    ) -> Ended:
        """Play once, in a child that dies (or does another ``deed``) at an event of the database or a point of the run.

        Its value has ``before`` and ``after``, the record as this life found (only if it plays ``again``) and left it (see ``snapshot``),
        its ``pid``, ``points`` and ``events``.

        Raises:
            ChildFailed: it raised something, or took longer than ``timeout_s``.
        """

        def work(mouth: Mouth) -> dict[str, Any]:
            before = self.record(key) if again else []
            trigger = Trigger(lambda point, _: point == at_point, deed)
            return {"before": before} | self._live(mouth, play, key, Events(at_event, deed), trigger)

        return in_child(work, self.timeout_s)

    def prepare(self) -> None:
        """Migrate the database, and load here what lives would each have to load."""
        import_module("workflow_runs.store.reading")
        open_store(self.url, clock=Clock())  # nothing is connected yet
        in_child(lambda _: self._migrate(), self.timeout_s)

    def _migrate(self) -> None:
        store = open_store(self.url, clock=Clock())
        store.migrate()
        store.close()

    def _live(self, mouth: Mouth, play: Play, key: str, events: Events, trigger: Trigger) -> dict[str, Any]:
        watch_database(self.url, events)
        watch = Watch(self.ledger, trigger)
        clock = Clock()
        app = WorkflowRuns(
            workflows=[watch.workflow(workflow) for workflow in self.workflows],
            executor=EXECUTOR,
            engine_settings=self.engine_settings,
            journal_settings=self.journal_settings,
            clock=clock,
            store=watch.store(open_store(self.url, clock=clock)),
            migrate=True,
        )
        app.start()
        play(app, key, mouth.say)
        # Not closed: a life that was not killed ends in the midst of things, too.
        return {
            "pid": os.getpid(),
            "after": snapshot(app.store, key),
            "points": trigger.passed,
            "events": events.names,
        }

    def record(self, key: str) -> list[dict[str, Any]]:
        """Return what is on record of the runs of a key."""
        store = open_store(self.url, clock=Clock())
        try:
            store.check_ready()
            return snapshot(store, key)
        except SchemaMismatch:
            return []
        finally:
            store.close()


def settled(app: WorkflowRuns, run_id: str, timeout_s: float = 30.0) -> Run:
    """Wait until a run has ended, or waits for a person, and return it.

    Raises:
        AssertionError: neither comes to pass in time.
    """
    deadline = app.clock.monotonic() + timeout_s
    changed = threading.Event()

    def look(entries: Sequence[Entry]) -> None:
        if any(isinstance(entry, RunEnded | RunChanged) for entry in entries):
            changed.set()

    app.journal.add_observer(look)
    while True:
        changed.clear()
        run = app.store.get_run(run_id)
        assert run is not None, f"run {run_id} is gone"
        if is_finished(run.state) or run.state is RunState.UNKNOWN:
            return run
        assert app.clock.monotonic() < deadline, f"run {run_id} is still {run.state} after {timeout_s:g} s"
        changed.wait(_RECHECK_S)


def snapshot(store: Store, key: str) -> list[dict[str, Any]]:
    """Return the runs of a key, oldest first, each as ``row`` (everything) and ``journal`` (what two equal runs have in common)."""
    found = store.list_runs(RunFilter(correlation_id=key), Page(_RUNS_MOST), payloads=True, total=False)
    return [_shown(run, store.get_steps(run.id)) for run in reversed(found.runs)]


def _shown(run: Run, steps: Sequence[Step]) -> dict[str, Any]:
    return {
        "id": run.id,
        "owner": None if is_finished(run.state) else run.claim_owner,
        "row": json.dumps(asdict(run), default=str),
        "journal": journal(run, steps),
        "steps": [
            [step.step.label(), step.effect, *([attempt.number, attempt.state] for attempt in step.attempts)]
            for step in steps
        ],
    }


def journal(run: Run, steps: Sequence[Step]) -> dict[str, Any]:
    """Return what a run has done, without ids, times and numbers of attempts: JSON, equal for runs that did the same."""
    return {
        "workflow": run.workflow_name,
        "state": run.state,
        "input": run.input,
        "result": run.result,
        "error": _error(run.error),
        "resume_from": None if run.resume_from is None else run.resume_from.label(),
        "steps": [
            {
                "label": step.step.label(),
                "sequence": step.sequence,
                "kind": step.kind,
                "effect": step.effect,
                "input": step.input_digest,
                "state": step.last.state,
                "origin": step.last.origin,
                # The clock's reading is itself a time.
                "output": step.last.output if step.kind == "step" else None,
                "error": _error(step.last.error),
            }
            for step in steps
        ],
    }


def _error(error: ErrorRecord | None) -> list[str | None] | None:
    return None if error is None else [error.message, error.code, error.type_name, error.step_name]
