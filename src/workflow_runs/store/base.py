"""The store's contract, in words and as protocols. Two implementations exist: SQLite and PostgreSQL.

A store has two faces. The *writer* applies journal entries and belongs to the journal alone. The *reader* answers questions, from any
thread, and never blocks or is blocked by the writer (SQLite: WAL and read-only connections).

What every store guarantees, and the store suite (``tests/store``) checks on each:

* ``apply`` is one transaction: after it returns, every entry without an exception in its place is durable; when it raises, none is.
* Entries are applied in the order given; one that is refused leaves no trace and does not disturb the others.
* Applying an entry again changes nothing and gives the same outcome (a commit whose answer got lost is simply repeated). Two kinds of
  entry ask for something new each time: ``RegisterExecutor`` raises the epoch once more, which harms nobody, and ``ClaimRuns`` goes on
  claiming, after giving once more what it took in a commit whose answer got lost.
* A claim is checked inside the transaction: once another process has raised the owner's epoch, nothing under the old one is written.
* A terminal run state, a terminal step attempt and a used idempotency key never change.
* Leases: PostgreSQL judges by its own clock; SQLite by ``Clock.lease_time`` and its boot id. Wall clocks decide nothing.
* A row damaged from outside reads as a run with ``unreadable`` fields and disturbs no list (promise P16).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from ..model.entries import Entry
from ..model.figures import Histogram, Totals, WorkflowFigures
from ..model.marks import RunMark
from ..model.records import Audit, IdempotentAction, Page, Run, RunFilter, RunList, Step, StepKey

# What ``apply`` gives for one entry: the outcome named in ``model.entries``, or the exception that refuses it
# (a ``Refusal``, ``ClaimLost`` or ``EntryRejected``), returned, not raised.
Outcome = object


class StoreWriter(Protocol):
    """One connection that writes. Used by one thread at a time; not bound to one thread."""

    def apply(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Apply the entries in one transaction and return an outcome for each, in order.

        Raises:
            StoreUnavailable: nothing is known to be written; call again with the same entries (the connection is made anew).
        """
        ...

    def close(self) -> None:
        """Close the connection; idempotent."""
        ...


class Questions(Protocol):
    """What is asked of the record. Every method may raise ``StoreUnavailable``, and is safe to call from any thread."""

    def list_runs(self, where: RunFilter, page: Page, *, payloads: bool, total: bool = True) -> RunList:
        """Return one page, newest first; without ``payloads`` no payload row is read. ``total`` False skips the count (-1)."""
        ...

    def get_run(self, run_id: str, *, payloads: bool = True) -> Run | None:
        """Return the run, or None. Any text is a valid question."""
        ...

    def get_steps(self, run_id: str, *, outputs: bool = True, sequence: int | None = None) -> tuple[Step, ...]:
        """Return the run's steps by sequence, each with all its attempts; without ``outputs`` they are None.

        ``sequence``: only what stands at that place.
        """
        ...

    def undone_of_chain(self, chain_run_id: str) -> dict[StepKey, str]:
        """Return the steps that resumes of the chain carried over and compensated, or failed to; each with the last run that did.

        They are undone for every run of the chain, although the run that executed them has them on record as succeeded.
        """
        ...

    def get_audit(self, run_id: str) -> tuple[Audit, ...]:
        """Return the audit rows that name the run (made, changed or acted on), oldest first."""
        ...

    def find_action(self, scope: str, key: str) -> IdempotentAction | None:
        """Return what an idempotency key was used for, or None."""
        ...

    # Figures: what ``model.figures`` holds. They are counted by the database, from the rollup or from an index, and never further
    # than to a bound.

    def count_runs(self, where: RunFilter, cap: int) -> tuple[int, bool]:
        """Return how many runs match, at most ``cap``, and whether there are more."""
        ...

    def count_each(self, wheres: Sequence[RunFilter], cap: int) -> tuple[tuple[int, bool], ...]:
        """Return the same for several filters, in one question."""
        ...

    def recorded_workflows(self, limit: int) -> tuple[str, ...]:
        """Return the first ``limit`` names under which there are runs, by name; costs one look-up for each."""
        ...

    def histogram(self, where: RunFilter, since: datetime, until: datetime, bars: int) -> Histogram:
        """Return the matching runs that started from ``since`` to before ``until``, in ``bars`` slices as wide as each other.

        From the rollup when the filter asks for names, states and statuses alone and the slices are whole half hours of UTC; otherwise
        from the newest 10,000 runs that match.
        """
        ...

    def totals(self, since: datetime, until: datetime, workflow_names: tuple[str, ...]) -> Totals:
        """Return what became of the runs that started in the half hours from ``since`` to ``until``; of all workflows without names."""
        ...

    def workflow_figures(
        self, since: datetime, until: datetime, spark_bars: int, workflow_names: tuple[str, ...]
    ) -> tuple[WorkflowFigures, ...]:
        """Return the same of each workflow that had runs, by name, with its course in ``spark_bars`` slices.

        The slices are whole half hours, and the last one ends with the half hour that ``until`` lies in.
        """
        ...

    def run_marks(self, run_ids: Collection[str]) -> dict[str, RunMark]:
        """Return the marks of those of the runs that exist: at most a few hundred at once."""
        ...

    def newest_run_id(self) -> str | None:
        """Return the greatest run id on record, or None for none."""
        ...


class StoreReader(Questions, Protocol):
    """The reading face."""

    def check_ready(self) -> None:
        """Return when the database answers and has the schema.

        Raises:
            StoreUnavailable: it does not answer.
            SchemaMismatch: its schema is missing, older or newer.
        """
        ...


class Store(StoreReader, Protocol):
    """A database: readers, and the one writer that the journal asks for."""

    url: str  # without password: fit for a log line

    def migrate(self) -> None:
        """Create or upgrade the schema; safe when several processes do it at once, and after one was killed doing it."""
        ...

    def open_writer(self) -> StoreWriter:
        """Return a new writer; it connects at its first ``apply``."""
        ...

    def close(self) -> None:
        """Close all connections of the readers; idempotent."""
        ...
