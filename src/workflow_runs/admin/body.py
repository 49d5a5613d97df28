"""Reading a request body: counted while it arrives, demanded to be JSON, parsed strictly.

A limit by ``Content-Length`` alone is none, since a chunked body has no length; the header is only the earlier of two refusals. The
content type is demanded because a form, or ``text/plain``, can be posted by any web page without the browser asking (contract, section
Bodies; spec: reliability, "Traps of our own stack").
"""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.requests import Request

from ..errors import InvalidBody, Refusal
from ..model.jsontext import parse_strict
from ..settings import Limits

_JSON_TYPE: Final = re.compile(
    r'\s*application/json\s*(;\s*(charset\s*=\s*("utf-?8"|utf-?8)\s*)?)*', re.IGNORECASE | re.ASCII
)


class PayloadTooLarge(Refusal):
    """The body is longer than is read."""

    code = "payload_too_large"


class UnsupportedMediaType(Refusal):
    """The body is not declared to be JSON."""

    code = "unsupported_media_type"


async def read_json(request: Request, limits: Limits, *, empty: Any) -> Any:
    """Return the parsed body, or ``empty`` when there is none.

    Raises:
        UnsupportedMediaType: there is a body of another content type, or a compressed one.
        PayloadTooLarge: it is longer than ``limits.body_bytes_max``.
        InvalidBody: it is not JSON that can be kept; ``field`` names the place.
        ClientDisconnect: the client went away before the end.
    """
    length = _declared_length(request)
    if length:
        _check_type(request)
        if length > limits.body_bytes_max:
            raise _too_large(limits)
    data = bytearray()
    async for chunk in request.stream():
        if chunk and not data:
            _check_type(request)
        data += chunk
        if len(data) > limits.body_bytes_max:
            raise _too_large(limits)
    return parse_strict(bytes(data), limits) if data else empty


def _declared_length(request: Request) -> int | None:
    given = request.headers.getlist("content-length")
    if not given:
        return None
    if len(given) != 1 or not re.fullmatch(r"[0-9]{1,18}", given[0], re.ASCII):
        raise InvalidBody("Content-Length has to be one integer.", field="Content-Length")
    return int(given[0])


def _check_type(request: Request) -> None:
    types = request.headers.getlist("content-type")
    if len(types) != 1 or not _JSON_TYPE.fullmatch(types[0]):
        raise UnsupportedMediaType("A body has to come with the content type application/json (UTF-8).")
    if request.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaType("A body must not be compressed.")


def _too_large(limits: Limits) -> PayloadTooLarge:
    return PayloadTooLarge(f"A body may have at most {limits.body_bytes_max} bytes.", maxBytes=limits.body_bytes_max)
