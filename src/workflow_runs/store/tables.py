"""The tables, once, for SQLite and PostgreSQL: what reading, the migrations and the tests of both go by.

* Times are milliseconds since 1970 (UTC) in ``*_at`` columns of 64 bits; a run's start is the time inside its id.
* Payloads are JSON *text* on both databases: they are shown as they were recorded, and one strange value cannot fail its batch.
* A run has no column for the original's four statuses: each state has exactly one, so they are sets of states (``model.states``).
* ``root_run_id`` and ``chain_run_id`` are NULL where the run is its own first: most runs are, and then cost no index entry.
* There are no foreign keys. All rows come from one writer that inserts the run first, and the look-up would be paid for each step.
* Every list is ordered by id, so every index that serves one ends in the id.

Why these indexes and no others, with their cost: DESIGN.md, section "Reads".
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Index, Integer, MetaData, Table, Text, text

from ..model.states import RunState, is_finished
from .rollup import COUNT_COLUMNS
from .schema import CLAIMED, DERIVED, NOT_SUCCEEDED, RESUMED, UNCLAIMED

metadata = MetaData()

# Ids are compared and ordered by their bytes; the rules of a language would neither be right nor as fast.
_Id = Text().with_variant(Text(collation="C"), "postgresql")

_live = ", ".join(sorted(f"'{state.value}'" for state in RunState if not is_finished(state)))

runs = Table(
    "workflow_runs",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("workflow_name", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("correlation_id", Text),
    Column("tags", Text, nullable=False),  # JSON array as given: order and repetitions kept; finding goes by run_tags
    Column("state", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("has_gap", Boolean(create_constraint=False), nullable=False),
    Column("error_message", Text),
    Column("error_code", Text),
    Column("error_step", Text),
    Column("fingerprint", Text),
    Column("parent_run_id", _Id),
    Column("root_run_id", _Id),
    Column("chain_run_id", _Id),
    Column("resumed_by_run_id", _Id),
    Column("resume_from_step", Text),
    Column("resume_from_key", Text),
    Column("resume_from_occurrence", Integer),
    Column("triggered_by_user_id", Text),
    Column("idempotency_key", Text),
    Column("code_version", Text),
    Column("execution_started_at", BigInteger),
    Column("completed_at", BigInteger),
    Column("updated_at", BigInteger, nullable=False),
    Column("duration_ms", BigInteger),
    Column("duration_class", Integer),
    Column("cancel_requested_at", BigInteger),
    Column("cancel_reason", Text),
    Column("claim_owner", Text),
    Column("claim_epoch", BigInteger),
    CheckConstraint(f"(state IN ({_live})) = (completed_at IS NULL)", name="ck_workflow_runs_completion"),
)

payloads = Table(
    "workflow_run_payloads",
    metadata,
    Column("run_id", _Id, primary_key=True),
    Column("input", Text),
    Column("result", Text),
    Column("error", Text),
    sqlite_with_rowid=False,
)

# A row is one attempt. A short step's row is written once, start and end together.
steps = Table(
    "workflow_run_steps",
    metadata,
    Column("run_id", _Id, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("occurrence", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("sequence", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("effect", Text, nullable=False),
    Column("input_digest", Text),
    Column("output", Text),
    Column("error", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("duration_ms", BigInteger),
    sqlite_with_rowid=False,
)

run_tags = Table(
    "workflow_run_tags",
    metadata,
    Column("tag", Text, primary_key=True),
    Column("run_id", _Id, primary_key=True),
    sqlite_with_rowid=False,
)

audit = Table(
    "workflow_run_audit",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text),
    Column("action", Text, nullable=False),
    Column("workflow_name", Text, nullable=False),
    Column("run_id", _Id, nullable=False),
    Column("target_run_id", _Id),
    Column("reason", Text),
    Column("plan_hash", Text),
    Column("request_id", Text),
)

actions = Table(
    "workflow_run_actions",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("run_id", _Id, nullable=False),
    Column("request_hash", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# How many runs of a workflow that started in a half hour ended how, after how long: see ``rollup``.
rollup = Table(
    "workflow_run_rollup",
    metadata,
    Column("half_hour", BigInteger, primary_key=True, autoincrement=False),  # since 1970, UTC
    Column("workflow_name", _Id, primary_key=True),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    *(Column(name, Integer, nullable=False) for name in COUNT_COLUMNS),
    sqlite_with_rowid=False,
    # The rows of this half hour are changed with every commit: with room on their page, that touches no index.
    postgresql_with={"fillfactor": "50"},
)

# A process that executes runs. ``heartbeat_ms`` NULL: fenced, nobody holds the epoch. ``boot_id`` is empty where the database has a
# clock of its own.
executors = Table(
    "workflow_run_executors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("lease_ms", BigInteger, nullable=False),
    Column("heartbeat_ms", BigInteger),
    Column("boot_id", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("pid_started", Text, nullable=False),
    sqlite_with_rowid=False,
)


def _index(name: str, *columns: Column[Any], where: str | None = None) -> None:
    condition = text(where) if where else None
    Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


_index("ix_workflow_runs_name", runs.c.workflow_name, runs.c.id)
_index("ix_workflow_runs_trigger", runs.c.trigger, runs.c.id)
_index("ix_workflow_runs_state", runs.c.state, runs.c.id, where=NOT_SUCCEEDED)
_index("ix_workflow_runs_name_state", runs.c.workflow_name, runs.c.state, runs.c.id, where=NOT_SUCCEEDED)
_index("ix_workflow_runs_duration", runs.c.duration_class, runs.c.id, where="duration_class IS NOT NULL")
_index("ix_workflow_runs_correlation", runs.c.correlation_id, runs.c.id, where="correlation_id IS NOT NULL")
_index("ix_workflow_runs_user", runs.c.triggered_by_user_id, runs.c.id, where="triggered_by_user_id IS NOT NULL")
_index("ix_workflow_runs_fingerprint", runs.c.fingerprint, runs.c.id, where="fingerprint IS NOT NULL")
_index("ix_workflow_runs_parent", runs.c.parent_run_id, runs.c.id, where="parent_run_id IS NOT NULL")
_index("ix_workflow_runs_root", runs.c.root_run_id, runs.c.id, where="root_run_id IS NOT NULL")
_index("ix_workflow_runs_chain", runs.c.chain_run_id, runs.c.id, where="chain_run_id IS NOT NULL")
_index("ix_workflow_runs_error_step", runs.c.error_step, runs.c.id, where="error_step IS NOT NULL")
_index("ix_workflow_runs_derived", runs.c.id, where=DERIVED)
_index("ix_workflow_runs_resumed", runs.c.id, where=RESUMED)
_index("ix_workflow_runs_unclaimed", runs.c.definition, runs.c.id, where=UNCLAIMED)
_index("ix_workflow_runs_claimed", runs.c.claim_owner, runs.c.claim_epoch, runs.c.id, where=CLAIMED)
_index("ix_workflow_run_audit_run", audit.c.run_id, audit.c.id)
_index("ix_workflow_run_audit_target", audit.c.target_run_id, audit.c.id, where="target_run_id IS NOT NULL")
_index("ix_workflow_run_executors_scope", executors.c.scope, where="heartbeat_ms IS NOT NULL")
