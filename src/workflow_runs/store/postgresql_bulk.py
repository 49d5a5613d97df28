# ruff: noqa: S608  # nothing here comes from outside: the texts are made of constants of this package
"""A bulk as one PostgreSQL statement: rows travel as arrays in JSON documents, one document for each kind of row.

Measured against it with rows of 300 bytes in batches of 50 and 200: executemany and unnest cost 3 to 8 times the client's CPU, objects
instead of arrays 1.4 times; COPY costs the server a third less, but it neither checks a claim nor meets a row that is there.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import to_json

from ..model.entries import Claim, Entry, RunChanged, RunEnded, StartRun
from ..model.states import RunState
from . import statements as sql
from .entry_rows import Row, change_row, end_payload, end_row, rollup_place, run_row, started_audit_row, step_row
from .rollup import SHARDS, STATE_COLUMNS, TOOK_COLUMNS
from .writing import Bulk

_NUMBERS = frozenset(
    {
        "occurrence",
        "attempt",
        "sequence",
        "started_at",
        "ended_at",
        "duration_ms",
        "duration_class",
        "resume_from_occurrence",
        "execution_started_at",
        "completed_at",
        "updated_at",
        "claim_epoch",
        "at",
        "half_hour",
        "took",
    }
)


def _taken(names: Sequence[str], first: int) -> str:
    """Return the SELECT list that takes ``names`` out of a JSON array ``e``, beginning at an index."""
    return ", ".join(_typed(name, index) for index, name in enumerate(names, first))


def _typed(name: str, index: int) -> str:
    if name in _NUMBERS:
        return f"(e->>{index})::bigint AS {name}"
    if name == "has_gap":
        return f"(e->>{index})::boolean AS {name}"
    return f"e->>{index} AS {name}"


# Processes that write at once are different server processes, and mostly neighbours by number.
SHARD = f"(pg_backend_pid() %% {SHARDS})"
_AFTER_END = 5 + len(sql.END_COLUMNS)

# A row is an array that begins with the number of its claim, or null. Numbers are places in the list of claims, from 1.
_CLAIMS = (
    "claim AS MATERIALIZED (SELECT c.number, x.name, x.epoch FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS c (pair, number) "
    "JOIN workflow_run_executors AS x ON x.name = c.pair->>0 AND x.epoch = (c.pair->>1)::bigint FOR SHARE OF x)"
)
_IS_HELD = "(e->>0 IS NULL OR (e->>0)::bigint IN (SELECT number FROM claim))"

_SAVED_STEPS = (
    f"saved_step AS (INSERT INTO workflow_run_steps ({', '.join(sql.STEP_COLUMNS)}) "
    f"SELECT {_taken(sql.STEP_COLUMNS, 1)} FROM jsonb_array_elements(%s::jsonb) AS e WHERE {_IS_HELD} {sql.STEP_CONFLICT})"
)

# Steps alone, the most common bulk. Answers with the numbers of the claims that hold.
SAVE_STEPS = f"WITH {_CLAIMS}, {_SAVED_STEPS} SELECT 'claim', number::text, NULL FROM claim"

# Everything that a bulk can hold. Each run is in it once, so no part needs to see what another has written. Answers also with the ids of
# the runs that changed and that ended; what kept the others from it is found out afterwards.
_SAVED_BULK = (
    f"WITH {_CLAIMS}, {_SAVED_STEPS}, "
    # The input comes after the claim, then the columns of the run.
    f"new_run AS MATERIALIZED (SELECT e->>1 AS input, {_taken(sql.RUN_COLUMNS, 2)} "
    f"FROM jsonb_array_elements(%s::jsonb) AS e WHERE {_IS_HELD}), "
    f"saved_run AS (INSERT INTO workflow_runs ({', '.join(sql.RUN_COLUMNS)}) "
    f"SELECT {', '.join(sql.RUN_COLUMNS)} FROM new_run ON CONFLICT (id) DO NOTHING RETURNING id), "
    # What comes with a run is written with it, and not when the start is a repeated one.
    "saved_input AS (INSERT INTO workflow_run_payloads (run_id, input) "
    "SELECT id, input FROM new_run JOIN saved_run USING (id) WHERE input IS NOT NULL ON CONFLICT (run_id) DO NOTHING), "
    "saved_tag AS (INSERT INTO workflow_run_tags (tag, run_id) SELECT e->>0, e->>1 FROM jsonb_array_elements(%s::jsonb) AS e "
    "WHERE e->>1 IN (SELECT id FROM saved_run) ON CONFLICT (tag, run_id) DO NOTHING), "
    f"saved_audit AS (INSERT INTO workflow_run_audit ({', '.join(sql.AUDIT_COLUMNS)}) SELECT {_taken(sql.AUDIT_COLUMNS, 0)} "
    f"FROM jsonb_array_elements(%s::jsonb) AS e WHERE e->>{sql.AUDIT_COLUMNS.index('run_id')} IN (SELECT id FROM saved_run) "
    "ON CONFLICT (id) DO NOTHING), "
    # id, whether the claim is given back, the states that may come before, then what a change sets.
    "changed AS (UPDATE workflow_runs AS r SET state = e->>4, updated_at = (e->>5)::bigint, "
    "execution_started_at = coalesce(r.execution_started_at, (e->>6)::bigint), "
    "claim_owner = CASE WHEN (e->>2)::boolean THEN NULL ELSE r.claim_owner END, "
    "claim_epoch = CASE WHEN (e->>2)::boolean THEN NULL ELSE r.claim_epoch END "
    "FROM jsonb_array_elements(%s::jsonb) AS e LEFT JOIN claim AS c ON c.number = (e->>0)::bigint "
    "WHERE r.id = e->>1 AND r.completed_at IS NULL AND e->3 ? r.state "
    "AND (e->>0 IS NULL OR (r.claim_owner = c.name AND r.claim_epoch = c.epoch)) RETURNING r.id), "
    # id, result, error, the states that may come before, then the columns of an end.
    "new_end AS MATERIALIZED (SELECT e->>1 AS id, e->>2 AS result, e->>3 AS error, e->4 AS before, (e->>0)::bigint AS claim, "
    + ", ".join(
        _typed(name, index).replace(f" AS {name}", f" AS new_{name}") for index, name in enumerate(sql.END_COLUMNS, 5)
    )
    + f", {_typed('half_hour', _AFTER_END)}, {_typed('took', _AFTER_END + 1)}"
    + " FROM jsonb_array_elements(%s::jsonb) AS e), "
    f"ended AS (UPDATE workflow_runs AS r SET {', '.join(f'{name} = e.new_{name}' for name in sql.END_COLUMNS)} "
    "FROM new_end AS e LEFT JOIN claim AS c ON c.number = e.claim "
    "WHERE r.id = e.id AND r.completed_at IS NULL AND e.before ? r.state "
    "AND (e.claim IS NULL OR (r.claim_owner = c.name AND r.claim_epoch = c.epoch)) "
    "RETURNING r.id, r.workflow_name, r.state, e.half_hour, e.took), "
    "saved_end AS (INSERT INTO workflow_run_payloads (run_id, result, error) SELECT e.id, e.result, e.error "
    "FROM new_end AS e JOIN ended ON ended.id = e.id WHERE e.result IS NOT NULL OR e.error IS NOT NULL "
    "ON CONFLICT (run_id) DO UPDATE SET result = excluded.result, error = excluded.error)"
)
# It needs all of what has ended, and the answer asks for what has changed: their rows are locked before the first of the rollup is.
_COUNTED = (
    f', counted AS ({sql.INTO_ROLLUP} SELECT half_hour, workflow_name COLLATE "C", {SHARD}, '
    + ", ".join(f"count(*) FILTER (WHERE state = '{state}')" for state in STATE_COLUMNS)
    + "".join(f", count(*) FILTER (WHERE took = {number})" for number in range(len(TOOK_COLUMNS)))
    + f" FROM ended GROUP BY 1, 2 ORDER BY 1, 2 {sql.ROLLUP_CONFLICT})"
)
_TOLD = (
    " SELECT 'claim', number::text, NULL FROM claim UNION ALL SELECT 'changed', id, NULL FROM changed "
    "UNION ALL SELECT 'ended', id, workflow_name FROM ended"
)
SAVE_BULK = _SAVED_BULK + _TOLD
SAVE_BULK_AND_COUNT = _SAVED_BULK + _COUNTED + _TOLD

_BEFORE = {state: sorted(sql.states_before(state)) for state in RunState}


class Document:
    """The parameters of the statements above: lists of arrays."""

    def __init__(self) -> None:
        self.claims: dict[Claim, int] = {}
        self._steps: list[Row] = []
        self._starts: list[Row] = []
        self._tags: list[Row] = []
        self._audit: list[Row] = []
        self._changes: list[Row] = []
        self._ends: list[Row] = []

    def claim(self, claim: Claim | None) -> int | None:
        """Return the number of a claim."""
        return None if claim is None else self.claims.setdefault(claim, len(self.claims) + 1)

    def add_steps(self, bulk: Bulk) -> None:
        """Add the steps of a bulk."""
        self._steps += [(self.claim(step.claim), *step_row(step)) for step in bulk.steps]

    def add_runs(self, bulk: Bulk, entries: Sequence[Entry]) -> None:
        """Add what the bulk holds about runs."""
        for place in bulk.starts:
            self._start(entries[place])
        for place in bulk.changes:
            entry = entries[place]
            assert isinstance(entry, RunChanged)
            before = _BEFORE[entry.state]
            self._changes.append((self.claim(entry.claim), entry.run_id, entry.release, before, *change_row(entry)))
        for place in bulk.ends:
            entry = entries[place]
            assert isinstance(entry, RunEnded)
            before = _BEFORE[entry.state]
            whose = self.claim(entry.claim), entry.run_id
            self._ends.append((*whose, *end_payload(entry), before, *end_row(entry), *rollup_place(entry)))

    def _start(self, entry: Entry) -> None:
        assert isinstance(entry, StartRun)
        request, claim = entry.request, self.claim(entry.claim)
        self._starts.append((claim, request.input, *run_row(entry)))
        self._tags += [(tag, entry.run_id) for tag in dict.fromkeys(request.tags)]
        if request.action is not None:
            self._audit.append(started_audit_row(entry, request.action))

    def of_steps(self) -> list[str]:
        """Return the parameters of ``SAVE_STEPS``."""
        return [_json(list(self.claims)), _json(self._steps)]

    def all(self) -> list[str]:
        """Return the parameters of ``SAVE_BULK``."""
        lists = (list(self.claims), self._steps, self._starts, self._tags, self._audit, self._changes, self._ends)
        return [_json(rows) for rows in lists]


def _json(rows: Sequence[object]) -> str:
    return to_json(rows).decode()
