"""The admin API as one ASGI application, and how it comes into a host.

It stands on Starlette's request and nothing else of a framework, so the same object serves in FastAPI, Starlette, Litestar, Quart, Django
and, through a2wsgi, in Flask. The order of checks is the contract's, the same on every route:

    method -> authentication -> (foreign page) -> surface -> scope -> query, content type, size, JSON -> the desk

Source: contract, section "Order of checks"; spec 5.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import partial
from typing import Any, get_args

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ConfigurationError, GuardFailed, HandlerFailed, Unauthorized
from ..operations.desk import Desk
from ..settings import Limits
from .access import AdminSurface, Authorize
from .answer import Answer, answer_to, error_answer, request_id_of, with_headers
from .door import AuthorizationFailed, Door
from .handlers import HANDLERS, Call
from .hosting import AppRoute, add_route, answer_unknown_paths, not_http, serve_document
from .openapi import merged
from .routes import Operation, Place, claims, find, normalised

_log = logging.getLogger("workflow_runs.admin")


class AdminApp:
    """The admin API. Made by ``admin_asgi`` and ``mount_workflow_runs_admin_routes``."""

    def __init__(
        self,
        desk: Desk,
        *,
        authorize: Authorize | None,
        admin_surface: AdminSurface,
        prefix: str,
        trusted_origins: Collection[str],
        otherwise: ASGIApp | None,
        limits: Limits | None,
    ) -> None:
        self._door = Door(authorize, admin_surface, trusted_origins)
        if admin_surface not in get_args(AdminSurface):
            raise ConfigurationError(f"admin_surface is one of {', '.join(get_args(AdminSurface))}")
        self.prefix = normalised(prefix)
        self.authorize = self._door.authorize
        self._desk = desk
        self._limits = limits or desk.limits
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; what is not ours goes to ``otherwise``, if there is one."""
        place = find(scope, self.prefix) if scope["type"] == "http" else None
        if place is None and self._otherwise is not None:
            await self._otherwise(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(place, Request(scope, receive), send)
        else:
            await not_http(scope, receive, send)

    async def _serve(self, place: Place | None, request: Request, send: Send) -> None:
        request_id = request_id_of(request)
        try:
            answer = await self._answer(place, request, request_id)
        except ClientDisconnect:
            return  # nobody is there to be answered
        await answer.send(with_headers(send, request_id), head=request.method == "HEAD")

    async def _answer(self, place: Place | None, request: Request, request_id: str) -> Answer:
        if place is None:
            return error_answer("not_found", "There is nothing at this path.", request_id)
        if request.method == "OPTIONS":
            return Answer(204, headers=[("allow", place.allow)])
        operation = place.operations.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            detail = f"This path takes {place.allow}."
            return error_answer("method_not_allowed", detail, request_id, headers=[("allow", place.allow)])
        try:
            principal = await self._door.admitted(request, operation.scope, acts=bool(operation.action))
            call = Call(
                request,
                request_id,
                principal,
                place.parameter,
                self._desk,
                self._limits,
                self._door.surface,
                self._door.in_thread,
            )
            return await HANDLERS[operation.name](call)
        except ClientDisconnect:
            raise
        except (Unauthorized, AuthorizationFailed) as error:
            return _unknown(operation.name, error, request_id)
        except Exception as error:  # noqa: BLE001  # each becomes an answer, and what is our fault is logged with its stack
            return self._failed(operation, error, request_id)

    async def refuse_unknown(self, request: Request, request_id: str) -> Answer | None:
        """Return the answer to a request of nobody whom ``authorize`` knows; None if it knows who asks, whatever the scopes."""
        try:
            await self._door.known(request)
        except (Unauthorized, AuthorizationFailed) as error:
            return _unknown("openapi", error, request_id)
        return None

    def _failed(self, operation: Operation, error: Exception, request_id: str) -> Answer:
        answer = answer_to(error, request_id, action=operation.action)
        if isinstance(error, (HandlerFailed, GuardFailed)) or answer.status == 503:
            # The desk has logged what the host's code raised; this line ties it to the request.
            _log.warning("%s: %s, request %s: %r", operation.name, type(error).__name__, request_id, str(error))
        elif answer.status == 500:
            _log.error("%s failed, request %s", operation.name, request_id, exc_info=error)
        return answer


def _unknown(name: str, error: Unauthorized | AuthorizationFailed, request_id: str) -> Answer:
    if isinstance(error, Unauthorized):
        return error_answer(error.code, str(error), request_id, headers=[("www-authenticate", "Bearer")])
    _log.error("%s: authorize raised, request %s", name, request_id, exc_info=error.__cause__)
    return error_answer("authorization_failed", "The request could not be authorised.", request_id)


def admin_asgi(
    desk: Desk,
    *,
    authorize: Authorize | None = None,
    prefix: str = "/v1/admin",
    admin_surface: AdminSurface = "tenant",
    trusted_origins: Collection[str] = (),
    otherwise: ASGIApp | None = None,
    limits: Limits | None = None,
) -> AdminApp:
    """Return the admin API as an ASGI application, to be served alone or beside any host.

    Args:
        desk: What the routes call.
        authorize: From a Starlette ``Request`` to a ``Principal`` or None; a coroutine function, or a plain one, which runs in a thread.
        prefix: Where the routes are as seen from outside, also when the host cuts it off before it hands the request over.
        admin_surface: ``tenant`` acts; ``cloud`` and ``disabled`` only show, and answer 403 where they would act.
        trusted_origins: Origins (``https://app.example.com``) whose pages may act though they are not of the host that is asked.
        otherwise: The host's own ASGI application, which gets every request (and lifespan, and websocket) that is not ours.

        limits: Of bodies, pages and texts; the desk's own.

    Raises:
        ConfigurationError: without ``authorize``, or with a value that means nothing.
    """
    return AdminApp(
        desk,
        authorize=authorize,
        admin_surface=admin_surface,
        prefix=prefix,
        trusted_origins=trusted_origins,
        otherwise=otherwise,
        limits=limits,
    )


def mount_workflow_runs_admin_routes(
    app: Any,
    desk: Desk,
    prefix: str = "/v1/admin",
    authorize: Authorize | None = None,
    admin_surface: AdminSurface = "tenant",
    *,
    trusted_origins: Collection[str] = (),
    openapi: str | None = None,
    limits: Limits | None = None,
) -> AdminApp:
    """Add the admin routes to a FastAPI or Starlette application.

    Only ``{prefix}/workflow-runs`` and ``{prefix}/workflows`` are taken; the host's own paths below the prefix stay its own, and what
    is nobody's there is a 404 in JSON. FastAPI's own OpenAPI document gets the routes; for Starlette, which makes none,
    ``openapi="/openapi.json"`` serves one, to everybody whom ``authorize`` knows.

    Raises:
        ConfigurationError: as ``admin_asgi``, or the application is of another kind.
    """
    admin = admin_asgi(
        desk,
        authorize=authorize,
        prefix=prefix,
        admin_surface=admin_surface,
        trusted_origins=trusted_origins,
        limits=limits,
    )
    adds = partial(merged, prefix=admin.prefix)
    add_route(app, AppRoute(admin, lambda scope: claims(scope, admin.prefix), adds))
    answer_unknown_paths(app, admin.prefix, admin)
    if openapi is not None:
        serve_document(app, openapi, admin.refuse_unknown)
    return admin
