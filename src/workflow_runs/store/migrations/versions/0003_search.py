"""Indexes for what the search of the pages asks: which step failed, what was rerun or resumed, what has a resume.

Partial all three: a run that succeeds, and was not made from another, has an entry in none.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_index("ix_workflow_runs_error_step", "error_step", "id", where="error_step IS NOT NULL")
    _create_index("ix_workflow_runs_derived", "id", where="parent_run_id IS NOT NULL")
    _create_index("ix_workflow_runs_resumed", "id", where="resumed_by_run_id IS NOT NULL")


def _create_index(name: str, *columns: str, where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, "workflow_runs", list(columns), sqlite_where=condition, postgresql_where=condition)
