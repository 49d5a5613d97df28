"""Entries of observed runs as lines of text, and back: what a spool file holds.

What is read back is data from a file that anybody with access may have changed or torn. So a line carries its length and a checksum
against damage, and every field is checked against its kind, its bound and the state tables against everything else: what is not
exactly an entry that an observed run can make is a ``ValueError``, and never reaches the store.

Only what an observed run makes can be written: no claims, no operator's actions, no seeds. Those are answered for when they are
committed, and a file that delivers them later would answer for nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, TypeAlias, TypeVar

import pydantic_core

from ..clock import run_id_millis
from ..settings import Limits
from .entries import Entry, GapNoted, RunEnded, StartRun, StepEnded, StepStarted
from .jsontext import check_json, clean, to_json
from .records import ErrorRecord, StepKey
from .requests import RunRequest
from .states import EffectClass, Origin, RecordingMode, RunState, StepKind, StepState, is_finished

_LIMITS: Final = Limits()
_HEAD: Final = 18  # "LLLLLLLL CCCCCCCC ": length and checksum of what follows, in hexadecimal
# A stack and a message for each cause, an input or output, and what escaping and quoting make of them.
LINE_BYTES_MAX: Final = 16 * _LIMITS.output_bytes_max

_NAME = _LIMITS.name_length_max
_IDENTIFIER = _LIMITS.identifier_length_max
_PAYLOAD = 2 * _LIMITS.output_bytes_max  # characters; a codec may have left a little more than is kept of an output
_TEXT = 2 * _LIMITS.error_text_max
_CAUSES = _LIMITS.error_causes_max + 1
_NUMBER_MAX = 2**62

E = TypeVar("E", bound=StrEnum)
Fields: TypeAlias = list[Any]


def is_spoolable(entry: Entry) -> bool:
    """Return whether an entry can be written as a line: it is an observed run's, and nobody waits for an answer to it."""
    if isinstance(entry, StartRun):
        request = entry.request
        plain = entry.claim is None and request.action is None and not request.seeds
        return plain and entry.mode is RecordingMode.OBSERVE and entry.state is RunState.RUNNING
    return isinstance(entry, GapNoted) or (
        isinstance(entry, StepStarted | StepEnded | RunEnded) and entry.claim is None
    )


def to_line(entry: Entry) -> bytes:
    """Return an entry as a line, its end included.

    Raises:
        ValueError: it is no entry of an observed run, or a text of it has no UTF-8 form.
    """
    if not is_spoolable(entry):
        raise ValueError(f"a {type(entry).__name__} is not for a spool")
    data = to_json(_WRITERS[type(entry)](entry)).encode()
    return b"%08x %08x %b\n" % (len(data), zlib.crc32(data), data)


def from_line(line: bytes) -> Entry:
    """Return the entry that a line holds.

    Raises:
        ValueError: the line is damaged, or what it holds is no entry of an observed run.
    """
    data = line[_HEAD:-1]
    if len(line) > LINE_BYTES_MAX or line != b"%08x %08x %b\n" % (len(data), zlib.crc32(data), data):
        raise ValueError("a line is torn or damaged")
    match pydantic_core.from_json(data, allow_inf_nan=False):
        case [str() as kind, *fields] if kind in _READERS:
            return _READERS[kind](fields)
    raise ValueError("a line holds no entry")


# --- writing ---------------------------------------------------------------------------------------------------------


def _start(entry: StartRun) -> Fields:
    asked = entry.request
    who = [asked.correlation_id, asked.triggered_by_user_id, asked.parent_run_id]
    head = ["start", entry.run_id, asked.workflow_name, asked.definition, asked.trigger]
    return [*head, asked.input, list(asked.tags), *who, asked.resume_from and list(asked.resume_from)]


def _step(entry: StepStarted | StepEnded) -> Fields:
    return [*entry.step, entry.attempt, entry.sequence, entry.kind, entry.effect, entry.input_digest, entry.started_ms]


def _step_ended(entry: StepEnded) -> Fields:
    times = [entry.ended_ms, entry.duration_ms]
    end = [entry.state, entry.origin, entry.output, _error(entry.error), *times]
    return ["step-ended", entry.run_id, *_step(entry), *end]


def _error(error: ErrorRecord | None) -> Fields | None:
    if error is None:
        return None
    texts = [error.message, error.code, error.type_name, error.step_name, error.stack]
    return [*texts, _error(error.cause), error.fingerprint]


_WRITERS: Final[dict[type[Any], Callable[[Any], Fields]]] = {
    StartRun: _start,
    StepStarted: lambda entry: ["step-started", entry.run_id, *_step(entry)],
    StepEnded: _step_ended,
    RunEnded: lambda end: ["end", end.run_id, end.state, end.at_ms, end.result, _error(end.error)],
    GapNoted: lambda gap: ["gap", gap.run_id],
}


# --- reading ---------------------------------------------------------------------------------------------------------


def _read_start(fields: Fields) -> StartRun:
    run_id, name, definition, trigger, given, tags, correlation, user, parent, resume_from = fields
    if not isinstance(tags, list) or len(tags) > _LIMITS.tags_max:
        raise ValueError("tags are no list of few texts")
    request = RunRequest(
        _text(name, _NAME),
        _text(definition, _NAME),
        _json(given),
        _text(trigger, _NAME),
        correlation_id=_optional(correlation, _IDENTIFIER),
        tags=tuple(_text(tag, _LIMITS.tag_length_max) for tag in tags),
        triggered_by_user_id=_optional(user, _IDENTIFIER),
        parent_run_id=_optional(parent, _IDENTIFIER),
        resume_from=None if resume_from is None else _key(resume_from),
    )
    return StartRun(_run_id(run_id), request, RunState.RUNNING, RecordingMode.OBSERVE)


def _read_step(fields: Fields) -> StepStarted:
    run_id, *key, attempt, sequence, kind, effect, digest, started_ms = fields
    return StepStarted(
        _run_id(run_id),
        None,
        _key(key),
        _number(attempt),
        _number(sequence),
        _one_of(StepKind, kind),
        _one_of(EffectClass, effect),
        _optional(digest, _IDENTIFIER),
        _number(started_ms),
    )


def _read_step_ended(fields: Fields) -> StepEnded:
    *started, state, origin, output, error, ended_ms, duration_ms = fields
    ended_as = _one_of(StepState, state)
    if ended_as not in _STEP_ENDS:
        raise ValueError("a step does not end so")
    return StepEnded(
        *_read_step(started),
        ended_as,
        _one_of(Origin, origin),
        _json(output),
        _read_error(error),
        _number(ended_ms),
        _number(duration_ms),
    )


def _read_end(fields: Fields) -> RunEnded:
    run_id, state, at_ms, result, error = fields
    ended_as = _one_of(RunState, state)
    if not is_finished(ended_as):
        raise ValueError("a run does not end so")
    return RunEnded(_run_id(run_id), ended_as, _number(at_ms), _json(result), _read_error(error))


def _read_gap(fields: Fields) -> GapNoted:
    (run_id,) = fields
    return GapNoted(_run_id(run_id))


# What an observed step ends as; see ``execution.observed``.
_STEP_ENDS: Final = {StepState.SUCCEEDED, StepState.FAILED, StepState.CANCELLED, StepState.SKIPPED}

_READERS: Final[dict[str, Callable[[Fields], Entry]]] = {
    "start": _read_start,
    "step-started": _read_step,
    "step-ended": _read_step_ended,
    "end": _read_end,
    "gap": _read_gap,
}


def _read_error(value: Any, depth: int = 0) -> ErrorRecord | None:
    if value is None:
        return None
    if depth > _CAUSES or not isinstance(value, list):
        raise ValueError("an error is no list, or has too many causes")
    message, code, kind, step, stack, cause, fingerprint = value
    texts = (_text(message, _TEXT), _optional(code, _NAME), _optional(kind, _NAME), _optional(step, _TEXT))
    return ErrorRecord(*texts, _optional(stack, _TEXT), _read_error(cause, depth + 1), _optional(fingerprint, _NAME))


def _run_id(value: Any) -> str:
    text = _text(value, _IDENTIFIER)
    run_id_millis(text)
    return text


def _key(value: Any) -> StepKey:
    match value:
        case [name, key, occurrence]:
            return StepKey(_text(name, _NAME), _text(key, _NAME), _number(occurrence))
    raise ValueError("a step's key has three parts")


def _text(value: Any, characters_max: int) -> str:
    if not isinstance(value, str) or len(value) > characters_max or clean(value) != value:
        raise ValueError("a text is missing, too long, or not fit to be kept")
    return value


def _optional(value: Any, characters_max: int) -> str | None:
    return None if value is None else _text(value, characters_max)


def _json(value: Any) -> str | None:
    text = _optional(value, _PAYLOAD)
    if text is not None and check_json(text) is None:
        raise ValueError("a payload is no JSON")
    return text


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _NUMBER_MAX:
        raise ValueError("a number is missing or out of range")
    return value


def _one_of(kind: type[E], value: Any) -> E:
    return kind(_text(value, _NAME))
