"""The OpenAPI 3.1 document, made from the table of routes and the table of error codes, so that it cannot lag behind them.

It holds absolute paths with the prefix, every status that a route can answer, and no public route but the two health routes. The tests
validate real answers against it, with its objects closed to further members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..model.states import (
    RunState,
    RunStatus,
)
from ..settings import Limits
from ..wire import ERROR_CODES, status_of
from .query import DURATION_MS_MAX, LIMIT_DEFAULT
from .routes import ID, NAME, OPERATIONS, Operation, normalised
from .schemas import KEY, SCHEMAS, ref

Document = dict[str, Any]

SECURITY_SCHEME: Final = "WorkflowRunsAccess"
TITLE: Final = "workflow-runs admin API"
_TAG: Final = "workflow-runs"
_LIMITS: Final = Limits()

_ANSWER_SCHEMAS: Final[Mapping[str, str]] = {
    "list_workflow_runs": "RunList",
    "get_workflow_run": "RunDetail",
    "plan_workflow_run": "Plan",
    "list_workflows": "WorkflowList",
    "trigger_workflow": "Triggered",
    "rerun_workflow_run": "Rerun",
    "resume_workflow_run": "Resumed",
    "cancel_workflow_run": "Cancelled",
}
_BODY_SCHEMAS: Final[Mapping[str, str]] = {
    "trigger_workflow": "TriggerBody",
    "rerun_workflow_run": "RerunBody",
    "resume_workflow_run": "ResumeBody",
    "cancel_workflow_run": "CancelBody",
}


def openapi_document(
    prefix: str = "/v1/admin",
    *,
    title: str = TITLE,
    version: str = "1",
    health: tuple[str, str] | None = ("/healthz", "/readyz"),
) -> Document:
    """Return the whole document, for hosts that make none of their own. ``health`` None: the health routes are not mounted."""
    return merged(empty_document(title, version), prefix=prefix, health=health)


def empty_document(title: str = TITLE, version: str = "1") -> Document:
    """Return a document without paths."""
    return {"openapi": "3.1.0", "info": {"title": title, "version": version}, "paths": {}}


def merged(document: Document, *, prefix: str | None = None, health: tuple[str, str] | None = None) -> Document:
    """Return a host's document with our paths and schemas added; the given one is left as it is."""
    paths = dict(document.get("paths") or {})
    if prefix is not None:
        paths |= _paths(normalised(prefix))
    if health is not None:
        paths |= {path: {"get": _probe(path, name)} for path, name in zip(health, ("healthz", "readyz"), strict=True)}
    components = dict(document.get("components") or {})
    components["schemas"] = {**components.get("schemas", {}), **SCHEMAS}
    components["securitySchemes"] = {
        **components.get("securitySchemes", {}),
        SECURITY_SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "Whatever the application's authorize accepts; a bearer token as a rule.",
        },
    }
    return {**document, "paths": paths, "components": components}


def _paths(prefix: str) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(prefix + operation.path, {})[operation.method.lower()] = _operation(operation)
    return paths


def _operation(operation: Operation) -> Document:
    described: Document = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [_TAG],
        "security": [{SECURITY_SCHEME: []}],
        "x-required-scope": operation.scope,
        "parameters": [*_path_parameters(operation), *_query_parameters(operation), *_header_parameters(operation)],
        "responses": {
            str(operation.success): _answer(_ANSWER_SCHEMAS[operation.name]),
            **_errors((*operation.codes, "method_not_allowed"), operation.action),
        },
    }
    body = _BODY_SCHEMAS.get(operation.name)
    if body:
        described["requestBody"] = {
            "required": operation.action == "trigger",
            "content": {"application/json": {"schema": ref(body)}},
        }
    return described


def _answer(schema: str, description: str = "Done") -> Document:
    return {
        "description": description,
        "headers": _headers(),
        "content": {"application/json": {"schema": ref(schema)}},
    }


def _errors(codes: Iterable[str], action: str) -> Document:
    """Responses by status; each says which codes it can carry."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(status_of(code, action), []).append(code)
    return {str(status): _error(status, names) for status, names in sorted(by_status.items())}


def _error(status: int, codes: list[str]) -> Document:
    return {
        "description": " ".join(f"`{code}`: {ERROR_CODES[code].meaning}" for code in codes),
        "headers": _headers(status),
        "content": {
            "application/json": {
                "schema": {"allOf": [ref("Error"), {"properties": {"error": {"enum": codes}}}]},
            }
        },
    }


def _headers(status: int = 200) -> Document:
    headers: Document = {"X-Request-Id": _header("The id under which the log and the audit know this request.")}
    if status == 401:
        headers["WWW-Authenticate"] = _header("The scheme to log in with.")
    if status == 405:
        headers["Allow"] = _header("The methods that this path takes.")
    if status == 503:
        headers["Retry-After"] = {"description": "Seconds to wait.", "required": True, "schema": {"type": "string"}}
    return headers


def _header(description: str) -> Document:
    return {"description": description, "required": True, "schema": {"type": "string"}}


def _probe(path: str, name: str) -> Document:
    return {
        "operationId": f"workflow_runs_{name}",
        "summary": "Is the process alive?" if name == "healthz" else "Can the database be used?",
        "tags": [_TAG],
        "security": [],
        "responses": {
            "200": _answer("Health", f"{path}: yes"),
            "405": _error(405, ["method_not_allowed"]),
            "503": {**_answer("Health", f"{path}: no"), "headers": _headers(503)},
        },
    }


# --- parameters ------------------------------------------------------------------------------------------------------


def _path_parameters(operation: Operation) -> list[Document]:
    name = next((segment for segment in operation.segments if segment in {ID, NAME}), None)
    if name is None:
        return []
    what = "Id of the run." if name == ID else "Name of the workflow, percent-encoded: it may hold spaces and slashes."
    schema = {"type": "string", "minLength": 1}
    return [{"name": name.strip("{}"), "in": "path", "required": True, "description": what, "schema": schema}]


def _header_parameters(operation: Operation) -> list[Document]:
    if operation.action not in {"trigger", "rerun", "resume"}:
        return []
    what = "The same key and the same request are the same run, however often they are sent. Quotes around it are optional."
    return [{"name": "Idempotency-Key", "in": "header", "required": False, "description": what, "schema": KEY}]


def _query_parameters(operation: Operation) -> list[Document]:
    if operation.name == "list_workflow_runs":
        return _list_parameters()
    if operation.name == "get_workflow_run":
        return [_parameter("include", "`stack` adds stacks and causes to errors.", {"enum": ["stack"]})]
    if operation.name == "plan_workflow_run":
        return [
            _parameter("kind", "What is planned.", {"enum": ["resume", "rerun"], "default": "resume"}),
            _parameter("fromStep", "Label of the step to resume from; default: the one that ended the run.", _text()),
            _parameter("acceptGap", "Whether a resume accepts a gap in the record.", {"enum": ["true", "false"]}),
        ]
    return []


def _list_parameters() -> list[Document]:
    count = {"type": "integer", "minimum": 0, "maximum": DURATION_MS_MAX}
    moment = {"type": "string", "format": "date-time"}
    page = {"type": "integer", "minimum": 1, "maximum": _LIMITS.page_max, "default": LIMIT_DEFAULT}
    skip = {"type": "integer", "minimum": 0, "maximum": _LIMITS.offset_max}
    return [
        _several("workflowName", "Any of these.", _text()),
        _several("status", "Any of these.", {"enum": [status.value for status in RunStatus]}),
        _several("state", "Any of these.", {"enum": [state.value for state in RunState]}),
        _several("tag", "All of these.", _text()),
        _parameter("correlationId", "Exactly this.", _text()),
        _parameter("trigger", "Exactly this.", _text()),
        _parameter("triggeredByUserId", "Exactly this.", _text()),
        _parameter("parentRunId", "Runs made from this one.", _text()),
        _parameter("rootRunId", "Runs of this lineage.", _text()),
        _parameter("fingerprint", "Runs that failed in this way.", _text()),
        _parameter("startedSince", "Accepted at this time or later.", moment),
        _parameter("startedUntil", "Accepted before this time.", moment),
        _parameter("minDurationMs", "Took this long or longer.", count),
        _parameter("maxDurationMs", "Took this long or shorter.", count),
        _parameter("limit", "Runs on the page.", page),
        _parameter("offset", "Runs to skip; a cursor costs less. Not together with `cursor`.", skip),
        _parameter("cursor", "`nextCursor` of the page before. Not together with `offset`.", _text()),
        _parameter("view", "`summary` leaves payloads out.", {"enum": ["full", "summary"], "default": "full"}),
    ]


def _text() -> Document:
    return {"type": "string", "minLength": 1}


def _parameter(name: str, description: str, schema: Document) -> Document:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _several(name: str, description: str, items: Document) -> Document:
    schema = {"type": "array", "minItems": 1, "items": items}
    return {**_parameter(name, f"{description} Repeat the parameter.", schema), "style": "form", "explode": True}
