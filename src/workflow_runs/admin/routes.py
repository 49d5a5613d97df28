"""The table of routes, and how a path is read.

Our own table instead of the framework's router, for three reasons. The order of checks is fixed by the contract and begins with the
method; every route has to declare its scope, and one without fails here, at import; and names and ids are *percent-encoded single
segments* that may hold an encoded slash, which routers see only after decoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from ..errors import ConfigurationError
from .access import CANCEL, READ, RETRY, TRIGGER

ID: Final = "{runId}"
NAME: Final = "{workflowName}"

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*/?", re.ASCII)

# What any operation can answer beside its own codes.
EVERY_READ: Final = ("invalid_query", "unauthorized", "forbidden", "internal_error", "authorization_failed")
EVERY_ACTION: Final = (
    *("invalid_query", "unauthorized", "cross_site", "workflow_admin_surface_restricted", "forbidden"),
    *("payload_too_large", "unsupported_media_type", "internal_error", "authorization_failed"),
    *("store_unavailable", "schema_mismatch", "queue_full", "journal_closed"),
)
READ_FAILS: Final = ("db_unavailable", "schema_mismatch")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. ``codes`` are its error codes, by which the OpenAPI document and docs/api.md list its statuses."""

    name: str
    method: str
    path: str  # below the prefix
    scope: str
    success: int
    summary: str
    codes: tuple[str, ...]
    action: str = ""  # trigger, rerun, resume, cancel; empty for reads

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments; a parameter stands in braces."""
        return tuple(self.path.strip("/").split("/"))


OPERATIONS: Final = (
    Operation(
        "list_workflow_runs",
        "GET",
        "/workflow-runs",
        READ,
        200,
        "List runs, newest first",
        (*EVERY_READ, *READ_FAILS),
    ),
    Operation(
        "get_workflow_run",
        "GET",
        f"/workflow-runs/{ID}",
        READ,
        200,
        "Show a run with its steps",
        (*EVERY_READ, "not_found", *READ_FAILS),
    ),
    Operation(
        "plan_workflow_run",
        "GET",
        f"/workflow-runs/{ID}/plan",
        READ,
        200,
        "Show what a resume or rerun would do",
        (*EVERY_READ, "not_found", *READ_FAILS),
    ),
    Operation(
        "rerun_workflow_run",
        "POST",
        f"/workflow-runs/{ID}/rerun",
        RETRY,
        202,
        "Run the workflow again from the start",
        (
            *EVERY_ACTION,
            *("invalid_body", "invalid_request", "rerun_not_configured", "not_found", "run_not_finished"),
            *("runner_not_registered", "rerun_not_supported", "rerun_not_allowed", "confirmation_required"),
            *("rerun_blocked", "plan_changed", "idempotency_key_reused", "guard_failed", "rerun_failed", "refused"),
        ),
        action="rerun",
    ),
    Operation(
        "resume_workflow_run",
        "POST",
        f"/workflow-runs/{ID}/resume",
        RETRY,
        202,
        "Go on from the step that failed, in a new run",
        (
            *EVERY_ACTION,
            *("invalid_body", "invalid_request", "resume_not_configured", "not_found", "resume_not_allowed"),
            *("runner_not_registered", "resume_not_supported", "record_has_gap", "no_failed_step"),
            "incomplete_prior_step",
            *("already_resumed", "resume_blocked", "plan_changed", "idempotency_key_reused", "guard_failed"),
            *("resume_failed", "refused"),
        ),
        action="resume",
    ),
    Operation(
        "cancel_workflow_run",
        "POST",
        f"/workflow-runs/{ID}/cancel",
        CANCEL,
        202,
        "End a run that has not ended",
        (*EVERY_ACTION, "invalid_body", "not_found", "cancel_not_allowed", "refused"),
        action="cancel",
    ),
    Operation(
        "list_workflows",
        "GET",
        "/workflows",
        READ,
        200,
        "List the workflows that are registered here",
        EVERY_READ,
    ),
    Operation(
        "trigger_workflow",
        "POST",
        f"/workflows/{NAME}/runs",
        TRIGGER,
        202,
        "Start a run",
        (
            *EVERY_ACTION,
            *("invalid_request", "trigger_not_configured", "runner_not_registered", "trigger_not_supported"),
            *("idempotency_key_reused", "trigger_failed", "refused"),
        ),
        action="trigger",
    ),
)

_BY_SEGMENTS: Final[Mapping[tuple[str, ...], Mapping[str, Operation]]] = {
    path: {operation.method: operation for operation in OPERATIONS if operation.segments == path}
    for path in {operation.segments for operation in OPERATIONS}
}
assert all(operation.scope for operation in OPERATIONS)  # a route that declares no scope does not come to life


@dataclass(frozen=True, slots=True)
class Place:
    """A path of ours: the operations on it by method, and the name or id that stands in it (empty where none does)."""

    operations: Mapping[str, Operation]
    parameter: str

    @property
    def allow(self) -> str:
        """What ``Allow`` says. HEAD is answered wherever GET is."""
        methods = [*self.operations, *(["HEAD"] if "GET" in self.operations else []), "OPTIONS"]
        return ", ".join(sorted(methods))


def normalised(prefix: str) -> str:
    """Return a prefix without its last slash; the root of a host is the empty text.

    Raises:
        ConfigurationError: it is not an absolute path of plain segments.
    """
    if prefix and not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(
            "prefix has to look like /v1/admin: a slash, then letters, digits, '.', '_', '~' and '-'"
        )
    return prefix.rstrip("/")


def claims(scope: Mapping[str, Any], prefix: str) -> bool:
    """Return whether a path in a host's own routing is ours; a host keeps everything else below the prefix."""
    tail = _without(str(scope["path"]), str(scope.get("root_path") or ""))
    head = tail.removeprefix(prefix).split("/")[1:2]
    return tail.startswith(f"{prefix}/") and head in (["workflow-runs"], ["workflows"])


def find(scope: Mapping[str, Any], prefix: str) -> Place | None:
    """Return the place that the path of a request names, or None."""
    found = (_match(reading.tail, decode=reading.is_encoded) for reading in readings(scope, prefix))
    return next(filter(None, found), None)


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a path: ``tail`` is what is left below ``base``, where the mounted application is as seen from outside."""

    base: str
    tail: str
    is_encoded: bool


def readings(scope: Mapping[str, Any], prefix: str) -> Iterator[Reading]:
    """Yield the ways to read a request's path; the first that is a path of ours counts.

    Hosts hand a path to a mounted application in several ways: whole; whole, with ``root_path`` telling the mount; without
    ``raw_path`` (WSGI); or with the prefix cut off, told nowhere but in ``raw_path``, and a slash appended (Litestar).
    """
    root = str(scope.get("root_path") or "")
    path = str(scope.get("path") or "")
    raw = bytes(scope.get("raw_path") or b"").partition(b"?")[0]
    if raw:
        whole = raw.decode("latin-1")
        for tail in _tails(whole, root, prefix):
            yield Reading(_base(whole, tail, root), tail, is_encoded=True)
        if unquote_to_bytes(raw) == path.encode("utf-8", "surrogateescape"):
            return
        path = path.removesuffix("/")
    for tail in _tails(path, root, prefix):
        yield Reading(_base(path, tail, root), tail, is_encoded=False)


def _base(whole: str, tail: str, root: str) -> str:
    """Return where the application is; a path that the mount was cut off from lies below ``root_path`` all the same."""
    root = root.rstrip("/")
    before = whole[: len(whole) - len(tail)]
    return before if whole == root or whole.startswith(f"{root}/") else root + before


def _without(path: str, root: str) -> str:
    root = root.rstrip("/")
    return path.removeprefix(root) if root and (path == root or path.startswith(f"{root}/")) else path


def _tails(path: str, root: str, prefix: str) -> Iterator[str]:
    """The readings of a path: what is left when mount and prefix, the prefix, the mount, or nothing is cut off."""
    inner = _without(path, root)
    for candidate in (inner, path):
        if prefix and (candidate == prefix or candidate.startswith(f"{prefix}/")):
            yield candidate.removeprefix(prefix)
    yield inner
    yield path


def _match(tail: str, *, decode: bool) -> Place | None:
    """Match what is left of a path, percent-encoded if ``decode``."""
    segments = tail.split("/")[1:]
    if len(segments) > 3:
        # An encoded slash that was decoded on its way (by WSGI, by many proxies): what stands between words of ours is one name.
        segments = [segments[0], "/".join(segments[1:-1]), segments[-1]]
    for pattern, operations in _BY_SEGMENTS.items():
        pairs = list(zip(pattern, segments, strict=False))
        if len(pattern) != len(segments) or any(wanted != given for wanted, given in pairs if wanted[0] != "{"):
            continue
        parameter = next((given for wanted, given in pairs if wanted[0] == "{"), None)
        if parameter == "":
            continue
        # Bytes that are no UTF-8 become U+FFFD: an id of any shape is a question, and its answer is "not found".
        decoded = unquote_to_bytes(parameter or "").decode("utf-8", "replace") if decode else parameter or ""
        return Place(operations, decoded)
    return None
