"""A store as the rest of the package has it: both faces of one database. What differs between databases is a ``Kind``.

The reading face is made at the first question, in the process that asks: a forked child gets connections of its own, and a process
that only writes never loads what reading needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Protocol

from ..model.figures import Histogram, Totals, WorkflowFigures
from ..model.marks import RunMark
from ..model.records import Audit, IdempotentAction, Page, Run, RunFilter, RunList, Step, StepKey
from .base import Questions, StoreWriter
from .faults import Fault, unavailable
from .loading import load
from .schema import SCHEMA_REVISION, missing, newer


class Kind(Protocol):
    """What SQLite and PostgreSQL do differently."""

    url: str  # without password
    dialect: str  # SQLAlchemy's name of it
    engine_options: dict[str, Any]  # of SQLAlchemy
    has_statistics: bool  # its planner knows how common a value is
    readers_max: int  # connections that read at once
    begin_to_migrate: str  # the statement with which a migration begins: from it on nobody else migrates

    def connect_to_read(self) -> Any:
        """Return a connection of the driver that cannot write, in autocommit."""
        ...

    def connect_to_read_damaged(self) -> Any:
        """Return the same, giving as bytes what ought to be text and is not."""
        ...

    def connect_to_migrate(self) -> Any:
        """Return a connection of the driver; creates the database where that is a file."""
        ...

    def revision(self) -> str | None:
        """Return the newest migration that the database has seen, or None for none; asked on a connection of its own."""
        ...

    def fault(self, error: BaseException | None) -> Fault:
        """Say what an exception of the driver means."""
        ...

    def is_undecodable(self, error: BaseException | None) -> bool:
        """Return whether the exception is about bytes that are no text."""
        ...

    def open_writer(self) -> StoreWriter:
        """Return a new writer."""
        ...


class Reader(Questions, Protocol):
    """The reading face, whose readiness is found out without it."""

    def close(self) -> None:
        """Close all connections."""
        ...


class Database:
    """See ``base.Store``."""

    def __init__(self, kind: Kind) -> None:
        self.url = kind.url
        self._kind = kind
        # By process: a forked child makes its own. Those of its parent stay here unused, since collecting one would close sockets and
        # files that the parent works with.
        self._readers: dict[int, Reader] = {}

    def list_runs(self, where: RunFilter, page: Page, *, payloads: bool, total: bool = True) -> RunList:
        """See ``base.StoreReader``."""
        return self._reading().list_runs(where, page, payloads=payloads, total=total)

    def get_run(self, run_id: str, *, payloads: bool = True) -> Run | None:
        """See ``base.StoreReader``."""
        return self._reading().get_run(run_id, payloads=payloads)

    def get_steps(self, run_id: str, *, outputs: bool = True, sequence: int | None = None) -> tuple[Step, ...]:
        """See ``base.StoreReader``."""
        return self._reading().get_steps(run_id, outputs=outputs, sequence=sequence)

    def undone_of_chain(self, chain_run_id: str) -> dict[StepKey, str]:
        """See ``base.StoreReader``."""
        return self._reading().undone_of_chain(chain_run_id)

    def get_audit(self, run_id: str) -> tuple[Audit, ...]:
        """See ``base.StoreReader``."""
        return self._reading().get_audit(run_id)

    def find_action(self, scope: str, key: str) -> IdempotentAction | None:
        """See ``base.StoreReader``."""
        return self._reading().find_action(scope, key)

    def count_runs(self, where: RunFilter, cap: int) -> tuple[int, bool]:
        """See ``base.StoreReader``."""
        return self._reading().count_runs(where, cap)

    def count_each(self, wheres: Sequence[RunFilter], cap: int) -> tuple[tuple[int, bool], ...]:
        """See ``base.StoreReader``."""
        return self._reading().count_each(wheres, cap)

    def recorded_workflows(self, limit: int) -> tuple[str, ...]:
        """See ``base.StoreReader``."""
        return self._reading().recorded_workflows(limit)

    def histogram(self, where: RunFilter, since: datetime, until: datetime, bars: int) -> Histogram:
        """See ``base.StoreReader``."""
        return self._reading().histogram(where, since, until, bars)

    def totals(self, since: datetime, until: datetime, workflow_names: tuple[str, ...]) -> Totals:
        """See ``base.StoreReader``."""
        return self._reading().totals(since, until, workflow_names)

    def workflow_figures(
        self, since: datetime, until: datetime, spark_bars: int, workflow_names: tuple[str, ...]
    ) -> tuple[WorkflowFigures, ...]:
        """See ``base.StoreReader``."""
        return self._reading().workflow_figures(since, until, spark_bars, workflow_names)

    def run_marks(self, run_ids: Collection[str]) -> dict[str, RunMark]:
        """See ``base.StoreReader``."""
        return self._reading().run_marks(run_ids)

    def newest_run_id(self) -> str | None:
        """See ``base.StoreReader``."""
        return self._reading().newest_run_id()

    def check_ready(self) -> None:
        """See ``base.StoreReader``."""
        found = self._revision()
        if found != SCHEMA_REVISION:
            raise newer() if found is not None and found > SCHEMA_REVISION else missing()

    def migrate(self) -> None:
        """See ``base.Store``."""
        if self._revision() != SCHEMA_REVISION:
            upgrade: Callable[[Kind], None] = load("migrating").upgrade
            upgrade(self._kind)

    def open_writer(self) -> StoreWriter:
        """See ``base.Store``."""
        return self._kind.open_writer()

    def close(self) -> None:
        """See ``base.Store``."""
        reader = self._readers.pop(os.getpid(), None)
        if reader is not None:
            reader.close()

    def _revision(self) -> str | None:
        try:
            return self._kind.revision()
        except Exception as error:
            fault = self._kind.fault(error)
            if fault is Fault.SCHEMA:
                return None
            raise unavailable(fault) from error

    def _reading(self) -> Reader:
        process = os.getpid()
        reader = self._readers.get(process)
        if reader is None:
            make: Callable[[Kind], Reader] = load("reading").DatabaseReader
            made = make(self._kind)
            # No lock: a fork while another thread held it would leave the child waiting for ever.
            reader = self._readers.setdefault(process, made)
            if reader is not made:
                made.close()
        return reader
