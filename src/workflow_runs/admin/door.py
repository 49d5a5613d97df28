"""What every door of ours does before it opens: ask who is there, refuse foreign pages, keep blocking work off the event loop.

The admin API and the pages are two doors to the same desk. They differ in what they answer (JSON, HTML) and in nothing of this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final, TypeVar

from anyio import CapacityLimiter, move_on_after, to_thread
from anyio.lowlevel import RunVar
from starlette.requests import Request

from ..errors import ConfigurationError, Refusal, Unauthorized
from .access import AdminSurface, Authorize, DevelopmentAccess, Principal, ask, is_cross_site, why_barred

T = TypeVar("T")

# Threads that may wait for the database at once, beside the host's own: many, since those that write share a commit.
THREADS_MAX: Final = 40
# Guards of the host that may be at work at once for readers of pages, those included that nobody waits for any longer.
GUARDS_MAX: Final = 10


class CrossSite(Refusal):
    """A browser acts on behalf of a foreign page."""

    code = "cross_site"


class AuthorizationFailed(Exception):  # says what happened; it never leaves the admin package
    """The host's authoriser raised; the cause is its exception."""


class Door:
    """Who may come in. One for each mounted application.

    Raises:
        ConfigurationError: there is no ``authorize``, or ``trusted_origins`` is one text.
    """

    def __init__(self, authorize: Authorize | None, surface: AdminSurface, trusted_origins: Collection[str]) -> None:
        if authorize is None:
            raise ConfigurationError(
                "the admin routes need authorize=: a function from a request to a Principal or None. "
                "On your own machine development_access() will do"
            )
        if isinstance(trusted_origins, str):
            raise ConfigurationError("trusted_origins is a collection of origins such as https://app.example.com")
        self.authorize = authorize
        self.surface: AdminSurface = surface
        self._trusted_origins = frozenset(trusted_origins)
        self._threads: RunVar[CapacityLimiter] = RunVar("workflow_runs.admin.threads")
        self._guards = threading.BoundedSemaphore(GUARDS_MAX)

    @property
    def is_development(self) -> bool:
        """Whether everybody at this machine may do everything here."""
        return isinstance(self.authorize, DevelopmentAccess)

    async def known(self, request: Request) -> Principal:
        """Return who sends the request.

        Raises:
            Unauthorized: nobody whom the host knows.
            AuthorizationFailed: the host's authoriser raised.
        """
        try:
            principal = await ask(self.authorize, request)
        except Exception as error:
            raise AuthorizationFailed from error
        if principal is None:
            raise Unauthorized("Nobody is logged in.")
        return principal

    async def admitted(self, request: Request, scope: str, *, acts: bool) -> Principal:
        """Return the principal, once everything that stands before the request's content is checked, in the contract's order.

        Raises:
            CrossSite: it acts, and a page of another site made the browser send it.
            Refusal: the surface or the principal's scopes do not allow it.
            Unauthorized, AuthorizationFailed: as ``known``.
        """
        principal = await self.known(request)
        if acts and is_cross_site(request, self._trusted_origins):
            raise CrossSite("This request was sent by a page of another site.")
        barred = why_barred(principal, scope, self.surface if acts else "tenant")
        if barred is not None:
            raise barred
        return principal

    async def in_thread(self, call: Callable[[], T], /, *, abandon: bool = False) -> T:
        """Run a blocking call in a thread of our own number: a database that hangs must not use up those of the host.

        ``abandon``: whoever waits may stop waiting; the thread ends when the call does.
        """
        try:
            threads = self._threads.get()
        except LookupError:
            threads = CapacityLimiter(THREADS_MAX)
            self._threads.set(threads)
        return await to_thread.run_sync(call, limiter=threads, abandon_on_cancel=abandon)

    async def ask_guard(self, ask: Callable[[], T], timeout_s: float) -> T | None:
        """Run code of the host's that may hang in a thread; None when it has not answered in time, or when too many hang already.

        A thread cannot be stopped. One that nobody waits for counts until its call has come back, so that a guard that never
        answers holds ``GUARDS_MAX`` threads and not one more for each page that is looked at.
        """
        if not self._guards.acquire(blocking=False):
            return None
        places = [self._guards]  # whoever takes it out gives it back: the thread, or we if no thread has begun

        def call() -> T | None:
            try:
                place = places.pop()
            except IndexError:  # nobody waits any longer
                return None
            try:
                return ask()
            finally:
                place.release()

        try:
            with move_on_after(timeout_s):
                return await to_thread.run_sync(call, limiter=CapacityLimiter(1), abandon_on_cancel=True)
        finally:
            with suppress(IndexError):
                places.pop().release()
        return None
