"""Have these runs changed? Asked every second while somebody looks at a page, so it has to be cheap, and to cost writers nothing.

Two questions by primary key, whatever the number of runs. Of steps no output is read (SQLite keeps long ones on pages of their own, which
are reached only through columns behind them: nothing here asks for one), and no step at all of a run that has ended.

Rejected: a table of changes, or a revision in the run's row, which would double what recording a step costs.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from ..clock import RUN_PREFIX
from ..model.entries import Claim
from ..model.marks import RunMark
from ..model.records import StepKey
from ..model.states import RunState, StepState
from .tables import runs, steps

# Each state stands above those that it may follow, so the sum over a run's attempts grows with every write.
RANKS = {
    StepState.RUNNING: 1,
    StepState.UNKNOWN: 2,
    StepState.SUCCEEDED: 3,
    StepState.FAILED: 3,
    StepState.CANCELLED: 3,
    StepState.SKIPPED: 3,
    StepState.COMPENSATION_FAILED: 4,
    StepState.COMPENSATED: 5,
}

_HEADS = sa.select(
    runs.c.id,
    runs.c.workflow_name,
    runs.c.state,
    runs.c.completed_at,
    runs.c.updated_at,
    runs.c.cancel_requested_at,
    runs.c.resumed_by_run_id,
    runs.c.claim_owner,
    runs.c.claim_epoch,
    runs.c.has_gap,
)
_RANK = sa.case({state.value: rank for state, rank in RANKS.items()}, value=steps.c.state, else_=1)
_IS_RUNNING = sa.case((steps.c.state == StepState.RUNNING.value, 1), else_=0)

# What sorts above every id of ours was put there from outside, and would be the newest for ever.
_ABOVE_ALL_IDS = f"{RUN_PREFIX}_8"
NEWEST_RUN = sa.select(runs.c.id).where(runs.c.id < _ABOVE_ALL_IDS).order_by(runs.c.id.desc()).limit(1)


def read_marks(connection: sa.Connection, ids: Collection[str]) -> dict[str, RunMark]:
    """Return the marks of those of the runs that exist."""
    heads = connection.execute(_HEADS.where(runs.c.id.in_(ids))).all()
    live = [row.id for row in heads if row.completed_at is None]
    progress = _progress(connection, live) if live else {}
    return {
        row.id: RunMark(
            row.workflow_name,
            _state(row.state),
            row.completed_at is None,
            row.updated_at,
            row.cancel_requested_at,
            row.resumed_by_run_id,
            None if row.claim_owner is None else Claim(row.claim_owner, row.claim_epoch),
            bool(row.has_gap),
            *progress.get(row.id, ()),
        )
        for row in heads
    }


def _progress(connection: sa.Connection, ids: Collection[str]) -> dict[str, tuple[int, int, int, StepKey]]:
    counted = (
        sa.select(
            steps.c.run_id,
            sa.func.sum(_RANK).label("progress"),
            sa.func.max(steps.c.sequence).label("newest"),
            sa.func.sum(_IS_RUNNING).label("running"),
        )
        .where(steps.c.run_id.in_(ids))
        .group_by(steps.c.run_id)
        .subquery()
    )
    is_newest = sa.and_(steps.c.run_id == counted.c.run_id, steps.c.sequence == counted.c.newest)
    chosen = sa.select(counted, steps.c.name, steps.c.key, steps.c.occurrence).join_from(counted, steps, is_newest)
    # A step that was tried again gives a row for each attempt, which say the same.
    return {
        run_id: (int(progress), newest, int(running), StepKey(*step))
        for run_id, progress, newest, running, *step in connection.execute(chosen)
    }


def _state(text: str) -> RunState | None:
    try:
        return RunState(text)
    except ValueError:
        return None
