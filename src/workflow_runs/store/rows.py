"""Rows as values. Never raises: what is damaged reads as None, or as what promises least, and the run names it.

SQLite lets anybody put anything into any column; on both databases a text may be no JSON and a state none of ours. One such row must
not break the list that it is on, and must not be taken for more than it says (promise P16):

* a run whose state is damaged is shown by whether it has ended: it is lost if it has, and otherwise waits for a person;
* a step whose state or output is damaged is ``unknown``: nobody resumes past it or repeats it unasked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import pydantic_core

from ..clock import from_millis, run_id_millis
from ..model.failures import error_from_json
from ..model.jsontext import check_json
from ..model.records import Attempt, Audit, ErrorRecord, Run, Step, StepKey
from ..model.states import RUN_STATUS, EffectClass, Origin, RecordingMode, RunState, StepKind, StepState

E = TypeVar("E")

_EPOCH = from_millis(0)

_RUN_STATES = {state.value: state for state in RunState}
_MODES = {mode.value: mode for mode in RecordingMode}
_STEP_STATES = {state.value: state for state in StepState}
_STEP_KINDS = {kind.value: kind for kind in StepKind}
_ORIGINS = {origin.value: origin for origin in Origin}
_EFFECTS = {effect.value: effect for effect in EffectClass}


class _Values:
    """The values of one row, each checked as it is taken."""

    __slots__ = ("_row", "damaged")

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row
        self.damaged: list[str] = []

    def text(self, name: str, shown_as: str | None = None) -> str | None:
        value = self._row[name]
        if value is None or type(value) is str:
            return value
        self.damaged.append(shown_as or name)
        return None

    def name(self, name: str) -> str:
        value = self._row[name]
        if type(value) is str:
            return value
        self.damaged.append(name)
        return ""

    def number(self, name: str) -> int | None:
        value = self._row[name]
        if value is None or type(value) is int:
            return value
        self.damaged.append(name)
        return None

    def time(self, name: str) -> datetime | None:
        value = self._row[name]
        if value is None:
            return None
        try:
            return from_millis(value)
        except (TypeError, OverflowError):
            self.damaged.append(name)
            return None

    def one_of(self, name: str, members: Mapping[str, E]) -> E | None:
        value = self._row[name]
        found = members.get(value) if type(value) is str else None
        if found is None:
            self.damaged.append(name)
        return found

    def json(self, name: str) -> str | None:
        value = self._row[name]
        if value is None or (type(value) is str and check_json(value) is not None):
            return value
        self.damaged.append(name)
        return None

    def error(self, name: str) -> ErrorRecord | None:
        value = self._row[name]
        if value is None:
            return None
        found = error_from_json(value) if type(value) is str else None
        if found is None:
            self.damaged.append(name)
        return found


# --- runs -------------------------------------------------------------------------------------------------------------


def run_of(row: Mapping[str, Any], *, payloads: bool) -> Run:
    """Return the run of a row of ``workflow_runs``, joined with its payloads if they are wanted."""
    values = _Values(row)
    run_id = values.name("id")
    started_at = _started_at(run_id, values)
    completed_at = values.time("completed_at")
    state = values.one_of("state", _RUN_STATES)
    if state is None:
        state = RunState.UNKNOWN if row["completed_at"] is None else RunState.LOST
    return Run(
        id=run_id,
        workflow_name=values.name("workflow_name"),
        definition=values.name("definition"),
        trigger=values.name("trigger"),
        correlation_id=values.text("correlation_id"),
        tags=_tags(values),
        state=state,
        status=RUN_STATUS[state],
        input=values.json("input") if payloads else None,
        result=values.json("result") if payloads else None,
        error=_run_error(values, payloads=payloads),
        fingerprint=values.text("fingerprint"),
        parent_run_id=values.text("parent_run_id"),
        root_run_id=values.text("root_run_id") or run_id,
        chain_run_id=values.text("chain_run_id") or run_id,
        triggered_by_user_id=values.text("triggered_by_user_id"),
        idempotency_key=values.text("idempotency_key"),
        resume_from=_resume_from(values),
        mode=values.one_of("mode", _MODES) or RecordingMode.OBSERVE,
        has_gap=bool(row["has_gap"]),
        code_version=values.text("code_version"),
        started_at=started_at,
        execution_started_at=values.time("execution_started_at"),
        completed_at=completed_at,
        updated_at=values.time("updated_at") or started_at,
        duration_ms=values.number("duration_ms"),
        cancel_requested_at=values.time("cancel_requested_at"),
        claim_owner=values.text("claim_owner"),
        resumed_by_run_id=values.text("resumed_by_run_id"),
        unreadable=tuple(dict.fromkeys(values.damaged)),
    )


def _started_at(run_id: str, values: _Values) -> datetime:
    try:
        return from_millis(run_id_millis(run_id))
    except (ValueError, OverflowError):
        values.damaged.append("started_at")
        return _EPOCH


def _tags(values: _Values) -> tuple[str, ...]:
    text = values.name("tags")
    if text == "[]":
        return ()
    try:
        tags = pydantic_core.from_json(text)
    except ValueError:
        tags = None
    if isinstance(tags, list) and all(type(tag) is str for tag in tags):
        return tuple(tags)
    values.damaged.append("tags")
    return ()


def _run_error(values: _Values, *, payloads: bool) -> ErrorRecord | None:
    if payloads:
        error = values.error("error")
        if error is not None:
            return error
    # A summary, or a whole error that is damaged: what the row itself says.
    message = values.text("error_message", "error")
    if message is None:
        return None
    return ErrorRecord(
        message,
        code=values.text("error_code", "error"),
        step_name=values.text("error_step", "error"),
        fingerprint=values.text("fingerprint"),
    )


def _resume_from(values: _Values) -> StepKey | None:
    name = values.text("resume_from_step")
    if name is None:
        return None
    return StepKey(name, values.text("resume_from_key") or "", values.number("resume_from_occurrence") or 1)


# --- steps ------------------------------------------------------------------------------------------------------------


def steps_of(rows: Iterable[Mapping[str, Any]], *, outputs: bool) -> tuple[Step, ...]:
    """Return the steps of one run from its rows of ``workflow_run_steps``, by sequence, attempts oldest first."""
    found: dict[StepKey, list[tuple[_Values, Attempt]]] = {}
    for row in rows:
        values = _Values(row)
        key = StepKey(values.name("name"), values.name("key"), values.number("occurrence") or 0)
        found.setdefault(key, []).append((values, _attempt_of(values, outputs=outputs)))
    steps = [_step_of(key, attempts) for key, attempts in found.items()]
    # By the recorded order and nothing else: an order inferred from names once charged a card twice (spec: original, B1).
    steps.sort(key=lambda step: (step.sequence, step.step))
    return tuple(steps)


def _step_of(key: StepKey, attempts: list[tuple[_Values, Attempt]]) -> Step:
    attempts.sort(key=lambda found: found[1].number)
    values = attempts[0][0]
    return Step(
        run_id=values.name("run_id"),
        step=key,
        sequence=values.number("sequence") or 0,
        kind=values.one_of("kind", _STEP_KINDS) or StepKind.STEP,
        effect=values.one_of("effect", _EFFECTS) or EffectClass.UNSAFE,
        input_digest=values.text("input_digest"),
        attempts=tuple(attempt for _, attempt in attempts),
    )


def _attempt_of(values: _Values, *, outputs: bool) -> Attempt:
    state = values.one_of("state", _STEP_STATES)
    output = values.json("output") if outputs else None
    error = values.error("error")
    if state is None or "output" in values.damaged:
        state = StepState.UNKNOWN
        error = ErrorRecord("The record of this step is damaged and cannot be read.", code="unreadable")
    return Attempt(
        number=values.number("attempt") or 0,
        state=state,
        origin=values.one_of("origin", _ORIGINS) or Origin.EXECUTED,
        output=output,
        error=error,
        started_at=values.time("started_at") or _EPOCH,
        ended_at=values.time("ended_at"),
        duration_ms=values.number("duration_ms"),
    )


# --- audit ------------------------------------------------------------------------------------------------------------


def audit_of(row: Mapping[str, Any]) -> Audit:
    """Return the audit row."""
    values = _Values(row)
    return Audit(
        id=values.name("id"),
        at=values.time("at") or _EPOCH,
        actor=values.text("actor"),
        action=values.name("action"),
        workflow_name=values.name("workflow_name"),
        run_id=values.name("run_id"),
        target_run_id=values.text("target_run_id"),
        reason=values.text("reason"),
        plan_hash=values.text("plan_hash"),
        request_id=values.text("request_id"),
    )
