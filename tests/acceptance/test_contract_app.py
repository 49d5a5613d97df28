"""The contract app as a real process, over HTTP: each rule of its contract, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

STEPS = ["validate", "reserve", "charge", "notify", "close"]
NUMBERS = count(1)


@pytest.fixture(scope="module")
def app(start_contract_app, shared_url):
    """The tenant-surface server that executes."""
    server = start_contract_app(shared_url)
    assert server.get("/healthz").status_code == 200
    return server


@pytest.fixture
def fresh() -> str:
    """A name that no other test uses, for gates and probes."""
    return f"name-{next(NUMBERS)}"


def names(detail: dict[str, Any]) -> list[str]:
    return [step["stepName"] for step in detail["steps"]]


def statuses(detail: dict[str, Any]) -> list[str]:
    return [step["status"] for step in detail["steps"]]


def outputs(detail: dict[str, Any]) -> dict[str, Any]:
    return {step["stepName"]: step["output"] for step in detail["steps"]}


def open_gate(app, gate: str) -> None:
    assert app.ran("conf-open-gate", {"gate": gate})["run"]["result"] == {"opened": gate}


# --- the five-step workflow ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["conf-safe", "conf-unsafe", "conf-resume-only", "conf-guarded", "conf%20with%20space", "conf%2Fslash"]
)
def test_five_steps_run_in_order_and_the_last_sees_the_outputs_of_the_others(app, name):
    detail = app.ran(name)

    assert detail["run"]["status"] == "succeeded"
    assert names(detail) == STEPS
    assert statuses(detail) == ["succeeded"] * 5
    assert detail["run"]["result"] == {"executed": STEPS}
    recorded = outputs(detail)
    assert all(recorded[step].keys() == {"step", "nonce"} for step in STEPS[:4])
    assert recorded["close"]["saw"] == {step: recorded[step] for step in STEPS[:4]}


def test_the_run_can_be_read_before_it_has_ended(app, fresh):
    run_id = app.trigger("conf-safe", {"hold": {"reserve": fresh}})

    assert app.run(run_id)["run"]["status"] == "running"
    open_gate(app, fresh)
    assert app.ended(run_id)["run"]["status"] == "succeeded"


def test_a_step_that_is_held_is_seen_running(app, fresh, until):
    run_id = app.trigger("conf-unsafe", {"hold": {"charge": fresh}})

    until(lambda: statuses(app.run(run_id)) == ["succeeded", "succeeded", "running"])
    open_gate(app, fresh)
    assert app.ended(run_id)["run"]["result"] == {"executed": STEPS}


def test_a_failing_step_fails_the_run_with_its_message_and_name(app):
    detail = app.ran("conf-safe", {"fail": {"charge": None}})

    assert names(detail) == STEPS[:3]
    assert statuses(detail) == ["succeeded", "succeeded", "failed"]
    assert detail["steps"][2]["error"]["message"] == "charge failed on purpose"
    assert detail["run"]["status"] == "failed"
    assert detail["run"]["error"]["message"] == "charge failed on purpose"
    assert detail["run"]["error"]["stepName"] == "charge"


@pytest.mark.parametrize(
    "input", [None, [], "text", 7, {"unknown": 1}, {"fail": [], "hold": 3, "compensate": "x"}], ids=repr
)
def test_what_is_no_knob_has_no_effect(app, input):
    run_id = app.post("/v1/admin/workflows/conf-safe/runs", {"input": input}).json()["data"]["runId"]
    detail = app.ended(run_id)

    assert detail["run"]["result"] == {"executed": STEPS}
    assert detail["run"]["input"] == input


@pytest.mark.parametrize("output", [None, False, 0, 1.5, "text", [], {"a": [1, {"b": None}]}], ids=repr)
def test_a_step_gives_the_output_that_the_input_says(app, output):
    detail = app.ran("conf-safe", {"outputs": {"reserve": output, "close": output}})

    assert outputs(detail)["reserve"] == output
    assert outputs(detail)["close"] == output


def test_a_run_ends_as_cancelled_after_the_step_that_the_input_says(app):
    detail = app.ran("conf-safe", {"cancelAfter": "reserve"})

    assert detail["run"]["status"] == "cancelled"
    assert detail["run"]["error"]["message"] == "cancelled on purpose"
    assert statuses(detail) == ["succeeded", "succeeded"]


def test_steps_are_compensated_when_the_run_fails_and_then_it_cannot_be_resumed(app):
    detail = app.ran("conf-safe", {"fail": {"notify": None}, "compensate": ["reserve", "charge", "notify", "close"]})

    assert statuses(detail) == ["succeeded", "compensated", "compensated", "failed"]
    assert detail["run"]["status"] == "failed"
    refused = app.act(detail["run"]["id"], "resume")
    assert (refused.status_code, refused.json()["error"]) == (409, "incomplete_prior_step")


def test_a_run_that_fails_outside_any_step_cannot_be_resumed(app):
    detail = app.ran("conf-safe", {"failOutside": True})

    assert statuses(detail) == ["succeeded"] * 5
    assert detail["run"]["error"]["message"] == "failed outside any step on purpose"
    assert detail["run"]["error"]["stepName"] is None
    refused = app.act(detail["run"]["id"], "resume")
    assert (refused.status_code, refused.json()["error"]) == (409, "no_failed_step")


def test_a_probe_counts_the_bodies_that_were_executed(app, fresh):
    app.ran("conf-safe", {"probe": fresh, "fail": {"charge": None}})

    counted = app.ran("conf-probe", {"probe": fresh})
    assert counted["run"]["result"] == {"counts": {"validate": 1, "reserve": 1, "charge": 1}}
    assert app.ran("conf-probe", {"probe": "nobody's"})["run"]["result"] == {"counts": {}}


# --- resume and rerun ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conf-safe", "conf-unsafe", "conf-resume-only"])
def test_a_resume_keeps_what_was_done_and_executes_the_rest(app, fresh, name):
    knobs = {"fail": {"charge": fresh}, "probe": fresh}
    failed = app.ran(name, knobs, correlationId="order-1", tags=["b", "a"])
    open_gate(app, fresh)

    resumed = app.acted(failed["run"]["id"], "resume", headers={"X-Conformance-User": "user-2"})

    run = resumed["run"]
    assert (run["status"], run["trigger"], run["input"]) == ("succeeded", "manual.resume", knobs)
    assert (run["correlationId"], run["tags"]) == ("order-1", ["b", "a", "resume:true"])
    assert (run["parentRunId"], run["resumeFromStep"]) == (failed["run"]["id"], "charge")
    assert run["triggeredByUserId"] == "user-2"
    assert run["result"] == {"executed": STEPS[2:]}
    assert names(resumed) == STEPS
    assert statuses(resumed) == ["skipped", "skipped", "succeeded", "succeeded", "succeeded"]
    kept, before = outputs(resumed), outputs(failed)
    assert (kept["validate"], kept["reserve"]) == (before["validate"], before["reserve"])
    assert kept["close"]["saw"] == {step: kept[step] for step in STEPS[:4]}
    counted = app.ran("conf-probe", {"probe": fresh})["run"]["result"]["counts"]
    assert counted == {"validate": 1, "reserve": 1, "charge": 2, "notify": 1, "close": 1}


def test_a_resume_of_a_resume_keeps_the_steps_of_both(app, fresh):
    first = app.ran("conf-safe", {"fail": {"reserve": f"{fresh}-1", "notify": f"{fresh}-2"}})
    open_gate(app, f"{fresh}-1")
    second = app.acted(first["run"]["id"], "resume")
    open_gate(app, f"{fresh}-2")
    third = app.acted(second["run"]["id"], "resume")

    assert statuses(second) == ["skipped", "succeeded", "succeeded", "failed"]
    assert statuses(third) == ["skipped", "skipped", "skipped", "succeeded", "succeeded"]
    assert outputs(third)["close"]["saw"]["charge"] == outputs(second)["charge"]


def test_a_rerun_starts_again_with_the_recorded_input(app):
    parent = app.ran("conf-safe", {"outputs": {"validate": 1}}, correlationId="order-2", tags=["x"])

    rerun = app.acted(parent["run"]["id"], "rerun", headers={"X-Conformance-User": "user-3"})

    run = rerun["run"]
    assert (run["trigger"], run["input"]) == ("manual.rerun", {"outputs": {"validate": 1}})
    assert (run["correlationId"], run["tags"]) == ("order-2", ["x", "rerun:true"])
    assert (run["parentRunId"], run["triggeredByUserId"]) == (parent["run"]["id"], "user-3")
    assert run["resumeFromStep"] is None
    assert run["result"] == {"executed": STEPS}


def test_only_a_confirmed_rerun_of_an_unsafe_workflow_happens(app):
    run_id = app.ran("conf-unsafe")["run"]["id"]

    refused = app.act(run_id, "rerun", {"confirm": False})

    assert (refused.status_code, refused.json()["error"]) == (409, "confirmation_required")
    assert app.acted(run_id, "rerun", {"confirm": True})["run"]["status"] == "succeeded"


def test_a_resume_only_workflow_is_not_rerun(app):
    refused = app.act(app.ran("conf-resume-only")["run"]["id"], "rerun", {"confirm": True})

    assert (refused.status_code, refused.json()["error"]) == (409, "rerun_not_allowed")


@pytest.mark.parametrize(("name", "body"), [("conf-guarded", None), ("conf-guarded-unsafe", {"confirm": True})])
def test_the_guard_refuses_with_its_reason(app, name, body):
    run_id = app.ran(name, {"blockRerun": "the books are closed"})["run"]["id"]

    refused = app.act(run_id, "rerun", body)

    assert (refused.status_code, refused.json()["error"]) == (409, "rerun_blocked")
    assert refused.json()["detail"] == "the books are closed"


def test_the_guard_allows_what_it_has_nothing_against(app):
    assert app.acted(app.ran("conf-guarded")["run"]["id"], "rerun")["run"]["status"] == "succeeded"


def test_a_guard_that_raises_is_a_fault_of_its_own_and_shows_no_message(app):
    run_id = app.ran("conf-guarded", {"guardThrows": True})["run"]["id"]

    failed = app.act(run_id, "rerun")

    assert (failed.status_code, failed.json()["error"]) == (500, "guard_failed")
    assert "on purpose" not in failed.text


# --- the other runners -----------------------------------------------------------------------------------------------


def test_a_trigger_handler_that_raises_records_nothing(app):
    failed = app.post("/v1/admin/workflows/conf-trigger-fails/runs", {"input": {}})

    assert failed.status_code == 500
    assert (failed.json()["error"], failed.json()["detail"]) == ("trigger_failed", "trigger handler failed on purpose")
    assert app.get("/v1/admin/workflow-runs", params={"workflowName": "conf-trigger-fails"}).json()["total"] == 0


@pytest.mark.parametrize("action", ["rerun", "resume"])
def test_a_handler_that_raises_records_nothing_and_leaves_no_claim(app, action):
    name = f"conf-{action}-fails"
    run_id = app.ran(name, {"fail": {"charge": None}})["run"]["id"]

    for _ in range(2):
        failed = app.act(run_id, action)
        assert failed.status_code == 500
        assert (failed.json()["error"], failed.json()["detail"]) == (
            f"{action}_failed",
            f"{action} handler failed on purpose",
        )
    assert app.get("/v1/admin/workflow-runs", params={"parentRunId": run_id}).json()["total"] == 0


def test_a_runner_without_trigger_handler_is_not_triggered(app):
    refused = app.post("/v1/admin/workflows/conf-no-trigger/runs", {"input": {}})

    assert (refused.status_code, refused.json()["error"]) == (501, "trigger_not_supported")


def test_runs_under_a_name_that_nobody_registers_are_shown_and_not_acted_on(app):
    orphan = app.ran("conf-make-orphan", {"fail": {"charge": None}})

    assert orphan["run"]["workflowName"] == "conf-orphan"
    for action in ("rerun", "resume"):
        refused = app.act(orphan["run"]["id"], action)
        assert (refused.status_code, refused.json()["error"]) == (501, "runner_not_registered")


def test_echo_tells_what_its_handler_was_handed(app, fresh):
    handed = {"correlationId": "c-1", "tags": ["t1", "t2"], "idempotencyKey": fresh}
    run_id = app.post(
        "/v1/admin/workflows/conf-echo/runs", {"input": {"a": 1}, **handed}, headers={"X-Conformance-User": "user-1"}
    ).json()["data"]["runId"]

    detail = app.ended(run_id)

    assert outputs(detail) == {"echo": {"received": {"a": 1}}}
    assert detail["run"]["result"] == {"received": {"a": 1}, **handed, "triggeredByUserId": "user-1"}
    again = app.acted(run_id, "rerun")["run"]["result"]
    assert again == {"received": {"a": 1}, **handed, "idempotencyKey": None, "triggeredByUserId": None}


def test_echo_was_handed_nothing_where_there_was_nothing(app):
    assert app.ran("conf-echo", "plain")["run"]["result"] == {
        "received": "plain",
        "correlationId": None,
        "tags": [],
        "idempotencyKey": None,
        "triggeredByUserId": None,
    }


def test_the_openapi_document_is_served(app):
    document = app.get("/openapi.json").json()

    assert document["openapi"].startswith("3.1")
    assert "/v1/admin/workflow-runs/{runId}/resume" in document["paths"]


# --- several processes -----------------------------------------------------------------------------------------------


def test_fifty_simultaneous_resumes_at_two_servers_make_one_run(app, start_contract_app, shared_url, fresh):
    other = start_contract_app(shared_url)
    failed = app.ran("conf-unsafe", {"fail": {"charge": fresh}})["run"]["id"]
    for server in (app, other):  # whichever gets it: a resume that fails would leave room for another one
        open_gate(server, fresh)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda i: (app, other)[i % 2].act(failed, "resume"), range(50)))

    accepted = [answer.json()["data"]["runId"] for answer in answers if answer.status_code == 202]
    refused = [answer.json() for answer in answers if answer.status_code != 202]
    assert len(accepted) == 1
    assert {(answer["error"], answer["runId"]) for answer in refused} == {("already_resumed", accepted[0])}
    children = app.get("/v1/admin/workflow-runs", params={"parentRunId": failed}).json()
    assert [run["id"] for run in children["data"]] == accepted


@pytest.mark.parametrize(
    ("flags", "status", "code"),
    [
        (["--surface", "cloud"], 403, "workflow_admin_surface_restricted"),
        (["--surface", "disabled"], 403, "workflow_admin_surface_restricted"),
        (["--no-registry"], 501, "trigger_not_configured"),
    ],
    ids=["cloud", "disabled", "no registry"],
)
def test_a_server_that_does_not_act_shows_what_the_others_did(app, start_contract_app, shared_url, flags, status, code):
    reader = start_contract_app(shared_url, *flags)
    run_id = app.ran("conf-safe")["run"]["id"]

    assert reader.run(run_id) == app.run(run_id)
    refused = reader.post("/v1/admin/workflows/conf-safe/runs", {"input": {}})
    assert (refused.status_code, refused.json()["error"]) == (status, code)


def test_runs_of_a_server_that_stopped_are_gone_on_with_by_another_but_not_by_a_reader(
    start_contract_app, database_url, until
):
    first = start_contract_app(database_url)
    run_id = first.trigger("conf-safe", {"hold": {"reserve": "never opened there"}})
    until(lambda: statuses(first.run(run_id)) == ["succeeded", "running"])
    reader = start_contract_app(database_url, "--no-registry")
    assert reader.run(run_id)["run"]["status"] == "running"
    first.process.kill()
    second = start_contract_app(database_url)
    until(lambda: second.run(run_id)["run"]["status"] == "running")
    open_gate(second, "never opened there")

    detail = second.ended(run_id)

    assert detail["run"]["status"] == "succeeded"
    assert detail["run"]["result"] == {"executed": STEPS}


def test_several_may_start_at_once_on_an_empty_database(start_contract_app, database_url):
    servers = [start_contract_app(database_url) for _ in range(3)]

    run_id = servers[0].trigger("conf-safe")

    assert [server.ended(run_id)["run"]["status"] for server in servers] == ["succeeded"] * 3
    assert [server.stop() for server in servers] == [0, 0, 0]


# --- who may do what -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(start_contract_app, shared_url):
    """A server with tokens."""
    return start_contract_app(shared_url, "--token", "T-1", "--key-no-trigger", "K-1", "--key-trigger", "K-2")


@pytest.mark.parametrize(
    ("authorization", "reads", "triggers", "reruns"),
    [
        ("Bearer T-1", 200, 202, 202),
        ("Bearer K-1", 200, 403, 403),
        ("Bearer K-2", 200, 202, 403),
        ("Bearer nobody", 401, 401, 401),
        (None, 401, 401, 401),
    ],
)
def test_a_token_opens_what_it_was_made_for(guarded, until, authorization, reads, triggers, reruns):
    headers = {"Authorization": authorization} if authorization else {}
    full = {"Authorization": "Bearer T-1"}
    runs = "/v1/admin/workflows/conf-safe/runs"
    made = guarded.post(runs, {"input": {}}, headers=full).json()["data"]["runId"]
    until(lambda: guarded.get(f"/v1/admin/workflow-runs/{made}", headers=full).json()["data"]["run"]["completedAt"])

    assert guarded.get("/v1/admin/workflow-runs", headers=headers).status_code == reads
    assert guarded.get("/openapi.json", headers=headers).status_code == reads
    assert guarded.post(runs, {"input": {}}, headers=headers).status_code == triggers
    assert guarded.act(made, "rerun", headers=headers).status_code == reruns
    assert guarded.get("/healthz").status_code == 200
