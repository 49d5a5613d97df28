"""The first schema: runs, payloads, steps, tags, audit, actions, executors.

Written out and not taken from ``tables``: a revision says what it did on the day it was made, whatever the tables become.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_runs()
    _create_what_belongs_to_runs()
    _create_audit_and_executors()
    _create_indexes()


def _id() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _create_runs() -> None:
    op.create_table(
        "workflow_runs",
        sa.Column("id", _id(), primary_key=True),
        sa.Column("workflow_name", sa.Text, nullable=False),
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("trigger", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("has_gap", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("error_message", sa.Text),
        sa.Column("error_code", sa.Text),
        sa.Column("error_step", sa.Text),
        sa.Column("fingerprint", sa.Text),
        sa.Column("parent_run_id", _id()),
        sa.Column("root_run_id", _id()),
        sa.Column("chain_run_id", _id()),
        sa.Column("resumed_by_run_id", _id()),
        sa.Column("resume_from_step", sa.Text),
        sa.Column("resume_from_key", sa.Text),
        sa.Column("resume_from_occurrence", sa.Integer),
        sa.Column("triggered_by_user_id", sa.Text),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("code_version", sa.Text),
        sa.Column("execution_started_at", sa.BigInteger),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("duration_class", sa.Integer),
        sa.Column("cancel_requested_at", sa.BigInteger),
        sa.Column("cancel_reason", sa.Text),
        sa.Column("claim_owner", sa.Text),
        sa.Column("claim_epoch", sa.BigInteger),
        sa.CheckConstraint(
            "(state IN ('compensating', 'paused', 'queued', 'retrying', 'running', 'unknown', 'waiting')) = (completed_at IS NULL)",
            name="ck_workflow_runs_completion",
        ),
    )


def _create_what_belongs_to_runs() -> None:
    op.create_table(
        "workflow_run_payloads",
        sa.Column("run_id", _id(), primary_key=True),
        sa.Column("input", sa.Text),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "workflow_run_steps",
        sa.Column("run_id", _id(), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("occurrence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("effect", sa.Text, nullable=False),
        sa.Column("input_digest", sa.Text),
        sa.Column("output", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("duration_ms", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "workflow_run_tags",
        sa.Column("tag", sa.Text, primary_key=True),
        sa.Column("run_id", _id(), primary_key=True),
        sqlite_with_rowid=False,
    )


def _create_audit_and_executors() -> None:
    op.create_table(
        "workflow_run_audit",
        sa.Column("id", _id(), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("workflow_name", sa.Text, nullable=False),
        sa.Column("run_id", _id(), nullable=False),
        sa.Column("target_run_id", _id()),
        sa.Column("reason", sa.Text),
        sa.Column("plan_hash", sa.Text),
        sa.Column("request_id", sa.Text),
    )
    op.create_table(
        "workflow_run_actions",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("run_id", _id(), nullable=False),
        sa.Column("request_hash", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "workflow_run_executors",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("lease_ms", sa.BigInteger, nullable=False),
        sa.Column("heartbeat_ms", sa.BigInteger),
        sa.Column("boot_id", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("pid_started", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )


def _create_indexes() -> None:
    runs = "workflow_runs"
    _create_index("ix_workflow_runs_name", runs, "workflow_name", "id")
    _create_index("ix_workflow_runs_trigger", runs, "trigger", "id")
    _create_index("ix_workflow_runs_state", runs, "state", "id", where="state <> 'succeeded'")
    _create_index("ix_workflow_runs_name_state", runs, "workflow_name", "state", "id", where="state <> 'succeeded'")
    _create_index("ix_workflow_runs_duration", runs, "duration_class", "id", where="duration_class IS NOT NULL")
    _create_index("ix_workflow_runs_correlation", runs, "correlation_id", "id", where="correlation_id IS NOT NULL")
    _create_index("ix_workflow_runs_user", runs, "triggered_by_user_id", "id", where="triggered_by_user_id IS NOT NULL")
    _create_index("ix_workflow_runs_fingerprint", runs, "fingerprint", "id", where="fingerprint IS NOT NULL")
    _create_index("ix_workflow_runs_parent", runs, "parent_run_id", "id", where="parent_run_id IS NOT NULL")
    _create_index("ix_workflow_runs_root", runs, "root_run_id", "id", where="root_run_id IS NOT NULL")
    _create_index("ix_workflow_runs_chain", runs, "chain_run_id", "id", where="chain_run_id IS NOT NULL")
    _create_index(
        "ix_workflow_runs_unclaimed",
        runs,
        "definition",
        "id",
        where="completed_at IS NULL AND claim_owner IS NULL AND mode = 'journal'",
    )
    _create_index(
        "ix_workflow_runs_claimed",
        runs,
        "claim_owner",
        "claim_epoch",
        "id",
        where="completed_at IS NULL AND claim_owner IS NOT NULL",
    )
    _create_index("ix_workflow_run_audit_run", "workflow_run_audit", "run_id", "id")
    _create_index(
        "ix_workflow_run_audit_target", "workflow_run_audit", "target_run_id", "id", where="target_run_id IS NOT NULL"
    )
    _create_index(
        "ix_workflow_run_executors_scope", "workflow_run_executors", "scope", where="heartbeat_ms IS NOT NULL"
    )


def _create_index(name: str, table: str, *columns: str, where: str | None = None) -> None:
    condition = sa.text(where) if where else None
    op.create_index(name, table, list(columns), sqlite_where=condition, postgresql_where=condition)
