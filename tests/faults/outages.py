"""A database that fails while the server lives, and heals: nobody restarts anything.

Each fault is a context manager: broken inside, healed after. On PostgreSQL the server reaches its database through a proxy, as a user
without special rights; on SQLite the fault is done to the file or to the process.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tests.faults.book import Book, Verdict, check_file
from tests.faults.databases import pg_ctl
from tests.faults.load import Chain, Load, has_ended
from tests.faults.servers import DEADLINE_S, Server, Starter, wait_until
from workflow_runs.testing.ledger import Ledger
from workflow_runs.testing.proxy import Cut, Mode, PostgresProxy

CHAIN = Chain(steps=6, work_ms=10)
USER = "workflow_runs_desk"
GOES_ON_S = 5.0  # after healing: the promise


@dataclass
class Healing:
    """What a fault, done so often, did."""

    verdict: Verdict = field(default_factory=Verdict)
    times: int = 0
    new_s: list[float] = field(default_factory=list)  # from healing to the end of a run that was triggered after it
    old_s: list[float] = field(default_factory=list)  # from healing to the end of the last run that was in flight
    took_s: list[float] = field(default_factory=list)  # answers to callers while it was broken
    refused: int = 0  # 503, with Retry-After

    @property
    def late(self) -> int:
        """How often work went on later than promised."""
        return sum(max(pair) > GOES_ON_S for pair in zip(self.new_s, self.old_s, strict=True))


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


class Postgres:
    """One database, reached through a proxy."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.name = parts.path.removeprefix("/")
        self.folder = parts.query.removeprefix("host=")
        self.admin = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
        self.proxy = PostgresProxy(self.folder)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Give the URL by which the server is to reach its database."""
        try:
            # One role for all databases of the server, whoever is the first to want it.
            with contextlib.suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                self.admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(USER)))
            self.alter("OWNER TO {}", sql.Identifier(USER))
            with self.proxy.running():
                yield f"postgresql+psycopg://{USER}@127.0.0.1:{self.proxy.port}/{self.name}"
        finally:
            self.admin.close()

    def alter(self, what: str, *values: sql.Composable) -> None:
        statement = sql.SQL("ALTER DATABASE {} " + what)
        self.admin.execute(statement.format(sql.Identifier(self.name), *values))

    def others(self, what: str) -> None:
        """Do something to every other session on the database."""
        self.admin.execute(
            sql.SQL("SELECT {}(pid) FROM pg_stat_activity WHERE datname = %s AND usename = %s").format(
                sql.Identifier(what)
            ),
            [self.name, USER],
        )

    # --- faults ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def _mode(self, mode: Mode) -> Iterator[None]:
        self.proxy.mode = mode
        try:
            yield
        finally:
            self.proxy.mode = Mode.PASS

    def refused(self) -> AbstractContextManager[None]:
        """The server is down."""
        return self._mode(Mode.REFUSE)

    def black_hole(self) -> AbstractContextManager[None]:
        """Packets vanish."""
        return self._mode(Mode.BLACK_HOLE)

    def delayed(self) -> AbstractContextManager[None]:
        """Every packet is two seconds late."""
        return self._mode(Mode.DELAY)

    @contextmanager
    def _repeatedly(self, act: Callable[[], object], every_s: float) -> Iterator[None]:
        stop = threading.Event()

        def loop() -> None:
            while not stop.is_set():
                act()
                stop.wait(every_s)

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def cut(self) -> AbstractContextManager[None]:
        """Connections are cut, ten times a second."""
        return self._repeatedly(self.proxy.cut, 0.1)

    @contextmanager
    def _armed(self, cut: Cut) -> Iterator[None]:
        with self._repeatedly(lambda: self.proxy.arm(cut), 0.2):
            yield
        self.proxy.disarm()

    def before_commit(self) -> AbstractContextManager[None]:
        """Commits are cut off on their way to the server, five times a second."""
        return self._armed(Cut.BEFORE_COMMIT)

    def after_commit(self) -> AbstractContextManager[None]:
        """Commits are done, and their answers cut off, five times a second."""
        return self._armed(Cut.AFTER_COMMIT)

    def in_reply(self) -> AbstractContextManager[None]:
        """Answers are cut off in the middle, five times a second."""
        return self._armed(Cut.IN_REPLY)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """The server takes no writes, as a standby does that one was failed over to."""
        self.alter("SET default_transaction_read_only = on")
        self.others("pg_terminate_backend")
        try:
            yield
        finally:
            self.alter("RESET default_transaction_read_only")
            self.others("pg_terminate_backend")

    def cancelled(self) -> AbstractContextManager[None]:
        """Statements are cancelled, as a statement timeout does."""
        return self._repeatedly(lambda: self.others("pg_cancel_backend"), 0.003)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Somebody holds the tables: nobody reads or writes them."""
        with psycopg.connect(f"host={self.folder} user=postgres dbname={self.name}") as connection:
            connection.execute("LOCK TABLE workflow_runs, workflow_run_steps IN ACCESS EXCLUSIVE MODE")
            yield
            connection.rollback()

    @contextmanager
    def deadlocks(self) -> Iterator[None]:
        """Others lock the same rows in another order, and every transaction has to be serializable."""
        self.alter("SET default_transaction_isolation = serializable")
        self.others("pg_terminate_backend")
        with (
            psycopg.connect(f"host={self.folder} user=postgres dbname={self.name}", autocommit=True) as connection,
            self._repeatedly(lambda: self._get_in_the_way(connection), 0.01),
        ):
            yield
        self.alter("RESET default_transaction_isolation")
        self.others("pg_terminate_backend")

    @staticmethod
    def _get_in_the_way(connection: psycopg.Connection[Any]) -> None:
        with contextlib.suppress(psycopg.OperationalError), connection.transaction(force_rollback=True):
            connection.execute("SELECT id FROM workflow_runs WHERE completed_at IS NULL FOR UPDATE")
            connection.execute("SELECT pg_sleep(0.05)")
            connection.execute("SELECT * FROM workflow_run_executors FOR UPDATE")

    @contextmanager
    def no_connections(self) -> Iterator[None]:
        """The database takes no more connections."""
        self.alter("CONNECTION LIMIT 0")
        self.others("pg_terminate_backend")
        try:
            yield
        finally:
            self.alter("CONNECTION LIMIT -1")

    @contextmanager
    def crashed(self) -> Iterator[None]:
        """The server is killed and recovers from its log. Only where no other test uses it."""
        data = Path(self.folder)
        pg_ctl(data, "restart", "--mode=immediate", "--log", str(data / "log"))
        yield
        self.admin = psycopg.connect(f"host={self.folder} user=postgres dbname={self.name}", autocommit=True)

    FAULTS = (
        *(refused, black_hole, cut, before_commit, after_commit, in_reply, delayed, read_only, cancelled, locked),
        *(deadlocks, no_connections),
    )


# --- SQLite ----------------------------------------------------------------------------------------------------------


class Sqlite:
    """One file, in a folder of its own."""

    def __init__(self, url: str) -> None:
        self.path = Path(url.removeprefix("sqlite:///"))
        self.server: Server | None = None
        self._url = url
        self._mounted = False

    @contextmanager
    def running(self) -> Iterator[str]:
        """Give the URL of a file on a small file system, if this process may make one; else where it was to be."""
        folder = self.path.with_suffix(".folder")
        folder.mkdir()
        self._mounted = mounted(folder)
        self.path = folder / "runs.db"
        try:
            yield f"sqlite:///{self.path}"
        finally:
            if self._mounted:
                subprocess.run(["umount", "--lazy", folder], check=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Another process is writing, and does not come to an end."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    @contextmanager
    def unwritable(self) -> Iterator[None]:
        """Every write to a file fails: the process may write none of any length."""
        assert self.server is not None
        soft, hard = resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, (soft, hard))

    @contextmanager
    def full(self) -> Iterator[None]:
        """The disk is full to the last byte."""
        filler = self.path.with_name("filler")
        with open(filler, "wb", buffering=0) as file:
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * size)
            try:
                yield
            finally:
                filler.unlink()

    @contextmanager
    def away(self) -> Iterator[None]:
        """The file and its log have other names: whoever opens the file finds none."""
        moved = [(path, path.with_name(f"away-{path.name}")) for path in self.path.parent.glob(f"{self.path.name}*")]
        for here, there in moved:
            os.rename(here, there)
        try:
            yield
        finally:
            for here, there in moved:
                os.rename(there, here)

    FAULTS = (locked, unwritable, away, full)

    @staticmethod
    def can_mount(folder: Path) -> bool:
        """Whether this process may make a file system small enough to fill."""
        tried = folder / "tried"
        tried.mkdir()
        if not mounted(tried):
            return False
        subprocess.run(["umount", "--lazy", tried], check=True)
        return True


def mounted(folder: Path) -> bool:
    """Mount a small file system in memory, if this process is allowed to."""
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0777", "faults", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


# --- the rounds ------------------------------------------------------------------------------------------------------


def outages(
    starter: Starter,
    url: str,
    folder: Path,
    fault: str,
    *,
    lengths_s: Sequence[float],
    clients: int = 4,
) -> Healing:
    """Do a fault, for each of these lengths, to one server under load."""
    database = Postgres(url) if url.startswith("postgresql") else Sqlite(url)
    with Ledger().running() as ledger, database.running() as reached:
        book = Book(ledger)
        found = Healing(book.verdict)
        server = Server(starter, reached, folder, ledger=ledger.url, name=f"server-{fault}")
        try:
            server.start().wait_healthy()
            if isinstance(database, Sqlite):
                database.server = server
            with Load(book, [server], CHAIN, prefix=fault, clients=clients, resumes=True) as load:
                for for_s in lengths_s:
                    _round(server, book, load, getattr(database, fault), found, for_s)
            book.judge(server)
            found.refused = server.answers.statuses[503]
            server.kill()
            check_file(reached, book.verdict, whole=True)
        finally:
            server.close()
    return found


def _round(
    server: Server,
    book: Book,
    load: Load,
    fault: Callable[[], AbstractContextManager[None]],
    found: Healing,
    for_s: float,
) -> None:
    load.answered.clear()
    assert load.answered.wait(DEADLINE_S), f"{server.name} accepts nothing ({server.log})"
    pause = threading.Event()
    answers_before = len(server.answers.took_s)
    with fault():
        pause.wait(for_s)
        in_flight = {promise.run_id for promise in book.unfinished()}
        found.took_s += server.answers.took_s[answers_before:]
    healed_at = time.monotonic()
    # Clients that hang in an old request come back in their own time; this one asks anew.
    key = load.key()
    made = load.trigger(lambda: server, key, Chain(steps=1, work_ms=0))
    assert made is not None
    wait_until(lambda: has_ended(server, book, made), f"the end of {made} after {fault.__name__} ({server.log})")
    found.new_s.append(time.monotonic() - healed_at)
    last = [time.monotonic() - healed_at]
    for run_id in in_flight:
        wait_until(lambda run_id=run_id: has_ended(server, book, run_id), f"the end of {run_id}: {fault.__name__}")
        last.append(time.monotonic() - healed_at)
    found.old_s.append(max(last))
    found.times += 1
