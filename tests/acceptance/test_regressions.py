"""What went wrong in the original system and must not here, through the public API; named after the list of scenarios (R1 to R24).

Beside those below: R1, R4, R5, R6 in ``tests/operations`` (and R6 of the recorder in ``tests/execution``), R7 in ``test_faultapp`` and
``tests/engines/test_crashes``, R17, R18, R24 in ``tests/execution/test_recorder``. The others need what is not built yet.
"""

import sqlite3
import threading

import psycopg
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from workflow_runs import Retry, Run, WorkflowRuns, workflow
from workflow_runs.admin import Principal, mount_workflow_runs_admin_routes
from workflow_runs.errors import NotFound
from workflow_runs.model.entries import StartRun
from workflow_runs.model.records import Page, RunFilter
from workflow_runs.model.requests import RunRequest


@workflow("plain", idempotency="safe")
def plain(run: Run, value: object = None) -> str:
    return run.step("say", lambda: "done")


@pytest.fixture
def make(database_url):
    """Make a started ``WorkflowRuns`` on a fresh database."""
    made = []

    def start(*workflows):
        runs = WorkflowRuns(database_url, workflows=workflows, migrate=True)
        made.append(runs)
        runs.start()
        return runs

    yield start
    for runs in made:
        runs.close()


@pytest.fixture
def client(make):
    app = Starlette()
    everything = Principal("ann", {"workflows:read", "workflows:read-payload", "workflows:trigger", "workflows:retry"})
    mount_workflow_runs_admin_routes(app, make(plain).desk, authorize=lambda request: everything)
    with TestClient(app) as client:
        yield client


def test_r11_pauses_between_attempts_are_as_long_as_the_policy_says(make):
    def never():
        raise ConnectionError("away")

    @workflow("retried", idempotency="safe")
    def retried(run: Run) -> None:
        run.step("call", never, retry=Retry(attempts=3, first_delay_s=0.05, factor=2, jitter=0))

    runs = make(retried)
    run = runs.wait(runs.trigger(retried))
    (step,) = runs.store.get_steps(run.id)
    pauses = [
        (after.started_at - before.ended_at).total_seconds()
        for before, after in zip(step.attempts, step.attempts[1:], strict=False)
    ]
    rounding = 0.002  # two times in milliseconds
    assert [attempt.number for attempt in step.attempts] == [1, 2, 3]
    assert [pause >= wanted - rounding for pause, wanted in zip(pauses, (0.05, 0.1), strict=True)] == [True, True]


class Outage:
    """Takes the database away in the midst of a step, and gives it back half a second later."""

    def __init__(self, url):
        self.url = url
        self.back = threading.Event()

    def begin(self):
        begin = self._lock if self.url.startswith("sqlite") else self._shut
        threading.Timer(0.5, begin()).start()

    def _lock(self):
        connection = sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")

        def end():
            connection.close()
            self.back.set()

        return end

    def _shut(self):
        url = self.url.replace("+psycopg", "")
        name = url.partition("?")[0].rpartition("/")[2]
        server = psycopg.connect(url.replace(f"/{name}", "/postgres", 1), autocommit=True)
        server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

        def end():
            server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
            server.close()
            self.back.set()

        return end


def test_r16_a_step_whose_database_went_away_before_its_end_is_executed_once_and_goes_on(make, database_url):
    outage = Outage(database_url)
    effects = []

    def charge():
        effects.append("charge")
        outage.begin()
        return "paid"

    @workflow("paying", idempotency="unsafe")
    def paying(run: Run) -> str:
        paid = run.step("charge", charge)
        return run.step("thank", lambda: f"thanks, {paid}")

    runs = make(paying)
    run = runs.wait(runs.trigger(paying))
    assert outage.back.is_set()
    assert (run.state, run.result, effects) == ("succeeded", '"thanks, paid"', ["charge"])
    assert [step.state for step in runs.store.get_steps(run.id)] == ["succeeded", "succeeded"]


@pytest.mark.parametrize("run_id", ["../../etc/passwd", "..%2f..%2frun.json", "a/b", "%00", "wfrn_", "'; drop table x"])
def test_r19_an_id_of_any_shape_is_looked_up_and_not_found(make, run_id):
    with pytest.raises(NotFound):
        make(plain).desk.get_run(run_id)


@pytest.mark.parametrize("path", ["..%2F..%2Fetc%2Fpasswd", "a%2Fb", "wfrn_x'%3B", "%F0%9F%A7%BE"])
def test_r19_an_id_of_any_shape_is_404_over_http(client, path):
    answer = client.get(f"/v1/admin/workflow-runs/{path}")
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


def test_r20_nobody_chooses_the_id_of_a_run(client):
    first = client.post("/v1/admin/workflows/plain/runs", json={"input": {}}).json()["data"]["runId"]
    answer = client.post("/v1/admin/workflows/plain/runs", json={"input": {"other": 1}, "runId": first})
    assert (answer.status_code, answer.json()["field"]) == (400, "runId")
    assert client.get("/v1/admin/workflow-runs").json()["total"] == 1
    assert client.get(f"/v1/admin/workflow-runs/{first}").json()["data"]["run"]["input"] == {}


def test_r22_cursor_and_offset_walk_the_same_runs_once_to_the_deepest_page(make):
    runs = make()
    receipts = [
        runs.journal.submit(StartRun(runs.clock.new_run_id(), RunRequest("many", "many", tags=(f"t{number % 3}",))))
        for number in range(1_000)
    ]
    ids = sorted((receipt.result().run_id for receipt in receipts), reverse=True)

    by_cursor, after = [], None
    while page := runs.store.list_runs(RunFilter(), Page(limit=200, after=after), payloads=False):
        by_cursor += [run.id for run in page.runs]
        after = page.next_after
        if after is None:
            break
    by_offset = [
        run.id
        for offset in range(0, 1_000, 200)
        for run in runs.store.list_runs(RunFilter(), Page(limit=200, offset=offset), payloads=False).runs
    ]
    assert by_cursor == by_offset == ids
