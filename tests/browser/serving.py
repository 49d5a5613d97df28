"""The pages over a real socket, in this process: the browser is another one, and only so can tests reach into the shop.

Who asks is told by the header ``X-Who``, which a browser context sets for all its requests; without it somebody who may do everything.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request

from tests.browser.seeding import OPERATOR, Shop
from workflow_runs.admin import CANCEL, READ, READ_PAYLOAD, RETRY, TRIGGER, Principal, mount_workflow_runs_admin_routes
from workflow_runs.admin.pages import PageSettings, mount_workflow_runs_pages

PREFIX = "/desk"

PEOPLE = {
    "operator": Principal(OPERATOR, [READ, READ_PAYLOAD, TRIGGER, RETRY, CANCEL]),
    "reader": Principal("rob", [READ, READ_PAYLOAD]),
    "blind": Principal("bea", [READ]),
    "rebooking-only": Principal("sam", [READ, READ_PAYLOAD, TRIGGER, RETRY, CANCEL], workflows=["flight-rebooking"]),
    "nothing": Principal("nil", []),
}


async def authorize(request: Request) -> Principal | None:
    """Return who asks; nobody for a name that is not known."""
    return PEOPLE.get(request.headers.get("x-who", "operator"))


@dataclass(frozen=True)
class Desk:
    """Pages that are being served. ``url`` ends with a slash, so that a browser takes relative addresses from there."""

    url: str
    shop: Shop

    def run_url(self, name: str) -> str:
        """Address of one of the shop's runs, by its name in ``Shop.ids`` or by its id."""
        return f"{self.url}runs/{self.shop.ids.get(name, name)}"


class _Server(uvicorn.Server):
    def __init__(self, app: Any) -> None:
        super().__init__(uvicorn.Config(app, lifespan="off", log_level="error", ws="none", timeout_graceful_shutdown=1))
        self.answering = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answering.set()


@contextlib.contextmanager
def serve(app: Any) -> Iterator[str]:
    """Serve an ASGI application while the block runs; gives the origin, without a slash."""
    server = _Server(app)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="pages")
        thread.start()
        try:
            assert server.answering.wait(20)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


def page_settings(**more: Any) -> PageSettings:
    """The settings of the shop's pages: an undefined name in a template is an error, and tags lead to the shop."""
    links = {"order": "https://shop.example/orders/{value}", "url": "https://out.example/?to={value}"}
    return PageSettings(**{"strict": True, "tag_links": links} | more)


@contextlib.contextmanager
def serve_pages(shop: Shop, prefix: str = PREFIX, **settings: Any) -> Iterator[Desk]:
    """Serve the shop's pages and its API from a Starlette application."""
    app = Starlette()
    mount_workflow_runs_admin_routes(app, shop.runs.desk, authorize=authorize)
    mount_workflow_runs_pages(
        app, shop.runs.desk, prefix=prefix, authorize=authorize, settings=page_settings(**settings)
    )
    with serve(app) as origin:
        yield Desk(f"{origin}{prefix.rstrip('/')}/", shop)
