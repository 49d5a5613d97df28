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
from ..model.records import Page, RunFilter
from ..model.states import RUN_STATUS, RunState
from .schema import DURATION_CLASSES_MS, NOT_SUCCEEDED, duration_class
from .tables import run_tags, runs

TOTAL_MAX = 10_000

_ALL = frozenset(RunState)
# States that few runs are in at a time: they lead before tags; those that many runs end in come after.
_FEW = _ALL - {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}
# Triggers that most runs have: a name finds fewer.
_USUAL_TRIGGERS = frozenset({"api", "manual"})
_SLOW_MS = 10_000  # runs that take longer are few
BRANCHES_MAX = 64  # queries that are merged; a filter by more names does without their index

_NOT_SUCCEEDED = sa.text(NOT_SUCCEEDED)


class Branch:
    """One query for ids: where they come from, and what must hold. The branches of a filter find different runs."""

    def __init__(self, key: sa.ColumnElement[str], conditions: Sequence[Any]) -> None:
        self.key = key
        self.conditions = conditions

    def select(self, after: str | None = None) -> sa.Select[str]:
        """Return the query; ``after`` leaves out the runs up to that id."""
        chosen = sa.select(self.key.label("id")).where(*self.conditions)
        return chosen if after is None else chosen.where(self.key < after)

    def select_first(self, count: int, after: str | None) -> sa.Select[str]:
        """Return the query for the newest only."""
        return sa.select(self.select(after).order_by(self.key.desc()).limit(count).subquery().c.id)


class Finder:
    """Makes the queries for one kind of database.

    Args:
        has_statistics: Whether its planner knows how common a value is.
    """

    def __init__(self, *, has_statistics: bool) -> None:
        self._has_statistics = has_statistics

    def page(self, branches: Sequence[Branch], page: Page) -> sa.Executable:
        """Return the query for the ids of a page and, if there is one, of the run after it."""
        count = page.limit + 1
        if len(branches) == 1:
            ids: sa.Select[Any] | sa.CompoundSelect[Any] = branches[0].select(page.after)
        elif self._has_statistics:
            ids = sa.union_all(*(branch.select_first(page.offset + count, page.after) for branch in branches))
        else:
            ids = sa.union_all(*(branch.select(page.after) for branch in branches))
        chosen = ids.order_by(sa.desc("id")).limit(count)
        return chosen.offset(page.offset) if page.offset else chosen

    def count(self, branches: Sequence[Branch]) -> sa.Select[int]:
        """Return the query for the number of runs, which stops counting one above ``TOTAL_MAX``."""
        parts = [branch.select() for branch in branches]
        ids = sa.union_all(*parts) if len(parts) > 1 else parts[0]
        return sa.select(sa.func.count()).select_from(ids.limit(TOTAL_MAX + 1).subquery())

    def branches(self, where: RunFilter) -> list[Branch]:
        """Return the queries whose ids, merged, are the runs of the filter; none when it cannot match.

        The index that leads is chosen by how few runs it is expected to give, whatever the size of the database.
        """
        states = _states(where)
        if states is not None and not states:
            return []
        lead = _lead(where, states)
        if lead == "tags":
            return [self._of_tags(where, states)]
        aside = [*_bounds(where, runs.c.id), *self._asides(where, states, lead), *_tagged(where.tags, runs.c.id)]
        return [Branch(runs.c.id, (*leading, *aside)) for leading in self._leading(where, states, lead)]

    def _leading(self, where: RunFilter, states: frozenset[RunState] | None, lead: str) -> list[list[Any]]:
        """Return the conditions of each branch that its index is looked up by."""
        if lead == "states":
            assert states is not None
            return self._of_states(where, states)
        if lead == "names":
            return [[runs.c.workflow_name == name] for name in dict.fromkeys(where.workflow_names)]
        if lead == "duration":
            return _of_duration(where)
        if lead == "root_run_id":
            first = where.root_run_id
            return [[runs.c.root_run_id == first], [runs.c.id == first, runs.c.root_run_id.is_(None)]]
        if lead == "id":
            return [[]]
        return [[runs.c[lead] == getattr(where, lead)]]

    def _of_states(self, where: RunFilter, states: frozenset[RunState]) -> list[list[Any]]:
        ordered = sorted(states)
        names = tuple(dict.fromkeys(where.workflow_names))
        if not names:
            return [[runs.c.state == state.value, _NOT_SUCCEEDED] for state in ordered]
        if len(names) * len(ordered) > BRANCHES_MAX:
            hidden = self._hidden(runs.c.workflow_name).in_(names)
            return [[runs.c.state == state.value, _NOT_SUCCEEDED, hidden] for state in ordered]
        return [
            [runs.c.workflow_name == name, runs.c.state == state.value, _NOT_SUCCEEDED]
            for name, state in product(names, ordered)
        ]

    def _of_tags(self, where: RunFilter, states: frozenset[RunState] | None) -> Branch:
        """Return the query that the first tag leads; runs are looked at only if something else is asked of them."""
        first, *others = dict.fromkeys(where.tags)
        key = run_tags.c.run_id
        conditions: list[Any] = [run_tags.c.tag == first, *_bounds(where, key), *_tagged(others, key)]
        asides = self._asides(where, states, "tags")
        if asides:
            conditions += [runs.c.id == key, *asides]
        return Branch(key, conditions)

    def _asides(self, where: RunFilter, states: frozenset[RunState] | None, lead: str) -> list[Any]:
        """Return the conditions that are tested on what the leading one finds."""
        conditions: list[Any] = []
        for name in ("correlation_id", "parent_run_id", "fingerprint", "triggered_by_user_id", "trigger"):
            value = getattr(where, name)
            if value is not None and name != lead:
                conditions.append(self._hidden(runs.c[name]) == value)
        if where.root_run_id is not None and lead != "root_run_id":
            conditions.append(sa.func.coalesce(runs.c.root_run_id, runs.c.id) == where.root_run_id)
        if states is not None and lead != "states":
            conditions.append(self._hidden(runs.c.state).in_(sorted(state.value for state in states)))
        if where.workflow_names and lead not in {"names", "states"}:
            conditions.append(self._hidden(runs.c.workflow_name).in_(where.workflow_names))
        if lead != "duration":
            conditions += _durations(where)
        return conditions

    def _hidden(self, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
        """Return the column; in a form that no index has, where the planner might look it up instead of what leads."""
        return column if self._has_statistics else column.concat("")


def _states(where: RunFilter) -> frozenset[RunState] | None:
    """Return the states that the filter lets through, or None for all."""
    states = _ALL
    if where.statuses:
        states = frozenset(state for state in states if RUN_STATUS[state] in where.statuses)
    if where.states:
        states &= frozenset(where.states)
    return None if states == _ALL else states


def _lead(where: RunFilter, states: frozenset[RunState] | None) -> str:
    """Return which condition leads: the first of those that are given, from the rarest to the most common."""
    given = {
        "correlation_id": where.correlation_id is not None,
        "parent_run_id": where.parent_run_id is not None,
        "root_run_id": where.root_run_id is not None,
        "fingerprint": where.fingerprint is not None,
        "states": states is not None and states <= _FEW,
        "tags": bool(where.tags),
        "state": states is not None and RunState.SUCCEEDED not in states,
        "triggered_by_user_id": where.triggered_by_user_id is not None,
        "slow": (where.duration_ms_min or 0) >= _SLOW_MS,
        "trigger": where.trigger is not None and where.trigger not in _USUAL_TRIGGERS,
        "names": 0 < len(where.workflow_names) <= BRANCHES_MAX,
        "usual": where.trigger is not None,
        "duration": where.duration_ms_min is not None or where.duration_ms_max is not None,
    }
    lead = next((name for name, is_given in given.items() if is_given), "id")
    return {"state": "states", "slow": "duration", "usual": "trigger"}.get(lead, lead)


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
    return conditions


def _tagged(tags: Iterable[str], key: sa.ColumnElement[str]) -> list[Any]:
    conditions: list[Any] = []
    for tag in dict.fromkeys(tags):
        other = run_tags.alias()
        conditions.append(sa.exists().where(other.c.tag == tag, other.c.run_id == key))
    return conditions
