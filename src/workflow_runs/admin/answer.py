"""An answer on its way out: status, body, headers; and the one place that sets the headers of every answer, errors included."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import Message, Send

from ..model.jsontext import dump
from ..wire import ERROR_CODES, Json, describe_error, status_of

# One middleware for all answers: a header that is set per route is missing on the route added later (Argo, GHSA-cv78-6m8q-ph82).
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation or a page answers: rendered JSON, HTML, a file, or no body at all."""

    status: int
    data: bytes | None = None
    headers: Sequence[tuple[str, str]] = ()
    content_type: str = "application/json"

    async def send(self, send: Send, *, head: bool = False) -> None:
        """Send it; for HEAD the length is told and the body kept."""
        data = self.data or b""
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        if self.data is not None:
            headers.append((b"content-type", self.content_type.encode("latin-1")))
            headers.append((b"content-length", str(len(data)).encode("ascii")))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head else data})


def render(status: int, body: Json, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    """Return an answer with a body. Of runs and steps it is called in a thread: ten thousand steps take their time to render."""
    return Answer(status, dump(body).encode(), headers)


def error_answer(
    code: str,
    detail: str,
    request_id: str,
    *,
    action: str = "",
    headers: Sequence[tuple[str, str]] = (),
    members: Mapping[str, Any] | None = None,
) -> Answer:
    """Return the answer of an error code; ``members`` are what the code adds to the body."""
    retry_after_s = ERROR_CODES[code].retry_after_s
    retry = () if retry_after_s is None else (("retry-after", str(retry_after_s)),)
    fixed = {"error": code, "detail": detail, "requestId": request_id}
    if code == "invalid_request":
        fixed["code"] = code  # the original's trigger answers it under this name too
    # What is fixed stands first, where people look, and nothing that a refusal adds can take its place.
    return render(status_of(code, action), fixed | dict(members or {}) | fixed, (*headers, *retry))


def answer_to(error: Exception, request_id: str, *, action: str = "") -> Answer:
    """Return the answer to an exception."""
    code, members = describe_error(error, action=action)
    return error_answer(code, members["detail"], request_id, action=action, members=members)


def request_id_of(request: Request) -> str:
    """Return the id under which this request is logged and audited: the caller's if it is well-formed, else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def with_headers(send: Send, request_id: str, security: Mapping[str, str] = SECURITY_HEADERS) -> Send:
    """Return a ``send`` that adds the headers of every answer; ``security`` are those of the API, unless pages give their own."""

    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(security)
            headers["x-request-id"] = request_id
        await send(message)

    return secured
