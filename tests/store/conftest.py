"""A database with the schema, and entries for it with all that a test does not care about filled in."""

import itertools
import sqlite3

import psycopg
import pytest

from workflow_runs.clock import Clock, LeaseTime
from workflow_runs.errors import WorkflowRunsError
from workflow_runs.model.entries import (
    CancelRun,
    ClaimRuns,
    RegisterExecutor,
    RunChanged,
    RunEnded,
    StartRun,
    StepEnded,
    StepStarted,
)
from workflow_runs.model.records import Page, RunFilter, StepKey
from workflow_runs.model.requests import Action, IdempotencyKey, RunRequest
from workflow_runs.model.states import EffectClass, Origin, RunState, StepKind, StepState
from workflow_runs.store.opening import open_store


class MovableClock(Clock):
    """The machine's clock, put forward by hand; ``boot`` is another machine start. PostgreSQL keeps its own time."""

    def __init__(self):
        self.boot, self.ahead_s, self.at_ms = "boot-1", 0.0, super().now_millis()

    def now_millis(self):
        return self.at_ms

    def lease_time(self):
        return LeaseTime(self.boot, super().lease_time().seconds + self.ahead_s)


class Record:
    """One store with a writer, and makers of entries."""

    def __init__(self, url):
        self.url, self.clock = url, MovableClock()
        self.store = open_store(url, clock=self.clock)
        self.writer = self.store.open_writer()
        self._audit_ids = itertools.count(1)

    def close(self):
        self.writer.close()
        self.store.close()

    # --- writing ---

    def apply(self, *entries):
        return self.writer.apply(entries)

    def write(self, entry):
        """Apply one entry; raise what refuses it."""
        (outcome,) = self.writer.apply([entry])
        if isinstance(outcome, WorkflowRunsError):
            raise outcome
        return outcome

    def started(self, **fields):
        """Write a run and return its id."""
        return self.write(self.start(**fields)).run_id

    def failed(self, **fields):
        """Write a run that has failed and return its id."""
        run_id = self.started(**({"state": RunState.RUNNING} | fields))
        self.write(self.end(run_id, RunState.FAILED))
        return run_id

    def registered(self, name="worker", lease_s=30.0, **fields):
        """Register an executor and return its claim."""
        return self.write(
            RegisterExecutor(name, lease_s, **({"scope": "elsewhere", "pid": 1, "pid_started": "1"} | fields))
        )

    # --- entries ---

    def start(self, run_id=None, *, state=RunState.QUEUED, claim=None, mode=None, audit_id=None, **request):
        request = {"workflow_name": "checkout", "definition": "checkout"} | request
        more = {} if mode is None else {"mode": mode}
        if request.get("action") is not None:
            audit_id = audit_id or f"wfra_{next(self._audit_ids):026}"
        return StartRun(
            run_id or self.clock.new_run_id(), RunRequest(**request), state, claim=claim, audit_id=audit_id, **more
        )

    def resume(self, failed_run_id, *, key=None, **request):
        """A start that claims a failure, as the desk makes it."""
        parent = self.store.get_run(failed_run_id)
        action = Action(
            "resume",
            target_run_id=failed_run_id,
            claims_failure=True,
            idempotency=None if key is None else IdempotencyKey(f"resume:{failed_run_id}", key, "hash"),
        )
        lineage = {"root_run_id": parent.root_run_id, "chain_run_id": parent.chain_run_id}
        return self.start(**({"parent_run_id": failed_run_id, "action": action} | lineage | request))

    def change(self, run_id, state, *, claim=None, release=False):
        return RunChanged(run_id, state, self.clock.now_millis(), claim, release)

    def end(self, run_id, state=RunState.SUCCEEDED, *, after_ms=1000, **fields):
        return RunEnded(run_id, state, self.clock.now_millis() + after_ms, **fields)

    def cancel(self, run_id, reason=None):
        action = Action("cancel", actor="ada", reason=reason)
        return CancelRun(run_id, action, f"wfra_{next(self._audit_ids):026}", self.clock.now_millis())

    def claim_runs(self, claim, *definitions, limit=10, scope=""):
        return ClaimRuns(claim, definitions or ("checkout",), limit, scope)

    def step_started(self, run_id, name="charge", *, key="", occurrence=1, attempt=1, sequence=1, claim=None):
        return StepStarted(
            run_id,
            claim,
            StepKey(name, key, occurrence),
            attempt,
            sequence,
            StepKind.STEP,
            EffectClass.UNSAFE,
            "digest",
            self.clock.now_millis(),
        )

    def step_ended(self, run_id, name="charge", *, state=StepState.SUCCEEDED, output='"done"', error=None, **fields):
        return StepEnded(
            *self.step_started(run_id, name, **fields),
            state,
            Origin.EXECUTED,
            output if state is StepState.SUCCEEDED else None,
            error,
            self.clock.now_millis() + 5,
            5,
        )

    # --- reading ---

    def ids(self, limit=200, offset=0, after=None, **where):
        found = self.store.list_runs(RunFilter(**where), Page(limit, offset, after), payloads=False, total=False)
        return [run.id for run in found.runs]

    def sql(self, statement, *parameters):
        """Run a statement past the store, as somebody with a database client would, and return its rows."""
        if self.url.startswith("sqlite"):
            connection = sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)
            connection.execute("PRAGMA ignore_check_constraints = ON")
        else:
            connection = psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True)
            statement = statement.replace("?", "%s")
        try:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


@pytest.fixture
def new_record(database_url):
    """Makes stores on one database, each with a writer: other processes, as far as the database can see."""
    made = []

    def make():
        made.append(Record(database_url))
        return made[-1]

    make().store.migrate()
    yield make
    for record in made:
        record.close()


@pytest.fixture
def record(new_record):
    return new_record()
