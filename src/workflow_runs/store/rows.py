"""Rows as values. Never raises: what is damaged reads as None, or as what promises least, and the run names it.

SQLite lets anybody put anything into any column; on both databases a text may be no JSON and a state none of ours. One such row must
not break the list that it is on, and must not be taken for more than it says (promise P16):

* a run whose state is damaged is shown by whether it has ended: it is lost if it has, and otherwise waits for a person;
* a step whose state or output is damaged is ``unknown``: nobody resumes past it or repeats it unasked.

Each kind of row has two readers: one for rows as this package writes them, which gives None at the first thing that is not as it
should be, and a patient one for the others. Looking at each value of each row patiently took three times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from datetime import datetime
from typing import Any, TypeVar, cast

import pydantic_core

from ..clock import from_millis, run_id_millis
from ..model.failures import error_from_json
from ..model.jsontext import check_json
from ..model.records import Attempt, Audit, ErrorRecord, Run, Step, StepKey
from ..model.states import RUN_STATUS, EffectClass, Origin, RecordingMode, RunState, StepKind, StepState

E = TypeVar("E")

_EPOCH = from_millis(0)


def _draft_of(record: type) -> Any:
    """Return a class with the fields of a frozen dataclass, whose instances may become instances of that one.

    A frozen dataclass sets each field through ``object.__setattr__``: 3.6 us for a run, a third of what reading its row costs. This
    takes 1 us, and what has the same slots may change its class.
    """
    plain = ((member.name, Any, field(default=member.default)) for member in fields(record))
    return make_dataclass(f"{record.__name__}Draft", plain, slots=True, eq=False)


_RunDraft, _StepDraft, _AttemptDraft = map(_draft_of, (Run, Step, Attempt))

_RUN_STATES = {state.value: state for state in RunState}
_MODES = {mode.value: mode for mode in RecordingMode}
_STEP_STATES = {state.value: state for state in StepState}
_STEP_KINDS = {kind.value: kind for kind in StepKind}
_ORIGINS = {origin.value: origin for origin in Origin}
_EFFECTS = {effect.value: effect for effect in EffectClass}

# All that an undamaged row holds. A text never turns up as a number: SQLite makes a text of it as it is stored.
_SOUND_TYPES = frozenset({str, int, bool, type(None)})
_TEXTS = frozenset({str})
_SOUND_NUMBERS = frozenset({int, type(None)})
_FLAWS = (KeyError, TypeError, ValueError, OverflowError)

RUN_FIELDS = (
    "id",
    "workflow_name",
    "definition",
    "trigger",
    "correlation_id",
    "tags",
    "state",
    "mode",
    "has_gap",
    "error_message",
    "error_code",
    "error_step",
    "fingerprint",
    "parent_run_id",
    "root_run_id",
    "chain_run_id",
    "resumed_by_run_id",
    "resume_from_step",
    "resume_from_key",
    "resume_from_occurrence",
    "triggered_by_user_id",
    "idempotency_key",
    "code_version",
    "execution_started_at",
    "completed_at",
    "updated_at",
    "duration_ms",
    "cancel_requested_at",
    "claim_owner",
)
AUDIT_FIELDS = (
    "id",
    "at",
    "actor",
    "action",
    "workflow_name",
    "run_id",
    "target_run_id",
    "reason",
    "plan_hash",
    "request_id",
)
PAYLOAD_FIELDS = ("input", "result", "error")
STEP_FIELDS = (
    "run_id",
    "name",
    "key",
    "occurrence",
    "attempt",
    "sequence",
    "kind",
    "state",
    "origin",
    "effect",
    "input_digest",
    "error",
    "started_at",
    "ended_at",
    "duration_ms",
    "output",  # the last, so that it can be left out
)


# --- runs -------------------------------------------------------------------------------------------------------------


def run_of(row: Sequence[Any]) -> Run:
    """Return the run of a row of ``RUN_FIELDS``, followed by ``PAYLOAD_FIELDS`` if they were asked for."""
    run = _sound_run(row)
    return _damaged_run(dict(zip((*RUN_FIELDS, *PAYLOAD_FIELDS), row, strict=False))) if run is None else run


def _sound_run(row: Sequence[Any]) -> Run | None:
    if not _SOUND_TYPES.issuperset(map(type, row)):
        return None
    run_id, name, definition, trigger, correlation_id, tags, state_name, mode, has_gap, *rest = row
    (
        message,
        code,
        error_step,
        fingerprint,
        parent,
        root,
        chain,
        resumed_by,
        from_step,
        from_key,
        from_occurrence,
        *rest,
    ) = rest
    user, key, version, execution_started, completed, updated, duration, cancel_requested, owner, *payload = rest
    given, result, error_text = payload or (None, None, None)
    if not _SOUND_NUMBERS.issuperset((type(duration), type(from_occurrence))) or (duration or 0) < 0:
        return None
    if (given is not None and check_json(given) is None) or (result is not None and check_json(result) is None):
        return None
    try:
        state = _RUN_STATES[state_name]
        error = None
        if error_text is not None:
            error = error_from_json(error_text)
            if error is None:
                return None
        elif message is not None:
            error = ErrorRecord(message, code=code, step_name=error_step, fingerprint=fingerprint)
        run = _RunDraft(
            id=run_id,
            workflow_name=name,
            definition=definition,
            trigger=trigger,
            correlation_id=correlation_id,
            tags=() if tags == "[]" else _tags(tags),
            state=state,
            status=RUN_STATUS[state],
            input=given,
            result=result,
            error=error,
            fingerprint=fingerprint,
            parent_run_id=parent,
            root_run_id=root or run_id,
            chain_run_id=chain or run_id,
            triggered_by_user_id=user,
            idempotency_key=key,
            resume_from=None if from_step is None else StepKey(from_step, from_key, from_occurrence),
            mode=_MODES[mode],
            has_gap=bool(has_gap),
            code_version=version,
            started_at=from_millis(run_id_millis(run_id)),
            execution_started_at=None if execution_started is None else from_millis(execution_started),
            completed_at=None if completed is None else from_millis(completed),
            updated_at=from_millis(updated),
            duration_ms=duration,
            cancel_requested_at=None if cancel_requested is None else from_millis(cancel_requested),
            claim_owner=owner,
            resumed_by_run_id=resumed_by,
        )
        run.__class__ = Run
        return cast(Run, run)
    except _FLAWS:
        return None


def _tags(text: str) -> tuple[str, ...]:
    tags = pydantic_core.from_json(text)
    if not isinstance(tags, list) or not _TEXTS.issuperset(map(type, tags)):
        raise ValueError("not a list of texts")
    return tuple(tags)


def _damaged_run(row: Mapping[str, Any]) -> Run:
    values = _Values(row)
    run_id = values.name("id")
    state = values.one_of("state", _RUN_STATES)
    if state is None:
        state = RunState.UNKNOWN if row["completed_at"] is None else RunState.LOST
    started_at = values.started_at()
    return Run(
        id=run_id,
        workflow_name=values.name("workflow_name"),
        definition=values.name("definition"),
        trigger=values.name("trigger"),
        correlation_id=values.string("correlation_id"),
        tags=values.tags(),
        state=state,
        status=RUN_STATUS[state],
        input=values.json("input"),
        result=values.json("result"),
        error=_damaged_error(values),
        fingerprint=values.string("fingerprint"),
        parent_run_id=values.string("parent_run_id"),
        root_run_id=values.string("root_run_id") or run_id,
        chain_run_id=values.string("chain_run_id") or run_id,
        triggered_by_user_id=values.string("triggered_by_user_id"),
        idempotency_key=values.string("idempotency_key"),
        resume_from=values.resume_from(),
        mode=values.one_of("mode", _MODES) or RecordingMode.OBSERVE,
        has_gap=bool(row["has_gap"]),
        code_version=values.string("code_version"),
        started_at=started_at,
        execution_started_at=values.time("execution_started_at"),
        completed_at=values.time("completed_at"),
        updated_at=values.time("updated_at") or started_at,
        duration_ms=values.number("duration_ms"),
        cancel_requested_at=values.time("cancel_requested_at"),
        claim_owner=values.string("claim_owner"),
        resumed_by_run_id=values.string("resumed_by_run_id"),
        unreadable=tuple(dict.fromkeys(values.damaged)),
    )


def _damaged_error(values: _Values) -> ErrorRecord | None:
    # A summary, or a whole error that is damaged: what the run's own row says.
    error = values.error("error")
    if error is not None:
        return error
    message = values.string("error_message", "error")
    if message is None:
        return None
    return ErrorRecord(
        message,
        code=values.string("error_code", "error"),
        step_name=values.string("error_step", "error"),
        fingerprint=values.string("fingerprint"),
    )


# --- steps ------------------------------------------------------------------------------------------------------------


def steps_of(rows: Iterable[Sequence[Any]]) -> tuple[Step, ...]:
    """Return the steps of one run from rows of ``STEP_FIELDS``, with or without the output: by sequence, attempts oldest first."""
    found: dict[StepKey, list[tuple[Step, Attempt]]] = {}
    for row in rows:
        step, attempt = _sound_step(row) or _damaged_step(dict(zip(STEP_FIELDS, row, strict=False)))
        found.setdefault(step.step, []).append((step, attempt))
    steps = [_whole(attempts) for attempts in found.values()]
    # By the recorded order and nothing else: an order inferred from names once charged a card twice (spec: original, B1).
    steps.sort(key=lambda step: (step.sequence, step.step))
    return tuple(steps)


def _whole(attempts: list[tuple[Step, Attempt]]) -> Step:
    first, _ = attempts[0]
    if len(attempts) == 1:
        return first
    attempts.sort(key=lambda found: found[1].number)
    first, _ = attempts[0]
    return Step(
        first.run_id,
        first.step,
        first.sequence,
        first.kind,
        first.effect,
        first.input_digest,
        tuple(attempt for _, attempt in attempts),
    )


def _sound_step(row: Sequence[Any]) -> tuple[Step, Attempt] | None:
    if not _SOUND_TYPES.issuperset(map(type, row)):
        return None
    run_id, name, key, occurrence, number, sequence, kind, state, origin, effect, digest, error_text, *rest = row
    started, ended, duration, *outputs = rest
    output = outputs[0] if outputs else None
    if not _SOUND_NUMBERS.issuperset((type(sequence), type(duration))) or (duration or 0) < 0:
        return None
    if output is not None and check_json(output) is None:
        return None
    try:
        error = None if error_text is None else error_from_json(error_text)
        if error is None and error_text is not None:
            return None
        attempt = _AttemptDraft(
            number,
            _STEP_STATES[state],
            _ORIGINS[origin],
            output,
            error,
            from_millis(started),
            None if ended is None else from_millis(ended),
            duration,
        )
        attempt.__class__ = Attempt
        key = StepKey(name, key, occurrence)
        step = _StepDraft(run_id, key, sequence, _STEP_KINDS[kind], _EFFECTS[effect], digest, (attempt,))
        step.__class__ = Step
        return step, attempt
    except _FLAWS:
        return None


def _damaged_step(row: Mapping[str, Any]) -> tuple[Step, Attempt]:
    values = _Values(row)
    state = values.one_of("state", _STEP_STATES)
    output = values.json("output")
    error = values.error("error")
    if state is None or "output" in values.damaged:
        state = StepState.UNKNOWN
        error = ErrorRecord("The record of this step is damaged and cannot be read.", code="unreadable")
    attempt = Attempt(
        number=values.number("attempt") or 0,
        state=state,
        origin=values.one_of("origin", _ORIGINS) or Origin.EXECUTED,
        output=output,
        error=error,
        started_at=values.time("started_at") or _EPOCH,
        ended_at=values.time("ended_at"),
        duration_ms=values.number("duration_ms"),
    )
    step = Step(
        run_id=values.name("run_id"),
        step=StepKey(values.name("name"), values.name("key"), values.number("occurrence") or 0),
        sequence=values.number("sequence") or 0,
        kind=values.one_of("kind", _STEP_KINDS) or StepKind.STEP,
        effect=values.one_of("effect", _EFFECTS) or EffectClass.UNSAFE,
        input_digest=values.string("input_digest"),
        attempts=(attempt,),
    )
    return step, attempt


# --- audit ------------------------------------------------------------------------------------------------------------


def audit_of(row: Sequence[Any]) -> Audit:
    """Return the audit row of a row of ``AUDIT_FIELDS``."""
    values = _Values(dict(zip(AUDIT_FIELDS, row, strict=True)))
    return Audit(
        id=values.name("id"),
        at=values.time("at") or _EPOCH,
        actor=values.string("actor"),
        action=values.name("action"),
        workflow_name=values.name("workflow_name"),
        run_id=values.name("run_id"),
        target_run_id=values.string("target_run_id"),
        reason=values.string("reason"),
        plan_hash=values.string("plan_hash"),
        request_id=values.string("request_id"),
    )


# --- patience ---------------------------------------------------------------------------------------------------------


class _Values:
    """The values of one row, each looked at as it is taken; ``damaged`` names those that are not what they should be."""

    __slots__ = ("_row", "damaged")

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row
        self.damaged: list[str] = []

    def string(self, name: str, shown_as: str | None = None) -> str | None:
        value = self._row[name]
        if value is None or type(value) is str:
            return value
        self.damaged.append(shown_as or name)
        return None

    def name(self, name: str) -> str:
        return self.string(name) or ""

    def number(self, name: str) -> int | None:
        value = self._row[name]
        if value is None or (type(value) is int and value >= 0):  # none of our numbers is negative
            return value
        self.damaged.append(name)
        return None

    def time(self, name: str) -> datetime | None:
        value = self._row[name]
        if value is None:
            return None
        try:
            return from_millis(value)
        except _FLAWS:
            self.damaged.append(name)
            return None

    def started_at(self) -> datetime:
        try:
            return from_millis(run_id_millis(self._row["id"]))
        except (*_FLAWS, AttributeError):
            self.damaged.append("started_at")
            return _EPOCH

    def tags(self) -> tuple[str, ...]:
        try:
            return _tags(self._row["tags"])
        except _FLAWS:
            self.damaged.append("tags")
            return ()

    def resume_from(self) -> StepKey | None:
        name, key = self.string("resume_from_step"), self.string("resume_from_key")
        occurrence = self.number("resume_from_occurrence")
        return None if name is None else StepKey(name, key or "", occurrence or 1)

    def one_of(self, name: str, members: Mapping[str, E]) -> E | None:
        value = self._row[name]
        found = members.get(value) if type(value) is str else None
        if found is None:
            self.damaged.append(name)
        return found

    def json(self, name: str) -> str | None:
        value = self._row.get(name)  # not there where it was not asked for
        if value is None or (type(value) is str and check_json(value) is not None):
            return value
        self.damaged.append(name)
        return None

    def error(self, name: str) -> ErrorRecord | None:
        value = self._row.get(name)
        if value is None:
            return None
        found = error_from_json(value) if type(value) is str else None
        if found is None:
            self.damaged.append(name)
        return found
