"""The rollup, and in it the runs that have ended so far.

Processes of the version before do not count what they end: stop them first, or the figures lack those runs.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HALF_HOUR_MS = 1_800_000
STATES = ("succeeded", "failed", "compensated", "compensation_failed", "lost", "cancelled")
CLASSES_MS = (1, *(round(4 * 2 ** (number * 2 / 3)) for number in range(39)))
TOOK = tuple(f"took_{number:02}" for number in range(len(CLASSES_MS) + 1))


def upgrade() -> None:
    op.create_table(
        "workflow_run_rollup",
        sa.Column("half_hour", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("workflow_name", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True),
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in (*STATES, *TOOK)),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": "50"},
    )
    _count_ended()


def _count_ended() -> None:
    """Count by one pass over the runs. The start is what the duration leaves of the end: the time in the id is not for SQL to read."""
    names = ("workflow_name", "state", "completed_at", "duration_ms")
    runs = sa.table("workflow_runs", *map(sa.column, names))
    took = sa.case(
        *((runs.c.duration_ms < bound, number) for number, bound in enumerate(CLASSES_MS)), else_=len(CLASSES_MS)
    )
    half_hour = (runs.c.completed_at - runs.c.duration_ms) // sa.literal_column(str(HALF_HOUR_MS), sa.BigInteger)
    ended = (
        sa.select(
            half_hour.label("half_hour"),
            runs.c.workflow_name,
            runs.c.state,
            took.label("took"),
            sa.func.count().label("number"),
        )
        .where(runs.c.completed_at.is_not(None), runs.c.duration_ms.is_not(None))
        .group_by(sa.text("1, 2, 3, 4"))
        .subquery()
    )
    succeeded = ended.c.state == "succeeded"
    counted = (
        *(ended.c.state == state for state in STATES),
        *(sa.and_(succeeded, ended.c.took == number) for number in range(len(TOOK))),
    )
    sums = [sa.func.sum(sa.case((that, ended.c.number), else_=0)) for that in counted]
    columns = ("half_hour", "workflow_name", "shard", *STATES, *TOOK)
    counts = sa.select(ended.c.half_hour, ended.c.workflow_name, sa.literal_column("0"), *sums).group_by(
        ended.c.half_hour, ended.c.workflow_name
    )
    op.execute(sa.insert(sa.table("workflow_run_rollup", *map(sa.column, columns))).from_select(columns, counts))
