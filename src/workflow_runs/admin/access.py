"""Who may do what: principals, scopes, and the checks that stand before every operation.

One seam. The host gives ``authorize``; it answers with a ``Principal`` or with None (nobody is logged in). Each route declares the scope it
needs (``routes``). Rejected: roles (hosts have their own) and a default authoriser (a desk that forgets to ask is open to all).

Wildcards grant reading only. A scope that acts on the world has to be given by its full name, so that a token made "for everything" years
ago does not charge cards today (the original's "explicit" rule, which its own trigger route contradicts: spec 17.4).
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
import ipaddress
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.requests import Request

from ..errors import ConfigurationError, Forbidden, Refusal, SurfaceRestricted

READ: Final = "workflows:read"
READ_PAYLOAD: Final = "workflows:read-payload"
TRIGGER: Final = "workflows:trigger"
RETRY: Final = "workflows:retry"
CANCEL: Final = "workflows:cancel"
ADMIN: Final = "workflows:admin"

SCOPES: Final[Mapping[str, str]] = {
    READ: "see runs, steps, statuses, times, workflows and plans, without payloads",
    READ_PAYLOAD: "see inputs, outputs, results and errors as well",
    TRIGGER: "start a run",
    RETRY: "rerun and resume",
    CANCEL: "cancel a run",
    ADMIN: "administer; no route asks for it yet",
}
WILDCARDS: Final = frozenset({"*", "*:*", "workflows:*"})
_OPENED_BY_WILDCARD: Final = frozenset({READ, READ_PAYLOAD})

AdminSurface: TypeAlias = Literal["tenant", "cloud", "disabled"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever sends a request.

    Args:
        id: What is recorded as the acting user; None for somebody who is authenticated and has no user id (a service, a key).
        scopes: Scope texts; compared trimmed and without regard to case.
        workflows: Names of the workflows whose runs this principal can see and act on; the others do not exist for it. None: all.
    """

    id: str | None
    scopes: Collection[str]
    workflows: Collection[str] | None = None

    def __post_init__(self) -> None:
        """Refuse one text where several are meant: its letters would be taken as scopes, and grant nothing, silently."""
        if isinstance(self.scopes, str) or isinstance(self.workflows, str):
            raise ConfigurationError("Principal: scopes and workflows are collections of texts, not one text")

    def may(self, scope: str) -> bool:
        """Return whether the principal holds the scope."""
        held = {given.strip().lower() for given in self.scopes}
        return scope in held or (scope in _OPENED_BY_WILDCARD and not held.isdisjoint(WILDCARDS))

    def sees(self, workflow_name: str) -> bool:
        """Return whether runs of this workflow exist for the principal."""
        return self.workflows is None or workflow_name in self.workflows


def why_barred(principal: Principal, scope: str, surface: AdminSurface) -> Refusal | None:
    """Return why the principal may not act here, whatever it is about; None if it may."""
    if surface != "tenant":
        return SurfaceRestricted("Runs are only shown here, not acted on.", surface=surface)
    if not principal.may(scope):
        return Forbidden(f"This needs the scope {scope}.", scope=scope)
    return None


Authorize: TypeAlias = Callable[[Request], Principal | Awaitable[Principal | None] | None]


async def ask(authorize: Authorize, request: Request) -> Principal | None:
    """Call the host's authoriser: a coroutine function on the loop, a plain one in a thread, where it may block.

    Raises:
        ConfigurationError: it gave something that is no principal; True is not an identity.
    """
    if _is_async(authorize):
        answer: Any = authorize(request)
    else:
        answer = await to_thread.run_sync(authorize, request)
    if inspect.isawaitable(answer):
        answer = await answer
    if answer is not None and not isinstance(answer, Principal):
        raise ConfigurationError(f"authorize returned a {type(answer).__name__}; it must return a Principal or None")
    return answer


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # not whether it is callable: whether its call is a coroutine


# --- authorisers that are ready to use -------------------------------------------------------------------------------


class DevelopmentAccess:
    """Full rights for whoever sits at this machine; see ``development_access``. Servers refuse a public bind with it."""

    async def __call__(self, request: Request) -> Principal | None:
        """Return the principal of a request that comes from this machine and is addressed to it."""
        peer = request.client.host if request.client else ""
        if not _is_loopback(peer) or not _is_loopback_name(request.headers.getlist("host")):
            return None
        # Through a proxy the peer is the proxy: who is behind it cannot be known.
        if any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via")):
            return None
        return Principal(id=None, scopes=tuple(SCOPES))


def development_access() -> DevelopmentAccess:
    """Return an authoriser that gives full rights to requests from this machine, and none to others.

    The peer has to be a loopback address and ``Host`` has to be ``localhost``, ``127.0.0.1`` or ``[::1]``: without the second check any
    web page could reach the desk through a name of its own that resolves to 127.0.0.1 (DNS rebinding).
    """
    return DevelopmentAccess()


def bearer_tokens(principals: Mapping[str, Principal]) -> Callable[[Request], Awaitable[Principal | None]]:
    """Return an authoriser for ``Authorization: Bearer TOKEN``.

    Tokens are kept and compared as SHA-256 digests, each of them on every request, so that neither memory dumps nor response times tell
    one. Use 256 bits from ``secrets``: a fast hash is no protection for a guessable token.

    Raises:
        ConfigurationError: a token is empty.
    """
    if not all(token.strip() for token in principals):
        raise ConfigurationError("bearer_tokens: a token is empty")
    known = [(_digest(token), principal) for token, principal in principals.items()]

    async def authorize(request: Request) -> Principal | None:
        given = request.headers.getlist("authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() != "bearer":
            return None
        digest, found = _digest(token.strip(" ")), None
        for candidate, principal in known:
            if hmac.compare_digest(candidate, digest):
                found = principal
        return found

    return authorize


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


# --- where a request comes from --------------------------------------------------------------------------------------

_LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE | re.ASCII)


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _is_loopback_name(hosts: list[str]) -> bool:
    return len(hosts) == 1 and _LOOPBACK_HOST.fullmatch(hosts[0]) is not None


def is_cross_site(request: Request, trusted_origins: Collection[str]) -> bool:
    """Return whether a browser sent this request on behalf of a foreign page.

    ``Sec-Fetch-Site`` is set by the browser and cannot be forged by a page; where it is missing (older browsers) ``Origin`` has to name the
    host that is asked. Programs send neither and pass. Source: the algorithm is that of Go's ``http.CrossOriginProtection``.
    """
    origin = request.headers.get("origin")
    if origin is not None and origin in trusted_origins:
        return False
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site.strip().lower() not in {"same-origin", "none"}
    if origin is None:
        return False
    asked = _authority(f"{request.url.scheme}://{request.headers.get('host', '')}")
    return asked is None or _authority(origin) != asked


def _authority(origin: str) -> tuple[str, int | None] | None:
    """Host and port of an origin, the scheme's own port filled in; None when it is not one."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname:
        return None
    return parts.hostname, port or {"http": 80, "https": 443}.get(parts.scheme)
