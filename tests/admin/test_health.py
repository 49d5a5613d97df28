"""Alive and ready: two open routes that tell two words."""

from __future__ import annotations

import threading

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from workflow_runs import WorkflowRuns
from workflow_runs.admin import health, mount_health_routes
from workflow_runs.errors import ConfigurationError, StoreUnavailable


class Database:
    """Stands for a store whose database comes and goes."""

    def __init__(self):
        self.error = None
        self.hangs = None

    def check_ready(self):
        if self.hangs is not None:
            self.hangs.wait(20)
        if self.error is not None:
            raise self.error


@pytest.fixture
def database():
    return Database()


@pytest.fixture
def probe(database):
    app = Starlette()
    mount_health_routes(app, database)
    return TestClient(app)


def test_a_process_is_neither_alive_nor_ready_before_the_schema_exists(database_url):
    runs = WorkflowRuns(database_url, migrate=False)
    app = Starlette()
    mount_health_routes(app, runs.store)
    client = TestClient(app)
    assert (client.get("/healthz").status_code, client.get("/readyz").status_code) == (503, 503)
    runs.store.migrate()
    assert (client.get("/healthz").status_code, client.get("/readyz").status_code) == (200, 200)
    runs.close()


def test_a_process_stays_alive_while_its_database_is_away(probe, database):
    assert probe.get("/healthz").json() == {"ok": True, "service": "workflow-runs", "checks": {"database": "ok"}}
    database.error = StoreUnavailable("password=hunter2")
    assert probe.get("/healthz").status_code == 200
    answer = probe.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]) == (503, {"database": "error"})
    assert answer.headers["retry-after"] == "1"
    assert "hunter2" not in answer.text
    database.error = None
    assert probe.get("/readyz").status_code == 200


def test_a_database_that_hangs_is_not_ready(probe, database, monkeypatch):
    monkeypatch.setattr(health, "TIMEOUT_S", 0.05)
    database.hangs = threading.Event()
    try:
        assert probe.get("/readyz").status_code == 503
    finally:
        database.hangs.set()


def test_any_exception_is_not_ready(probe, database):
    database.error = RuntimeError("x")
    assert probe.get("/readyz").status_code == 503


def test_health_asks_for_nobody_and_takes_get_only(probe):
    assert probe.head("/readyz").content == b""
    assert probe.options("/healthz").status_code == 204
    answer = probe.post("/healthz")
    assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
    assert probe.get("/healthz").headers["x-content-type-options"] == "nosniff"


def test_what_cannot_be_checked_is_a_mistake():
    with pytest.raises(ConfigurationError):
        mount_health_routes(Starlette(), object())
