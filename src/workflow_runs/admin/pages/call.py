"""A request to a page that has passed the checks, and how it is answered: as a page, a part of one, or a redirect."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote

from starlette.requests import Request

from ...errors import InvalidBody, InvalidQuery, NotFound, StoreUnavailable
from ...model.records import Run, RunFilter
from ...operations.desk import Desk
from ...settings import Limits
from ..access import CANCEL, READ_PAYLOAD, RETRY, TRIGGER, Principal, why_barred
from ..answer import Answer
from ..body import PayloadTooLarge, UnsupportedMediaType
from ..door import Door
from . import formats
from .links import Links
from .places import Place
from .rendering import Renderer, StaticFiles
from .settings import PageSettings
from .tokens import PlanTokens

T = TypeVar("T")

_HTML: Final = "text/html; charset=utf-8"
_FORM: Final = "application/x-www-form-urlencoded"
_FIELDS_MAX: Final = 100
_PARTS: Final = {"live": "fragment.html", "dialog": "dialog.html", "part": "fragment.html"}


@dataclass(frozen=True, slots=True)
class Pages:
    """What all requests of one mounted application share."""

    desk: Desk
    door: Door
    settings: PageSettings
    limits: Limits
    renderer: Renderer
    files: StaticFiles
    tokens: PlanTokens


@dataclass(frozen=True)
class PageCall:
    """A request. ``values`` are the parameters of the path, ``now`` the time by which everything on the page is told."""

    request: Request
    request_id: str
    pages: Pages
    place: Place
    values: tuple[str, ...]
    links: Links
    principal: Principal
    now: datetime

    # --- what is asked ----------------------------------------------------------------------------------------------

    @property
    def desk(self) -> Desk:
        """The desk."""
        return self.pages.desk

    @property
    def settings(self) -> PageSettings:
        """The host's settings."""
        return self.pages.settings

    @cached_property
    def query(self) -> dict[str, str]:
        """The parameters of the address; of a repeated one the last."""
        return dict(self.query_pairs)

    @cached_property
    def query_pairs(self) -> list[tuple[str, str]]:
        """The parameters of the address, in order. Raises InvalidQuery for what is not percent-encoded UTF-8."""
        raw = bytes(self.request.scope.get("query_string") or b"")
        return _pairs(raw, InvalidQuery("The address has a query that is not percent-encoded UTF-8, or too long."))

    def number(self, name: str) -> int | None:
        """Return a parameter that is a small number, or None: a page is shown all the same."""
        text = self.query.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None

    async def form(self) -> dict[str, str]:
        """Read a form.

        Raises:
            UnsupportedMediaType, PayloadTooLarge, InvalidBody: it is none, or too long, or not UTF-8.
        """
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _FORM:
            raise UnsupportedMediaType("A page takes a form.")
        data = bytearray()
        async for chunk in self.request.stream():
            data += chunk
            # Percent-encoding makes three bytes of one.
            if len(data) > 3 * self.pages.limits.body_bytes_max:
                raise PayloadTooLarge("The form is too long.", maxBytes=3 * self.pages.limits.body_bytes_max)
        return dict(_pairs(bytes(data), InvalidBody("The form is not percent-encoded UTF-8, or has too many fields.")))

    @property
    def part(self) -> str:
        """Which part of a page the script of ours asks for; empty for a whole page."""
        wanted = self.request.headers.get("x-fragment", "")
        return wanted if wanted in _PARTS else ""

    async def in_thread(self, question: Callable[[], T]) -> T:
        """Ask something that waits for the database."""
        return await self.pages.door.in_thread(question)

    @property
    def here(self) -> str:
        """The address that was asked for, as the browser sees it: what a path was cut to on its way is no place to come back to."""
        values = iter(self.values)
        segments = (quote(next(values), safe="") if word.startswith("{") else word for word in self.place.segments)
        query = bytes(self.request.scope.get("query_string") or b"").decode("latin-1")
        return f"{self.links.base}/{'/'.join(segments)}{'?' if query else ''}{query}"

    # --- who asks ---------------------------------------------------------------------------------------------------

    @property
    def shown(self) -> bool:
        """Whether payloads may be seen."""
        return self.principal.may(READ_PAYLOAD)

    def why_not(self, scope: str) -> str | None:
        """Return in words why the principal may not act here, or None."""
        barred = why_barred(self.principal, scope, self.pages.door.surface)
        return None if barred is None else str(barred)

    def narrowed(self, where: RunFilter) -> RunFilter | None:
        """Return the filter for what exists for this principal; None: nothing does."""
        allowed = self.principal.workflows
        if allowed is None:
            return where
        names = tuple(name for name in where.workflow_names or sorted(allowed) if name in allowed)
        return replace(where, workflow_names=names) if names else None

    def seen(self, run: Run) -> Run:
        """Return the run if it exists for this principal.

        Raises:
            NotFound: it does not.
        """
        if not self.principal.sees(run.workflow_name):
            raise NotFound("There is no such run.")
        return run

    # --- how it is answered -----------------------------------------------------------------------------------------

    def page(self, template: str, status: int = 200, **context: Any) -> Answer:
        """Render a page, or the part of it that was asked for. A part that the browser has already is not sent again."""
        body = self.pages.renderer.render(template, {**self.context(), **context})
        if not self.part:
            return Answer(status, body, content_type=_HTML)
        tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        headers = [("etag", tag), ("vary", "x-fragment")]
        if status == 200 and self.request.headers.get("if-none-match") == tag:
            return Answer(304, headers=headers)
        return Answer(status, body, headers, _HTML)

    def context(self) -> dict[str, Any]:
        """What every template is told."""
        desk_acts = self.pages.door.surface
        return {
            "call": self,
            "links": self.links,
            "layout": _PARTS.get(self.part, "base.html"),
            "files": self.pages.files,
            "principal": self.principal,
            "shown": self.shown,
            "surface": desk_acts,
            "now": self.now,
            "zone_name": self.now.astimezone(self.settings.zone).tzname(),
            "theme": self.theme,
            "moment": self.moment,
            "request_id": self.request_id,
            "why_not": {
                "resume": self.why_not(RETRY),
                "rerun": self.why_not(RETRY),
                "cancel": self.why_not(CANCEL),
                "trigger": self.why_not(TRIGGER),
            },
            "events": None,
        }

    def moment(self, when: datetime) -> formats.Moment:
        """Return a time as it is shown."""
        return formats.moment(when, self.now, self.settings.zone)

    @property
    def theme(self) -> str | None:
        """``light`` or ``dark`` if the reader chose one."""
        try:
            morsel = SimpleCookie(self.request.headers.get("cookie", "")).get("wr_theme")
        except CookieError:
            return None
        return morsel.value if morsel is not None and morsel.value in {"light", "dark"} else None

    def redirect(self, where: str) -> Answer:
        """Send the browser on with a GET."""
        return Answer(303, headers=[("location", where)])

    def soft(self, question: Callable[[], T]) -> T | None:
        """Ask something that a page can do without: None when the database cannot say it now, and the rest of the page stays."""
        try:
            return question()
        except StoreUnavailable:
            return None


def _pairs(raw: bytes, complaint: Exception) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX)
    except ValueError as error:
        raise complaint from error
    if any("\x00" in text for pair in pairs for text in pair):
        raise complaint
    return pairs
