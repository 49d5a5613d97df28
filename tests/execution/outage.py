"""Takes a database away from everybody else, and gives it back: SQLite by holding the write lock, PostgreSQL by its doors."""

import sqlite3

import psycopg
from psycopg import sql


class Outage:
    """A context manager; ``end`` may be called early."""

    def __init__(self, url):
        self._url = url
        self._undo = lambda: None

    def __enter__(self):
        self._undo = self._lock() if self._url.startswith("sqlite") else self._shut()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        undo, self._undo = self._undo, lambda: None
        undo()

    def _lock(self):
        connection = sqlite3.connect(self._url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        return connection.close

    def _shut(self):
        name = self._url.partition("@/")[2].partition("?")[0]
        server = psycopg.connect(self._url.replace("+psycopg", "").replace(f"@/{name}", "@/postgres"), autocommit=True)
        allow = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
        server.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

        def undo():
            with server:
                server.execute(allow.format(sql.Identifier(name), sql.SQL("true")))

        return undo
