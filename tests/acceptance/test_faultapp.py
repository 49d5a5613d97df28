"""The fault app as a real process, killed in the middle of chains: what was acknowledged is neither lost nor done again."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from workflow_runs.testing.ledger import Ledger

DEADLINE_S = 60.0


@pytest.fixture
def world():
    with Ledger().running() as ledger:
        yield ledger


def trigger(app, key: str, steps: int, work_ms: int = 0) -> str:
    asked = {"steps": steps, "key": key, "work_ms": work_ms}
    return app.trigger("faults.chain", asked, correlationId=key, idempotencyKey=key)


def nonces(detail: dict[str, Any]) -> list[str]:
    return [out["nonce"] for out in detail["run"]["result"]["outs"]]


def test_a_chain_has_one_effect_per_step_and_tells_them_in_its_result(start_fault_app, database_url, world):
    app = start_fault_app(database_url, LEDGER=world.url)

    detail = app.ended(trigger(app, "k", steps=5))

    assert detail["run"]["status"] == "succeeded"
    assert detail["run"]["correlationId"] == "k"
    assert nonces(detail) == [world.nonces["k", f"s{i}"][0] for i in range(5)]
    assert set(world.count("/effect").values()) == {1}


def test_a_chain_without_an_outside_world_makes_its_nonces_up(start_fault_app, sqlite_url):
    app = start_fault_app(sqlite_url)

    assert len(set(nonces(app.ended(trigger(app, "k", steps=3))))) == 3
    assert app.ran("faults.chain", {"other": 1})["run"]["result"] == {"outs": []}


@pytest.mark.parametrize("executor", ["one", "two"], ids=["restarted under its name", "followed by another"])
@pytest.mark.parametrize(
    ("path", "effects"), [("/begin", 1), ("/effect", 2)], ids=["before its effect", "with its effect unanswered"]
)
def test_a_chain_killed_within_a_step_repeats_that_step_alone(
    start_fault_app, database_url, world, path, effects, executor
):
    world.hold(path, "s2")
    app = start_fault_app(database_url, LEDGER=world.url, EXECUTOR="one")
    run_id = trigger(app, "k", steps=5)
    assert world.reached.wait(DEADLINE_S)
    assert app.stop(signal.SIGKILL) == -signal.SIGKILL
    world.release.set()

    detail = start_fault_app(database_url, LEDGER=world.url, EXECUTOR=executor).ended(run_id)

    assert detail["run"]["status"] == "succeeded"
    begun = world.count("/begin")
    assert begun == {("k", f"s{i}"): 2 if i == 2 else 1 for i in range(5)}
    assert world.count("/effect")["k", "s2"] == effects
    assert nonces(detail) == [world.nonces["k", f"s{i}"][-1] for i in range(5)]


def test_no_acknowledged_run_is_lost_when_many_are_in_flight_at_the_kill(start_fault_app, database_url, world):
    world.hold("/begin", "s3")
    app = start_fault_app(database_url, LEDGER=world.url)
    keys = [f"k{i}" for i in range(40)]
    with ThreadPoolExecutor(20) as pool:
        acknowledged = dict(zip(keys, pool.map(lambda key: trigger(app, key, steps=6, work_ms=5), keys), strict=True))
    assert world.reached.wait(DEADLINE_S)
    app.stop(signal.SIGKILL)
    world.release.set()
    with world.lock:
        begun_before = [(call.key, int(call.step[1:])) for call in world.calls if call.path == "/begin"]

    again = start_fault_app(database_url, LEDGER=world.url)
    details = {key: again.ended(run_id) for key, run_id in acknowledged.items()}

    assert {detail["run"]["status"] for detail in details.values()} == {"succeeded"}
    begun = world.count("/begin")
    # A step was completed, on record, if the next one had begun.
    completed = {(key, f"s{i}") for key, number in begun_before for i in range(number)}
    assert [step for step in completed if begun[step] != 1] == []
    for key, detail in details.items():
        made = [world.nonces[key, f"s{i}"] for i in range(6)]
        assert all(nonce in known for nonce, known in zip(nonces(detail), made, strict=True))


def test_a_resume_repeats_no_completed_step(start_fault_app, database_url, world):
    app = start_fault_app(database_url, LEDGER=world.url)
    world.failing.add("s2")
    failed = app.ended(trigger(app, "k", steps=4))
    assert failed["run"]["error"]["stepName"] == "s2"
    world.failing.clear()

    resumed = app.acted(failed["run"]["id"], "resume")

    assert resumed["run"]["status"] == "succeeded"
    assert set(world.count("/effect").values()) == {1}


def test_sigterm_lets_the_step_in_flight_end_and_hands_the_run_over(start_fault_app, database_url, world):
    world.hold("/effect", "s1")
    app = start_fault_app(database_url, LEDGER=world.url)
    run_id = trigger(app, "k", steps=4)
    assert world.reached.wait(DEADLINE_S)
    app.process.send_signal(signal.SIGTERM)
    world.release.set()
    assert app.process.wait(DEADLINE_S) == 0

    detail = start_fault_app(database_url, LEDGER=world.url, EXECUTOR="two").ended(run_id)

    assert detail["run"]["status"] == "succeeded"
    assert world.count("/begin") == {("k", f"s{i}"): 1 for i in range(4)}


def test_one_idempotency_key_makes_one_run(start_fault_app, database_url):
    app = start_fault_app(database_url)

    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(lambda _: trigger(app, "the key", steps=1), range(20)))

    assert len(ids) == 1
    assert app.get("/v1/admin/workflow-runs").json()["total"] == 1


@pytest.mark.parametrize("payload", ["plain", "<script>alert(1)</script>", "x" * 1000, "a/b?c=%2F", "\u202eevil"])
def test_echo_says_the_payload_and_fails(start_fault_app, sqlite_url, payload):
    app = start_fault_app(sqlite_url)

    detail = app.ran("faults.echo", {"payload": payload})

    assert detail["run"]["status"] == "failed"
    assert detail["run"]["error"]["message"] == payload
    assert detail["steps"][0]["output"] == payload


def test_tokens_open_what_they_say(start_fault_app, sqlite_url):
    app = start_fault_app(sqlite_url, TOKEN="T")
    operator, reader = {"Authorization": "Bearer T-op"}, {"Authorization": "Bearer T-ro"}
    path = "/v1/admin/workflows/faults.chain/runs"

    assert app.post(path, {"input": {}}, headers=operator).status_code == 202
    assert app.post(path, {"input": {}}, headers=reader).status_code == 403
    assert app.get("/v1/admin/workflow-runs", headers=reader).status_code == 200
    assert app.get("/v1/admin/workflow-runs").status_code == 401
    assert app.get("/healthz").status_code == 200
    assert app.get("/readyz").status_code == 200
    assert app.get("/desk/runs").status_code == 401
    assert app.get("/desk/runs", headers=reader).status_code == 200
    assert app.get("/openapi.json").status_code == 401
    assert app.get("/openapi.json", headers=reader).json()["openapi"].startswith("3.1")


def test_a_run_is_cancelled_while_a_step_works(start_fault_app, database_url, world):
    world.hold("/begin", "s1")
    app = start_fault_app(database_url, LEDGER=world.url)
    run_id = trigger(app, "k", steps=3)
    assert world.reached.wait(DEADLINE_S)

    assert app.act(run_id, "cancel", {"reason": "not wanted"}).status_code == 202

    assert app.ended(run_id)["run"]["status"] == "cancelled"


def test_what_a_frozen_process_does_when_it_wakes_up_changes_nothing(start_fault_app, database_url, world):
    world.hold("/effect", "s1")
    frozen = start_fault_app(database_url, LEDGER=world.url, EXECUTOR="one", LEASE_S="1")
    run_id = trigger(frozen, "k", steps=3)
    assert world.reached.wait(DEADLINE_S)
    frozen.process.send_signal(signal.SIGSTOP)
    other = start_fault_app(database_url, LEDGER=world.url, EXECUTOR="two", LEASE_S="1")
    ended = other.ended(run_id)
    begun = world.count("/begin")

    world.release.set()
    frozen.process.send_signal(signal.SIGCONT)
    later = trigger(frozen, "later", steps=1)

    assert frozen.ended(later)["run"]["status"] == "succeeded"  # awake, and at work under a new epoch
    assert frozen.run(run_id) == ended
    assert nonces(ended)[1] == world.nonces["k", "s1"][-1]
    assert {step: times for step, times in world.count("/begin").items() if step[0] == "k"} == begun
