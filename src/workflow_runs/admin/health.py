"""``/healthz`` and ``/readyz``: the only routes that are open, and all they tell is two words.

Alive means: the schema was seen once; a database that is away later does not make a process that waits for it dead, and must not make
an orchestrator kill it. Ready means: the database can be used now. Source: contract, section Access.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from anyio import CapacityLimiter, move_on_after, to_thread
from anyio.lowlevel import RunVar
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ConfigurationError
from .answer import Answer, error_answer, render, request_id_of, with_headers
from .hosting import AppRoute, add_route, not_http, path_in_host
from .openapi import merged

# A probe waits no longer; a database that does not answer in this time is not usable.
TIMEOUT_S: Final = 3.0
# Probes at once. Anybody may ask: more of them than this wait for each other instead of for the database.
_PROBES_MAX: Final = 2

HEALTHZ: Final = "/healthz"
READYZ: Final = "/readyz"

_log = logging.getLogger("workflow_runs.admin")


class Checked(Protocol):
    """What can be probed: a desk, a store."""

    def check_ready(self) -> None:
        """Return when the database can be used; raise otherwise."""
        ...


class HealthApp:
    """The health routes as an ASGI application."""

    def __init__(self, checked: Checked, *, healthz: str, readyz: str, otherwise: ASGIApp | None) -> None:
        if not callable(getattr(checked, "check_ready", None)):
            # Found out by a probe, it would be a process that never gets ready, and nobody would know why.
            raise ConfigurationError(f"health is asked of a store (check_ready), not of a {type(checked).__name__}")
        self._checked = checked
        self._checks: dict[str, Callable[[], Any]] = {healthz: self._is_alive, readyz: self._is_ready}
        self._otherwise = otherwise
        self._schema_seen = False
        self._threads: RunVar[CapacityLimiter] = RunVar("workflow_runs.health.threads")

    def takes(self, scope: Scope) -> bool:
        """Return whether the path is one of the two."""
        return path_in_host(scope) in self._checks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a probe; what is not one goes to ``otherwise``, if there is one."""
        is_http = scope["type"] == "http"
        if self._otherwise is not None and not (is_http and self.takes(scope)):
            await self._otherwise(scope, receive, send)
            return
        if not is_http:
            await not_http(scope, receive, send)
            return
        request = Request(scope, receive)
        request_id = request_id_of(request)
        answer = await self._answer(request, request_id)
        await answer.send(with_headers(send, request_id), head=request.method == "HEAD")

    async def _answer(self, request: Request, request_id: str) -> Answer:
        check = self._checks.get(path_in_host(request.scope))
        if check is None:
            return error_answer("not_found", "There is nothing at this path.", request_id)
        if request.method == "OPTIONS":
            return Answer(204, headers=[("allow", "GET, HEAD, OPTIONS")])
        if request.method not in {"GET", "HEAD"}:
            allow = [("allow", "GET, HEAD, OPTIONS")]
            return error_answer("method_not_allowed", "This path takes GET.", request_id, headers=allow)
        good = await check()
        checks = {"database": "ok" if good else "error"}
        retry = [] if good else [("retry-after", "1")]
        return render(200 if good else 503, {"ok": good, "service": "workflow-runs", "checks": checks}, retry)

    async def _is_alive(self) -> bool:
        return self._schema_seen or await self._is_ready()

    async def _is_ready(self) -> bool:
        try:
            threads = self._threads.get()
        except LookupError:
            threads = CapacityLimiter(_PROBES_MAX)
            self._threads.set(threads)
        good = False
        with move_on_after(TIMEOUT_S):
            good = await to_thread.run_sync(self._check, abandon_on_cancel=True, limiter=threads)
        self._schema_seen = self._schema_seen or good
        return good

    def _check(self) -> bool:
        try:
            self._checked.check_ready()
        except Exception as error:  # noqa: BLE001  # whatever it is, the answer is "not ready", and the log says why
            _log.warning("not ready: %s: %r", type(error).__name__, str(error))
            return False
        return True


def health_asgi(
    checked: Checked, *, healthz: str = HEALTHZ, readyz: str = READYZ, otherwise: ASGIApp | None = None
) -> HealthApp:
    """Return the health routes as an ASGI application; every other request goes to ``otherwise``."""
    return HealthApp(checked, healthz=healthz, readyz=readyz, otherwise=otherwise)


def mount_health_routes(app: Any, checked: Checked, *, healthz: str = HEALTHZ, readyz: str = READYZ) -> None:
    """Add the two open routes to a FastAPI or Starlette application, and to FastAPI's OpenAPI document.

    Raises:
        ConfigurationError: the application is of another kind; ``health_asgi`` serves those.
    """
    health = health_asgi(checked, healthz=healthz, readyz=readyz)
    add_route(app, AppRoute(health, health.takes, partial(merged, health=(healthz, readyz))))
