"""PostgreSQL, through psycopg 3.

* **A batch of one bulk is one statement** (``postgresql_bulk``), in autocommit: no BEGIN, no COMMIT, one round trip.
* **Leases** are judged by the server's clock. A claim is checked with FOR SHARE, so whoever wants to fence it waits for the batch; a
  process that is frozen inside a batch loses its session, and with it the locks, after ``IDLE_IN_TRANSACTION_S``.
* **READ COMMITTED** is enough: what is decided is decided under a row lock or in the WHERE of the statement that writes.
* **Every wait ends.** The server stops statements after a while, and where it does not answer at all (a proxy that swallows packets)
  the client gives up a little later.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ..clock import Clock, LeaseTime
from ..errors import ClaimLost, ConfigurationError, EntryRejected
from ..model.entries import Claim, EndOutcome, Entry, RunChanged, RunEnded, RunStarted, StartRun
from . import statements as sql
from .applying import EntryApplier, Session, claim_lost
from .base import StoreWriter
from .database import Database
from .entry_rows import Row
from .faults import Fault
from .postgresql_bulk import SAVE_BULK, SAVE_BULK_AND_COUNT, SAVE_STEPS, SHARD, Document
from .schema import FIND_REVISION, UNCLAIMED
from .writing import Bulk, WriterBase, divide, refuse_steps

# Work is to go on within 5 s after the database is back. Whoever was waiting for an answer that was lost waits on until then, so a
# statement, and a connection with the longest pause of the journal, have to be given up earlier.
CONNECT_S = 2
STATEMENT_S = 3.0  # of readers and of the writer: a batch takes milliseconds, and waits for locks of other batches
ANSWER_S = 3.5  # without a word from the server, a statement is given up
IDLE_IN_TRANSACTION_S = 5.0

_DIALECT = sql.Dialect(
    parameter="%s",
    for_update=" FOR UPDATE",
    for_share=" FOR SHARE",
    for_update_or_skip=" FOR UPDATE SKIP LOCKED",
    shard=SHARD,
)

# A server that is told to acknowledge before the disk has it would make every acknowledgement of ours a lie.
_SYNCHRONOUS = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)

_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"

# The oldest runs of each definition that nobody owns and nobody is taking at this moment.
_UNCLAIMED = (
    "SELECT r.id, r.definition FROM unnest(%s::text[]) AS d (definition) CROSS JOIN LATERAL ("  # noqa: S608  # our constants
    f"SELECT id, definition FROM workflow_runs WHERE definition = d.definition AND {UNCLAIMED} "
    f"AND state NOT IN ({sql.NOT_TO_BE_STARTED}) ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED) AS r"
)


def open_database(url: str, clock: Clock) -> Database:
    """Return the store of ``postgresql+psycopg://...``.

    Raises:
        ConfigurationError: libpq does not understand the URL.
    """
    try:
        parameters = conninfo_to_dict("postgresql" + url[url.index("://") :])
    except psycopg.Error:
        # Neither the URL nor libpq's words about it are repeated, nor chained: they may hold a password.
        raise ConfigurationError(
            "the database URL is not one that PostgreSQL's client understands: postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE, "
            "with special characters written as %XX"
        ) from None
    return Database(PostgresKind(parameters, clock))


class PostgresKind:
    """See ``database.Kind``."""

    dialect = "postgresql+psycopg"
    has_statistics = True
    readers_max = 10
    # One number for all users of the package in a database; the eight letters of "workflow".
    begin_to_migrate = "SELECT pg_advisory_xact_lock(8606223218533756791)"

    def __init__(self, parameters: dict[str, Any], clock: Clock) -> None:
        self.engine_options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "use_native_hstore": False}
        self._clock = clock
        self._parameters = {
            "connect_timeout": CONNECT_S,
            "application_name": "workflow-runs",
            # For what has no bound of its own, a migration: a peer that is gone is noticed after 16 s instead of two hours.
            "keepalives_idle": 10,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 16_000,
            **parameters,
            "client_encoding": "utf8",
        }
        host = parameters.get("host", "")
        self.url = f"postgresql+psycopg://{host}/{parameters.get('dbname', '')}"

    def connect(self, **settings: object) -> Connection:
        """Connect with settings of the session."""
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        given = self._parameters.get("options", "")
        connection = Connection.connect(
            **{**self._parameters, "options": f"{given} {options}".strip()}, autocommit=True
        )
        connection.bound(self._clock)
        return connection

    def connect_to_read(self) -> Connection:
        return self.connect(default_transaction_read_only="on", statement_timeout=round(STATEMENT_S * 1000))

    def connect_to_read_damaged(self) -> Connection:
        return self.connect_to_read()

    def connect_to_migrate(self) -> psycopg.Connection[Any]:
        # No bound on statements: an index on a large table takes its time.
        return psycopg.Connection.connect(**self._parameters)

    def connect_to_write(self) -> Connection:
        connection = self.connect(
            statement_timeout=round(STATEMENT_S * 1000),
            idle_in_transaction_session_timeout=round(IDLE_IN_TRANSACTION_S * 1000),
        )
        connection.execute(_SYNCHRONOUS)
        return connection

    def revision(self) -> str | None:
        with self.connect_to_read() as connection:
            found = connection.execute(FIND_REVISION).fetchone()
        return None if found is None else str(found[0])

    def fault(self, error: BaseException | None) -> Fault:
        return fault(error)

    def is_undecodable(self, error: BaseException | None) -> bool:  # noqa: ARG002  # the server lets no such bytes in
        return False

    def open_writer(self) -> StoreWriter:
        return PostgresWriter(self)


class Connection(psycopg.Connection[Row]):
    """A connection whose waits end."""

    _clock: Clock | None = None

    def bound(self, clock: Clock) -> None:
        """Give up statements that get no answer within ``ANSWER_S``."""
        self._clock = clock

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **named: Any) -> Any:
        """Wait for an answer; psycopg sends every statement through here."""
        if self._clock is None:
            return super().wait(gen, *arguments, **named)
        try:
            return super().wait(_until(self._clock.monotonic() + ANSWER_S, self._clock, gen), *arguments, **named)
        except TimeoutError as error:
            self.close()  # the answer may still come, and would be taken for that of another statement
            raise psycopg.OperationalError("no answer in time") from error


def _until(deadline: float, clock: Clock, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Pass on what goes between psycopg and its waiting loop, which wakes every 0.1 s, and stop at the deadline."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and clock.monotonic() > deadline:
                raise TimeoutError
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value


def fault(error: BaseException | None) -> Fault:
    """Say what an exception of the driver, or of making a row for it, means."""
    if not isinstance(error, psycopg.Error):
        return Fault.DATABASE if isinstance(error, OSError | MemoryError) else Fault.ENTRY
    state = error.sqlstate or ""
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return Fault.SCHEMA
    # 22 data, 23 constraints, 54 a value too long for an index. Without a state: the driver cannot send the value.
    if state[:2] in {"22", "23", "54"}:
        return Fault.ENTRY
    if not state and isinstance(error, psycopg.DataError | psycopg.ProgrammingError | psycopg.NotSupportedError):
        return Fault.ENTRY
    return Fault.DATABASE


class _PostgresSession:
    """See ``applying.Session``."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def run(self, statement: str, parameters: Sequence[Any]) -> int:
        return self.connection.execute(_DIALECT.say(statement), parameters).rowcount

    def run_all(self, statement: str, rows: Sequence[Row]) -> None:
        if rows:
            with self.connection.cursor() as cursor:
                cursor.executemany(_DIALECT.say(statement), rows)

    def row(self, statement: str, parameters: Sequence[Any]) -> Row | None:
        return self.connection.execute(_DIALECT.say(statement), parameters).fetchone()

    def rows(self, statement: str, parameters: Sequence[Any]) -> list[Row]:
        return self.connection.execute(_DIALECT.say(statement), parameters).fetchall()

    def lease_time(self) -> LeaseTime:
        (now,) = self.connection.execute(_NOW).fetchone() or (0,)
        return LeaseTime("", now / 1000)

    def unclaimed(self, definitions: Sequence[str], limit: int) -> list[Row]:
        return self.connection.execute(_UNCLAIMED, (list(definitions), limit)).fetchall()


class PostgresWriter(WriterBase):
    """The connection that writes."""

    def __init__(self, kind: PostgresKind) -> None:
        super().__init__()
        self._kind = kind
        self._open: _PostgresSession | None = None

    def _session(self) -> Session:
        return self._connected()

    def _connected(self) -> _PostgresSession:
        if self._open is None:
            self._open = _PostgresSession(self._kind.connect_to_write())
        return self._open

    def _disconnect(self) -> None:
        session, self._open = self._open, None
        if session is not None:
            session.connection.close()

    def _transaction(self) -> AbstractContextManager[object]:
        return self._connected().connection.transaction()

    def _savepoint(self) -> AbstractContextManager[object]:
        return self._connected().connection.transaction()

    def _fault(self, error: Exception) -> Fault:
        return fault(error)

    def _attempt(self, entries: Sequence[Entry]) -> list[object]:
        outcomes: list[object] = [None] * len(entries)
        parts = list(divide(entries))
        if len(parts) == 1 and isinstance(parts[0], Bulk):
            self._write(parts[0], entries, self._applier(), outcomes, alone=True)
            return outcomes
        with self._transaction():
            applier = self._applier()
            for part in parts:
                if isinstance(part, int):
                    outcomes[part] = self._by_itself(applier, entries[part])
                else:
                    self._write(part, entries, applier, outcomes, alone=False)
            applier.count_ended()
        return outcomes

    def _write(
        self, bulk: Bulk, entries: Sequence[Entry], applier: EntryApplier, outcomes: list[object], *, alone: bool
    ) -> None:
        document = Document()
        document.add_steps(bulk)
        if bulk.starts or bulk.changes or bulk.ends:
            document.add_runs(bulk, entries)
            # Alone it is the whole transaction, and counts what it ends; else that is done when nothing else is left to do.
            statement = SAVE_BULK_AND_COUNT if alone else SAVE_BULK
            answers = self._connected().connection.execute(statement, document.all(), prepare=True).fetchall()
        else:
            answers = self._connected().connection.execute(SAVE_STEPS, document.of_steps(), prepare=True).fetchall()
        told: dict[str, dict[str, str]] = {"claim": {}, "changed": {}, "ended": {}}
        for kind, which, workflow_name in answers:
            told[kind][which] = workflow_name
        lost = {claim for claim, number in document.claims.items() if str(number) not in told["claim"]}
        if lost:
            refuse_steps(entries, bulk, lost, outcomes)
        for place in (*bulk.starts, *bulk.changes, *bulk.ends):
            outcomes[place] = _outcome(entries[place], applier, lost, told)
        if not alone:
            for place in bulk.ends:
                entry = entries[place]
                assert isinstance(entry, RunEnded)
                if entry.run_id in told["ended"]:
                    applier.note_ended(entry, told["ended"][entry.run_id])


def _outcome(entry: Entry, applier: EntryApplier, lost: set[Claim], told: dict[str, dict[str, str]]) -> object:
    """Return the outcome of an entry about a run from what the statement told."""
    assert isinstance(entry, StartRun | RunChanged | RunEnded), "a bulk holds no others"
    if entry.claim in lost:
        return claim_lost(entry.claim)
    if isinstance(entry, StartRun):
        return RunStarted(entry.run_id, created=True)
    try:
        if isinstance(entry, RunChanged):
            return entry.run_id in told["changed"] or applier.why_not_changed(entry)
        if entry.run_id in told["ended"]:
            return EndOutcome(changed=True, state=entry.state)
        return applier.why_not_ended(entry)
    except (ClaimLost, EntryRejected) as refusal:
        return refusal
