"""What a filter asks of a run, brought into one form (``Asked``), and the tests that need more than a comparison of columns.

Both databases answer alike: letters fold from A to Z only, whatever the rules of the database's language, and a value of the input
is compared as it is written in JSON, so ``42.0`` is not ``42`` and ``true`` is not ``1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ..model.records import Choice, RunField, RunFilter
from ..model.states import RUN_STATUS, RunState, RunStatus
from .tables import payloads, runs

_ALL = frozenset(RunState)
# Runs that ended without success: they alone have an error.
ENDED_BADLY = frozenset(
    state for state, status in RUN_STATUS.items() if status in {RunStatus.FAILED, RunStatus.CANCELLED}
)

# Fields that are columns, compared whole.
COLUMNS = (
    *(RunField.CORRELATION_ID, RunField.PARENT_RUN_ID, RunField.FINGERPRINT, RunField.TRIGGERED_BY_USER_ID),
    *(RunField.TRIGGER, RunField.ERROR_STEP, RunField.CODE_VERSION, RunField.WORKFLOW_NAME),
)

# No writer of JSON puts these in escaped form. Looking for them in the text first spares parsing most inputs.
_NEVER_ESCAPED = re.compile(r"[A-Za-z0-9 _.@:-]+", re.ASCII)
_PLACE = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """A filter without its two ways to say a thing. A run matches when all hold."""

    where: RunFilter  # for what has one way only
    states: frozenset[RunState] | None  # None: all
    values: Mapping[RunField, tuple[str, ...]]  # of ``COLUMNS``; one of them
    tags: tuple[tuple[str, ...], ...]  # of each group, one of them
    texts: tuple[Choice, ...]
    inputs: tuple[Choice, ...]
    excluded: tuple[Asked, ...]


def asked_of(where: RunFilter) -> Asked | None:
    """Return what is asked; None when no run can match, be it that no database could hold what is looked for."""
    excluded = tuple(found for found in map(asked_of, where.excluded) if found is not None)
    choices = [Choice(choice.field, _storable(choice.values), choice.path) for choice in _choices(where)]
    texts = tuple(choice for choice in choices if choice.field is RunField.ERROR_TEXT)
    states = _states(where)
    if texts:
        states = ENDED_BADLY if states is None else states & ENDED_BADLY
    values: dict[RunField, tuple[str, ...]] = {}
    for choice in choices:
        if choice.field in COLUMNS:
            before = values.get(choice.field, choice.values)
            values[choice.field] = tuple(value for value in choice.values if value in before)
    wanted = (*values.values(), *(choice.values for choice in choices))
    if not all(wanted) or (states is not None and not states) or RunFilter() in where.excluded:
        return None
    return Asked(
        where,
        states,
        values,
        tuple(choice.values for choice in choices if choice.field is RunField.TAG),
        texts,
        tuple(choice for choice in choices if choice.field is RunField.INPUT),
        excluded,
    )


def _states(where: RunFilter) -> frozenset[RunState] | None:
    """Return the states that the filter lets through, or None for all."""
    states = _ALL
    if where.statuses:
        states = frozenset(state for state in states if RUN_STATUS[state] in where.statuses)
    if where.states:
        states &= frozenset(where.states)
    return None if states == _ALL else states


def _choices(where: RunFilter) -> Iterable[Choice]:
    """Yield the choices, and as such also the fields that are the older way to make one."""
    if where.workflow_names:
        yield Choice(RunField.WORKFLOW_NAME, where.workflow_names)
    for tag in dict.fromkeys(where.tags):
        yield Choice(RunField.TAG, (tag,))
    for field, value in (
        (RunField.CORRELATION_ID, where.correlation_id),
        (RunField.PARENT_RUN_ID, where.parent_run_id),
        (RunField.FINGERPRINT, where.fingerprint),
        (RunField.TRIGGERED_BY_USER_ID, where.triggered_by_user_id),
        (RunField.TRIGGER, where.trigger),
    ):
        if value is not None:
            yield Choice(field, (value,))
    yield from where.choices


def _storable(values: Iterable[str]) -> tuple[str, ...]:
    """Return the different values that a database can hold; what it cannot hold it does not contain, and asking would be an error."""
    return tuple(value for value in dict.fromkeys(values) if "\x00" not in value and _is_unicode(value))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- texts ------------------------------------------------------------------------------------------------------------


class _AsciiLower(FunctionElement[str]):
    """The text with A to Z in lower case, and no other letter changed."""

    type: sa.types.TypeEngine[str] = sa.Text()
    inherit_cache: bool | None = True


@compiles(_AsciiLower, "sqlite")
def _on_sqlite(element: _AsciiLower, compiler: Any, **options: Any) -> str:
    return f"lower({compiler.process(element.clauses, **options)})"


@compiles(_AsciiLower, "postgresql")
def _on_postgresql(element: _AsciiLower, compiler: Any, **options: Any) -> str:
    return f'lower({compiler.process(element.clauses, **options)} COLLATE "C")'


def error_says(choice: Choice) -> sa.ColumnElement[bool]:
    """Return the test whether the error that a list shows holds one of the texts, each taken literally."""
    shown = _AsciiLower(runs.c.error_message)
    return sa.or_(*(shown.contains(_ascii_lower(value), autoescape=True) for value in choice.values))


def _ascii_lower(text: str) -> str:
    return text.encode().lower().decode()  # bytes fold A to Z only


# --- the input --------------------------------------------------------------------------------------------------------


class _JsonScalar(FunctionElement[str]):
    """The scalar at a place in a JSON text, as text: a string's characters, anything else as it is written. NULL where there is none,
    or where the text is not JSON: a damaged row disturbs no other.

    Arguments: the text, the path as SQLite writes it, the path's segments.
    """

    type: sa.types.TypeEngine[str] = sa.Text()
    inherit_cache: bool | None = True


@compiles(_JsonScalar, "sqlite")
def _scalar_on_sqlite(element: _JsonScalar, compiler: Any, **options: Any) -> str:
    document, path, *_ = (compiler.process(clause, **options) for clause in list(element.clauses)[:2])
    return (
        f"CASE WHEN json_valid({document}) THEN CASE json_type({document}, {path}) WHEN 'text' THEN {document} ->> {path} "
        f"WHEN 'object' THEN NULL WHEN 'array' THEN NULL ELSE {document} -> {path} END END"
    )


@compiles(_JsonScalar, "postgresql")
def _scalar_on_postgresql(element: _JsonScalar, compiler: Any, **options: Any) -> str:
    document, _, *segments = (compiler.process(clause, **options) for clause in element.clauses)
    arguments = ", ".join((f"CAST({document} AS json)", *segments))
    # As jsonb, because reading a string out of json fails on escapes (\u0000, half a pair) that json lets pass.
    return (
        f"CASE WHEN pg_input_is_valid({document}, 'jsonb') THEN CASE json_typeof(json_extract_path({arguments})) "
        f"WHEN 'null' THEN 'null' WHEN 'object' THEN NULL WHEN 'array' THEN NULL "
        f"ELSE json_extract_path_text({arguments}) END END"
    )


def input_has(choice: Choice, key: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return the test whether the input of the run has one of the values at the path.

    A subquery for a value, which is looked up run by run: PostgreSQL turns EXISTS into a join, and may begin it by parsing all inputs.
    """
    text = payloads.c.input
    may_match: sa.ColumnElement[bool] = text.is_not(None)
    if all(map(_NEVER_ESCAPED.fullmatch, choice.values)):
        may_match = sa.or_(*(text.contains(value, autoescape=True) for value in choice.values))
    tests = []
    for path in _sqlite_paths(choice.path):
        scalar = sa.case((may_match, _JsonScalar(text, path, *choice.path)))
        tests.append(sa.select(scalar).where(payloads.c.run_id == key).scalar_subquery().in_(choice.values))
    return sa.or_(*tests)


def _sqlite_paths(segments: Sequence[str]) -> list[str]:
    """Return the path in SQLite's notation; digits may be a place in an array or the name of a member, which PostgreSQL leaves open."""
    ways = [
        (f'."{segment}"', f"[{segment}]") if _PLACE.fullmatch(segment) else (f'."{segment}"',) for segment in segments
    ]
    return ["$" + "".join(way) for way in product(*ways)]
