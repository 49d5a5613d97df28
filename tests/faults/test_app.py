"""The fault app does what its description says, and single faults at chosen points end as they should, step by step."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.faults.servers import CHAINS, DEADLINE_S, RUNS, Server, wait_until
from workflow_runs.testing.ledger import Ledger


class App(Server):
    """A fault app, and what is asked of it in these tests."""

    def trigger(self, key: str, steps: int, work_ms: int = 0) -> str:
        given = {"steps": steps, "key": key, "work_ms": work_ms}
        answer = self.ask("POST", CHAINS, {"input": given, "correlationId": key, "idempotencyKey": key})
        assert answer.status == 202, answer.body
        return answer.body["data"]["runId"]

    def run(self, run_id: str) -> dict[str, Any]:
        return self.ask("GET", f"{RUNS}/{run_id}").body["data"]

    def ended(self, run_id: str) -> dict[str, Any]:
        return wait_until(
            lambda: (detail := self.run(run_id))["run"]["status"] != "running" and detail, f"the end of {run_id}"
        )


@pytest.fixture
def world():
    with Ledger().running() as ledger:
        yield ledger


@pytest.fixture
def start(nursery, tmp_path):
    """Start a fault app on a database; keywords are its variables without the prefix."""
    apps: list[App] = []

    def begin(url: str, ledger: str = "", name: str = "one", **more: str) -> App:
        apps.append(App(nursery, url, tmp_path, ledger=ledger, name=name, **more))
        apps[-1].start().wait_healthy()
        return apps[-1]

    yield begin
    for app in apps:
        app.close()


def nonces(detail: dict[str, Any]) -> list[str]:
    return [out["nonce"] for out in detail["run"]["result"]["outs"]]


def test_a_chain_has_one_effect_per_step_and_tells_them_in_its_result(start, database_url, world):
    app = start(database_url, world.url)

    detail = app.ended(app.trigger("k", steps=5))

    assert detail["run"]["status"] == "succeeded"
    assert detail["run"]["correlationId"] == "k"
    assert nonces(detail) == [world.nonces["k", f"s{i}"][0] for i in range(5)]
    assert set(world.count("/effect").values()) == {1}


def test_a_chain_without_an_outside_world_makes_its_nonces_up(start, sqlite_url):
    app = start(sqlite_url)

    assert len(set(nonces(app.ended(app.trigger("k", steps=3))))) == 3
    made = app.ask("POST", CHAINS, {"input": {"other": 1}}).body["data"]["runId"]
    assert app.ended(made)["run"]["result"] == {"outs": []}


@pytest.mark.parametrize("executor", ["one", "two"], ids=["restarted under its name", "followed by another"])
@pytest.mark.parametrize(
    ("path", "effects"), [("/begin", 1), ("/effect", 2)], ids=["before its effect", "with its effect unanswered"]
)
def test_a_chain_killed_within_a_step_repeats_that_step_alone(start, database_url, world, path, effects, executor):
    world.hold(path, "s2")
    app = start(database_url, world.url)
    run_id = app.trigger("k", steps=5)
    assert world.reached.wait(DEADLINE_S)
    app.kill()
    world.release.set()

    detail = start(database_url, world.url, executor).ended(run_id)

    assert detail["run"]["status"] == "succeeded"
    begun = world.count("/begin")
    assert begun == {("k", f"s{i}"): 2 if i == 2 else 1 for i in range(5)}
    assert world.count("/effect")["k", "s2"] == effects
    assert nonces(detail) == [world.nonces["k", f"s{i}"][-1] for i in range(5)]


def test_a_resume_repeats_no_completed_step(start, database_url, world):
    app = start(database_url, world.url)
    world.failing.add("s2")
    failed = app.ended(app.trigger("k", steps=4))
    assert failed["run"]["error"]["stepName"] == "s2"
    world.failing.clear()

    answer = app.ask("POST", f"{RUNS}/{failed['run']['id']}/resume")

    assert app.ended(answer.body["data"]["runId"])["run"]["status"] == "succeeded"
    assert set(world.count("/effect").values()) == {1}


def test_sigterm_lets_the_step_in_flight_end_and_hands_the_run_over(start, database_url, world):
    world.hold("/effect", "s1")
    app = start(database_url, world.url)
    run_id = app.trigger("k", steps=4)
    assert world.reached.wait(DEADLINE_S)
    app.signal(signal.SIGTERM)
    world.release.set()
    assert app.wait() == 0

    detail = start(database_url, world.url, "two").ended(run_id)

    assert detail["run"]["status"] == "succeeded"
    assert world.count("/begin") == {("k", f"s{i}"): 1 for i in range(4)}


@pytest.mark.parametrize("payload", ["plain", "<script>alert(1)</script>", "x" * 1000, "a/b?c=%2F", "\u202eevil"])
def test_echo_says_the_payload_and_fails(start, sqlite_url, payload):
    app = start(sqlite_url)
    made = app.ask("POST", CHAINS.replace("chain", "echo"), {"input": {"payload": payload}})

    detail = app.ended(made.body["data"]["runId"])

    assert detail["run"]["status"] == "failed"
    assert detail["run"]["error"]["message"] == payload
    assert detail["steps"][0]["output"] == payload


def test_tokens_open_what_they_say(start, sqlite_url):
    app = start(sqlite_url, TOKEN="T")

    def status(method: str, path: str, token: str | None = None, body: Any = None) -> int:
        return app.ask(method, path, body, token=token).status

    assert status("POST", CHAINS, "T-op", {"input": {}}) == 202
    assert status("POST", CHAINS, "T-ro", {"input": {}}) == 403
    for path in (RUNS, "/openapi.json", "/desk/runs"):
        assert status("GET", path, "T-ro") == 200
        assert status("GET", path) == 401
    assert status("GET", "/healthz") == 200
    assert status("GET", "/readyz") == 200
    assert app.ask("GET", "/openapi.json", token="T-ro").body["openapi"].startswith("3.1")


def test_a_run_is_cancelled_while_a_step_works(start, database_url, world):
    world.hold("/begin", "s1")
    app = start(database_url, world.url)
    run_id = app.trigger("k", steps=3)
    assert world.reached.wait(DEADLINE_S)

    assert app.ask("POST", f"{RUNS}/{run_id}/cancel", {"reason": "not wanted"}).status == 202

    assert app.ended(run_id)["run"]["status"] == "cancelled"


def test_what_a_frozen_process_does_when_it_wakes_up_changes_nothing(start, database_url, world):
    world.hold("/effect", "s1")
    frozen = start(database_url, world.url, LEASE_S="1")
    run_id = frozen.trigger("k", steps=3)
    assert world.reached.wait(DEADLINE_S)
    frozen.signal(signal.SIGSTOP)
    other = start(database_url, world.url, "two", LEASE_S="1")
    ended = other.ended(run_id)
    begun = world.count("/begin")

    world.release.set()
    frozen.signal(signal.SIGCONT)
    later = frozen.trigger("later", steps=1)

    assert frozen.ended(later)["run"]["status"] == "succeeded"  # awake, and at work under a new epoch
    assert frozen.run(run_id) == ended
    assert nonces(ended)[1] == world.nonces["k", "s1"][-1]
    assert {step: times for step, times in world.count("/begin").items() if step[0] == "k"} == begun
