"""The OpenAPI document says what the routes really answer."""

from __future__ import annotations

import json

import jsonschema_rs
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

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
    openapi_document,
)
from workflow_runs.admin.openapi import merged
from workflow_runs.admin.routes import OPERATIONS
from workflow_runs.admin.schemas import SCHEMAS
from workflow_runs.wire import ERROR_CODES, status_of

BASE = "/v1/admin"
PRINCIPAL = Principal("ada", [READ, READ_PAYLOAD, TRIGGER, RETRY, CANCEL])


def closed(schema):
    """The schema with its objects closed to members that it does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(value) for name, value in schema.items()}
    if made.get("type") == "object" and "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def check(document, path, method, answer):
    """Check an answer against what the document says of its status."""
    response = document["paths"][path][method]["responses"][str(answer.status_code)]
    schema = response["content"]["application/json"]["schema"]
    whole = closed({**schema, "components": document["components"]})
    jsonschema_rs.validator_for(whole, validate_formats=True).validate(answer.json())
    assert {name.lower() for name in response["headers"]} <= set(answer.headers)


# --- the document ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/v1/admin", "/", "/a/b/"])
def test_paths_are_absolute_and_there_are_no_others(prefix):
    document = openapi_document(prefix)
    expected = {prefix.rstrip("/") + operation.path for operation in OPERATIONS} | {"/healthz", "/readyz"}
    assert set(document["paths"]) == expected
    assert document["openapi"] == "3.1.0"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_tells_scope_and_every_status_of_its_codes(operation):
    described = openapi_document()["paths"][BASE + operation.path][operation.method.lower()]
    statuses = {str(status_of(code, operation.action)) for code in operation.codes}
    assert set(described["responses"]) == statuses | {"405", str(operation.success)}
    assert described["x-required-scope"] == operation.scope
    assert described["security"] == [{"WorkflowRunsAccess": []}]
    assert ("requestBody" in described) == (operation.method == "POST")


def test_only_the_health_routes_are_public():
    document = openapi_document()
    public = [path for path, item in document["paths"].items() for entry in item.values() if entry["security"] == []]
    assert public == ["/healthz", "/readyz"]


def test_every_code_stands_at_some_route():
    told = {code for operation in OPERATIONS for code in operation.codes}
    # Raised by no route of these: a late outcome, and paths and methods that are no operation.
    assert set(ERROR_CODES) - told == {"already_finished", "method_not_allowed"}


def test_references_lead_somewhere():
    document = openapi_document()
    text = json.dumps(document)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= set(document["components"]["schemas"]) == set(SCHEMAS)


def test_schemas_are_schemas():
    for schema in SCHEMAS.values():
        jsonschema_rs.meta.validate(schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"})


def test_merging_keeps_what_the_host_has_and_changes_nothing_of_it():
    host = {"openapi": "3.1.0", "info": {}, "paths": {"/x": {}}, "components": {"schemas": {"Run": {}}, "headers": {}}}
    before = json.dumps(host)
    document = merged(host, prefix="/p")
    assert json.dumps(host) == before
    assert {"/x", "/p/workflows"} <= set(document["paths"])
    assert {"Run", "WorkflowRunsRun"} <= set(document["components"]["schemas"])
    assert "/healthz" not in document["paths"]


def test_starlette_can_serve_the_document_of_all_routes(shop):
    answer = shop.client("nothing", prefix="/p", openapi="/openapi.json").get("/openapi.json")
    assert set(answer.json()["paths"]) == set(openapi_document("/p")["paths"])
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_document_is_for_those_who_are_known(shop, method):
    answer = shop.client(None, openapi="/openapi.json").request(method, "/openapi.json")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_the_document_is_only_read(shop):
    client = shop.client(None, openapi="/openapi.json")
    answer = client.post("/openapi.json")
    assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == client.options("/openapi.json").headers["allow"] == "GET, HEAD, OPTIONS"


# --- the answers -----------------------------------------------------------------------------------------------------


def test_answers_are_as_described(shop):
    document, client = openapi_document(), shop.client()
    failed, done = shop.run("safe", {"fail": "x"}), shop.run("unsafe", {"a": 1})
    calls = [
        ("get", "/workflow-runs", "", None),
        ("get", "/workflow-runs", "?view=summary&limit=1", None),
        ("get", "/workflow-runs", "?limit=0", None),
        ("get", "/workflow-runs/{runId}", "?include=stack", None),
        ("get", "/workflow-runs/{runId}/plan", "", None),
        ("get", "/workflow-runs/{runId}/plan", "?kind=rerun", None),
        ("get", "/workflows", "", None),
        ("post", "/workflows/{workflowName}/runs", "", {}),
        ("post", "/workflows/{workflowName}/runs", "", {"tags": 1}),
        ("post", "/workflow-runs/{runId}/resume", "", {}),
        ("post", "/workflow-runs/{runId}/resume", "", {}),
        ("post", "/workflow-runs/{runId}/rerun", "", {}),
        ("post", "/workflow-runs/{runId}/cancel", "", {}),
    ]
    for method, path, query, body in calls:
        for run_id in (failed, done, "none"):
            url = BASE + path.format(runId=run_id, workflowName="safe") + query
            answer = client.request(method, url, json=body) if body is not None else client.request(method, url)
            check(document, BASE + path, method, answer)
    for path in ("/healthz", "/readyz"):
        check(document, path, "get", client.get(path))


@pytest.mark.parametrize("who", ["blind", "nothing", None])
def test_answers_to_others_are_as_described(shop, who):
    document, client, run_id = openapi_document(), shop.client(who), shop.run("safe", {"fail": "x"})
    for operation in OPERATIONS:
        url = BASE + operation.path.format(runId=run_id, workflowName="safe")
        check(document, BASE + operation.path, operation.method.lower(), client.request(operation.method, url))


@pytest.mark.parametrize("options", [{"admin_surface": "cloud"}])
def test_answers_of_a_restricted_surface_are_as_described(shop, options):
    document, client = openapi_document(), shop.client(**options)
    for operation in OPERATIONS:
        url = BASE + operation.path.format(runId="x", workflowName="safe")
        check(document, BASE + operation.path, operation.method.lower(), client.request(operation.method, url))


# --- fuzzed ----------------------------------------------------------------------------------------------------------

# A cursor is any text to the document and one of ours to the route, and it excludes an offset: no schema can say so.
LEFT_OUT = ["positive_data_acceptance"]

PATHS = [(BASE + operation.path, operation.method) for operation in OPERATIONS] + [
    ("/healthz", "GET"),
    ("/readyz", "GET"),
]


@pytest.fixture(scope="module")
def fuzzed(shop):
    app = FastAPI()
    mount_workflow_runs_admin_routes(app, shop.runs.desk, authorize=bearer_tokens({"token": PRINCIPAL}))
    mount_health_routes(app, shop.runs.store)
    return schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), PATHS, ids=[" ".join(pair[::-1]) for pair in PATHS])
def test_generated_requests_are_answered_as_described(shop, fuzzed, path, method, mode):
    if mode is GenerationMode.NEGATIVE and path in {"/healthz", "/readyz", f"{BASE}/workflows"}:
        pytest.skip("takes nothing that could be wrong")
    # A generated id leads nowhere; these lead to runs and workflows that exist.
    existing = {"runId": shop.run("safe", {"fail": "x"}), "workflowName": "safe"}

    @seed(20_261_122)
    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=fuzzed[path][method].as_strategy(generation_mode=mode))
    def requests_of_one_operation(case):
        if mode is GenerationMode.POSITIVE and case.path_parameters:
            case.path_parameters = {name: existing[name] for name in case.path_parameters}
        case.call_and_validate(headers={"Authorization": "Bearer token"}, excluded_checks=CHECKS.get_by_names(LEFT_OUT))

    requests_of_one_operation()
