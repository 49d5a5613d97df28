"""JSON Schemas of what the admin API answers and takes. ``wire`` makes the answers; a test compares the two on real ones."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from ..model.states import (
    EffectClass,
    Idempotency,
    Origin,
    RecordingMode,
    RunState,
    RunStatus,
    StepKind,
    StepState,
    StepStatus,
)
from ..settings import Limits
from ..wire import ERROR_CODES, PLAN_HASH_LENGTH_MAX, REASON_LENGTH_MAX

Schema = dict[str, Any]

# Host applications have models of their own; ours must not collide with a `Run` of theirs.
_NAMESPACE: Final = "WorkflowRuns"
_LIMITS: Final = Limits()


def ref(name: str) -> Schema:
    """Return a reference to one of the schemas below."""
    return {"$ref": f"#/components/schemas/{_NAMESPACE}{name}"}


def _object(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = (), closed: bool = False) -> Schema:
    schema: Schema = {"type": "object", "properties": dict(properties)}
    required = [name for name in properties if name not in optional]
    if required:
        schema["required"] = required
    if closed:
        schema["additionalProperties"] = False
    return schema


def _data(properties: Mapping[str, Schema]) -> Schema:
    return _object({"data": _object(properties)})


def _enum(words: type[StrEnum]) -> Schema:
    return {"type": "string", "enum": [word.value for word in words]}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _line(length_max: int) -> Schema:
    """A text that ``wire.identifier`` takes: no control character."""
    return {
        "type": "string",
        "minLength": 1,
        "maxLength": length_max,
        "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
    }


# Trimmed before it is counted: something has to be left of it.
KEY: Final[Schema] = {
    **_line(_LIMITS.identifier_length_max),
    "pattern": "^(?=.*\\S)[^\\u0000-\\u001f\\u007f-\\u009f]+$",
}
_TEXT: Final[Schema] = {"type": "string"}
_TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_COUNT_OR_NULL: Final[Schema] = {"type": ["integer", "null"], "minimum": 0}
_BOOL: Final[Schema] = {"type": "boolean"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_ANY_JSON: Final[Schema] = {"description": "Any JSON value, as recorded; null if there is none or it may not be seen."}

_RUN_ERROR: Final = _object(
    {
        "message": _TEXT,
        "code": _TEXT_OR_NULL,
        "stepName": _TEXT_OR_NULL,
        "type": _TEXT_OR_NULL,
        "stack": _TEXT_OR_NULL,
        "cause": _or_null(ref("RunError")),
    },
    optional=("stack", "cause"),
)

_RUN: Final = _object(
    {
        "id": _TEXT,
        "workflowName": _TEXT,
        "trigger": _TEXT,
        "correlationId": _TEXT_OR_NULL,
        "tags": _list(_TEXT),
        "status": _enum(RunStatus),
        "input": _ANY_JSON,
        "result": _ANY_JSON,
        "error": _or_null(ref("RunError")),
        "parentRunId": _TEXT_OR_NULL,
        "triggeredByUserId": _TEXT_OR_NULL,
        "resumeFromStep": _TEXT_OR_NULL,
        "startedAt": _TIME,
        "completedAt": _TIME_OR_NULL,
        "durationMs": _COUNT_OR_NULL,
        "createdAt": _TIME,
        "updatedAt": _TIME,
        "state": _enum(RunState),
        "rootRunId": _TEXT,
        "executionStartedAt": _TIME_OR_NULL,
        "cancelRequestedAt": _TIME_OR_NULL,
        "idempotencyKey": _TEXT_OR_NULL,
        "fingerprint": _TEXT_OR_NULL,
        "codeVersion": _TEXT_OR_NULL,
        "mode": _enum(RecordingMode),
        "hasGap": _BOOL,
        "unreadable": _list(_TEXT),
        "payloadsHidden": _BOOL,
    },
    optional=("input", "result"),  # absent in a summary
)

_ATTEMPT: Final = _object(
    {
        "number": {"type": "integer", "minimum": 1},
        "status": _enum(StepStatus),
        "state": _enum(StepState),
        "origin": _enum(Origin),
        "error": _or_null(ref("RunError")),
        "startedAt": _TIME,
        "completedAt": _TIME_OR_NULL,
        "durationMs": _COUNT_OR_NULL,
    }
)

_STEP: Final = _object(
    {
        "id": _TEXT,
        "runId": _TEXT,
        "stepName": _TEXT,
        "sequence": _COUNT,
        "status": _enum(StepStatus),
        "output": _ANY_JSON,
        "error": _or_null(ref("RunError")),
        "startedAt": _TIME,
        "completedAt": _TIME_OR_NULL,
        "durationMs": _COUNT_OR_NULL,
        "state": _enum(StepState),
        "origin": _enum(Origin),
        "key": _TEXT,
        "occurrence": {"type": "integer", "minimum": 1},
        "label": _TEXT,
        "kind": _enum(StepKind),
        "effect": _enum(EffectClass),
        "attempts": _list(ref("Attempt")),
    }
)

_PLAN: Final = _data(
    {
        "kind": {"type": "string", "enum": ["resume", "rerun"]},
        "runId": _TEXT,
        "target": _TEXT_OR_NULL,
        "kept": _list(_TEXT),
        "executed": _list(_TEXT),
        "restKnown": _BOOL,
        "refused": _or_null(
            {
                "type": "object",
                "properties": {"code": {"type": "string", "enum": list(ERROR_CODES)}, "detail": _TEXT},
                "required": ["code", "detail"],
                "additionalProperties": True,
            }
        ),
        "codeChanged": {"type": ["boolean", "null"]},
        "existingResumeRunId": _TEXT_OR_NULL,
        "idempotency": _or_null(_enum(Idempotency)),
        "confirmRequired": _BOOL,
        "hash": _TEXT,
    }
)

_WORKFLOW: Final = _object(
    {
        "name": _TEXT,
        "description": _TEXT,
        "idempotency": _enum(Idempotency),
        "tags": _list(_TEXT),
        "version": _TEXT_OR_NULL,
        "canTrigger": _BOOL,
        "canRerun": _BOOL,
        "canResume": _BOOL,
        "canCancel": _BOOL,
        "hasRerunGuard": _BOOL,
        "hasResumeGuard": _BOOL,
    }
)

_REASON: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": REASON_LENGTH_MAX}
_ACTION_BODY: Final[Mapping[str, Schema]] = {
    "confirm": {"type": "boolean", "description": "Only true confirms an unsafe rerun."},
    "reason": _REASON,
    "planHash": {
        "type": "string",
        "minLength": 1,
        "maxLength": PLAN_HASH_LENGTH_MAX,
        "description": "`hash` of the plan this is based on; if the plan is another by now, nothing is done.",
    },
}
_DECIDED_HERE: Final[Mapping[str, Any]] = dict.fromkeys(("seedResults", "parentRunId", "triggeredByUserId"), False)


def _action_body(properties: Mapping[str, Schema]) -> Schema:
    """Unknown members are ignored; those by which a caller would decide what the record decides are refused."""
    schema = _object(properties, optional=tuple(properties))
    refused = {**_DECIDED_HERE, "fromStep": False}
    schema["properties"] |= {name: never for name, never in refused.items() if name not in properties}
    return schema


SCHEMAS: Final[Mapping[str, Schema]] = {
    f"{_NAMESPACE}{name}": schema
    for name, schema in {
        "Run": _RUN,
        "RunError": _RUN_ERROR,
        "Step": _STEP,
        "Attempt": _ATTEMPT,
        "RunList": _object(
            {
                "data": _list(ref("Run")),
                "total": _COUNT,
                "limit": _COUNT,
                "offset": _COUNT,
                "nextCursor": _TEXT_OR_NULL,
                "totalCapped": _BOOL,
            },
            optional=("totalCapped",),
        ),
        "RunDetail": _data({"run": ref("Run"), "steps": _list(ref("Step"))}),
        "Plan": _PLAN,
        "Workflow": _WORKFLOW,
        "WorkflowList": _object({"data": _list(ref("Workflow")), "total": _COUNT}),
        "Triggered": _data({"runId": _TEXT, "workflowName": _TEXT, "status": {"type": "string", "const": "queued"}}),
        "Rerun": _data({"runId": _TEXT, "parentRunId": _TEXT}),
        "Resumed": _data({"runId": _TEXT, "parentRunId": _TEXT, "resumeFromStep": _TEXT_OR_NULL}),
        "Cancelled": _data({"runId": _TEXT, "status": _enum(RunStatus)}),
        "TriggerBody": _object(
            {
                "input": {"description": "Any JSON value; {} if absent."},
                "idempotencyKey": KEY,
                "correlationId": _line(_LIMITS.identifier_length_max),
                "tags": {**_list(_line(_LIMITS.tag_length_max)), "maxItems": _LIMITS.tags_max},
            },
            optional=("input", "idempotencyKey", "correlationId", "tags"),
            closed=True,
        ),
        "RerunBody": _action_body(_ACTION_BODY),
        "ResumeBody": _action_body(
            {
                **_ACTION_BODY,
                "fromStep": {**_TEXT, "minLength": 1, "description": "Label of the step to resume from."},
                "acceptGap": {"type": "boolean", "description": "True: resume although the record has a gap."},
            }
        ),
        "CancelBody": _action_body({"reason": _REASON}),
        "Health": _object(
            {
                "ok": _BOOL,
                "service": _TEXT,
                "checks": _object({"database": {"type": "string", "enum": ["ok", "error"]}}),
            }
        ),
        "Error": {
            **_object(
                {
                    "error": {"type": "string", "enum": list(ERROR_CODES)},
                    "detail": _TEXT,
                    "requestId": _TEXT,
                    "field": {**_TEXT, "description": "Where in the request: a path such as tags[3]."},
                },
                optional=("field",),
            ),
            "additionalProperties": True,  # members of the code: runId, scope, surface, maxBytes, ...
        },
    }.items()
}
