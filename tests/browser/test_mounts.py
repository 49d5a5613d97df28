"""The same pages under each mount and in each host: links, files, forms and the stream are right wherever they are put."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator

import django
import pytest
from a2wsgi import ASGIMiddleware
from django.conf import settings as django_settings
from fastapi import FastAPI
from flask import Flask
from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send
from playwright.sync_api import expect
from quart import Quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from tests.browser.serving import authorize, page_settings, serve
from tests.browser.test_jobs import SAFE
from workflow_runs.admin.pages import mount_workflow_runs_pages, pages_asgi
from workflow_runs.model.states import RunStatus


def hello(_request):
    return PlainTextResponse("the host's own")


def at(prefix, kind=Starlette):
    def make(desk):
        app = kind()
        mount_workflow_runs_pages(app, desk, prefix=prefix, authorize=authorize, settings=page_settings())
        app.router.routes.append(Route("/hello", hello))
        return app

    return make


def in_mount(desk):
    pages = pages_asgi(desk, authorize=authorize, settings=page_settings())
    return Starlette(routes=[Mount("/ops", pages), Route("/hello", hello)])


def behind_a_proxy(desk):
    """A proxy shows the pages at /outside/desk, cuts that off, and tells nobody."""
    inner = pages_asgi(desk, authorize=authorize, settings=page_settings(external_prefix="/outside/desk"))

    async def proxy(scope, receive, send):
        if scope["type"] == "http" and scope["path"].startswith("/outside/desk"):
            path = scope["path"].removeprefix("/outside/desk") or "/"
            raw = scope["raw_path"].removeprefix(b"/outside/desk") or b"/"
            await inner(scope | {"path": path, "raw_path": raw}, receive, send)
        else:
            await PlainTextResponse("the host's own")(scope, receive, send)

    return proxy


def in_litestar(desk):
    pages = pages_asgi(desk, authorize=authorize, prefix="/ops", settings=page_settings())

    @asgi("/ops", is_mount=True, copy_scope=True)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await pages(scope, receive, send)

    @asgi("/hello", copy_scope=True)
    async def hello(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("the host's own")(scope, receive, send)

    return Litestar([mounted, hello])


def around_quart(desk):
    app = Quart("shop")
    app.add_url_rule("/hello", view_func=lambda: "the host's own")
    app.asgi_app = pages_asgi(
        desk, authorize=authorize, prefix="/desk", settings=page_settings(), otherwise=app.asgi_app
    )
    return app


def around_django(desk):
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse
    from django.urls import path

    if not django_settings.configured:
        django_settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="test", ROOT_URLCONF=[])
    django.setup()
    django_settings.ROOT_URLCONF = (path("hello", lambda _request: HttpResponse("the host's own")),)
    return pages_asgi(
        desk, authorize=authorize, prefix="/desk", settings=page_settings(), otherwise=get_asgi_application()
    )


ASGI_HOSTS = {
    "starlette at the root": (at("/"), "/"),
    "starlette deep down": (at("/a/b/"), "/a/b/"),
    "fastapi": (at("/desk", FastAPI), "/desk/"),
    "a mount of starlette's": (in_mount, "/ops/"),
    "a proxy that strips a prefix": (behind_a_proxy, "/outside/desk/"),
    "litestar": (in_litestar, "/ops/"),
    "quart": (around_quart, "/desk/"),
    "django": (around_django, "/desk/"),
}


@contextlib.contextmanager
def flask(desk) -> Iterator[str]:
    app = Flask("shop")
    app.add_url_rule("/hello", view_func=lambda: "the host's own")
    pages = pages_asgi(desk, authorize=authorize, prefix="/ops", settings=page_settings(live="poll"))
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/ops": ASGIMiddleware(pages)})
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="wsgi")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(20)
        server.server_close()


def walk(page, shop, url):
    """Through the desk as an operator goes, by links alone."""
    failed = shop.fail_at_invoice()
    page.goto(url)
    expect(page.locator("h1")).to_be_visible()
    assert page.evaluate("() => getComputedStyle(document.querySelector('header.bar')).position") == "sticky", (
        "no styles"
    )
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Runs").click()
    page.locator(f"[data-run='{failed}'] a[href*='{failed}']").first.click()
    expect(page.locator("main")).to_contain_text(SAFE)
    page.wait_for_load_state()  # a key pressed before the script has come does nothing
    page.keyboard.press("r")
    plan = page.locator("dialog#dialog")
    expect(plan).to_contain_text(SAFE)
    plan.get_by_role("button", name=re.compile("^Resume")).click()
    expect(page).to_have_url(re.compile(f"^{re.escape(url)}runs/wfrn_[0-9a-z]{{26}}$"))
    resumed = page.url.rpartition("/")[2]
    assert resumed != failed
    assert shop.runs.wait(resumed).status is RunStatus.SUCCEEDED
    # A page that asks instead of listening (WSGI) does so every five seconds.
    expect(page.locator("main .st.chip").first).to_have_text(re.compile("Succeeded"), timeout=20_000)
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Workflows").click()
    page.get_by_role("link", name="checkout-finalize").first.click()
    expect(page.locator("h1")).to_contain_text("checkout-finalize")


@pytest.mark.parametrize("host", ASGI_HOSTS)
def test_the_pages_work_in(host, shop, new_context, watch):
    make, below = ASGI_HOSTS[host]
    with serve(make(shop.runs.desk)) as origin:
        page = new_context().new_page()
        walk(page, shop, f"{origin}{below}")
        assert [url for url in watch.requests if "/events" in url], "no stream was opened"
        assert page.request.get(f"{origin}/hello").text() == "the host's own"


def test_the_pages_work_in_flask_through_a2wsgi(shop, new_context, watch):
    with flask(shop.runs.desk) as origin:
        page = new_context().new_page()
        walk(page, shop, f"{origin}/ops/")
        assert not [url for url in watch.requests if "/events" in url]
        assert page.request.get(f"{origin}/hello").text() == "the host's own"


def test_the_address_without_its_last_slash_leads_to_the_pages(shop, new_context):
    with serve(at("/a/b")(shop.runs.desk)) as origin:
        page = new_context().new_page()
        page.goto(f"{origin}/a/b")
        expect(page).to_have_url(f"{origin}/a/b/")
