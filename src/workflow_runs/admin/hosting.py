"""How routes of ours come into the routing and the OpenAPI document of a FastAPI or Starlette application.

Neither framework is asked for anything but its list of routes, so FastAPI is no dependency: what tells it apart is ``openapi()``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ConfigurationError
from .answer import Answer, error_answer, render, request_id_of, with_headers
from .openapi import Document, empty_document


class AppRoute(BaseRoute):
    """A place in a host's routing. Not Starlette's ``Mount``: that one takes everything below its path and moves ``root_path``.

    ``describe`` adds what is here to an OpenAPI document.
    """

    def __init__(
        self,
        app: ASGIApp,
        takes: Callable[[Scope], bool],
        describe: Callable[[Document], Document] | None = None,
    ) -> None:
        self.app = app
        self.describe = describe
        self._takes = takes

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the path is ours; the method is our own affair."""
        return (Match.FULL if scope["type"] == "http" and self._takes(scope) else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        """Refuse: these routes have no names in the host."""
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request over."""
        await self.app(scope, receive, send)


def add_route(app: Any, route: AppRoute) -> None:
    """Add a route to a host, and what it describes to the OpenAPI document that FastAPI makes.

    Raises:
        ConfigurationError: the host is neither FastAPI nor Starlette.
    """
    _routes(app).append(route)
    make = getattr(app, "openapi", None)
    describe = route.describe
    if callable(make) and describe is not None:
        app.openapi = lambda: describe(make())


def answer_unknown_paths(app: Any, prefix: str, admin: ASGIApp) -> None:
    """Let ``admin`` answer what nobody else in the host answers below the prefix: a client of the API is told 404 in JSON.

    The host's routes below the prefix, its redirects and its 405s come first, also those that are added later.
    """
    if not prefix:
        return
    otherwise: ASGIApp = app.router.default

    async def default(scope: Scope, receive: Receive, send: Send) -> None:
        below = scope["type"] == "http" and path_in_host(scope).startswith(f"{prefix}/")
        await (admin if below else otherwise)(scope, receive, send)

    app.router.default = default


def serve_document(app: Any, path: str, refuse: Callable[[Request, str], Awaitable[Answer | None]]) -> None:
    """Serve the OpenAPI document of all routes of ours in this host, those added later included.

    Args:
        app: The host.
        path: Where the document is.
        refuse: Gives the answer for a request, with its id, of somebody who may not read the document; None for those who may.
    """

    async def answer_to(request: Request, request_id: str) -> Answer:
        allow = [("allow", "GET, HEAD, OPTIONS")]
        if request.method == "OPTIONS":
            return Answer(204, headers=allow)
        if request.method not in {"GET", "HEAD"}:
            return error_answer("method_not_allowed", "This path takes GET.", request_id, headers=allow)
        document = empty_document()
        for route in _routes(app):
            if isinstance(route, AppRoute) and route.describe is not None:
                document = route.describe(document)
        return await refuse(request, request_id) or render(200, document)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request_id = request_id_of(request)
        answer = await answer_to(request, request_id)
        await answer.send(with_headers(send, request_id), head=request.method == "HEAD")

    add_route(app, AppRoute(serve, lambda scope: path_in_host(scope) == path))


def path_in_host(scope: Scope) -> str:
    """Return the path below the place where the host itself is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path") or "").rstrip("/")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


async def not_http(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse websockets, and answer a server's lifespan messages: whoever made the desk starts and closes it, not its routes."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    kind = ""
    while kind != "lifespan.shutdown":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})


def _routes(app: Any) -> list[Any]:
    routes = getattr(getattr(app, "router", None), "routes", None)
    if not isinstance(routes, list):
        raise ConfigurationError(
            f"routes can be mounted in a FastAPI or Starlette application, not in a {type(app).__name__}; "
            "admin_asgi() gives an ASGI application for other hosts"
        )
    return routes
