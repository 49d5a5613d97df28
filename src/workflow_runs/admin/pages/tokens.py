"""Plan tokens: a form may only do what its page showed, to whom it showed it, and for five minutes.

The token names everything the decision rested on and is signed, so the server keeps nothing, and any process with the secret can check what
another one issued. It is the form's protection against forged requests (CSRF) as well: who does not see the page cannot know a token of
this user. Hosts that let people act without a user id share one user here, and have to keep strangers from the pages by other means.

It is no permission: whoever sends it is authorised anew, and the action names the plan's hash, which is compared when it is carried out.
Rejected: encrypting it (all of it stands on the page that carries it), and a list of issued tokens (state that processes would have to
share).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final

from ...clock import Clock
from ...errors import ConfigurationError

TOKEN_AGE_S: Final = 300
SECRET_BYTES_MIN: Final = 32

_EXECUTED_MAX: Final = 50  # labels; the plan's hash covers the others
_LABEL_LENGTH_MAX: Final = 60
_TOKEN_LENGTH_MAX: Final = 64_000  # the longest labels come to half of it
_SKEW_S: Final = 60  # by which the clock of the process that issued it may be ahead
_PURPOSE: Final = b"workflow-runs plan token 1\x00"  # so that the same secret may sign other things


def action_key(token: str) -> str:
    """Return the idempotency key of a form: one form is one action, however often it is sent, and however late."""
    return f"page-{hashlib.blake2b(token.encode('utf-8', 'replace'), digest_size=20).hexdigest()}"


@dataclass(frozen=True, slots=True)
class TokenBasis:
    """What a decision rests on: who, what, and the plan that was shown."""

    user: str | None
    action: str  # rerun, resume, cancel
    run_id: str
    from_step: str | None
    plan_hash: str | None  # a cancel has no plan
    guard: str
    executed: tuple[str, ...] = ()  # labels: for telling what has changed; cut to what a form should carry
    kept: int = 0


class TokenState(StrEnum):
    """What a token is worth now."""

    GOOD = "good"
    EXPIRED = "expired"  # it was good, and is too old
    CHANGED = "changed"  # the plan is another one by now
    FORGED = "forged"  # not of this server, not for this user, run or action, or not a token at all


@dataclass(frozen=True, slots=True)
class TokenCheck:
    """The answer to a token. ``seen`` is what it was made from, for showing what changed; None of a forged one."""

    state: TokenState
    seen: TokenBasis | None = None


class PlanTokens:
    """Issues and checks tokens. Safe to use from any thread.

    Args:
        secret: At least 32 bytes; the same in every process that serves the pages.
        clock: Tells how old a token is.

    Raises:
        ConfigurationError: the secret is too short to keep anybody from guessing it.
    """

    def __init__(self, secret: bytes, clock: Clock) -> None:
        if len(secret) < SECRET_BYTES_MIN:
            raise ConfigurationError(f"the secret of the pages needs at least {SECRET_BYTES_MIN} bytes")
        self._secret = secret
        self._clock = clock

    def issue(self, basis: TokenBasis) -> str:
        """Return a token for a form: letters, digits, ``-``, ``_`` and one ``.``."""
        claims = [self._clock.now_millis(), asdict(_cut(basis))]
        text = _encode(json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
        return f"{text}.{self._signature(text)}"

    def check(self, token: str, basis: TokenBasis) -> TokenCheck:
        """Return what a token is worth for what would be done now."""
        found = self._read(token)
        if found is None:
            return TokenCheck(TokenState.FORGED)
        issued_ms, seen = found
        now = _cut(basis)
        if (seen.user, seen.action, seen.run_id) != (now.user, now.action, now.run_id):
            return TokenCheck(TokenState.FORGED)
        if seen != now:
            return TokenCheck(TokenState.CHANGED, seen)
        age_s = (self._clock.now_millis() - issued_ms) / 1000
        fresh = -_SKEW_S <= age_s <= TOKEN_AGE_S
        return TokenCheck(TokenState.GOOD if fresh else TokenState.EXPIRED, seen)

    def _read(self, token: str) -> tuple[int, TokenBasis] | None:
        text, _, signature = token.partition(".")
        if len(token) > _TOKEN_LENGTH_MAX or not token.isascii():
            return None
        if not hmac.compare_digest(signature, self._signature(text)):
            return None
        # Of our own making: it is signed.
        issued_ms, claims = json.loads(_decode(text).decode("utf-8", "surrogatepass"))
        return issued_ms, _basis(claims)

    def _signature(self, text: str) -> str:
        return _encode(hmac.digest(self._secret, _PURPOSE + text.encode("ascii"), hashlib.sha256))


def _cut(basis: TokenBasis) -> TokenBasis:
    shown = tuple(label[:_LABEL_LENGTH_MAX] for label in basis.executed[:_EXECUTED_MAX])
    return replace(basis, executed=shown)


def _basis(claims: dict[str, Any]) -> TokenBasis:
    return TokenBasis(**{**claims, "executed": tuple(claims["executed"])})


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
