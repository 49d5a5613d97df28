"""From a filter to queries for the ids of its runs, newest first.

One condition *leads* and is looked up in its index; the others are tested on what it finds. Which one is decided here, by rules
(``_lead``), from the rarest to the most common: what is right at ten thousand runs has to be right at ten million.

A leading condition with several values (states, names, classes of durations) becomes one query for each, a ``Branch``, and their ids are
merged as they come, so nothing is sorted that is longer than a page. How to get databases to do that differs:

* SQLite has no statistics. Conditions that do not lead are hidden from it, or it may look up the wrong one; and it merges the branches
  of a UNION ALL by itself, if they have no limits of their own.
* PostgreSQL knows how common a value is as long as nothing is hidden from it, and merges branches only if each has its own limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import sqlalchemy as sa

from ..clock import run_id_floor
from ..model.records import RunField, RunFilter, RunKind
from ..model.states import RunState
from .conditions import COLUMNS, Asked, asked_of, error_says, input_has
from .schema import DERIVED, DURATION_CLASSES_MS, NOT_SUCCEEDED, RESUMED, duration_class
from .tables import run_tags, runs

TOTAL_MAX = 10_000

_ALL = frozenset(RunState)
# States that few runs are in at a time: they lead before tags; those that many runs end in come after.
_FEW = _ALL - {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}
# Triggers that most runs have: a name finds fewer.
_USUAL_TRIGGERS = frozenset({"api", "manual"})
_SLOW_MS = 10_000  # runs that take longer are few
_TAGGED_MAX = 5_000  # runs of a tag that are counted, 0.2 ms, before it leads another one
BRANCHES_MAX = 64  # queries that are merged; a filter by more names does without their index

AFTER = sa.bindparam("after_id", type_=runs.c.id.type)  # the last id of the page before

_NOT_SUCCEEDED, _DERIVED, _RESUMED = sa.text(NOT_SUCCEEDED), sa.text(DERIVED), sa.text(RESUMED)


class Branch:
    """One query for ids: where they come from, and what must hold. The branches of a filter find different runs."""

    def __init__(self, key: sa.ColumnElement[str], conditions: Sequence[Any]) -> None:
        self.key = key
        self.conditions = conditions

    def select(self, *, goes_on: bool = False) -> sa.Select[str]:
        """Return the query; if it ``goes_on``, for the runs below the id that is given as ``AFTER``."""
        chosen = sa.select(self.key.label("id")).where(*self.conditions)
        return chosen.where(self.key < AFTER) if goes_on else chosen

    def select_first(self, count: int, *, goes_on: bool) -> sa.Select[str]:
        """Return the query for the newest only."""
        return sa.select(self.select(goes_on=goes_on).order_by(self.key.desc()).limit(count).subquery().c.id)


class Finder:
    """Makes the queries for one kind of database.

    Args:
        has_statistics: Whether its planner knows how common a value is.
    """

    def __init__(self, *, has_statistics: bool) -> None:
        self._has_statistics = has_statistics

    def page(
        self, branches: Sequence[Branch], limit: int, offset: int = 0, *, goes_on: bool = False
    ) -> sa.Select[Any] | sa.CompoundSelect[Any]:
        """Return the query for the ids of a page and, if there is one, of the run after it; if it ``goes_on``, below ``AFTER``."""
        count = limit + 1
        if len(branches) == 1:
            ids: sa.Select[Any] | sa.CompoundSelect[Any] = branches[0].select(goes_on=goes_on)
        elif self._has_statistics:
            ids = sa.union_all(*(branch.select_first(offset + count, goes_on=goes_on) for branch in branches))
        else:
            ids = sa.union_all(*(branch.select(goes_on=goes_on) for branch in branches))
        chosen = ids.order_by(sa.desc("id")).limit(count)
        return chosen.offset(offset) if offset else chosen

    def count(self, branches: Sequence[Branch], cap: int = TOTAL_MAX) -> sa.Select[int]:
        """Return the query for the number of runs, which stops counting one above ``cap``."""
        parts = [branch.select() for branch in branches]
        ids = sa.union_all(*parts) if len(parts) > 1 else parts[0]
        return sa.select(sa.func.count()).select_from(ids.limit(cap + 1).subquery())

    def branches(self, where: RunFilter) -> list[Branch]:
        """Return the queries whose ids, merged, are the runs of the filter; none when it cannot match.

        The index that leads is chosen by how few runs it is expected to give, whatever the size of the database.
        """
        asked = asked_of(where)
        if asked is None:
            return []
        lead = _lead(asked)
        if lead == "tags":
            return self._of_tags(asked)
        aside = [*_bounds(where, runs.c.id), *self._asides(asked, lead), *_tagged(asked.tags, runs.c.id)]
        return [Branch(runs.c.id, (*leading, *aside)) for leading in self._leading(asked, lead)]

    def _leading(self, asked: Asked, lead: str) -> list[list[Any]]:
        """Return the conditions of each branch that its index is looked up by."""
        if lead == "states":
            return self._of_states(asked)
        if lead == "duration":
            return _of_duration(asked.where)
        if lead == "root_run_id":
            first = asked.where.root_run_id
            return [[runs.c.root_run_id == first], [runs.c.id == first, runs.c.root_run_id.is_(None)]]
        if lead == "kinds":
            return [[_DERIVED]]
        if lead == "has_resume":
            return [[_RESUMED]]
        if lead == "id":
            return [[]]
        return [[runs.c[lead] == value] for value in asked.values[RunField(lead)]]

    def _of_states(self, asked: Asked) -> list[list[Any]]:
        assert asked.states is not None
        ordered = sorted(asked.states)
        names = asked.values.get(RunField.WORKFLOW_NAME, ())
        if not names:
            return [[runs.c.state == state.value, _NOT_SUCCEEDED] for state in ordered]
        if len(names) * len(ordered) > BRANCHES_MAX:
            hidden = self._hidden(runs.c.workflow_name).in_(names)
            return [[runs.c.state == state.value, _NOT_SUCCEEDED, hidden] for state in ordered]
        return [
            [runs.c.workflow_name == name, runs.c.state == state.value, _NOT_SUCCEEDED]
            for name, state in product(names, ordered)
        ]

    def _of_tags(self, asked: Asked) -> list[Branch]:
        """Return the queries that a group of tags leads; runs are looked at only if something else is asked of them.

        Of several tags that a run must have the rarest leads. A run with several tags of one group is found by the first of them.
        """
        key = run_tags.c.run_id
        leading, *others = sorted(asked.tags, key=len)
        singles = [tags[0] for tags in asked.tags if len(tags) == 1]
        conditions: list[Any] = [*_bounds(asked.where, key), *self._of_runs(asked)]
        if len(singles) > 1 and not self._has_statistics:
            met = [sa.or_(run_tags.c.tag == tag, *_tagged([(tag,)], key)) for tag in singles]
            conditions += (*met, *_tagged((tags for tags in others if len(tags) > 1), key))
            return [Branch(key, (run_tags.c.tag == _rarest(singles), *conditions))]
        conditions += _tagged(others, key)
        return [
            Branch(
                key, (run_tags.c.tag == tag, *conditions, *(~met for met in _tagged([leading[:place]], key) if place))
            )
            for place, tag in enumerate(leading)
        ]

    def _of_runs(self, asked: Asked) -> list[Any]:
        """Return what is asked of the runs that tags lead to; nothing, and their rows are not looked at, where nothing is."""
        asides = self._asides(asked, "tags")
        return [runs.c.id == run_tags.c.run_id, *asides] if asides else []

    def _asides(self, asked: Asked, lead: str) -> list[Any]:
        """Return the conditions that are tested on what the leading one finds."""
        where, conditions = asked.where, []
        for field in COLUMNS:
            values = asked.values.get(field)
            if values is not None and field != lead and not (field is RunField.WORKFLOW_NAME and lead == "states"):
                conditions.append(_among(self._hidden(runs.c[field]), values))
        if where.root_run_id is not None and lead != "root_run_id":
            conditions.append(sa.func.coalesce(runs.c.root_run_id, runs.c.id) == where.root_run_id)
        if asked.states is not None and lead != "states":
            conditions.append(self._hidden(runs.c.state).in_(sorted(state.value for state in asked.states)))
        if lead != "duration":
            conditions += _durations(where)
        if where.kinds:
            conditions.append(sa.or_(*(self._kind(kind) for kind in where.kinds)))
        if where.has_resume is not None and lead != "has_resume":
            resumed = self._hidden(runs.c.resumed_by_run_id)
            conditions.append(resumed.is_not(None) if where.has_resume else resumed.is_(None))
        conditions += map(error_says, asked.texts)
        conditions += (input_has(choice, runs.c.id) for choice in asked.inputs)
        # NULL, which is what a comparison with nothing gives, is no match.
        conditions += (sa.and_(*self._all_of(other)).is_not(sa.true()) for other in asked.excluded)
        return conditions

    def _all_of(self, asked: Asked) -> list[Any]:
        """Return all conditions on a run."""
        return [*_bounds(asked.where, runs.c.id), *self._asides(asked, ""), *_tagged(asked.tags, runs.c.id)]

    def _kind(self, kind: RunKind) -> sa.ColumnElement[bool]:
        parent, kept = self._hidden(runs.c.parent_run_id), runs.c.resume_from_step
        if kind is RunKind.ROOT:
            return parent.is_(None)
        return sa.and_(parent.is_not(None), kept.is_not(None) if kind is RunKind.RESUME else kept.is_(None))

    def _hidden(self, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
        """Return the column; in a form that no index has, where the planner might look it up instead of what leads."""
        return column if self._has_statistics else column.concat("")


def _lead(asked: Asked) -> str:
    """Return which condition leads: the first of those that are given, from the rarest to the most common."""
    where, values, states = asked.where, asked.values, asked.states
    trigger = values.get(RunField.TRIGGER, ())
    given = {
        "correlation_id": RunField.CORRELATION_ID in values,
        "parent_run_id": RunField.PARENT_RUN_ID in values,
        "root_run_id": where.root_run_id is not None,
        "fingerprint": RunField.FINGERPRINT in values,
        "states": states is not None and states <= _FEW,
        "has_resume": where.has_resume is True,
        "error_step": RunField.ERROR_STEP in values,
        "kinds": bool(where.kinds) and RunKind.ROOT not in where.kinds,
        "tags": bool(asked.tags),
        "state": states is not None and RunState.SUCCEEDED not in states,
        "triggered_by_user_id": RunField.TRIGGERED_BY_USER_ID in values,
        "slow": (where.duration_ms_min or 0) >= _SLOW_MS,
        "trigger": bool(trigger) and _USUAL_TRIGGERS.isdisjoint(trigger),
        "names": RunField.WORKFLOW_NAME in values,
        "usual": bool(trigger),
        "duration": where.duration_ms_min is not None or where.duration_ms_max is not None,
    }
    too_many = {field for field, those in values.items() if len(those) > BRANCHES_MAX}
    renamed = {"names": "workflow_name", "usual": "trigger", "slow": "duration", "state": "states"}
    leads = (renamed.get(name, name) for name, is_given in given.items() if is_given)
    return next((lead for lead in leads if lead not in too_many), "id")


def _among(column: sa.ColumnElement[Any], values: Sequence[str]) -> sa.ColumnElement[bool]:
    return column == values[0] if len(values) == 1 else column.in_(values)


def _of_duration(where: RunFilter) -> list[list[Any]]:
    first = duration_class(where.duration_ms_min or 0)
    last = len(DURATION_CLASSES_MS) if where.duration_ms_max is None else duration_class(where.duration_ms_max)
    return [[runs.c.duration_class == number, *_durations(where)] for number in range(first, last + 1)]


def _durations(where: RunFilter) -> list[Any]:
    conditions: list[Any] = []
    if where.duration_ms_min is not None:
        conditions.append(runs.c.duration_ms >= where.duration_ms_min)
    if where.duration_ms_max is not None:
        conditions.append(runs.c.duration_ms <= where.duration_ms_max)
    return conditions


def _bounds(where: RunFilter, key: sa.ColumnElement[str]) -> list[Any]:
    """Return the time filters: a run's start is the time in its id, so they are bounds on the id."""
    conditions: list[Any] = []
    if where.started_since is not None:
        conditions.append(key >= run_id_floor(where.started_since))
    if where.started_until is not None:
        conditions.append(key < run_id_floor(where.started_until))
    if where.newer_than is not None:
        conditions.append(key > where.newer_than)
    return conditions


def _rarest(tags: Sequence[str]) -> sa.ScalarSelect[str]:
    """Return the one of several tags that the fewest runs have; of those that more than ``_TAGGED_MAX`` have the first."""
    ranked = []
    for place, tag in enumerate(tags):
        some = sa.select(run_tags.c.run_id).where(run_tags.c.tag == tag).limit(_TAGGED_MAX).subquery()
        number = sa.select(sa.func.count()).select_from(some).scalar_subquery()
        ranked.append(sa.select((number * len(tags) + place).label("rank")))
    least = sa.func.min(sa.union_all(*ranked).subquery().c.rank)
    return sa.select(sa.case(dict(enumerate(tags)), value=least % len(tags))).scalar_subquery()


def _tagged(groups: Iterable[Sequence[str]], key: sa.ColumnElement[str]) -> list[Any]:
    conditions: list[Any] = []
    for tags in groups:
        other = run_tags.alias()
        conditions.append(sa.exists().where(_among(other.c.tag, tags), other.c.run_id == key))
    return conditions
