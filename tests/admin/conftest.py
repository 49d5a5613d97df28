"""A shop with a desk, served in this process: real store, journal, engine and routes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from workflow_runs import AsyncRun, Cancelled, Run, WorkflowRuns, workflow
from workflow_runs.admin import (
    CANCEL,
    READ,
    READ_PAYLOAD,
    RETRY,
    TRIGGER,
    Principal,
    bearer_tokens,
    mount_health_routes,
    mount_workflow_runs_admin_routes,
)
from workflow_runs.operations.registry import workflow_runner

WAIT_S = 20.0

PRINCIPALS = {
    "all": Principal("ada", [READ, READ_PAYLOAD, TRIGGER, RETRY, CANCEL]),
    "reader": Principal("rob", [READ, READ_PAYLOAD]),
    "blind": Principal("bea", [READ]),
    "wildcard": Principal("wim", ["*", "*:*", "workflows:*", "*:trigger"]),
    "trigger": Principal(None, [TRIGGER]),
    "retry": Principal("ray", [RETRY]),
    "cancel": Principal("cas", [CANCEL]),
    "nothing": Principal("nil", []),
    "safe-only": Principal("sam", [READ, READ_PAYLOAD, TRIGGER, RETRY, CANCEL], workflows=["safe"]),
    "blinkered": Principal("bob", [READ], workflows=[]),
}


@dataclass
class Shop:
    """The application under test and what its workflows wait for."""

    runs: WorkflowRuns
    gate: threading.Event = field(default_factory=threading.Event)

    def app(self, **options: Any) -> Starlette:
        app = Starlette()
        options.setdefault("authorize", bearer_tokens({f"{name}-token": who for name, who in PRINCIPALS.items()}))
        mount_workflow_runs_admin_routes(app, self.runs.desk, **options)
        mount_health_routes(app, self.runs.store)
        return app

    def client(self, who: str | None = "all", **options: Any) -> TestClient:
        headers = {} if who is None else {"Authorization": f"Bearer {who}-token"}
        return TestClient(self.app(**options), headers=headers, raise_server_exceptions=True)

    def run(self, name: str = "safe", input: Any = None, **fields: Any) -> str:
        """Trigger a run by HTTP and wait for its end."""
        body = {"input": {} if input is None else input, **fields}
        answer = self.client().post(f"/v1/admin/workflows/{name}/runs", json=body)
        assert answer.status_code == 202, answer.text
        run_id: str = answer.json()["data"]["runId"]
        self.runs.wait(run_id, WAIT_S)
        return run_id


class _CardError(Exception):
    code = "E_CARD"


def _fail(text: str) -> None:
    raise _CardError(text)


@dataclass
class _Gates:
    """What the workflows wait for. ``stalled`` is set by the first run that is asked to stall; later ones do."""

    gate: threading.Event = field(default_factory=threading.Event)
    stalled: threading.Event = field(default_factory=threading.Event)

    def hold(self) -> str:
        assert self.gate.wait(WAIT_S)
        return "held"

    def body(self, run: Run, input: Any = None) -> Any:
        """Do what the input says: output, hold, stall (a resume of it stays live), cancel, fail."""
        knobs = input if isinstance(input, dict) else {}
        first = run.step("first", lambda: knobs.get("output", {"ref": "r1"}))
        if knobs.get("hold"):
            run.step("hold", self.hold)
        if knobs.get("stall"):
            if self.stalled.is_set():
                self.hold()
            self.stalled.set()
        if knobs.get("cancel"):
            raise Cancelled("changed my mind")
        if knobs.get("fail"):
            run.step("second", _fail, str(knobs["fail"]))
        return {"first": first}


def _typed(run: Run, amount: int) -> int:
    return run.step("double", lambda: amount * 2)


async def _patient(run: AsyncRun) -> None:
    await run.step("wait", asyncio.Event().wait)


def _refuse(run: Any, plan: Any, actor: str | None) -> str:
    return f"not for {actor}"


def _raise_in_guard(run: Any, plan: Any, actor: str | None) -> None:
    raise ValueError("the guard's secret")


def _raise_in_handler(input: Any, context: Any) -> str:
    raise ValueError(f"handler failed: {input}")


def make_shop(url: str) -> Shop:
    gates = _Gates()

    def body(run: Run, input: Any = None) -> Any:
        return gates.body(run, input)

    safe, unsafe, resume_only = (workflow(name, idempotency=name)(body) for name in ("safe", "unsafe", "resume-only"))
    typed = workflow("typed", idempotency="safe")(_typed)
    spaced = workflow("with space/and slash", idempotency="safe")(body)
    patient = workflow("patient", idempotency="safe")(_patient)
    runs = WorkflowRuns(url, [safe, unsafe, resume_only, typed, spaced, patient], migrate=True)
    plain = workflow_runner(safe, runs.engine)
    assert runs.registry is not None
    for runner in (
        replace(plain, name="guarded", can_rerun=_refuse, can_resume=_refuse),
        replace(plain, name="guard-raises", can_rerun=_raise_in_guard, can_resume=_raise_in_guard),
        replace(plain, name="handlers-raise", trigger=_raise_in_handler, rerun=_raise_in_handler),
        replace(plain, name="no-handlers", trigger=None, rerun=None, resume=None),
    ):
        runs.registry.register(runner)
    runs.start()
    return Shop(runs, gates.gate)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop on SQLite for a whole module; its tests do not count on an empty list."""
    made = make_shop(f"sqlite:///{tmp_path_factory.mktemp('shop') / 'runs.db'}")
    yield made
    made.gate.set()
    made.runs.close()


@pytest.fixture
def new_shop(database_url: str) -> Iterator[Shop]:
    """An empty shop, on each database in turn."""
    made = make_shop(database_url)
    yield made
    made.gate.set()
    made.runs.close()


@pytest.fixture
def client(shop: Shop) -> TestClient:
    """A client that may do everything."""
    return shop.client()


@pytest.fixture
def as_(shop: Shop) -> Callable[[str | None], TestClient]:
    """A client for one of ``PRINCIPALS``."""
    return shop.client
