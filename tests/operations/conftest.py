"""Runs and steps as values for what decides; the desk on real databases, with an engine that stores runs and executes none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflow_runs.authoring import workflow
from workflow_runs.clock import Clock
from workflow_runs.engines.base import Capabilities
from workflow_runs.journal import Journal
from workflow_runs.model.entries import RunChanged, RunEnded, RunStarted, StartRun, StepEnded
from workflow_runs.model.records import Attempt, Audit, ErrorRecord, Page, Run, RunFilter, Step, StepKey
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import (
    RUN_STATUS,
    EffectClass,
    Origin,
    RecordingMode,
    RunState,
    StepKind,
    StepState,
)
from workflow_runs.operations.desk import Desk
from workflow_runs.operations.registry import Runner, WorkflowRunnerRegistry, workflow_runner
from workflow_runs.store.base import Store
from workflow_runs.store.opening import open_store

BEGIN = datetime(2026, 11, 22, 14, 15, tzinfo=UTC)


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """Return a maker of runs: failed in step ``charge`` unless said otherwise."""

    def make(state: RunState = RunState.FAILED, failed_step: str | None = "charge", **fields: Any) -> Run:
        error = ErrorRecord("gateway refused", step_name=failed_step)
        run = Run(
            id="wfrn_01m81srpafe07vg00hcm7rdwd5",
            workflow_name="checkout",
            definition="checkout",
            trigger="api",
            correlation_id=None,
            tags=(),
            state=state,
            status=RUN_STATUS[state],
            input='{"order":7}',
            result=None,
            error=error if RUN_STATUS[state] == "failed" else None,
            fingerprint=None,
            parent_run_id=None,
            root_run_id="wfrn_01m81srpafe07vg00hcm7rdwd5",
            chain_run_id="wfrn_01m81srpafe07vg00hcm7rdwd5",
            triggered_by_user_id=None,
            idempotency_key=None,
            resume_from=None,
            mode=RecordingMode.JOURNAL,
            has_gap=False,
            code_version="v1",
            started_at=BEGIN,
            execution_started_at=BEGIN,
            completed_at=None,
            updated_at=BEGIN,
            duration_ms=None,
            cancel_requested_at=None,
            claim_owner=None,
            resumed_by_run_id=None,
        )
        return replace(run, **fields)

    return make


@pytest.fixture
def make_step() -> Callable[..., Step]:
    """Return a maker of steps: succeeded at the first attempt unless said otherwise. Attempts are given by their states."""

    def make(
        sequence: int,
        name: str,
        *states: StepState,
        key: str = "",
        occurrence: int = 1,
        output: str | None = '{"ref":1}',
        message: str = "gateway refused",
        effect: EffectClass = EffectClass.UNSAFE,
        kind: StepKind = StepKind.STEP,
    ) -> Step:
        attempts = tuple(
            Attempt(
                number=number,
                state=state,
                origin=Origin.EXECUTED,
                output=None if state is StepState.FAILED else output,
                error=ErrorRecord(message) if state is StepState.FAILED else None,
                started_at=BEGIN + timedelta(seconds=sequence),
                ended_at=BEGIN + timedelta(seconds=sequence, milliseconds=number),
                duration_ms=1,
            )
            for number, state in enumerate(states or (StepState.SUCCEEDED,), 1)
        )
        step = StepKey(name, key, occurrence)
        return Step("wfrn_01m81srpafe07vg00hcm7rdwd5", step, sequence, kind, effect, "digest", attempts)

    return make


# --- the desk on a real database -------------------------------------------------------------------------------------


@workflow("checkout", idempotency="safe", version="v1")
def checkout(run: Any, input: Any = None) -> None:
    """Never executed here: the engine below only stores."""


@workflow("payout", idempotency="unsafe")
def payout(run: Any, input: Any = None) -> None:
    """Unsafe."""


@workflow("once", idempotency="resume-only")
def once(run: Any, input: Any = None) -> None:
    """Resume-only."""


@dataclass
class Order:
    id: int


@workflow("typed", idempotency="safe")
def typed(run: Any, order: Order) -> None:
    """Takes a typed input."""


class StoringEngine:
    """Stores runs as any engine does, and leaves executing them to the test, which says how each step ended."""

    capabilities = Capabilities()

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self.cancels: list[str] = []

    def start(self, request: RunRequest) -> RunStarted:
        audit_id = None if request.action is None else self._clock.new_audit_id()
        entry = StartRun(self._clock.new_run_id(), request, audit_id=audit_id)
        return self._journal.submit(entry, give_up_after_s=10).result()

    def wait_for(self, awaitable: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await awaitable

        return asyncio.run(wait())

    def request_cancel(self, run_id: str) -> None:
        self.cancels.append(run_id)


@dataclass
class Shop:
    """A desk with everything behind it."""

    store: Store
    journal: Journal
    engine: StoringEngine
    registry: WorkflowRunnerRegistry
    desk: Desk
    clock: Clock = field(default_factory=Clock)

    def register(self, name: str, **fields: Any) -> Runner:
        """Register a runner of the workflow ``checkout`` under another name, with some handlers or guards exchanged."""
        runner = replace(workflow_runner(checkout, self.engine), **{"name": name, **fields})
        self.registry.register(runner)
        return runner

    def request(self, workflow_name: str = "checkout", **fields: Any) -> RunRequest:
        fields = {"definition": workflow_name, "input": '{"order":7}', "code_version": "v1", **fields}
        return RunRequest(workflow_name, **fields)

    def live(self, workflow_name: str = "checkout", **fields: Any) -> str:
        """Return the id of a run that executes."""
        run_id = self.engine.start(self.request(workflow_name, **fields)).run_id
        self._begin(run_id)
        return run_id

    def _begin(self, run_id: str) -> None:
        self.journal.submit(RunChanged(run_id, RunState.RUNNING, self.clock.now_millis())).result()

    def step(
        self, run_id: str, sequence: int, label: str, state: StepState = StepState.SUCCEEDED, **fields: Any
    ) -> None:
        """Record an attempt of a step; ``charge#2`` is the second charge."""
        name, _, occurrence = label.partition("#")
        failed = state in {StepState.FAILED, StepState.CANCELLED}
        now = self.clock.now_millis()
        entry = StepEnded(
            run_id,
            None,
            StepKey(name, "", int(occurrence or 1)),
            fields.get("attempt", 1),
            sequence,
            StepKind.STEP,
            fields.get("effect", EffectClass.UNSAFE),
            None,
            now,
            state,
            Origin.EXECUTED,
            None if failed else fields.get("output", f'{{"step":"{label}"}}'),
            ErrorRecord(f"{label} failed") if failed else None,
            now,
            0,
        )
        self.journal.submit(entry).result()

    def end(self, run_id: str, state: RunState = RunState.FAILED, step: str | None = "charge") -> str:
        """End a run, by the error of a step if it fails."""
        self._begin(run_id)
        error = ErrorRecord(f"{step} failed", step_name=step) if RUN_STATUS[state] == "failed" else None
        self.journal.submit(RunEnded(run_id, state, self.clock.now_millis(), error=error)).result()
        return run_id

    def failed(self, workflow_name: str = "checkout", **fields: Any) -> str:
        """Return the id of a run that has reserved, and then failed to charge."""
        run_id = self.live(workflow_name, **fields)
        self.step(run_id, 1, "reserve")
        self.step(run_id, 2, "charge", StepState.FAILED)
        return self.end(run_id)

    def fail_again(self, run_id: str) -> str:
        """Let a resume of ``failed()`` fail in the same step."""
        self.step(run_id, 2, "charge", StepState.FAILED)
        return self.end(run_id)

    def run(self, run_id: str) -> Run:
        run = self.store.get_run(run_id)
        assert run is not None
        return run

    def children(self, run_id: str) -> list[str]:
        """Return the ids of the runs made from a run."""
        runs = self.store.list_runs(RunFilter(parent_run_id=run_id), Page(), payloads=False).runs
        return [run.id for run in runs]

    def audit(self, run_id: str) -> list[Audit]:
        return list(self.store.get_audit(run_id))


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    """Return a desk on an empty database, of each kind in turn."""
    with _opened(database_url) as shop:
        yield shop


@pytest.fixture
def sqlite_shop(sqlite_url: str) -> Iterator[Shop]:
    """Return a desk on SQLite, for what no database has a say in."""
    with _opened(sqlite_url) as shop:
        yield shop


@contextmanager
def _opened(url: str) -> Iterator[Shop]:
    clock = Clock()
    store = open_store(url, clock=clock)
    store.migrate()
    journal = Journal(store, clock=clock)
    engine = StoringEngine(journal, clock)
    registry = WorkflowRunnerRegistry(workflow_runner(one, engine) for one in (checkout, payout, once, typed))
    try:
        yield Shop(store, journal, engine, registry, Desk(store, journal, registry, engine, clock=clock))
    finally:
        journal.close()
        store.close()
