"""Every kind of damage in every column of every table, each in rows of its own, all in one database at once.

Tables and columns are found by reflection, so one that is added is damaged from then on. What a database does not take (a text in a
number of PostgreSQL's, say) it refuses here as it would refuse anybody.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
import sqlalchemy as sa

from workflow_runs.clock import Clock, this_process
from workflow_runs.model.entries import Claim, RegisterExecutor, RunEnded, StartRun, StepEnded
from workflow_runs.model.records import ErrorRecord, StepKey
from workflow_runs.model.requests import Action, IdempotencyKey, RunRequest
from workflow_runs.model.states import EffectClass, Origin, RunState, StepKind, StepState
from workflow_runs.store.base import Store, StoreWriter
from workflow_runs.store.rollup import half_hour
from workflow_runs.store.tables import executors, metadata, rollup, runs, steps

VALUES: dict[str, Any] = {
    "NULL": None,
    "NaN": "NaN",
    "infinite": "[1e999]",
    "no json": "{",
    "empty": "",
    "other json": '[1, null, {"a": "b"}]',
    "half a pair": '"\\ud800"',
    "escaped NUL": '{"message": "\\u0000", "code": "\\u0000"}',
    "deep": "[" * 5_000,
    "huge": "x" * 20_000,
    "no word of ours": "paid",
    "hostile": "<script>alert(1)</script>\u202e\r\n../",
    "minus one": -1,
    "largest": 2**63 - 1,
    "large": 2**31 - 1,
    "smallest": -(2**63),
    "beyond the calendar": 2**53,
}
# SQLite keeps these too, whatever the column's type.
SQLITE_VALUES: dict[str, Any] = {
    "bytes": b"\xff\x00\xfe",
    "text of bytes": b"\xff\xfe{",  # cast to text on its way
    "real": 1.5,
    "infinity": float("inf"),
    "NUL": "a\x00b",
}
# No column takes these for what it should hold; all others may be plausible somewhere.
NEVER_TEXT = ("bytes", "text of bytes")


@dataclass(frozen=True, slots=True)
class Victim:
    """One damaged value, and the run that it belongs to; no run for a row of the rollup."""

    table: str
    column: str
    kind: str
    run_id: str | None
    is_live: bool

    def __str__(self) -> str:
        return f"{self.table}.{self.column} = {self.kind}"

    @property
    def has_id(self) -> bool:
        """Whether its run is still found under its id."""
        return self.run_id is not None and (self.table, self.column) != ("workflow_runs", "id")


@dataclass(slots=True)
class Outsider:
    """Somebody with a database client, who writes past the store."""

    url: str
    connection: Any = field(init=False)

    def __post_init__(self) -> None:
        if self.is_sqlite:
            self.connection = sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)
            self.connection.execute("PRAGMA ignore_check_constraints = ON")
            self.connection.execute("PRAGMA synchronous = OFF")
        else:
            self.connection = psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True)

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    @property
    def values(self) -> dict[str, Any]:
        return {**VALUES, **(SQLITE_VALUES if self.is_sqlite else {})}

    def sql(self, statement: str, *parameters: Any) -> Any:
        return self.connection.execute(statement if self.is_sqlite else statement.replace("?", "%s"), parameters)

    def damage(self, table: sa.Table, column: str, kind: str, where: Sequence[tuple[str, Any]]) -> bool:
        """Put a value where it does not belong; False if the database refuses it."""
        if not self.is_sqlite and not _is_of(table.c[column], self.values[kind]):
            return False  # as it would itself
        value = "CAST(? AS TEXT)" if kind == "text of bytes" else "?"
        conditions = " AND ".join(f"{name} = ?" for name, _ in where)
        statement = f'UPDATE {table.name} SET "{column}" = {value} WHERE {conditions}'
        try:
            done = self.sql(statement, self.values[kind], *(wanted for _, wanted in where))
        except (sqlite3.IntegrityError, psycopg.Error):
            return False
        assert done.rowcount == 1, f"{table.name}.{column} has no row to damage"
        return True


@dataclass(slots=True)
class Damage:
    """Makes victims and damages them."""

    store: Store
    outsider: Outsider
    clock: Clock = field(default_factory=Clock)
    _entries: list[Any] = field(default_factory=list)
    _places: list[tuple[Victim, sa.Table, list[tuple[str, Any]]]] = field(default_factory=list)

    def do(self) -> list[Victim]:
        """Damage everything in every way; return what the database took."""
        writer = self.store.open_writer()
        (dead,) = writer.apply([RegisterExecutor("long gone", 0.001, "another machine", 1, "1")])
        for table, column in _columns():
            if table is executors:
                self._of_executors(writer, column)
                continue
            for number, kind in enumerate(self.outsider.values):
                if table is rollup:
                    self._of_rollup(column, kind)
                else:
                    self._of_run(table, column, kind)
                if table is runs:  # live ones too: of nobody, and of a dead process
                    claim = dead if number % 2 else None
                    self._of_run(table, column, kind, RunState.RUNNING if claim else RunState.QUEUED, claim)
        for begin in range(0, len(self._entries), 500):
            outcomes = writer.apply(self._entries[begin : begin + 500])
            assert not any(isinstance(outcome, Exception) for outcome in outcomes)
        writer.close()
        if self.outsider.is_sqlite:
            self.outsider.sql("BEGIN IMMEDIATE")
        taken = [
            victim
            for victim, table, where in self._places
            if self.outsider.damage(table, victim.column, victim.kind, where)
        ]
        if self.outsider.is_sqlite:
            self.outsider.sql("COMMIT")
        return taken

    def _of_run(
        self, table: sa.Table, column: str, kind: str, live: RunState | None = None, claim: Claim | None = None
    ) -> None:
        run_id = self.clock.new_run_id()
        self._entries += run_entries(self.clock, run_id, live, claim)
        where = [("id" if table is runs else "run_id", run_id)]
        if table is steps:
            where.append(("name", "reserve"))
        if table.name == "workflow_run_tags":
            where.append(("tag", run_id))
        self._places.append((Victim(table.name, column, kind, run_id, live is not None), table, where))

    def _of_executors(self, writer: StoreWriter, column: str) -> None:
        kinds = list(self.outsider.values)
        names = [f"{column} {kind}" for kind in kinds]
        claims = writer.apply([RegisterExecutor(name, 0.001, this_process().scope, 2**30, "1") for name in names])
        for kind, claim in zip(kinds, claims, strict=True):
            assert isinstance(claim, Claim)
            run_id = self.clock.new_run_id()
            self._entries += run_entries(self.clock, run_id, RunState.RUNNING, claim)
            victim = Victim(executors.name, column, kind, run_id, is_live=True)
            self._places.append((victim, executors, [("name", claim.owner)]))

    def _of_rollup(self, column: str, kind: str) -> None:
        shard = 100 + len(self._places)
        key = (half_hour(self.clock.now_millis()), f"rolled {column}", shard)
        counts = [1] * (len(rollup.columns) - len(key))
        self.outsider.sql(f"INSERT INTO {rollup.name} VALUES ({', '.join('?' * len(rollup.columns))})", *key, *counts)
        self._places.append((Victim(rollup.name, column, kind, None, is_live=False), rollup, [("shard", shard)]))


def run_entries(clock: Clock, run_id: str, live: RunState | None = None, claim: Claim | None = None) -> list[Any]:
    """Return the entries of a run that has reserved and failed to charge, with a row in each table that knows runs; or of a live one."""
    now = clock.now_millis()
    key = IdempotencyKey("trigger:shop", run_id, "hash")
    action = Action("trigger", "ada", "because", "plan", "request", run_id, idempotency=key)
    request = RunRequest(
        "shop",
        "shop" if live is None else "left behind",
        input='{"n":1}',
        correlation_id="c",
        tags=("t", run_id),
        triggered_by_user_id="u",
        idempotency_key="k",
        resume_from=StepKey("charge", "", 1),
        code_version="v1",
        action=action,
    )
    error = ErrorRecord("down", code="E", step_name="charge", stack="stack", fingerprint="f")
    start = StartRun(run_id, request, live or RunState.RUNNING, claim=claim, audit_id=clock.new_audit_id())

    def step(name: str, sequence: int, state: StepState, output: str | None, error: ErrorRecord | None) -> StepEnded:
        what = (StepKind.STEP, EffectClass.IDEMPOTENT, "digest", now, state, Origin.EXECUTED, output, error, now + 5, 5)
        return StepEnded(run_id, None, StepKey(name, "", 1), 1, sequence, *what)

    reserved = step("reserve", 1, StepState.SUCCEEDED, '{"room":1}', None)
    charged = step("charge", 2, StepState.FAILED, None, error)
    if live is not None:
        return [start, reserved]
    return [start, reserved, charged, RunEnded(run_id, RunState.FAILED, now + 10, error=error)]


def _is_of(column: sa.Column[Any], value: Any) -> bool:
    return value is None or isinstance(value, column.type.python_type)


def _columns() -> Iterator[tuple[sa.Table, str]]:
    for table in metadata.sorted_tables:
        for column in table.columns:
            yield table, column.name
