"""The order of checks, methods, headers, and what an error tells."""

from __future__ import annotations

import logging
import threading

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from workflow_runs import Limits
from workflow_runs.admin import Principal, admin_asgi, mount_workflow_runs_admin_routes
from workflow_runs.admin.routes import OPERATIONS
from workflow_runs.errors import ConfigurationError, StoreUnavailable

BASE = "/v1/admin"
ACTIONS = [f"{BASE}/workflow-runs/x/{action}" for action in ("rerun", "resume", "cancel")] + [
    f"{BASE}/workflows/safe/runs"
]
READS = [f"{BASE}/workflow-runs", f"{BASE}/workflow-runs/x", f"{BASE}/workflow-runs/x/plan", f"{BASE}/workflows"]


def code(answer):
    return answer.status_code, answer.json()["error"]


# --- order -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", READS + ACTIONS)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
def test_a_wrong_method_comes_before_everything(as_, path, method):
    answer = as_(None).request(method, path, headers={"content-type": "text/plain"}, content=b"x")
    assert code(answer) == (405, "method_not_allowed")
    assert "OPTIONS" in answer.headers["allow"]
    assert ("POST" in answer.headers["allow"]) == (path in ACTIONS)


def test_get_on_an_action_and_post_on_a_read_are_wrong_methods(as_):
    assert {code(as_(None).get(path)) for path in ACTIONS} == {(405, "method_not_allowed")}
    assert {code(as_(None).post(path)) for path in READS} == {(405, "method_not_allowed")}


@pytest.mark.parametrize("path", READS + ACTIONS)
def test_options_asks_for_nobody(as_, path):
    answer = as_(None).options(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "OPTIONS" in answer.headers["allow"]


@pytest.mark.parametrize("path", READS)
def test_head_is_get_without_a_body(client, path):
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert abs(int(head.headers["content-length"]) - len(get.content)) < 64  # ids of requests are of one length


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_nobody_is_401_whatever_else_is_wrong(as_, operation):
    path = BASE + operation.path.format(runId="x", workflowName="x")
    answer = as_(None).request(
        operation.method, f"{path}?nonsense=1", content=b"{", headers={"content-type": "text/plain"}
    )
    assert code(answer) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("surface", ["cloud", "disabled"])
@pytest.mark.parametrize("path", ACTIONS)
def test_the_surface_comes_before_the_scope_and_the_body(shop, surface, path):
    answer = shop.client("nothing", admin_surface=surface).post(path, content=b"{")
    assert code(answer) == (403, "workflow_admin_surface_restricted")
    assert answer.json()["surface"] == surface


def test_a_restricted_surface_still_shows(shop):
    client = shop.client(admin_surface="disabled")
    assert client.get(f"{BASE}/workflow-runs").status_code == 200
    assert client.get(f"{BASE}/workflows").status_code == 200


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
@pytest.mark.parametrize("who", ["nothing", "reader", "blind", "wildcard", "trigger", "retry", "cancel"])
def test_every_route_asks_for_its_own_scope_before_it_looks_at_anything(as_, operation, who):
    held = {
        "nothing": set(),
        "reader": {"workflows:read"},
        "blind": {"workflows:read"},
        "wildcard": {"workflows:read"},
        "trigger": {"workflows:trigger"},
        "retry": {"workflows:retry"},
        "cancel": {"workflows:cancel"},
    }[who]
    path = BASE + operation.path.format(runId="no-such-run", workflowName="no-such-workflow")
    answer = as_(who).request(operation.method, f"{path}?nonsense=1", content=b"{" if operation.action else None)
    if operation.scope in held:
        assert answer.status_code in {400, 415}
    else:
        assert code(answer) == (403, "forbidden")
        assert answer.json()["scope"] == operation.scope


@pytest.mark.parametrize("path", ACTIONS)
def test_content_type_then_json_then_the_rest(client, path):
    as_text = client.post(path, content=b"{", headers={"content-type": "text/plain"})
    assert code(as_text) == (415, "unsupported_media_type")
    broken = client.post(path, content=b"{", headers={"content-type": "application/json"})
    assert broken.status_code == 400


def test_the_body_comes_before_the_target(client):
    assert client.post(f"{BASE}/workflow-runs/x/rerun", json={"confirm": 1}).status_code == 400
    assert code(client.post(f"{BASE}/workflow-runs/x/rerun", json={})) == (404, "not_found")
    assert code(client.post(f"{BASE}/workflows/nobody/runs", json={})) == (404, "runner_not_registered")


@pytest.mark.parametrize("path", [*ACTIONS, *READS])
def test_a_query_that_is_unknown_is_refused_everywhere(client, path):
    answer = client.request("POST" if path in ACTIONS else "GET", f"{path}?nonsense=1")
    assert code(answer) == (400, "invalid_query")
    assert answer.json()["field"] == "nonsense"


@pytest.mark.parametrize(
    "path", ["", "/", "/workflows/x", "/workflow-runs/", "/workflow-runs/x/nope", "/workflows//runs", "/nope"]
)
def test_an_unknown_path_is_404(client, path):
    assert client.get(BASE + path).status_code == 404
    assert client.post(BASE + path).status_code == 404


@pytest.mark.parametrize(
    "id",
    ["x", "a%20b", "%00", "%ff", "..%2F..%2Fetc", "wfrn_" + "z" * 26, "x" * 5_000, "'%20OR%201=1--", "%F0%9F%98%80"],
)
@pytest.mark.parametrize("action", ["", "/plan", "/rerun", "/resume", "/cancel"])
def test_an_id_of_any_shape_is_not_found(client, id, action):
    method = "GET" if action in {"", "/plan"} else "POST"
    assert code(client.request(method, f"{BASE}/workflow-runs/{id}{action}")) == (404, "not_found")


# --- foreign pages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ACTIONS)
@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
)
def test_a_foreign_page_cannot_act(client, path, headers):
    assert code(client.post(path, json={}, headers=headers)) == (403, "cross_site")


def test_a_page_of_the_desk_and_a_trusted_one_can(shop):
    own = {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"}
    assert shop.client().post(f"{BASE}/workflow-runs/x/rerun", headers=own).status_code == 404
    trusting = shop.client(trusted_origins=["https://app.example"])
    other = {"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example"}
    assert trusting.post(f"{BASE}/workflow-runs/x/rerun", headers=other).status_code == 404


def test_a_foreign_page_gets_no_cors(client):
    answer = client.get(f"{BASE}/workflow-runs", headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


# --- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "who"),
    [
        ("GET", "/workflow-runs", "all"),
        ("GET", "/workflow-runs/x", "all"),
        ("GET", "/workflow-runs", None),
        ("OPTIONS", "/workflow-runs", None),
        ("DELETE", "/workflow-runs", None),
        ("POST", "/workflows/x/runs", "all"),
        ("GET", "/workflows/x", "all"),
    ],
)
def test_every_answer_carries_the_same_headers(as_, method, path, who):
    headers = as_(who).request(method, BASE + path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert len(headers["x-request-id"]) == 32


def test_a_request_id_of_the_caller_is_kept_if_it_is_one(client):
    given = client.get(f"{BASE}/workflow-runs/x", headers={"X-Request-Id": "trace-0123.abc"})
    assert given.headers["x-request-id"] == given.json()["requestId"] == "trace-0123.abc"
    odd = client.get(f"{BASE}/workflow-runs/x", headers={"X-Request-Id": "a b\tc <script>"})
    assert odd.headers["x-request-id"] == odd.json()["requestId"] != "a b\tc <script>"


def test_json_is_declared_as_json(client):
    assert client.get(f"{BASE}/workflow-runs").headers["content-type"] == "application/json"
    assert client.get(f"{BASE}/workflow-runs/x").headers["content-type"] == "application/json"


# --- what the host gives ---------------------------------------------------------------------------------------------


def test_without_an_authoriser_nothing_is_mounted(shop):
    with pytest.raises(ConfigurationError, match="authorize"):
        mount_workflow_runs_admin_routes(Starlette(), shop.runs.desk)
    with pytest.raises(ConfigurationError, match="authorize"):
        admin_asgi(shop.runs.desk)


@pytest.mark.parametrize("options", [{"admin_surface": "tenants"}, {"prefix": "v1"}, {"trusted_origins": "https://x"}])
def test_options_that_mean_nothing_are_refused(shop, options):
    with pytest.raises(ConfigurationError):
        shop.app(**options)


def test_only_applications_with_routes_can_be_mounted_in(shop):
    with pytest.raises(ConfigurationError, match="admin_asgi"):
        mount_workflow_runs_admin_routes(object(), shop.runs.desk, authorize=lambda _request: None)


def test_an_authoriser_that_raises_is_a_500_that_tells_nothing(shop, caplog):
    def authorize(request):
        raise RuntimeError("the database password is hunter2")

    with caplog.at_level(logging.ERROR):
        answer = shop.client(authorize=authorize).get(f"{BASE}/workflow-runs")
    assert code(answer) == (500, "authorization_failed")
    assert "hunter2" not in answer.text
    assert "hunter2" in caplog.text
    assert answer.json()["requestId"] in caplog.text


def test_an_authoriser_that_returns_no_principal_lets_nobody_in(shop):
    assert code(shop.client(authorize=lambda _request: True).get(f"{BASE}/workflow-runs")) == (
        500,
        "authorization_failed",
    )


def test_an_authoriser_may_read_the_body_first(shop):
    async def authorize(request):
        assert await request.body() == b'{"confirm":1}'
        return Principal(None, ["workflows:retry"])

    answer = shop.client(authorize=authorize).post(
        f"{BASE}/workflow-runs/x/rerun", content=b'{"confirm":1}', headers={"content-type": "application/json"}
    )
    assert answer.json()["field"] == "confirm"


class Failing:
    """A desk whose every answer is one exception."""

    limits = Limits()

    def __init__(self, error):
        self.error = error

    def workflows(self):
        raise self.error

    def rerun(self, run_id, **_):
        raise self.error


def failing(error):
    admin = admin_asgi(
        Failing(error), authorize=lambda _request: Principal(None, ["workflows:read", "workflows:retry"])
    )
    return TestClient(admin)


def test_a_fault_of_ours_is_logged_under_its_id_and_tells_nothing(caplog):
    with caplog.at_level(logging.ERROR):
        answer = failing(KeyError("/srv/app/secret.py SELECT 1")).get(
            f"{BASE}/workflows", headers={"X-Request-Id": "find-me-12"}
        )
    assert code(answer) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "find-me-12" in caplog.text
    assert "secret.py" in caplog.text


def test_a_database_that_is_away_is_a_503_that_says_when_to_come_again(caplog):
    client = failing(StoreUnavailable("could not connect to host=db password=hunter2"))
    for answer, expected in (
        (client.get(f"{BASE}/workflows"), "db_unavailable"),
        (client.post(f"{BASE}/workflow-runs/x/rerun"), "store_unavailable"),
    ):
        assert code(answer) == (503, expected)
        assert answer.headers["retry-after"] == "1"
        assert "hunter2" not in answer.text
    assert "hunter2" in caplog.text


async def test_a_plain_authoriser_and_the_desk_do_not_block_the_loop(shop):
    loop_thread, seen = threading.get_ident(), []

    def authorize(_request):
        anyio.from_thread.run(anyio.lowlevel.checkpoint)  # comes back only while the loop turns
        seen.append(threading.get_ident())
        return Principal(None, ["workflows:read"])

    transport = httpx2.ASGITransport(admin_asgi(shop.runs.desk, authorize=authorize))
    async with httpx2.AsyncClient(transport=transport, base_url="http://desk") as client:
        assert (await client.get(f"{BASE}/workflow-runs")).status_code == 200
    assert seen
    assert loop_thread not in seen


def test_it_serves_alone_with_lifespan_and_without_websockets(shop):
    app = admin_asgi(shop.runs.desk, authorize=lambda _request: None, prefix="/")
    with TestClient(app) as client:
        assert client.get("/workflows").status_code == 401
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/workflows"):
            pass
