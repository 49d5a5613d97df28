"""Every event of the database connections that write, counted; and a death at any of them.

An event is the moment before a statement, BEGIN and COMMIT included, and the moment after what may have committed: on SQLite a
COMMIT, on PostgreSQL each exchange with the server, since there a batch is one statement that commits by itself. What a process does
between two events touches no database, so a process that dies there leaves what it leaves at the event before.

Readers are not counted: they change nothing.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..errors import ConfigurationError


class Events:
    """Counts events and calls ``deed`` at the one with the number ``at`` (from 1). None: it only counts."""

    def __init__(self, at: int | None, deed: Callable[[], object]) -> None:
        self.count = 0
        self.names: list[str] = []
        self._at = at
        self._deed = deed
        self._lock = threading.Lock()

    def happen(self, name: str) -> None:
        """Count an event."""
        with self._lock:
            self.count += 1
            self.names.append(name)
            is_it = self.count == self._at
        if is_it:
            self._deed()


def watch_database(url: str, events: Events) -> None:
    """Count the events of all connections that this process opens from now on to write to databases of the kind of ``url``.

    The process stays so to its end: call it in a child (``processes.in_child``).

    Raises:
        ConfigurationError: the kind of database is not known here.
    """
    if url.startswith("sqlite"):
        _watch_sqlite(events)
    elif url.startswith("postgresql"):
        _watch_postgresql(events)
    else:
        raise ConfigurationError("the events of SQLite and PostgreSQL databases can be counted, of no others")


def _watch_sqlite(events: Events) -> None:
    class Cursor(sqlite3.Cursor):
        def execute(self, statement: str, parameters: Any = (), /) -> Cursor:
            events.happen(statement)
            super().execute(statement, parameters)
            if statement == "COMMIT":
                events.happen("after COMMIT")
            return self

        def executemany(self, statement: str, parameters: Any, /) -> Cursor:
            events.happen(statement)
            super().executemany(statement, parameters)
            return self

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        # The shortcuts of the base class make a plain cursor, past ``cursor``.
        def execute(self, statement: str, parameters: Any = (), /) -> Any:
            return self.cursor().execute(statement, parameters)

        def executemany(self, statement: str, parameters: Any, /) -> Any:
            return self.cursor().executemany(statement, parameters)

        def commit(self) -> None:
            events.happen("COMMIT")
            super().commit()
            events.happen("after COMMIT")

    connect = sqlite3.connect

    def watched_connect(*arguments: Any, factory: type[sqlite3.Connection] = sqlite3.Connection, **options: Any) -> Any:
        # Our readers have a class of their own, and cannot write.
        return connect(*arguments, factory=Connection if factory is sqlite3.Connection else factory, **options)

    sqlite3.connect = watched_connect


def _watch_postgresql(events: Events) -> None:
    psycopg: Any = import_module("psycopg")
    kind: Any = import_module("workflow_runs.store.postgresql").PostgresKind
    writing: weakref.WeakSet[Any] = weakref.WeakSet()
    wait = psycopg.Connection.wait

    def watched_wait(self: Any, *arguments: Any, **options: Any) -> Any:
        if self not in writing:
            return wait(self, *arguments, **options)
        events.happen("before an exchange")
        answer = wait(self, *arguments, **options)
        events.happen("after an exchange")
        return answer

    def watched(connect: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def watched_connect(self: Any) -> Any:
            connection = connect(self)
            writing.add(connection)
            return connection

        return watched_connect

    psycopg.Connection.wait = watched_wait
    kind.connect_to_write = watched(kind.connect_to_write)
    kind.connect_to_migrate = watched(kind.connect_to_migrate)
