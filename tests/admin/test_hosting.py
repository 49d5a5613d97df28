"""Mounted in each kind of host: a list, a trigger, a 404 and a 400; names with slashes; what stays the host's."""

from __future__ import annotations

import django
import pytest
from a2wsgi import ASGIMiddleware
from django.conf import settings as django_settings
from fastapi import FastAPI
from flask import Flask
from litestar import Litestar, asgi, get as litestar_get
from litestar.testing import TestClient as LitestarClient
from litestar.types import Receive, Scope, Send
from quart import Quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client as WsgiClient

from workflow_runs.admin import Principal, admin_asgi, health_asgi, mount_workflow_runs_admin_routes

EVERYTHING = ("workflows:read", "workflows:read-payload", "workflows:trigger", "workflows:retry")


async def everybody(_request):
    return Principal("ada", EVERYTHING)


def serves(shop, send, prefix="/v1/admin"):
    """``send(method, path, json)`` gives status and text; the paths are those seen from outside."""
    run_id = shop.run("with%20space%2Fand%20slash")
    status, text = send("GET", f"{prefix}/workflow-runs?limit=1", None)
    assert (status, '"nextCursor"' in text) == (200, True)
    for name in ("safe", "with%20space%2Fand%20slash"):
        status, text = send("POST", f"{prefix}/workflows/{name}/runs", {"input": {"x": 1}})
        assert (status, '"status":"queued"' in text) == (202, True), text
    assert send("GET", f"{prefix}/workflow-runs/{run_id}", None)[0] == 200
    status, text = send("GET", f"{prefix}/workflow-runs/no%2Fsuch", None)
    assert (status, '"not_found"' in text) == (404, True)
    assert send("GET", f"{prefix}/workflow-runs?limit=0", None)[0] == 400
    assert send("POST", f"{prefix}/workflow-runs/{run_id}/rerun", {"confirm": "yes"})[0] == 400
    assert send("DELETE", f"{prefix}/workflow-runs", None)[0] == 405


def sender(client):
    def send(method, path, json):
        answer = client.request(method, path, json=json) if json is not None else client.request(method, path)
        return answer.status_code, answer.text

    return send


def hello(_request):
    return PlainTextResponse("the host's own")


PREFIXES = ["/v1/admin", "/", "", "/a/b/", "/workflows"]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("kind", [Starlette, FastAPI])
def test_starlette_and_fastapi_under_any_prefix(shop, kind, prefix):
    app = kind()
    mount_workflow_runs_admin_routes(app, shop.runs.desk, prefix=prefix, authorize=everybody)
    app.router.routes.append(Route("/v1/admin/users", hello))
    app.router.routes.append(Route("/", hello))
    client = TestClient(app)
    serves(shop, sender(client), prefix.rstrip("/"))
    assert client.get("/v1/admin/users").text == client.get("/").text == "the host's own"


@pytest.mark.parametrize("kind", [Starlette, FastAPI])
def test_what_is_nobodys_below_the_prefix_is_a_404_in_json_and_the_rest_is_the_hosts(shop, kind):
    app = kind()
    mount_workflow_runs_admin_routes(app, shop.runs.desk, authorize=everybody)
    app.router.routes.append(Route("/v1/admin/users/", hello))
    client = TestClient(app)
    assert client.get("/v1/admin/nope").json()["error"] == "not_found"
    assert "error" not in client.get("/nope").text
    assert client.get("/v1/admin/users").text == "the host's own"  # redirected by the host
    assert client.post("/v1/admin/users/").status_code == 405


@pytest.mark.parametrize("root", ["/sub", "/sub/host"])
def test_a_host_that_is_mounted_itself(shop, root):
    inner = Starlette()
    mount_workflow_runs_admin_routes(inner, shop.runs.desk, authorize=everybody)
    serves(shop, sender(TestClient(Starlette(routes=[Mount(root, inner)]))), f"{root}/v1/admin")


def test_fastapi_tells_the_routes_in_its_own_document(shop):
    app = FastAPI(title="the shop")
    app.add_api_route("/orders", list)
    mount_workflow_runs_admin_routes(app, shop.runs.desk, prefix="/desk", authorize=everybody)
    app.add_api_route("/later", list)
    document = TestClient(app).get("/openapi.json").json()
    assert document["info"]["title"] == "the shop"
    assert {"/orders", "/later", "/desk/workflow-runs/{runId}/cancel"} <= set(document["paths"])
    assert app.openapi() == app.openapi()


@pytest.mark.parametrize("mount", ["/v1/admin", "/ops"])
def test_starlette_mount(shop, mount):
    admin = admin_asgi(shop.runs.desk, authorize=everybody, prefix=mount)
    serves(shop, sender(TestClient(Starlette(routes=[Mount(mount, admin), Route("/", hello)]))), mount)


@pytest.mark.parametrize("mount", ["/v1/admin", "/ops"])
def test_litestar(shop, mount):
    admin = admin_asgi(shop.runs.desk, authorize=everybody, prefix=mount)

    @asgi(mount, is_mount=True, copy_scope=True)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await admin(scope, receive, send)

    @litestar_get("/", sync_to_thread=False)
    def index() -> str:
        return "the host's own"

    with LitestarClient(Litestar([mounted, index])) as client:
        serves(shop, sender(client), mount)
        assert client.get("/").text == "the host's own"


async def test_quart(shop):
    app = Quart("shop")
    app.add_url_rule("/", view_func=lambda: "the host's own")
    app.asgi_app = admin_asgi(shop.runs.desk, authorize=everybody, otherwise=app.asgi_app)
    async with app.test_app() as running:
        client = running.test_client()
        made = await client.post("/v1/admin/workflows/with%20space%2Fand%20slash/runs", json={})
        assert made.status_code == 202
        assert (await client.get("/v1/admin/workflow-runs?limit=1")).status_code == 200
        assert (await client.get("/v1/admin/workflow-runs/none")).status_code == 404
        assert (await client.get("/v1/admin/workflow-runs?limit=0")).status_code == 400
        assert await (await client.get("/")).get_data(as_text=True) == "the host's own"


def test_django(shop):
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse
    from django.urls import path

    if not django_settings.configured:
        django_settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="test", ROOT_URLCONF=[])
    django.setup()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(django_settings, "ROOT_URLCONF", (path("", lambda _request: HttpResponse("the host's own")),))
        client = TestClient(admin_asgi(shop.runs.desk, authorize=everybody, otherwise=get_asgi_application()))
        serves(shop, sender(client))
        assert client.get("/").text == "the host's own"


@pytest.mark.parametrize("mount", ["/v1/admin", "/ops"])
def test_flask_through_a2wsgi(shop, mount):
    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: "the host's own")
    admin = admin_asgi(shop.runs.desk, authorize=everybody, prefix=mount)
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {mount: ASGIMiddleware(admin)})
    client = WsgiClient(app.wsgi_app)

    def send(method, path, json):
        answer = client.open(path, method=method, json=json) if json is not None else client.open(path, method=method)
        return answer.status_code, answer.get_data(as_text=True)

    serves(shop, send, mount)
    assert client.get("/").get_data(as_text=True) == "the host's own"


def test_health_and_admin_around_a_host(shop):
    admin = admin_asgi(shop.runs.desk, authorize=everybody, otherwise=Starlette(routes=[Route("/", hello)]))
    client = TestClient(health_asgi(shop.runs.store, otherwise=admin))
    assert client.get("/readyz").status_code == 200
    assert client.get("/v1/admin/workflows").status_code == 200
    assert client.get("/").text == "the host's own"
