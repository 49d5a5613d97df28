"""Lists, details, plans and workflows, as readers of each kind see them."""

from __future__ import annotations

import json

import pytest

from workflow_runs.clock import Clock
from workflow_runs.model.entries import StartRun
from workflow_runs.model.records import StepKey
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import RecordingMode, RunState
from workflow_runs.wire import cursor_text

BASE = "/v1/admin"


def listed(client, query=""):
    answer = client.get(f"{BASE}/workflow-runs{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def detail(client, run_id, query=""):
    answer = client.get(f"{BASE}/workflow-runs/{run_id}{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_a_run_is_shown_as_it_happened(new_shop):
    client = new_shop.client()
    run_id = new_shop.run("safe", {"fail": "no money", "more": [1.5, None]}, correlationId="ord_77", tags=["a:1", "b"])
    shown = detail(client, run_id)
    run, steps = shown["run"], shown["steps"]
    assert (run["id"], run["workflowName"], run["trigger"]) == (run_id, "safe", "api")
    assert (run["correlationId"], run["tags"], run["triggeredByUserId"]) == ("ord_77", ["a:1", "b"], "ada")
    assert (run["status"], run["state"]) == ("failed", "failed")
    assert run["input"] == {"fail": "no money", "more": [1.5, None]}
    assert run["error"] == {"message": "no money", "code": "E_CARD", "stepName": "second", "type": "_CardError"}
    assert run["result"] is run["parentRunId"] is run["resumeFromStep"] is None
    assert run["startedAt"] == run["createdAt"] <= run["completedAt"]
    assert [(step["stepName"], step["sequence"], step["status"]) for step in steps] == [
        ("first", 1, "succeeded"),
        ("second", 2, "failed"),
    ]
    assert steps[0]["output"] == {"ref": "r1"}
    assert steps[1]["error"]["message"] == "no money"
    assert all(step["runId"] == run_id and step["id"].startswith("wfrs_") for step in steps)


def test_a_list_item_and_a_detail_are_the_same_run(new_shop):
    client = new_shop.client()
    run_id = new_shop.run("safe", {"fail": "x"})
    assert listed(client)["data"] == [detail(client, run_id)["run"]]


def test_a_list_is_newest_first_and_paged_by_cursor_and_by_offset(new_shop):
    client = new_shop.client()
    ids = [new_shop.run() for _ in range(5)][::-1]
    page = listed(client, "?limit=2")
    assert [run["id"] for run in page["data"]] == ids[:2]
    assert (page["total"], page["limit"], page["offset"]) == (5, 2, 0)
    second = listed(client, f"?limit=2&cursor={page['nextCursor']}")
    assert [run["id"] for run in second["data"]] == ids[2:4]
    last = listed(client, f"?limit=2&cursor={second['nextCursor']}")
    assert ([run["id"] for run in last["data"]], last["nextCursor"]) == (ids[4:], None)
    by_offset = listed(client, "?limit=2&offset=3")
    assert ([run["id"] for run in by_offset["data"]], by_offset["offset"]) == (ids[3:], 3)


def test_filters_choose(new_shop):
    client = new_shop.client()
    good = new_shop.run("safe", {}, correlationId="c1", tags=["x", "y"])
    bad = new_shop.run("unsafe", {"fail": "x"}, tags=["x", "a,b"])
    started = detail(client, bad)["run"]["startedAt"]

    def ids(query):
        return {run["id"] for run in listed(client, query)["data"]}

    assert (
        ids("?workflowName=safe")
        == ids("?status=succeeded")
        == ids("?state=succeeded")
        == ids("?correlationId=c1")
        == {good}
    )
    assert ids("?status=failed&status=succeeded") == ids("?tag=x") == ids("?trigger=api") == {good, bad}
    assert ids("?tag=x&tag=y") == {good}
    assert ids("?tag=a%2Cb") == ids("?status=failed&workflowName=unsafe&workflowName=safe") == {bad}
    assert ids("?triggeredByUserId=ada&minDurationMs=0&maxDurationMs=60000") == {good, bad}
    assert ids(f"?startedUntil={started}") <= {good}
    assert bad in ids(f"?startedSince={started}")
    assert ids(f"?rootRunId={bad}") == {bad}
    assert ids("?parentRunId=none") == ids("?fingerprint=none") == set()
    fingerprint = detail(client, bad)["run"]["fingerprint"]
    assert ids(f"?fingerprint={fingerprint}") == {bad}


@pytest.mark.parametrize(
    "payload", [None, [], {}, 0, -1.5e300, "", "ü😀\u2028", True, [[[{}]]], {"": {" ": 1}}, 2**70, "<script>"]
)
def test_an_input_comes_back_equal(shop, payload):
    answer = shop.client().post(f"{BASE}/workflows/safe/runs", json={"input": payload})
    assert detail(shop.client(), answer.json()["data"]["runId"])["run"]["input"] == payload


def test_an_integer_of_many_digits_comes_back_digit_by_digit(shop):
    digits = "7" * 4_300
    answer = shop.client().post(
        f"{BASE}/workflows/safe/runs", content=f'{{"input": {digits}}}', headers={"content-type": "application/json"}
    )
    assert answer.status_code == 202, answer.text
    assert digits in shop.client().get(f"{BASE}/workflow-runs/{answer.json()['data']['runId']}").text


# --- rights ----------------------------------------------------------------------------------------------------------


def test_without_read_payload_payloads_are_null_everywhere(shop):
    run_id = shop.run("safe", {"fail": "hunter2", "output": "hunter2"})
    blind = shop.client("blind")
    shown = detail(blind, run_id, "?include=stack")
    assert shown["run"]["payloadsHidden"] is True
    assert shown["run"]["input"] is shown["run"]["error"] is None
    assert [step["output"] for step in shown["steps"]] == [step["error"] for step in shown["steps"]] == [None, None]
    assert [step["status"] for step in shown["steps"]] == ["succeeded", "failed"]
    whole = json.dumps(
        [shown, listed(blind), listed(blind, "?view=summary"), blind.get(f"{BASE}/workflow-runs/{run_id}/plan").json()]
    )
    assert "hunter2" not in whole


def test_a_wildcard_reads_payloads(shop):
    run_id = shop.run("safe", {"a": 1})
    assert detail(shop.client("wildcard"), run_id)["run"]["input"] == {"a": 1}


def test_a_principal_of_some_workflows_sees_the_others_nowhere(new_shop):
    mine, foreign = new_shop.run("safe"), new_shop.run("unsafe", {"fail": "x"})
    client = new_shop.client("safe-only")
    page = listed(client)
    assert ([run["id"] for run in page["data"]], page["total"]) == ([mine], 1)
    assert listed(client, "?workflowName=unsafe")["total"] == 0
    assert listed(client, "?workflowName=unsafe&workflowName=safe")["total"] == 1
    for method, path in (("GET", ""), ("GET", "/plan"), ("POST", "/rerun"), ("POST", "/resume"), ("POST", "/cancel")):
        answer = client.request(method, f"{BASE}/workflow-runs/{foreign}{path}")
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
        assert answer.json()["detail"] == client.request(method, f"{BASE}/workflow-runs/none{path}").json()["detail"]
    named, unnamed = (client.post(f"{BASE}/workflows/{name}/runs", json={}).json() for name in ("unsafe", "nobody"))
    assert {**named, "requestId": ""} == {**unnamed, "requestId": "", "workflowName": "unsafe"}
    assert [workflow["name"] for workflow in client.get(f"{BASE}/workflows").json()["data"]] == ["safe"]
    assert client.post(f"{BASE}/workflow-runs/{mine}/rerun").status_code == 202


def test_what_stands_in_the_way_of_a_resume_is_not_named_if_it_is_foreign(shop):
    run_id, other = shop.run("safe", {"fail": "x"}), Clock().new_run_id()
    parent = {"parent_run_id": run_id, "root_run_id": run_id, "chain_run_id": run_id}
    request = RunRequest("unsafe", "elsewhere", **parent, resume_from=StepKey("second"))
    shop.runs.journal.submit(StartRun(other, request, RunState.RUNNING, RecordingMode.OBSERVE)).result(20)
    path = f"{BASE}/workflow-runs/{run_id}"
    known, unknown = (
        (client.get(f"{path}/plan"), client.post(f"{path}/resume"))
        for client in (shop.client(), shop.client("safe-only"))
    )
    assert [other in answer.text for answer in known] == [True, True]
    assert [other in answer.text for answer in unknown] == [False, False]
    plan, refusal = (answer.json() for answer in unknown)
    assert plan["data"]["existingResumeRunId"] is None
    assert plan["data"]["refused"] == {"code": "already_resumed", "detail": "A resume of this run exists already."}
    assert (unknown[1].status_code, refusal["error"]) == (409, "already_resumed")


def test_a_principal_of_no_workflows_sees_nothing(shop):
    shop.run()
    client = shop.client("blinkered")
    assert listed(client) == {"data": [], "total": 0, "limit": 50, "offset": 0, "nextCursor": None}


# --- views -----------------------------------------------------------------------------------------------------------


def test_a_summary_says_where_and_why_without_payloads(shop):
    run_id = shop.run("safe", {"fail": "no money"})
    page = listed(shop.client(), f"?view=summary&rootRunId={run_id}")
    run = page["data"][0]
    assert "input" not in run
    assert "result" not in run
    assert (run["error"]["message"], run["error"]["stepName"]) == ("no money", "second")


def test_the_stack_is_shown_when_asked_for_and_names_no_path_outside(shop):
    run_id = shop.run("safe", {"fail": "x"})
    client = shop.client()
    assert "stack" not in detail(client, run_id)["run"]["error"]
    run = detail(client, run_id, "?include=stack")["run"]
    assert "_fail" in run["error"]["stack"]
    assert '"/' not in run["error"]["stack"]


def test_a_cursor_that_points_nowhere_is_the_end(shop):
    assert listed(shop.client(), f"?cursor={cursor_text('0')}")["data"] == []


# --- plans and workflows ---------------------------------------------------------------------------------------------


def test_a_plan_says_what_a_resume_keeps_and_executes(shop):
    run_id = shop.run("safe", {"fail": "x"})
    plan = shop.client().get(f"{BASE}/workflow-runs/{run_id}/plan").json()["data"]
    assert (plan["kind"], plan["runId"], plan["target"]) == ("resume", run_id, "second")
    assert (plan["kept"], plan["executed"]) == (["first"], ["second"])
    assert plan["refused"] is plan["existingResumeRunId"] is None
    assert (plan["codeChanged"], plan["idempotency"], plan["confirmRequired"]) == (False, "safe", False)
    assert plan["hash"]


@pytest.mark.parametrize("kind", ["resume", "rerun"])
@pytest.mark.parametrize(
    ("who", "surface", "code", "member"),
    [
        ("all", "cloud", "workflow_admin_surface_restricted", ("surface", "cloud")),
        ("reader", "disabled", "workflow_admin_surface_restricted", ("surface", "disabled")),
        ("reader", "tenant", "forbidden", ("scope", "workflows:retry")),
    ],
)
def test_a_plan_says_what_the_surface_and_the_rights_refuse(shop, kind, who, surface, code, member):
    run_id = shop.run("safe", {"fail": "x"})
    client = shop.client(who, admin_surface=surface)
    plan = client.get(f"{BASE}/workflow-runs/{run_id}/plan?kind={kind}").json()["data"]
    assert plan["refused"]["code"] == code
    assert plan["refused"][member[0]] == member[1]
    assert plan["executed"] == (["second"] if kind == "resume" else ["first", "second"])


def test_a_plan_may_begin_at_another_step(shop):
    run_id = shop.run("safe", {"fail": "x"})
    plan = shop.client().get(f"{BASE}/workflow-runs/{run_id}/plan?fromStep=first").json()["data"]
    assert (plan["target"], plan["kept"], plan["executed"]) == ("first", [], ["first", "second"])


def test_a_plan_says_why_it_would_be_refused(shop):
    run_id = shop.run("unsafe")
    client = shop.client()
    resume = client.get(f"{BASE}/workflow-runs/{run_id}/plan?kind=resume").json()["data"]
    assert resume["refused"]["code"] == "resume_not_allowed"
    rerun = client.get(f"{BASE}/workflow-runs/{run_id}/plan?kind=rerun").json()["data"]
    assert (rerun["refused"], rerun["confirmRequired"], rerun["executed"]) == (None, True, ["first"])


@pytest.mark.parametrize(
    "query", ["kind=replay", "fromStep=none", "kind=rerun&fromStep=first", "kind=", "kind=rerun&kind=rerun"]
)
def test_a_plan_of_nonsense_is_refused(shop, query):
    run_id = shop.run("safe", {"fail": "x"})
    answer = shop.client().get(f"{BASE}/workflow-runs/{run_id}/plan?{query}")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_query")


def test_workflows_are_listed_with_what_can_be_done(shop):
    body = shop.client("reader").get(f"{BASE}/workflows").json()
    by_name = {workflow["name"]: workflow for workflow in body["data"]}
    assert body["total"] == len(by_name)
    assert (by_name["resume-only"]["idempotency"], by_name["resume-only"]["canRerun"]) == ("resume-only", False)
    assert by_name["no-handlers"]["canTrigger"] is by_name["no-handlers"]["canResume"] is False
    assert by_name["guarded"]["hasRerunGuard"] is True
    assert by_name["safe"]["hasRerunGuard"] is False
