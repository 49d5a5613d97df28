"""The query strings of the reading routes. Strict: what is unknown, repeated, empty or out of range is refused with the parameter's name.

Values are never repeated in an error. ``+`` is a space here, as in every query string, so a time zone has to be sent as ``%2B02:00``.
Source: contract, section Runs (filters); spec 5.1.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import parse_qsl

from ..errors import InvalidQuery
from ..model.records import Page, RunFilter
from ..model.states import RunState, RunStatus
from ..settings import Limits
from ..wire import cursor_run_id

PARAMETERS_MAX: Final = 100
DURATION_MS_MAX: Final = 2**53 - 1  # the largest integer that every JSON reader keeps
LIMIT_DEFAULT: Final = 50

REPEATABLE: Final = frozenset({"workflowName", "status", "state", "tag"})
LIST_PARAMETERS: Final = (
    *("workflowName", "status", "state", "tag", "correlationId", "trigger", "triggeredByUserId", "parentRunId"),
    *("rootRunId", "fingerprint", "startedSince", "startedUntil", "minDurationMs", "maxDurationMs"),
    *("limit", "offset", "cursor", "view"),
)

_INTEGER = re.compile(r"[0-9]{1,16}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d:?\d\d)", re.ASCII)
_SPACE_FOR_PLUS = re.compile(r".*\d \d\d:?\d\d", re.ASCII)

Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What ``GET workflow-runs`` asks for."""

    where: RunFilter
    page: Page
    summary: bool


def parse(query_string: bytes, known: Collection[str]) -> dict[str, list[str]]:
    """Return the parameters with their values, none of them empty.

    Raises:
        InvalidQuery: naming the parameter.
    """
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAX
        )
    except ValueError as error:  # too many, not ASCII, or percent-encoded bytes that are no UTF-8
        raise InvalidQuery("The query string is not percent-encoded UTF-8, or has too many parameters.") from error
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in known:
            shown = ", ".join(known) if known else "none"
            raise InvalidQuery(f"Unknown query parameter; known are: {shown}.", field=name[:64])
        if not value or "\x00" in value:
            raise InvalidQuery(f"{name} must not be empty or hold NUL.", field=name)
        if name in values and name not in REPEATABLE:
            raise InvalidQuery(f"{name} may stand only once.", field=name)
        values.setdefault(name, []).append(value)
    return values


def list_query(query_string: bytes, limits: Limits) -> ListQuery:
    """Return what the list's query string asks for.

    Raises:
        InvalidQuery: naming the parameter.
    """
    values = parse(query_string, LIST_PARAMETERS)
    return ListQuery(_filter(values), _page(values, limits), summary=_view(values) == "summary")


def one(values: Mapping[str, list[str]], name: str) -> str | None:
    """Return the only value of a parameter, or None."""
    given = values.get(name)
    return given[0] if given else None


def choice(values: Mapping[str, list[str]], name: str, allowed: tuple[str, ...]) -> str | None:
    """Return a parameter that has to be one of a few words.

    Raises:
        InvalidQuery: it is another one.
    """
    value = one(values, name)
    if value is not None and value not in allowed:
        raise InvalidQuery(f"{name} has to be one of: {', '.join(allowed)}.", field=name)
    return value


def _view(values: Mapping[str, list[str]]) -> str:
    return choice(values, "view", ("full", "summary")) or "full"


def _filter(values: Mapping[str, list[str]]) -> RunFilter:
    return RunFilter(
        workflow_names=tuple(dict.fromkeys(values.get("workflowName", ()))),
        statuses=_words(values, "status", RunStatus),
        states=_words(values, "state", RunState),
        tags=tuple(dict.fromkeys(values.get("tag", ()))),
        correlation_id=one(values, "correlationId"),
        trigger=one(values, "trigger"),
        triggered_by_user_id=one(values, "triggeredByUserId"),
        parent_run_id=one(values, "parentRunId"),
        root_run_id=one(values, "rootRunId"),
        fingerprint=one(values, "fingerprint"),
        started_since=_time(values, "startedSince"),
        started_until=_time(values, "startedUntil"),
        duration_ms_min=_integer(values, "minDurationMs", 0, DURATION_MS_MAX),
        duration_ms_max=_integer(values, "maxDurationMs", 0, DURATION_MS_MAX),
    )


def _page(values: Mapping[str, list[str]], limits: Limits) -> Page:
    limit = _integer(values, "limit", 1, limits.page_max)
    offset = _integer(values, "offset", 0, limits.offset_max)
    cursor = one(values, "cursor")
    if cursor is not None and offset is not None:
        raise InvalidQuery("cursor and offset are two ways to say the same thing; give one.", field="cursor")
    return Page(
        limit=LIMIT_DEFAULT if limit is None else limit,
        offset=offset or 0,
        after=None if cursor is None else cursor_run_id(cursor),
    )


def _words(values: Mapping[str, list[str]], name: str, kind: type[Word]) -> tuple[Word, ...]:
    given = values.get(name, ())
    try:
        return tuple(dict.fromkeys(kind(value) for value in given))
    except ValueError as error:
        raise InvalidQuery(f"{name} has to be one of: {', '.join(kind)}.", field=name) from error


def _integer(values: Mapping[str, list[str]], name: str, minimum: int, maximum: int) -> int | None:
    text = one(values, name)
    if text is None:
        return None
    if not _INTEGER.fullmatch(text) or not minimum <= int(text) <= maximum:
        raise InvalidQuery(f"{name} has to be an integer from {minimum} to {maximum}.", field=name)
    return int(text)


def _time(values: Mapping[str, list[str]], name: str) -> datetime | None:
    """A time in UTC, rounded up to whole milliseconds: runs have no finer times, and so ``>=`` and ``<`` stay exact."""
    text = one(values, name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text if _TIME.fullmatch(text) else "").astimezone(UTC)
        return moment + timedelta(microseconds=-moment.microsecond % 1000)
    except (ValueError, OverflowError) as error:
        hint = " The + of a time zone has to be sent as %2B." if _SPACE_FOR_PLUS.fullmatch(text) else ""
        raise InvalidQuery(f"{name} has to be an ISO 8601 time with a zone.{hint}", field=name) from error
