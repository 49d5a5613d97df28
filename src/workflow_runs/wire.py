"""JSON as it travels, in both directions, and which HTTP status an error code has. JSON names are made here and nowhere else.

Outwards: runs, steps, plans and errors become plain dicts in which payloads are ``RawJson``: text that was recorded as JSON is sent as
it stands, never decoded and encoded again. ``payloads.dump`` renders them.

Inwards: the value of a request body (already parsed by ``payloads.parse_strict``) becomes a checked value, or an error that names the
field and never repeats what stood in it.

Names, nulls and order of the run's and step's first fields are the original's (spec 17.1); what stands after them is ours.
Source: spec 5.1 to 5.5; contract, sections Bodies and Runs.
"""

# ruff: noqa: D102  # the properties of the views are the members of the answers, which docs/api.md describes

from __future__ import annotations

import contextlib
import hashlib
import unicodedata
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeAlias

from .clock import step_id
from .errors import (
    HandlerFailed,
    InvalidBody,
    InvalidQuery,
    InvalidRequest,
    RecordingError,
    Refusal,
    RunnerNotRegistered,
    StoreUnavailable,
    WorkflowError,
    WorkflowRunsError,
)
from .model.jsontext import RawJson, canonical, to_json
from .model.records import Attempt, ErrorRecord, Run, RunList, Step, StepKey
from .model.states import RUN_STATUS, STEP_STATUS, Idempotency, RunState
from .settings import Limits

Json: TypeAlias = dict[str, Any]

REASON_LENGTH_MAX: Final = 1_000
PLAN_HASH_LENGTH_MAX: Final = 128
STEP_LABEL_LENGTH_MAX: Final = 500  # a name, a key and a number
HANDLER_DETAIL_LENGTH_MAX: Final = 2_000  # characters of a handler's own message in the answer; the log has all of it


# --- errors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """What a code means over HTTP. ``retry_after_s`` is sent as ``Retry-After``."""

    status: int
    meaning: str
    retry_after_s: int | None = None


# Every code that an answer of the admin API can carry. docs/api.md shows this table, and a test compares the two.
ERROR_CODES: Final[Mapping[str, ErrorCode]] = {
    "invalid_request": ErrorCode(
        400, "The trigger's body, its input or a header is not usable; `field` names the place."
    ),
    "invalid_query": ErrorCode(400, "A query parameter is unknown, repeated, empty or out of range; `field` names it."),
    "invalid_body": ErrorCode(400, "The body is not the JSON this route takes; `field` names the place."),
    "unauthorized": ErrorCode(401, "Nobody is logged in."),
    "forbidden": ErrorCode(403, "The principal lacks the scope in `scope`."),
    "cross_site": ErrorCode(403, "A browser sent this on behalf of a page of another site."),
    "workflow_admin_surface_restricted": ErrorCode(403, "This process only shows runs; `surface` says how it is set."),
    "not_found": ErrorCode(404, "No such path, or no such run, or none that the principal may see."),
    "runner_not_registered": ErrorCode(404, "Nobody registered a runner under this name (501 on rerun and resume)."),
    "method_not_allowed": ErrorCode(405, "The path exists, the method does not; `Allow` lists those that do."),
    "resume_not_allowed": ErrorCode(409, "Only failed runs are resumed."),
    "record_has_gap": ErrorCode(
        409, "Something of the run is missing from its record; `acceptGap: true` resumes it all the same."
    ),
    "no_failed_step": ErrorCode(409, "No step of the run can be the one to resume from."),
    "incomplete_prior_step": ErrorCode(409, "A step before the target is not finished, or was undone."),
    "already_resumed": ErrorCode(409, "An unfinished or succeeded resume of this failure exists: `runId`."),
    "resume_blocked": ErrorCode(409, "The runner's guard refuses; `detail` is its reason."),
    "run_not_finished": ErrorCode(409, "A run that is still live is not rerun."),
    "rerun_not_allowed": ErrorCode(409, "The workflow is resume-only."),
    "confirmation_required": ErrorCode(409, "An unsafe workflow is rerun only with `confirm: true`."),
    "rerun_blocked": ErrorCode(409, "The runner's guard refuses; `detail` is its reason."),
    "cancel_not_allowed": ErrorCode(409, "The run has ended."),
    "plan_changed": ErrorCode(409, "The run is no longer what the plan of `planHash` was made from."),
    "already_finished": ErrorCode(409, "The run has ended meanwhile."),
    "refused": ErrorCode(409, "Refused for a reason that `detail` gives."),
    "payload_too_large": ErrorCode(413, "The body is longer than `maxBytes`."),
    "unsupported_media_type": ErrorCode(415, "A body has to be `application/json` in UTF-8, not compressed."),
    "idempotency_key_reused": ErrorCode(422, "The key was used with another request before."),
    "internal_error": ErrorCode(500, "Our fault; the log has the details under `requestId`."),
    "authorization_failed": ErrorCode(500, "The host's authoriser raised; nothing was done."),
    "guard_failed": ErrorCode(500, "A guard raised; nothing was done."),
    "trigger_failed": ErrorCode(500, "The runner's trigger handler raised; `detail` is its message."),
    "rerun_failed": ErrorCode(500, "The runner's rerun handler raised; `detail` is its message."),
    "resume_failed": ErrorCode(500, "The runner's resume handler raised; `detail` is its message."),
    "trigger_not_configured": ErrorCode(501, "This process has no registry."),
    "rerun_not_configured": ErrorCode(501, "This process has no registry."),
    "resume_not_configured": ErrorCode(501, "This process has no registry."),
    "trigger_not_supported": ErrorCode(501, "The runner has no trigger handler."),
    "rerun_not_supported": ErrorCode(501, "The runner has no rerun handler."),
    "resume_not_supported": ErrorCode(501, "The runner has no resume handler."),
    "db_unavailable": ErrorCode(503, "The database cannot be read now.", retry_after_s=1),
    "store_unavailable": ErrorCode(
        503,
        "The database cannot be written now. What was asked for may have been stored all the same: "
        "repeat it with the same `Idempotency-Key`.",
        retry_after_s=1,
    ),
    "schema_mismatch": ErrorCode(503, "The database has another schema than this version needs.", retry_after_s=30),
    "queue_full": ErrorCode(503, "More is waiting to be written than there is room for.", retry_after_s=1),
    "journal_closed": ErrorCode(503, "This process is stopping.", retry_after_s=1),
}

# The original answers an unknown runner with 404 where the runner is the target, and with 501 where the run is.
_RUNNER_MISSING_STATUS: Final[Mapping[str, int]] = {"rerun": 501, "resume": 501}

_CLOSED_MESSAGES: Final[Mapping[str, str]] = {
    "guard_failed": "The guard of this workflow raised an exception; nothing was done.",
    "db_unavailable": "The database cannot be read at the moment.",
    "store_unavailable": "The database cannot be written at the moment. Try again, with the same Idempotency-Key if there was one.",
    "schema_mismatch": "The database has another schema than this version needs.",
    "queue_full": "Too much is waiting to be written. Nothing was accepted; try again.",
    "journal_closed": "This process is stopping. Nothing was accepted; try again.",
}
_INTERNAL_DETAIL: Final = "Something went wrong on our side. The log has the details under this request id."


def status_of(code: str, action: str = "") -> int:
    """Return the HTTP status of an error code; ``action`` is trigger, rerun, resume, cancel, or empty for reads."""
    if code == RunnerNotRegistered.code:
        return _RUNNER_MISSING_STATUS.get(action, 404)
    return ERROR_CODES[code].status


def describe_error(error: Exception, *, action: str = "") -> tuple[str, Json]:
    """Return the code and the members of the answer for an exception.

    Only messages that were written for callers leave the process: refusals, complaints about the request, and what a handler of the
    host says. Of the rest (database, guards, our own faults) the caller learns the code; the message is for the log (promise P25).
    """
    if isinstance(error, (Refusal, InvalidRequest)) and error.code in ERROR_CODES:
        members: Json = {"detail": str(error)}
        if isinstance(error, Refusal):
            members = {**error.details, **members}
        elif error.field is not None:
            members["field"] = error.field
        return error.code, members
    if isinstance(error, Refusal):
        return Refusal.code, {"detail": str(error)}
    if isinstance(error, InvalidRequest):
        return InvalidRequest.code, {"detail": str(error)}
    if isinstance(error, HandlerFailed) and error.code in ERROR_CODES:
        return error.code, {"detail": _handler_detail(error)}
    code = _closed_code(error, action)
    return code, {"detail": _CLOSED_MESSAGES.get(code, _INTERNAL_DETAIL)}


def _closed_code(error: Exception, action: str) -> str:
    if isinstance(error, StoreUnavailable):
        return StoreUnavailable.code if action else "db_unavailable"  # a read keeps the original's word
    code = error.code if isinstance(error, WorkflowRunsError) else ""
    return code if code in _CLOSED_MESSAGES else "internal_error"


def _handler_detail(error: HandlerFailed) -> str:
    """The handler's own message, unless it is really one of ours or of a database driver that passed through the handler."""
    cause = error.__cause__
    ours = isinstance(cause, WorkflowRunsError) and not isinstance(cause, WorkflowError)
    package = type(cause).__module__.partition(".")[0]
    if ours or isinstance(cause, RecordingError) or package in {"sqlite3", "sqlalchemy", "psycopg", "alembic"}:
        return "The handler of this workflow raised an exception; the log has it under this request id."
    message = str(error).encode("utf-8", "replace").decode()
    if len(message) <= HANDLER_DETAIL_LENGTH_MAX:
        return message
    return message[:HANDLER_DETAIL_LENGTH_MAX] + " [cut]"


# --- runs and steps, outwards ----------------------------------------------------------------------------------------


def time_text(moment: datetime | None) -> str | None:
    """Return ``2026-11-22T14:15:07.861Z``; None stays None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def run_json(run: Run, *, shown: bool, summary: bool = False, stack: bool = False) -> Json:
    """Return a run as it stands in the list and in its detail: one shape, made of the run's own record alone.

    Args:
        run: As read with payloads, unless ``summary`` or not ``shown``.
        shown: Whether the reader may see payloads; without, input, result and error are null and ``payloadsHidden`` says why.
        summary: Leave input and result out. They are absent then, since null would say that there was none.
        stack: Add the stack and the causes to the error.
    """
    answer: Json = {
        "id": run.id,
        "workflowName": run.workflow_name,
        "trigger": run.trigger,
        "correlationId": run.correlation_id,
        "tags": list(run.tags),
        "status": run.status.value,
        "input": _raw(run.input) if shown else None,
        "result": _raw(run.result) if shown else None,
        "error": error_json(run.error, stack=stack) if shown else None,
        "parentRunId": run.parent_run_id,
        "triggeredByUserId": run.triggered_by_user_id,
        "resumeFromStep": None if run.resume_from is None else run.resume_from.label(),
        "startedAt": time_text(run.started_at),
        "completedAt": time_text(run.completed_at),
        "durationMs": run.duration_ms,
        "createdAt": time_text(run.started_at),
        "updatedAt": time_text(run.updated_at),
        "state": run.state.value,
        "rootRunId": run.root_run_id,
        "executionStartedAt": time_text(run.execution_started_at),
        "cancelRequestedAt": time_text(run.cancel_requested_at),
        "idempotencyKey": run.idempotency_key,
        "fingerprint": run.fingerprint,
        "codeVersion": run.code_version,
        "mode": run.mode.value,
        "hasGap": run.has_gap,
        "unreadable": list(run.unreadable),
        "payloadsHidden": not shown,
    }
    if summary:
        del answer["input"], answer["result"]
    return answer


def step_json(step: Step, *, shown: bool, stack: bool = False) -> Json:
    """Return a step: its last attempt in the original's members, and all attempts, oldest first, without their outputs."""
    attempts = [_attempt_json(attempt, shown=shown, stack=stack) for attempt in step.attempts]
    last = attempts[-1]
    return {
        "id": step_id(step.run_id, step.step.name, step.step.key, step.step.occurrence, step.last.number),
        "runId": step.run_id,
        "stepName": step.step.name,
        "sequence": step.sequence,
        "status": last["status"],
        "output": _raw(step.last.output) if shown else None,
        "error": last["error"],
        "startedAt": last["startedAt"],
        "completedAt": last["completedAt"],
        "durationMs": last["durationMs"],
        "state": last["state"],
        "origin": last["origin"],
        "key": step.step.key,
        "occurrence": step.step.occurrence,
        "label": step.step.label(),
        "kind": step.kind.value,
        "effect": step.effect.value,
        "attempts": attempts,
    }


def _attempt_json(attempt: Attempt, *, shown: bool, stack: bool) -> Json:
    return {
        "number": attempt.number,
        "status": STEP_STATUS[attempt.state].value,
        "state": attempt.state.value,
        "origin": attempt.origin.value,
        "error": error_json(attempt.error, stack=stack) if shown else None,
        "startedAt": time_text(attempt.started_at),
        "completedAt": time_text(attempt.ended_at),
        "durationMs": attempt.duration_ms,
    }


def error_json(error: ErrorRecord | None, *, stack: bool = False) -> Json | None:
    """Return an error; with ``stack`` the stack and the chain of causes too. Null members say: not known."""
    if error is None:
        return None
    answer: Json = {
        "message": error.message,
        "code": error.code,
        "stepName": error.step_name,
        "type": error.type_name,
    }
    if stack:
        answer["stack"] = error.stack
        answer["cause"] = error_json(error.cause, stack=True)
    return answer


def list_json(page: RunList, *, limit: int, offset: int, shown: bool, summary: bool) -> Json:
    """Return one page of runs."""
    answer: Json = {
        "data": [run_json(run, shown=shown, summary=summary) for run in page.runs],
        "total": page.total,
        "limit": limit,
        "offset": offset,
        "nextCursor": None if page.next_after is None else cursor_text(page.next_after),
    }
    if page.total_capped:
        answer["totalCapped"] = True
    return answer


def detail_json(run: Run, steps: Sequence[Step], *, shown: bool, stack: bool = False) -> Json:
    """Return a run and its steps."""
    return {
        "data": {
            "run": run_json(run, shown=shown, stack=stack),
            "steps": [step_json(step, shown=shown, stack=stack) for step in steps],
        }
    }


def _raw(text: str | None) -> RawJson | None:
    return None if text is None else RawJson(text)


class RefusalView(Protocol):
    """What is read of a plan's refusal. Plans belong to ``operations``, which stands above this module."""

    @property
    def code(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def details(self) -> Mapping[str, Any]: ...


class PlanView(Protocol):
    """What is read of a plan."""

    @property
    def kind(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def target(self) -> StepKey | None: ...
    @property
    def kept(self) -> Sequence[StepKey]: ...
    @property
    def executed(self) -> Sequence[StepKey]: ...
    @property
    def rest_known(self) -> bool: ...
    @property
    def refused(self) -> RefusalView | None: ...
    @property
    def code_changed(self) -> bool | None: ...
    @property
    def existing_resume_run_id(self) -> str | None: ...
    @property
    def idempotency(self) -> Idempotency | None: ...
    @property
    def confirm_required(self) -> bool: ...
    @property
    def hash(self) -> str: ...


def plan_json(plan: PlanView) -> Json:
    """Return what a rerun or resume would do now. Steps are given by their labels, which ``fromStep`` takes back."""
    refused = plan.refused
    return {
        "data": {
            "kind": plan.kind,
            "runId": plan.run_id,
            "target": None if plan.target is None else plan.target.label(),
            "kept": [step.label() for step in plan.kept],
            "executed": [step.label() for step in plan.executed],
            "restKnown": plan.rest_known,
            "refused": None
            if refused is None
            else {**refused.details, "code": refused.code, "detail": refused.message},
            "codeChanged": plan.code_changed,
            "existingResumeRunId": plan.existing_resume_run_id,
            "idempotency": None if plan.idempotency is None else plan.idempotency.value,
            "confirmRequired": plan.confirm_required,
            "hash": plan.hash,
        }
    }


class NoticeView(Protocol):
    """What is read of a notice."""

    @property
    def run_id(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def state(self) -> RunState | None: ...
    @property
    def step(self) -> StepKey | None: ...


def notice_json(notice: NoticeView) -> Json:
    """Return what a stream says of a run that changed. Without a status or a step they are not known where it was noticed."""
    return {
        "id": notice.run_id,
        "rev": notice.number,
        "status": None if notice.state is None else RUN_STATUS[notice.state].value,
        "step": None if notice.step is None else notice.step.label(),
    }


class WorkflowView(Protocol):
    """What is read of a registered workflow."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def idempotency(self) -> Idempotency: ...
    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def version(self) -> str | None: ...
    @property
    def can_trigger(self) -> bool: ...
    @property
    def can_rerun(self) -> bool: ...
    @property
    def can_resume(self) -> bool: ...
    @property
    def can_cancel(self) -> bool: ...
    @property
    def has_rerun_guard(self) -> bool: ...
    @property
    def has_resume_guard(self) -> bool: ...


def workflow_json(workflow: WorkflowView) -> Json:
    """Return what is registered under a workflow name. ``can...``: there is a handler, and the policy does not rule it out."""
    return {
        "name": workflow.name,
        "description": workflow.description,
        "idempotency": workflow.idempotency.value,
        "tags": list(workflow.tags),
        "version": workflow.version,
        "canTrigger": workflow.can_trigger,
        "canRerun": workflow.can_rerun,
        "canResume": workflow.can_resume,
        "canCancel": workflow.can_cancel,
        "hasRerunGuard": workflow.has_rerun_guard,
        "hasResumeGuard": workflow.has_resume_guard,
    }


# --- cursors ---------------------------------------------------------------------------------------------------------

_CURSOR_LENGTH_MAX = 1_024


def cursor_text(run_id: str) -> str:
    """Return the cursor of the page after a run. Opaque to callers, so that what it holds may change."""
    return urlsafe_b64encode(run_id.encode("utf-8", "surrogatepass")).decode("ascii").rstrip("=")


def cursor_run_id(text: str) -> str:
    """Return the run id inside a cursor.

    Raises:
        InvalidQuery: it is none of ours.
    """
    run_id = ""
    if len(text) <= _CURSOR_LENGTH_MAX and text.isascii():
        with contextlib.suppress(ValueError):  # no base64, or no UTF-8 inside
            run_id = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    # Only the spelling that cursor_text makes is taken: base64 readers skip letters that are not of their alphabet.
    if not run_id or "\x00" in run_id or cursor_text(run_id) != text:
        raise InvalidQuery("cursor is not one that this API has given out.", field="cursor")
    return run_id


# --- bodies, inwards -------------------------------------------------------------------------------------------------

_TRIGGER_FIELDS: Final = ("input", "idempotencyKey", "correlationId", "tags")
_DECIDED_HERE: Final = ("seedResults", "parentRunId", "triggeredByUserId")


@dataclass(frozen=True, slots=True)
class TriggerBody:
    """A checked trigger body. ``request_hash`` is over everything but the key, whatever the order of the members."""

    input: str  # JSON text
    correlation_id: str | None
    tags: tuple[str, ...]
    idempotency_key: str | None
    request_hash: str


@dataclass(frozen=True, slots=True)
class ActionBody:
    """A checked body of rerun, resume or cancel."""

    confirm: bool = False
    reason: str | None = None
    plan_hash: str | None = None
    from_step: str | None = None
    request_hash: str = ""
    accept_gap: bool = False


def trigger_body(value: object, limits: Limits) -> TriggerBody:
    """Check the value of a trigger body: strictly, an unknown member is an error.

    Raises:
        InvalidRequest: naming the field.
    """
    if not isinstance(value, dict):
        raise InvalidRequest("The body has to be a JSON object.")
    for name in value:
        if name not in _TRIGGER_FIELDS:
            raise InvalidRequest(f"Unknown member; known are {', '.join(_TRIGGER_FIELDS)}.", field=_shown(name))
    correlation_id = None
    if "correlationId" in value:
        correlation_id = identifier(value["correlationId"], "correlationId", limits.identifier_length_max)
    key = None
    if "idempotencyKey" in value:
        key = idempotency_key(value["idempotencyKey"], "idempotencyKey", limits)
    tags = _tags(value.get("tags", []), limits)
    input_value = value.get("input", {})
    semantic = {"input": input_value, "correlationId": correlation_id, "tags": list(tags)}
    return TriggerBody(to_json(input_value), correlation_id, tags, key, request_hash(semantic))


def _tags(value: object, limits: Limits) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > limits.tags_max:
        raise InvalidRequest(f"tags has to be a list of at most {limits.tags_max} texts.", field="tags")
    return tuple(identifier(tag, f"tags[{place}]", limits.tag_length_max) for place, tag in enumerate(value))


def identifier(value: object, field: str, length_max: int) -> str:
    """Return a text of 1 to ``length_max`` characters that fits on one line of a log.

    Raises:
        InvalidRequest: it is not; names the field.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= length_max:
        raise InvalidRequest(f"{field} has to be a text of 1 to {length_max} characters.", field=field)
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise InvalidRequest(f"{field} must not hold control characters.", field=field)
    return value


def idempotency_key(value: object, field: str, limits: Limits) -> str:
    """Return an idempotency key, trimmed. Raises as ``identifier``."""
    return identifier(value.strip() if isinstance(value, str) else value, field, limits.identifier_length_max)


def action_body(value: object, action: str) -> ActionBody:
    """Check the value of the body of a rerun, resume or cancel.

    Members that are unknown are ignored, as in the original, save those by which a caller would decide what the record decides.

    Raises:
        InvalidBody: naming the field.
    """
    if not isinstance(value, dict):
        raise InvalidBody("The body has to be a JSON object.")
    for name in _DECIDED_HERE if action == "resume" else (*_DECIDED_HERE, "fromStep"):
        if name in value:
            raise InvalidBody(f"{name} cannot be given to a {action}.", field=name)
    confirm, accept_gap = _flag(value, "confirm"), action == "resume" and _flag(value, "acceptGap")
    reason = _optional_text(value, "reason", REASON_LENGTH_MAX)
    plan_hash = _optional_text(value, "planHash", PLAN_HASH_LENGTH_MAX)
    from_step = _optional_text(value, "fromStep", STEP_LABEL_LENGTH_MAX)
    semantic: dict[str, object] = {"confirm": confirm, "reason": reason, "planHash": plan_hash, "fromStep": from_step}
    if accept_gap:
        semantic["acceptGap"] = True
    return ActionBody(confirm, reason, plan_hash, from_step, request_hash(semantic), accept_gap)


def _flag(value: Mapping[str, object], name: str) -> bool:
    flag = value.get(name, False)
    if not isinstance(flag, bool):
        raise InvalidBody(f"{name} has to be true or false.", field=name)
    return flag


def _optional_text(value: Mapping[str, object], name: str, length_max: int) -> str | None:
    if name not in value:
        return None
    text = value[name]
    if not isinstance(text, str) or not 1 <= len(text) <= length_max:
        raise InvalidBody(f"{name} has to be a text of 1 to {length_max} characters.", field=name)
    return text


def request_hash(semantic: Mapping[str, object]) -> str:
    """Return a digest of what a request asks for: equal for bodies that differ in the order of members or in white space only."""
    return hashlib.blake2b(canonical(semantic).encode("ascii"), digest_size=16).hexdigest()


def _shown(name: str) -> str:
    """A member's name as it is named in an answer: cut, since a caller chose it."""
    return name if len(name) <= 64 else f"{name[:64]}..."  # long enough to be recognised
