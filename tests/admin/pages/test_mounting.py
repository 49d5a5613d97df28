"""Mounted in every way there is: what a path names, where the pages are, links that are right there; and what stays the host's."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlsplit

import pytest
from a2wsgi import ASGIMiddleware
from fastapi import FastAPI
from flask import Flask
from litestar import Litestar, asgi
from litestar.testing import TestClient as LitestarClient
from litestar.types import Receive, Scope, Send
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client as WsgiClient

from tests.admin.conftest import PRINCIPALS
from tests.admin.pages.site import page_settings
from workflow_runs.admin.pages import mount_workflow_runs_pages, pages_asgi
from workflow_runs.admin.pages.places import Elsewhere, Found, find
from workflow_runs.errors import ConfigurationError

NAME = "with%20space%2Fand%20slash"


@pytest.fixture
def site(busy_site):
    return busy_site


async def everybody(_request):
    return PRINCIPALS["all"]


def pages_of(site, **options):
    with_ = options.pop("with_", {})
    return pages_asgi(site.runs.desk, authorize=everybody, settings=page_settings(**with_), **options)


def hello(_request):
    return PlainTextResponse("the host's own")


# --- what a path names -----------------------------------------------------------------------------------------------


def scope(path, root="", raw=None, *, encoded=True):
    """A scope as servers make it; ``raw`` is the path as it was sent, where that is another one."""
    made = {"type": "http", "path": unquote(path), "root_path": root}
    return {**made, "raw_path": (raw or path).encode()} if encoded else made


WAYS = {
    "whole": lambda path: (scope(f"/desk{path}"), "/desk"),
    "a mount": lambda path: (scope(f"/desk{path}", "/desk"), ""),
    "a mount that has a prefix": lambda path: (scope(f"/desk{path}", "/desk"), "/desk"),
    "a mounted host": lambda path: (scope(f"/sub/desk{path}", "/sub"), "/desk"),
    "a path without its mount": lambda path: (scope(path, "/desk"), ""),
    "cut off and told nowhere": lambda path: (scope(path, raw=f"/desk{path}"), "/desk"),
    "cut off, a slash appended": lambda path: (scope(f"{path.rstrip('/')}/", raw=f"/desk{path}"), "/desk"),
    "decoded": lambda path: (scope(f"/desk{path}", "/desk", encoded=False), ""),
    "decoded, with a prefix": lambda path: (scope(f"/desk{path}", encoded=False), "/desk"),
}
BASES = {"a mounted host": "/sub/desk"}
NAMED = {
    "/": ("overview",),
    "/runs": ("runs",),
    "/events": ("events",),
    "/runs/wfrn_1": ("run", "wfrn_1"),
    "/runs/wfrn_1/resume": ("resume", "wfrn_1"),
    "/runs/wfrn_1/steps/7": ("step", "wfrn_1", "7"),
    "/runs/wfrn_1/payload/input": ("payload", "wfrn_1", "input"),
    "/workflows/a": ("workflow", "a"),
    "/workflows/a/run": ("start", "a"),
    f"/workflows/{NAME}": ("workflow", "with space/and slash"),
    f"/workflows/{NAME}/run": ("start", "with space/and slash"),
    "/workflows/%25%3F%23": ("workflow", "%?#"),
    "/static/v/wr.css": ("static", "v", "wr.css"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", NAMED)
def test_a_path_names_its_place_however_it_comes(way, path):
    found = find(*WAYS[way](path))
    assert isinstance(found, Found)
    assert (found.place.name, *found.values) == NAMED[path]
    assert found.base == BASES.get(way, "/desk")


@pytest.mark.parametrize(
    "path",
    ["", "/run", "/runs/", "/runs//resume", "/runs/a/b", "/Runs", "/workflows//run", "//evil.example", "/static/v"],
)
def test_a_path_that_names_nothing_names_nothing(path):
    found = find(scope(f"/desk{path}"), "/desk")
    assert isinstance(found, Elsewhere) if path == "" else found is None


# --- hosts -----------------------------------------------------------------------------------------------------------


def starlette(site, prefix="/desk", kind=Starlette):
    app = kind()
    mount_workflow_runs_pages(app, site.runs.desk, prefix, everybody, settings=page_settings())
    app.router.routes.append(Route("/", hello))
    return TestClient(app, follow_redirects=False)


def in_mount(site):
    return TestClient(Starlette(routes=[Mount("/desk", pages_of(site)), Route("/", hello)]), follow_redirects=False)


def under_root_path(site):
    """As uvicorn --root-path serves: the mount stands in root_path, and at the front of the path."""
    return TestClient(pages_of(site), root_path="/desk", follow_redirects=False)


class Wsgi:
    """Flask, with the pages beside it; answers look like those of the other clients."""

    def __init__(self, site):
        app = Flask("shop")
        app.add_url_rule("/", view_func=lambda: "the host's own")
        app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/desk": ASGIMiddleware(pages_of(site))})
        self.client = WsgiClient(app.wsgi_app)

    def request(self, method, path, data=None):
        answer = self.client.open(path, method=method, data=data)
        answer.text = answer.get_data(as_text=True)
        return answer

    def get(self, path):
        return self.request("GET", path)


def litestar(site):
    pages = pages_of(site, prefix="/desk")

    @asgi("/desk", is_mount=True, copy_scope=True)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await pages(scope, receive, send)

    @asgi("/", copy_scope=True)
    async def index(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("the host's own")(scope, receive, send)

    return LitestarClient(Litestar([mounted, index]))


HOSTS = {
    "starlette": starlette,
    "fastapi": lambda site: starlette(site, kind=FastAPI),
    "a mount": in_mount,
    "root path": under_root_path,
    "before a host": lambda site: TestClient(
        pages_of(site, prefix="/desk", otherwise=Starlette(routes=[Route("/", hello)])), follow_redirects=False
    ),
    "a2wsgi": Wsgi,
    "litestar": litestar,
}


@pytest.mark.parametrize("host", HOSTS)
def test_every_link_of_every_page_leads_somewhere(site, host):
    client = HOSTS[host](site)
    run = site.fail()
    seen = set()
    for path in (
        "/",
        "/runs",
        f"/runs/{run}",
        f"/runs/{run}/resume",
        "/workflows",
        f"/workflows/{NAME}",
    ):
        page = client.get(f"/desk{path}")
        assert page.status_code == 200, path
        links = re.findall(r'(?:href|src|action|data-load|data-copy-url)="([^"#][^"]*)"', page.text)
        assert links
        assert all(link.startswith("/desk/") for link in links)
        seen.update(link.replace("&amp;", "&") for link in links)
    kinds = {re.sub(r"wfrn_\w+|\?.*|[0-9a-f]{12}", "*", link): link for link in seen}
    del kinds["/desk/compare"]  # the form of the selection: it wants two
    for link in kinds.values():
        assert client.get(link).status_code in {200, 303}, link
    assert len(kinds) > 15


@pytest.mark.parametrize("host", HOSTS)
def test_a_form_acts_and_leads_on(site, host):
    client, run = HOSTS[host](site), site.fail()
    path = f"/desk/runs/{run}/resume"
    token = re.search(r'name="token" value="([^"]+)"', client.get(path).text)[1]
    options = {"follow_redirects": False} if host == "litestar" else {}
    answer = client.request("POST", path, data={"token": token}, **options)
    assert answer.status_code == 303
    assert re.fullmatch(r"/desk/runs/wfrn_[0-9a-z]{26}", answer.headers["location"])
    assert client.get(answer.headers["location"]).status_code == 200


@pytest.mark.parametrize("host", [host for host in HOSTS if host != "root path"])
def test_what_is_the_hosts_stays_the_hosts(site, host):
    client = HOSTS[host](site)
    assert client.get("/").text == "the host's own"
    for path in ("/runs", "/workflows", "/events", "/static/x/wr.css"):
        assert client.get(path).status_code == 404, path


def test_at_a_hosts_root_the_pages_take_only_what_they_know(site):
    app = Starlette()
    mount_workflow_runs_pages(app, site.runs.desk, "", everybody, settings=page_settings())
    app.router.routes.append(Route("/orders", hello))
    client = TestClient(app, follow_redirects=False)
    assert client.get("/orders").text == "the host's own"
    assert 'href="/runs"' in client.get("/").text
    assert client.get("/nothing").text == "Not Found"


async def test_before_a_host_other_kinds_of_traffic_are_the_hosts(site):
    heard = []

    async def otherwise(scope, _receive, _send):
        heard.append(scope["type"])

    pages = pages_of(site, prefix="/desk", otherwise=otherwise)
    for kind in ("lifespan", "websocket"):
        await pages({"type": kind, "path": "/desk/"}, None, None)
    assert heard == ["lifespan", "websocket"]


# --- redirects -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["starlette", "fastapi", "before a host"])
def test_the_address_without_its_last_slash_leads_to_the_pages(site, host):
    answer = HOSTS[host](site).get("/desk")
    assert (answer.status_code, answer.headers["location"]) == (308, "/desk/")


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "//evil.example/",
        "/\\evil.example",
        "/\\evil.example/",
        "//evil.example/desk",
        "/desk//evil.example",
        "/desk/\\evil.example",
        "http://evil.example/desk",
        "http://evil.example/",
        "evil.example/desk",
        "/%2Fevil.example/desk",
        "/desk/%2F%2Fevil.example",
        "//evil.example/runs/x/steps/1",
    ],
)
@pytest.mark.parametrize("prefix", ["", "/desk"])
@pytest.mark.parametrize("root", ["", "/desk"])
async def test_no_request_is_led_to_another_host(site, target, prefix, root):
    """As a server hands it over, whatever stands in the request's line."""
    settings = page_settings(login_url="/in?{next}")
    pages = pages_asgi(site.runs.desk, authorize=everybody, prefix=prefix, settings=settings)
    heads = []

    async def send(message):
        heads.extend([message] if message["type"] == "http.response.start" else [])

    async def receive():
        return {"type": "http.request"}

    asked = {"type": "http", "method": "GET", "path": unquote(target), "root_path": root, "query_string": b"q=x"}
    asked |= {"headers": [], "scheme": "http", "server": ("desk.example", 80)}
    for way in ({}, {"raw_path": target.encode()}):
        await pages({**asked, **way}, receive, send)
    assert len(heads) == 2
    for head in heads:
        location = dict(head["headers"]).get(b"location", b"/").decode()
        assert not re.match(r"[/\\]{2}|[^/]", location), location
        assert not urlsplit(location).netloc


def test_behind_a_proxy_that_tells_nobody_links_begin_where_the_browser_is(site):
    client = TestClient(pages_of(site, with_={"external_prefix": "/out/desk"}), follow_redirects=False)
    page = client.get(f"/runs/{site.ids['failed']}")
    links = re.findall(r'(?:href|src|action)="([^"#][^"]*)"', page.text)
    assert links
    assert all(link.startswith("/out/desk/") for link in links)
    assert client.get("/jump?q=key-2").headers["location"] == f"/out/desk/runs/{site.ids['failed']}"
    assert 'data-base="/out/desk"' in page.text


# --- what cannot be mounted ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"authorize": None},
        {"prefix": "desk"},
        {"prefix": "/a b"},
        {"prefix": "//desk"},
        {"admin_surface": "moon"},
        {"trusted_origins": "https://x.example"},
    ],
)
def test_what_means_nothing_is_refused(site, options):
    with pytest.raises(ConfigurationError):
        pages_asgi(site.runs.desk, **{"authorize": everybody, **options})


def test_only_starlette_and_its_kind_can_be_mounted_into(site):
    with pytest.raises(ConfigurationError):
        mount_workflow_runs_pages(Flask("x"), site.runs.desk, authorize=everybody)


def test_names_are_one_segment_in_links(site):
    client = starlette(site)
    assert f'href="/desk/workflows/{quote("with space/and slash", safe="")}"' in client.get("/desk/workflows").text
