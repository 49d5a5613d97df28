"""What is asked of the record, in SQLAlchemy Core, on connections that cannot write.

**The list.** Newest first is by id, downwards. A page is found in two questions: which ids (from an index alone wherever one covers
the filter), then the rows of those ids, with or without their payloads. So a page costs the same however many runs there are, an
offset walks index entries instead of rows, and no payload is read that is not shown.

The total is counted from the same queries, and no further than to 10,000.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from ..errors import StoreUnavailable
from ..model.figures import Histogram, Totals, WorkflowFigures
from ..model.marks import RunMark
from ..model.records import Audit, IdempotentAction, Page, Run, RunFilter, RunList, Step, StepKey
from ..model.states import Origin
from . import rows
from .database import Kind
from .faults import Fault, unavailable
from .figures import Figures, no_histogram
from .finding import AFTER, TOTAL_MAX, Finder
from .marks import NEWEST_RUN, read_marks
from .statements import UNDONE_STATES
from .tables import actions, audit, payloads, runs, steps

T = TypeVar("T")

AUDIT_MAX = 1_000  # audit rows of one run that are read: nobody acts on one run a thousand times
STATEMENTS_MAX = (
    128  # of lists that are kept: the next page, or the same one a moment later, need not be put together again
)
_POOL_WAIT_S = 5.0

# Statements that are asked again and again are whole, with their parameters by name: one that is put together at each question costs
# twice as much, since SQLAlchemy looks all of it through to find what it compiled.
_RUN = sa.select(*(runs.c[name] for name in rows.RUN_FIELDS))
_RUN_AND_PAYLOADS = _RUN.add_columns(*(payloads.c[name] for name in rows.PAYLOAD_FIELDS)).join_from(
    runs, payloads, payloads.c.run_id == runs.c.id, isouter=True
)
_OF_THESE = runs.c.id.in_(sa.bindparam("run_ids", expanding=True))
_RUNS = _RUN.where(_OF_THESE)
_RUNS_AND_PAYLOADS = _RUN_AND_PAYLOADS.where(_OF_THESE)
_AUDIT = sa.select(*(audit.c[name] for name in rows.AUDIT_FIELDS))
_STEPS = sa.select(*(steps.c[name] for name in rows.STEP_FIELDS)).where(steps.c.run_id == sa.bindparam("run_id"))
_STEPS_WITHOUT_OUTPUTS = sa.select(*(steps.c[name] for name in rows.STEP_FIELDS[:-1])).where(
    steps.c.run_id == sa.bindparam("run_id")
)
_UNDONE = (
    sa.select(steps.c.name, steps.c.key, steps.c.occurrence, steps.c.run_id)
    .join_from(runs, steps, steps.c.run_id == runs.c.id)
    .where(steps.c.origin == Origin.SEEDED.value, steps.c.state.in_(UNDONE_STATES))
    .order_by(steps.c.run_id)
)


class DatabaseReader:
    """See ``base.Questions``."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._finder = Finder(has_statistics=kind.has_statistics)
        self._figures = Figures(self._finder)
        self._list_statements = lru_cache(STATEMENTS_MAX)(self._make_list_statements)
        self.engine = sa.create_engine(
            f"{kind.dialect}://",
            creator=kind.connect_to_read,
            poolclass=QueuePool,
            pool_size=kind.readers_max,
            max_overflow=0,
            pool_timeout=_POOL_WAIT_S,
            pool_reset_on_return=None,  # readers have no transactions
            **kind.engine_options,
        )

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    # --- runs ---------------------------------------------------------------------------------------------------------

    def list_runs(self, where: RunFilter, page: Page, *, payloads: bool, total: bool = True) -> RunList:
        """See ``base.Questions``."""
        statements = self._list_statements(where, page.limit, page.offset, goes_on=page.after is not None)
        if statements is None or not _can_be_stored((*_texts(where), page.after or "")):
            return RunList((), 0 if total else -1, total_capped=False, next_after=None)
        finding, counting = statements

        def question(connection: sa.Connection) -> RunList:
            after = None if page.after is None else {AFTER.key: page.after}
            ids = connection.execute(finding, after).scalars().all()
            shown = ids[: page.limit]
            found = self._runs(connection, shown, payloads=payloads)
            counted = connection.execute(counting).scalar_one() if total else -1
            return RunList(
                runs=found,
                total=min(counted, TOTAL_MAX),
                total_capped=counted > TOTAL_MAX,
                next_after=shown[-1] if len(ids) > len(shown) else None,
            )

        return self._ask(question)

    def _make_list_statements(
        self, where: RunFilter, limit: int, offset: int, *, goes_on: bool
    ) -> tuple[sa.Select[Any] | sa.CompoundSelect[Any], sa.Select[int]] | None:
        """Return the statements for the ids of a page and for the total; None where no run can match."""
        branches = self._finder.branches(where)
        if not branches:
            return None
        return self._finder.page(branches, limit, offset, goes_on=goes_on), self._finder.count(branches)

    def get_run(self, run_id: str, *, payloads: bool = True) -> Run | None:
        """See ``base.Questions``."""
        if not _can_be_stored((run_id,)):
            return None
        found = self._ask(lambda connection: self._runs(connection, (run_id,), payloads=payloads))
        return found[0] if found else None

    def _runs(self, connection: sa.Connection, ids: Sequence[str], *, payloads: bool) -> tuple[Run, ...]:
        if not ids:
            return ()
        if all(isinstance(run_id, str) for run_id in ids):
            chosen = _RUNS_AND_PAYLOADS if payloads else _RUNS
            found = {row[0]: row for row in connection.execute(chosen, {"run_ids": ids}).all()}
        else:
            some = (_RUN_AND_PAYLOADS if payloads else _RUN).where(_is_one_of(ids))
            found = {row[0]: row for row in connection.execute(some)}
        return tuple(rows.run_of(found[run_id]) for run_id in ids if run_id in found)

    # --- what belongs to a run ----------------------------------------------------------------------------------------

    def get_steps(self, run_id: str, *, outputs: bool = True, sequence: int | None = None) -> tuple[Step, ...]:
        """See ``base.Questions``."""
        if not _can_be_stored((run_id,)):
            return ()
        chosen = _STEPS if outputs else _STEPS_WITHOUT_OUTPUTS
        if sequence is not None:
            chosen = chosen.where(steps.c.sequence == sequence)
        return rows.steps_of(self._ask(lambda connection: connection.execute(chosen, {"run_id": run_id}).all()))

    def undone_of_chain(self, chain_run_id: str) -> dict[StepKey, str]:
        """See ``base.Questions``."""
        if not _can_be_stored((chain_run_id,)):
            return {}
        chosen = _UNDONE.where(runs.c.chain_run_id == chain_run_id)
        found = self._ask(lambda connection: connection.execute(chosen).all())
        return {StepKey(*step): run_id for *step, run_id in found}

    def get_audit(self, run_id: str) -> tuple[Audit, ...]:
        """See ``base.Questions``; at most ``AUDIT_MAX``."""
        if not _can_be_stored((run_id,)):
            return ()
        made = _AUDIT.where(audit.c.run_id == run_id)
        # A run is not its own target, but a row that says so is to be shown once.
        targeted = _AUDIT.where(audit.c.target_run_id == run_id, audit.c.run_id != run_id)
        chosen = sa.union_all(made, targeted).order_by(sa.asc("id")).limit(AUDIT_MAX)
        found = self._ask(lambda connection: connection.execute(chosen).all())
        return tuple(rows.audit_of(row) for row in found)

    def find_action(self, scope: str, key: str) -> IdempotentAction | None:
        """See ``base.Questions``."""
        if not _can_be_stored((scope, key)):
            return None
        chosen = sa.select(actions.c.run_id, actions.c.request_hash).where(
            actions.c.scope == scope, actions.c.key == key
        )
        found = self._ask(lambda connection: connection.execute(chosen).one_or_none())
        return None if found is None else IdempotentAction(*found)

    # --- what is watched ----------------------------------------------------------------------------------------------

    def run_marks(self, run_ids: Collection[str]) -> dict[str, RunMark]:
        """See ``base.Questions``."""
        ids = [run_id for run_id in run_ids if _can_be_stored((run_id,))]
        return self._ask(lambda connection: read_marks(connection, ids)) if ids else {}

    def newest_run_id(self) -> str | None:
        """See ``base.Questions``."""
        return self._ask(lambda connection: connection.execute(NEWEST_RUN).scalar_one_or_none())

    # --- figures ------------------------------------------------------------------------------------------------------

    def count_runs(self, where: RunFilter, cap: int) -> tuple[int, bool]:
        """See ``base.Questions``."""
        return self.count_each((where,), cap)[0]

    def count_each(self, wheres: Sequence[RunFilter], cap: int) -> tuple[tuple[int, bool], ...]:
        """See ``base.Questions``."""
        possible = [where if _can_be_stored(_texts(where)) else None for where in wheres]
        return self._ask(lambda connection: self._figures.count_each(connection, possible, cap))

    def recorded_workflows(self, limit: int) -> tuple[str, ...]:
        """See ``base.Questions``."""
        return self._ask(lambda connection: self._figures.recorded_workflows(connection, limit))

    def histogram(self, where: RunFilter, since: datetime, until: datetime, bars: int) -> Histogram:
        """See ``base.Questions``."""
        if not _can_be_stored(_texts(where)):
            return no_histogram(since, until, bars)
        return self._ask(lambda connection: self._figures.histogram(connection, where, since, until, bars))

    def totals(self, since: datetime, until: datetime, workflow_names: tuple[str, ...]) -> Totals:
        """See ``base.Questions``."""
        names = _storable(workflow_names)
        if workflow_names and not names:
            return Totals(0, 0, 0, 0, None, None)
        return self._ask(lambda connection: self._figures.totals(connection, since, until, names))

    def workflow_figures(
        self, since: datetime, until: datetime, spark_bars: int, workflow_names: tuple[str, ...]
    ) -> tuple[WorkflowFigures, ...]:
        """See ``base.Questions``."""
        names = _storable(workflow_names)
        if workflow_names and not names:
            return ()
        return self._ask(lambda connection: self._figures.workflow_figures(connection, since, until, spark_bars, names))

    # --- processes ----------------------------------------------------------------------------------------------------

    # --- asking -------------------------------------------------------------------------------------------------------

    def _ask(self, question: Callable[[sa.Connection], T]) -> T:
        try:
            return self._ask_once(question)
        except sa.exc.DBAPIError as error:
            # A connection that died in the pool says nothing about the database: ask once more, on a new one. But whoever has waited in
            # vain for an answer is not made to wait again.
            if not error.connection_invalidated or _was_waited_for(error):
                raise self._unavailable(error) from error
        except sa.exc.SQLAlchemyError as error:
            raise unavailable(Fault.DATABASE) from error
        try:
            return self._ask_once(question)
        except sa.exc.SQLAlchemyError as error:
            raise self._unavailable(error) from error

    def _ask_once(self, question: Callable[[sa.Connection], T]) -> T:
        try:
            with self.engine.connect() as connection:
                return question(connection)
        except sa.exc.DBAPIError as error:
            if not self._kind.is_undecodable(error.orig):
                raise
        # Bytes that are no text, put there from outside, and the driver gives none of the row. Ask for them as they are.
        engine = sa.create_engine(
            f"{self._kind.dialect}://", creator=self._kind.connect_to_read_damaged, poolclass=sa.NullPool
        )
        with engine.connect() as connection:
            return question(connection)

    def _unavailable(self, error: sa.exc.SQLAlchemyError) -> StoreUnavailable:
        fault = self._kind.fault(error.orig) if isinstance(error, sa.exc.DBAPIError) else Fault.DATABASE
        return unavailable(fault)


def _was_waited_for(error: sa.exc.DBAPIError) -> bool:
    return error.orig is not None and isinstance(error.orig.__cause__, TimeoutError)


def _is_one_of(ids: Sequence[str | bytes]) -> sa.ColumnElement[bool]:
    """Return the test for the runs of some ids; such as are no text were put into SQLite from outside, as bytes or as text of them."""
    texts = [run_id for run_id in ids if isinstance(run_id, str)]
    raw = [sa.literal(run_id, sa.LargeBinary()) for run_id in ids if isinstance(run_id, bytes)]
    tests = [sa.or_(runs.c.id == value, runs.c.id == sa.cast(value, sa.Text())) for value in raw]
    return sa.or_(runs.c.id.in_(texts), *tests)


def _can_be_stored(texts: Iterable[str]) -> bool:
    """Return whether a database could hold the texts; what it cannot hold it does not contain, and asking would be an error."""
    return all("\x00" not in text and _is_unicode(text) for text in texts)


def _storable(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text for text in texts if _can_be_stored((text,)))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(where: RunFilter) -> Iterable[str]:
    yield from where.workflow_names
    yield from where.tags
    for value in (
        where.correlation_id,
        where.trigger,
        where.triggered_by_user_id,
        where.parent_run_id,
        where.root_run_id,
        where.fingerprint,
    ):
        if value is not None:
            yield value
