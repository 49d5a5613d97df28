"""Trigger, rerun, resume and cancel over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from workflow_runs.model.entries import GapNoted

BASE = "/v1/admin"


def post(client, path, body=None, **headers):
    """Post a body, or none at all."""
    return client.post(BASE + path, headers=headers, **({} if body is None else {"json": body}))


def code(answer):
    return answer.status_code, answer.json()["error"]


def finished(shop, run_id):
    shop.runs.wait(run_id, 20)
    return shop.client().get(f"{BASE}/workflow-runs/{run_id}").json()["data"]


# --- trigger ---------------------------------------------------------------------------------------------------------


def test_a_trigger_answers_with_an_id_that_can_be_read_at_once(new_shop):
    client = new_shop.client()
    answer = post(client, "/workflows/safe/runs", {"input": {"hold": True}})
    assert answer.status_code == 202
    data = answer.json()["data"]
    assert (data["workflowName"], data["status"]) == ("safe", "queued")
    run = client.get(f"{BASE}/workflow-runs/{data['runId']}").json()["data"]["run"]
    assert run["status"] == "running"
    new_shop.gate.set()
    assert finished(new_shop, data["runId"])["run"]["status"] == "succeeded"


def test_an_absent_input_is_an_empty_object_and_null_is_null(shop):
    client = shop.client()
    absent = post(client, "/workflows/safe/runs", {}).json()["data"]["runId"]
    null = post(client, "/workflows/safe/runs", {"input": None}).json()["data"]["runId"]
    assert finished(shop, absent)["run"]["input"] == {}
    assert finished(shop, null)["run"]["input"] is None


def test_a_name_with_space_and_slash_is_one_segment(shop):
    answer = post(shop.client(), "/workflows/with%20space%2Fand%20slash/runs", {})
    assert answer.json()["data"]["workflowName"] == "with space/and slash"


def test_a_typed_input_that_does_not_fit_is_a_400(shop):
    answer = post(shop.client(), "/workflows/typed/runs", {"input": "seven"})
    assert code(answer) == (400, "invalid_request")
    assert "seven" not in answer.text
    assert post(shop.client(), "/workflows/typed/runs", {"input": 7}).status_code == 202


def test_what_cannot_be_triggered_says_so(shop):
    assert code(post(shop.client(), "/workflows/nobody/runs", {})) == (404, "runner_not_registered")
    assert code(post(shop.client(), "/workflows/no-handlers/runs", {})) == (501, "trigger_not_supported")


def test_a_handler_that_raises_says_why(shop):
    answer = post(shop.client(), "/workflows/handlers-raise/runs", {"input": "x"})
    assert code(answer) == (500, "trigger_failed")
    assert answer.json()["detail"] == "handler failed: x"


def test_a_principal_without_an_id_acts_as_nobody(shop):
    run_id = post(shop.client("trigger"), "/workflows/safe/runs", {}).json()["data"]["runId"]
    assert finished(shop, run_id)["run"]["triggeredByUserId"] is None


# --- idempotency keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["key-1", '"key-1"', ' "key-1" '])
def test_a_key_in_the_header_is_the_key_in_the_body(new_shop, header):
    client = new_shop.client()
    first = post(client, "/workflows/safe/runs", {"input": 1, "idempotencyKey": "key-1"})
    again = post(client, "/workflows/safe/runs", {"input": 1}, **{"Idempotency-Key": header})
    assert (again.status_code, again.json()) == (202, first.json())
    assert client.get(f"{BASE}/workflow-runs").json()["total"] == 1
    assert finished(new_shop, first.json()["data"]["runId"])["run"]["idempotencyKey"] == "key-1"


def test_a_key_with_another_request_is_a_422(shop):
    client = shop.client()
    post(client, "/workflows/safe/runs", {"input": 1, "idempotencyKey": "key-2"})
    for other in ({"input": 2}, {"input": 1, "tags": ["t"]}, {"input": 1, "correlationId": "c"}):
        assert code(post(client, "/workflows/safe/runs", {**other, "idempotencyKey": "key-2"})) == (
            422,
            "idempotency_key_reused",
        )
    assert post(client, "/workflows/unsafe/runs", {"input": 2, "idempotencyKey": "key-2"}).status_code == 202


@pytest.mark.parametrize("header", ["", "   ", '""', "k" * 256, "a\tb"])
def test_a_key_that_is_none_is_refused(shop, header):
    answer = post(shop.client(), "/workflows/safe/runs", {}, **{"Idempotency-Key": header})
    assert code(answer) == (400, "invalid_request")
    assert answer.json()["field"] == "Idempotency-Key"


def test_header_and_body_must_not_differ(shop):
    answer = post(shop.client(), "/workflows/safe/runs", {"idempotencyKey": "a"}, **{"Idempotency-Key": "b"})
    assert code(answer) == (400, "invalid_request")
    same = post(shop.client(), "/workflows/safe/runs", {"idempotencyKey": "a3"}, **{"Idempotency-Key": '"a3"'})
    assert same.status_code == 202


def test_a_key_that_is_not_ascii_is_the_same_in_header_and_body(shop):
    first = post(shop.client(), "/workflows/safe/runs", {"idempotencyKey": "schlüssel"})
    again = post(shop.client(), "/workflows/safe/runs", {}, **{"Idempotency-Key": "schlüssel".encode()})
    assert first.json() == again.json()


def test_many_requests_with_one_key_are_one_run(new_shop):
    client = new_shop.client()

    def send(_):
        return post(client, "/workflows/safe/runs", {"idempotencyKey": "once"}).json()["data"]["runId"]

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(send, range(24)))) == 1
    assert client.get(f"{BASE}/workflow-runs").json()["total"] == 1


# --- rerun -----------------------------------------------------------------------------------------------------------


def test_a_rerun_keeps_input_tags_and_correlation(new_shop):
    parent = new_shop.run("safe", {"a": 1}, correlationId="c", tags=["t"])
    answer = post(new_shop.client(), f"/workflow-runs/{parent}/rerun", {"reason": "once more"})
    assert (answer.status_code, answer.json()["data"]["parentRunId"]) == (202, parent)
    run = finished(new_shop, answer.json()["data"]["runId"])["run"]
    assert (run["trigger"], run["parentRunId"], run["rootRunId"]) == ("manual.rerun", parent, parent)
    assert (run["input"], run["correlationId"], run["tags"]) == ({"a": 1}, "c", ["t", "rerun:true"])


def test_an_unsafe_rerun_wants_true(shop):
    parent = shop.run("unsafe")
    for body in (None, {}, {"confirm": False}):
        answer = post(shop.client(), f"/workflow-runs/{parent}/rerun", body)
        assert code(answer) == (409, "confirmation_required")
        assert answer.json()["idempotency"] == "unsafe"
    assert post(shop.client(), f"/workflow-runs/{parent}/rerun", {"confirm": True}).status_code == 202


def test_a_rerun_is_refused_where_it_must_be(shop):
    client = shop.client()
    held = post(client, "/workflows/safe/runs", {"input": {"hold": True}}).json()["data"]["runId"]
    assert code(post(client, f"/workflow-runs/{held}/rerun")) == (409, "run_not_finished")
    assert post(client, f"/workflow-runs/{held}/cancel").status_code == 202
    shop.gate.set()
    assert code(post(client, f"/workflow-runs/{shop.run('resume-only')}/rerun")) == (409, "rerun_not_allowed")
    guarded = post(client, f"/workflow-runs/{shop.run('guarded')}/rerun")
    assert (code(guarded), guarded.json()["detail"]) == ((409, "rerun_blocked"), "not for ada")
    raising = post(client, f"/workflow-runs/{shop.run('guard-raises')}/rerun")
    assert code(raising) == (500, "guard_failed")
    assert "secret" not in raising.text


def test_a_rerun_with_a_key_is_answered_the_same_again(shop):
    parent = shop.run("safe")
    path = f"/workflow-runs/{parent}/rerun"
    first = post(shop.client(), path, {"reason": "r"}, **{"Idempotency-Key": "k"})
    assert post(shop.client(), path, {"reason": "r"}, **{"Idempotency-Key": '"k"'}).json() == first.json()
    assert code(post(shop.client(), path, {"reason": "s"}, **{"Idempotency-Key": "k"})) == (
        422,
        "idempotency_key_reused",
    )


# --- resume ----------------------------------------------------------------------------------------------------------


def test_a_resume_keeps_what_was_done(new_shop):
    parent = new_shop.run("safe", {"fail": "x"}, tags=["t"])
    before = new_shop.client().get(f"{BASE}/workflow-runs/{parent}").json()["data"]
    answer = post(new_shop.client(), f"/workflow-runs/{parent}/resume")
    assert answer.status_code == 202
    data = answer.json()["data"]
    assert (data["parentRunId"], data["resumeFromStep"]) == (parent, "second")
    shown = finished(new_shop, data["runId"])
    run, steps = shown["run"], shown["steps"]
    assert (run["trigger"], run["resumeFromStep"], run["tags"]) == ("manual.resume", "second", ["t", "resume:true"])
    assert [(step["status"], step["origin"]) for step in steps] == [("skipped", "seeded"), ("failed", "executed")]
    assert steps[0]["output"] == before["steps"][0]["output"]
    assert new_shop.client().get(f"{BASE}/workflow-runs/{parent}").json()["data"] == before


def test_a_gap_has_to_be_accepted_in_so_many_words(shop):
    client = shop.client()
    run_id = shop.run("safe", {"fail": "x"})
    shop.runs.journal.submit(GapNoted(run_id)).result()
    path = f"/workflow-runs/{run_id}/resume"
    assert code(post(client, path)) == (409, "record_has_gap")
    assert code(post(client, path, {"acceptGap": "true"})) == (400, "invalid_body")
    assert code(post(client, path, {"acceptGap": False})) == (409, "record_has_gap")
    plan = f"{BASE}/workflow-runs/{run_id}/plan"
    assert client.get(plan).json()["data"]["refused"]["code"] == "record_has_gap"
    planned = client.get(f"{plan}?acceptGap=true").json()["data"]
    assert planned["refused"] is None
    assert post(client, path, {"acceptGap": True, "planHash": planned["hash"]}).status_code == 202


def test_a_resume_is_refused_where_it_must_be(shop):
    client = shop.client()
    assert code(post(client, f"/workflow-runs/{shop.run('safe')}/resume")) == (409, "resume_not_allowed")
    assert code(post(client, f"/workflow-runs/{shop.run('safe', {'cancel': True})}/resume")) == (
        409,
        "resume_not_allowed",
    )
    failed = shop.run("safe", {"fail": "x"})
    assert code(post(client, f"/workflow-runs/{failed}/resume", {"fromStep": "nope"})) == (400, "invalid_body")
    assert code(post(client, f"/workflow-runs/{failed}/resume", {"planHash": "old"})) == (409, "plan_changed")
    blocked = post(client, f"/workflow-runs/{shop.run('guarded', {'fail': 'x'})}/resume")
    assert (code(blocked), blocked.json()["detail"]) == ((409, "resume_blocked"), "not for ada")


def test_a_resume_with_the_hash_of_its_plan_does_what_was_planned(shop):
    failed = shop.run("safe", {"fail": "x"})
    plan = shop.client().get(f"{BASE}/workflow-runs/{failed}/plan?fromStep=first").json()["data"]
    answer = post(shop.client(), f"/workflow-runs/{failed}/resume", {"planHash": plan["hash"], "fromStep": "first"})
    assert (answer.status_code, answer.json()["data"]["resumeFromStep"]) == (202, plan["target"])


def test_simultaneous_resumes_are_one_run(new_shop):
    client = new_shop.client()
    failed = new_shop.run("safe", {"fail": "x", "stall": True})

    def resume(_):
        return post(client, f"/workflow-runs/{failed}/resume")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(resume, range(24)))
    accepted = [answer.json()["data"]["runId"] for answer in answers if answer.status_code == 202]
    assert {code(answer) for answer in answers if answer.status_code != 202} == {(409, "already_resumed")}
    assert {answer.json()["runId"] for answer in answers if answer.status_code == 409} == set(accepted)
    children = client.get(f"{BASE}/workflow-runs?parentRunId={failed}").json()["data"]
    assert accepted == [child["id"] for child in children]


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_a_running_run_is_cancelled_once(new_shop):
    client = new_shop.client()
    run_id = post(client, "/workflows/patient/runs", {}).json()["data"]["runId"]
    answer = post(client, f"/workflow-runs/{run_id}/cancel", {"reason": "wrong order"})
    assert (answer.status_code, answer.json()["data"]["runId"]) == (202, run_id)
    assert answer.json()["data"]["status"] in {"running", "cancelled"}
    assert finished(new_shop, run_id)["run"]["status"] == "cancelled"
    assert code(post(client, f"/workflow-runs/{run_id}/cancel")) == (409, "cancel_not_allowed")


def test_a_run_that_has_ended_is_not_cancelled(shop):
    assert code(post(shop.client(), f"/workflow-runs/{shop.run()}/cancel")) == (409, "cancel_not_allowed")
