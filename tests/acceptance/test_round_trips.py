"""What is accepted comes back equal, by every road, also through a resume; everything else is refused by name (promise P17).

The roads: over HTTP into a run's input, into the workflow, into a step's output, over a resume into a workflow that did not execute the
step, and back out over HTTP. Values are compared with their types, the order of their keys, and the sign of zero.

What changes on purpose, and is documented: a number written ``1E2`` or ``100.0`` comes back as the equal number that Python writes; typed
values come back as what their annotation says (``tests/model/test_payloads``); white space around an idempotency key is cut off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.model.test_payloads import Order, floats, integers, orders, same
from workflow_runs import Run, WorkflowRuns, workflow
from workflow_runs.admin import RETRY, TRIGGER, Principal, mount_workflow_runs_admin_routes

WAIT_S = 60.0
CANARY = "hunter2canary"
ADA = Principal("ada", ["workflows:read", "workflows:read-payload", TRIGGER, RETRY])

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
# Nothing but JSON, and all of it: what the door lets in.
values = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@dataclass
class Roads:
    """A desk over HTTP, and what its workflows saw, by run."""

    runs: WorkflowRuns
    client: TestClient
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    is_up: bool = False

    def detail(self, run_id: str) -> Any:
        return self.client.get(f"/v1/admin/workflow-runs/{run_id}").json()["data"]

    def call(self) -> None:
        if not self.is_up:
            raise ConnectionError("down")

    def resumed(self, run_id: str) -> str:
        """The id of a run that failed once and was resumed."""
        assert self.runs.wait(run_id, WAIT_S).error.message == "down"
        self.is_up = True
        answer = self.client.post(f"/v1/admin/workflow-runs/{run_id}/resume")
        resumed: str = answer.json()["data"]["runId"]
        assert self.runs.wait(resumed, WAIT_S).state == "succeeded"
        self.is_up = False
        return resumed


def _keep(order: Order) -> Order:
    return order


@pytest.fixture
def roads(database_url: str) -> Iterator[Roads]:
    @workflow("carry", idempotency="safe")
    def carry(run: Run, input: Any = None) -> Any:
        made.inputs[run.id] = input
        made.outputs[run.id] = run.step("say", lambda: input)
        run.step("call", made.call)
        return made.outputs[run.id]

    @workflow("typed", idempotency="safe")
    def typed(run: Run, order: Order) -> Order:
        made.inputs[run.id] = order
        made.outputs[run.id] = run.step("keep", _keep, order)
        run.step("call", made.call)
        return order

    app = Starlette()
    with WorkflowRuns(database_url, [carry, typed], migrate=True) as runs, TestClient(app) as client:
        mount_workflow_runs_admin_routes(app, runs.desk, authorize=lambda _request: ADA)
        made = Roads(runs, client)
        yield made


def untimed(examples: int) -> Any:
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(carried=st.lists(values, min_size=1, max_size=30))
@untimed(8)
def test_what_is_accepted_comes_back_equal_by_every_road(roads, carried):
    body = json.dumps({"input": carried})
    answer = roads.client.post(
        "/v1/admin/workflows/carry/runs", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 202, answer.text
    failed = answer.json()["data"]["runId"]
    resumed = roads.resumed(failed)
    for run_id in (failed, resumed):
        detail = roads.detail(run_id)
        assert same(roads.inputs[run_id], carried), "in the workflow"
        assert same(roads.outputs[run_id], carried), "from the step"
        assert same(detail["run"]["input"], carried), "the input over HTTP"
        assert same(detail["steps"][0]["output"], carried), "the output over HTTP"
    assert same(roads.detail(resumed)["run"]["result"], carried), "the result"
    assert roads.detail(resumed)["steps"][0]["status"] == "skipped"


@given(order=orders)
@untimed(10)
def test_a_typed_value_comes_back_as_what_it_was_through_a_resume(roads, order):
    failed = roads.runs.trigger("typed", order)
    resumed = roads.resumed(failed)
    for run_id in (failed, resumed):
        assert (type(roads.inputs[run_id]), roads.inputs[run_id]) == (Order, order)
        assert (type(roads.outputs[run_id]), roads.outputs[run_id]) == (Order, order)


# What no record can keep, as it may stand anywhere within a value.
POISONS = {
    "not a number": "NaN",
    "infinite": "-Infinity",
    "too large a float": "-1e400",
    "too many digits": "7" * 4_301,
    "NUL": f'"{CANARY}\\u0000"',
    "half a pair": f'"{CANARY}\\udcff"',
    "a key twice": '{"a": 1, "a": 1}',
    "too deep": "[" * 101 + "]" * 101,
}


@st.composite
def poisoned(draw: st.DrawFn) -> tuple[str, str]:
    """A JSON text with one poison somewhere in it, and the place of that as a caller writes it."""
    text, place = POISONS[draw(st.sampled_from(sorted(POISONS)))], ""
    for _ in range(draw(st.integers(0, 4))):
        beside = [json.dumps(value) for value in draw(st.lists(values, max_size=2))]
        if draw(st.booleans()):
            text, place = f"[{', '.join([*beside, text])}]", f"[{len(beside)}]{place}"
        else:
            members = [f'"{number}": {value}' for number, value in enumerate(beside)]
            members.append(f'"here": {text}')
            text, place = "{" + ", ".join(members) + "}", f".here{place}"
    return text, f"input{place}"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """What refuses before any database is asked."""
    app = Starlette()
    carry = workflow("carry", idempotency="safe")(lambda run, input=None: None)  # noqa: A006  # the parameter's name is the contract's
    url = f"sqlite:///{tmp_path_factory.mktemp('door') / 'runs.db'}"
    with WorkflowRuns(url, [carry], execute=False) as runs, TestClient(app) as client:
        mount_workflow_runs_admin_routes(app, runs.desk, authorize=lambda _request: ADA)
        yield client


@given(what=poisoned())
@settings(max_examples=100, deadline=None)
def test_what_is_not_kept_is_refused_by_its_place_and_not_repeated(door, what):
    text, place = what
    answer = door.post(
        "/v1/admin/workflows/carry/runs", content=f'{{"input": {text}}}', headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert answer.json()["field"].startswith(place)
    assert CANARY not in answer.text
    assert len(answer.content) < 2_000


@pytest.mark.parametrize("where", ["correlationId", "idempotencyKey", "tags"])
@given(text=st.text(min_size=1, max_size=300))
@settings(max_examples=40, deadline=None)
def test_a_text_of_the_trigger_is_kept_as_it_is_or_refused_by_name(door, where, text):
    body = json.dumps({"input": {}, where: [text] if where == "tags" else text})
    answer = door.post("/v1/admin/workflows/carry/runs", content=body, headers={"content-type": "application/json"})
    if answer.status_code == 202:
        run_id = answer.json()["data"]["runId"]
        run = door.get(f"/v1/admin/workflow-runs/{run_id}").json()["data"]["run"]
        kept = text.strip() if where == "idempotencyKey" else text
        assert run[where] == ([kept] if where == "tags" else kept)
    else:
        assert answer.status_code in {400, 422}
        assert answer.status_code == 422 or answer.json()["field"].startswith(where)
        assert len(text) < 4 or json.dumps(text)[1:-1] not in answer.text
