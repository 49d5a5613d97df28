"""The pages as one ASGI application: path, who asks, which page, and errors as pages. Everything else stands in the views.

The order of checks is the API's (``admin.door``). What acts needs a plan token on top, which the views check: it says that this person
saw this plan, and no other site can know it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, get_args
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ...clock import Clock
from ...errors import ConfigurationError, Unauthorized
from ...operations.desk import Desk
from ...wire import describe_error, status_of
from ..access import AdminSurface, Authorize, Principal, why_barred
from ..answer import SECURITY_HEADERS, Answer, request_id_of, with_headers
from ..door import AuthorizationFailed, Door
from ..hosting import AppRoute, add_route, not_http, path_in_host
from ..routes import normalised
from . import comparison, overview, plans, run, runs, workflows
from .call import PageCall, Pages
from .links import Links
from .live import serve_events
from .places import PLACES, Elsewhere, Found, find
from .rendering import Renderer, StaticFiles
from .settings import PageSettings
from .tokens import PlanTokens

_log = logging.getLogger("workflow_runs.admin")

View = Callable[[PageCall], Awaitable[Answer]]

VIEWS: Final[Mapping[str, View]] = {
    "overview": overview.show_overview,
    "runs": runs.show_runs,
    "rows": runs.show_rows,
    "jump": runs.jump,
    "events": runs.describe_events,
    "compare_two": comparison.compare_two,
    "run": run.show_run,
    "step": run.show_step,
    "payload": run.send_payload,
    "compare": comparison.show_comparison,
    "resume": plans.show_or_act,
    "rerun": plans.show_or_act,
    "cancel": plans.show_or_cancel,
    "workflows": workflows.show_workflows,
    "workflow": workflows.show_workflow,
    "start": workflows.show_or_start,
}
assert set(VIEWS) | {"static"} == {place.name for place in PLACES}

_FOR_EVER: Final = "public, max-age=31536000, immutable"


class PagesApp:
    """The pages. Made by ``pages_asgi`` and ``mount_workflow_runs_pages``."""

    def __init__(
        self,
        desk: Desk,
        *,
        authorize: Authorize | None,
        admin_surface: AdminSurface,
        prefix: str,
        trusted_origins: Collection[str],
        settings: PageSettings | None,
        otherwise: ASGIApp | None,
        clock: Clock | None,
    ) -> None:
        if admin_surface not in get_args(AdminSurface):
            raise ConfigurationError(f"admin_surface is one of {', '.join(get_args(AdminSurface))}")
        settings = settings or PageSettings()
        self.prefix = normalised(prefix)
        self._clock = clock or desk.clock
        self._otherwise = otherwise
        self._pages = Pages(
            desk=desk,
            door=Door(authorize, admin_surface, trusted_origins),
            settings=settings,
            limits=desk.limits,
            renderer=Renderer(settings),
            files=StaticFiles(settings),
            tokens=PlanTokens(settings.secret, self._clock),
        )
        self._security = {**SECURITY_HEADERS, "content-security-policy": settings.content_security_policy}

    def takes(self, scope: Scope) -> bool:
        """Return whether a path in a host's routing is ours: all below the prefix, or at a host's root what we know."""
        if not self.prefix:
            return isinstance(find(scope, ""), Found)
        path = path_in_host(scope)
        return path == self.prefix or path.startswith(f"{self.prefix}/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; what is not ours goes to ``otherwise``, if there is one."""
        if scope["type"] != "http":
            await (self._otherwise or not_http)(scope, receive, send)
            return
        if self._otherwise is not None and not self.takes(scope):
            await self._otherwise(scope, receive, send)
            return
        found = find(scope, self.prefix)
        request = Request(scope, receive)
        request_id = request_id_of(request)
        try:
            if isinstance(found, Found) and found.place.name == "events" and request.method == "GET":
                await self._stream(found, request, request_id, receive, send)
                return
            answer, security = await self._answer(found, request, request_id)
        except ClientDisconnect:
            return
        await answer.send(with_headers(send, request_id, security), head=request.method == "HEAD")

    # --- one request ------------------------------------------------------------------------------------------------

    async def _answer(
        self, found: Found | Elsewhere | None, request: Request, request_id: str
    ) -> tuple[Answer, Mapping[str, str]]:
        if isinstance(found, Elsewhere):
            return Answer(308, headers=[("location", f"{self._base(found.base)}/")]), self._security
        if found is not None and found.place.name == "static":
            return self._file(found, request)
        call = self._call(found, request, request_id)
        try:
            if found is None:
                return self._error(call, 404, "There is no such page."), self._security
            if request.method == "OPTIONS":
                return Answer(204, headers=[("allow", found.place.allow)]), self._security
            acts = request.method == "POST"
            if request.method not in {"GET", "HEAD", "POST"} or (acts and not found.place.acts):
                detail = f"This page takes {found.place.allow}."
                return self._error(call, 405, detail, [("allow", found.place.allow)]), self._security
            return await self._admit_and_show(call, acts=acts), self._security
        except ClientDisconnect:
            raise
        except (Unauthorized, AuthorizationFailed) as error:
            return self._unknown(call, error), self._security
        except Exception as error:  # noqa: BLE001  # each becomes a page, and what is our fault is logged with its stack
            return self._failed(call, error), self._security

    async def _admit_and_show(self, call: PageCall, *, acts: bool) -> Answer:
        place = call.place
        scope = place.acts if acts and place.acts else place.scope
        principal = await self._pages.door.admitted(call.request, scope, acts=acts)
        # A form that is not taken is shown again, with all that stands on its page.
        barred = why_barred(principal, place.scope, "tenant")
        if barred is not None:
            raise barred
        return await VIEWS[place.name](_with(call, principal))

    async def _stream(self, found: Found, request: Request, request_id: str, receive: Receive, send: Send) -> None:
        call = self._call(found, request, request_id)
        secured = with_headers(send, request_id, self._security)
        try:
            principal = await self._pages.door.admitted(request, found.place.scope, acts=False)
            serve = runs.events_of(_with(call, principal))
        except (Unauthorized, AuthorizationFailed) as error:
            await self._unknown(call, error).send(secured)
            return
        except Exception as error:  # noqa: BLE001  # as in _answer
            await self._failed(call, error).send(secured)
            return
        await serve_events(serve, receive, secured)

    def _call(self, found: Found | None, request: Request, request_id: str) -> PageCall:
        place = PLACES[0] if found is None else found.place
        base = self._base(self._guess_base(request) if found is None else found.base)
        links = Links(base, self._pages.files.version)
        values = () if found is None else found.values
        nobody = Principal(None, ())
        return PageCall(request, request_id, self._pages, place, values, links, nobody, self._clock.now())

    def _base(self, base: str) -> str:
        external = self._pages.settings.external_prefix
        return base if external is None else external

    def _guess_base(self, request: Request) -> str:
        return str(request.scope.get("root_path") or "").rstrip("/") + self.prefix

    def _file(self, found: Found, request: Request) -> tuple[Answer, Mapping[str, str]]:
        _, name = found.values
        # Pages are left to the host's or the proxy's compression: they hold secrets of their reader's, and what strangers wrote.
        packed = "gzip" in request.headers.get("accept-encoding", "")
        file = self._pages.files.find(name, packed=packed)
        if file is None:
            return Answer(404, b"", content_type="text/plain"), self._security
        if request.method not in {"GET", "HEAD"}:
            status = 204 if request.method == "OPTIONS" else 405
            return Answer(status, headers=[("allow", found.place.allow)]), self._security
        headers = [("vary", "accept-encoding"), *([("content-encoding", "gzip")] if packed else [])]
        # Any version is answered with today's file: a page of yesterday, still open, is better off with it than without any.
        security = {**self._security, "cache-control": _FOR_EVER}
        return Answer(200, file[0], headers, file[1]), security

    # --- errors, as pages -------------------------------------------------------------------------------------------

    def _error(
        self, call: PageCall, status: int, detail: str, headers: Collection[tuple[str, str]] = (), code: str = ""
    ) -> Answer:
        answer = call.page("error.html", status, status_code=status, detail=detail, code=code)
        return Answer(status, answer.data, [*answer.headers, *headers], answer.content_type)

    def _unknown(self, call: PageCall, error: Unauthorized | AuthorizationFailed) -> Answer:
        if isinstance(error, AuthorizationFailed):
            _log.error("pages: authorize raised, request %s", call.request_id, exc_info=error.__cause__)
            return self._error(call, 500, "The request could not be authorised.", code="authorization_failed")
        login = self._pages.settings.login_url
        if login is not None and call.request.method in {"GET", "HEAD"} and not call.part:
            return call.redirect(login.replace("{next}", quote(call.here, safe="")))
        return self._error(call, 401, "Nobody is logged in.", [("www-authenticate", "Bearer")], "unauthorized")

    def _failed(self, call: PageCall, error: Exception) -> Answer:
        action = call.place.action if call.request.method == "POST" else ""
        code, members = describe_error(error, action=action)
        status = status_of(code, action)
        if status >= 500:
            _log.error("page %s failed, request %s", call.place.name, call.request_id, exc_info=error)
        headers = [("retry-after", "5")] if status == 503 else []
        return self._error(call, status, str(members["detail"]), headers, code)


def _with(call: PageCall, principal: Principal) -> PageCall:
    return PageCall(call.request, call.request_id, call.pages, call.place, call.values, call.links, principal, call.now)


def pages_asgi(
    desk: Desk,
    *,
    authorize: Authorize | None = None,
    prefix: str = "",
    admin_surface: AdminSurface = "tenant",
    trusted_origins: Collection[str] = (),
    settings: PageSettings | None = None,
    otherwise: ASGIApp | None = None,
    clock: Clock | None = None,
) -> PagesApp:
    """Return the pages as an ASGI application, to be served alone, mounted, or put before any host.

    Args:
        desk: What the pages show and act through.
        authorize: From a Starlette ``Request`` to a ``Principal`` or None; the same as for the API.
        prefix: Where the pages are within this application's paths; empty for one that the host mounts (Starlette's ``Mount``,
            Litestar's ``asgi`` with the mount's path as prefix, WSGI dispatchers).
        admin_surface: ``tenant`` acts; ``cloud`` and ``disabled`` only show, and say so on the buttons.
        trusted_origins: Origins whose pages may act though they are not of the host that is asked.
        settings: Names, colours, time zone, links.
        otherwise: The host's own ASGI application, which gets every request that is not ours.
        clock: For tests and pictures; default: the desk's.

    Raises:
        ConfigurationError: without ``authorize``, or with a value that means nothing.
    """
    return PagesApp(
        desk,
        authorize=authorize,
        admin_surface=admin_surface,
        prefix=prefix,
        trusted_origins=trusted_origins,
        settings=settings,
        otherwise=otherwise,
        clock=clock,
    )


def mount_workflow_runs_pages(
    app: Any,
    desk: Desk,
    prefix: str = "/desk",
    authorize: Authorize | None = None,
    admin_surface: AdminSurface = "tenant",
    *,
    trusted_origins: Collection[str] = (),
    settings: PageSettings | None = None,
    clock: Clock | None = None,
) -> PagesApp:
    """Add the pages to a FastAPI or Starlette application. They take all below the prefix; at ``""`` only the paths they know.

    Raises:
        ConfigurationError: as ``pages_asgi``, or the application is of another kind.
    """
    pages = pages_asgi(
        desk,
        authorize=authorize,
        prefix=prefix,
        admin_surface=admin_surface,
        trusted_origins=trusted_origins,
        settings=settings,
        clock=clock,
    )
    add_route(app, AppRoute(pages, pages.takes))
    return pages
