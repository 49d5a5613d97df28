"""Entries as rows: the values of one entry in the order of the columns in ``statements``. No input or output.

Making a row refuses an entry that asks for what no row may say.
"""

from __future__ import annotations

from typing import Any

from ..clock import run_id_millis
from ..errors import EntryRejected
from ..model.entries import RunChanged, RunEnded, StartRun, StepEnded, StepStarted
from ..model.failures import error_to_json
from ..model.jsontext import to_json
from ..model.records import ErrorRecord
from ..model.requests import Action
from ..model.states import Origin, RunState, StepState, is_finished
from .rollup import half_hour, took_class
from .schema import ERROR_MESSAGE_MAX, duration_class

Row = tuple[Any, ...]

_STEP_RUNNING = StepState.RUNNING.value
_STEP_SKIPPED = StepState.SKIPPED.value
_EXECUTED = Origin.EXECUTED.value
_SEEDED = Origin.SEEDED.value

# ``str`` of a member of a StrEnum, as a plain string: drivers take a subclass of ``str`` the slow way, and ``.value`` is a Python call.
plain = str.__str__


def started_ms(run_id: str) -> int:
    """Return when a run was accepted: the time inside its id.

    Raises:
        EntryRejected: the text is no run id.
    """
    try:
        return run_id_millis(run_id)
    except ValueError as error:
        raise EntryRejected("The entry's run id is not one that the clock makes.") from error


def run_row(entry: StartRun) -> Row:
    """Return the values of ``RUN_COLUMNS``."""
    request = entry.request
    at = started_ms(entry.run_id)
    if is_finished(entry.state):
        raise EntryRejected(f"A run cannot start as {entry.state}.")
    return (
        entry.run_id,
        request.workflow_name,
        request.definition,
        request.trigger,
        request.correlation_id,
        to_json(list(request.tags)),
        plain(entry.state),
        plain(entry.mode),
        False,
        request.parent_run_id,
        None if request.root_run_id == entry.run_id else request.root_run_id,
        None if request.chain_run_id == entry.run_id else request.chain_run_id,
        *(request.resume_from or (None, None, None)),
        request.triggered_by_user_id,
        request.idempotency_key,
        request.code_version,
        None if entry.state is RunState.QUEUED else at,
        at,
        *(entry.claim or (None, None)),
    )


def seed_rows(entry: StartRun) -> list[Row]:
    """Return a row of ``STEP_COLUMNS`` for each step that is carried over."""
    if not entry.request.seeds:
        return []
    at = started_ms(entry.run_id)
    return [
        (
            entry.run_id,
            *seed.step,
            1,
            seed.sequence,
            plain(seed.kind),
            _STEP_SKIPPED,
            _SEEDED,
            plain(seed.effect),
            seed.input_digest,
            seed.output,
            None,
            at,
            at,
            0,
        )
        for seed in entry.request.seeds
    ]


def started_audit_row(entry: StartRun, action: Action) -> Row:
    """Return the audit row of an action that makes a run."""
    if entry.audit_id is None:
        raise EntryRejected("An action needs an id for its audit row.")
    return audit_row(action, entry.audit_id, started_ms(entry.run_id), entry.request.workflow_name, entry.run_id)


def audit_row(action: Action, audit_id: str, at_ms: int, workflow_name: str, run_id: str) -> Row:
    """Return the values of ``AUDIT_COLUMNS``."""
    return (
        audit_id,
        at_ms,
        action.actor,
        action.kind,
        workflow_name,
        run_id,
        action.target_run_id,
        action.reason,
        action.plan_hash,
        action.request_id,
    )


def change_row(entry: RunChanged) -> Row:
    """Return what a change sets: the state, the time, and when execution began if it does now."""
    if is_finished(entry.state):
        raise EntryRejected(f"{entry.state} is how a run ends, not what it changes to.")
    return plain(entry.state), entry.at_ms, entry.at_ms if entry.state is RunState.RUNNING else None


def end_row(entry: RunEnded) -> Row:
    """Return the values of ``END_COLUMNS``."""
    if not is_finished(entry.state):
        raise EntryRejected(f"A run does not end as {entry.state}.")
    duration_ms = _duration_ms(entry)
    shown = _shown_error(entry.error)
    return plain(entry.state), entry.at_ms, entry.at_ms, duration_ms, duration_class(duration_ms), *shown


def rollup_place(entry: RunEnded) -> tuple[int, int | None]:
    """Return the half hour that the run of an end counts in, and the class of its duration if that counts too."""
    took = took_class(_duration_ms(entry)) if entry.state is RunState.SUCCEEDED else None
    return half_hour(started_ms(entry.run_id)), took


def _duration_ms(entry: RunEnded) -> int:
    # Two readings of a wall clock that may have been set in between: a duration is never negative.
    return max(0, entry.at_ms - started_ms(entry.run_id))


def end_payload(entry: RunEnded) -> tuple[str | None, str | None]:
    """Return result and error of an end, as JSON."""
    return entry.result, error_text(entry.error)


def _shown_error(error: ErrorRecord | None) -> Row:
    if error is None:
        return None, None, None, None
    return _cut(error.message), _cut(error.code), _cut(error.step_name), error.fingerprint


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= ERROR_MESSAGE_MAX:
        return text
    return text[: ERROR_MESSAGE_MAX - 1] + "\N{HORIZONTAL ELLIPSIS}"


def step_row(entry: StepStarted | StepEnded) -> Row:
    """Return the values of ``STEP_COLUMNS``."""
    if type(entry) is StepEnded:
        return (
            entry.run_id,
            *entry.step,
            entry.attempt,
            entry.sequence,
            plain(entry.kind),
            plain(entry.state),
            plain(entry.origin),
            plain(entry.effect),
            entry.input_digest,
            entry.output,
            error_text(entry.error),
            entry.started_ms,
            entry.ended_ms,
            entry.duration_ms,
        )
    return (
        entry.run_id,
        *entry.step,
        entry.attempt,
        entry.sequence,
        plain(entry.kind),
        _STEP_RUNNING,
        _EXECUTED,
        plain(entry.effect),
        entry.input_digest,
        None,
        None,
        entry.started_ms,
        None,
        None,
    )


def error_text(error: ErrorRecord | None) -> str | None:
    """Return an error as JSON."""
    return None if error is None else error_to_json(error)
