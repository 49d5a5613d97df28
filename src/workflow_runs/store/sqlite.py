"""SQLite: one file on one machine, write-ahead log, one writer at a time.

* ``synchronous=FULL``: what was acknowledged survives a power cut. With NORMAL up to all of 6,224 acknowledged promises were gone
  after one, with FULL none of 4,997; ten steps per commit win most of the price back (spec: reliability).
* ``BEGIN IMMEDIATE``: the write lock is taken before anything is read, so what a batch reads is true until it commits.
* Readers open the file read-only. They neither wait for the writer nor make it wait, and only writers move the log into the file
  (libraries before 3.51.3 may damage a file when one connection does that while another writes).
* SQLite has no clock: leases are judged by ``Clock.lease_time``, whose readings mean something within one boot of this machine only.
* There are no row locks and no SKIP LOCKED: none is needed where one transaction at a time can write.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

from ..clock import Clock, LeaseTime
from ..errors import ConfigurationError
from ..model.entries import Claim, Entry
from . import statements as sql
from .applying import EntryApplier, Session
from .base import StoreWriter
from .database import Database
from .entry_rows import Row, step_row
from .faults import Fault
from .schema import FIND_REVISION, UNCLAIMED
from .writing import Bulk, WriterBase, divide, refuse_steps

WRITER_WAIT_S = 30.0  # for another process's transaction
READER_WAIT_S = 5.0  # readers wait only while a log is recovered after a crash
STATEMENT_S = 5.0  # of readers: a search that reads run after run would go on through any number of them
_STEPS_BETWEEN_LOOKS = 10_000  # of SQLite's machine: half a millisecond, or as many inputs as it parses in them
_LOG_PAUSE_S = 0.05

_DIALECT = sql.Dialect(parameter="?", for_update="", for_share="", for_update_or_skip="", shard="0")

# The oldest runs of a definition that nobody owns.
_UNCLAIMED = (
    f"SELECT id, definition FROM workflow_runs WHERE definition = ? AND {UNCLAIMED} "  # noqa: S608  # our constants
    f"AND state NOT IN ({sql.NOT_TO_BE_STARTED}) ORDER BY id LIMIT ?"
)


def open_database(url: str, clock: Clock) -> Database:
    """Return the store of ``sqlite:///FILE``.

    Raises:
        ConfigurationError: the URL names no file, or has options.
    """
    _, _, path = url.partition("://")
    if not path.startswith("/") and path:
        raise ConfigurationError(
            "a SQLite URL has three slashes before the file: sqlite:///runs.db, or four: sqlite:////var/lib/runs.db"
        )
    path = path[1:]
    if path in {"", ":memory:"} or path.startswith("file:"):
        raise ConfigurationError(
            "SQLite in memory cannot hold runs: readers and the writer have a connection each, and would each see a database of "
            "their own. Give a file: sqlite:///runs.db"
        )
    if "?" in path:
        raise ConfigurationError("a SQLite URL takes no options: sqlite:///runs.db")
    return Database(SqliteKind(os.path.abspath(path), clock))


class SqliteKind:
    """See ``database.Kind``."""

    dialect = "sqlite"
    has_statistics = False
    readers_max = 10
    # Not IMMEDIATE: also readers of an older schema are to be gone.
    begin_to_migrate = "BEGIN EXCLUSIVE"

    def __init__(self, path: str, clock: Clock) -> None:
        self.url = f"sqlite:///{path}"
        self.engine_options: dict[str, Any] = {}
        self._path = path
        self._clock = clock

    def connect_to_read(self) -> sqlite3.Connection:
        connection = connect(self._path, mode="ro", wait_s=READER_WAIT_S, factory=BoundedConnection)
        assert isinstance(connection, BoundedConnection)
        connection.bound(self._clock)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def connect_to_read_damaged(self) -> sqlite3.Connection:
        connection = self.connect_to_read()
        connection.text_factory = _text_or_bytes
        return connection

    def connect_to_migrate(self) -> sqlite3.Connection:
        return connect_to_write(self._path, self._clock, mode="rwc")

    def revision(self) -> str | None:
        if not os.path.exists(self._path):
            return None
        connection = self.connect_to_read()
        try:
            found = connection.execute(FIND_REVISION).fetchone()
        finally:
            connection.close()
        return None if found is None else str(found[0])

    def fault(self, error: BaseException | None) -> Fault:
        return fault(error)

    def is_undecodable(self, error: BaseException | None) -> bool:
        return isinstance(error, sqlite3.OperationalError) and str(error).startswith("Could not decode to UTF-8")

    def open_writer(self) -> StoreWriter:
        return SqliteWriter(self._path, self._clock)


class _Deadline:
    """Until when a statement may go on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0

    def begin(self) -> None:
        self._until = self._clock.monotonic() + STATEMENT_S

    def is_over(self) -> bool:
        return self._clock.monotonic() >= self._until


class BoundedCursor(sqlite3.Cursor):
    """A cursor whose statements end."""

    def execute(self, statement: str, parameters: Any = (), /) -> BoundedCursor:
        assert isinstance(self.connection, BoundedConnection)
        self.connection.deadline.begin()
        super().execute(statement, parameters)
        return self


class BoundedConnection(sqlite3.Connection):
    """A connection whose statements end. SQLite has no time limit; it asks now and then whether to go on."""

    deadline: _Deadline

    def bound(self, clock: Clock) -> None:
        """Give up statements after ``STATEMENT_S``."""
        self.deadline = _Deadline(clock)
        # Not a method of our own: the connection would hold itself, and stay open until the collector comes round.
        self.set_progress_handler(self.deadline.is_over, _STEPS_BETWEEN_LOOKS)

    def cursor(self, factory: Any = BoundedCursor) -> Any:
        return super().cursor(factory)


def connect(
    path: str, *, mode: str, wait_s: float, factory: type[sqlite3.Connection] = sqlite3.Connection
) -> sqlite3.Connection:
    """Open the file. Transactions begin where this package says BEGIN; one thread at a time uses the connection, any of them."""
    return sqlite3.connect(
        f"file:{quote(path)}?mode={mode}",
        uri=True,
        factory=factory,
        timeout=wait_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )


def connect_to_write(path: str, clock: Clock, *, mode: str) -> sqlite3.Connection:
    """Open the file so that what is committed is on the disk.

    The switch to the write-ahead log stays with the file. It needs the file for itself and does not wait for others as a transaction
    does, so processes that start together may refuse each other for a moment.
    """
    connection = connect(path, mode=mode, wait_s=WRITER_WAIT_S)
    deadline = clock.monotonic() + WRITER_WAIT_S
    pause = threading.Event()
    try:
        while not _has_log(connection):
            if clock.monotonic() > deadline:
                break  # it works without, only slower: readers then wait for the writer
            pause.wait(_LOG_PAUSE_S)
        connection.execute("PRAGMA synchronous = FULL")
        # Bytes that are no text, put there from outside, would fail the whole batch that meets them; so they match nothing of ours.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    except BaseException:
        connection.close()
        raise
    return connection


def _has_log(connection: sqlite3.Connection) -> bool:
    try:
        return bool(connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise
        return False


def fault(error: BaseException | None) -> Fault:
    """Say what an exception of the driver, or of making a row for it, means."""
    if isinstance(error, sqlite3.ProgrammingError):
        # Raised for a value that cannot be bound, and for a connection that was closed meanwhile.
        return Fault.DATABASE if "closed database" in str(error) else Fault.ENTRY
    if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.InterfaceError):
        return Fault.ENTRY
    if isinstance(error, sqlite3.OperationalError) and str(error).startswith("no such "):
        return Fault.SCHEMA
    if isinstance(error, sqlite3.Error | OSError | MemoryError):
        return Fault.DATABASE
    return Fault.ENTRY


def _text_or_bytes(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


class _SqliteSession:
    """See ``applying.Session``."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock

    def run(self, statement: str, parameters: Sequence[Any]) -> int:
        return self.connection.execute(_DIALECT.say(statement), parameters).rowcount

    def run_all(self, statement: str, rows: Sequence[Row]) -> None:
        if rows:
            self.connection.executemany(_DIALECT.say(statement), rows)

    def row(self, statement: str, parameters: Sequence[Any]) -> Row | None:
        # All rows are fetched: a statement that has not come to its end would keep the transaction open.
        rows = self.rows(statement, parameters)
        return rows[0] if rows else None

    def rows(self, statement: str, parameters: Sequence[Any]) -> list[Row]:
        return self.connection.execute(_DIALECT.say(statement), parameters).fetchall()

    def lease_time(self) -> LeaseTime:
        return self._clock.lease_time()

    def unclaimed(self, definitions: Sequence[str], limit: int) -> list[Row]:
        return [row for name in definitions for row in self.connection.execute(_UNCLAIMED, (name, limit))]


class SqliteWriter(WriterBase):
    """The connection that writes."""

    def __init__(self, path: str, clock: Clock) -> None:
        super().__init__()
        self._path = path
        self._clock = clock
        self._open: _SqliteSession | None = None

    def _session(self) -> Session:
        return self._connected()

    def _connected(self) -> _SqliteSession:
        if self._open is None:
            self._open = _SqliteSession(connect_to_write(self._path, self._clock, mode="rw"), self._clock)
        return self._open

    def _disconnect(self) -> None:
        session, self._open = self._open, None
        if session is not None:
            session.connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        connection = self._connected().connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            # A full disk or a failed read has rolled it back already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        connection = self._connected().connection
        connection.execute("SAVEPOINT entry")
        try:
            yield
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK TO entry")
                connection.execute("RELEASE entry")
            raise
        connection.execute("RELEASE entry")

    def _attempt(self, entries: Sequence[Entry]) -> list[object]:
        outcomes: list[object] = [None] * len(entries)
        with self._transaction():
            applier = self._applier()
            for part in divide(entries):
                if isinstance(part, int):
                    outcomes[part] = self._by_itself(applier, entries[part])
                else:
                    self._write(part, entries, applier, outcomes)
            applier.count_ended()
        return outcomes

    def _write(self, bulk: Bulk, entries: Sequence[Entry], applier: EntryApplier, outcomes: list[object]) -> None:
        # What a statement costs here is its work, not its way: only steps, the many, are worth one call for all.
        for places in (bulk.starts, bulk.changes, bulk.ends):
            for place in places:
                outcomes[place] = self._by_itself(applier, entries[place])
        lost: set[Claim] = set()
        rows = []
        for step in bulk.steps:
            if step.claim is None or applier.holds(step.claim):
                rows.append(step_row(step))
            else:
                lost.add(step.claim)
        if rows:
            self._connected().connection.executemany(sql.SAVE_STEP, rows)
        if lost:
            refuse_steps(entries, bulk, lost, outcomes)

    def _fault(self, error: Exception) -> Fault:
        return fault(error)
